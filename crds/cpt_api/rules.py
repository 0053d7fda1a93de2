"""What the API server refuses beyond types: CEL rules by model, each with a message that says what to do.

A rule is checked wherever its model stands in a kind. Its cost is estimated from the bounds of the schema, which is
one reason why every list and every string has one.

Two traps shape the rules of change. A rule with `oldSelf` is skipped where the old value was absent, so such rules
stand on the parent and ask `has()` of both sides. And below lists that are no maps old and new items are not
correlated, so only items of named lists may compare themselves with what they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.alias_generators import to_camel

from cpt_api.experiment import (
    Base,
    CPTExperimentSpec,
    Dataset,
    DurationSweep,
    Evaluation,
    LearningRateSweep,
    Mixing,
    MixSweep,
    MixWeight,
    Recipe,
    Reference,
    Retention,
    Scaling,
    ScalingModel,
    Soup,
    Target,
)
from cpt_api.model import Model
from cpt_api.names import EXPERIMENT_NAME_MAX, TRIAL_NAME_MAX
from cpt_api.trial import (
    DECIDE_FIELDS,
    DECIDE_FIELDS_WORDS,
    CPTTrialSpec,
    DatasetArms,
    DecideWork,
    DecisionMetric,
    EvaluateWork,
    MergeInput,
    ModelRef,
    Resources,
    Source,
    Start,
    TrialRef,
    TrialType,
)


@dataclass(frozen=True)
class Rule:
    """One entry of `x-kubernetes-validations`."""

    rule: str
    """CEL over `self`, and over `oldSelf` for changes."""
    message: str
    """What was expected, and what to do."""
    field_path: str | None = None
    """Which field the message names."""

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a CRD."""
        entry = {"rule": self.rule, "message": self.message}
        if self.field_path is not None:
            entry["fieldPath"] = self.field_path
        return entry


def name_rules(maximum: int) -> tuple[Rule, ...]:
    """On the root: pods, jobs and labels carry the name with more behind it."""
    rest = f"at most {maximum} characters, so that the names of its jobs and pods fit; choose a shorter name"
    return (
        Rule(
            f"self.metadata.name.size() <= {maximum}",
            f"metadata.name is too long: expected {rest}",
        ),
        Rule(
            "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            "metadata.name: expected a DNS-1035 label (lower-case letters, digits and '-', a letter first, no dots)",
        ),
    )


def _exactly_one(*fields: str) -> Rule:
    present = ", ".join(f"has(self.{field})" for field in fields)
    choice = f"{', '.join(fields[:-1])} and {fields[-1]}"
    return Rule(f"[{present}].exists_one(present, present)", f"expected exactly one of {choice}")


def _immutable(fields: Iterable[str], kind: str) -> tuple[Rule, ...]:
    return tuple(
        Rule(
            f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})",
            f"immutable; create {kind} with a new name",
            field_path=f".{field}",
        )
        for field in fields
    )


def _append_only(field: str, same: str, *, may_begin: bool = False) -> Rule:
    """Items may be added; `same` says in CEL when the new item s is the old item o.

    `may_begin`: no list is an empty one, not one with defaults.
    """
    kept = f"oldSelf.{field}.all(o, self.{field}.exists(s, {same}))"
    return Rule(
        f"!has(oldSelf.{field}) || (has(self.{field}) && {kept})"
        if may_begin
        else f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || {kept})",
        "items may be added, not removed or changed; create an experiment with a new name",
        field_path=f".{field}",
    )


def _unchanged(path: tuple[str, str], absent: str) -> str:
    """CEL: an optional field of an optional block means the same before and after."""
    block, field = path
    now, before = (
        f"(has({side}.{block}) && has({side}.{block}.{field}) ? {side}.{block}.{field} : '{absent}')"
        for side in ("self", "oldSelf")
    )
    return f"{now} == {before}"


_COUNT = "quantity({0}.replace('B', 'G')).asInteger()"
"""CEL: a token count as an integer; Kubernetes quantities call 10^9 G."""


def _only_longer(field: str, word: str) -> Rule:
    """What is added to a list of token counts comes after all that was there."""
    return Rule(
        f"!has(self.{field}) || !has(oldSelf.{field}) || self.{field}.all(s, s in oldSelf.{field}"
        f" || oldSelf.{field}.all(o, {_COUNT.format('s')} > {_COUNT.format('o')}))",
        f"an added {word} must be longer than all before it",
        field_path=f".{field}",
    )


