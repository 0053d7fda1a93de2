"""The two small documents of the store that the control plane reads: `result.json` and `progress.json`.

They are written under a user's identity, so nothing in them is believed before it was checked: size, shape, finite
numbers, and that they speak of this very trial.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, ValidationError

from cpt_api.digest import input_digests
from cpt_api.layout import PROGRESS_MAX_BYTES, RESULT_MAX_BYTES
from cpt_api.model import Model, Name, Text, Uri
from cpt_api.trial import PROXY_DATASETS_MAX, CPTTrialSpec, InputKind, Measure, Question, SuiteName, TrialType
from cpt_api.values import Amount, Digest, LearningRate, Share, Tokens

M = TypeVar("M", bound=Model)


class DocumentError(ValueError):
    """A document of the store that is not believed; the message says why."""


def _relative(key: str) -> str:
    if key.startswith("/") or ".." in key.split("/") or "//" in key:
        raise ValueError(f"key {key!r} leaves the trial's own prefix")
    return key


Finite = Annotated[float, Field(allow_inf_nan=False)]
BITS_MAX = 1e9
Bits = Annotated[float, Field(allow_inf_nan=False, ge=-BITS_MAX, le=BITS_MAX)]
"""A score in a decision's unit, or a difference of such: bits per byte, or points that are missing from a hundred, so
that lower is better; bounded, so that it has a short text in every status."""
Count = Annotated[int, Field(ge=0, le=2**53)]
"""What a status can hold as a 64-bit integer, and JavaScript as a number."""
Ratio = Annotated[float, Field(allow_inf_nan=False, ge=0, le=1e12)]
"""Of two amounts of compute; bounded, so that it has a short text in every status."""
Key = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_relative)]
"""Relative to the trial's data prefix."""


class Outcome(StrEnum):
    """How a committed trial ended."""

    COMPLETED = "Completed"
    DIVERGED = "Diverged"
    """Train: too many steps with a non-finite gradient."""
    FINDINGS = "Findings"
    """Preflight: something is wrong with the inputs."""


class Output(Model):
    """One object that a trial wrote."""

    key: Key
    """Below its data prefix."""
    bytes: Annotated[int, Field(ge=0)]
    """Its size."""
    sha256: Digest
    """Of its bytes."""


class HeldOutScore(Model):
    """Bits per byte on one held-out text."""

    text: Digest
    """The Prepare trial whose held-out text it is."""
    bits_per_byte: Bits
    """Sum of bits / sum of source bytes."""
    standard_error: Bits
    """Of it, clustered by document."""
    documents: Count
    """Clusters."""
    bytes: Count
    """UTF-8 source bytes."""
    table: Key
    """The item table."""


class GroupScore(Model):
    """One number of a suite."""

    group: Annotated[str, Field(max_length=63)]
    """Which; the suite's first is its score."""
    measure: Measure
    """The first is a share of right answers, above what guessing gives where the suite says so; the second falls."""
    value: Bits
    """The nested mean."""
    standard_error: Bits
    """Of it: strata are fixed, clusters vary."""


class SuiteScore(Model):
    """What a model scores on a suite."""

    suite: SuiteName
    """As the trial names it."""
    digest: Digest
    """Of all that the suite says."""
    fingerprint: Digest
    """Of how it was scored: tables are compared only where it is the same."""
    groups: Annotated[tuple[GroupScore, ...], Field(min_length=1, max_length=16)]
    """Its numbers, in its order."""
    items: Count
    """Rows of the table."""
    warnings: Annotated[tuple[Text, ...], Field(max_length=64)] = ()
    """What is odd about the answers, and is allowed."""
    table: Key
    """The item table."""


class ResolvedInput(Model):
    """What Preflight saw at an address."""

    name: Name
    """Of the input in the Preflight's spec."""
    kind: InputKind
    """As asked."""
    uri: Uri
    """As asked."""
    digest: Digest
    """Of the listing."""
    files: Count
    """Objects."""
    bytes: Count
    """Their sizes."""


class Finding(Model):
    """One thing that is wrong with an input."""

    input: Name | None = None
    """Which; absent where it concerns all."""
    reason: Annotated[str, Field(max_length=64)]
    """One word."""
    message: Text
    """What was found, what was expected, what to do."""


