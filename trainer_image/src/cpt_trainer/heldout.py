"""Scores on held-out texts, as a run observes them and as `evaluate` gives them; and the gate between the two.

    texts = open_texts(trial, references)       {digest: HeldOut}
    scores = score_texts(nats, texts, 256, process)
    require_equal(scores, what the start's own evaluation said)      DataError beyond 0.5 %
    publish(trial, scores)                      item tables, and what stands in result.json

The gate finds what nothing else does: weights that were loaded into the wrong places, a tokenizer that is not the
model's, another position of the mask. Rounding in bf16 stays a factor of ten below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import structlog

from cpt_api.result import HeldOutScore, Output
from cpt_api.trial import TrialRef
from cpt_api.values import Digest
from cpt_trainer.dataset import HeldOut, Prepared
from cpt_trainer.errors import DataError
from cpt_trainer.process import Process
from cpt_trainer.score import Nats, Scored, score
from cpt_trainer.trial import Trial

log = structlog.get_logger()

GATE = 0.005
"""Relative difference of bits per byte."""

Texts = Mapping[Digest, HeldOut]


def open_prepared(trial: Trial, references: Iterable[TrialRef]) -> dict[Digest, Prepared]:
    """What Prepare trials left, by digest."""
    digests = sorted({reference.digest for reference in references if reference.digest is not None})
    return {digest: Prepared.open(trial.store, trial.data_of(digest)) for digest in digests}


def score_texts(nats: Nats, texts: Texts, sequence_tokens: int, process: Process) -> dict[Digest, Scored]:
    """Every text, on all ranks together."""
    return {digest: score(nats, digest, text, sequence_tokens, process) for digest, text in texts.items()}


def is_finite(scored: Scored) -> bool:
    """Whether every section has a score."""
    return bool(np.isfinite(scored.items.bits).all())


def bits_per_byte(scores: Mapping[Digest, Scored]) -> dict[Digest, float]:
    """Of each text; DataError where one is not finite."""
    from cpt_trainer.tables import heldout_score

    return {digest: heldout_score(scored.items)[0] for digest, scored in scores.items()}


def require_equal(found: Mapping[Digest, float], expected: Sequence[HeldOutScore], whose: str) -> None:
    """The model that was loaded is the one that was evaluated, within GATE."""
    by_text = {score.text: score.bits_per_byte for score in expected}
    for text, value in found.items():
        want = by_text.get(text)
        if want is None:
            log.info("gate_skipped", text=text.short, why=f"{whose} has no table for this text")
        elif abs(value - want) > GATE * want:
            raise DataError(
                f"before its first step this run scores {value:.4f} bits per byte on held-out text {text.short}…, "
                f"{whose} says {want:.4f}: the weights, the tokenizer or the mask are not those that were evaluated"
            )


def publish(trial: Trial, scores: Mapping[Digest, Scored]) -> tuple[list[HeldOutScore], list[Output]]:
    """Write the item tables."""
    from cpt_trainer.tables import write_heldout

    written = [write_heldout(trial.store, trial.data, text, scored.items) for text, scored in scores.items()]
    return [score for score, _ in written], [output for _, output in written]
