"""Soup: which mean of the base and a trained model is released? Nothing is trained; only the chosen one is written.

    python 3e-4 @ 4M    ├─ 0.25 ─ Evaluate ┐                 Merge      Evaluate
                        ├─ 0.5  ─ Evaluate ├─ Decide ─ 0.5 ─ written ─ scored again: the same score, or nothing is
                        ├─ 0.75 ─ Evaluate │                           released
                        └─ 1    ─ its own  ┘  scores

An Evaluate trial scores a mean without its being written; a weight of 1 is the trained model, which has its scores. One
question is about all of them, since their bound on the retention is a joint one. It holds 64 means at most: where there
are more, the trained models with the best target stay, and the stage says so.

An answer was written under a user's identity: it counts when it is about the very means that it was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from cpt_api.experiment import Best
from cpt_api.result import Decision, SoupArm, SoupChoice
from cpt_api.trial import (
    Arm,
    CPTTrialSpec,
    DatasetArms,
    Measure,
    MergeInput,
    MergeWork,
    ModelRef,
    Question,
    TrialRef,
    TrialType,
)
from cpt_api.values import Amount, Digest, LearningRate, Share, Tokens
from cpt_operator.plan.candidates import Candidate
from cpt_operator.plan.question import hear, pose
from cpt_operator.plan.segments import Segments
from cpt_operator.plan.sweep import scored_by
from cpt_operator.plan.types import Failed, Outcome, StageState, Succeeded, Units

STAGE = "soup"
_MEANS_MAX = 64
"""Of one decision: the bound on all of them takes 2 s and 150 MB then, and their answer has 40 kB."""
_TOLERANCE = 1e-3
"""Relative, of bits per byte: the end of a run is kept in fp32, and written in the base's type. An answer may turn with
the last digit, so of right answers the shares may differ by their standard error."""


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean of the base and a candidate."""

    candidate: Candidate
    weight: Share
    trial: Digest
    """The Evaluate trial that scores it; of the candidate itself whoever holds its scores."""

    @property
    def title(self) -> str:
        """For people."""
        return title_of(self.candidate, self.weight)


@dataclass(frozen=True, slots=True)
class Released:
    """What was chosen, written, and found to be what was scored."""

    mean: Mean
    arm: SoupArm
    """What the decision says about it."""
    model: Digest
    """The Merge trial."""

    def best(self, units: Units) -> Best:
        """As the experiment's status shows it."""
        return self.mean.candidate.shown(units, self.model, self.arm, self.mean.weight)


@dataclass(frozen=True, slots=True)
class Soup(StageState):
    """How far it is; nothing is trained. An obstacle may be why what was chosen is not released."""

    choice: SoupChoice | None = None
    released: Released | None = None
    """None once it is decided: the base is best."""

    @property
    def answer(self) -> str:
        """What is released, or the word that says why nothing is."""
        if self.released:
            return f"{self.released.mean.title} is released"
        return f"{self.choice.verdict}, the base is best" if self.choice else "the base is best"


def plan_soup(segments: Segments, candidates: Sequence[Candidate]) -> Soup:
    """Add the means, their question, and what was chosen."""
    if not candidates:
        return Soup(sentence="There is no trained model to take a mean of: the base is best.", decided=True)
    kept, left_out = _cut(segments, candidates)
    means = _means(segments, kept)
    if means is None:
        return Soup(failures=left_out)
    failures = (*left_out, *segments.failures((mean.title, mean.trial) for mean in means))
    if any(mean.trial not in segments.outcomes for mean in means):
        return Soup(failures=failures)
    scored = [mean for mean in means if isinstance(segments.outcomes[mean.trial], Succeeded)]
    if not scored:
        return Soup(failures=failures, obstacle="no mean could be scored")
    decision = _ask(segments, scored)
    heard = hear(segments, {decision: scored}, _believed)
    if not heard.complete:
        return Soup(failures=failures, obstacle=heard.obstacle)
    choice = heard.answers[STAGE]
    soup = Soup(choice, decision=decision, sentence=choice.reason, failures=failures)
    return replace(soup, decided=True) if choice.verdict != "Chosen" else _release(segments, scored, choice, soup)


# --- the means --------------------------------------------------------------------------------------------------------


