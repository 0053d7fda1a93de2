"""Strategy MergeProxy: the mixture is found on merges of trunks that the sweep has trained: it costs evaluations only.

    sweep, first rung     python 3e-4 @ 0.8B, uncooled     perl 3e-4 @ 0.8B, uncooled       equal tokens, one rate
    9 Evaluate trials     1 python     0.5 python + 0.5 perl     0.414 python + 0.586 perl  merges, never written
    one Decide trial      which weights promise most, within caps, drawn towards the prior?

The first rung is the only point where every dataset has every rate. Merges are scored on the target. One whose
evaluation fails for good is left out, as long as there are two more than datasets: a law has a coefficient for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

from cpt_api.result import Decision, Proposal
from cpt_api.trial import (
    PROXY_DATASETS_MAX,
    Arm,
    DatasetArms,
    MergeInput,
    MergeWork,
    ProxyMerge,
    Question,
    TrialRef,
)
from cpt_api.values import Amount, Digest, Share
from cpt_operator.plan.question import hear, pose
from cpt_operator.plan.segments import Line, Segments
from cpt_operator.plan.simplex import UNITS, Mixture, mixtures, thousandths
from cpt_operator.plan.sweep import scored_by
from cpt_operator.plan.types import Succeeded
from cpt_operator.plan.weights import Weights, rounded

Lines = Mapping[Digest, Line]
"""Of the sweep, one for each dataset and all at one rate, by its Prepare trial."""
Asked = frozenset[Mixture]
"""The mixtures of a question."""


@dataclass(frozen=True, slots=True)
class Proxies:
    """How far the search is."""

    weights: Weights | None = None
    """The mixture, of what has a part in it; None while it is not known, and where merges cannot tell."""
    proposal: Proposal | None = None
    """The whole answer."""
    decision: Digest | None = None
    """The Decide trial."""
    sentence: str = ""
    """How it was found, or why there is none, once that is sure."""
    decided: bool = False
    failures: tuple[str, ...] = ()
    """Evaluations that failed for good, in words."""
    obstacle: str | None = None
    """Why it cannot be decided."""

    def expected(self, weights: Weights) -> Amount | None:
        """Bits per byte of a merge with these weights: of the proposal as predicted, of others as measured."""
        if self.proposal is None:
            return None
        units = thousandths([weights.get(one.dataset, Fraction(0)) for one in self.proposal.components])
        known = {_units(merge.weights): merge.target for merge in self.proposal.merges}
        known[_units(one.weight for one in self.proposal.components)] = self.proposal.expected
        return Amount.parse(f"{known[units]:.9g}") if units in known else None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the mixture hangs on beside the merges."""

    prior: Weights
    """It is drawn towards these."""
    caps: Weights | None
    """The largest weights."""
    others: tuple[Weights, ...] = ()
    """Mixtures that are trained anyway: merges of these are scored too."""


def plan_proxies(segments: Segments, lines: Lines, bounds: Bounds, stage: str) -> Proxies:
    """Add the merges' evaluations and the question."""
    if len(lines) > PROXY_DATASETS_MAX:
        return _none(f"{len(lines)} datasets are more than the {PROXY_DATASETS_MAX} of which merges are compared")
    search = _Search.of(segments, lines, bounds, stage)
    if sum(search.caps) < UNITS:
        return _none("no mixture keeps every dataset within its epochs")
    arms = [segments.arm(line, segments.recipe.rungs[0], stage) for line in search.lines.values()]
    scored = scored_by(segments, arms)
    if scored is None:
        return Proxies()
    trunks = [segments.trunk(line, segments.recipe.rungs[0]) for line in search.lines.values()]
    for line, arm, trunk in zip(search.lines.values(), arms, trunks, strict=True):
        if arm not in scored or trunk is None or not segments.can_continue(trunk):
            return _none(f"{line.name} has no trunk at {line.rate} that could be merged")
    present = [trunk for trunk in trunks if trunk]
    added = {mixture: search.evaluation(mixture, present) for mixture in search.mixtures}
    failures = segments.failures((segments.trials.title(digest), digest) for digest in added.values())
    if any(digest not in segments.outcomes for digest in added.values()):
        return Proxies(failures=failures)
    found = {mixture: one for mixture, one in added.items() if isinstance(segments.outcomes[one], Succeeded)}
    if len(found) < len(lines) + 2:
        return _none(f"only {len(found)} of {len(added)} merges have a score", failures)
    return search.heard(search.ask([scored[arm] for arm in arms], found), frozenset(found), failures)


def _none(reason: str, failures: tuple[str, ...] = ()) -> Proxies:
    return Proxies(sentence=f"{reason}.", decided=True, failures=failures)


