"""Mixing: in which proportions are the datasets that survived read together?

The strategy proposes; what it proposes is trained beside the simplest mixes, all at one rate to the first rung, and is
kept unless it is detectably worse than one of them. With chosen durations of 8B for python and 40B for perl:

    OptimalTokens   0.1667 python, 0.8333 perl      the proposal
    Uniform         0.5    python, 0.5    perl      trained controls
    Proportional    0.3    python, 0.7    perl

Replay data comes on top, with `replay.share`. Nobody reads a dataset more than 16 times in the longest mix that is
asked for: weights are capped there. Where one dataset survived, or all strategies say the same, nothing is trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

from cpt_api.experiment import MixShare, MixStrategy
from cpt_api.result import Decision, MixChoice
from cpt_api.trial import Arm, DatasetArms, Question, TrialRef
from cpt_api.values import Amount, Digest, LearningRate, Share, Tokens
from cpt_operator.plan.durations import Durations
from cpt_operator.plan.mixrecipe import MixRecipe
from cpt_operator.plan.proxies import Bounds, Proxies, plan_proxies
from cpt_operator.plan.question import Controls, control_arms, hear, pose
from cpt_operator.plan.recipe import EPOCHS_MAX, EPOCHS_WARNED
from cpt_operator.plan.segments import Line, Segments
from cpt_operator.plan.subjects import MIX, Subject, epochs, of_mix, train_tokens
from cpt_operator.plan.sweep import Sweep, line_of, scored_by
from cpt_operator.plan.types import NO_TOKENS, StageState
from cpt_operator.plan.weights import Weights, capped, proportional, rounded, uniform

STAGE = "mixing"
_DATASETS_MAX = 63
"""Of a mix: with replay data as many as a phase holds."""
_SHARES_MAX = 256
"""In the status."""
_CONTROLS = (MixStrategy.UNIFORM, MixStrategy.PROPORTIONAL)
"""That a proposal is held against."""

Candidates = Mapping[str, tuple[Subject, Weights]]
"""By strategy, the proposal first."""


@dataclass(frozen=True, slots=True)
class Survivor:
    """A dataset that goes into the mix."""

    data: Digest
    """Its Prepare trial."""
    rate: LearningRate
    """That was chosen for it."""
    tokens: Tokens | None
    """Its chosen duration."""


@dataclass(frozen=True, slots=True)
class Mixing(StageState):
    """How far it is. Among the failures is what is repeated often."""

    subject: Subject | None = None
    """The mix that is taken; None while that is open, and where there is nothing to mix."""
    shares: tuple[MixShare, ...] = ()
    """The same for the status."""
    choice: MixChoice | None = None
    """What was decided, where there was something to decide."""
    compared: tuple[Subject, ...] = ()
    """All mixes that were trained for it."""

    @property
    def named(self) -> tuple[Subject, ...]:
        """All mixes that decisions speak of, by how people call them: the one that is taken first."""
        return (*((self.subject,) if self.subject else ()), *self.compared)


def plan_mixing(
    segments: Segments, sweep: Sweep, durations: Durations | None, survivors: Iterable[str], controls: Controls
) -> Mixing:
    """Add the mixes and the question about them. All stages before are decided."""
    mix = segments.recipe.mix
    assert mix is not None, "there is mixing"
    if mix.strategy is MixStrategy.EXPLICIT:
        return _explicit(segments, mix)
    found = _survivors(segments, sweep, durations, survivors, needs_tokens=mix.strategy is MixStrategy.OPTIMAL_TOKENS)
    if not found:
        return Mixing(decided=True, sentence="No dataset survived: there is nothing to mix.")
    if len(found) > _DATASETS_MAX:
        return Mixing(
            obstacle=f"{len(found)} datasets survived, a mix holds {_DATASETS_MAX}: screen them more strictly"
        )
    proxies = None
    if mix.strategy is MixStrategy.MERGE_PROXY and len(found) > 1:
        proxies = _by_merges(segments, sweep, mix, found)
        if not proxies.decided:
            return Mixing(failures=proxies.failures, obstacle=proxies.obstacle)
    candidates = _candidates(segments, mix, found, proxies)
    if isinstance(candidates, str):
        return Mixing(obstacle=candidates)
    subject, weights = next(iter(candidates.values()))
    if len(candidates) == 1:
        which = "One dataset survived" if len(found) == 1 else "All strategies say the same"
        made = Mixing(decided=True, sentence=f"{which}: there is nothing to compare.")
        return _taken(segments, made, subject, [weights])
    made = _compared(segments, candidates, common_rate(sweep, found), controls, proxies)
    return made if proxies is None else _with_search(made, proxies)


def tokens_at_most(segments: Segments) -> Tokens:
    """The proposal and its controls, while neither is known."""
    mix = segments.recipe.mix
    if mix is None or mix.strategy is MixStrategy.EXPLICIT or len(segments.subjects) < 2:
        return NO_TOKENS
    return Tokens(len({mix.strategy, *_CONTROLS}) * segments.recipe.rungs[0])


def common_rate(sweep: Sweep, survivors: Mapping[str, Survivor]) -> LearningRate:
    """At which mixes are compared; where none is shared the lowest of those that were chosen."""
    return shared_rate(sweep, survivors) or min(survivor.rate for survivor in survivors.values())


def shared_rate(sweep: Sweep, survivors: Iterable[str]) -> LearningRate | None:
    """The best at the first rung over all of them, of those that every one has."""
    scores: list[dict[LearningRate, float]] = []
    for name in survivors:
        arms = sweep.first[name].arms if name in sweep.first else ()
        scores.append({arm.learning_rate: arm.target for arm in arms if arm.target is not None})
    shared = set(scores[0]).intersection(*scores[1:])
    return min(shared, key=lambda rate: (sum(sorted(each[rate] for each in scores)), rate), default=None)


# --- candidates -----------------------------------------------------------------------------------------------------


def _survivors(
    segments: Segments, sweep: Sweep, durations: Durations | None, names: Iterable[str], *, needs_tokens: bool
) -> dict[str, Survivor]:
    """Those with a rate (and a duration), by name; data that stands under two names is one."""
    found: dict[str, Survivor] = {}
    for name in sorted(names, key=lambda name: (segments.subjects[name].digest, name)):
        rate = sweep.answers[name].choice.chosen
        lasting = durations.answers.get(name) if durations else None
        tokens = lasting.choice.chosen if lasting else None
        data = segments.subjects[name].digest
        if rate and (tokens or not needs_tokens) and data not in {one.data for one in found.values()}:
            found[name] = Survivor(data, rate, tokens)
    return found


def _by_merges(segments: Segments, sweep: Sweep, mix: MixRecipe, survivors: Mapping[str, Survivor]) -> Proxies:
    """The mixture that merges of the sweep's trunks propose, drawn towards the sizes of the datasets."""
    rate = shared_rate(sweep, survivors)
    if rate is None:
        return Proxies(sentence="No rate has a score for every dataset, so there is nothing to merge.", decided=True)
    caps = _caps(segments, mix, survivors)
    plain = [weights for strategy in _CONTROLS if (weights := _plain(segments, strategy, survivors))]
    trained = tuple(rounded(capped(weights, caps) if caps else weights, caps) for weights in plain)
    lines = {survivor.data: line_of(segments, name, rate) for name, survivor in survivors.items()}
    return plan_proxies(segments, lines, Bounds(plain[-1], caps, trained), STAGE)


