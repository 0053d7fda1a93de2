"""`cpt-trainer decide` on a store with planted results: what it reads, what it refuses, and what it commits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cpt_api.digest import input_digests, trial_digest
from cpt_api.layout import data_prefix, result_key
from cpt_api.model import canonical_json
from cpt_api.result import Outcome, Result
from cpt_api.trial import CPTTrialSpec, TrialDocument, TrialType
from cpt_api.values import Digest
from cpt_trainer import decide
from cpt_trainer.errors import DamagedError, DataError, MissingError
from cpt_trainer.store import FolderStore, Store
from cpt_trainer.tables import heldout_items, write_heldout
from cpt_trainer.trial import Trial
from make import make_digest
from questions import TARGET

NAMESPACE = "team"
DOCUMENTS = [f"{number:02d}" for number in range(40)]
BASE, LARGER = make_digest("base"), make_digest("larger")
LOSSES = {"1e-5": 2.3, "1e-4": 2.0, "1e-3": 1.99}


def plant(store: Store, digest: Digest, loss: float | None, **changes: Any) -> None:
    """What a trial of that digest left, at that many bits per byte; None: it diverged."""
    size, text = changes.pop("size", 1000), changes.pop("text", TARGET)
    random = np.random.default_rng(int(digest[:8], 16))
    bits = ((loss or 0) + random.normal(0, 0.01, len(DOCUMENTS))) * size
    items = heldout_items(text, DOCUMENTS, DOCUMENTS, bits, [size] * len(DOCUMENTS))
    score, output = write_heldout(store, data_prefix(NAMESPACE, digest), text, items)
    result = Result(
        protocol=1,
        digest=digest,
        type=TrialType.EVALUATE if digest in (BASE, LARGER) else TrialType.TRAIN,
        outcome=Outcome.DIVERGED if loss is None else Outcome.COMPLETED,
        inputs=(),
        outputs=() if loss is None else (output,),
        held_out=() if loss is None else (score,),
        attempt=1,
    )
    data = canonical_json(result.model_copy(update=changes).to_dict())
    store.put(result_key(NAMESPACE, digest), data)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """What the question is about."""
    store = FolderStore(tmp_path / "store")
    plant_all(store)
    return store


def plant_all(store: Store) -> None:
    """A base, three rates, and three controls at one of them."""
    plant(store, BASE, 3.0)
    for rate, loss in LOSSES.items():
        plant(store, make_digest(rate), loss)
    for number in range(3):
        plant(store, make_digest(f"control {number}"), 2.5 + number / 100)


def make_trial(store: Store) -> Trial:
    """The question about them."""
    return decided(
        store,
        {
            "question": "LearningRate",
            "target": {"heldOut": [{"digest": TARGET}], "threshold": "0.02"},
            "baseline": {"digest": BASE},
            "datasets": [
                {
                    "dataset": {"digest": make_digest("python")},
                    "arms": [{"learningRate": rate, "trial": {"digest": make_digest(rate)}} for rate in LOSSES],
                }
            ],
            "controls": [
                {
                    "learningRate": "1e-4",
                    "trials": [{"digest": make_digest(f"control {number}")} for number in range(3)],
                }
            ],
            "rungTokens": "1M",
            "rungs": 2,
            "last": False,
        },
    )


def sizes(store: Store, **changes: Any) -> Trial:
    """A question about two bases, of which the larger one has a tokenizer, and so a text, of its own."""
    other = make_digest("target of larger")
    plant(store, BASE, 3.0, numbers={"parameters": 1e6})
    plant(store, LARGER, 2.0, text=other, numbers={"parameters": 1e7}, **changes)
    models = [
        {
            "baseline": {"digest": base},
            "target": [{"digest": text}],
            "pretrainingTokens": "1M",
            **(
                {"arm": {"learningRate": "1e-4", "tokens": "1000", "trial": {"digest": make_digest("1e-4")}}}
                if arm
                else {}
            ),
        }
        for base, text, arm in ((BASE, TARGET, True), (LARGER, other, False))
    ]
    target = {"heldOut": [{"digest": TARGET}], "threshold": "0.02"}
    return decided(store, {"question": "Scaling", "target": target, "baseline": {"digest": BASE}, "models": models})


def decided(store: Store, work: dict[str, Any]) -> Trial:
    """A Decide trial."""
    spec = CPTTrialSpec.model_validate({"type": "Decide", "protocol": 1, "decide": work})
    document = {"namespace": NAMESPACE, "name": "t", "digest": trial_digest(spec), "attempt": 1, "protocol": 1}
    return Trial(TrialDocument.model_validate(document | {"spec": spec}), store)


class TestRun:
    """In this process."""

    def test_commits_an_answer(self, store: FolderStore) -> None:
        """A result that the control plane believes, with every input named."""
        trial = make_trial(store)
        decide.run(trial)
        result = Result.believed(store.get(result_key(NAMESPACE, trial.digest)), trial.digest, trial.spec)
        assert result.decision is not None
        assert str(result.decision.rates[0].chosen) == "1e-4"
        assert list(result.inputs) == input_digests(trial.spec)

    def test_diverged(self, store: FolderStore) -> None:
        """A diverged arm needs no table: it is a result."""
        plant(store, make_digest("1e-3"), None)
        trial = make_trial(store)
        decide.run(trial)
        result = trial.result()
        assert result is not None
        assert result.decision is not None
        assert result.decision.rates[0].arms[2].outcome == "Diverged"

    def test_no_result(self, store: FolderStore) -> None:
        """An arm without a result has not happened."""
        store.delete(result_key(NAMESPACE, make_digest("1e-4")))
        with pytest.raises(MissingError, match=f"{make_digest('1e-4').short}… has no result"):
            decide.run(make_trial(store))

    def test_no_score(self, store: FolderStore) -> None:
        """An arm that was not scored on the target is named, and what to do."""
        plant(store, make_digest("1e-4"), 2.0, held_out=())
        with pytest.raises(DataError, match=r"has no item table of text .* score it with an Evaluate trial"):
            decide.run(make_trial(store))

    def test_no_table(self, store: FolderStore) -> None:
        """A table that is gone is missing."""
        store.delete(next(entry.key for entry in store.list(data_prefix(NAMESPACE, BASE))))
        with pytest.raises(MissingError):
            decide.run(make_trial(store))

    def test_other_bytes(self, store: FolderStore) -> None:
        """A table that is not the one that was committed is not read."""
        key = next(entry.key for entry in store.list(data_prefix(NAMESPACE, make_digest("1e-4"))))
        store.put(key, store.get(key) + b"!")
        with pytest.raises(DamagedError, match="something else wrote there"):
            decide.run(make_trial(store))

    def test_unequal_items(self, store: FolderStore) -> None:
        """Scores on other texts are not compared; the first difference is named."""
        plant(store, make_digest("1e-4"), 2.0, size=999)
        with pytest.raises(DataError, match="bytes of row 0 is 999 and 1000"):
            decide.run(make_trial(store))


class TestTokenizers:
    """Bases are compared whatever their tokenizers are."""

    def test_paired_by_document(self, store: FolderStore) -> None:
        """The same documents under another name, since another tokenizer prepared them."""
        plant(store, make_digest("1e-4"), 2.5)
        trial = sizes(store)
        decide.run(trial)
        result = trial.result()
        assert result is not None
        assert result.decision is not None
        found = {one.baseline: one for one in result.decision.scaled or ()}
        assert found[LARGER].parameters == 10**7
        worth = found[BASE].equivalent
        assert worth is not None
        assert worth.value == pytest.approx(10**0.5, rel=0.01)

    def test_other_documents(self, store: FolderStore) -> None:
        """What has other bytes is another text, and is not compared."""
        with pytest.raises(DataError, match="bytes of row 0 is 999 and 1000: score both on the same text"):
            decide.run(sizes(store, size=999))

    def test_other_number_of_texts(self, store: FolderStore) -> None:
        """Texts are paired one by one."""
        work = sizes(store).spec.decide
        assert work is not None
        document = work.to_dict()
        document["models"][1]["target"] *= 2
        with pytest.raises(DataError, match="has 2 and 0 texts of target and retention, the question has 1 and 0"):
            decide.run(decided(store, document))


@pytest.mark.processes
class TestProcess:
    """The program, as a pod runs it."""

    def test_decides_without_torch(self, store: FolderStore, tmp_path: Path) -> None:
        """`cpt-trainer decide` commits the same bytes twice in different stores, and never imports torch."""
        trial = make_trial(store)
        (tmp_path / "trial.json").write_text(json.dumps(trial.document.to_dict()))
        command = [sys.executable, "-X", "importtime", "-m", "cpt_trainer", "decide"]
        command += ["--trial", str(tmp_path / "trial.json"), "--store", str(tmp_path / "store")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        assert not [line for line in done.stderr.splitlines() if line.endswith((" torch", " scipy.stats", " boto3"))]
        first = trial.result()
        store.delete(result_key(NAMESPACE, trial.digest))
        decide.run(trial)
        second = trial.result()
        assert first is not None
        assert second is not None
        assert first.decision == second.decision
