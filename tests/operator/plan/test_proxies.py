"""Strategy MergeProxy: which merges are scored, what is asked of them, and what becomes of the answer."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_api.result import Decision
from cpt_api.trial import DecideWork, Question
from cpt_operator.plan import Failed, Outcome, Plan, PlannedTrial, Succeeded
from make import make_decision, make_experiment, make_proposal, make_result, outcome_diverged
from mixes import answering, mixed, sized, weights
from planned import World, reason_of

STAGES: dict[str, Any] = {"durationSweep": None}


def by_merges(**changes: Any) -> Any:
    """Two datasets at two rates and two rungs, no durations, and a mix."""
    return mixed({"strategy": "MergeProxy"}, STAGES, **changes)


def proposing(*shares: str, **changes: Any) -> Any:
    """Answers that propose these weights, by digest of the data."""
    return answering(Question.MIXTURE_PROXY, lambda work: make_proposal(work, shares, **changes))


def merges(plan: Plan) -> list[PlannedTrial]:
    """Evaluations of merges."""
    return [trial for trial in plan.trials if trial.spec.evaluate and trial.spec.evaluate.merge]


def asked(plan: Plan, question: Question) -> DecideWork:
    """The only one."""
    (work,) = [t.spec.decide for t in plan.trials if t.spec.decide and t.spec.decide.question is question]
    return work


def cooled(plan: Plan) -> dict[str, dict[str, str]]:
    """What the mixes read that are trained to be compared, by their strategy."""
    arms = [t for t in plan.trials if t.stage == "mixing" and t.spec.train and t.spec.train.schedule.cooldown]
    return {arm.title.partition(" mix")[0]: weights(plan, arm) for arm in arms}


class TestMerges:
    """Design 4: "components are the *uncooled* trunk weights … at the one rate …, equal tokens"."""

    def test_of_uncooled_trunks(self) -> None:
        """Each input is the trunk at its first branch point, never a cooled end; weights sum to one."""
        done = World(by_merges(), answer=proposing("0.2", "0.8")).run()
        trials = {trial.digest: trial for trial in done.trials}
        for merge in merges(done):
            assert merge.spec.evaluate
            assert merge.spec.evaluate.merge
            inputs = merge.spec.evaluate.merge.inputs
            trunks = [trials[part.segment.digest].spec.train for part in inputs if part.segment and part.segment.digest]
            assert {(int(t.stop_tokens), t.schedule.cooldown) for t in trunks if t} == {(8192, None)}
            assert len({t.schedule.peak_learning_rate for t in trunks if t}) == 1
            assert sum(part.weight for part in inputs) == 1

    def test_as_many_as_it_takes(self) -> None:
        """Three for each dataset and three, the trained controls among them."""
        done = World(by_merges(), answer=proposing("0.2", "0.8")).run()
        work = asked(done, Question.MIXTURE_PROXY)
        assert len(merges(done)) == len(work.merges or ()) == 9
        found = {tuple(map(str, merge.weights)) for merge in work.merges or ()}
        assert {("0.5", "0.5"), ("1", "0"), ("0", "1")} < found
        assert found & {("0.3", "0.7"), ("0.7", "0.3")}
        assert [str(part) for part in work.prior or ()] in (["0.3", "0.7"], ["0.7", "0.3"])

    def test_nothing_is_trained_for_them(self) -> None:
        """The same sweep, and the same number of mixes, as with another strategy."""
        one = World(by_merges(), answer=proposing("0.2", "0.8")).run()
        other = World(mixed({"strategy": "Uniform"}, STAGES), answer=sized).run()
        extra = {t.digest: t for t in one.trials if t.spec.train}.keys() - {t.digest for t in other.trials}
        assert len(extra) == len([t for t in one.trials if t.title.startswith("MergeProxy mix")])

    def test_only_the_target_is_scored(self) -> None:
        """Retention is no part of the question."""
        done = World(by_merges(), answer=proposing("0.2", "0.8")).run()
        assert {len(t.spec.evaluate.texts) for t in merges(done) if t.spec.evaluate} == {1}
        assert asked(done, Question.MIXTURE_PROXY).retention is None


class TestAnswer:
    """What is proposed is trained beside the controls, and its promises are held against what these score."""

    def test_is_trained(self) -> None:
        """With replay on top; the status has the weights."""
        done = World(by_merges(), answer=proposing("0.2", "0.8")).run()
        assert done.complete
        assert sorted(cooled(done)) == ["MergeProxy", "Proportional", "Uniform"]
        assert sorted(cooled(done)["MergeProxy"].values()) == ["0.05", "0.19", "0.76"]
        assert sorted(str(share.weight) for share in done.mix) == ["0.2", "0.8"]
        assert "by merges" in reason_of(done, "mixing")

    def test_promises(self) -> None:
        """Each mix of the question about mixes has what merges promised of it."""
        work = asked(World(by_merges(), answer=proposing("0.2", "0.8")).run(), Question.MIX)
        assert sorted(str(entry.expected) for entry in work.datasets) == ["1.4", "1.5", "1.5"]

    def test_a_dataset_without_a_part(self) -> None:
        """It is not read, not even a little."""
        done = World(by_merges(), answer=proposing("0", "1")).run()
        assert done.complete
        assert sorted(cooled(done)["MergeProxy"].values()) == ["0.05", "0.95"]
        assert len(done.mix) == 1

    def test_small_datasets(self) -> None:
        """The caps of the question: nobody is read more than 16 times in the longest mix."""

        def answer(spec: Any) -> Outcome:
            if spec.prepare:
                return Succeeded(make_result(spec, numbers={"trainTokens": 4000.0}))
            return proposing("0.5", "0.5")(spec)  # type: ignore[no-any-return]

        spec = mixed({"strategy": "MergeProxy"}, STAGES | {"mixSweep": {"durations": ["102400"]}})
        done = World(spec, answer=answer).run()
        caps = [float(cap) for cap in asked(done, Question.MIXTURE_PROXY).caps or ()]
        assert all(cap * 102400 * 0.95 <= 16 * 4000 for cap in caps)
        assert sum(caps) >= 1


class TestNoAnswer:
    """Where merges cannot tell, what needs none is proposed, and the status says why."""

    def test_unfit(self) -> None:
        """Uniform is held against Proportional; with durations it is OptimalTokens that is."""
        answer = proposing("0.2", "0.8", verdict="Unfit")
        done = World(by_merges(), answer=answer).run()
        assert done.complete
        assert list(cooled(done)) == ["Uniform", "Proportional"]
        assert all(entry.expected is None for entry in asked(done, Question.MIX).datasets)
        assert "a reason" in reason_of(done, "mixing")
        lasting = World(mixed({"strategy": "MergeProxy"}), answer=answer).run()
        assert list(cooled(lasting)) == ["OptimalTokens", "Uniform", "Proportional"]

    def test_no_common_rate(self) -> None:
        """Datasets of which each diverged at the rate of the other."""

        def race(work: DecideWork) -> Decision:
            document = make_decision(work)
            lost = {
                choice.dataset: choice.arms[number % len(choice.arms)] for number, choice in enumerate(document.rates)
            }
            choices = [
                choice.model_copy(
                    update={
                        "arms": tuple(
                            arm.model_copy(update={"target": None}) if arm == lost[choice.dataset] else arm
                            for arm in choice.arms
                        )
                    }
                )
                for choice in document.rates
            ]
            return document.model_copy(update={"rates": tuple(choices)})

        done = World(by_merges(), answer=answering(Question.LEARNING_RATE, race)).run()
        assert done.complete
        assert not merges(done)
        assert "No rate has a score for every dataset" in reason_of(done, "mixing")

    def test_one_survivor(self) -> None:
        """Its mix is itself: there is nothing to merge."""
        alone = make_experiment().datasets[:1]
        done = World(by_merges(datasets=[one.to_dict() for one in alone]), answer=sized).run()
        assert done.complete
        assert not merges(done)
        assert [(share.dataset, str(share.weight)) for share in done.mix] == [("python", "1")]

    @pytest.mark.parametrize(("lost", "searched"), [(3, True), (7, False)], ids=["some", "nearly all"])
    def test_failed_evaluations(self, lost: int, *, searched: bool) -> None:
        """What is there has to do, as long as it is enough for a law; each failure is named."""
        failed: list[Any] = []

        def answer(spec: Any) -> Outcome:
            if spec.evaluate and spec.evaluate.merge and len(failed) < lost:
                failed.append(spec)
                return Failed("AttemptsExhausted", "out of memory")
            return proposing("0.2", "0.8")(spec)  # type: ignore[no-any-return]

        done = World(by_merges(), answer=answer).run()
        assert done.complete
        assert ("MergeProxy" in cooled(done)) is searched
        assert "out of memory" in reason_of(done, "mixing")
        assert searched or "only 2 of 9 merges have a score" in reason_of(done, "mixing")

    def test_a_failed_decision(self) -> None:
        """Somebody has to act."""
        answer = answering(Question.MIXTURE_PROXY, lambda _: Failed("Refused", "no such table"))
        stuck = World(by_merges(), answer=answer).run()
        assert not stuck.complete
        assert stuck.finding
        assert "no such table" in stuck.finding.message

    @pytest.mark.parametrize(
        "changes",
        [
            {"components": ()},
            {"learning_rate": "3e-3"},
            {"merges": ()},
            {"expected": -1.0},
        ],
        ids=["no mixture", "another rate", "other merges", "less than nothing"],
    )
    def test_an_answer_that_is_not_believed(self, changes: dict[str, Any]) -> None:
        """It was written under a user's identity."""

        def other(work: DecideWork) -> Decision:
            document = make_proposal(work, ["0.2", "0.8"])
            assert document.proposal
            return document.model_copy(update={"proposal": document.proposal.model_copy(update=changes)})

        stuck = World(by_merges(), answer=answering(Question.MIXTURE_PROXY, other)).run()
        assert not stuck.complete
        assert stuck.finding
        assert "does not answer what it was asked" in stuck.finding.message

    def test_too_much_of_one(self) -> None:
        """An answer above a cap is none."""

        def answer(spec: Any) -> Outcome:
            if spec.prepare:
                return Succeeded(make_result(spec, numbers={"trainTokens": 4000.0}))
            return proposing("0", "1")(spec)  # type: ignore[no-any-return]

        spec = mixed({"strategy": "MergeProxy"}, STAGES | {"mixSweep": {"durations": ["102400"]}})
        assert World(spec, answer=answer).run().finding


class TestTrunksThatCannotBeMerged:
    """Diverged and failed arms of the sweep."""

    def test_a_rate_that_diverged(self) -> None:
        """It is not the common one; the other is."""

        def answer(spec: Any) -> Outcome:
            if spec.train and str(spec.train.schedule.peak_learning_rate) == "1e-3":
                return Succeeded(outcome_diverged(spec))
            return proposing("0.2", "0.8")(spec)  # type: ignore[no-any-return]

        done = World(by_merges(), answer=answer).run()
        assert done.complete
        for merge in merges(done):
            assert "merge of" in merge.title


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_the_order_of_answers_means_nothing(seed: int) -> None:
    """Killing the planner after any step and going on gives the same trials."""
    draw = random.Random(seed)
    answer = proposing("0.2", "0.8")
    straight, halting = World(by_merges(), answer=answer).run(), World(by_merges(), answer=answer)
    while halting.step(lambda count: draw.randint(min(1, count), count)):
        pass
    assert {t.digest for t in halting.plan().trials} == {t.digest for t in straight.trials}
