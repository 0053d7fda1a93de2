"""`cpt-trainer verify`: a decision is what its tables say, or it is said where it is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cpt_api.exits import ExitCode
from cpt_api.layout import data_prefix, result_key
from cpt_api.model import canonical_json
from cpt_trainer import decide
from cpt_trainer.errors import ConfigError, DamagedError, DataError, MissingError
from cpt_trainer.store import FolderStore
from cpt_trainer.trial import Trial
from cpt_trainer.verify import Difference, verify
from make import make_digest
from trainer_image.decide.test_verb import NAMESPACE, make_trial, plant, plant_all


@pytest.fixture
def decided(tmp_path: Path) -> Trial:
    """A decision that was taken."""
    store = FolderStore(tmp_path / "store")
    plant_all(store)
    trial = make_trial(store)
    decide.run(trial)
    return trial


def tamper(trial: Trial, **changes: Any) -> None:
    """Write another decision where the true one lies."""
    key = result_key(NAMESPACE, trial.digest)
    document = json.loads(trial.store.get(key))
    document["decision"] |= changes
    trial.store.put(key, canonical_json(document))


class TestAnswer:
    """Equal, or where not."""

    def test_equal(self, decided: Trial) -> None:
        """The same tables give the same bytes, and verifying writes nothing."""
        before = [(entry.key, entry.etag) for entry in decided.store.list("")]
        found = verify(decided)
        assert (found.equal, found.question, found.differences) == (True, "LearningRate", ())
        assert [(entry.key, entry.etag) for entry in decided.store.list("")] == before

    def test_another_decision(self, decided: Trial) -> None:
        """A rate that the tables do not say is found, with its place."""
        rates = json.loads(decided.store.get(result_key(NAMESPACE, decided.digest)))["decision"]["rates"]
        tamper(decided, rates=[rates[0] | {"chosen": "0.001"}])
        found = verify(decided)
        assert not found.equal
        assert found.differences == (Difference("rates[0].chosen", "0.001", "1e-4"),)

    def test_another_sentence(self, decided: Trial) -> None:
        """Words count like numbers: they are what people read."""
        tamper(decided, sentence="all is well")
        (difference,) = verify(decided).differences
        assert (difference.at, difference.stored) == ("sentence", "all is well")

    def test_a_part_too_many(self, decided: Trial) -> None:
        """What should not be there is shown beside what is absent, cut to a line."""
        tamper(decided, texts=[make_digest(str(number)) for number in range(9)])
        (difference,) = verify(decided).differences
        assert (difference.at, difference.recomputed, len(difference.stored)) == ("texts", "absent", 200)

    def test_other_bytes_of_equal_values(self, decided: Trial) -> None:
        """Equal means the same bytes."""
        key = result_key(NAMESPACE, decided.digest)
        decided.store.put(key, json.dumps(json.loads(decided.store.get(key))).encode())
        (difference,) = verify(decided).differences
        assert difference.at == "result.json"

    def test_other_tables(self, decided: Trial) -> None:
        """Who replaces a table and its SHA-256 changes the numbers of the decision."""
        plant(decided.store, make_digest("1e-4"), 1.9)
        assert {difference.at.partition("[")[0] for difference in verify(decided).differences} >= {"rates"}


class TestRefused:
    """What cannot be verified says why."""

    def test_a_damaged_table(self, decided: Trial) -> None:
        """One byte of a table is enough."""
        key = next(entry.key for entry in decided.store.list(data_prefix(NAMESPACE, make_digest("1e-4"))))
        data = bytearray(decided.store.get(key))
        data[len(data) // 2] ^= 1
        decided.store.put(key, bytes(data))
        with pytest.raises(DamagedError, match="something else wrote there"):
            verify(decided)

    def test_no_decision_yet(self, decided: Trial) -> None:
        """Nothing is not equal to anything."""
        decided.store.delete(result_key(NAMESPACE, decided.digest))
        with pytest.raises(MissingError, match="nothing to verify yet"):
            verify(decided)

    def test_another_method(self, decided: Trial) -> None:
        """A later version may decide otherwise: it is no judge of this one."""
        tamper(decided, method="by feeling 1")
        with pytest.raises(ConfigError, match=r"by method 'by feeling 1' .* verify it with the version that took it"):
            verify(decided)

    def test_a_result_of_something_else(self, decided: Trial) -> None:
        """A result without a decision, or one that is no result at all."""
        key = result_key(NAMESPACE, decided.digest)
        document = json.loads(decided.store.get(key))
        del document["decision"]
        decided.store.put(key, canonical_json(document))
        with pytest.raises(DataError, match="holds no decision"):
            verify(decided)
        decided.store.put(key, b"{}")
        with pytest.raises(DataError, match="is not this trial's result"):
            verify(decided)


@pytest.mark.processes
class TestProcess:
    """As a verb."""

    def verify(self, trial: Trial, folder: Path) -> subprocess.CompletedProcess[str]:
        file = folder / "trial.json"
        file.write_text(json.dumps(trial.document.to_dict()))
        return subprocess.run(
            [sys.executable, "-m", "cpt_trainer", "verify", "--trial", file, "--store", trial.store.address.uri],
            check=False,
            capture_output=True,
            text=True,
        )

    def test_exit_codes(self, decided: Trial, tmp_path: Path) -> None:
        """0 and a document when equal, that of data that differ when not; nothing is left in the store."""
        keys = [entry.key for entry in decided.store.list("")]
        done = self.verify(decided, tmp_path)
        assert (done.returncode, json.loads(done.stdout)["answer"]) == (ExitCode.COMMITTED, "Equal"), done.stderr
        tamper(decided, sentence="all is well")
        done = self.verify(decided, tmp_path)
        assert (done.returncode, json.loads(done.stdout)["answer"]) == (ExitCode.DATA, "Differs"), done.stderr
        decided.store.delete(result_key(NAMESPACE, make_digest("base")))
        done = self.verify(decided, tmp_path)
        assert (done.returncode, done.stdout) == (ExitCode.DATA, "")
        assert "has no result" in json.loads(done.stderr.splitlines()[-1])["message"]
        decided.store.delete(result_key(NAMESPACE, decided.digest))
        assert [entry.key for entry in decided.store.list("")] == [
            key for key in keys if key not in (result_key(NAMESPACE, d) for d in (make_digest("base"), decided.digest))
        ]