def _growing(field: str, word: str) -> tuple[Rule, ...]:
    """A list of token counts that rises, and may be continued."""
    return (
        Rule(
            f"!has(self.{field}) || self.{field}.map(t, {_COUNT.format('t')}).isSorted()",
            f"{word}s must rise: write the shortest first",
            field_path=f".{field}",
        ),
        _append_only(field, "s == o"),
        _only_longer(field, word),
    )


def _above_zero(message: str) -> Rule:
    """A weight: an Amount may be zero."""
    return Rule("self.weight.matches('^[0.]*[1-9]')", message, ".weight")


_PIN = Rule("!has(self.digest) || has(self.uri)", "digest pins the files at uri: remove it, or name a uri")
_HELD_OUT = Rule(
    "self.suite != 'Heldout' || (has(self.data) && self.data.size() > 0)"
    " || (has(self.datasets) && self.datasets.size() > 0)",
    "suite Heldout needs data (texts that nothing trains on) or datasets (names whose held-out part is meant)",
)

_TEXTS_OF_HELD_OUT = Rule(
    "self.suite == 'Heldout' || !(has(self.data) || has(self.datasets))",
    "data and datasets go with suite Heldout: the items of a suite of benchmarks lie at evaluation.itemsUri",
)

_WORK_BLOCKS = tuple(member.value.lower() for member in TrialType)

