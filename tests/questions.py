"""Builders for tests of decisions: a test names only what it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

import numpy as np

from cpt_api.digest import mix_digest
from cpt_api.trial import DecideWork, Phase
from cpt_api.values import Digest, LearningRate
from cpt_trainer.decide.document import Scores
from cpt_trainer.decide.estimates import TextSums
from cpt_trainer.decide.halves import picking_half
from make import make_digest

DOCUMENTS = 50
TARGET, RETENTION, BASE = make_digest("target"), make_digest("retention"), make_digest("base")


def make_text(loss: float, seed: int = 0, spread: float = 0.01) -> TextSums:
    """Documents of one size at that many bits per byte; each differs by `spread` from what all models see there."""
    shared = np.random.default_rng(1).normal(0, 0.5, DOCUMENTS)
    own = np.random.default_rng([2, seed]).normal(0, spread, DOCUMENTS)
    deviations = shared - shared.mean() + own - own.mean()  # the loss is met exactly
    strata = (slice(0, DOCUMENTS),)
    picks = picking_half([str(number) for number in range(DOCUMENTS)], strata)
    return TextSums((loss + deviations) * 1000, np.full(DOCUMENTS, 1000.0), strata, picks)


def make_scores(target: float, retention: float = 2.0, seed: int = 0) -> Scores:
    """A model by its bits per byte."""
    return Scores((make_text(target, seed),), (make_text(retention, seed + 1000),))


class Screening:
    """Datasets against the control, by their bits per byte at each rate; None: it diverged."""

    def __init__(
        self,
        datasets: Mapping[str, Mapping[str, float | None]],
        controls: Mapping[str, Sequence[float | None]],
        *,
        missing: Mapping[str, Sequence[str]] | None = None,
        retention: Mapping[str, float] | None = None,
        threshold: str = "0.02",
    ) -> None:
        self.models: dict[Digest, Scores | None] = {BASE: make_scores(3.0)}
        self.retention = retention or {}
        self.work = DecideWork.model_validate(
            {
                "question": "Screening",
                "target": {"heldOut": [{"digest": TARGET}], "threshold": threshold},
                "retention": {"heldOut": [{"digest": RETENTION}], "threshold": threshold},
                "baseline": {"digest": BASE},
                "datasets": [
                    {
                        "dataset": {"digest": make_digest(name)},
                        "arms": [
                            {"learningRate": rate, "tokens": "1M", "trial": self._trial(name, f"{name} {rate}", loss)}
                            for rate, loss in losses.items()
                        ],
                        "missing": list((missing or {}).get(name, ())),
                    }
                    for name, losses in datasets.items()
                ],
                "controls": [
                    {
                        "learningRate": rate,
                        "tokens": "1M",
                        "trials": [self._trial("control", f"control {rate} {n}", loss) for n, loss in enumerate(runs)],
                    }
                    for rate, runs in controls.items()
                ],
                "errorRate": "0.05",
                "family": len(datasets),
            }
        )

    def _trial(self, data: str, name: str, loss: float | None) -> dict[str, Digest]:
        digest, kept = make_digest(name), self.retention.get(data, 2.0)
        self.models[digest] = None if loss is None else make_scores(loss, kept, len(self.models))
        return {"digest": digest}


class Lasting:
    """Durations of one dataset, by their bits per byte; None: the trunk had diverged."""

    def __init__(
        self,
        losses: Mapping[str, float | None],
        controls: Mapping[str, Sequence[float]],
        *,
        missing: Sequence[str] = (),
        rates: int = 1,
    ) -> None:
        self.models: dict[Digest, Scores | None] = {BASE: make_scores(3.0)}
        self.work = DecideWork.model_validate(
            {
                "question": "Duration",
                "rates": rates,
                "pickedAt": "4M",
                "target": {"heldOut": [{"digest": TARGET}], "threshold": "0.02"},
                "retention": {"heldOut": [{"digest": RETENTION}], "threshold": "0.02"},
                "baseline": {"digest": BASE},
                "datasets": [
                    {
                        "dataset": {"digest": make_digest("python")},
                        "arms": [
                            {"learningRate": "1e-4", "tokens": tokens, "trial": self._trial(f"arm {tokens}", loss)}
                            for tokens, loss in losses.items()
                        ],
                        **({"missingTokens": list(missing)} if missing else {}),
                    }
                ],
                "controls": [
                    {
                        "learningRate": rate,
                        "tokens": "1M",
                        "trials": [self._trial(f"control {rate} {n}", loss) for n, loss in enumerate(runs)],
                    }
                    for rate, runs in controls.items()
                ],
            }
        )

    def _trial(self, name: str, loss: float | None) -> dict[str, Digest]:
        digest = make_digest(name)
        self.models[digest] = None if loss is None else make_scores(loss, seed=len(self.models))
        return {"digest": digest}


class Soup:
    """Means of the base and one trained model, by their bits per byte on target and retention; the base has 3 and 2."""

    def __init__(
        self, means: Mapping[str, tuple[float, float]], *, margin: str | None = "0.02", spread: float = 0.01
    ) -> None:
        self.base = self._scores(3.0, 2.0, 0, spread)
        self.models: dict[Digest, Scores | None] = {BASE: self.base}
        retention = {"retention": {"heldOut": [{"digest": RETENTION}], "threshold": margin}} if margin else {}
        arms = []
        for number, (weight, (target, kept)) in enumerate(means.items(), start=1):
            digest = make_digest(f"mean {weight}")
            self.models[digest] = self._scores(target, kept if margin else None, number, spread)
            arms.append({"learningRate": "3e-4", "tokens": "4M", "weight": weight, "trial": {"digest": digest}})
        self.work = DecideWork.model_validate(
            {
                "question": "Soup",
                "target": {"heldOut": [{"digest": TARGET}], "threshold": "0.02"},
                **retention,
                "baseline": {"digest": BASE},
                "datasets": [{"dataset": {"digest": make_digest("python")}, "arms": arms}],
            }
        )

    @staticmethod
    def _scores(target: float, retention: float | None, seed: int, spread: float) -> Scores:
        kept = () if retention is None else (make_text(retention, seed + 1000, spread),)
        return Scores((make_text(target, seed, spread),), kept)


class Mixes:
    """A proposal and other mixes of two datasets, by the share of the first and their bits per byte; None: diverged."""

    def __init__(
        self,
        losses: Mapping[str, float | None],
        controls: Mapping[str, Sequence[float]],
        *,
        proposal: str = "0.2",
        failed: int = 0,
    ) -> None:
        self.models: dict[Digest, Scores | None] = {BASE: make_scores(3.0)}
        self.digests = {share: mix_digest(_phases(share)) for share in {*losses, proposal}}
        self.work = DecideWork.model_validate(
            {
                "question": "Mix",
                "proposal": self.digests[proposal],
                "mixes": len(losses) + failed,
                "target": {"heldOut": [{"digest": TARGET}], "threshold": "0.02"},
                "retention": {"heldOut": [{"digest": RETENTION}], "threshold": "0.02"},
                "baseline": {"digest": BASE},
                "datasets": [
                    {
                        "phases": [phase.to_dict() for phase in _phases(share)],
                        "arms": [{"learningRate": "1e-4", "tokens": "1M", "trial": self._trial(share, loss)}],
                    }
                    for share, loss in losses.items()
                ],
                "controls": [
                    {
                        "learningRate": rate,
                        "tokens": "1M",
                        "trials": [self._trial(f"control {rate} {n}", loss) for n, loss in enumerate(runs)],
                    }
                    for rate, runs in controls.items()
                ],
            }
        )

    def _trial(self, name: str, loss: float | None) -> dict[str, Digest]:
        digest = make_digest(name)
        self.models[digest] = None if loss is None else make_scores(loss, seed=len(self.models))
        return {"digest": digest}


def _phases(share: str) -> tuple[Phase, ...]:
    weights = {"python": share, "perl": str(1 - Decimal(share))}
    parts = [{"dataset": {"digest": make_digest(name)}, "weight": weight} for name, weight in weights.items()]
    return (Phase.model_validate({"mixture": parts}),)


class Scaling:
    """Bases by name: parameters, pretraining tokens, bits per byte before, and after (None: only evaluated)."""

    def __init__(
        self,
        bases: Mapping[str, tuple[int | None, str | None, float, float | None]],
        controls: Mapping[str, Sequence[float]],
        *,
        diverged: Sequence[str] = (),
        picked_from: int = 1,
        tokens: str = "100",
    ) -> None:
        self.models: dict[Digest, Scores | None] = {}
        first = next(iter(bases))
        self.work = DecideWork.model_validate(
            {
                "question": "Scaling",
                "target": {"heldOut": [{"digest": TARGET}], "threshold": "0.02"},
                "retention": {"heldOut": [{"digest": RETENTION}], "threshold": "0.02"},
                "baseline": {"digest": make_digest(first)},
                "models": [
                    {
                        "baseline": self._trial(name, before, parameters),
                        "target": [{"digest": make_digest(f"{name} target")}],
                        "retention": [{"digest": make_digest(f"{name} retention")}],
                        **({"pretrainingTokens": pretraining} if pretraining else {}),
                        **self._arm(name, after, tokens, diverged=name in diverged),
                        "pickedFrom": picked_from,
                    }
                    for name, (parameters, pretraining, before, after) in bases.items()
                ],
                "controls": [
                    {
                        "learningRate": rate,
                        "tokens": "1M",
                        "trials": [self._trial(f"control {rate} {n}", loss) for n, loss in enumerate(runs)],
                    }
                    for rate, runs in controls.items()
                ],
            }
        )

    def _arm(self, name: str, loss: float | None, tokens: str, *, diverged: bool) -> dict[str, object]:
        if loss is None:
            return {}
        trial = self._trial(f"{name} trained", None if diverged else loss)
        return {"arm": {"learningRate": "1e-4", "tokens": tokens, "trial": trial}}

    def _trial(self, name: str, loss: float | None, parameters: int | None = None) -> dict[str, Digest]:
        digest = make_digest(name)
        scores = None if loss is None else make_scores(loss, seed=len(self.models))
        self.models[digest] = replace(scores, parameters=parameters) if scores else None
        return {"digest": digest}


class Question:
    """A question about one dataset; `models` is what was measured."""

    def __init__(
        self,
        losses: Mapping[str, float | None],
        *,
        replicates: Mapping[str, Sequence[float | None]] | None = None,
        missing: Sequence[str] = (),
        rungs: int = 3,
        last: bool = False,
        base: float = 3.0,
    ) -> None:
        self.models: dict[Digest, Scores | None] = {BASE: make_scores(base)}
        arms = [self._model(rate, f"arm {rate}", loss) for rate, loss in losses.items()]
        if replicates is None:
            replicates = dict.fromkeys(losses, (2.5, 2.52, 2.48))
        controls = [
            {"learningRate": rate, "trials": [self._trial(f"control {rate} {n}", loss) for n, loss in enumerate(found)]}
            for rate, found in replicates.items()
        ]
        self.work = DecideWork.model_validate(
            {
                "question": "LearningRate",
                "target": {"heldOut": [{"digest": TARGET}], "threshold": "0.02"},
                "retention": {"heldOut": [{"digest": RETENTION}], "threshold": "0.02"},
                "baseline": {"digest": BASE},
                "datasets": [
                    {"dataset": {"digest": make_digest("python")}, "arms": arms, "missing": list(missing)},
                ],
                "controls": controls,
                "rungTokens": "1M",
                "rungs": rungs,
                "last": last,
            }
        )

    def _model(self, rate: str, name: str, loss: float | None) -> dict[str, object]:
        return {"learningRate": rate, "trial": self._trial(name, loss)}

    def _trial(self, name: str, loss: float | None) -> dict[str, Digest]:
        digest = make_digest(name)
        self.models[digest] = (
            None if loss is None else make_scores(loss, 2.0 + 0.01 * len(self.models), len(self.models))
        )
        return {"digest": digest}


def rates(*texts: str) -> tuple[LearningRate, ...]:
    """Learning rates from text."""
    return tuple(map(LearningRate.parse, texts))


class Merged:
    """Merges of the trunks of some datasets, by their bits per byte; `cooled` are their own arms (None: diverged)."""

    def __init__(
        self,
        merges: Mapping[tuple[str, ...], float],
        *,
        cooled: Sequence[float | None],
        prior: Sequence[str] | None = None,
        caps: Sequence[str] | None = None,
    ) -> None:
        self.models: dict[Digest, Scores | None] = {BASE: make_scores(3.0)}
        datasets = sorted(make_digest(f"dataset {number}") for number in range(len(cooled)))
        even = [f"{1 / len(cooled):.3f}"] * len(cooled)
        even[0] = f"{1 - sum(map(float, even[1:])):.3f}"
        self.work = DecideWork.model_validate(
            {
                "question": "MixtureProxy",
                "target": {"heldOut": [{"digest": TARGET}], "threshold": "0.02"},
                "baseline": {"digest": BASE},
                "datasets": [
                    {
                        "dataset": {"digest": digest},
                        "arms": [{"learningRate": "3e-4", "tokens": "1M", "trial": self._trial(f"cooled {n}", loss)}],
                    }
                    for n, (digest, loss) in enumerate(zip(datasets, cooled, strict=True))
                ],
                "merges": [
                    {"weights": list(weights), "trial": self._trial(f"merge {weights}", loss)}
                    for weights, loss in merges.items()
                ],
                "prior": list(prior or even),
                "caps": list(caps or ["1"] * len(cooled)),
            }
        )

    def _trial(self, name: str, loss: float | None) -> dict[str, Digest]:
        digest = make_digest(name)
        self.models[digest] = None if loss is None else make_scores(loss, seed=len(self.models), retention=2.0)
        return {"digest": digest}