class Estimate(Model):
    """A difference with its uncertainty; positive is better."""

    value: Bits
    """The estimate."""
    standard_error: Bits | None = None
    """Absent where there is no estimate of the run noise."""
    degrees_of_freedom: Finite | None = None
    """Of the t quantile."""
    lower: Bits | None = None
    """Of the interval."""
    upper: Bits | None = None
    """Of the interval."""


class RateArm(Model):
    """One learning rate at one rung."""

    learning_rate: LearningRate
    """Its rate."""
    trial: Digest
    """Its trial."""
    outcome: Literal["Completed", "Diverged"]
    """A diverged rate is a result."""
    target: Bits | None = None
    """Bits per byte, lower is better; absent when it diverged."""
    target_interval: tuple[Bits, Bits] | None = None
    """95 %, items only."""
    retention: Bits | None = None
    """Bits per byte."""
    retention_interval: tuple[Bits, Bits] | None = None
    """95 %, items only."""
    behind_best: Estimate | None = None
    """Paired loss to the rung's best, positive is worse here; with run noise where there are replicates."""
    dropped: bool = False
    """Behind the leader beyond the bound."""


class RateChoice(Model):
    """The answer for one dataset, or for a mix."""

    dataset: Digest
    """The Prepare trial, or the digest of what the mix reads."""
    arms: Annotated[tuple[RateArm, ...], Field(max_length=64)]
    """By rate."""
    survivors: Annotated[tuple[LearningRate, ...], Field(max_length=64)]
    """Rates that go on to the next rung."""
    chosen: LearningRate | None = None
    """A trained grid point; absent only when all diverged."""
    verdict: Literal["Chosen", "Undecided", "AllDiverged"]
    """Undecided: there is a choice, but no estimate of the run noise."""
    gain: Estimate | None = None
    """Of the chosen arm against the base on the target: bits per byte saved."""
    retention_loss: Estimate | None = None
    """Of the chosen arm against the base: bits per byte lost, items only."""
    fitted_vertex: LearningRate | None = None
    """Of a quadratic in log rate, for the figure and to extend the grid; never chosen."""
    reason: Text
    """One sentence for people."""


class Verdict(StrEnum):
    """What a dataset does to a metric, against replay data alone."""

    HELPS = "Helps"
    """The adjusted lower bound of its effect is above zero."""
    HURTS = "Hurts"
    """The adjusted upper bound is below zero, at every rate."""
    UNAFFECTED = "Unaffected"
    """The 90 % interval lies inside what is too small to matter."""
    UNDECIDED = "Undecided"
    """None of these; the reason says what it would take."""


class Judgement(Model):
    """One dataset on one metric, at the rate where it does best against the control."""

    verdict: Verdict
    """The word."""
    effect: Estimate | None = None
    """Bits per byte saved. Its bounds are one-sided 95 %, adjusted for rates and (as Holm tests them) for datasets: the
    lower is above zero where the verdict is Helps, the upper is below where it is Hurts."""
    p_helps: Finite | None = None
    """Adjusted for rates and datasets (Holm)."""
    p_hurts: Finite | None = None
    """Adjusted for datasets (Holm)."""
    interval90: tuple[Bits, Bits] | None = None
    """For Unaffected: two one-sided 95 % bounds, not adjusted for the number of datasets."""
    detectable: Bits | None = None
    """The smallest effect that is called Helps with 80 % power."""
    documents: Count
    """Clusters of its held-out texts."""


class ScreenedArm(Model):
    """One rate of a dataset, held against the control at the same rate and tokens."""

    learning_rate: LearningRate
    """Its rate."""
    tokens: Tokens
    """Where its race ended."""
    trial: Digest
    """Its trial."""
    outcome: Literal["Compared", "Diverged", "ControlDiverged", "ControlMissing"]
    """Only two that have a score can be compared."""
    gain: Estimate | None = None
    """Bits per byte saved on the target; 95 %, for this rate alone."""


class Cell(Model):
    """A dataset's effect on one held-out text: for the matrix, no verdict."""

    effect: Bits
    """Bits per byte saved, at the rate that was judged."""
    interval: tuple[Bits, Bits] | None = None
    """95 %."""
    marked: bool = False
    """Stands out of all cells, by Benjamini and Hochberg at 5 %."""


