"""`CPTExperiment`: what people write.

There are no defaults in the schema: they would make GitOps tools drift for ever. The planner resolves them, and they
are shown in the trials' specs and by `kubectl cpt plan`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from cpt_api.conditions import Condition
from cpt_api.model import Model, Name, Text, Uri
from cpt_api.trial import (
    CooldownShape,
    DocumentMask,
    Duration,
    ModelResources,
    OptimizerName,
    Precision,
    Resources,
    SuiteName,
)
from cpt_api.values import Amount, Digest, LearningRate, Share, Tokens


class Base(Model):
    """The model that is pretrained further: exactly one of `uri` and `trialName`."""

    uri: Uri | None = None
    """A folder in Hugging Face layout: config, tokenizer, safetensors."""
    trial_name: Name | None = None
    """A Train trial of this namespace that exports its end."""
    digest: Digest | None = None
    """Refuse any other files at `uri`; `kubectl get cptt` of a Preflight shows the digest."""
    peak_learning_rate: LearningRate | None = None
    """Of its pretraining: the default grid is 1/30, 1/10, 1/3 and 1/2 of it. Quote it: "3e-4"."""
    pretraining_tokens: Tokens | None = None
    """What it was pretrained on, such as 2T: with its parameters its place on the axis of `recipe.scaling`."""


class Reference(Model):
    """Another base, which is only evaluated: exactly one of `uri` and `trialName`."""

    name: Name
    """How the experiment calls it."""
    uri: Uri | None = None
    """A folder in Hugging Face layout: config, tokenizer, safetensors."""
    trial_name: Name | None = None
    """A Train trial of this namespace that exports its end."""
    digest: Digest | None = None
    """Refuse any other files at `uri`."""
    pretraining_tokens: Tokens | None = None
    """What it was pretrained on; without that it is no point of the bases' line."""


class ScalingModel(Reference):
    """Another base, on which the chosen recipe is repeated."""

    peak_learning_rate: LearningRate | None = None
    """Of its pretraining: where the base's is known too the chosen rate is transferred in proportion. Quote it."""
    resources: ModelResources | None = None
    """Instead of `resources`, field by field; may be changed, effective at the next attempt."""


class Dataset(Model):
    """A candidate."""

    name: Name
    """How the experiment calls it."""
    uri: Uri
    """Texts: a .jsonl or .txt file, plain or .gz or .zst, or a folder of them."""
    text_field: Annotated[str | None, Field(max_length=64)] = None
    """The field of a JSON line that holds the text; "text" when absent."""
    max_tokens: Tokens | None = None
    """Use no more than this."""


class Replay(Model):
    """General data against forgetting; it is also what the control arms train on."""

    dataset: Dataset
    """Text like that of the base's pretraining."""
    screening_share: Share | None = None
    """Its share of every arm of a single dataset; "0.5" when absent."""
    share: Share | None = None
    """Its share of every mix; "0.05" when absent."""


HELD_OUT = "Heldout"
"""The suite that is bits per byte on text which nothing trains on."""
Suite = Annotated[str, StringConstraints(pattern=r"^(Heldout|[a-z0-9]+([-.][a-z0-9]+)*)$", max_length=63)]
"""HELD_OUT, or a suite of benchmarks."""


class HeldOutText(Model):
    """Text that nothing trains on."""

    name: Name
    """How the experiment calls it."""
    uri: Uri
    """Texts, as in a dataset."""
    text_field: Annotated[str | None, Field(max_length=64)] = None
    """The field of a JSON line that holds the text; "text" when absent."""


class Target(Model):
    """What shall improve."""

    suite: Suite
    """Heldout: bits per byte of text that nothing trains on. Else a suite of benchmarks, such as mmlu or gauntlet-v0.2,
    or one of your own; its items lie at `itemsUri`."""
    data: Annotated[tuple[HeldOutText, ...], Field(max_length=16)] | None = None
    """Heldout: texts of their own."""
    datasets: Annotated[tuple[Name, ...], Field(max_length=16)] | None = None
    """Heldout: names of datasets, or of the replay dataset, whose held-out part is meant."""
    minimum_effect: Amount | None = None
    """The smallest gain worth having: in bits per byte, "0.02" when absent; where a share of right answers decides,
    as such a share, "0.01" when absent."""


