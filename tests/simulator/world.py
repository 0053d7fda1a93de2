"""Answers a trial's spec as if it had run: a result as the planner reads it, and item tables as decisions read them.

What is random is drawn from the seed and from what it belongs to (a document, a trunk, a cooled end, a model), never
from the order of questions: equal segments of two experiments have equal tables, as in the store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cpt_api.digest import subject_digest
from cpt_api.result import Result
from cpt_api.trial import (
    CPTTrialSpec,
    DecideWork,
    DecisionMetric,
    MergeInput,
    MergeWork,
    ModelRef,
    TrainWork,
    TrialRef,
    TrialType,
)
from cpt_api.values import Digest, LearningRate, Tokens
from cpt_trainer.decide import answer
from cpt_trainer.decide.document import Scores
from cpt_trainer.decide.estimates import TextSums, text_sums
from cpt_trainer.tables import Items, heldout_items
from make import make_result, outcome_diverged
from simulator.truth import BASE_LOSS, Curve, Truth

Floats = npt.NDArray[np.float64]

TARGET, RETENTION, REPLAY, MIX, BASE = "target", "retention", "replay", "the mix", "base"


@dataclass(frozen=True, slots=True, eq=False)
class Documents:
    """A held-out text: what is the same for every model."""

    names: tuple[str, ...]
    bytes: npt.NDArray[np.int64]
    difficulty: Floats
    """The base's bits per byte."""
    slopes: Floats
    """How much of a change of the loss is seen here."""