class Screened(Model):
    """The answer for one dataset."""

    dataset: Digest
    """The Prepare trial."""
    learning_rate: LearningRate | None = None
    """Where it does best against the control: all that follows is about this arm."""
    tokens: Tokens | None = None
    """Of that arm."""
    target: Judgement
    """What decides."""
    retention: Judgement | None = None
    """The same for what must not get worse."""
    forgotten: Estimate | None = None
    """Bits per byte that this very model lost to the base: items only, the upper end is the one-sided 95 % bound."""
    forgotten_within_margin: bool | None = None
    """That bound is at most the margin: the model is not worse than the base."""
    forgotten_by_recipe: Estimate | None = None
    """The same with run noise, 95 %: what another run of the recipe would lose; shown, not gated."""
    arms: Annotated[tuple[ScreenedArm, ...], Field(max_length=64)] = ()
    """By rate."""
    cells: Annotated[tuple[Cell, ...], Field(max_length=128)] = ()
    """One for each of the decision's texts; empty where nothing could be compared."""
    reason: Text
    """Some sentences for people."""


class DurationArm(Model):
    """One duration of a trunk."""

    tokens: Tokens
    """Total, with its cooldown."""
    trial: Digest
    """Its trial."""
    outcome: Literal["Completed", "Diverged"]
    """A trunk that diverged is a result."""
    target: Bits | None = None
    """Bits per byte, lower is better; absent when it diverged."""
    target_interval: tuple[Bits, Bits] | None = None
    """95 %, items only."""
    retention: Bits | None = None
    """Bits per byte."""
    behind_best: Estimate | None = None
    """Paired loss to the best duration, positive is worse here; with run noise where there are replicates."""
    acceptable: bool = False
    """It cannot be excluded that it is the best: simultaneous 95 % for all durations."""


class DurationChoice(Model):
    """The answer for one dataset, or for a mix."""

    dataset: Digest
    """The Prepare trial, or the digest of what the mix reads."""
    learning_rate: LearningRate
    """Of the trunk."""
    arms: Annotated[tuple[DurationArm, ...], Field(max_length=16)]
    """By tokens."""
    chosen: Tokens | None = None
    """The shortest acceptable one that is within minimumEffect of the best; absent only when all diverged."""
    verdict: Literal["Chosen", "Undecided", "AllDiverged"]
    """Undecided: there is a choice, but no estimate of the run noise, or an arm failed."""
    last_step: Estimate | None = None
    """Bits per byte that the last duration saves against the one before; its upper end is the one-sided 95 % bound."""
    go_on: bool
    """A longer duration may still gain more than minimumEffect."""
    gain: Estimate | None = None
    """Of the chosen arm against the base on the target: bits per byte saved."""
    retention_loss: Estimate | None = None
    """Of the chosen arm against the base: bits per byte lost, items only."""
    reason: Text
    """Some sentences for people."""


class MixPart(Model):
    """One dataset of a trained mix."""

    dataset: Digest
    """The Prepare trial."""
    weight: Amount
    """Of what is read, replay data among it."""


class MixArm(Model):
    """One trained mix."""

    mix: Digest
    """Of what it reads."""
    parts: Annotated[tuple[MixPart, ...], Field(max_length=64)]
    """By digest."""
    trial: Digest
    """Its trial."""
    outcome: Literal["Completed", "Diverged"]
    """A mix that diverged is a result."""
    target: Bits | None = None
    """Bits per byte, lower is better; absent when it diverged."""
    target_interval: tuple[Bits, Bits] | None = None
    """95 %, items only."""
    retention: Bits | None = None
    """Bits per byte."""
    expected: Bits | None = None
    """Of the merge that stands for it, where the proposal was found on merges."""
    ahead: Estimate | None = None
    """Bits per byte that it saves against the proposal; its lower end is a one-sided 95 % bound for all of them
    together. Absent for the proposal, and where one of both has no score."""


