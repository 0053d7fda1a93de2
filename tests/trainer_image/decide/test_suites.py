"""Decisions by a suite's number: the same as `cpt-trainer evaluate` says, turned so that lower is better."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cpt_api.digest import trial_digest
from cpt_api.layout import data_prefix, result_key
from cpt_api.model import canonical_json
from cpt_api.result import Decision, GroupScore, Result, SuiteScore
from cpt_api.trial import CPTTrialSpec, Measure, SuiteGroup, TrialDocument, TrialType
from cpt_trainer import decide
from cpt_trainer.decide.against import saved
from cpt_trainer.decide.estimates import difference, level
from cpt_trainer.decide.suites import sums_of
from cpt_trainer.errors import DataError
from cpt_trainer.evaluate.group import gain, leaves, score
from cpt_trainer.evaluate.suite import Suite
from cpt_trainer.evaluate.suite_table import SuiteTable, write_suite_table
from cpt_trainer.store import FolderStore, Store
from cpt_trainer.tables import Row, suite_items
from cpt_trainer.trial import Trial
from evaluation_suites import CLOZE, LETTERS, make_about, make_row, make_suite, make_table
from make import make_digest

NAMESPACE = "team"
ITEMS = 60
OTHER = CLOZE | {"name": "other"}
GROUPS: tuple[dict[str, Any], ...] = (
    {
        "name": "core",
        "categories": [
            {"name": "one", "benchmarks": [{"task": "quiz", "baseline": "0.25"}, {"task": "cloze"}]},
            {"name": "two", "benchmarks": [{"task": "other", "baseline": "0.5", "rescale": False}]},
        ],
    },
    {
        "name": "bits",
        "measure": "BitsPerByte",
        "categories": [{"name": "all", "benchmarks": [{"task": "quiz"}, {"task": "cloze"}]}],
    },
)
SUITE = make_suite((LETTERS, CLOZE, OTHER), GROUPS)
CORE = SuiteGroup(suite="small", group="core", measure=Measure.ACCURACY)
BITS = SuiteGroup(suite="small", group="bits", measure=Measure.BITS_PER_BYTE)


def answers(right: float, seed: int) -> list[bool]:
    """Of a model that knows that share; what is hard for one is hard for all."""
    hard = np.random.default_rng(1).uniform(size=ITEMS)
    luck = np.random.default_rng([2, seed]).normal(0, 0.1, ITEMS)
    return [bool(one) for one in hard + luck < right]


def tables(*rights: float) -> list[SuiteTable]:
    """Of models that know so much."""
    return [make_table(SUITE, answers(right, seed)) for seed, right in enumerate(rights)]


class TestSums:
    """A group as a sum of ratios."""

    def test_points(self) -> None:
        """What is missing from a hundred, baselines and all; the variance is that of the suite's number."""
        base, arm = tables(0.5, 0.7)
        group = SUITE.groups[0]
        for table in (base, arm):
            want, found = score(leaves(SUITE, group, table.items)), level(sums_of(table, CORE))
            assert found.value == pytest.approx(100 * (1 - want.value), abs=1e-9)
            assert found.standard_error == pytest.approx(100 * want.standard_error)
            assert found.df == pytest.approx(want.df)
        want = gain(leaves(SUITE, group, arm.items), leaves(SUITE, group, base.items))
        for found in (
            difference(sums_of(base, CORE), sums_of(arm, CORE)),
            level(saved(sums_of(arm, CORE), [sums_of(base, CORE), sums_of(base, CORE)])),
        ):
            assert found.value == pytest.approx(100 * want.value)
            assert found.standard_error == pytest.approx(100 * want.standard_error)

    def test_bits_per_byte(self) -> None:
        """As they are: lower is better already."""
        (table,) = tables(0.6)
        want, found = score(leaves(SUITE, SUITE.groups[1], table.items)), level(sums_of(table, BITS))
        assert (found.value, found.variance) == pytest.approx((want.value, want.variance))

    @pytest.mark.parametrize(
        "asked", [BITS.model_copy(update={"group": "core"}), CORE.model_copy(update={"group": "average"})]
    )
    def test_another_number(self, asked: SuiteGroup) -> None:
        """The question says what its number averages: another one under that name is refused."""
        (table,) = tables(0.6)
        with pytest.raises(DataError, match=r"it has \['core \(Accuracy\)', 'bits \(BitsPerByte\)'\]"):
            sums_of(table, asked)


def plant(store: Store, name: str, right: float, suite: Suite = SUITE, rows: Sequence[Row] = (), **says: Any) -> None:
    """What an Evaluate trial of that name left."""
    digest = make_digest(name)
    right_ones = answers(right, int(digest[:6], 16))
    made = rows or [make_row(task.name, n, one) for task in suite.tasks for n, one in enumerate(right_ones)]
    about = make_about(suite, ITEMS)
    items = suite_items(suite.name, made)
    output = write_suite_table(store, data_prefix(NAMESPACE, digest), about, items)
    groups = [
        GroupScore(group=group.name, measure=group.measure, value=found.value, standard_error=found.standard_error)
        for group in suite.groups
        for found in [score(leaves(suite, group, items))]
    ]
    scored = {
        "suite": suite.name,
        "digest": suite.digest,
        "fingerprint": make_digest("fp32"),
        "groups": groups,
        "items": len(made),
        "table": output.key,
    }
    result = Result(
        protocol=1,
        digest=digest,
        type=TrialType.EVALUATE,
        inputs=(),
        outputs=(output,),
        suites=(SuiteScore.model_validate(scored | says),),
        attempt=1,
    )
    store.put(result_key(NAMESPACE, digest), canonical_json(result.to_dict()))


