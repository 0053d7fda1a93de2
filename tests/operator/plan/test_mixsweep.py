"""The stage mixSweep: the sweep and the durations of datasets, about the mix."""

from __future__ import annotations

from typing import Any

import pytest

from cpt_api.digest import mix_digest, subject_digest
from cpt_api.trial import CPTTrialSpec, DecideWork, Question
from cpt_operator.plan import Failed, Outcome, Plan, PlannedTrial, Succeeded
from make import make_experiment, make_result, outcome_diverged
from mixes import explicit, mixed, sized, weights
from planned import World, reason_of

SWEPT = {"mixSweep": {"rungs": ["10240", "20480"], "durations": ["40960", "81920"]}}


def trained(plan: Plan) -> list[PlannedTrial]:
    """In this stage."""
    return [trial for trial in plan.trials if trial.stage == "mixSweep" and trial.spec.train]


def ends(plan: Plan, *, cooled: bool) -> list[int]:
    """Of segments of the chosen rate, trunks or branches."""
    works = [trial.spec.train for trial in trained(plan) if "1e-4" in trial.title]
    return sorted(int(work.stop_tokens) for work in works if work and (work.schedule.cooldown is not None) is cooled)


def questions(plan: Plan, question: Question) -> list[DecideWork]:
    """About the mix."""
    works = [trial.spec.decide for trial in plan.trials if trial.spec.decide and trial.stage == "mixSweep"]
    return [work for work in works if work.question is question]


class TestArms:
    """Design 4: "rates at 1B, then durations", "as above on the mix"."""

    def test_race_and_durations(self) -> None:
        """A race over the rungs, then one trunk at the chosen rate with a branch per duration."""
        done = World(mixed(stages=SWEPT), answer=sized).run()
        assert done.complete
        # the first rung of the chosen mix was trained beside the controls
        assert ends(done, cooled=True) == [20480, 40960, 81920]
        assert [work.last for work in questions(done, Question.LEARNING_RATE)] == [False, True]
        (work,) = questions(done, Question.DURATION)
        assert (work.rates, work.picked_at, [c.tokens for c in work.controls]) == (2, 20480, [10240, 10240])

    def test_the_subject(self) -> None:
        """Questions and answers call the mix by what it reads, replay data among it."""
        done = World(mixed(stages=SWEPT), answer=sized).run()
        works = [*questions(done, Question.LEARNING_RATE), *questions(done, Question.DURATION)]
        read = {mix_digest(trial.spec.train.phases) for trial in trained(done) if trial.spec.train}
        assert {subject_digest(entry) for work in works for entry in work.datasets} == read
        assert len(read) == 1

    def test_best(self) -> None:
        """It may be the mix: then it has no dataset."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            outcome = sized(spec)
            if spec.decide and any(entry.phases for entry in spec.decide.datasets) and isinstance(outcome, Succeeded):
                document = outcome.result.decision
                assert document
                choices = tuple(
                    choice.model_copy(
                        update={"arms": tuple(arm.model_copy(update={"target": 1.1}) for arm in choice.arms)}
                    )
                    for choice in document.durations or ()
                )
                if choices:
                    return Succeeded(make_result(spec, decision=document.model_copy(update={"durations": choices})))
            return outcome

        done = World(mixed(stages=SWEPT), answer=answer).run()
        assert done.best is not None
        assert (done.best.dataset, done.best.target, done.best.tokens) == (None, "1.1000", 81920)
        assert "the mix (perl " in done.message

    def test_an_appended_duration(self) -> None:
        """It begins where the trunk ended."""
        world = World(mixed(stages=SWEPT), answer=sized)
        before = {trial.digest for trial in world.run().trials}
        longer = SWEPT["mixSweep"] | {"durations": ["40960", "81920", "163840"]}
        world.spec = mixed(stages={"mixSweep": longer})
        done = world.run()
        fresh = [t.tokens for t in done.trials if t.digest not in before and t.spec.train]
        assert done.complete
        assert sorted(fresh) == sorted([131072 - 65536, 163840 - 131072])

    def test_too_little_data(self) -> None:
        """Durations that would repeat the mix more than 16 times are left out, and the stage says so."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            return Succeeded(make_result(spec, numbers={"trainTokens": 2000.0})) if spec.prepare else sized(spec)

        done = World(mixed(stages=SWEPT), answer=answer).run()
        assert done.complete
        assert max(ends(done, cooled=True)) == 40960
        assert "the mix: 81920 tokens would repeat it more than 16 times" in reason_of(done, "mixSweep")