class MixChoice(Model):
    """The answer: which mix is taken."""

    learning_rate: LearningRate
    """Of all arms."""
    tokens: Tokens
    """Of all arms."""
    arms: Annotated[tuple[MixArm, ...], Field(max_length=16)]
    """By the digest of the mix."""
    proposal: Digest
    """As it was asked."""
    chosen: Digest
    """The proposal, or the best of the others."""
    verdict: Literal["Kept", "Replaced", "Undecided"]
    """Undecided: the proposal is kept, but a mix failed, none has a score, or there is no estimate of the run noise."""
    rank_correlation: Finite | None = None
    """Spearman's, between what merges promised of the mixes and what these scored; absent for fewer than three."""
    detectable: Bits | None = None
    """By how much the proposal would have to be worse to be found out with 80 % power."""
    gain: Estimate | None = None
    """Of the chosen arm against the base on the target: bits per byte saved."""
    retention_loss: Estimate | None = None
    """Of the chosen arm against the base: bits per byte lost, items only."""
    reason: Text
    """Some sentences for people."""


class SoupArm(Model):
    """A mean of the base and a trained model."""

    dataset: Digest
    """What the trained model has read: the Prepare trial."""
    learning_rate: LearningRate
    """Of the trained model."""
    tokens: Tokens
    """Of the trained model."""
    weight: Share
    """Of the trained model; the rest is the base."""
    trial: Digest
    """That scored it."""
    target: Bits
    """Bits per byte, lower is better."""
    target_interval: tuple[Bits, Bits] | None = None
    """95 %, items only."""
    gain: Estimate
    """Against the base: bits per byte saved on all documents; 95 %, items only, for this arm alone."""
    retention: Bits | None = None
    """Bits per byte."""
    lost: Estimate | None = None
    """Against the base: bits per byte lost on all documents, items only; the upper end is the one-sided 95 % bound that
    holds for all arms together."""
    holds: bool
    """That bound is at most the margin; true where no retention is asked for."""
    front: bool
    """No other arm, nor the base, is better in one and as good in the other."""


class SoupChoice(Model):
    """Which mean is released, if any."""

    arms: Annotated[tuple[SoupArm, ...], Field(min_length=1, max_length=64)]
    """By data, tokens and weight."""
    picked: Digest | None = None
    """The trial that scored the best target on the picking half, among arms whose retention holds."""
    verdict: Literal["Chosen", "Unconfirmed", "NoneBetter", "NoneFeasible"]
    """Chosen: the pick is confirmed on the other half. Else the base is best: the pick's gain was not confirmed, no arm
    was better than the base, or the retention of none holds."""
    gain: Estimate | None = None
    """Of the pick against the base on the documents that did not pick it, items only; its ends are one-sided 95 %
    bounds."""
    documents: Count
    """Of the target that did not pick."""
    reason: Text
    """Some sentences for people."""


class ProxyComponent(Model):
    """One dataset of the mixture that was proposed."""

    dataset: Digest
    """The Prepare trial."""
    weight: Share
    """What is proposed, in thousandths."""
    prior: Share
    """What it was drawn towards."""
    cap: Share
    """What it may have at most."""
    alone: Bits | None = None
    """Bits per byte of its own trunk, uncooled; absent where that was not scored."""
    cooled: Bits | None = None
    """The same, trained to its cooled end; absent when it diverged."""


class ProxyScore(Model):
    """A merge, and what the law says of the mixture that it stands for."""

    weights: Annotated[tuple[Share, ...], Field(max_length=PROXY_DATASETS_MAX)]
    """By dataset, in the order of the components."""
    trial: Digest
    """Who scored it."""
    target: Bits
    """Bits per byte, lower is better."""
    unseen: Bits
    """The same, as predicted from all other merges."""


class Proposal(Model):
    """A mixture, by a regression over merges."""

    learning_rate: LearningRate
    """Of all trunks."""
    components: Annotated[tuple[ProxyComponent, ...], Field(max_length=PROXY_DATASETS_MAX)]
    """By dataset."""
    merges: Annotated[tuple[ProxyScore, ...], Field(max_length=96)]
    """What it rests on."""
    law: Literal["None", "Square", "Root"]
    """What bends the log-linear law."""
    expected: Bits
    """Bits per byte of a merge with the proposed weights, as predicted."""
    rank_correlation: Finite
    """Spearman's, between what merges score and what the others predict of them."""
    rank_alone: Finite | None = None
    """Spearman's, between the trunks' scores and those of their cooled ends; absent for fewer than three."""
    verdict: Literal["Proposed", "Unfit"]
    """Unfit: the regression does not order merges that it has not seen, so its mixture is not to be taken."""
    reason: Text
    """Some sentences for people."""


