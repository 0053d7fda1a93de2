"""Experiments that decide by suites: what is asked of whom, which number decides, and how it ends without one."""

from __future__ import annotations

from typing import Any

import pytest

from cpt_api.result import Outcome as End
from cpt_api.trial import CPTTrialSpec, DecideWork, Question, TrialType
from cpt_operator.plan import Failed, Outcome, Plan, Succeeded
from cpt_operator.plan.recipe import resolve
from make import make_digest, make_experiment, make_result
from planned import World, good, reason_of

ITEMS = "s3://cpt/items"
RECIPE = {"learningRateSweep": {"learningRates": ["1e-4", "1e-3"], "rungs": ["10240"]}}


def make_evaluation(**changes: Any) -> dict[str, Any]:
    """The target by mmlu, the retention by the Gauntlet."""
    evaluation = {"target": {"suite": "mmlu"}, "retention": {"suite": "gauntlet-v0.2"}, "itemsUri": ITEMS}
    return {name: value for name, value in (evaluation | changes).items() if value is not None}


def make_world(answer: Any = good, **changes: Any) -> World:
    """An experiment like that of `make_experiment`, by suites."""
    return World(make_experiment(**{"evaluation": make_evaluation()} | changes), answer=answer)


def evaluations(made: Plan) -> list[CPTTrialSpec]:
    """Of the base and of what was trained."""
    return [trial.spec for trial in made.trials if trial.spec.type is TrialType.EVALUATE]


def question(made: Plan, asked: Question = Question.LEARNING_RATE) -> DecideWork:
    """The first of that kind."""
    found = (trial.spec.decide for trial in made.trials if trial.spec.decide)
    return next(work for work in found if work.question is asked)


class TestAsked:
    """Everything that is compared is scored on the same suites, with the same items."""

    def test_every_arm_and_the_base(self) -> None:
        """A trained end is scored by an Evaluate trial of its own: two datasets and the control with a replicate."""
        made = make_world().run()
        assert made.complete
        asked = [work.evaluate for work in evaluations(made)]
        assert len(asked) == 1 + 2 * (2 + 2)
        assert {tuple(suite.suite for suite in work.suites or ()) for work in asked if work} == {
            ("gauntlet-v0.2", "mmlu")
        }
        assert {suite.items.digest for work in asked if work for suite in work.suites or ()} == {make_digest(ITEMS)}

    def test_items_are_looked_at_first(self) -> None:
        """Preflight is told which suites will be asked."""
        first = make_world().plan().trials[0].spec.preflight
        assert first
        assert [(i.name, i.suites) for i in first.inputs if i.kind == "Items"] == [("items", ("gauntlet-v0.2", "mmlu"))]

    def test_curves(self) -> None:
        """Every run is asked them while it is trained; its digest, and what is decided, stay what they are."""
        plain, drawn = make_world().run(), make_world(evaluation=make_evaluation(curves=["small"], everyTokens="2048"))
        made = drawn.run()
        runs = [trial.spec for trial in made.trials if trial.spec.train]
        assert {suite.suite for spec in runs if spec.run.observe for suite in spec.run.observe.suites or ()} == {
            "small"
        }
        assert {t.digest for t in plain.trials if t.tokens} == {t.digest for t in made.trials if t.tokens}
        (look,) = [trial.spec.preflight for trial in made.trials if trial.spec.preflight]
        assert [i.suites for i in look.inputs if i.suites] == [("gauntlet-v0.2", "mmlu", "small")]

    def test_beside_held_out_text(self) -> None:
        """One Evaluate trial has both, and text that a run has scored is scored again on the same weights."""
        retention = {"suite": "Heldout", "datasets": ["speeches"]}
        made = make_world(evaluation=make_evaluation(retention=retention)).run()
        for spec in evaluations(made):
            assert spec.evaluate
            assert [suite.suite for suite in spec.evaluate.suites or ()] == ["mmlu"]
            assert len(spec.evaluate.texts) == 1
        assert (
            question(made).retention
            == question(make_world(evaluation=make_evaluation(retention=retention)).run()).retention
        )

    def test_the_whole_recipe(self) -> None:
        """Screening, durations, a mix by merges, its sweep, a soup and another base all ask the suites."""
        recipe = {
            "learningRateSweep": {"learningRates": ["1e-4", "1e-3"], "rungs": ["10240"]},
            "screening": {},
            "durationSweep": {"durations": ["20480", "40960"]},
            "mixing": {"strategy": "MergeProxy"},
            "mixSweep": {"durations": ["20480"]},
            "soup": {},
            "scaling": {"models": [{"name": "big", "uri": "s3://cpt/sources/big"}]},
        }
        made = make_world(recipe=recipe).run()
        assert made.complete, made.stages
        asked = {trial.spec.decide.question for trial in made.trials if trial.spec.decide}
        assert asked >= set(Question) - {Question.MIX}  # all strategies say the same of two datasets
        merges = [s.evaluate for s in evaluations(made) if s.evaluate and s.evaluate.merge]
        assert {tuple(suite.suite for suite in work.suites or ()) for work in merges} == {
            ("mmlu",),  # of merges of trunks only the target counts
            ("gauntlet-v0.2", "mmlu"),
        }

    def test_killed_at_any_step(self) -> None:
        """One answer at a time gives the same trials."""
        one = make_world()
        while one.step(lambda count: min(1, count)):
            pass
        assert {t.digest for t in one.plan().trials} == {t.digest for t in make_world().run().trials}