class Retention(Model):
    """What must not get worse."""

    suite: Suite
    """Heldout: bits per byte of text that nothing trains on. Else a suite of benchmarks, such as mmlu or gauntlet-v0.2,
    or one of your own; its items lie at `itemsUri`."""
    data: Annotated[tuple[HeldOutText, ...], Field(max_length=16)] | None = None
    """Heldout: texts of their own."""
    datasets: Annotated[tuple[Name, ...], Field(max_length=16)] | None = None
    """Heldout: names of datasets, or of the replay dataset, whose held-out part is meant."""
    margin: Amount | None = None
    """The loss that is still accepted: in bits per byte, "0.02" when absent; where a share of right answers decides,
    as such a share, "0.01" when absent."""


class Evaluation(Model):
    """What decides."""

    target: Target
    """What shall improve."""
    retention: Retention | None = None
    """What must not get worse."""
    items_uri: Uri | None = None
    """Where the items of suites lie: a folder that `cpt-trainer evaluate --fetch-items` has made."""
    also: Annotated[tuple[SuiteName, ...], Field(min_length=1, max_length=8)] | None = None
    """Further suites, on which the base and what the recipe ends with are scored last: the report shows them, and they
    decide nothing."""
    every_tokens: Tokens | None = None
    """Score running trials in between, for curves."""
    curves: Annotated[tuple[SuiteName, ...], Field(min_length=1, max_length=4)] | None = None
    """Suites that running trials are asked at their start, in between and at their end: small ones, as training waits
    for them. They decide nothing."""


class LearningRateSweep(Model):
    """Per dataset and rate one trunk with a cooled branch at each rung."""

    learning_rates: Annotated[tuple[LearningRate, ...], Field(min_length=1, max_length=64)] | None = None
    """Quote them: "3e-5". When absent, fractions of the base's peakLearningRate."""
    rungs: Annotated[tuple[Tokens, ...], Field(min_length=1, max_length=3)] | None = None
    """Total tokens at which rates are compared, rising; when absent 1B, or half of the shortest duration where that is
    less, then twice and four times as much."""


class OnUndecided(StrEnum):
    """What becomes of a dataset of which nothing sure can be said."""

    DROP = "Drop"
    """It does not survive."""
    KEEP = "Keep"
    """It survives, like one that helps."""
    STOP = "Stop"
    """The experiment is stalled: whoever decides creates a new one, which shares all that was trained."""


class Screening(Model):
    """Which datasets help more than replay data alone, trained alike. Judges arms of the sweep; no arm of its own."""

    on_undecided: OnUndecided | None = None
    """Drop when absent."""


class DurationSweep(Model):
    """How long: per surviving dataset one trunk at its chosen rate, with a cooled branch at each duration.

    It goes on to the next duration as long as the last step may still have gained more than `minimumEffect`.
    """

    durations: Annotated[tuple[Tokens, ...], Field(min_length=1, max_length=16)]
    """Total tokens, rising, none shorter than the first rung."""


class MixStrategy(StrEnum):
    """How the weights of the mix come about."""

    OPTIMAL_TOKENS = "OptimalTokens"
    """In proportion to the durations that were chosen for the datasets that survived."""
    MERGE_PROXY = "MergeProxy"
    """The best by a law that is fitted to merges of the sweep's trunks, at no cost in training. Where merges cannot
    tell, OptimalTokens with a durationSweep, and without one Uniform."""
    UNIFORM = "Uniform"
    """Equal weights for the datasets that survived."""
    PROPORTIONAL = "Proportional"
    """In proportion to the tokens that the datasets that survived have."""
    EXPLICIT = "Explicit"
    """As written in `phases`: nothing is proposed or compared."""


class MixWeight(Model):
    """One dataset of a mix."""

    dataset: Name
    """Of this experiment."""
    weight: Amount
    """Relative to the other weights of its phase, above zero; replay data comes on top."""


class MixPhase(Model):
    """A mix, and how long it holds."""

    weights: Annotated[tuple[MixWeight, ...], Field(min_length=1, max_length=63)]
    """Each dataset once."""
    until_tokens: Tokens | None = None
    """Total tokens at which the next phase begins; absent in the last phase, and only there."""