def _proposed(mix: MixRecipe, survivors: Mapping[str, Survivor], proxies: Proxies | None) -> MixStrategy:
    """The strategy; where merges cannot tell, what needs none."""
    if proxies is None or proxies.weights:
        return mix.strategy
    have_tokens = all(survivor.tokens for survivor in survivors.values())
    return MixStrategy.OPTIMAL_TOKENS if have_tokens else MixStrategy.UNIFORM


def _candidates(
    segments: Segments, mix: MixRecipe, survivors: Mapping[str, Survivor], proxies: Proxies | None
) -> Candidates | str:
    """Mixes that differ, the proposal first; or why there is no proposal."""
    caps = _caps(segments, mix, survivors)
    candidates: dict[str, tuple[Subject, Weights]] = {}
    known: list[Weights] = []
    proposed = _proposed(mix, survivors, proxies)
    for strategy in dict.fromkeys((proposed, *_CONTROLS)):
        by_merges = proxies.weights if proxies and strategy is MixStrategy.MERGE_PROXY else None
        plain = by_merges or _plain(segments, strategy, survivors)
        if plain is None and strategy is proposed:
            return f"{strategy}: the number of tokens of a dataset is not known; run its Prepare trial again"
        if plain is None:
            continue
        weights = rounded(capped(plain, caps) if caps else plain, caps)
        if weights not in known:
            known.append(weights)
            candidates[strategy] = (of_mix(segments.inputs, [(weights, None)], f"{strategy} mix"), weights)
    return candidates


