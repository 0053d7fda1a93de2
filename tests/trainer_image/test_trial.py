"""A trial, its result, and whose result counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cpt_api.digest import trial_digest
from cpt_api.layout import RESULT_MAX_BYTES, progress_key, result_key
from cpt_api.result import Progress, Result
from cpt_api.trial import CPTTrialSpec, TrialDocument, TrialType
from cpt_trainer.errors import ConfigError, DataError, MissingError
from cpt_trainer.store import FolderStore
from cpt_trainer.trial import Trial, commit_result, put_progress
from make import make_digest

LOOK = CPTTrialSpec.model_validate(
    {"type": "Preflight", "preflight": {"inputs": [{"name": "a", "kind": "Dataset", "uri": "s3://abc/x"}]}}
)


def make_trial(folder: Path, **changes: Any) -> Trial:
    """A Preflight trial over a folder."""
    document = {"namespace": "team", "name": "look", "digest": trial_digest(LOOK), "attempt": 1, "protocol": 1}
    return Trial(TrialDocument.model_validate(document | {"spec": LOOK} | changes), FolderStore(folder))


class TestTrial:
    """What is refused before anything is done."""

    def test_digest(self, tmp_path: Path) -> None:
        """A spec that is not that of its digest is refused."""
        with pytest.raises(ConfigError, match="the spec was changed"):
            make_trial(tmp_path, digest="0" * 64)

    def test_protocol(self, tmp_path: Path) -> None:
        """A protocol that this trainer does not know is refused."""
        with pytest.raises(ConfigError, match="protocol 2"):
            make_trial(tmp_path, protocol=2)

    def test_unresolved(self, tmp_path: Path) -> None:
        """A reference without a digest is refused, and named."""
        source = {"preflightName": "look", "input": "a"}
        spec = {"type": "Prepare", "prepare": {"source": source, "tokenizer": {"source": source}}}
        with pytest.raises(ConfigError, match="unresolved reference"):
            make_trial(tmp_path, spec=spec)


class TestResult:
    """`result.json` is written once."""

    def test_commit(self, tmp_path: Path) -> None:
        """What was committed is what the control plane reads and believes."""
        trial = make_trial(tmp_path)
        assert trial.result() is None
        result = commit_result(trial, numbers={"files": 3.0})
        data = trial.store.get(result_key("team", trial.digest))
        assert Result.believed(data, trial.digest, trial.spec) == result == trial.result()
        assert result.software["cpt-experiments"]

    def test_lost_race(self, tmp_path: Path) -> None:
        """The result of the attempt that was first counts."""
        first = commit_result(make_trial(tmp_path), numbers={"files": 1.0})
        assert commit_result(make_trial(tmp_path, attempt=2), numbers={"files": 2.0}) == first

    def test_foreign(self, tmp_path: Path) -> None:
        """A planted result is not believed, and the message says what to do."""
        trial = make_trial(tmp_path)
        trial.store.put(result_key("team", trial.digest), b"{}")
        with pytest.raises(DataError, match="delete it"):
            trial.result()

    def test_too_large(self, tmp_path: Path) -> None:
        """A result that nobody would read is not written."""
        many = {str(n): float(n) for n in range(20_000)}
        with pytest.raises(ConfigError, match=f"at most {RESULT_MAX_BYTES}"):
            commit_result(make_trial(tmp_path), numbers=many)

    def test_not_a_number(self, tmp_path: Path) -> None:
        """NaN is in no result."""
        with pytest.raises(ValueError, match="finite"):
            commit_result(make_trial(tmp_path), numbers={"loss": float("nan")})


class TestResultOf:
    """Results of other trials."""

    def test_read(self, tmp_path: Path) -> None:
        """Another trial's result, by digest and type."""
        trial = make_trial(tmp_path)
        committed = commit_result(trial)
        assert trial.result_of(trial.digest, TrialType.PREFLIGHT) == committed

    def test_missing(self, tmp_path: Path) -> None:
        """A trial that has not succeeded is named with its key."""
        other = make_digest("other")
        with pytest.raises(MissingError, match=result_key("team", other)):
            make_trial(tmp_path).result_of(other, TrialType.TRAIN)

    @pytest.mark.parametrize("change", [{"type": "Train"}, {"digest": "0" * 64}, {"numbers": {"x": "many"}}])
    def test_not_believed(self, tmp_path: Path, change: dict[str, Any]) -> None:
        """Another type, another trial, or no result at all is refused with its key."""
        trial = make_trial(tmp_path)
        key = result_key("team", trial.digest)
        document = json.loads(canonical(commit_result(trial))) | change
        trial.store.put(key, json.dumps(document).encode())
        with pytest.raises(DataError, match=key):
            trial.result_of(trial.digest, TrialType.PREFLIGHT)


def canonical(result: Result) -> str:
    """As it stands in the store."""
    return result.model_dump_json(by_alias=True, exclude_none=True)


def test_progress(tmp_path: Path) -> None:
    """Progress names the trial and the attempt, and is overwritten."""
    trial = make_trial(tmp_path)
    for tokens in (10, 20):
        put_progress(trial, tokens=tokens, planned_tokens=100, step=tokens)
    data = trial.store.get(progress_key("team", trial.digest))
    progress = Progress.believed(data, trial.digest)
    assert (progress.tokens, progress.planned_tokens, progress.attempt) == (20, 100, 1)
