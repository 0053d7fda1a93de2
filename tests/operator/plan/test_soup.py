"""The stage soup: which means are scored, what is asked, what is written, and how it ends."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_api.conditions import Reason
from cpt_api.result import Verdict
from cpt_api.trial import CPTTrialSpec, DecideWork, MergeWork, Question, TrialType
from cpt_api.values import Digest
from cpt_operator.plan import Failed, Outcome, Plan, PlannedTrial, Succeeded
from cpt_operator.plan.lengths import InvalidRecipeError
from cpt_operator.plan.recipe import resolve
from make import make_decision, make_digest, make_experiment, make_result, make_screened, make_soup, outcome_diverged
from planned import Answer, World, good, reason_of

SWEEP = {"learningRates": ["1e-4", "1e-3"], "rungs": ["10240", "20480"]}
DURATIONS = {"durationSweep": {"durations": ["20480", "40960"]}}


def cooking(weights: list[str] | None = None, *, stages: dict[str, Any] | None = None, **changes: Any) -> Any:
    """Two datasets at two rates, and means of what comes of them."""
    soup = {} if weights is None else {"weights": weights}
    return make_experiment(recipe={"learningRateSweep": SWEEP, **(stages or {}), "soup": soup}, **changes)


def means(plan: Plan) -> list[tuple[str, MergeWork]]:
    """Title and block of every mean that is scored without being written."""
    return [(t.title, t.spec.evaluate.merge) for t in plan.trials if t.spec.evaluate and t.spec.evaluate.merge]


def questions(plan: Plan) -> list[DecideWork]:
    """Of this stage."""
    works = [trial.spec.decide for trial in plan.trials if trial.spec.decide]
    return [work for work in works if work.question is Question.SOUP]


def of_type(plan: Plan, kind: TrialType) -> list[PlannedTrial]:
    """All trials of it in the stage."""
    return [trial for trial in plan.trials if trial.spec.type is kind and trial.stage == "soup"]


def saying(**words: Any) -> Answer:
    """Answers the stage's question so."""

    def answer(spec: CPTTrialSpec) -> Outcome:
        if spec.decide is None or spec.decide.question is not Question.SOUP:
            return good(spec)
        return Succeeded(make_result(spec, decision=make_soup(spec.decide, **words)))

    return answer


def failing(fails: Callable[[CPTTrialSpec], object]) -> Answer:
    """All goes well but that."""
    return lambda spec: Failed("Hang", "lost") if fails(spec) else good(spec)


class TestMeans:
    """Design 4: "Evaluate over weights {¼, ½, ¾, 1} *without writing*"."""

    def test_of_the_chosen_rates(self) -> None:
        """Without durations the arm of each dataset's rate; a weight of 1 is the arm, which has its scores."""
        done = World(cooking()).run()
        assert sorted(title for title, _ in means(done)) == [
            f"{weight} of {name} 1e-4 @ 20480" for weight in ("0.25", "0.5", "0.75") for name in ("perl", "python")
        ]
        (work,) = questions(done)
        arms = [arm for entry in work.datasets for arm in entry.arms]
        assert [str(arm.weight) for arm in arms] == ["0.25", "0.5", "0.75", "1"] * 2
        trained = {trial.digest for trial in done.trials if trial.spec.train}
        assert {str(arm.weight) for arm in arms if arm.trial.digest in trained} == {"1"}

    def test_the_base_comes_first(self) -> None:
        """Its config and types are the mean's, and the weights are a whole."""
        done = World(cooking(["0.3"])).run()
        for _, merge in means(done):
            base, trained = merge.inputs
            assert (base.model is not None, trained.segment is not None) == (True, True)
            assert (str(base.weight), str(trained.weight)) == ("0.7", "0.3")

    def test_of_every_duration(self) -> None:
        """After a duration sweep its branches, the long ones too: half of a long one may be better than a short one."""
        done = World(cooking(["0.5"], stages=DURATIONS)).run()
        assert {title.rpartition(" ")[2] for title, _ in means(done)} == {"20480", "40960"}
        assert len(means(done)) == 4

    def test_of_survivors(self) -> None:
        """What did not survive screening is not released."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            if spec.decide is None or spec.decide.question is not Question.SCREENING:
                return good(spec)
            return Succeeded(make_result(spec, decision=make_screened(spec.decide, Verdict.HURTS)))

        done = World(cooking(stages={"screening": {}}), answer=answer).run()
        assert (done.complete, done.best, means(done)) == (True, None, [])
        assert reason_of(done, "soup") == "There is no trained model to take a mean of: the base is best."

    def test_what_diverged(self) -> None:
        """Where every run did there is nothing to average, and the experiment ends."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            if spec.train:
                return Succeeded(outcome_diverged(spec))
            if spec.decide is None:
                return good(spec)
            document = make_decision(spec.decide)
            lost = {"chosen": None, "survivors": (), "verdict": "AllDiverged", "gain": None}
            rates = tuple(
                choice.model_copy(
                    update={**lost, "arms": tuple(arm.model_copy(update={"target": None}) for arm in choice.arms)}
                )
                for choice in document.rates
            )
            return Succeeded(make_result(spec, decision=document.model_copy(update={"rates": rates})))

        done = World(cooking(), answer=answer).run()
        assert (done.complete, done.best, means(done)) == (True, None, [])

    def test_too_many(self) -> None:
        """The models with the best target stay, with all of their weights, and the stage says so."""
        weights = [f"0.{n:02d}" for n in range(1, 17)]
        durations = {"durationSweep": {"durations": [str(10240 * n) for n in (2, 4, 8)]}}
        done = World(cooking(weights, stages=durations)).run()
        assert done.complete
        assert len(means(done)) == 64
        assert "of 6 trained models the 4 with the best target take part" in reason_of(done, "soup")

    def test_nothing_before_its_turn(self) -> None:
        """While a stage before is open nothing of it is planned."""
        world = World(cooking(stages=DURATIONS))
        while world.step():
            made = world.plan()
            if any(stage.name == "durationSweep" and stage.state != "Decided" for stage in made.stages):
                assert not any(trial.stage == "soup" for trial in made.trials)

    def test_trains_nothing(self) -> None:
        """Not a token, and every other trial is the same with and without."""
        plain = World(make_experiment(recipe={"learningRateSweep": SWEEP})).run()
        done = World(cooking()).run()
        assert {t.digest for t in plain.trials if not t.spec.report} < {t.digest for t in done.trials}
        assert sum(t.tokens for t in done.trials) == sum(t.tokens for t in plain.trials)
        assert done.tokens_naive == plain.tokens_naive

    def test_a_weight_of_zero(self) -> None:
        """Is the base, which is no mean."""
        with pytest.raises(InvalidRecipeError, match="a weight of 0 is the base itself"):
            resolve(cooking(["0", "1"]))


