"""Mix sweep: at which rate, and how long, to train on the mix. The sweep and the durations of datasets, about the mix.

    4 rates at 1B, then durations of 5B and 10B        4 arms of 1B; one trunk to 8B with branches at 5B and 10B
    one rate and durations                             the rate is taken as it is
    one rate and one duration                          one run

The run noise is that of the control's replicates, which the sweep before has trained.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cpt_api.values import Digest, LearningRate, Tokens
from cpt_operator.plan.durations import Durations, plan_durations
from cpt_operator.plan.durations import tokens_at_most as durations_at_most
from cpt_operator.plan.question import Controls
from cpt_operator.plan.recipe import Recipe
from cpt_operator.plan.segments import Segments
from cpt_operator.plan.subjects import MIX, Subject
from cpt_operator.plan.sweep import Sweep, plan_sweep
from cpt_operator.plan.types import NO_TOKENS

STAGE = "mixSweep"


@dataclass(frozen=True, slots=True)
class MixSweep:
    """How far it is."""

    sweep: Sweep | None = None
    """Of rates; None where one is taken as it is, or nothing is known yet."""
    durations: Durations | None = None
    """None without, and while the rate is open."""
    decided: bool = False
    tokens_ahead: Tokens = NO_TOKENS
    """That later rungs and durations train at most."""
    rungs: tuple[Tokens, ...] = ()
    """Of the sweep."""
    nothing: str = ""
    """Why there is nothing to train on."""

    @property
    def _parts(self) -> tuple[Sweep | Durations, ...]:
        return tuple(part for part in (self.sweep, self.durations) if part)

    @property
    def is_trained(self) -> bool:
        """There is a mix, and something was decided about it."""
        return bool(self._parts) and not self.nothing

    @property
    def decision(self) -> Digest | None:
        """The latest Decide trial that has answered."""
        return next((part.decision for part in reversed(self._parts) if part.decision), None)

    @property
    def sentence(self) -> str:
        """For people."""
        return self.nothing or " ".join(dict.fromkeys(filter(None, (part.sentence for part in self._parts))))

    @property
    def remedy(self) -> str:
        """What to do where no rate, or no duration, can be chosen; empty where one can."""
        answers = [answer for part in self._parts for answer in part.answers.values()]
        if not self.decided or all(answer.choice.chosen is not None for answer in answers):
            return ""
        return f"{MIX} diverged: append lower rates to mixSweep.learningRates"

    @property
    def failures(self) -> tuple[str, ...]:
        """What failed for good, and what was refused, in words."""
        return tuple(text for part in self._parts for text in part.failures)

    @property
    def obstacle(self) -> str | None:
        """Why it cannot be decided."""
        return next((part.obstacle for part in self._parts if part.obstacle), None)


def plan_mix_sweep(segments: Segments, mix: Subject | None, controls: Controls) -> MixSweep:
    """Add arms and decisions about the mix, as far as the outcomes reach; `mix`: None where nothing survived."""
    if mix is None:
        return MixSweep(decided=True, nothing="There is no mix to train on.")
    own = replace(
        segments,
        inputs=replace(segments.inputs, recipe=segments.recipe.for_mix()),
        subjects={MIX: mix},
        stage=STAGE,
        about=MIX,
        points={},
    )
    recipe = own.recipe
    assert recipe.mix is not None, "there is mixing"
    if not recipe.mix.is_raced:
        return _with_durations(own, MixSweep(), recipe.rates[0], controls)
    sweep = plan_sweep(own, controls)
    made = MixSweep(sweep=sweep, rungs=recipe.rungs)
    if not sweep.decided:
        return replace(made, tokens_ahead=Tokens(sweep.tokens_ahead + durations_at_most(recipe, 1)))
    answer = sweep.answers.get(MIX)
    if not recipe.durations or answer is None or answer.choice.chosen is None:
        return replace(made, decided=True)
    return _with_durations(own, made, answer.choice.chosen, controls)


def _with_durations(segments: Segments, made: MixSweep, rate: LearningRate, controls: Controls) -> MixSweep:
    durations = plan_durations(segments, {MIX: rate}, controls)
    return replace(made, durations=durations, decided=durations.decided, tokens_ahead=durations.tokens_ahead)


def tokens_at_most(recipe: Recipe) -> Tokens:
    """All rates to the last rung and all durations, while no mix is known."""
    own = recipe.for_mix()
    assert own.mix is not None, "there is mixing"
    if not own.mix.is_raced:
        return durations_at_most(own, 1, swept=False)
    swept = len(own.rates) * sum(own.tokens_of_rung(number) for number in range(len(own.rungs)))
    return Tokens(swept + durations_at_most(own, 1))
