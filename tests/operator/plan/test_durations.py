"""The stage durationSweep: which arms are trained, when it goes on, and what becomes of the answers."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_api.conditions import Reason
from cpt_api.experiment import CPTExperimentSpec
from cpt_api.result import Verdict
from cpt_api.trial import CPTTrialSpec, DecideWork, Question, TrialType
from cpt_api.values import Digest, Tokens
from cpt_operator.plan import Failed, Outcome, Plan, Succeeded
from cpt_operator.plan.lengths import InvalidRecipeError
from cpt_operator.plan.recipe import resolve
from make import make_durations, make_experiment, make_result, make_screened
from planned import World, good, reason_of

RUNGS = ["10240", "20480"]
DURATIONS = ["20480", "40960", "81920", "163840"]


def lasting(durations: list[str] = DURATIONS, *, stages: dict[str, Any] | None = None, **changes: Any) -> Any:
    """Two datasets at two rates, of which one is dropped, then durations."""
    sweep = {"learningRates": ["1e-4", "1e-3"], "rungs": RUNGS}
    recipe = {"learningRateSweep": sweep, "durationSweep": {"durations": durations}, **(stages or {})}
    return make_experiment(recipe=recipe, **changes)


def until(longest: int) -> Any:
    """Answers that from this duration on nothing is gained."""

    def answer(spec: CPTTrialSpec) -> Outcome:
        work = spec.decide
        if work is None or work.question is not Question.DURATION:
            return good(spec)
        reached = max(arm.tokens for entry in work.datasets for arm in entry.arms if arm.tokens)
        return Succeeded(make_result(spec, decision=make_durations(work, go_on=reached < longest)))

    return answer


def arms(plan: Plan) -> set[tuple[int, bool]]:
    """(end, cooled) of every segment of the first dataset at the chosen rate."""
    return {
        (int(trial.spec.train.stop_tokens), trial.spec.train.schedule.cooldown is not None)
        for trial in plan.trials
        if trial.spec.train and trial.title.startswith("python 1e-4 ")
    }


def questions(plan: Plan) -> list[DecideWork]:
    """Of this stage, in their order."""
    works = [trial.spec.decide for trial in plan.trials if trial.spec.decide]
    return [work for work in works if work.question is Question.DURATION]


class TestTrunks:
    """Design 4: "one trunk per survivor at its rate, a cooldown branch per duration"."""

    def test_shared(self) -> None:
        """The sweep's trunk is continued; no token of a shorter duration is trained twice."""
        done = World(lasting()).run()
        assert done.complete
        assert {end for end, cooled in arms(done) if cooled} == {10240, 20480, 40960, 81920, 163840}
        assert {end for end, cooled in arms(done) if not cooled} == {8192, 16384, 32768, 65536, 131072}
        tokens = sum(trial.tokens for trial in done.trials if trial.title.startswith("python 1e-4 "))
        assert tokens == 131072 + sum(end // 5 for end in (10240, 20480, 40960, 81920, 163840))

    def test_the_sweep_stays_what_it_is(self) -> None:
        """Every trial of it is the same with and without durations, and a duration that is a rung is its arm."""
        sweep = {"learningRateSweep": {"learningRates": ["1e-4", "1e-3"], "rungs": RUNGS}}
        plain = {t.digest for t in World(make_experiment(recipe=sweep)).run().trials if not t.spec.report}
        assert plain < {t.digest for t in World(lasting(["20480", "30720"])).run().trials}

    def test_between_two_rungs(self) -> None:
        """Such a duration has a piece of trunk of its own, from the rung before."""
        done = World(lasting(["15360", "40960"])).run()
        (piece,) = [t for t in done.trials if t.title == "python 1e-4 seed 0 trunk @ 12288"]
        assert (piece.tokens, piece.spec.train and piece.spec.train.start_tokens) == (12288 - 8192, 8192)
        assert 32768 in {end for end, cooled in arms(done) if not cooled}

    def test_an_appended_duration(self) -> None:
        """It begins where the trunk ended."""
        world = World(lasting(DURATIONS[:3]))
        before = {trial.digest for trial in world.run().trials}
        world.spec = lasting(DURATIONS)
        done = world.run()
        fresh = [t for t in done.trials if t.digest not in before and t.spec.train]
        assert done.complete
        assert sorted(t.tokens for t in fresh) == sorted(2 * [131072 - 65536, 163840 - 131072])


class TestGoingOn:
    """Design 4: "the trunk is extended while the last doubling's upper bound exceeds minimumEffect"."""

    def test_two_at_once_then_one_by_one(self) -> None:
        """Each question is about one more."""
        works = questions(World(lasting()).run())
        lengths = [[arm.tokens for arm in work.datasets[0].arms] for work in works]
        assert lengths == [list(map(int, DURATIONS[:count])) for count in (2, 3, 4)]

    def test_it_stops(self) -> None:
        """What gains nothing more is never trained, and the stage is decided."""
        done = World(lasting(), answer=until(81920)).run()
        assert done.complete
        assert max(end for end, _ in arms(done)) == 81920
        assert done.tokens_ahead == 0

    def test_one_duration(self) -> None:
        """It is asked about alone."""
        done = World(lasting(["40960"])).run()
        assert [[arm.tokens for arm in work.datasets[0].arms] for work in questions(done)] == [[40960]]

    def test_ahead_never_grows(self) -> None:
        """Known tokens and those ahead never grow together, however the decisions fall."""
        totals = World(lasting(stages={"screening": {}}), answer=until(81920)).totals()
        assert totals == sorted(totals, reverse=True)

    @settings(max_examples=10, deadline=None)
    @given(seed=st.integers(0, 10_000), longest=st.sampled_from([0, 40960, 81920, 163840]))
    def test_any_order_of_answers(self, seed: int, longest: int) -> None:
        """Whatever finishes first, and whoever plans, the trials are the same; none ever leaves the plan."""
        rng, slow = random.Random(seed), World(lasting(), answer=until(longest))
        seen: set[Digest] = set()
        while slow.step(lambda count: rng.randint(1, count) if count else 0):
            now = {trial.digest for trial in slow.plan().trials}
            assert seen <= now
            seen = now
        assert seen == {trial.digest for trial in World(lasting(), answer=until(longest)).run().trials}


class TestWho:
    """Datasets that go on."""

    @staticmethod
    def verdict(word: Verdict) -> Any:
        def answer(spec: CPTTrialSpec) -> Outcome:
            if spec.decide is None or spec.decide.question is not Question.SCREENING:
                return good(spec)
            return Succeeded(make_result(spec, decision=make_screened(spec.decide, word)))

        return answer

    @pytest.mark.parametrize(("word", "count"), [(Verdict.HELPS, 2), (Verdict.HURTS, 0)])
    def test_survivors_of_screening(self, word: Verdict, count: int) -> None:
        """Only they; where there is none the experiment is complete without a question."""
        done = World(lasting(stages={"screening": {}}), answer=self.verdict(word)).run()
        assert done.complete
        assert [len(work.datasets) for work in questions(done)] == ([count] * 3 if count else [])

    def test_nothing_while_somebody_must_decide(self) -> None:
        """Under onUndecided: Stop nothing more is planned."""
        stop = {"screening": {"onUndecided": "Stop"}}
        done = World(lasting(stages=stop), answer=self.verdict(Verdict.UNDECIDED)).run()
        assert done.finding is not None
        assert done.finding.reason is Reason.UNDECIDED
        assert {end for end, _ in arms(done)} == {8192, 10240, 16384, 20480}

    def test_a_dataset_that_is_too_small(self) -> None:
        """Durations that would repeat it more than 16 times are left out, and the stage says so."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            small = spec.prepare and spec.prepare.source.uri == "s3://cpt/sources/python.jsonl"
            return Succeeded(make_result(spec, numbers={"trainTokens": 1500.0})) if small else good(spec)

        done = World(lasting(), answer=answer).run()
        assert done.complete
        assert max(end for end, _ in arms(done)) == 40960  # half of 81920 is 27 times 1500
        assert "python: 81920 tokens would repeat it more than 16 times" in reason_of(done, "durationSweep")


class TestAnswers:
    """Status, best, and what failed."""

    def test_status(self) -> None:
        """The chosen duration is the dataset's, its arm the best."""
        done = World(lasting()).run()
        assert [dataset.optimal_tokens for dataset in done.datasets] == [20480, 20480]
        assert done.datasets[0].effect == "+0.6000"
        assert done.best is not None
        assert (done.best.tokens, done.best.target) == (20480, "1.4000")
        assert ("durationSweep", "Decided") in {(stage.name, stage.state) for stage in done.stages}
        assert "python: 20480 tokens at 1e-4 (Chosen)" in done.message

    def test_a_failed_arm(self) -> None:
        """It is named to the question, and the trunk is not continued past it."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            work = spec.train
            return Failed("Hang", "lost") if work and work.stop_tokens == 81920 else until(81920)(spec)

        done = World(lasting(), answer=answer).run()
        assert done.complete
        assert questions(done)[-1].datasets[0].missing_tokens == (81920,)
        assert "python at 81920 tokens: Hang: lost" in reason_of(done, "durationSweep")

    @pytest.mark.parametrize("what", ["failed", "other arms"])
    def test_a_bad_decision(self, what: str) -> None:
        """It ends the experiment, with its words."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            if spec.decide is None or spec.decide.question is not Question.DURATION:
                return good(spec)
            if what == "failed":
                return Failed("DataError", "cannot be paired")
            document = make_durations(spec.decide)
            fewer = tuple(one.model_copy(update={"arms": one.arms[:1]}) for one in document.durations or ())
            return Succeeded(make_result(spec, decision=document.model_copy(update={"durations": fewer})))

        done = World(lasting(), answer=answer).run()
        assert done.finding is not None
        assert done.finding.reason is Reason.FAILED
        assert done.finding.message.startswith("the duration sweep cannot be decided: the decision ")

    def test_order_of_the_manifest(self) -> None:
        """Datasets the other way round: the same questions."""
        turned = lasting(datasets=make_experiment().to_dict()["datasets"][::-1])
        same, other = (
            {t.digest for t in World(spec).run().trials if t.spec.type is not TrialType.PREFLIGHT}
            for spec in (lasting(), turned)
        )
        assert same == other


class TestRecipe:
    """What is refused, and what is filled in."""

    @pytest.mark.parametrize(
        ("durations", "rungs"),
        [(["1B", "4B"], ["500M", "1B", "2B"]), (["2.5B", "5B"], ["1B", "2B", "4B"])],
        ids=["half of the shortest", "1B at most"],
    )
    def test_rungs(self, durations: list[str], rungs: list[str]) -> None:
        """Design 4: "first min(1B, half of the shortest duration), η = 2, three rungs"."""
        recipe = {"learningRateSweep": {"learningRates": ["1e-4"]}, "durationSweep": {"durations": durations}}
        spec = make_experiment(recipe=recipe, training={"sequenceLength": 1000, "globalBatchSize": 10})
        assert resolve(spec).rungs == tuple(map(Tokens.parse, rungs))

    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            pytest.param(lasting(["5120", "40960"]), "is shorter than the first rung, 10240", id="short"),
            pytest.param(lasting(["41984", "42496"]), "two durations branch off at the same batch", id="close"),
            pytest.param(
                lasting(datasets=[{"name": "sql", "uri": "s3://cpt/sql", "maxTokens": "1500"}]),
                "163840 tokens repeat sql (1500) 54.6 times, at most 16 are sound",
                id="repeated",
            ),
        ],
    )
    def test_refused(self, spec: CPTExperimentSpec, words: str) -> None:
        """With what to do."""
        with pytest.raises(InvalidRecipeError, match=words.replace("(", r"\(").replace(")", r"\)")):
            resolve(spec)