class TestDecides:
    """Which number of a suite, in which unit, and by which threshold."""

    @pytest.mark.parametrize(
        ("evaluation", "target", "retention"),
        [
            pytest.param({}, ("mmlu", "bits", "0.02"), ("gauntlet-v0.2", "accuracy", "1"), id="defaults by unit"),
            pytest.param(
                {"target": {"suite": "gauntlet-v0.2", "minimumEffect": "0.005"}, "retention": {"suite": "mmlu"}},
                ("gauntlet-v0.2", "accuracy", "0.5"),
                ("mmlu", "accuracy", "1"),
                id="a share of right answers is meant in points",
            ),
            pytest.param(
                {"target": {"suite": "mmlu", "minimumEffect": "0.05"}, "retention": None},
                ("mmlu", "bits", "0.05"),
                None,
                id="bits per byte as they are",
            ),
        ],
    )
    def test_number(
        self, evaluation: dict[str, Any], target: tuple[str, ...], retention: tuple[str, ...] | None
    ) -> None:
        """The target by bits per byte where the suite has them; the retention by what the suite is known by."""
        asked = question(make_world(evaluation=make_evaluation(**evaluation)).run())
        found = [
            (metric.suite.suite, metric.suite.group, str(metric.threshold)) if metric and metric.suite else None
            for metric in (asked.target, asked.retention)
        ]
        assert found == [target, retention]

    def test_status_is_in_the_unit(self) -> None:
        """Bits per byte as they are; of points what the model has, not what it lacks."""
        best = make_world().run().best
        assert best
        assert best.target == "1.5000"
        best = make_world(evaluation=make_evaluation(target={"suite": "gauntlet-v0.2"})).run().best
        assert best
        assert best.target == "98.50"