def _plain(segments: Segments, strategy: MixStrategy, survivors: Mapping[str, Survivor]) -> Weights | None:
    """By the strategy alone; None where a size is not known."""
    data = [survivor.data for survivor in survivors.values()]
    if strategy is MixStrategy.UNIFORM or len(data) == 1:
        return uniform(data)
    if strategy is MixStrategy.OPTIMAL_TOKENS:
        return proportional({one.data: one.tokens for one in survivors.values() if one.tokens})
    sizes = {name: size for name in data if (size := train_tokens(segments.outcomes, name))}
    return proportional(sizes) if len(sizes) == len(data) else None


def _caps(segments: Segments, mix: MixRecipe, survivors: Mapping[str, Survivor]) -> Weights | None:
    """The largest weights with which nothing is read too often in the longest mix that the data allows.

    None where sizes are not known, and where there is no mix sweep that would be long.
    """
    sizes = {one.data: train_tokens(segments.outcomes, one.data) for one in survivors.values()}
    known = {data: size for data, size in sizes.items() if size}
    if mix.longest is None or len(known) < len(sizes):
        return None
    room = EPOCHS_MAX * sum(known.values()) / (1 - mix.share)
    lengths = [tokens for tokens in (*mix.rungs, *mix.durations) if tokens <= room]
    longest = max(lengths, default=mix.rungs[0])
    return {data: EPOCHS_MAX * size / (longest * (1 - mix.share)) for data, size in known.items()}


def _explicit(segments: Segments, mix: MixRecipe) -> Mixing:
    """As written."""
    prepared = segments.inputs.prepared
    phases = []
    for phase in mix.phases:
        parts: dict[Digest, Fraction] = {}
        for part in phase.weights:
            data = prepared[part.dataset]
            parts[data] = parts.get(data, Fraction(0)) + part.weight.fraction
        phases.append((proportional(parts), phase.until_tokens))
    subject = of_mix(segments.inputs, phases)
    return _taken(segments, Mixing(decided=True, sentence="As written."), subject, [parts for parts, _ in phases])


# --- the question ---------------------------------------------------------------------------------------------------


def _with_search(made: Mixing, proxies: Proxies) -> Mixing:
    """What merges said comes first."""
    return replace(
        made,
        failures=(*proxies.failures, *made.failures),
        sentence=" ".join(filter(None, [proxies.sentence if made.decided else "", made.sentence])),
    )