RULES: Mapping[type[Model], tuple[Rule, ...]] = {
    # unions
    Base: (
        _exactly_one("uri", "trialName"),
        _PIN,
    ),
    Reference: (
        _exactly_one("uri", "trialName"),
        _PIN,
        Rule("self == oldSelf", "immutable; add a reference under another name, or create a new experiment"),
    ),
    ScalingModel: (
        _exactly_one("uri", "trialName"),
        _PIN,
        *_immutable(("uri", "trialName", "digest", "peakLearningRate", "pretrainingTokens"), "an experiment"),
    ),
    TrialRef: (_exactly_one("digest", "trialName"),),
    Source: (
        Rule(
            "has(self.uri) == has(self.digest) && has(self.preflightName) == has(self.input)"
            " && has(self.uri) != has(self.preflightName)",
            "expected uri with its digest, or preflightName with the name of one of its inputs",
        ),
    ),
    ModelRef: (_exactly_one("source", "trial"),),
    Start: (_exactly_one("model", "segment", "random"),),
    MergeInput: (
        _exactly_one("model", "segment"),
        _above_zero("what has a weight of 0 takes no part: remove it"),
    ),
    EvaluateWork: (
        _exactly_one("model", "segment", "merge"),
        Rule("has(self.heldOut) || has(self.suites)", "there is nothing to score on: name heldOut, suites or both"),
        Rule(
            "has(self.heldOut) == has(self.sequenceLength)",
            "sequenceLength is the length of the windows of heldOut: they go together",
        ),
    ),
    DecisionMetric: (_exactly_one("heldOut", "suite"),),
    Target: (_HELD_OUT, _TEXTS_OF_HELD_OUT),
    Retention: (_HELD_OUT, _TEXTS_OF_HELD_OUT),
    Evaluation: (
        Rule(
            "has(self.itemsUri) == (has(self.also) || has(self.curves) || self.target.suite != 'Heldout'"
            " || (has(self.retention) && self.retention.suite != 'Heldout'))",
            "itemsUri is where the items of suites lie: name it for any suite but Heldout, and only then",
            field_path=".itemsUri",
        ),
        Rule(
            "!has(self.everyTokens) || has(self.curves) || self.target.suite == 'Heldout'"
            " || (has(self.retention) && self.retention.suite == 'Heldout')",
            "running trials are scored on held-out text and on curves: there are neither, so name curves, or nothing",
            field_path=".everyTokens",
        ),
    ),
    # values
    Resources: (
        Rule(
            "!has(self.image) || self.image.matches('^[^@ ]+@sha256:[0-9a-f]{64}$')",
            "an image other than the chart's must be pinned by digest: NAME@sha256:<64 hexadecimal digits>",
            field_path=".image",
        ),
    ),
    LearningRateSweep: (*_growing("rungs", "rung"), _append_only("learningRates", "s == o")),
    DurationSweep: _growing("durations", "duration"),
    MixSweep: (
        *_growing("rungs", "rung"),
        *_growing("durations", "duration"),
        _append_only("learningRates", "s == o"),
    ),
    MixWeight: (_above_zero("what has a weight of 0 takes no part: remove it"),),
    Mixing: (
        Rule(
            "(has(self.strategy) && self.strategy == 'Explicit') == has(self.phases)",
            "phases go with strategy Explicit, and only with it",
            field_path=".phases",
        ),
    ),
    DatasetArms: (_exactly_one("dataset", "phases"),),
    Soup: (
        Rule(
            "!has(self.weights) || self.weights.all(w, w.matches('[1-9]'))",
            "a weight of 0 is the base itself: remove it",
            field_path=".weights",
        ),
        _append_only("weights", "s == o"),
    ),
    Scaling: (_append_only("models", "s.name == o.name", may_begin=True),),
    DecideWork: (
        Rule(
            "(has(self.datasets) && self.datasets.size() > 0) == (self.question != 'Scaling')",
            "datasets go with every question but Scaling",
        ),
        Rule(
            " && ".join(
                f"has(self.{to_camel(name)}) == (self.question == '{question}')"
                for question, names in DECIDE_FIELDS.items()
                for name in names
            ),
            DECIDE_FIELDS_WORDS,
        ),
    ),
    # changes
    Recipe: (
        Rule(
            "has(self.learningRateSweep) || (has(self.mixing) && has(self.mixSweep) && has(self.mixing.strategy)"
            " && self.mixing.strategy == 'Explicit')",
            "without learningRateSweep the recipe needs mixing with strategy Explicit, and a mixSweep",
        ),
        Rule(
            "has(self.learningRateSweep) || !(has(self.screening) || has(self.durationSweep))",
            "screening and durationSweep go on from a learningRateSweep: add one",
        ),
        Rule(
            "!has(self.mixSweep) || has(self.mixing)",
            "mixSweep trains on the mix: add mixing, which says what that is",
            field_path=".mixSweep",
        ),
        *_immutable(("screening", "mixing"), "an experiment"),
        *(
            Rule(
                f"has(self.{field}) == has(oldSelf.{field})",
                "immutable; create an experiment with a new name",
                field_path=f".{field}",
            )
            for field in ("learningRateSweep", "durationSweep", "mixSweep", "soup", "scaling")
        ),
    ),
    Dataset: (Rule("self == oldSelf", "immutable; add a dataset under another name, or create a new experiment"),),
    CPTExperimentSpec: (
        *_immutable(("model", "replay", "evaluation", "training"), "an experiment"),
        _append_only("datasets", "s.name == o.name"),
        _append_only("references", "s.name == o.name", may_begin=True),
        Rule(
            "!has(self.references) || has(self.recipe.scaling)",
            "references are compared in recipe.scaling: add that, 'scaling: {}' compares the base's recipe with them",
            field_path=".references",
        ),
        Rule(
            _unchanged(("resources", "image"), ""),
            "immutable; create an experiment with a new name",
            field_path=".resources.image",
        ),
        Rule(
            _unchanged(("artifacts", "reuse"), "Namespace"),
            "immutable; create an experiment with a new name",
            field_path=".artifacts.reuse",
        ),
    ),
    CPTTrialSpec: (
        *(
            Rule(
                f"(self.type == '{member.value}') == has(self.{block})",
                f"the block '{block}' goes with type {member.value}, and only with it",
                field_path=f".{block}",
            )
            for member, block in zip(TrialType, _WORK_BLOCKS, strict=True)
        ),
        *_immutable(("type", *_WORK_BLOCKS, "protocol", "imageDigest", "salt"), "a trial"),
    ),
}

ROOT_RULES: Mapping[type[Model], tuple[Rule, ...]] = {
    CPTExperimentSpec: name_rules(EXPERIMENT_NAME_MAX),
    CPTTrialSpec: name_rules(TRIAL_NAME_MAX),
}
"""Rules that need `metadata`, by the spec of the kind."""