class TestExplicit:
    """Design 4: "`Explicit` (with phases: concatenation is one)"; design 2: "is one run"."""

    def test_one_run(self) -> None:
        """A trunk and its cooldown: no sweep, no control, one question about its gain."""
        done = World(explicit([(None, [("python", "8"), ("perl", "40")])])).run()
        assert done.complete
        assert [(t.title, t.tokens) for t in done.trials if t.spec.train] == [
            ("the mix 1e-4 seed 0 trunk @ 32768", 32768),
            ("the mix 1e-4 seed 0 cooled @ 40960", 8192),
        ]
        assert [stage.name for stage in done.stages] == ["preflight", "mixing", "mixSweep", "report"]
        assert done.tokens_naive == 40960
        assert done.best is not None
        assert done.best.dataset is None

    def test_weights(self) -> None:
        """As written, in what replay data leaves."""
        done = World(explicit([(None, [("python", "8"), ("perl", "40")])])).run()
        found = weights(done, trained(done)[0])
        assert found == {"python": "0.158333333333", "perl": "0.791666666667", "speeches": "0.05"}
        assert [(share.dataset, str(share.weight)) for share in done.mix] == [("perl", "0.8333"), ("python", "0.1667")]

    def test_phases(self) -> None:
        """One after another, from token zero of the run on, in every segment."""
        done = World(explicit([("20480", [("python", "1")]), (None, [("perl", "1")])])).run()
        works = [trial.spec.train for trial in trained(done)]
        assert [[phase.until_tokens for phase in work.phases] for work in works if work] == [[20480, None]] * 2
        assert [(share.phase, share.dataset) for share in done.mix] == [(1, "python"), (2, "perl")]

    def test_rates_without_a_sweep(self) -> None:
        """Several rates are raced at the mix's own rung, with a control for the run noise."""
        sweep = {"learningRates": ["1e-4", "1e-3"], "rungs": ["10240"], "durations": ["40960"]}
        done = World(explicit([(None, [("perl", "1")])], mixSweep=sweep)).run()
        assert done.complete
        (work,) = questions(done, Question.LEARNING_RATE)
        assert [len(control.trials) for control in work.controls] == [2, 2]
        assert done.tokens_naive == 2 * 10240 + 40960

    def test_after_other_stages(self) -> None:
        """It is taken as written, whoever survived."""
        phases = {"strategy": "Explicit", "phases": [{"weights": [{"dataset": "perl", "weight": "1"}]}]}
        done = World(mixed(phases, {"screening": {}, "mixSweep": {}}), answer=sized).run()
        assert done.complete
        assert [stage.name for stage in done.stages][1:-1] == [
            *("learningRateSweep", "screening", "durationSweep", "mixing", "mixSweep"),
        ]


class TestSoup:
    """Design 4: "candidates: all cooled branches of the mix sweep × weights"."""

    def test_candidates(self) -> None:
        """Every duration of the mix, and no dataset's; one entry of the question, called by what the mix reads."""
        done = World(mixed(stages={**SWEPT, "soup": {"weights": ["0.5", "1"]}}), answer=sized).run()
        assert done.complete
        (work,) = (t.spec.decide for t in done.trials if t.spec.decide and t.spec.decide.question is Question.SOUP)
        (entry,) = work.datasets
        (mix,) = {mix_digest(trial.spec.train.phases) for trial in trained(done) if trial.spec.train}
        assert subject_digest(entry) == mix
        assert [(arm.tokens, str(arm.weight)) for arm in entry.arms] == [
            (tokens, weight) for tokens in (40960, 81920) for weight in ("0.5", "1")
        ]

    def test_released(self) -> None:
        """The best is a mean of the mix: it has a weight and no dataset."""
        run = explicit([(None, [("python", "1"), ("perl", "1")])], soup={"weights": ["0.5"]})
        done = World(run).run()
        assert done.complete
        assert done.best is not None
        assert (done.best.dataset, str(done.best.soup_weight), done.best.tokens) == (None, "0.5", 40960)
        assert "soup: 0.5 of the mix 1e-4 @ 40960 is released" in done.message


class TestEnds:
    """Every way to end has its words."""

    @pytest.mark.parametrize("what", ["failed", "diverged"])
    def test_lost(self, what: str) -> None:
        """Failed for good is an obstacle; diverged is a result."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            if spec.train is None:
                return decided(spec)
            return Failed("Hang", "lost") if what == "failed" else Succeeded(outcome_diverged(spec))

        def decided(spec: CPTTrialSpec) -> Outcome:
            if spec.decide is None or what == "failed":
                return sized(spec)
            document: Any = make_result(spec).decision
            gone = tuple(
                one.model_copy(update={"chosen": None, "verdict": "AllDiverged", "survivors": (), "gain": None})
                for one in document.rates
            )
            return Succeeded(make_result(spec, decision=document.model_copy(update={"rates": gone})))

        sweep = {"learningRates": ["1e-4", "1e-3"], "rungs": ["10240"], "durations": ["40960"]}
        done = World(explicit([(None, [("perl", "1")])], mixSweep=sweep), answer=answer).run()
        if what == "diverged":
            assert done.complete
            assert done.best is None
            assert "every rate diverged" in done.message
            assert "append lower rates to mixSweep.learningRates" in done.message
            assert "append lower rates to mixSweep.learningRates" in reason_of(done, "mixSweep")
        else:
            assert done.finding is not None
            assert done.finding.message.startswith(
                "the mix sweep cannot be decided: no arm is left; the mix at 1e-4: Hang"
            )

    def test_a_lost_duration(self) -> None:
        """The others are decided, and it is named."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            lost = spec.train and spec.train.stop_tokens == 81920
            return Failed("Hang", "lost") if lost else sized(spec)

        done = World(mixed(stages=SWEPT), answer=answer).run()
        assert done.complete
        assert "the mix at 81920 tokens: Hang: lost" in reason_of(done, "mixSweep")

    def test_naive(self) -> None:
        """The study's protocol: mix rates to their last rung and every duration, each its own run."""
        plain = World(make_experiment(recipe=mixed().to_dict()["recipe"] | {"mixing": {}}), answer=sized).run()
        done = World(mixed(stages=SWEPT), answer=sized).run()
        assert done.tokens_naive - plain.tokens_naive == 2 * 20480 + 40960 + 81920