class Mixing(Model):
    """In which proportions the datasets that survived are read together.

    The proposal is trained beside `Uniform` and `Proportional` mixes, to the first rung and at one rate. It is kept
    unless it is detectably worse than one of them; then the best of them is taken.
    """

    strategy: MixStrategy | None = None
    """OptimalTokens when absent, which needs a durationSweep."""
    phases: Annotated[tuple[MixPhase, ...], Field(min_length=1, max_length=8)] | None = None
    """Explicit: one mix after another; one phase is one mix, phases of one dataset each are a concatenation."""


class MixSweep(Model):
    """Rate and duration once more, for the mix: what suits a dataset alone need not suit all of them together."""

    learning_rates: Annotated[tuple[LearningRate, ...], Field(min_length=1, max_length=64)] | None = None
    """Quote them: "3e-5". When absent those of learningRateSweep. One alone is taken as it is where there are
    durations."""
    rungs: Annotated[tuple[Tokens, ...], Field(min_length=1, max_length=3)] | None = None
    """Total tokens at which rates are compared, rising; when absent the first rung of learningRateSweep, without one
    1B or half of the shortest duration."""
    durations: Annotated[tuple[Tokens, ...], Field(min_length=1, max_length=16)] | None = None
    """Total tokens, rising, none shorter than the first rung; when absent the mix ends at its last rung."""


class Soup(Model):
    """Weighted means of the base and what was trained from it: scored without being written, the best one is written.

    Released is the best target among those whose retention holds: a mean often keeps most of the gain and forgets less.
    """

    weights: Annotated[tuple[Share, ...], Field(min_length=1, max_length=16)] | None = None
    """Shares of the trained model, above 0, the rest being the base; "0.25", "0.5", "0.75" and "1" (the trained model
    itself) when absent."""


class Scaling(Model):
    """The chosen recipe on further bases: two rates to the first rung, and the better one to the chosen tokens.

    Each model is compared with its own base, and with the line that all bases make over their pretraining compute.
    """

    models: Annotated[tuple[ScalingModel, ...], Field(max_length=16)] | None = None
    """More may be appended. Without any only the base's own recipe is held against the line of `references`."""


class Recipe(Model):
    """The stages; each is optional, their order is fixed."""

    learning_rate_sweep: LearningRateSweep | None = None
    """Which rate suits each dataset; only an Explicit mix can do without."""
    screening: Screening | None = None
    """Which datasets help; the sweep's controls then go as far as its arms."""
    duration_sweep: DurationSweep | None = None
    """How long to train on each dataset that survived."""
    mixing: Mixing | None = None
    """In which proportions to read the datasets that survived."""
    mix_sweep: MixSweep | None = None
    """At which rate, and how long, to train on the mix."""
    soup: Soup | None = None
    """Which mean of the base and a trained model to release; written and exported. Without it nothing is exported."""
    scaling: Scaling | None = None
    """What the chosen recipe is worth on other models."""


class Training(Model):
    """How arms are trained; all of it is part of digests."""

    sequence_length: Annotated[int, Field(ge=8, le=1_048_576)]
    """Tokens per sequence."""
    global_batch_size: Annotated[int, Field(ge=1, le=1_048_576)]
    """Sequences per optimizer step."""
    optimizer: OptimizerName | None = None
    """AdamW when absent."""
    warmup_tokens: Tokens | None = None
    """1 % of the first rung when absent."""
    cooldown_share: Share | None = None
    """Part of an arm's tokens over which the rate falls to zero; "0.2" when absent."""
    cooldown_shape: CooldownShape | None = None
    """OneMinusSqrt when absent."""
    weight_decay: Amount | None = None
    """Not on norms, biases, embeddings; "0.1" when absent."""
    gradient_clip: Amount | None = None
    """Global norm; "1" when absent."""
    precision: Precision | None = None
    """BFloat16 when absent."""
    document_mask: DocumentMask | None = None
    """Enabled when absent."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """Of the order of the data; 0 when absent."""
    replicates: Annotated[int, Field(ge=1, le=16)] | None = None
    """Control arms per rate at the first rung, for the run noise; 3 when absent."""


class TrialFailure(StrEnum):
    """What a failed trial means for the others."""

    CONTINUE = "Continue"
    STOP = "Stop"


class Scheduling(Model):
    """When trials run; changing it stops nothing that runs."""

    parallel_trials: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Trials with an attempt at the same time; 4 when absent. Lowering it only stops new starts."""
    queue_name: Name | None = None
    """Kueue's LocalQueue for trials with GPUs."""
    cpu_queue_name: Name | None = None
    """Kueue's LocalQueue for trials without."""
    priority_class_name: Name | None = None
    """Must be allowed by the administrator."""
    max_retries: Annotated[int, Field(ge=0, le=100)] | None = None
    """Per trial; 3 when absent. Starts anew when an attempt committed a new step."""
    max_failed_trials: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """More than these many stop the experiment; no limit when absent."""
    on_trial_failure: TrialFailure | None = None
    """Continue when absent."""
    active_deadline: Duration | None = None
    """An attempt that runs longer is ended and counted, such as "12h"."""