class TestReleased:
    """What was chosen is written, scored again, and the experiment's best."""

    def test_written(self) -> None:
        """The Merge is that of the mean which was scored."""
        done = World(cooking(), answer=saying(picked=1)).run()
        assert done.complete
        (merge,) = of_type(done, TrialType.MERGE)
        (work,) = questions(done)
        chosen = next(t for t in done.trials if t.digest == work.datasets[0].arms[1].trial.digest)
        assert chosen.spec.evaluate
        assert merge.spec.merge == chosen.spec.evaluate.merge
        assert done.best is not None
        assert (done.best.digest, str(done.best.soup_weight)) == (merge.digest, "0.5")
        assert (done.best.target, done.best.target_interval) == ("1.3000", "1.2500 to 1.3500")
        assert f"soup: {merge.title} is released" in done.message
        assert ("soup", "Decided") in {(stage.name, stage.state) for stage in done.stages}

    def test_the_model_itself(self) -> None:
        """A weight of 1 is written from the run's end alone, in the base's types."""
        done = World(cooking(["1"])).run()
        (merge,) = of_type(done, TrialType.MERGE)
        assert merge.spec.merge is not None
        assert [str(part.weight) for part in merge.spec.merge.inputs] == ["1"]
        assert merge.spec.merge.base is not None
        assert means(done) == []

    def test_not_before_it_is_verified(self) -> None:
        """Until what was written has been scored the best is an arm."""
        world = World(cooking())
        while world.step():
            made = world.plan()
            if made.best and made.best.soup_weight:
                scored = next(t for t in made.trials if t.title.endswith(", as written"))
                assert scored.digest in world.outcomes

    @pytest.mark.parametrize("verdict", ["Unconfirmed", "NoneBetter", "NoneFeasible"])
    def test_nothing(self, verdict: str) -> None:
        """The base is best: complete, with nothing written, and with the reason."""
        done = World(cooking(), answer=saying(verdict=verdict)).run()
        assert (done.complete, done.best, of_type(done, TrialType.MERGE)) == (True, None, [])
        assert f"soup: {verdict}, the base is best" in done.message
        assert reason_of(done, "soup") == f"{verdict}: a reason"


