"""The planner on a world that answers every trial at once, or only some of them, in any order."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_api.conditions import Reason
from cpt_api.result import Finding as InputFinding
from cpt_api.result import Outcome as ResultOutcome
from cpt_api.result import Result
from cpt_api.trial import CPTTrialSpec, TrialType
from cpt_api.values import LearningRate
from cpt_operator.plan import Failed, Outcome, Plan, Succeeded, plan
from cpt_operator.plan.recipe import resolve
from make import make_decision, make_digest, make_experiment, make_result, outcome_diverged
from planned import CONTEXT, World, good, reason_of

TWO_RUNGS = {"learningRateSweep": {"learningRates": ["1e-4", "1e-3"], "rungs": ["10240", "20480"]}}


def trained(plan_: Plan) -> int:
    return sum(trial.tokens for trial in plan_.trials)


class TestSweep:
    """Design 4: "per dataset and rate a constant-rate trunk and a cooldown branch at each rung"."""

    def test_ends_with_a_rate_for_each_dataset(self) -> None:
        """The last decision names a trained rate for every dataset."""
        done = World(make_experiment()).run()
        assert done.complete
        assert done.finding is None
        assert {d.name: str(d.best_learning_rate) for d in done.datasets} == {"python": "1e-4", "perl": "1e-4"}
        assert done.best is not None

    def test_everything_before_a_decision_is_known_at_once(self) -> None:
        """After Preflight all trials of the first rung are in the plan, so they can be created together."""
        world = World(make_experiment())
        world.step()
        types = [trial.spec.type for trial in world.plan().trials]
        assert types.count(TrialType.PREPARE) == 4
        assert types.count(TrialType.EVALUATE) == 1
        # (2 datasets + 2 control replicates) x 2 rates x (trunk + branch)
        assert types.count(TrialType.TRAIN) == 16

    def test_later_rungs_continue_the_trunk(self) -> None:
        """No token of a shorter rung is trained twice: the second rung adds b2 - b1 and a cooldown per survivor."""
        sweep = {"learningRates": ["1e-4", "1e-3"], "rungs": ["10240", "20480"]}
        world = World(make_experiment(recipe={"learningRateSweep": sweep}))
        done = world.run()
        batch = 512
        b1, b2 = 8192, 16384
        first = (2 + 2) * 2 * (b1 + 2048)
        second = 2 * 1 * ((b2 - b1) + (20480 - b2))
        assert b1 % batch == b2 % batch == 0
        assert trained(done) == first + second

    def test_a_dropped_rate_is_not_continued(self) -> None:
        """After the first rung only the surviving rate has segments."""
        sweep = {"learningRates": ["1e-4", "1e-3"], "rungs": ["10240", "20480"]}
        world = World(make_experiment(recipe={"learningRateSweep": sweep}))
        world.run()
        late = {
            str(s.train.schedule.peak_learning_rate) for s in world.answered if s.train and s.train.stop_tokens > 10240
        }
        assert late == {"1e-4"}

    def test_a_diverged_trunk_is_the_arm(self) -> None:
        """A diverged rate is a result: its branch is not planned and the decision gets the trunk."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            hot = spec.train and str(spec.train.schedule.peak_learning_rate) == "1e-3"
            return Succeeded(outcome_diverged(spec) if hot else make_result(spec))

        world = World(make_experiment(), answer=answer)
        done = world.run()
        assert done.complete
        assert not any(
            trial.spec.train and trial.spec.train.schedule.cooldown and "1e-3" in trial.title for trial in done.trials
        )

    def test_a_failed_arm_is_named_and_the_rest_decided(self) -> None:
        """One arm that failed for good does not stop the others, and every later decision is told."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            hot = (
                spec.train
                and str(spec.train.schedule.peak_learning_rate) == "1e-3"
                and len(spec.train.phases[0].mixture) == 2
            )
            return Failed("ConfigError", "does not fit") if hot else good(spec)

        sweep = {"learningRates": ["1e-4", "3e-4", "1e-3"], "rungs": ["5120", "10240"]}
        done = World(make_experiment(recipe={"learningRateSweep": sweep}), answer=answer).run()
        assert done.complete
        assert "python at 1e-3" in reason_of(done, "learningRateSweep")
        asked = [entry for trial in done.trials if trial.spec.decide for entry in trial.spec.decide.datasets]
        assert len(asked) == 4
        assert {[str(rate) for rate in entry.missing] == ["1e-3"] for entry in asked} == {True}

    def test_a_reused_arm_without_a_table_is_scored(self) -> None:
        """An equal segment of another experiment may lack our texts: an Evaluate trial of its end fills in."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            result = make_result(spec)
            return Succeeded(result.model_copy(update={"held_out": ()}) if spec.train else result)

        done = World(make_experiment(), answer=answer).run()
        assert done.complete
        assert any(trial.spec.evaluate and trial.spec.evaluate.segment for trial in done.trials)
        assert done.best
        assert next(trial for trial in done.trials if trial.digest == done.best.digest).spec.type is TrialType.TRAIN

    def test_the_grid_is_widened_once(self) -> None:
        """A fitted optimum above the grid adds one grid point, one step further."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            if spec.decide is None:
                return good(spec)
            decision = make_decision(spec.decide)
            rates = [c.model_copy(update={"fitted_vertex": make_rate("5e-2")}) for c in decision.rates]
            return Succeeded(make_result(spec, decision=decision.model_copy(update={"rates": tuple(rates)})))

        world = World(make_experiment(), answer=answer)
        done = world.run()
        assert done.complete
        rates = {str(s.train.schedule.peak_learning_rate) for s in world.answered if s.train}
        assert rates == {"1e-4", "1e-3", "1e-2"}

    def test_a_diverged_trunk_may_have_a_checkpoint(self) -> None:
        """The last good one: nothing is cooled from it, and nothing is scored."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            hot = spec.train and str(spec.train.schedule.peak_learning_rate) == "1e-3"
            result = make_result(spec)
            diverged = {"outcome": ResultOutcome.DIVERGED, "held_out": ()}
            return Succeeded(result.model_copy(update=diverged) if hot else result)

        world = World(make_experiment(), answer=answer)
        assert world.run().complete
        assert not any(spec.evaluate and spec.evaluate.segment for spec in world.answered)

    def test_data_that_cannot_be_prepared_loses_its_arms_only(self) -> None:
        """The failure is named, the dataset is undecided, and the others have their rates."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            is_perl = spec.prepare and spec.prepare.source.uri == "s3://cpt/sources/perl.jsonl"
            return Failed("DataError", "no documents") if is_perl else good(spec)

        done = World(make_experiment(), answer=answer).run()
        assert done.complete
        assert {d.name: d.verdict for d in done.datasets} == {"python": "Chosen", "perl": "Undecided"}
        assert "perl at 1e-4: DataError: no documents" in reason_of(done, "learningRateSweep")

    def test_the_last_answers_stand_while_the_next_rung_runs(self) -> None:
        """The best arm so far, and what it cost."""
        world = World(make_experiment(recipe=TWO_RUNGS))
        while not (now := world.plan()).best:
            assert world.step()
        assert not now.complete
        assert now.best.tokens == 10_240
        assert world.run().best.tokens == 20_480  # type: ignore[union-attr]

    def test_what_lies_ahead_is_counted_from_the_beginning(self) -> None:
        """Known tokens and those ahead never grow together, so that progress never goes backwards."""
        world = World(make_experiment(recipe=TWO_RUNGS))
        totals = world.totals()
        assert totals == sorted(totals, reverse=True)
        assert world.plan().tokens_ahead == 0

    def test_a_decision_fits_into_a_pod(self) -> None:
        """Hundreds of arms are asked about in several decisions; the answers are those of one."""
        datasets = [{"name": f"d{number}", "uri": f"s3://cpt/sources/d{number}"} for number in range(100)]
        rates = {"learningRates": ["1e-5", "3e-5", "1e-4", "3e-4", "1e-3"], "rungs": ["10240"]}
        world = World(make_experiment(datasets=datasets, recipe={"learningRateSweep": rates}))
        done = world.run()
        decisions = [trial.spec for trial in done.trials if trial.spec.decide]
        assert [sum(len(d.arms) for d in s.decide.datasets) for s in decisions if s.decide] == [255, 245]
        assert max(len(json.dumps(spec.to_dict())) for spec in decisions) < 40_000
        assert all(dataset.best_learning_rate for dataset in done.datasets)

    def test_a_decision_must_answer_what_it_was_asked(self) -> None:
        """One dataset without an answer: nothing is decided, and the finding says so."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            if spec.decide is None:
                return good(spec)
            decision = make_decision(spec.decide)
            return Succeeded(make_result(spec, decision=decision.model_copy(update={"rates": decision.rates[:1]})))

        done = World(make_experiment(), answer=answer).run()
        assert done.finding is not None
        assert done.finding.reason is Reason.FAILED
        assert not done.complete

    def test_a_decision_cannot_bring_rates_into_the_race(self) -> None:
        """It was written by a user's pod: survivors that were not arms are ignored."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            if spec.decide is None:
                return good(spec)
            decision = make_decision(spec.decide)
            foreign = (make_rate("9e-1"),)
            rates = [c.model_copy(update={"survivors": c.survivors + foreign}) for c in decision.rates]
            return Succeeded(make_result(spec, decision=decision.model_copy(update={"rates": tuple(rates)})))

        world = World(make_experiment(recipe=TWO_RUNGS), answer=answer)
        assert world.run().complete
        assert {str(s.train.schedule.peak_learning_rate) for s in world.answered if s.train} == {"1e-4", "1e-3"}

    def test_defaults(self) -> None:
        """Design 4: three doublings from 1B; rates are fractions of the pretraining peak; warm-up 1 % of a rung."""
        recipe = resolve(
            make_experiment(
                model={"uri": "s3://cpt/sources/base", "peakLearningRate": "3e-4"},
                recipe={"learningRateSweep": {}},
                training={"sequenceLength": 4096, "globalBatchSize": 256},
            )
        )
        assert [round(rung / 1e9, 2) for rung in recipe.rungs] == [1.0, 2.0, 4.0]
        assert [str(rate) for rate in recipe.rates] == ["1e-5", "3e-5", "1e-4", "1.5e-4"]
        assert recipe.warmup == recipe.rungs[0] // 100
        assert (recipe.replicates, recipe.cooldown_share) == (3, Fraction(1, 5))

    def test_no_replay_means_no_control(self) -> None:
        """Without replay data every arm is the dataset alone, and the decision gets no replicates."""
        spec = make_experiment(
            replay=None,
            evaluation={
                "target": {"suite": "Heldout", "data": [{"name": "linux", "uri": "s3://cpt/sources/linux.txt"}]}
            },
        )
        world = World(spec)
        assert world.run().complete
        decide = next(s.decide for s in world.answered if s.decide)
        assert decide.controls == ()


def make_rate(text: str) -> LearningRate:
    return LearningRate.parse(text)


class TestPreflight:
    """What was resolved is frozen; findings stall until the next look."""

    def findings(self, spec: CPTTrialSpec) -> Result:
        result = make_result(spec)
        bad = InputFinding(input="perl", reason="Missing", message="s3://cpt/sources/perl.jsonl does not exist")
        kept = tuple(item for item in result.resolved if item.name != "perl")
        return result.model_copy(update={"outcome": ResultOutcome.FINDINGS, "findings": (bad,), "resolved": kept})

    def test_findings_stall_with_their_text(self) -> None:
        """The experiment says what is wrong with which input."""
        world = World(make_experiment(), answer=lambda spec: Succeeded(self.findings(spec)))
        done = world.run()
        assert done.finding is not None
        assert done.finding.reason is Reason.PREFLIGHT_FAILED
        assert "perl: s3://cpt/sources/perl.jsonl does not exist" in done.finding.message

    def test_the_next_look_asks_only_for_what_is_missing(self) -> None:
        """What was resolved before is not looked at again."""
        world = World(make_experiment(), answer=lambda spec: Succeeded(self.findings(spec)))
        world.run()
        world.context = replace(world.context, look_again=True)
        fresh = [t for t in world.plan().trials if t.digest not in world.outcomes]
        assert [i.name for t in fresh if t.spec.preflight for i in t.spec.preflight.inputs] == ["perl"]
        world.answer = good
        assert world.run().complete

    def test_an_appended_dataset_is_looked_at_alone(self) -> None:
        """Appending does only the new work: nothing that was trained changes its digest."""
        spec = make_experiment()
        world = World(spec)
        before = {trial.digest for trial in world.run().trials if trial.spec.type is TrialType.TRAIN}
        more = [*spec.to_dict()["datasets"], {"name": "sql", "uri": "s3://cpt/sources/sql.jsonl"}]
        world.spec = make_experiment(datasets=more)
        done = world.run()
        assert done.complete
        assert before <= {trial.digest for trial in done.trials}
        assert len(world.context.looks) == 2

    def test_an_appended_dataset_with_a_finding_delays_no_other(self) -> None:
        """The experiment says what is wrong; everything that was planned stays planned and is decided."""
        world = World(make_experiment())
        before = {trial.digest for trial in world.run().trials}
        more = [*world.spec.to_dict()["datasets"], {"name": "perl-2", "uri": "s3://cpt/sources/perl-2.jsonl"}]
        world.spec = make_experiment(datasets=more)
        assert before <= {trial.digest for trial in world.plan().trials}
        bad = InputFinding(input="perl-2", reason="Missing", message="nothing there")
        world.answer = lambda spec: Succeeded(make_result(spec, resolved=(), findings=(bad,)))
        done = world.run()
        assert before <= {trial.digest for trial in done.trials}
        assert done.finding is not None
        assert done.finding.reason is Reason.PREFLIGHT_FAILED
        assert not done.complete
        assert [d.best_learning_rate is not None for d in done.datasets] == [True, True, False]

    def test_rounds_that_resolved_nothing_leave_the_plan(self) -> None:
        """A manifest that stays wrong for a week makes no heap of trials."""
        world = World(make_experiment(), answer=lambda spec: Succeeded(self.findings(spec)))
        world.run()
        for _ in range(5):
            world.context = replace(world.context, look_again=True)
            world.run()
        looks = [t.spec.preflight.round for t in world.plan().trials if t.spec.preflight]
        assert looks == [1, 6]


class TestInvalid:
    """A contradiction gets a message that says what to change."""

    @pytest.mark.parametrize(
        ("changes", "want"),
        [
            pytest.param(
                {"training": {"sequenceLength": 64, "globalBatchSize": 1024}}, "cooldown", id="no batch to cool"
            ),
            pytest.param({"recipe": {"learningRateSweep": {}}}, "peakLearningRate", id="no rates"),
            pytest.param(
                {"evaluation": {"target": {"suite": "Heldout", "datasets": ["nothing"]}}},
                "'nothing'",
                id="unknown name",
            ),
            pytest.param({"evaluation": {"target": {"suite": "Heldout"}}}, "needs data or datasets", id="no text"),
            pytest.param(
                {"datasets": [{"name": "speeches", "uri": "s3://cpt/sources/a.txt"}]},
                "must be unique",
                id="two meanings",
            ),
            pytest.param(
                {"datasets": [{"name": f"d{n}", "uri": f"s3://cpt/sources/{n}.txt"} for n in range(256)]},
                "more than the 256",
                id="too many inputs",
            ),
        ],
    )
    def test_message(self, changes: dict[str, object], want: str) -> None:
        """The finding is Invalid and names the contradiction."""
        done = plan(make_experiment(**changes), CONTEXT, {})
        assert done.finding is not None
        assert done.finding.reason is Reason.INVALID
        assert want in done.finding.message


class TestLaws:
    """Design 4: "killing the planner after any step gives the same trials"."""

    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 10_000), rates=st.sets(st.sampled_from(["1e-5", "3e-5", "1e-4", "3e-4"]), min_size=1))
    def test_any_order_of_answers_gives_the_same_trials(self, seed: int, rates: set[str]) -> None:
        """Whatever finishes first, and whoever plans, the trials are the same."""
        spec = make_experiment(
            recipe={"learningRateSweep": {"learningRates": sorted(rates), "rungs": ["10240", "20480"]}}
        )
        rng = random.Random(seed)
        slow = World(spec)
        while slow.step(lambda count: rng.randint(1, count) if count else 0):
            pass
        assert {t.digest for t in slow.plan().trials} == {t.digest for t in World(spec).run().trials}

    def test_order_of_the_manifest_means_nothing(self) -> None:
        """Datasets and rates in another order give the same digests."""
        spec = make_experiment().to_dict()
        turned = make_experiment(
            datasets=spec["datasets"][::-1],
            recipe={"learningRateSweep": {"learningRates": ["0.001", "10e-5"], "rungs": ["10240"]}},
        )
        same, other = World(make_experiment()), World(turned)
        same.step()
        other.step()
        looks = {t.digest for t in same.plan().trials if t.spec.type is TrialType.PREFLIGHT}
        assert {t.digest for t in same.run().trials} - looks == {
            t.digest for t in other.run().trials if t.spec.type is not TrialType.PREFLIGHT
        }

    def test_reuse_none_salts_every_digest(self) -> None:
        """With `reuse: None` no digest equals that of another experiment."""
        shared = {t.digest for t in World(make_experiment()).run().trials}
        alone = {t.digest for t in World(make_experiment(artifacts={"reuse": "None"})).run().trials}
        assert not shared & alone

    def test_base_of_another_trial(self) -> None:
        """With model.trialName the base is that trial's digest, and no address is looked at for it."""
        world = World(make_experiment(model={"trialName": "base"}), replace(CONTEXT, base=make_digest("base")))
        assert world.run().complete
        train = next(s.train for s in world.answered if s.train)
        assert train.start.model is not None
        assert train.start.model.trial is not None
        assert train.start.model.trial.digest == make_digest("base")