class Equivalent(Model):
    """Compute with which the bases' line reaches the target of a trained model, in multiples of what that model took.

    Bounds are 95 %. One that is absent lies beyond that end of the line, or there is no estimate of the run noise.
    """

    place: Literal["Between", "Beyond", "Below"]
    """Beyond: better than the largest base. Below: worse than the smallest."""
    value: Ratio | None = None
    """Between two bases, interpolated in the logarithm of compute."""
    lower: Ratio | None = None
    """At least."""
    upper: Ratio | None = None
    """At most."""
    smallest: Ratio
    """Where the line begins."""
    largest: Ratio
    """Where it ends."""


class Scaled(Model):
    """One model of a Scaling: before and after."""

    baseline: Digest
    """The Evaluate trial of the base, by which it is known here."""
    parameters: Count | None = None
    """Of the base, embeddings included; absent where its evaluation does not say."""
    pretraining_flops: Finite | None = None
    """6 x parameters x pretraining tokens; absent where one of them is not known."""
    total_flops: Finite | None = None
    """The same with the tokens of the arm."""
    base_target: Bits
    """Bits per byte of the base, lower is better."""
    base_interval: tuple[Bits, Bits]
    """95 %, items only."""
    trial: Digest | None = None
    """Of the arm, where there is one."""
    learning_rate: LearningRate | None = None
    """Of the arm."""
    tokens: Tokens | None = None
    """Of the arm, total."""
    outcome: Literal["Completed", "Diverged", "Evaluated"]
    """Evaluated: there is no arm."""
    target: Bits | None = None
    """Bits per byte of the arm."""
    target_interval: tuple[Bits, Bits] | None = None
    """95 %, items only."""
    gain: Estimate | None = None
    """Of the arm against its own base: bits per byte saved."""
    retention_loss: Estimate | None = None
    """Bits per byte that this very model lost to its base: items only, one-sided 95 %."""
    equivalent: Equivalent | None = None
    """The compute-equivalent gain; absent where it is not defined, and the reason says why."""
    reason: Text
    """Some sentences for people."""


class Decision(Model):
    """A decision document."""

    question: Question
    """What was asked."""
    method: Annotated[str, Field(max_length=64)]
    """Name and version of the procedure."""
    run_noise: Estimate | None = None
    """Standard deviation between replicates (value) with its degrees of freedom."""
    rates: Annotated[tuple[RateChoice, ...], Field(max_length=256)] = ()
    """Question LearningRate: one answer per dataset."""
    screened: Annotated[tuple[Screened, ...], Field(max_length=256)] | None = None
    """Question Screening: one answer per dataset."""
    texts: Annotated[tuple[Digest, ...], Field(max_length=128)] | None = None
    """Question Screening: the columns of the matrix, target first."""
    durations: Annotated[tuple[DurationChoice, ...], Field(max_length=256)] | None = None
    """Question Duration: one answer per dataset."""
    mix: MixChoice | None = None
    """Question Mix."""
    soup: SoupChoice | None = None
    """Question Soup."""
    proposal: Proposal | None = None
    """Question MixtureProxy: the mixture."""
    scaled: Annotated[tuple[Scaled, ...], Field(max_length=64)] | None = None
    """Question Scaling: one answer per model."""
    sentence: Text
    """For people."""


class Flops(Model):
    """With the convention in the document, as there are several."""

    total: Finite
    """Floating-point operations."""
    convention: Annotated[str, Field(max_length=128)]
    """How they were counted."""


class CheckpointRef(Model):
    """A segment's end."""

    manifest: Key
    """Below the data prefix."""
    step: Count
    """Optimizer steps since token zero of the run."""
    tokens: Tokens
    """Total tokens."""


