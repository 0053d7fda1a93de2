"""`cpt-trainer` as a process: what it reads, how it ends, and what it leaves."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from corpus import NAMESPACE, Corpus, jsonl, words
from cpt_api.exits import ExitCode
from cpt_api.result import Outcome
from cpt_trainer.main import Place
from cpt_trainer.output import TAIL_BYTES
from cpt_trainer.trial import Trial, commit_result

pytestmark = pytest.mark.processes


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """A dataset at 'data' and a tokenizer at 'base'."""
    corpus = Corpus.in_folder(tmp_path)
    corpus.put("data/a.jsonl", jsonl(*map(words, range(20))))
    corpus.put_tokenizer("base")
    return corpus


def cpt_trainer(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        [sys.executable, "-m", "cpt_trainer", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def environment(trial: Trial) -> dict[str, str]:
    """As in a pod."""
    address = trial.store.address
    return {
        "CPT_TRIAL": json.dumps(trial.document.to_dict()),
        "CPT_STORE": address.uri,
        "CPT_SOURCES": address.sources or "",
        "CPT_POD_UID": "pod-1",
    }


def last_words(ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The last line of stderr."""
    document: dict[str, Any] = json.loads(ended.stderr.splitlines()[-1])
    return document


class TestWays:
    """From the environment, or from files."""

    def test_pod(self, corpus: Corpus) -> None:
        """In a pod trial and store come from the environment, and the verb from its type."""
        trial = corpus.prepare("data")
        ended = cpt_trainer("prepare", **environment(trial))
        assert ended.returncode == 0, ended.stderr
        result = trial.result()
        assert result is not None
        assert result.numbers["trainDocuments"] > 0

    def test_by_hand(self, corpus: Corpus, tmp_path: Path) -> None:
        """By hand a CPTTrial as `kubectl get` prints it, and a folder, are enough."""
        trial = corpus.prepare("data")
        metadata = {"name": "t", "namespace": NAMESPACE, "uid": "1"}
        manifest = {"kind": "CPTTrial", "metadata": metadata, "spec": trial.spec.to_dict(), "status": {}}
        file = tmp_path / "trial.yaml"
        file.write_text(yaml.safe_dump(manifest))
        address = trial.store.address
        ended = cpt_trainer("prepare", f"--trial={file}", f"--store={address.uri}", CPT_SOURCES=address.sources or "")
        assert ended.returncode == 0, ended.stderr
        assert trial.result() is not None

    def test_help(self) -> None:
        """It tells its verbs."""
        ended = cpt_trainer("--help")
        assert ended.returncode == 0
        assert "preflight, prepare, train, evaluate, decide" in ended.stdout

    @pytest.mark.parametrize(
        ("arguments", "say"),
        [
            pytest.param(["fly"], "invalid choice", id="verb"),
            pytest.param(["prepare"], "--trial, or put the document into CPT_TRIAL", id="no trial"),
            pytest.param(["prepare", "--trial=/nowhere.yaml"], "nowhere.yaml", id="no file"),
            pytest.param(["prepare", f"--trial={__file__}"], "is not a trial", id="no document"),
        ],
    )
    def test_misused(self, arguments: list[str], say: str) -> None:
        """What is missing is said in one line, and is an error of configuration."""
        ended = cpt_trainer(*arguments)
        assert ended.returncode == ExitCode.CONFIG
        assert say in last_words(ended)["message"]
        assert len(ended.stderr.splitlines()) == 1

    def test_other_verb(self, corpus: Corpus) -> None:
        """A trial is carried out by its own verb only."""
        ended = cpt_trainer("train", **environment(corpus.prepare("data")))
        assert ended.returncode == ExitCode.CONFIG
        assert "run cpt-trainer prepare" in last_words(ended)["message"]