class Budget(Model):
    """Reached, running trials stop at a checkpoint; raised, they go on."""

    tokens: Tokens | None = None
    """Trained tokens; reused ones are free."""
    gpu_hours: Amount | None = None
    """Pod time x GPUs in hours, such as "100", lost attempts included; trials without GPUs cost none."""


class Reuse(StrEnum):
    """Whether equal trials of the namespace are one."""

    NAMESPACE = "Namespace"
    NONE = "None"
    """Digests are salted with the experiment's uid."""


class Artifacts(Model):
    """What is kept and shared."""

    reuse: Reuse | None = None
    """Namespace when absent."""


class CPTExperimentSpec(Model):
    """Which data, at which learning rate, improves this model."""

    model: Base
    """The base."""
    references: Annotated[tuple[Reference, ...], Field(max_length=16)] | None = None
    """Bases that are only evaluated: further points of the line that `recipe.scaling` compares with."""
    datasets: Annotated[tuple[Dataset, ...], Field(min_length=1, max_length=256)]
    """The candidates; more may be appended."""
    replay: Replay | None = None
    """General data against forgetting. Without it there is no control and no run-noise estimate."""
    evaluation: Evaluation
    """What decides."""
    recipe: Recipe
    """The stages."""
    training: Training
    """How arms are trained."""
    resources: Resources | None = None
    """What Train and Evaluate pods ask for; may be changed, effective at the next attempt."""
    scheduling: Scheduling | None = None
    """When trials run; may be changed."""
    budget: Budget | None = None
    """What it may cost; may be changed."""
    artifacts: Artifacts | None = None
    """What is kept and shared."""
    suspend: bool | None = None
    """Pause: trials checkpoint, release their GPUs and wait."""


# --- status ---------------------------------------------------------------------------------------------------------


class TrialCounts(Model):
    """How many trials are where."""

    total: int = 0
    """Planned so far."""
    running: int = 0
    """With an attempt."""
    queued: int = 0
    """Waiting."""
    succeeded: int = 0
    """With a result, reused ones included."""
    failed: int = 0
    """Without."""
    reused: int = 0
    """Whose result existed."""
    superseded: int = 0
    """Children that the plan no longer holds."""


class StageStatus(Model):
    """One stage of the recipe."""

    name: Annotated[str, Field(max_length=64)]
    """Which."""
    state: Annotated[str, Field(max_length=32)]
    """Waiting, Running, Decided; of the report also Failed, which fails nothing else."""
    decision: Digest | None = None
    """The Decide trial."""
    reason: Text | None = None
    """One sentence."""


class DatasetStatus(Model):
    """What is known about one candidate; numbers are text with their unit in the report."""

    name: Name
    """Which."""
    verdict: Annotated[str, Field(max_length=32)] | None = None
    """Of the last decision; after screening Helps, Hurts, Unaffected or Undecided."""
    best_learning_rate: LearningRate | None = None
    """The chosen rate."""
    effect: Annotated[str, Field(max_length=32)] | None = None
    """Gain on the target, in bits per byte or points: against the base, after screening against the control."""
    optimal_tokens: Tokens | None = None
    """The chosen duration."""
    interval: Annotated[str, Field(max_length=64)] | None = None
    """95 %; after screening two one-sided 95 % bounds, adjusted for rates and datasets."""


class MixShare(Model):
    """One dataset of the mix that was taken."""

    dataset: Name
    """Which."""
    weight: Share
    """Its part of the mix, to four digits; replay data comes on top."""
    phase: Annotated[int, Field(ge=1, le=8)] | None = None
    """Of an Explicit mix that has several: which, from 1."""


