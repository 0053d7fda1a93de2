"""Question Scaling: what is one recipe worth on several bases, and how much pretraining would have done the same?

    base   6ND     target   after CPT   in all    gain             the bases' line reaches that at
    7b     8e22    0.640    0.571       8.1e22    0.069 +- 0.010   2.9e23: 3.6 times the compute (95 % 2.9 to 4.4)
    13b    1.6e23  0.610    0.550       1.6e23    0.060 +- 0.010   4.8e23: 3.0 times (2.4 to > 3.4)
    70b    8.4e23  0.530

Compute is 6 x parameters x tokens on both sides, those of the base and those of the arm: one convention, so that its
error is a common factor. Parameters are all of them, embeddings included, as the base's own evaluation counted.

All comparisons are paired by document, whatever the tokenizers: a held-out text is cut by its bytes. The bases are what
they are (items only); an arm stands for its recipe and has the run noise of the experiment's own base, since nobody
trains replicates of the large ones: that it is the same at every size is an assumption, and the sentence says so.

Price: 0.3 s for each model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cpt_api.result import Decision, Equivalent, Scaled
from cpt_api.trial import DecideWork, Question, SizedModel
from cpt_api.unit import unit_of
from cpt_api.values import Digest, Tokens
from cpt_trainer.decide import scaling_words as words
from cpt_trainer.decide.document import (
    Models,
    Scores,
    gain,
    interval,
    lost,
    noise_of,
    shown,
    spread,
)
from cpt_trainer.decide.equivalent import Line, Point, equivalent, line_of
from cpt_trainer.decide.estimates import difference, level, rounded
from cpt_trainer.decide.noise import RunNoise
from cpt_trainer.trial import known

METHOD = "scaling/1"
"""Changes with the procedure: equal methods and equal inputs give equal documents."""
_OPERATIONS = 6
"""For each parameter and token."""


@dataclass(frozen=True, slots=True, eq=False)
class Sized:
    """One model, and what is known about it."""

    asked: SizedModel
    base: Scores
    arm: Scores | None
    """None where there is none, and where it diverged."""

    @property
    def baseline(self) -> Digest:
        """By which it is known."""
        return known(self.asked.baseline)

    @property
    def pretraining_flops(self) -> float | None:
        """Of its base."""
        return self._flops(self.asked.pretraining_tokens)

    @property
    def total_flops(self) -> float | None:
        """With its arm."""
        tokens, arm = self.asked.pretraining_tokens, self.asked.arm
        return self._flops(Tokens(tokens + (arm.tokens or 0))) if tokens and arm else None

    def _flops(self, tokens: Tokens | None) -> float | None:
        return float(_OPERATIONS * self.base.parameters * tokens) if self.base.parameters and tokens else None


def decide(work: DecideWork, models: Models) -> Decision:
    """The answer for every model, by the digest of its base's evaluation."""
    noise = noise_of(work, models)
    sized = [_sized(asked, models) for asked in work.models or ()]
    sized.sort(key=lambda one: one.baseline)
    line = line_of([Point(flops, one.base.target) for one in sized if (flops := one.pretraining_flops)])
    return Decision(
        question=Question.SCALING,
        method=METHOD,
        run_noise=spread(noise),
        scaled=tuple(_scaled(one, line, noise, work) for one in sized),
        sentence=words.of_scaling(len(line), noise, unit_of(work.target)),
    )


def _sized(asked: SizedModel, models: Models) -> Sized:
    base = models[known(asked.baseline)]
    assert base is not None, "evaluations do not diverge"
    return Sized(asked, base, models[known(asked.arm.trial)] if asked.arm else None)


def _scaled(one: Sized, line: Line, noise: RunNoise | None, work: DecideWork) -> Scaled:
    asked, base, target = one.asked, one.base, level(one.base.target)
    answer = Scaled(
        baseline=one.baseline,
        parameters=base.parameters,
        pretraining_flops=_digits(one.pretraining_flops),
        total_flops=_digits(one.total_flops),
        base_target=shown(target.value),
        base_interval=interval(target),
        outcome="Diverged" if asked.arm else "Evaluated",
        reason="",
    )
    if asked.arm:
        arm = asked.arm
        answer = answer.model_copy(
            update={"trial": known(arm.trial), "learning_rate": arm.learning_rate, "tokens": arm.tokens}
        )
    if one.arm:
        answer = answer.model_copy(update=_trained(one, one.arm, line, noise))
    reason = words.of_model(answer, noise, work, points=len(line))
    return answer.model_copy(update={"reason": reason})


def _trained(one: Sized, arm: Scores, line: Line, noise: RunNoise | None) -> Mapping[str, object]:
    """What is said about an arm that has a score."""
    after, picked_from = level(arm.target), one.asked.picked_from
    return {
        "outcome": "Completed",
        "target": shown(after.value),
        "target_interval": interval(after),
        "gain": gain(difference(one.base.target, arm.target), noise, picked_from=picked_from),
        "retention_loss": lost(arm, one.base),
        "equivalent": _equivalent(one, arm, line, noise),
    }


def _equivalent(one: Sized, arm: Scores, line: Line, noise: RunNoise | None) -> Equivalent | None:
    """Not defined where its own compute is unknown, nor without two bases."""
    if one.total_flops is None or len(line) < 2:
        return None
    return equivalent(line, arm.target, one.total_flops, noise, one.asked.picked_from)


def _digits(flops: float | None) -> float | None:
    return None if flops is None else rounded(flops)
