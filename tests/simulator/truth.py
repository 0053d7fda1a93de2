"""What is true in a world. All losses are bits per byte.

    loss(rate, tokens) = base - gain (tokens / end)^0.3 + curvature (log2 rate - log2 best)^2

    a mix                the mean of its parts' losses + bent (distance to the best mix)^2 - bent

    a merge of trunks    the same for its weights + the sum of h w^2, where a dataset's h is drawn once for all merges

    best moves by `drift` doublings of the rate per doubling of the tokens; `end` is the last rung. A curve may
    saturate: from some multiple of the last rung on more tokens change nothing.

A mean of weight w of a model and the base keeps w (1 + bend (1 - w)) of what the model gained, which may be more than
all of it, and w^forgets of what it forgot.

A document's loss follows the recipe's with a slope of its own (mean 1), so paired differences vary between documents.
Three noises are independent knobs: of a run (its trunk), of a cooled end, and of a run on one document. A mean has its
model's in proportion to the weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

BASE_LOSS = 3.0


@dataclass(frozen=True, slots=True)
class Curve:
    """One dataset."""

    best_rate: float
    curvature: float
    """Loss at one doubling of the rate away from the best, minus that at the best."""
    gain: float = 0.5
    """Of the best rate over the base, at the last rung."""
    drift: float = 0.0
    saturates: float = math.inf
    """At that share of the last rung's tokens."""

    def loss(self, rate: float, share: float) -> float:
        """Expected over runs and documents, at that share of the last rung's tokens."""
        share = min(share, self.saturates)
        away = math.log2(rate / self.best_rate) - self.drift * math.log2(share)
        return BASE_LOSS - self.gain * math.pow(share, 0.3) + self.curvature * away**2


@dataclass(frozen=True, slots=True)
class Size:
    """Another base: what the recipe does to it is in proportion to what it does to the experiment's."""

    parameters: int
    pretraining_tokens: int
    loss: float
    """Of the base."""
    keeps: float = 1.0
    """Part of the gain."""

    @property
    def flops(self) -> float:
        """Of its pretraining."""
        return 6.0 * self.parameters * self.pretraining_tokens


@dataclass(frozen=True, slots=True)
class Truth:
    """A world but for its seed."""

    curves: dict[str, Curve]
    """By the name of a dataset."""
    run_noise: float = 0.01
    """Standard deviation of a trunk's loss, the same at all its ends."""
    tail_noise: float = 0.01
    """Standard deviation that each cooled end adds."""
    item_noise: float = 0.05
    """Standard deviation of one run's loss on one document."""
    response: float = 0.3
    """Standard deviation over documents of their slopes."""
    documents: int = 100
    size_spread: float = 0.8
    """Standard deviation of the logarithm of a document's bytes."""
    diverges_above: float = math.inf
    """A run with a higher rate diverges."""
    forgets: float = 0.02
    """Retention's loss over the base at the best rate; in proportion to the rate."""
    soup_bend: float = 0.5
    """How much more of the gain a mean keeps than its weight: a half of 0.5 keeps 0.625."""
    soup_forgets: float = 2.0
    """The power of the weight that a mean forgets in proportion to: at 2 a half forgets a quarter."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Training tokens by the name of a dataset; those of others are not known."""
    best_mix: Mapping[str, float] = field(default_factory=dict)
    """Parts of the best mix; empty: a mix does what its parts do, no more."""
    bent: float = 0.0
    """Loss of a mix at a distance of one from the best mix, minus that at the best; a mix there gains nothing beside
    what its parts do, at the best it gains `bent`."""
    merges_bend: float = 0.0
    """Standard deviation of the h's: how far merges do not speak for mixes."""
    bases: dict[str, Size] = field(default_factory=dict)
    """By the name of a model; BASE is that of the experiment, with a loss of BASE_LOSS."""
    controls: Curve = field(default_factory=lambda: Curve(best_rate=1e-4, curvature=0.01, gain=0.05))
    """Replay data alone."""

    def kept(self, weight: float) -> float:
        """Part of a model's gain that its mean with the base has."""
        return weight * (1 + self.soup_bend * (1 - weight))

    def forgot(self, weight: float) -> float:
        """Part of what the model forgot."""
        return math.pow(weight, self.soup_forgets)

    def bend(self, parts: Mapping[str, float]) -> float:
        """What mixing adds to the mean of the parts' losses."""
        if not self.best_mix:
            return 0.0
        names = {*parts, *self.best_mix}
        squares = sum((parts.get(name, 0.0) - self.best_mix.get(name, 0.0)) ** 2 for name in names)
        return self.bent * (squares - 1)