@dataclass(frozen=True, slots=True)
class _Search:
    """What the trials of one search share."""

    segments: Segments
    lines: Lines
    """In the order of their data, not in that of what people call it; so are prior and caps."""
    prior: tuple[Share, ...]
    caps: Mixture
    others: tuple[Mixture, ...]
    stage: str

    @classmethod
    def of(cls, segments: Segments, lines: Lines, bounds: Bounds, stage: str) -> _Search:
        """In whole thousandths."""
        names, prior, caps = sorted(lines), rounded(bounds.prior), bounds.caps
        return cls(
            segments,
            {name: lines[name] for name in names},
            tuple(Share.parse(f"{float(prior[name]):.4f}") for name in names),
            tuple(min(UNITS, int(caps[name] * UNITS)) if caps else UNITS for name in names),
            tuple(thousandths([other[name] for name in names]) for other in bounds.others),
            stage,
        )

    @property
    def mixtures(self) -> tuple[Mixture, ...]:
        """Those that are trained are among them."""
        return mixtures(len(self.lines), self.others)

    def evaluation(self, mixture: Mixture, trunks: Iterable[Digest]) -> Digest:
        """Of a merge; a single trunk too is one, so that all of them are rounded to the model's type alike."""
        parts = [(line, trunk, unit) for line, trunk, unit in zip(self.lines.values(), trunks, mixture, strict=True)]
        inputs = tuple(
            MergeInput(segment=TrialRef(digest=trunk), weight=Amount.parse(_decimal(unit)))
            for _, trunk, unit in parts
            if unit
        )
        spec = self.segments.inputs.evaluation(target_only=True, merge=MergeWork(inputs=inputs))
        title = " + ".join(f"{_decimal(unit)} {line.name}" for line, _, unit in parts if unit)
        return self.segments.add(spec, self.stage, f"merge of {title}")

    def ask(self, cooled: Iterable[Digest], merges: Mapping[Mixture, Digest]) -> Digest:
        """Add the Decide trial."""
        tokens = self.segments.recipe.rungs[0]
        datasets = [
            DatasetArms(
                dataset=TrialRef(digest=data),
                arms=(Arm(learning_rate=line.rate, trial=TrialRef(digest=arm), tokens=tokens),),
            )
            for (data, line), arm in zip(self.lines.items(), cooled, strict=True)
        ]
        merged = tuple(
            ProxyMerge(weights=_shares(mixture), trial=TrialRef(digest=digest)) for mixture, digest in merges.items()
        )
        return pose(
            self.segments,
            Question.MIXTURE_PROXY,
            datasets,
            self.stage,
            "mixture by merges",
            retention=None,
            merges=merged,
            prior=self.prior,
            caps=_shares(self.caps),
        )

    def heard(self, decision: Digest, asked: Asked, failures: tuple[str, ...]) -> Proxies:
        """What the Decide trial says, once it has."""
        heard = hear(self.segments, {decision: asked}, partial(_believed, self))
        if not heard.complete:
            return Proxies(failures=failures, obstacle=heard.obstacle)
        proposal = heard.answers[self.stage]
        weights = {one.dataset: one.weight.fraction for one in proposal.components if one.weight}
        is_fit = proposal.verdict == "Proposed"
        return Proxies(
            weights=weights if is_fit else None,
            proposal=proposal,
            decision=decision,
            sentence=heard.sentence if is_fit else proposal.reason,
            decided=True,
            failures=failures,
        )


def _believed(search: _Search, document: Decision, asked: Asked) -> Mapping[str, Proposal] | None:
    """None unless it is a mixture of the very datasets, within their caps, by the very merges."""
    proposal = document.proposal
    if proposal is None or proposal.learning_rate != next(iter(search.lines.values())).rate:
        return None
    parts = proposal.components
    if [one.dataset for one in parts] != list(search.lines) or sum(one.weight for one in parts) != 1:
        return None
    if any(one.weight * UNITS > cap for one, cap in zip(parts, search.caps, strict=True)):
        return None
    if {_units(merge.weights) for merge in proposal.merges} != asked:
        return None
    if min(proposal.expected, *(merge.target for merge in proposal.merges)) < 0:
        return None
    return {search.stage: proposal}


def _units(weights: Iterable[Share]) -> Mixture:
    return tuple(int(weight * UNITS) for weight in weights)


def _shares(mixture: Mixture) -> tuple[Share, ...]:
    return tuple(Share.parse(_decimal(unit)) for unit in mixture)


def _decimal(unit: int) -> str:
    """Of thousandths."""
    return f"{unit // UNITS}.{unit % UNITS:03d}".rstrip("0").rstrip(".")