def _cut(segments: Segments, candidates: Sequence[Candidate]) -> tuple[Sequence[Candidate], tuple[str, ...]]:
    """Those that fit into one question, the best first, and what was left out in words."""
    count = max(1, _MEANS_MAX // len(segments.recipe.soup_weights))
    by_arm = {one.trial: one for one in candidates}
    ordered = sorted(by_arm.values(), key=lambda one: (one.target, one.trial))
    if len(ordered) <= count:
        return ordered, ()
    words = f"of {len(ordered)} trained models the {count} with the best target take part: one question has room for "
    return ordered[:count], (f"{words}{_MEANS_MAX} means",)


def _means(segments: Segments, candidates: Sequence[Candidate]) -> list[Mean] | None:
    """Every candidate at every weight; None until it is known who holds the scores of the candidates themselves."""
    weights = segments.recipe.soup_weights
    means = [
        Mean(one, weight, _evaluate(segments, one, weight)) for one in candidates for weight in weights if weight != 1
    ]
    if 1 not in weights:
        return means
    own = scored_by(segments, [one.trial for one in candidates])
    return None if own is None else means + [Mean(one, Share(1), own[one.trial]) for one in candidates]


def _evaluate(segments: Segments, candidate: Candidate, weight: Share) -> Digest:
    """A mean that is scored, and not written."""
    merge = merge_of(segments.inputs.model, candidate.trial, weight)
    return segments.add(segments.inputs.evaluation(merge=merge), STAGE, title_of(candidate, weight))


def merge_of(base: ModelRef, arm: Digest, weight: Share) -> MergeWork:
    """The base comes first: its config, tokenizer and types are the mean's."""
    trained = MergeInput(segment=TrialRef(digest=arm), weight=_amount(weight))
    if weight == 1:
        return MergeWork(inputs=(trained,), base=base)
    return MergeWork(inputs=(MergeInput(model=base, weight=_amount(1 - Decimal(weight))), trained))


def title_of(candidate: Candidate, weight: Share) -> str:
    """For people."""
    return f"{weight} of {candidate.name} {candidate.rate} @ {candidate.tokens}"


def _amount(value: Decimal) -> Amount:
    return Amount.parse(f"{Decimal(value):f}")  # shares have 12 digits at most, and so has what is left of 1


# --- the question -----------------------------------------------------------------------------------------------------


def _ask(segments: Segments, means: Sequence[Mean]) -> Digest:
    by_name: dict[str, list[Mean]] = {}
    for mean in means:
        by_name.setdefault(mean.candidate.name, []).append(mean)
    entries = [
        DatasetArms(**segments.subjects[name].reference, arms=tuple(_arm(mean) for mean in sorted(group, key=_place)))
        for name, group in by_name.items()
    ]
    return pose(segments, Question.SOUP, entries, STAGE, "soup")


def _place(mean: Mean) -> tuple[Tokens, LearningRate, Share]:
    return mean.candidate.tokens, mean.candidate.rate, mean.weight


def _arm(mean: Mean) -> Arm:
    tokens, rate, weight = _place(mean)
    return Arm(learning_rate=rate, trial=TrialRef(digest=mean.trial), tokens=tokens, weight=weight)


def _believed(document: Decision, means: Sequence[Mean]) -> dict[str, SoupChoice] | None:
    """None unless it is about the very means that it was asked for, and chose one whose retention holds."""
    choice = document.soup
    if choice is None:
        return None
    answered = {arm.trial: (arm.tokens, arm.learning_rate, arm.weight) for arm in choice.arms}
    if answered != {mean.trial: _place(mean) for mean in means}:
        return None
    allowed = {arm.trial for arm in choice.arms if arm.holds}
    return None if choice.verdict == "Chosen" and choice.picked not in allowed else {STAGE: choice}


# --- what was chosen --------------------------------------------------------------------------------------------------


def _release(segments: Segments, means: Sequence[Mean], choice: SoupChoice, soup: Soup) -> Soup:
    """Write it, and score what was written."""
    mean = next(mean for mean in means if mean.trial == choice.picked)
    arm = next(arm for arm in choice.arms if arm.trial == choice.picked)
    merge = merge_of(segments.inputs.model, mean.candidate.trial, mean.weight)
    model = segments.add(CPTTrialSpec(type=TrialType.MERGE, merge=merge), STAGE, mean.title)
    written = segments.inputs.evaluation(model=ModelRef(trial=TrialRef(digest=model)))
    scored = segments.add(written, STAGE, f"{mean.title}, as written")
    for what, digest in (("could not be written", model), ("could not be scored as written", scored)):
        match segments.outcomes.get(digest):
            case Failed(reason, message):
                return replace(soup, obstacle=f"{mean.title} was chosen and {what}: {reason}: {message}")
            case None:
                return soup
    if different := _differs(segments, mean.trial, scored):
        return replace(soup, obstacle=f"{mean.title} was chosen, and what was written is another model: {different}")
    return replace(soup, released=Released(mean, arm, model), decided=True)


def _differs(segments: Segments, unwritten: Digest, written: Digest) -> str:
    """Where the two scores are not the same, in words; empty where they are."""
    was, now = (_scores(segments.outcomes[digest]) for digest in (unwritten, written))
    for what, name in _wanted(segments, was):
        here, there = was.get(name), now.get(name)
        if here is None or there is None or abs(here.value - there.value) > here.tolerance:
            found = [one.value if one else None for one in (there, here)]
            return (
                f"{what} are {found[0]} as written, {found[1]} before; do both trials have one image? an experiment "
                "with artifacts.reuse: None does all of it anew"
            )
    return ""


@dataclass(frozen=True, slots=True)
class _Number:
    """A score, and how much another of the same model may differ."""

    value: float
    tolerance: float


_Name = tuple[str, str]
"""A text's digest and nothing, or a suite and its group."""


def _wanted(segments: Segments, was: Mapping[_Name, _Number]) -> list[tuple[str, _Name]]:
    """What must be the same, in words."""
    texts = [("bits per byte of a text", (ref.digest or "", "")) for ref in segments.inputs.held_out]
    groups = {suite: [name for name in was if name[0] == suite and name[1]] for suite in segments.recipe.suites}
    missing = [(f"scores of {suite}", (suite, "")) for suite, names in groups.items() if not names]
    return [*texts, *missing, *((f"{name[1]} of {name[0]}", name) for names in groups.values() for name in names)]


def _scores(outcome: Outcome) -> dict[_Name, _Number]:
    assert isinstance(outcome, Succeeded), "it has ended well"
    found: dict[_Name, _Number] = {
        (str(score.text), ""): _bits(score.bits_per_byte) for score in outcome.result.held_out
    }
    for score in outcome.result.suites:
        for group in score.groups:
            is_bits = group.measure is Measure.BITS_PER_BYTE
            found[score.suite, group.group] = (
                _bits(group.value) if is_bits else _Number(group.value, group.standard_error)
            )
    return found


def _bits(value: float) -> _Number:
    return _Number(value, _TOLERANCE * abs(value))