ARMS = {"1e-4": 0.75, "1e-3": 0.45}


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """A base, two rates and their controls."""
    store = FolderStore(tmp_path / "store")
    plant(store, "base", 0.4)
    for rate, right in ARMS.items():
        plant(store, rate, right)
        for number in range(3):
            plant(store, f"control {rate} {number}", 0.4)
    return store


def answer(store: Store, question: str = "LearningRate") -> Decision:
    """Of the whole verb."""
    tokens = {} if question == "LearningRate" else {"tokens": "1M"}
    metric = {"suite": CORE.to_dict(), "threshold": "1"}
    own: dict[str, Any] = {
        "LearningRate": {"rungTokens": "1M", "rungs": 1, "last": True},
        "Screening": {"errorRate": "0.05", "family": 1},
    }
    work = {
        "question": question,
        "target": metric if question == "LearningRate" else {"suite": BITS.to_dict(), "threshold": "0.02"},
        "retention": metric,
        "baseline": {"digest": make_digest("base")},
        "datasets": [
            {
                "dataset": {"digest": make_digest("python")},
                "arms": [{"learningRate": rate, "trial": {"digest": make_digest(rate)}} | tokens for rate in ARMS],
            }
        ],
        "controls": [
            {
                "learningRate": rate,
                "trials": [{"digest": make_digest(f"control {rate} {number}")} for number in range(3)],
            }
            | tokens
            for rate in ARMS
        ],
    }
    spec = CPTTrialSpec.model_validate({"type": "Decide", "protocol": 1, "decide": work | own[question]})
    document = {"namespace": NAMESPACE, "name": "t", "digest": trial_digest(spec), "attempt": 1, "protocol": 1}
    trial = Trial(TrialDocument.model_validate(document | {"spec": spec}), store)
    decide.run(trial)
    result = Result.believed(store.get(result_key(NAMESPACE, trial.digest)), trial.digest, trial.spec)
    assert result.decision
    return result.decision


class TestDecision:
    """From tables to an answer, through the verb."""

    def test_the_better_rate(self, store: FolderStore) -> None:
        """The one with more right answers, in points."""
        (choice,) = answer(store).rates
        assert str(choice.chosen) == "1e-4"
        assert choice.gain
        assert 20 < choice.gain.value < 60
        assert f"Against the base it gains {choice.gain.value:.3g} points" in choice.reason
        assert "points gained" in choice.reason
        scores = [arm.target for arm in choice.arms if arm.target is not None]
        assert all(0 < one < 100 for one in scores)

    def test_a_screening(self, store: FolderStore) -> None:
        """Each metric in its own unit; the matrix has a column for each suite's number."""
        found = answer(store, "Screening")
        assert found.screened
        assert found.texts
        (screened,) = found.screened
        assert screened.target.verdict == "Helps"
        assert len(found.texts) == len(screened.cells) == 2
        assert "bits per byte against the control" in screened.reason
        assert "questions" in screened.reason
        assert "points. Against the base" in screened.reason

    def test_the_same_bytes_again(self, store: FolderStore) -> None:
        """Nothing but the tables counts."""
        assert answer(store) == answer(store)


class TestRefused:
    """Nothing is compared but the same questions, asked in one way."""

    def test_another_suite(self, store: FolderStore) -> None:
        """Of the same name: another version, say."""
        plant(store, "1e-3", 0.4, SUITE.model_copy(update={"version": 2}))
        with pytest.raises(DataError, match="suite small: the suite's digest is"):
            answer(store)

    def test_scored_in_another_way(self, store: FolderStore) -> None:
        """Another precision."""
        plant(store, "1e-3", 0.4, fingerprint=make_digest("bf16"))
        with pytest.raises(DataError, match="suite small: the suite's fingerprint is"):
            answer(store)

    def test_another_question(self, store: FolderStore) -> None:
        """With another right answer."""
        rows = [make_row(task.name, n, True, gold=0) for task in SUITE.tasks for n in range(ITEMS)]
        plant(store, "1e-3", 0.4, rows=rows)
        with pytest.raises(DataError, match="suite small: gold of row 0 is 0 and 1"):
            answer(store)

    def test_a_missing_suite(self, store: FolderStore) -> None:
        """An arm that was asked another suite."""
        plant(store, "1e-3", 0.4, suite=make_suite((CLOZE,)).model_copy(update={"name": "cloze"}))
        with pytest.raises(DataError, match=r"has no table of suite small, it has \['cloze'\]"):
            answer(store)

    def test_a_missing_task(self, store: FolderStore) -> None:
        """A table without all of its suite is no table of it."""
        rows = [make_row(task.name, n, True) for task in SUITE.tasks[:2] for n in range(ITEMS)]
        with pytest.raises(DataError, match="task other has 0 of 60 items"):
            plant(store, "1e-3", 0.4, rows=rows)