def test_light() -> None:
    """What looks at inputs and prepares data starts without a framework."""
    script = (
        "import sys, cpt_trainer.main, cpt_trainer.preflight, cpt_trainer.prepare, tokenizers\n"
        "print(sorted({'torch', 'transformers', 'accelerate', 'pyarrow', 'scipy'} & sys.modules.keys()))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


class TestEnds:
    """Exit codes, last words, and the output that outlives the process."""

    def test_finished_already(self, corpus: Corpus) -> None:
        """A trial with a result answers at once."""
        trial = corpus.prepare("data")
        commit_result(trial)
        ended = cpt_trainer("prepare", **environment(trial))
        assert ended.returncode == 0
        assert "finished_already" in ended.stderr
        assert "tokenise" not in ended.stderr

    def test_diverged_already(self, corpus: Corpus) -> None:
        """A result that says so ends as the attempt that wrote it."""
        trial = corpus.prepare("data")
        commit_result(trial, outcome=Outcome.DIVERGED)
        assert cpt_trainer("prepare", **environment(trial)).returncode == ExitCode.DIVERGED

    def test_changed_source(self, corpus: Corpus) -> None:
        """Changed files have a reason of their own."""
        trial = corpus.prepare("data")
        corpus.put("data/b.jsonl", b"")
        ended = cpt_trainer("prepare", **environment(trial))
        assert ended.returncode == ExitCode.DATA
        assert last_words(ended)["reason"] == "SourceChanged"

    def test_wrong_digest(self, corpus: Corpus) -> None:
        """A spec that is not that of its digest is refused before anything is done."""
        trial = corpus.prepare("data")
        variables = environment(trial)
        variables["CPT_TRIAL"] = variables["CPT_TRIAL"].replace(trial.digest, "0" * 64)
        ended = cpt_trainer("prepare", **variables)
        assert ended.returncode == ExitCode.CONFIG
        assert "the spec was changed" in last_words(ended)["message"]

    def test_output_is_kept(self, corpus: Corpus) -> None:
        """The end of the output lies beside the trial's data, by attempt and rank."""
        trial = corpus.prepare("data", attempt=3)
        corpus.sources.delete("data/a.jsonl")
        ended = cpt_trainer("prepare", **environment(trial))
        kept = trial.store.get(f"{trial.data}logs/attempt-3-rank-0.log").decode()
        assert kept == ended.stderr
        assert '"reason": "DataError"' in kept


WATCH = """
import os, signal, sys
from cpt_trainer.output import watch
def run():
{body}
code, tail = watch(run)
sys.stdout.write(f"{{code}} {{len(tail)}} {{tail[-20:]!r}}")
"""


def watched(body: str) -> subprocess.CompletedProcess[str]:
    """A process that watches a function of these statements, and prints what came of it."""
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    script = WATCH.format(body=indented)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


class TestWatch:
    """A child's output and end, seen by its parent."""

    @pytest.mark.parametrize(
        ("body", "want"),
        [
            pytest.param("print('hello'); return 7", "7 6 b'hello\\n'", id="returns"),
            pytest.param("os.write(2, b'stacks'); os._exit(210)", "210 6 b'stacks'", id="exits at once"),
            pytest.param("os.write(1, b'x'); os.kill(os.getpid(), signal.SIGKILL)", "137 1 b'x'", id="killed"),
            pytest.param("return 0", "0 0 b''", id="silent"),
        ],
    )
    def test_end(self, body: str, want: str) -> None:
        """Whatever the end, the code and the last words are known."""
        assert watched(body).stdout == want

    def test_crash(self) -> None:
        """A crash leaves its stacks."""
        ended = watched("import ctypes; ctypes.string_at(0)")
        assert ended.stdout.startswith("139 ")
        assert "Segmentation fault" in ended.stderr

    def test_tail(self) -> None:
        """All goes on to stderr, the last 64 KiB are kept."""
        ended = watched("for n in range(30000): print(f'line {n}')\nreturn 0")
        assert len(ended.stderr.splitlines()) == 30_000
        assert ended.stdout == f"0 {TAIL_BYTES} b'ne 29998\\nline 29999\\n'"

    def test_grandchild(self) -> None:
        """A process that outlives the child does not hold up the end."""
        ended = watched("import subprocess; subprocess.Popen(['sleep', '60']); print('gone'); return 3")
        assert ended.stdout.startswith("3 5 ")

    def test_terminated(self) -> None:
        """SIGTERM reaches the child, which decides what comes of it."""
        body = (
            "def end(*_): print('saved', flush=True); os._exit(143)\n"
            "signal.signal(signal.SIGTERM, end); os.kill(os.getppid(), signal.SIGTERM)\n"
            "while True: signal.pause()"
        )
        assert watched(body).stdout == "143 6 b'saved\\n'"

    def test_orphan(self) -> None:
        """When the parent is killed, so is the child."""
        script = WATCH.format(body="    print(os.getpid(), flush=True)\n    while True: signal.pause()")
        with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) as parent:
            assert parent.stderr
            child = os.pidfd_open(int(parent.stderr.readline()))
            parent.kill()
        ready, _, _ = select.select([child], [], [], 60)
        os.close(child)
        assert ready


class TestPlace:
    """Which process of an attempt this is."""

    @pytest.mark.parametrize(
        ("verb", "variables", "want"),
        [
            pytest.param("train", {}, Place(0, False, False), id="by hand"),
            pytest.param("train", {"WORLD_SIZE": "1", "RANK": "0"}, Place(0, False, False), id="one pod"),
            pytest.param("train", {"WORLD_SIZE": "16", "RANK": "1"}, Place(1, True, False), id="a node"),
            pytest.param("train", {"PET_NPROC_PER_NODE": "2"}, Place(0, True, False), id="two processes"),
            pytest.param(
                "train", {"WORLD_SIZE": "16", "RANK": "9", "LOCAL_RANK": "1"}, Place(9, False, True), id="a worker"
            ),
            pytest.param("evaluate", {"PET_NPROC_PER_NODE": "2"}, Place(0, True, False), id="two processes that score"),
            pytest.param("prepare", {"PET_NPROC_PER_NODE": "2"}, Place(0, False, False), id="one process is enough"),
        ],
    )
    def test_of(self, verb: str, variables: dict[str, str], want: Place) -> None:
        """As training-operator and torchrun say it."""
        assert Place.of(verb, variables) == want

    def test_log_names(self) -> None:
        """Nodes and ranks do not share a key."""
        assert Place(1, True, False).log_name(2) == "logs/attempt-2-node-1.log"
        assert Place(1, False, True).log_name(2) == "logs/attempt-2-rank-1.log"
