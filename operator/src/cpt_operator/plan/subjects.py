"""Whom a question is about: a dataset with its replay data, or a mix of several. What both have in common.

python      0.5 python, 0.5 speeches                         answers call it by its Prepare trial
the mix     0.152 python, 0.798 perl, 0.05 speeches          answers call it by `mix_digest` of exactly that
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from cpt_api.digest import mix_digest
from cpt_api.trial import Component, Phase, TrialRef
from cpt_api.values import Amount, Digest, Tokens
from cpt_operator.plan.inputs import Inputs
from cpt_operator.plan.types import Outcomes, Succeeded
from cpt_operator.plan.weights import Weights

MIX = "the mix"
"""How it is called; with its space no name of a dataset."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A dataset or a mix."""

    name: str
    """The dataset's, or MIX."""
    digest: Digest
    """How answers call it."""
    phases: tuple[Phase, ...]
    """What its arms read."""
    dataset: Digest | None = None
    """Its Prepare trial; None for a mix."""

    @property
    def reference(self) -> Mapping[str, object]:
        """As a question names it: fields of DatasetArms."""
        return {"dataset": TrialRef(digest=self.dataset)} if self.dataset else {"phases": self.phases}


def of_datasets(inputs: Inputs) -> dict[str, Subject]:
    """Every candidate by its name, with its share of replay data."""
    recipe, prepared = inputs.recipe, inputs.prepared
    replay = prepared[recipe.replay.name] if recipe.replay else None
    subjects = {}
    for dataset in recipe.spec.datasets:
        data = prepared[dataset.name]
        phase = phase_of(_with_replay({data: Fraction(1)}, replay, recipe.screening_share))
        subjects[dataset.name] = Subject(dataset.name, data, (phase,), data)
    return subjects


def of_mix(inputs: Inputs, weights: Sequence[tuple[Weights, Tokens | None]], name: str = MIX) -> Subject:
    """Of weights by phase, and where each phase ends."""
    recipe = inputs.recipe
    assert recipe.mix is not None, "there is mixing"
    replay = inputs.prepared[recipe.replay.name] if recipe.replay else None
    phases = tuple(
        phase_of(_with_replay(parts, replay, recipe.mix.share), None if until is None else recipe.whole_batches(until))
        for parts, until in weights
    )
    return Subject(name, mix_digest(phases), phases)


def _with_replay(parts: Weights, replay: Digest | None, share: Fraction) -> dict[Digest, Fraction]:
    """These parts in what replay data leaves."""
    all_parts = {data: weight * (1 - share) for data, weight in parts.items()}
    if replay:
        all_parts[replay] = all_parts.get(replay, Fraction(0)) + share
    return all_parts


def phase_of(parts: Mapping[Digest, Fraction], until: Tokens | None = None) -> Phase:
    """Components with their weights; those without weight are left out."""
    return _phase(tuple(parts.items()), until)


@lru_cache(maxsize=1024)
def _phase(parts: tuple[tuple[Digest, Fraction], ...], until: Tokens | None) -> Phase:
    """Kept, since every arm of a dataset has the same, and every turn asks for all arms."""
    components = (
        Component(dataset=TrialRef(digest=digest), weight=_amount(weight)) for digest, weight in parts if weight
    )
    return Phase(mixture=tuple(components), until_tokens=until)


def _amount(weight: Fraction) -> Amount:
    # decimals have at most 12 digits; what the parts of an Explicit mix have beyond is cut
    return Amount.parse(f"{float(weight):.12f}".rstrip("0").rstrip("."))


# --- how often data is read -----------------------------------------------------------------------------------------


def train_tokens(outcomes: Outcomes, prepared: Digest) -> int | None:
    """That a Prepare trial counted; None while it has not."""
    outcome = outcomes.get(prepared)
    size = outcome.result.numbers.get("trainTokens") if isinstance(outcome, Succeeded) else None
    return int(size) if size else None


def epochs(subject: Subject, inputs: Inputs, outcomes: Outcomes, tokens: Tokens) -> dict[Digest, Fraction]:
    """How often an arm of that length reads each of its datasets, as far as their sizes are known; not replay data."""
    replay = inputs.prepared[inputs.recipe.replay.name] if inputs.recipe.replay else None
    read: dict[Digest, Fraction] = {}
    for span, phase in _spans(subject.phases, tokens):
        total = sum(part.weight.fraction for part in phase.mixture)
        for part in phase.mixture:
            data = part.dataset.digest
            if data and (data != replay or data == subject.dataset):
                read[data] = read.get(data, Fraction(0)) + span * part.weight.fraction / total
    return {data: count / size for data, count in read.items() if (size := train_tokens(outcomes, data))}


def _spans(phases: Sequence[Phase], tokens: Tokens) -> Iterable[tuple[int, Phase]]:
    """How many of the first `tokens` belong to each phase."""
    begin = 0
    for phase in phases:
        end = tokens if phase.until_tokens is None else min(tokens, phase.until_tokens)
        if end > begin:
            yield end - begin, phase
            begin = end