class TestFailures:
    """Every way to end is clear."""

    def test_a_mean_without_score(self) -> None:
        """It is named, and the others are asked about."""
        half = failing(lambda spec: spec.evaluate and spec.evaluate.merge and str(
            spec.evaluate.merge.inputs[0].weight) == "0.5")  # fmt: skip
        done = World(cooking(), answer=half).run()
        assert done.complete
        (work,) = questions(done)
        assert {str(arm.weight) for entry in work.datasets for arm in entry.arms} == {"0.25", "0.75", "1"}
        assert "0.5 of python 1e-4 @ 20480: Hang: lost" in reason_of(done, "soup")

    @pytest.mark.parametrize(
        ("weights", "fails", "words"),
        [
            pytest.param(
                ["0.5"],
                lambda spec: spec.evaluate and spec.evaluate.merge,
                "no soup is released: no mean could be scored; 0.5 of ",
                id="every mean",
            ),
            pytest.param(
                None,
                lambda spec: spec.decide and spec.decide.question is Question.SOUP,
                "no soup is released: the decision failed: Hang: lost",
                id="the decision",
            ),
            pytest.param(
                None,
                lambda spec: spec.merge,
                " @ 20480 was chosen and could not be written: Hang: lost",
                id="the merge",
            ),
            pytest.param(
                None,
                lambda spec: spec.evaluate and spec.evaluate.model and spec.evaluate.model.trial,
                " was chosen and could not be scored as written: Hang: lost",
                id="the last evaluation",
            ),
        ],
    )
    def test_what_ends_it(self, weights: list[str] | None, fails: Callable[[CPTTrialSpec], object], words: str) -> None:
        """Failed, with the reason."""
        done = World(cooking(weights), answer=failing(fails)).run()
        assert not done.complete
        assert done.finding is not None
        assert done.finding.reason is Reason.FAILED
        assert words in done.finding.message

    @pytest.mark.parametrize(("change", "is_released"), [(1.0009, True), (1.002, False)])
    def test_another_model_was_written(self, change: float, *, is_released: bool) -> None:
        """What scores otherwise than the mean that was chosen is not released."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            result = make_result(spec)
            if spec.evaluate is None or spec.evaluate.model is None or spec.evaluate.model.trial is None:
                return Succeeded(result)
            other = (score.model_copy(update={"bits_per_byte": 2.0 * change}) for score in result.held_out)
            return Succeeded(result.model_copy(update={"held_out": tuple(other)}))

        done = World(cooking(), answer=answer).run()
        assert done.complete is is_released
        assert is_released or (done.finding and "what was written is another model" in done.finding.message)

    @pytest.mark.parametrize("what", ["fewer arms", "another weight", "a stranger", "one that does not hold", "none"])
    def test_an_answer_to_something_else(self, what: str) -> None:
        """It is not believed."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            if spec.decide is None or spec.decide.question is not Question.SOUP:
                return good(spec)
            document = make_soup(spec.decide)
            choice = document.soup
            assert choice is not None
            first, *others = choice.arms
            changed = {
                "fewer arms": choice.model_copy(update={"arms": (first,)}),
                "another weight": choice.model_copy(
                    update={"arms": (first.model_copy(update={"weight": others[0].weight}), *others)}
                ),
                "a stranger": choice.model_copy(update={"picked": make_digest("stranger")}),
                "one that does not hold": choice.model_copy(
                    update={"arms": (first.model_copy(update={"holds": False}), *others)}
                ),
                "none": None,
            }[what]
            return Succeeded(make_result(spec, decision=document.model_copy(update={"soup": changed})))

        done = World(cooking(), answer=answer).run()
        assert done.finding is not None
        assert "the decision does not answer what it was asked" in done.finding.message


class TestLaws:
    """Whatever happens first."""

    @settings(max_examples=10, deadline=None)
    @given(seed=st.integers(0, 10_000))
    def test_any_order_of_answers(self, seed: int) -> None:
        """The trials are the same, and none ever leaves the plan."""
        rng, slow = random.Random(seed), World(cooking(stages=DURATIONS))
        seen: set[Digest] = set()
        while slow.step(lambda count: rng.randint(1, count) if count else 0):
            now = {trial.digest for trial in slow.plan().trials}
            assert seen <= now
            seen = now
        assert seen == {trial.digest for trial in World(cooking(stages=DURATIONS)).run().trials}

    def test_order_of_the_manifest(self) -> None:
        """Datasets and weights the other way round: the same question."""
        turned = cooking(["1", "0.5"], datasets=make_experiment().to_dict()["datasets"][::-1])
        same, other = (
            {t.digest for t in World(spec).run().trials if t.spec.type not in (TrialType.PREFLIGHT, TrialType.REPORT)}
            for spec in (cooking(["0.5", "1"]), turned)
        )
        assert same == other

    def test_an_appended_weight(self) -> None:
        """Only its own means are scored, and the question is asked again."""
        world = World(cooking(["0.5"]))
        before = {trial.digest for trial in world.run().trials}
        world.spec = cooking(["0.5", "0.75"])
        fresh = [trial for trial in world.run().trials if trial.digest not in before]
        assert sorted(trial.spec.type for trial in fresh if trial.stage == "soup") == ["Decide", "Evaluate", "Evaluate"]