class Result(Model):
    """`result.json`: written last, with If-None-Match, so the first committed result counts."""

    protocol: int
    """Of the digest."""
    digest: Digest
    """Of the trial."""
    type: TrialType
    """Of the trial."""
    outcome: Outcome = Outcome.COMPLETED
    """How it ended."""
    inputs: tuple[Digest, ...]
    """Everything it read, sorted."""
    outputs: tuple[Output, ...] = ()
    """Everything it left below its data prefix that others may read."""
    numbers: dict[Annotated[str, Field(max_length=64)], Finite] = Field(default_factory=dict)
    """Tokens, steps, losses: names in camelCase with their unit."""
    held_out: Annotated[tuple[HeldOutScore, ...], Field(max_length=64)] = ()
    """Scores at the end of the trial."""
    suites: Annotated[tuple[SuiteScore, ...], Field(max_length=16)] = ()
    """Evaluate: scores on suites."""
    resolved: Annotated[tuple[ResolvedInput, ...], Field(max_length=256)] = ()
    """Preflight: what every input is."""
    findings: Annotated[tuple[Finding, ...], Field(max_length=256)] = ()
    """Preflight: what is wrong."""
    decision: Decision | None = None
    """Decide: the answer."""
    checkpoint: CheckpointRef | None = None
    """Train: its end."""
    origin: Digest | None = None
    """Train and Merge: the model at the root, by the listing of its files or its random start; only models of one root
    can be merged."""
    gpu_seconds: Finite = 0.0
    """Of this attempt."""
    flops: Flops | None = None
    """Train and Evaluate."""
    software: dict[str, str] = Field(default_factory=dict)
    """Versions that made it."""
    attempt: Count
    """Which one committed."""

    @classmethod
    def believed(cls, data: bytes, digest: Digest, spec: CPTTrialSpec) -> Self:
        """Parse `data` as the result of the trial `spec` (resolved, with that digest), or raise DocumentError."""
        result = _parse(cls, data, RESULT_MAX_BYTES)
        if result.digest != digest:
            raise DocumentError(f"it names digest {result.digest.short}…, this trial has {digest.short}…")
        if result.type != spec.type:
            raise DocumentError(f"it is of type {result.type}, this trial of type {spec.type}")
        if spec.protocol is not None and result.protocol != spec.protocol:
            raise DocumentError(f"it has protocol {result.protocol}, this trial {spec.protocol}")
        if list(result.inputs) != input_digests(spec):
            raise DocumentError("it was made from other inputs than this trial names")
        return result


class CurvePoint(Model):
    """The number that a suite is known by, of a model that is being trained."""

    suite: Annotated[str, Field(max_length=63)]
    value: float
    standard_error: float


class Progress(Model):
    """`progress.json`: how far the present attempt is. Overwritten every 15 seconds."""

    protocol: int
    """Of the digest."""
    digest: Digest
    """Of the trial."""
    attempt: Count
    """Another attempt's is ignored, but for its committed step."""
    pod_uid: Annotated[str, Field(max_length=64)] = ""
    """Of rank 0."""
    tokens: Tokens
    """Total tokens so far."""
    planned_tokens: Tokens
    """Total tokens at the end."""
    step: Count
    """Optimizer steps since token zero of the run."""
    committed_step: Count = 0
    """The last step in a checkpoint; counts as the maximum ever seen."""
    committed_tokens: Tokens = Tokens(0)
    """Total tokens in that checkpoint."""
    held_out: Annotated[tuple[HeldOutScore, ...], Field(max_length=64)] = ()
    """The latest scores."""
    suites: Annotated[tuple[CurvePoint, ...], Field(max_length=4)] = ()
    """The latest of those that are asked for curves."""
    micro_batch: Count | None = None
    """Sequences per forward."""
    time: Annotated[str, Field(max_length=32)]
    """When it was written, RFC 3339."""

    @classmethod
    def believed(cls, data: bytes, digest: Digest) -> Self:
        """Parse `data` as the progress of the trial with that digest, or raise DocumentError."""
        progress = _parse(cls, data, PROGRESS_MAX_BYTES)
        if progress.digest != digest:
            raise DocumentError(f"it names digest {progress.digest.short}…, this trial has {digest.short}…")
        return progress


def _parse(kind: type[M], data: bytes, limit: int) -> M:
    if len(data) > limit:
        raise DocumentError(f"it has {len(data)} bytes, at most {limit} are read")
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise DocumentError(f"{place}: {first['msg']} ({error.error_count()} errors)") from None
