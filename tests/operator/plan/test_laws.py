"""What holds of every recipe: of those that are, and of stages that come later (tests/recipes.py)."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cpt_api.experiment import CPTExperimentSpec
from cpt_api.trial import TrialType
from cpt_api.values import Digest, LearningRate, Tokens
from cpt_operator.plan import Failed, Outcome, Plan, PlannedTrial, Succeeded, plan
from cpt_operator.plan.lengths import InvalidRecipeError
from cpt_operator.plan.recipe import resolve
from make import make_experiment
from planned import CONTEXT, World
from recipes import RATES, Fate, Manifest, calm, manifests, turned

STEPS_MAX = 40
SEEDS = st.integers(0, 10_000)
OWN = (TrialType.PREFLIGHT, TrialType.REPORT)
"""Trials that belong to one experiment."""


def valid(manifest: Manifest) -> CPTExperimentSpec:
    spec = make_experiment(**manifest)
    try:
        resolve(spec)
    except InvalidRecipeError:
        assume(False)
    return spec


def ended(world: World) -> tuple[Plan, int]:
    """The last plan, and the steps that it took."""
    for step in range(STEPS_MAX):
        if not world.step():
            return world.plan(), step
    raise AssertionError(f"the plan does not end within {STEPS_MAX} steps")


def waits_for_what_failed(world: World, plan: Plan) -> bool:
    """A trial that is stalled for good, with reason InputFailed: somebody must look after its input."""
    return any(
        isinstance(world.outcomes.get(need), Failed)
        for trial in plan.trials
        if trial.digest not in world.outcomes
        for need in trial.needs
    )


def shared(plan: Plan) -> set[Digest]:
    """Of trials that another experiment could have."""
    return {trial.digest for trial in plan.trials if trial.spec.type not in OWN}


def trained(plan: Plan) -> dict[Digest, int]:
    """Lines of datasets and of the control: what a mix is made of, at which rate, and what is repeated on other bases,
    hangs on all of them."""
    return {trial.digest: trial.tokens for trial in alone(plan)}


def alone(plan: Plan) -> list[PlannedTrial]:
    return [trial for trial in plan.trials if trial.tokens and trial.stage not in ("mixing", "mixSweep", "scaling")]


def with_models(manifest: Manifest, models: list[Manifest]) -> Manifest:
    return {**manifest, "recipe": {**manifest["recipe"], "scaling": {"models": models}}}


class TestEnd:
    """Issue 4: "each ends in a clear state with a reason and what to do; nothing hangs"."""

    @settings(max_examples=150, deadline=None)
    @given(manifest=manifests(), seed=SEEDS, luck=st.sampled_from([0.4, 0.8, 0.95, 1.0]))
    def test_every_plan_ends(self, manifest: Manifest, seed: int, luck: float) -> None:
        """Whatever succeeds, diverges, fails or answers nonsense: complete, or a finding, or a trial that says why."""
        world = World(valid(manifest), answer=Fate(seed, luck))
        done, _ = ended(world)
        stuck = waits_for_what_failed(world, done)
        assert done.complete or done.finding or stuck, done.stages
        assert not (done.complete and done.finding)
        if done.complete:
            assert done.message
            assert done.tokens_ahead == 0
            assert all(stage.state in ("Decided", "Failed") for stage in done.stages)
        if done.finding:
            assert len(done.finding.message) > 20


class TestForecast:
    """`kubectl cpt plan`: what will be planned, without waiting for it."""

    @settings(max_examples=60, deadline=None)
    @given(manifest=manifests(), seed=SEEDS)
    def test_all_turns_in_one(self, manifest: Manifest, seed: int) -> None:
        """Told how each trial will end, the planner says at once what it says in the end."""
        world = World(valid(manifest), answer=Fate(seed, luck=1.0))
        in_turns, _ = ended(world)
        at_once = plan(world.spec, world.context, lambda trial: world.answer(trial.spec))
        assert at_once == in_turns


class TestRestart:
    """Design 4: "killing the planner after any step gives the same trials"."""

    @settings(max_examples=60, deadline=None)
    @given(manifest=manifests(), seed=SEEDS)
    def test_killed_after_any_step(self, manifest: Manifest, seed: int) -> None:
        """Another planner goes on from what is known, in whatever order the answers come."""
        spec = valid(manifest)
        whole = World(spec, answer=Fate(seed))
        want, _ = ended(whole)
        rng = random.Random(seed)
        world = World(spec, answer=Fate(seed))
        more = True
        while more:
            more = world.step(lambda count: rng.randint(1, count) if count else 0)
            heir = World(spec, world.context, Fate(seed))
            heir.outcomes = dict(sorted(world.outcomes.items()))
            assert heir.plan() == world.plan()
            world = heir
        assert [trial.digest for trial in world.plan().trials] == [trial.digest for trial in want.trials]

    @settings(max_examples=60, deadline=None)
    @given(manifest=manifests(), seed=SEEDS)
    def test_order_means_nothing(self, manifest: Manifest, seed: int) -> None:
        """Every list of the manifest turned round: the same trials, in a new experiment and in a live one."""
        spec, other = valid(manifest), valid(turned(manifest, seed))
        world, fresh = World(spec, answer=Fate(seed)), World(other, answer=Fate(seed))
        done, _ = ended(world)
        assert shared(ended(fresh)[0]) == shared(done)
        world.spec = other
        live = world.plan()
        assert {trial.digest for trial in live.trials} == {trial.digest for trial in done.trials}
        assert {d.name: d for d in live.datasets} == {d.name: d for d in done.datasets}


class TestSharing:
    """Design 2: equal trials of a namespace are one."""

    @settings(max_examples=40, deadline=None)
    @given(manifest=manifests(), seed=SEEDS)
    def test_the_second_trains_nothing(self, manifest: Manifest, seed: int) -> None:
        """An identical experiment finds all done: it looks, and makes its page."""
        spec = valid(manifest)
        first = World(spec, answer=Fate(seed))
        ended(first)
        paid: list[TrialType] = []

        def stored(trial: object) -> Outcome:
            outcome = Fate(seed)(trial)  # type: ignore[arg-type]
            digest = outcome.result.digest if isinstance(outcome, Succeeded) else None
            if digest not in first.outcomes and isinstance(outcome, Succeeded):
                paid.append(outcome.result.type)
            return replace(outcome, reused=True) if isinstance(outcome, Succeeded) else outcome

        second = World(spec, replace(CONTEXT, experiment_uid="uid-2", experiment="second"), stored)
        done, _ = ended(second)
        assert set(paid) <= set(OWN)
        assert shared(done) == shared(first.plan())

    @settings(max_examples=40, deadline=None)
    @given(manifest=manifests(), seed=SEEDS)
    def test_an_appended_dataset(self, manifest: Manifest, seed: int) -> None:
        """Whatever became of the others, all that they trained stays what it is; new tokens are the new one's."""
        world = World(valid(manifest), answer=Fate(seed, luck=1.0))
        before, _ = ended(world)
        assume(not before.finding)
        more = [*manifest["datasets"], {"name": "added", "uri": "s3://cpt/sources/added.jsonl"}]
        world.spec = valid({**manifest, "datasets": more})
        after, _ = ended(world)
        assume(not after.finding)  # under onUndecided: Stop the new one may stop all of it
        assert trained(before).items() <= trained(after).items()
        new = [trial for trial in alone(after) if trial.digest not in trained(before)]
        assert all(trial.title.startswith(("added ", "the control ")) for trial in new)

    @settings(max_examples=40, deadline=None)
    @given(manifest=manifests(), seed=SEEDS)
    def test_an_appended_rate(self, manifest: Manifest, seed: int) -> None:
        """Only lines at that rate are new."""
        sweep = manifest["recipe"]["learningRateSweep"]
        rate = random.Random(seed).choice([rate for rate in RATES if rate not in sweep["learningRates"]])
        answer = calm(LearningRate.parse(sweep["learningRates"][0]))
        world = World(valid(manifest), answer=answer)
        before, _ = ended(world)
        wider = {**sweep, "learningRates": [*sweep["learningRates"], rate]}
        world.spec = valid({**manifest, "recipe": {**manifest["recipe"], "learningRateSweep": wider}})
        after, _ = ended(world)
        assert after.complete
        assert trained(before).items() <= trained(after).items()
        new = {digest for digest in trained(after) if digest not in trained(before)}
        rates = {t.spec.train.schedule.peak_learning_rate for t in after.trials if t.digest in new and t.spec.train}
        assert rates == {LearningRate.parse(rate)}

    @settings(max_examples=40, deadline=None)
    @given(manifest=manifests(), seed=SEEDS)
    def test_an_appended_model(self, manifest: Manifest, seed: int) -> None:
        """Only lines on that base are new."""
        models = manifest["recipe"].get("scaling", {}).get("models", [])
        world = World(valid(with_models(manifest, models)), answer=Fate(seed, luck=1.0))
        before, _ = ended(world)
        world.spec = valid(with_models(manifest, [*models, {"name": "added", "uri": "s3://cpt/added"}]))
        after, _ = ended(world)
        new = [trial for trial in after.trials if trial.tokens and trial not in before.trials]
        assert all(trial.title.startswith("added: ") for trial in new)
        assert {trial.digest for trial in before.trials if trial.tokens} <= {trial.digest for trial in after.trials}

    @settings(max_examples=40, deadline=None)
    @given(manifest=manifests(), count=st.integers(1, 2))
    def test_an_appended_duration(self, manifest: Manifest, count: int) -> None:
        """Each trunk goes on from its last end: no token up to there is trained again."""
        rate = LearningRate.parse(manifest["recipe"]["learningRateSweep"]["learningRates"][0])
        durations = manifest["recipe"].get("durationSweep", {}).get("durations", ["40960"])
        recipe = {**manifest["recipe"], "durationSweep": {"durations": durations}}
        world = World(valid({**manifest, "recipe": recipe}), answer=calm(rate))
        before, _ = ended(world)
        longer = [*durations, "327680", "655360"][: len(durations) + count]
        world.spec = valid({**manifest, "recipe": {**recipe, "durationSweep": {"durations": longer}}})
        after, _ = ended(world)
        assert after.complete
        assert trained(before).items() <= trained(after).items()
        point = resolve(world.spec).branch_point
        last, added = max(map(Tokens.parse, durations)), [Tokens.parse(text) for text in longer[len(durations) :]]
        beyond = point(added[-1]) - point(last) + sum(duration - point(duration) for duration in added)
        new = sum(trained(after).values()) - sum(trained(before).values())
        assert new == len(manifest["datasets"]) * beyond