class TestTrouble:
    """Nothing hangs."""

    def test_the_base_cannot_be_scored(self) -> None:
        """Nobody knows what decides: that is said, with the cause."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            is_base = spec.evaluate is not None and spec.evaluate.model is not None
            return Failed("DataError", "task anatomy has no items") if is_base else good(spec)

        made = make_world(answer).run()
        assert made.finding
        assert "could not be scored on gauntlet-v0.2, mmlu" in made.finding.message
        assert "task anatomy has no items" in made.finding.message
        assert not made.complete

    def test_an_evaluation_fails(self) -> None:
        """Its arm is missing from the question, and the stage says why."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            start = spec.evaluate.segment if spec.evaluate else None
            return Failed("OutOfMemory", "no place") if start and start.digest == lost[0] else good(spec)

        first = make_world()
        lost = [next(t.digest for t in first.run().trials if t.title.startswith("python 1e-3 seed 0 cooled"))]
        made = make_world(answer).run()
        assert made.complete
        assert [[str(rate) for rate in entry.missing] for entry in question(made).datasets if entry.missing] == [
            ["1e-3"]
        ]
        assert "its evaluation: OutOfMemory: no place" in reason_of(made, "learningRateSweep")

    def test_a_diverged_arm(self) -> None:
        """Has no end that could be scored: it is a result as it is."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            if spec.train and str(spec.train.schedule.peak_learning_rate) == "1e-3":
                return Succeeded(make_result(spec, outcome=End.DIVERGED, checkpoint=None, held_out=()))
            return good(spec)

        made = make_world(answer).run()
        assert len(evaluations(made)) == 1 + 2 + 2
        assert question(made).datasets

    @pytest.mark.parametrize(
        ("evaluation", "message"),
        [
            ({"itemsUri": None}, "itemsUri is where the items of suites lie"),
            ({"target": {"suite": "mmlu", "datasets": ["python"]}}, "has items of its own"),
            ({"retention": {"suite": "gauntlet-v0.2", "margin": "1"}}, 'a point is "0.01"'),
            ({"everyTokens": "2048"}, "there are neither"),
            ({"everyTokens": "2048", "retention": {"suite": "mmlu"}}, "there are neither"),
            ({"everyTokens": "2048", "retention": None}, "there are neither"),
        ],
    )
    def test_refused(self, evaluation: dict[str, Any], message: str) -> None:
        """What the API server refuses the planner does too, with what to do."""
        with pytest.raises(ValueError, match=message):
            resolve(make_experiment(evaluation=make_evaluation(**evaluation)))


class TestAlso:
    """Suites that are scored last, and decide nothing."""

    def test_of_the_base_and_what_was_chosen(self) -> None:
        """By suites of their own, and the report waits for them; what decides is not asked again."""
        evaluation = make_evaluation(also=["core-offline", "mmlu"])
        made = make_world(evaluation=evaluation, recipe=RECIPE | {"soup": {}}).run()
        assert made.complete
        asked = {trial.title: trial.spec.evaluate for trial in made.trials if trial.stage == "also"}
        assert [*asked] == [
            "the base",
            "python 1e-4 @ 10240",
            "perl 1e-4 @ 10240",
            "0.25 of python 1e-4 @ 10240, as written",
        ]
        assert {suite.suite for work in asked.values() if work for suite in work.suites or ()} == {"core-offline"}
        (report,) = [trial.spec.report for trial in made.trials if trial.spec.report]
        assert [str(one.weight) for one in report.also or ()] == ["None", "None", "None", "0.25"]

    def test_with_held_out_text(self) -> None:
        """Nothing else changes: the same trials decide."""
        evaluation = make_experiment().evaluation.to_dict()
        plain = World(make_experiment()).run()
        made = World(make_experiment(evaluation=evaluation | {"also": ["core-offline"], "itemsUri": ITEMS})).run()
        assert made.complete
        decisions = {t.digest for t in plain.trials if t.spec.decide or t.spec.train}
        assert decisions == {t.digest for t in made.trials if t.spec.decide or t.spec.train}
        assert [stage.state for stage in made.stages if stage.name == "also"] == ["Decided"]

    def test_one_fails(self) -> None:
        """It is left out of the report, and named."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            asked = [suite.suite for suite in (spec.evaluate.suites if spec.evaluate else None) or ()]
            is_lost = asked == ["core-offline"] and spec.evaluate and spec.evaluate.segment
            return Failed("OutOfMemory", "no place") if is_lost else good(spec)

        made = make_world(answer, evaluation=make_evaluation(also=["core-offline"])).run()
        assert made.complete
        assert "OutOfMemory" in reason_of(made, "also")
        (report,) = [trial.spec.report for trial in made.trials if trial.spec.report]
        assert len(report.also or ()) == 1