@dataclass(eq=False)
class World:
    """Remembers what it answered; the tables of a model are made when they are asked for."""

    truth: Truth
    seed: int
    end: Tokens
    """Of the last rung."""
    names: dict[Digest, str] = field(default_factory=dict)
    """Of datasets and texts, by their Prepare trial."""
    models: dict[Digest, TrainWork | MergeWork | None] = field(default_factory=dict)
    """By trial; None: a base."""
    means: dict[Digest, tuple[Digest, float]] = field(default_factory=dict)
    """A trained model, and its weight in a mean with the base, by the trial that scores it."""
    roots: dict[Digest, str] = field(default_factory=dict)
    """By trial, the base that it comes from."""
    first: dict[str, Digest] = field(default_factory=dict)
    """By the name of a text, who prepared it first: other tokenizers see the same documents."""
    diverged: set[Digest] = field(default_factory=set)
    texts: dict[Digest, Documents] = field(default_factory=dict)
    sums: dict[tuple[Digest, Digest], TextSums] = field(default_factory=dict)
    """Of a model on a text, once made: controls are asked for at every rung."""

    def answer(self, digest: Digest, spec: CPTTrialSpec) -> Result:
        """What the trial commits."""
        if spec.prepare and spec.prepare.source.uri:
            name = _name(spec.prepare.source.uri)
            self.names[digest] = name
            self.first.setdefault(name, digest)
            if name in self.truth.sizes:
                return make_result(spec, numbers={"trainTokens": self.truth.sizes[name]})
        if spec.evaluate:
            self.models[digest] = None
            if (merge := spec.evaluate.merge) and all(map(self._is_trunk, merge.inputs)):
                self.models[digest] = merge
            elif merge:
                self.means[digest] = _mean(merge)
            self.roots[digest] = _root(spec.evaluate.model)
        if spec.train:
            if spec.train.schedule.peak_learning_rate > self.truth.diverges_above:
                self.diverged.add(digest)
                return outcome_diverged(spec)
            self.models[digest] = spec.train
            start = spec.train.start
            self.roots[digest] = self.roots[_known(start.segment)] if start.segment else _root(start.model)
        if spec.type is TrialType.DECIDE and spec.decide:
            self.names |= {subject_digest(entry): MIX for entry in spec.decide.datasets if entry.phases}
            return make_result(spec, decision=answer(spec.decide, self.scores(spec.decide)))
        return make_result(spec)

    def scores(self, work: DecideWork) -> dict[Digest, Scores | None]:
        """What `cpt-trainer decide` would read from the store."""
        models = [work.baseline, *(arm.trial for entry in work.datasets for arm in entry.arms)]
        models += [trial for control in work.controls for trial in control.trials]
        models += [merge.trial for merge in work.merges or ()]
        models += [model.baseline for model in work.models or ()]
        models += [model.arm.trial for model in work.models or () if model.arm]
        digests = {_known(model) for model in models}
        return {digest: None if digest in self.diverged else self._scores(digest, work) for digest in digests}

    def _scores(self, digest: Digest, work: DecideWork) -> Scores:
        def sums(metric: DecisionMetric | None) -> tuple[TextSums, ...]:
            return tuple(self._sums(digest, _known(text)) for text in metric.texts) if metric else ()

        size = self.truth.bases.get(self.roots[digest])
        parameters = size.parameters if size and self.models[digest] is None else None
        return Scores(sums(work.target), sums(work.retention), parameters)

    def _sums(self, digest: Digest, text: Digest) -> TextSums:
        text = self.first[self.names[text]]
        if (digest, text) not in self.sums:
            self.sums[digest, text] = text_sums(self.items(digest, text))
        return self.sums[digest, text]

    def items(self, digest: Digest, text: Digest) -> Items:
        """The item table of a model on a text."""
        documents = self._documents(text)
        bits = (documents.difficulty + self._shift(digest, text)) * documents.bytes
        return heldout_items(text, documents.names, documents.names, bits, documents.bytes)

    def _shift(self, digest: Digest, text: Digest) -> Floats:
        """Bits per byte over the base, by document. The luck of trunks is in all their merges."""
        model, weight = self.means.get(digest, (digest, 1.0))
        documents, work = self._documents(text), self.models[model]
        root = self.roots[model]
        if work is None and root == BASE:
            return np.zeros(len(documents.names))
        if work is None:
            change = self.truth.bases[root].loss - BASE_LOSS
            return change * documents.slopes + self._item_noise(digest, text)
        if isinstance(work, TrainWork):
            change = self.expected(work, text, weight, root) - BASE_LOSS
            return change * documents.slopes + weight * self._noise(model, work, text)
        trunks = {_known(part.segment): float(part.weight) for part in work.inputs if part.segment}
        parts = {self._data(self.trained(trunk)): share for trunk, share in trunks.items()}
        bent = self.truth.bend(parts) + sum(share**2 * self._h(name) for name, share in parts.items())
        shifts = [share * self._shift(trunk, text) for trunk, share in trunks.items()]
        return np.asarray(np.sum(shifts, axis=0) + bent * documents.slopes)

    def _is_trunk(self, part: MergeInput) -> bool:
        """Uncooled: its merges stand for mixes."""
        work = self.models[_known(part.segment)] if part.segment else None
        return isinstance(work, TrainWork) and work.schedule.cooldown is None

    def _h(self, data: str) -> float:
        return float(self._draws("h", data).normal(0, self.truth.merges_bend))

    def trained(self, digest: Digest) -> TrainWork:
        """Of a trial that trains."""
        work = self.models[digest]
        assert isinstance(work, TrainWork)
        return work

    def expected(self, work: TrainWork, text: Digest, weight: float = 1.0, root: str = BASE) -> float:
        """Bits per byte of a model, or of its mean with its base, over runs and documents."""
        rate, parts = work.schedule.peak_learning_rate, self._parts(work)
        own = BASE_LOSS if root == BASE else self.truth.bases[root].loss
        if self.names[text] == RETENTION:
            forgotten = sum(part * self.forgotten(data, rate) for data, part in parts.items())
            return own + self.truth.forgot(weight) * forgotten
        keeps = self.truth.kept(weight) * (1.0 if root == BASE else self.truth.bases[root].keeps)
        return own + keeps * (self.mix_loss(parts, rate, work.stop_tokens) - BASE_LOSS)

    def loss(self, data: str, rate: LearningRate, tokens: Tokens | None = None) -> float:
        """The target's, for a dataset or for the control; at the last rung unless told otherwise."""
        return self._curve(data).loss(float(rate), 1.0 if tokens is None else tokens / self.end)

    def mix_loss(self, parts: Mapping[str, float], rate: LearningRate, tokens: Tokens | None = None) -> float:
        """The target's, for datasets by their part of what is read beside replay data."""
        apart = sum(weight * self.loss(data, rate, tokens) for data, weight in parts.items())
        return apart + (self.truth.bend(parts) if len(parts) > 1 else 0.0)

    def forgotten(self, data: str, rate: LearningRate) -> float:
        """Retention's loss over the base."""
        return self.truth.forgets * float(rate) / self._curve(data).best_rate

    def realised(self, digest: Digest, text: Digest) -> float:
        """Bits per byte of this very model, over documents."""
        model, weight = self.means.get(digest, (digest, 1.0))
        if self.models[model] is None:
            return BASE_LOSS
        work = self.trained(model)
        return self.expected(work, text, weight, self.roots[model]) + weight * self._run_noise(model, work, text)

    def _curve(self, data: str) -> Curve:
        return self.truth.controls if data == REPLAY else self.truth.curves[data]

    def _parts(self, work: TrainWork) -> dict[str, float]:
        """Of what is read in the last phase beside replay data; replay data alone in the control."""
        weights = {self.names[_known(part.dataset)]: float(part.weight) for part in work.phases[-1].mixture}
        parts = {name: weight for name, weight in sorted(weights.items()) if name != REPLAY}
        return {name: weight / sum(parts.values()) for name, weight in parts.items()} or {REPLAY: 1.0}

    def _data(self, work: TrainWork) -> str:
        """What runs that differ in this have no luck in common."""
        parts = self._parts(work)
        return next(iter(parts)) if len(parts) == 1 else str(parts)

    def _noise(self, digest: Digest, work: TrainWork, text: Digest) -> Floats:
        return self._run_noise(digest, work, text) + self._item_noise(digest, text)

    def _item_noise(self, digest: Digest, text: Digest) -> Floats:
        return self._draws("item", digest, text).normal(0, self.truth.item_noise, self.truth.documents)

    def _run_noise(self, digest: Digest, work: TrainWork, text: Digest) -> float:
        root = self.roots[digest]
        whose = () if root == BASE else (root,)
        rate = str(work.schedule.peak_learning_rate)
        trunk = self._draws("run", self._data(work), rate, str(work.seed), text, *whose)
        end = self._draws("end", digest, text)
        return float(trunk.normal(0, self.truth.run_noise) + end.normal(0, self.truth.tail_noise))

    def _documents(self, text: Digest) -> Documents:
        if text not in self.texts:
            draws, count = self._draws("text", text), self.truth.documents
            self.texts[text] = Documents(
                names=tuple(f"{number:04d}" for number in range(count)),
                bytes=np.maximum(1, 4000 * np.exp(draws.normal(0, self.truth.size_spread, count))).astype(np.int64),
                difficulty=draws.normal(BASE_LOSS, 0.3, count),
                slopes=draws.normal(1, self.truth.response, count),
            )
        return self.texts[text]

    def _draws(self, *what: str) -> np.random.Generator:
        key = hashlib.sha256("|".join([str(self.seed), *what]).encode()).digest()
        return np.random.Generator(np.random.PCG64(int.from_bytes(key[:16])))


def _mean(merge: MergeWork) -> tuple[Digest, float]:
    """The trained model, and its share."""
    (trained,) = (part for part in merge.inputs if part.segment)
    assert trained.segment is not None
    return _known(trained.segment), float(trained.weight / sum(part.weight for part in merge.inputs))


def _name(uri: str) -> str:
    return uri.rpartition("/")[2].partition(".")[0]


def _root(model: ModelRef | None) -> str:
    """Of a base's files; all others come from the experiment's."""
    return _name(model.source.uri) if model and model.source and model.source.uri else BASE


def _known(reference: TrialRef | None) -> Digest:
    assert reference is not None
    assert reference.digest is not None
    return reference.digest