class ModelStatus(Model):
    """What the recipe is worth on one model of `recipe.scaling`; numbers are text."""

    name: Name
    """Which; `base` is that of the experiment."""
    base_target: Annotated[str, Field(max_length=32)] | None = None
    """Score on the target before."""
    target: Annotated[str, Field(max_length=32)] | None = None
    """Score on the target after; absent where nothing was trained, and where it diverged."""
    gain: Annotated[str, Field(max_length=32)] | None = None
    """Bits per byte saved, or points gained."""
    interval: Annotated[str, Field(max_length=64)] | None = None
    """Of the gain, 95 %."""
    compute_equivalent: Annotated[str, Field(max_length=64)] | None = None
    """Compute with which the bases alone reach the same target, in multiples of what this model took; 95 %."""


class Best(Model):
    """The best arm so far, or the soup."""

    trial: Name
    """Its trial."""
    digest: Digest
    """Its digest."""
    dataset: Name | None = None
    """Its dataset; absent where it was trained on the mix, which is `status.mix`."""
    learning_rate: LearningRate
    """Its rate."""
    tokens: Tokens
    """Its total tokens."""
    target: Annotated[str, Field(max_length=32)]
    """Score on the target: bits per byte, or points."""
    target_interval: Annotated[str, Field(max_length=64)] | None = None
    """95 %."""
    retention: Annotated[str, Field(max_length=32)] | None = None
    """Score on the retention."""
    soup_weight: Share | None = None
    """Share of the trained model in a soup, the rest being the base; the trial is then the Merge that wrote it."""
    uri: Annotated[str, Field(max_length=512)] | None = None
    """Of a model that was written: a folder in Hugging Face layout."""


class Ledger(Model):
    """What it cost."""

    tokens_trained: Tokens = Tokens(0)
    """By this experiment's trials."""
    tokens_reused: Tokens = Tokens(0)
    """Trained before, by equal trials."""
    tokens_naive: Tokens = Tokens(0)
    """Had every point been its own run."""
    gpu_seconds: int = 0
    """Pod time x GPUs."""
    evaluation_gpu_seconds: int | None = None
    """Those of them that Evaluate trials took; held-out text scored while training is not among them."""
    flops: Annotated[str, Field(max_length=32)] | None = None
    """Floating-point operations of training and evaluation, of committed results; reused ones are not among them."""
    evaluation_flops: Annotated[str, Field(max_length=32)] | None = None
    """Those of them that Evaluate trials took."""


class CPTExperimentStatus(Model):
    """Derived: it can be deleted without harm."""

    observed_generation: int | None = None
    """Of the spec that it speaks of."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)] = ()
    """Ready, Reconciling, Stalled (kstatus) and Succeeded."""
    protocol: int | None = None
    """Kept for life."""
    stage: Annotated[str, Field(max_length=64)] | None = None
    """Where it is."""
    progress: Annotated[int, Field(ge=0, le=100)] | None = None
    """Per cent of the planned tokens."""
    eta: Annotated[str, Field(max_length=32)] | None = None
    """When it may end."""
    trials: TrialCounts = TrialCounts()
    """How many are where."""
    trials_summary: Annotated[str, Field(max_length=32)] | None = None
    """Such as 7/23, for `kubectl get`."""
    saved: Annotated[str, Field(max_length=32)] | None = None
    """Tokens saved against separate runs, for `kubectl get`."""
    stages: Annotated[tuple[StageStatus, ...], Field(max_length=16)] = ()
    """The stages."""
    datasets: Annotated[tuple[DatasetStatus, ...], Field(max_length=256)] = ()
    """The candidates."""
    mix: Annotated[tuple[MixShare, ...], Field(max_length=256)] = ()
    """The mix that was taken, as soon as it is known."""
    scaling: Annotated[tuple[ModelStatus, ...], Field(max_length=64)] = ()
    """The models of `recipe.scaling`, the base and the references."""
    best: Best | None = None
    """The best arm so far."""
    ledger: Ledger = Ledger()
    """What it cost."""
    report_uri: Annotated[str, Field(max_length=512)] | None = None
    """The page that shows all of it; `kubectl cpt report` fetches it."""
    operator_version: Annotated[str, Field(max_length=32)] | None = None
    """That wrote this."""
