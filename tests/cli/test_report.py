"""`kubectl cpt report`: where the page lies, and how it comes here. The store is a folder, kubectl a script."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cpt_api.layout import data_prefix, result_key
from cpt_api.model import canonical_json, sha256
from cpt_api.result import Output
from cpt_api.trial import CPTTrialSpec
from cpt_api.values import Digest
from cpt_trainer.store import FolderStore
from kubectl_cpt.errors import Exit
from make import make_digest, make_result

pytestmark = pytest.mark.processes

SPEC = CPTTrialSpec.model_validate(
    {
        "type": "Report",
        "report": {
            "target": {"heldOut": [{"digest": make_digest("text")}], "threshold": "0.02"},
            "baseline": {"digest": make_digest("base")},
            "answered": [{"question": "LearningRate", "decisions": [{"digest": make_digest("decision")}]}],
        },
    }
)
FILES = {"report.html": b"<!doctype html>", "figures/ledger.svg": b"<svg/>", "tables/arms.csv": b"a,b\n"}


@dataclass(frozen=True)
class Bench:
    """A folder with a store, a kubectl that knows one experiment, and where the command is called."""

    folder: Path

    @property
    def store(self) -> FolderStore:
        return FolderStore(self.folder / "store")

    def experiment(self, **status: Any) -> None:
        """What kubectl answers."""
        body = {"metadata": {"name": "sweep", "namespace": "team"}, "spec": {}, "status": status}
        (self.folder / "kubectl").write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(body)}\nEND\n")
        (self.folder / "kubectl").chmod(0o755)

    def report(self) -> str:
        """A finished Report trial in the store; the address of its page."""
        digest = make_result(SPEC).digest
        outputs = tuple(Output(key=key, bytes=len(data), sha256=sha256(data)) for key, data in FILES.items())
        for key, data in FILES.items():
            self.store.put(data_prefix("team", digest) + key, data)
        result = make_result(SPEC, outputs=outputs)
        self.store.put(result_key("team", digest), canonical_json(result.to_dict()))
        return f"{self.folder / 'store'}/{data_prefix('team', digest)}report.html"

    def cpt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "kubectl_cpt.main", "report", "sweep", *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=os.environ | {"PATH": f"{self.folder}:{os.environ['PATH']}", "BROWSER": "true"},
        )


@pytest.fixture
def here(tmp_path: Path) -> Bench:
    """An empty one."""
    return Bench(tmp_path)


def test_where_it_lies(here: Bench) -> None:
    """The address is the data; how to fetch it is said beside it."""
    here.experiment(reportUri="s3://cpt/data/team/d/report.html")
    done = here.cpt()
    assert (done.returncode, done.stdout) == (Exit.SUCCESS, "s3://cpt/data/team/d/report.html\n")
    assert "--to FOLDER fetches it" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "page"),
    [(["--to", "there"], "there/report.html"), (["--open"], "sweep-report/report.html")],
    ids=["fetched", "shown"],
)
def test_fetched(here: Bench, arguments: list[str], page: str) -> None:
    """The page with all that belongs to it; the path is the data."""
    here.experiment(reportUri=here.report())
    done = here.cpt(*arguments)
    assert (done.returncode, done.stdout) == (Exit.SUCCESS, f"{page}\n"), done.stderr
    folder = (here.folder / page).parent
    assert {key: (folder / key).read_bytes() for key in FILES} == FILES


def test_other_bytes(here: Bench) -> None:
    """A file that is not the one that was committed is not handed out."""
    uri = here.report()
    here.experiment(reportUri=uri)
    Path(uri).write_text("something else")
    done = here.cpt("--to", "there")
    assert done.returncode == Exit.FAILED
    assert "report.html of the report is not what was written" in done.stderr


def test_not_in_the_store(here: Bench) -> None:
    """The store's own words."""
    here.experiment(reportUri=f"{here.folder}/store/{data_prefix('team', Digest('ab' * 32))}report.html")
    done = here.cpt("--to", "there")
    assert done.returncode == Exit.FAILED
    assert "the store: " in done.stderr
    assert "result.json" in done.stderr


@pytest.mark.parametrize(
    ("stages", "why"),
    [
        ([], "has no report yet: it is made when everything is decided"),
        ([{"name": "report", "state": "Running"}], "has no report yet"),
        (
            [{"name": "report", "state": "Failed", "reason": "no report: DataError: bad luck"}],
            "no report: DataError: bad luck; `kubectl cpt retry sweep` makes it anew",
        ),
    ],
    ids=["new", "at work", "failed"],
)
def test_there_is_none(here: Bench, stages: list[dict[str, str]], why: str) -> None:
    """Why, and what to do."""
    here.experiment(stages=stages)
    done = here.cpt()
    assert done.returncode == Exit.FAILED
    assert why in done.stderr
