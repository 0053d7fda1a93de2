"""What a Train trial's numbers mean in steps and sequences. Pure: no I/O, no clock.

    sequences of 256, batches of 16, tokens 40,960 to 819,200      steps 10 to 200 of 4,096 tokens
    phases until 409,600, then another                             the second begins at sequence 1,600

Everything must be whole: a step that was half of one phase's data would be read differently by two segments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from cpt_api.trial import Phase, TrainWork
from cpt_api.values import Digest, Tokens
from cpt_trainer.errors import ConfigError
from cpt_trainer.manifest import At
from cpt_trainer.order import Length, Mixture, Order


@dataclass(frozen=True, slots=True)
class Segment:
    """From one step of a run to another."""

    first_step: int
    """Steps that lie behind it."""
    last_step: int
    """Steps that lie behind its end."""
    batch: int
    """Sequences of a step."""
    batch_tokens: int
    order: Order

    @classmethod
    def of(cls, work: TrainWork, lengths: Mapping[Digest, Length]) -> Segment:
        """Raises ConfigError for what is not whole."""
        batch_tokens = work.sequence_length * work.global_batch_size
        for name, tokens in (("startTokens", work.start_tokens), ("stopTokens", work.stop_tokens)):
            if tokens % batch_tokens:
                raise ConfigError(
                    f"{name} is {int(tokens)}: expected a multiple of sequenceLength * globalBatchSize, {batch_tokens}"
                )
        if work.stop_tokens <= work.start_tokens:
            raise ConfigError(f"stopTokens {work.stop_tokens} is not beyond startTokens {work.start_tokens}")
        if work.start_tokens and work.start.segment is None:
            raise ConfigError(f"startTokens is {work.start_tokens}: only a segment of a run starts beyond token zero")
        try:
            order = Order(
                work.seed, work.sequence_length, work.global_batch_size, _mixtures(work, work.phases), lengths
            )
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return cls(
            work.start_tokens // batch_tokens,
            work.stop_tokens // batch_tokens,
            work.global_batch_size,
            batch_tokens,
            order,
        )

    def at(self, step: int) -> At:
        """How far a run is after so many steps."""
        samples = step * self.batch
        return At(step=step, samples=samples, tokens=Tokens(step * self.batch_tokens), order=self.order.digest(samples))


def _mixtures(work: TrainWork, phases: tuple[Phase, ...]) -> list[Mixture]:
    start, mixtures = 0, []
    for number, phase in enumerate(phases):
        weights: dict[Digest, Fraction] = {}
        for component in phase.mixture:
            digest = component.dataset.digest
            assert digest is not None, "the trial is resolved"
            if digest in weights:
                raise ConfigError(f"dataset {digest.short}… stands twice in phase {number}: add its weights up")
            weights[digest] = component.weight.fraction
        mixtures.append(Mixture(start, weights))
        if (phase.until_tokens is None) != (number == len(phases) - 1):
            raise ConfigError("untilTokens belongs to every phase but the last")
        if phase.until_tokens is not None:
            if phase.until_tokens % work.sequence_length:
                raise ConfigError(
                    f"untilTokens {int(phase.until_tokens)}: expected a multiple of sequenceLength, "
                    f"{work.sequence_length}"
                )
            start = phase.until_tokens // work.sequence_length
    return mixtures
