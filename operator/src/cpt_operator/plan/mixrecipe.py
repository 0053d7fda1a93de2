"""What a recipe says about the mix, with every default filled in.

mixing: {}, mixSweep: {durations: [5B, 10B]}, after a sweep of four rates whose first rung is 1B
    proposal by OptimalTokens; the same four rates at 1B; then durations of 5B and 10B

mixing: {strategy: Explicit, phases: […]}, mixSweep: {learningRates: [1e-4], durations: [10B]}
    one run, where there is no other stage
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from cpt_api.experiment import CPTExperimentSpec, MixPhase, MixStrategy
from cpt_api.values import LearningRate, Share, Tokens
from cpt_operator.plan.lengths import InvalidRecipeError, first_rung, whole_batches

_SHARE = Share.parse("0.05")
"""Of replay in a mix."""


@dataclass(frozen=True, slots=True)
class MixRecipe:
    """Of the stages mixing and mixSweep."""

    strategy: MixStrategy
    phases: tuple[MixPhase, ...]
    """Explicit: as written."""
    share: Fraction
    """Of replay data; 0 without."""
    is_swept: bool
    """There is a mixSweep."""
    rates: tuple[LearningRate, ...]
    """Rising."""
    rungs: tuple[Tokens, ...]
    """Rising, each a whole number of global batches; where no rates are compared the shortest duration."""
    control_tokens: Tokens
    """Where the control has its replicates: the first rung of the sweep before, or what is as short without one."""
    durations: tuple[Tokens, ...]
    """The same; empty where the mix ends at its last rung."""

    @property
    def is_raced(self) -> bool:
        """Rates are compared; one alone is taken as it is where there are durations."""
        return self.is_swept and (len(self.rates) > 1 or not self.durations)

    @property
    def points(self) -> int:
        """Cooled ends of the mix sweep, where no rate is dropped."""
        return (len(self.rates) * len(self.rungs) if self.is_raced else 0) + len(self.durations)

    @property
    def longest(self) -> Tokens | None:
        """Total tokens that the mix may be trained for."""
        return max((*self.rungs, *self.durations)) if self.is_swept else None

    @property
    def naive(self) -> int:
        """Tokens by the study's protocol: each point its own run, but a rate's rungs one."""
        raced = len(self.rates) * self.rungs[-1] if self.is_raced else 0
        return raced + sum(self.durations)


def resolve_mix(
    spec: CPTExperimentSpec, rates: tuple[LearningRate, ...], rungs: tuple[Tokens, ...], batch_tokens: int
) -> MixRecipe | None:
    """None without mixing. `rates` and `rungs` are those of the sweep before, empty without one."""
    mixing, sweep = spec.recipe.mixing, spec.recipe.mix_sweep
    strategy = (mixing.strategy or MixStrategy.OPTIMAL_TOKENS) if mixing else None
    if spec.recipe.learning_rate_sweep is None and (strategy is not MixStrategy.EXPLICIT or sweep is None):
        raise InvalidRecipeError(
            "without recipe.learningRateSweep there is nothing to do but an Explicit mix: add the sweep, or "
            "mixing.strategy Explicit and a mixSweep"
        )
    if spec.recipe.learning_rate_sweep is None and (spec.recipe.screening or spec.recipe.duration_sweep):
        raise InvalidRecipeError("recipe.screening and recipe.durationSweep go on from a learningRateSweep: add one")
    if mixing is None or strategy is None:
        if sweep is not None:
            raise InvalidRecipeError("recipe.mixSweep trains on the mix: add recipe.mixing, which says what that is")
        return None
    _check_strategy(spec, strategy, mixing.phases, batch_tokens)
    durations = whole_batches((sweep.durations if sweep else None) or (), batch_tokens)
    given = whole_batches((sweep.rungs if sweep else None) or (), batch_tokens)
    first = rungs[:1] or given[:1] or whole_batches([first_rung(durations)], batch_tokens)
    rates = tuple(sorted(set((sweep.learning_rates if sweep else None) or rates)))
    is_raced = len(rates) > 1 or not durations
    mix = MixRecipe(
        strategy=strategy,
        phases=mixing.phases or (),
        share=_share(spec),
        is_swept=sweep is not None,
        rates=rates,
        rungs=(given or first) if is_raced else durations[:1],
        control_tokens=first[0],
        durations=durations,
    )
    _check_lengths(mix)
    return mix


def _share(spec: CPTExperimentSpec) -> Fraction:
    if spec.replay is None:
        return Fraction(0)
    return (_SHARE if spec.replay.share is None else spec.replay.share).fraction


def _check_strategy(
    spec: CPTExperimentSpec, strategy: MixStrategy, phases: tuple[MixPhase, ...] | None, batch_tokens: int
) -> None:
    if (strategy is MixStrategy.EXPLICIT) != (phases is not None):
        raise InvalidRecipeError("recipe.mixing.phases go with strategy Explicit, and only with it")
    if strategy is MixStrategy.OPTIMAL_TOKENS and spec.recipe.duration_sweep is None:
        raise InvalidRecipeError(
            "recipe.mixing.strategy OptimalTokens weighs datasets by their chosen durations: add a durationSweep, or "
            "take Uniform or Proportional"
        )
    names = {dataset.name for dataset in spec.datasets}
    for number, phase in enumerate(phases or (), start=1):
        _check_phase(f"recipe.mixing.phases[{number - 1}]", phase, names, is_last=number == len(phases or ()))
    ends = [phase.until_tokens for phase in phases or () if phase.until_tokens is not None]
    if ends != sorted(ends) or len(whole_batches(ends, batch_tokens)) < len(ends):
        raise InvalidRecipeError(
            "recipe.mixing.phases: untilTokens must rise from phase to phase, by a batch of "
            f"{batch_tokens} tokens at least"
        )


def _check_phase(where: str, phase: MixPhase, names: Iterable[str], *, is_last: bool) -> None:
    given = [part.dataset for part in phase.weights]
    if unknown := sorted(set(given) - set(names)):
        raise InvalidRecipeError(f"{where} names {unknown[0]!r}, which is none of spec.datasets: add it there")
    if twice := sorted({name for name in given if given.count(name) > 1}):
        raise InvalidRecipeError(f"{where} names {twice[0]!r} twice: give it one weight")
    if none := [part.dataset for part in phase.weights if part.weight == 0]:
        raise InvalidRecipeError(f"{where} gives {none[0]!r} a weight of 0: what takes no part is left out")
    if (phase.until_tokens is None) != is_last:
        raise InvalidRecipeError(f"{where}: every phase but the last needs untilTokens, and only those")


def _check_lengths(mix: MixRecipe) -> None:
    if mix.share == 1:
        raise InvalidRecipeError("replay.share 1 leaves no place for the mix: take less than 1")
    if not mix.rates:
        raise InvalidRecipeError("recipe.mixSweep has no learningRates, and there is no learningRateSweep: give some")
    if mix.is_raced and mix.durations and mix.durations[0] < mix.rungs[0]:
        raise InvalidRecipeError(
            f"mixSweep: duration {mix.durations[0]} is shorter than the first rung, {mix.rungs[0]}: leave it out, or "
            "begin mixSweep.rungs lower"
        )