def _compared(
    segments: Segments, candidates: Candidates, rate: LearningRate, controls: Controls, proxies: Proxies | None
) -> Mixing:
    """All candidates as arms, and their decision when all of them have ended."""
    recipe = segments.recipe
    end = recipe.rungs[0]
    arms = {
        name: segments.arm(Line(subject.name, subject.phases, rate, recipe.seed), end, STAGE)
        for name, (subject, _) in candidates.items()
    }
    runs = [digest for digests in controls.values() for digest in digests]
    scored = scored_by(segments, [*arms.values(), *runs])
    failures = segments.failures((f"the {name} mix", digest) for name, digest in arms.items())
    made = Mixing(failures=failures, compared=tuple(subject for subject, _ in candidates.values()))
    if scored is None:
        return made
    present = {name: arm for name, arm in arms.items() if arm in scored}
    if not present:
        return replace(made, obstacle="no mix is left")
    believed = proxies if proxies and proxies.weights else Proxies()
    expected = {name: believed.expected(weights) for name, (_, weights) in candidates.items()}
    asked = {_ask(segments, candidates, present, expected, rate, controls, scored): present}
    heard = hear(segments, asked, partial(_believed, candidates, rate))
    if not heard.complete:
        return replace(made, obstacle=heard.obstacle)
    choice = heard.answers[STAGE]
    made = replace(made, choice=choice, decision=next(iter(asked)), decided=True)
    made = replace(made, sentence=f"{choice.verdict}: {choice.reason} {heard.sentence}")
    subject, weights = next(one for one in candidates.values() if one[0].digest == choice.chosen)
    return _taken(segments, made, subject, [weights])


def _ask(
    segments: Segments,
    candidates: Candidates,
    present: Mapping[str, Digest],
    expected: Mapping[str, Amount | None],
    rate: LearningRate,
    controls: Controls,
    scored: Mapping[Digest, Digest],
) -> Digest:
    recipe = segments.recipe
    proposal, _ = next(iter(candidates.values()))
    entries = [
        DatasetArms(
            **candidates[name][0].reference,
            arms=(Arm(learning_rate=rate, trial=TrialRef(digest=scored[digest]), tokens=recipe.rungs[0]),),
            expected=expected.get(name),
        )
        for name, digest in present.items()
    ]
    runs = ((at, recipe.control_tokens, digests) for at, digests in sorted(controls.items()))
    return pose(
        segments,
        Question.MIX,
        entries,
        STAGE,
        "mixes",
        controls=control_arms(runs, scored),
        proposal=proposal.digest,
        mixes=len(candidates),
    )


def _believed(
    candidates: Candidates, rate: LearningRate, document: Decision, present: Mapping[str, Digest]
) -> dict[str, MixChoice] | None:
    """None unless it is about the very mixes that it was asked for, and takes one of them."""
    choice = document.mix
    proposal, _ = next(iter(candidates.values()))
    if choice is None or choice.proposal != proposal.digest or choice.learning_rate != rate:
        return None
    trained = {candidates[name][0].digest for name in present}
    if {arm.mix for arm in choice.arms} != trained or choice.chosen not in {*trained, proposal.digest}:
        return None
    if (choice.chosen != proposal.digest) != (choice.verdict == "Replaced"):
        return None
    return {STAGE: choice}


# --- what is taken --------------------------------------------------------------------------------------------------


def _taken(segments: Segments, made: Mixing, subject: Subject, parts: list[Weights]) -> Mixing:
    names = {segments.subjects[name].digest: name for name in sorted(segments.subjects, reverse=True)}
    shares = tuple(
        MixShare(
            dataset=names[data],
            weight=Share.parse(f"{float(weight):.4f}"),
            phase=number if len(parts) > 1 else None,
        )
        for number, weights in enumerate(parts, start=1)
        for data, weight in sorted(weights.items(), key=lambda item: names[item[0]])
    )
    words = tuple(_repeated(segments, subject, names))
    taken = _renamed(subject)
    return replace(made, subject=taken, shares=shares[:_SHARES_MAX], failures=(*made.failures, *words))


def _renamed(subject: Subject) -> Subject:
    """The mix that is taken, under its own name: it is trained on from here, the compared ones are not."""
    return Subject(MIX, subject.digest, subject.phases)


def _repeated(segments: Segments, subject: Subject, names: Mapping[Digest, str]) -> Iterable[str]:
    """In words, what the longest mix reads more than four times."""
    mix = segments.recipe.mix
    if mix is None or mix.longest is None:
        return
    for data, count in epochs(subject, segments.inputs, segments.outcomes, mix.longest).items():
        if count > EPOCHS_WARNED:
            yield f"{names[data]} is repeated {float(count):.1f} times in {mix.longest} tokens"
