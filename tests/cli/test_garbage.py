"""`kubectl cpt gc --dry-run`: what nobody names is listed, what anybody needs is not, and nothing is deleted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.bench import Bench
from cpt_api.layout import data_prefix, result_key
from cpt_api.model import canonical_json
from cpt_api.values import Digest
from cpt_operator.kinds import DIGEST_ANNOTATION
from cpt_trainer.store import FolderStore
from kubectl_cpt import garbage
from kubectl_cpt.cluster.kubectl import Kubectl, Object
from kubectl_cpt.errors import CliError, Exit
from kubectl_cpt.main import app
from make import make_digest, make_result

TEXT, ENDED, GONE, PARTS, MADE = (make_digest(name) for name in ("text", "ended", "gone", "parts", "made"))


@dataclass(frozen=True)
class Answers(Kubectl):
    """A kubectl that knows these trials."""

    trials: Sequence[Object] = field(default=())

    def list(self, kind: str, selector: str = "") -> list[Object]:
        assert (kind, selector) == ("cpttrials.cpt.dev", "")
        return list(self.trials)


def trial(digest: Digest, *, annotated: bool = False, **spec: Any) -> dict[str, Any]:
    """That evaluates a base on one text."""
    model = {"source": {"uri": "s3://cpt/base", "digest": make_digest("base")}}
    evaluate = {"model": model, "heldOut": [{"digest": TEXT}], "sequenceLength": 64}
    body: dict[str, Any] = {"metadata": {"name": "t"}, "spec": {"type": "Evaluate", "evaluate": evaluate} | spec}
    if annotated:
        body["metadata"]["annotations"] = {DIGEST_ANNOTATION: digest}
    else:
        body["status"] = {"digest": digest}
    return body


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """Results of five trials, some with data, in two namespaces; and what runs remember."""
    store = FolderStore(tmp_path / "store")
    for digest, size in {TEXT: 10, ENDED: 20, GONE: 3000, PARTS: 40, MADE: 50}.items():
        store.put(f"{data_prefix('team', digest)}part", b"x" * size)
    store.put(result_key("other", GONE), b"{}")
    store.put("data/team/run/sweep.json", b"{}")
    store.put(result_key("team", PARTS), b"{}")
    return store


def listed(capsys: pytest.CaptureFixture[str]) -> Mapping[str, Any]:
    """The answer, by digest."""
    return {each["digest"]: each for each in json.loads(capsys.readouterr().out)["trials"]}


class TestCluster:
    """The trials of a namespace say what stays."""

    def test_what_nobody_names(self, store: FolderStore, capsys: pytest.CaptureFixture[str]) -> None:
        """Not what a trial is or reads, nor what one is about to make; nothing of other namespaces or of runs."""
        kubectl = Answers((), (trial(ENDED), trial(MADE, annotated=True)))
        before = [entry.key for entry in store.list("")]
        garbage.of_cluster(kubectl, store.address.uri, "team", "json", {})
        assert listed(capsys) == {
            GONE: {"digest": GONE, "what": "no result", "objects": 1, "bytes": 3000},
            PARTS: {"digest": PARTS, "what": "not a result", "objects": 2, "bytes": 42},
        }
        garbage.of_cluster(kubectl, store.address.uri, "team", "table", {})
        assert "3.0 kB in 2 trials that nobody in namespace team names" in capsys.readouterr().out
        assert [entry.key for entry in store.list("")] == before

    def test_the_type_of_what_has_a_result(self, store: FolderStore, capsys: pytest.CaptureFixture[str]) -> None:
        """By its result."""
        from cpt_api.trial import CPTTrialSpec

        result = make_result(CPTTrialSpec.model_validate(trial(GONE)["spec"]))
        store.put(result_key("team", GONE), canonical_json(result.to_dict()))
        garbage.of_cluster(Answers(()), store.address.uri, "team", "json", {})
        assert listed(capsys)[GONE]["what"] == "Evaluate"

    def test_a_trial_that_is_not_understood(self, store: FolderStore) -> None:
        """Nobody knows what it reads, so nothing may be called unused."""
        with pytest.raises(CliError, match="nobody knows what it reads"):
            garbage.of_cluster(Answers((), (trial(ENDED, later={}),)), store.address.uri, "team", "json", {})

    def test_an_empty_list(self, store: FolderStore, capsys: pytest.CaptureFixture[str]) -> None:
        """Is said in words."""
        garbage.of_cluster(Answers(()), store.address.uri, "empty", "table", {})
        assert "everything in the store is named by a trial" in capsys.readouterr().out

    def test_it_must_be_said_that_it_only_lists(self) -> None:
        """Whoever types `gc` alone does not believe that something was freed."""
        done = CliRunner().invoke(app, ["gc", "--store", "there"])
        assert done.exit_code == Exit.USAGE


@pytest.mark.processes
def test_runs(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a run's store nothing that its manifests ask for; all that only another run asked for."""
    assert bench.run().code == Exit.SUCCESS
    garbage.of_runs([str(bench.manifest)], str(bench.store), None, "json", {})
    assert not listed(capsys)
    other = bench.experiment(datasets=[{"name": "perl", "uri": "s3://cpt/sources/perl.jsonl"}])
    other["metadata"]["name"] = "other"
    bench.write(other)
    assert bench.run().code == Exit.SUCCESS
    garbage.of_runs([str(bench.manifest)], str(bench.store), None, "json", {})
    types = sorted(each["what"] for each in listed(capsys).values())
    assert types == ["Decide", "Preflight", "Prepare", "Report", "Train", "Train"]
