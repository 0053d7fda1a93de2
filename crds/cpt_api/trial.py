"""`CPTTrial`: one step of an experiment. Its spec is what a trial does; nothing else reaches the data plane.

The work block named by `type` is immutable and is exactly what the digest hashes. `run` says how and where, is
mutable, and is never hashed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from cpt_api.conditions import Condition
from cpt_api.model import Model, Name, Text, Unhashed, Uri
from cpt_api.values import Amount, Digest, LearningRate, Share, Tokens


class TrialType(StrEnum):
    """What a trial does; the work block has the same name in camelCase."""

    PREFLIGHT = "Preflight"
    PREPARE = "Prepare"
    TRAIN = "Train"
    EVALUATE = "Evaluate"
    DECIDE = "Decide"
    MERGE = "Merge"
    REPORT = "Report"


# --- references ---------------------------------------------------------------------------------------------------


class TrialRef(Model):
    """The output of another trial of this namespace: exactly one of `digest` and `trialName`."""

    digest: Digest | None = None
    """The digest of the trial."""
    trial_name: Annotated[Name | None, Unhashed] = None
    """The name of a trial in this namespace; its digest takes this place when it has succeeded."""


class Source(Model):
    """External files: `uri` and `digest`, or what a Preflight resolved (`preflightName` and `input`)."""

    uri: Annotated[Uri | None, Unhashed] = None
    """Where the files lie. Not hashed: the same bytes at another address are the same input."""
    digest: Digest | None = None
    """SHA-256 over the sorted listing (key below the address, size, ETag) that Preflight saw."""
    preflight_name: Annotated[Name | None, Unhashed] = None
    """The name of a Preflight trial in this namespace."""
    input: Annotated[Name | None, Unhashed] = None
    """The name of one of its inputs."""


class ModelRef(Model):
    """A model in Hugging Face layout: exactly one of external files and what a trial of this namespace exported."""

    source: Source | None = None
    """Files in Hugging Face layout: config, tokenizer, safetensors."""
    trial: TrialRef | None = None
    """A Train trial that exports its end (one that starts from random weights), or a Merge trial."""


SuiteName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+([-.][a-z0-9]+)*$", max_length=63)]
"""Such as gauntlet-v0.3."""


class Measure(StrEnum):
    """What a group of a suite averages."""

    ACCURACY = "Accuracy"
    """The share of right answers, by each task's metric."""
    BITS_PER_BYTE = "BitsPerByte"
    """What the right answers' text costs; lower is better."""


# --- work blocks --------------------------------------------------------------------------------------------------


class InputKind(StrEnum):
    """What Preflight expects at an address."""

    MODEL = "Model"
    TOKENIZER = "Tokenizer"
    DATASET = "Dataset"
    ITEMS = "Items"


class PreflightInput(Model):
    """One address to look at before anything asks for a GPU."""

    name: Name
    """How the findings and the trials that use it call it."""
    kind: InputKind
    """Model: config, tokenizer and safetensors; Tokenizer: config and tokenizer without weights; Dataset: text; Items:
    what suites ask, as `cpt-trainer evaluate --fetch-items` writes it."""
    uri: Uri
    """Where the files lie."""
    text_field: Annotated[str, Field(max_length=64)] = "text"
    """The field of a JSON line that holds the text."""
    pin: Digest | None = None
    """What the address must resolve to, where the user pinned it."""
    suites: Annotated[tuple[SuiteName, ...], Field(min_length=1, max_length=16)] | None = None
    """Items: suites that will be asked, whose items must all be there."""


class BatchCheck(Model):
    """Sizes that must fit each other."""

    sequence_length: Annotated[int, Field(ge=8, le=1_048_576)]
    """Tokens per sequence."""
    global_batch_size: Annotated[int, Field(ge=1, le=1_048_576)]
    """Sequences per optimizer step."""
    processes: Annotated[int, Field(ge=1, le=65_536)]
    """Training processes; they must divide the batch."""


class PreflightWork(Model):
    """Looks at every input under the user's identity; findings are a result, not a failure."""

    experiment_uid: Annotated[str, Field(max_length=64)] = ""
    """The experiment it belongs to, so that its answer is never reused by another."""
    round: Annotated[int, Field(ge=1)] = 1
    """Raised for every new look."""
    inputs: Annotated[tuple[PreflightInput, ...], Field(min_length=1, max_length=256)]
    """The addresses."""
    batch: BatchCheck | None = None
    """Sizes to check, where training follows."""


class Holdout(Model):
    """Which documents are kept from training."""

    share: Share = Share.parse("0.01")
    """Part of the documents, chosen by content hash; '1' keeps all of them for evaluation."""
    max_documents: Annotated[int, Field(ge=1, le=100_000)] = 2000
    """No more than these many."""


class PrepareWork(Model):
    """Tokenises one dataset with one tokenizer and splits off its held-out text."""

    source: Source
    """The texts: jsonl, txt, plain or .gz or .zst."""
    tokenizer: ModelRef
    """The model whose tokenizer is used."""
    text_field: Annotated[str, Field(max_length=64)] = "text"
    """The field of a JSON line that holds the text."""
    max_tokens: Tokens | None = None
    """Stop after this many training tokens."""
    holdout: Holdout = Holdout()
    """The held-out text."""


class RandomStart(Model):
    """Random weights: pretraining a model from nothing."""

    config: Source
    """A folder with config.json and the tokenizer."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Of the initial weights."""


class Start(Model):
    """Exactly one of a model, another segment's end, and random weights."""

    model: ModelRef | None = None
    """A base; the optimizer starts fresh."""
    segment: TrialRef | None = None
    """The end of another Train trial, with its optimizer; order, batch and optimizer must be the same."""
    random: RandomStart | None = None
    """Random weights."""


class Component(Model):
    """One dataset of a mixture."""

    dataset: TrialRef
    """A Prepare trial."""
    weight: Amount
    """Relative to the other weights of its phase; exact."""


class Phase(Model):
    """A mixture, and how long it holds."""

    mixture: Annotated[tuple[Component, ...], Field(min_length=1, max_length=64)]
    """Each sequence comes from one component."""
    until_tokens: Tokens | None = None
    """Total tokens at which the next phase begins; absent in the last phase."""

    def identity(self) -> dict[str, Any]:
        """Components are keyed by their data, so the order of a manifest means nothing."""
        parts = super().identity()
        parts["mixture"].sort(key=lambda part: part["dataset"].get("digest", ""))
        return parts


class CooldownShape(StrEnum):
    """How the rate falls during the cooldown; x goes from 0 to 1."""

    ONE_MINUS_SQRT = "OneMinusSqrt"
    """1 - sqrt(x) (Hagele et al. 2024)."""
    LINEAR = "Linear"
    COSINE = "Cosine"


class Cooldown(Model):
    """From the peak rate to zero."""

    start_tokens: Tokens
    """Total tokens at which the rate begins to fall."""
    end_tokens: Tokens
    """Total tokens at which it is zero."""
    shape: CooldownShape = CooldownShape.ONE_MINUS_SQRT
    """How it falls."""


class Schedule(Model):
    """The learning rate as a function of total tokens: warm-up, constant, and for branches a cooldown."""

    peak_learning_rate: LearningRate
    """The constant rate."""
    warmup_tokens: Tokens = Tokens(0)
    """Linear from zero; counted from the beginning of the trunk."""
    cooldown: Cooldown | None = None
    """Absent in a trunk."""


class OptimizerName(StrEnum):
    """Optimizers."""

    ADAMW = "AdamW"


class Optimizer(Model):
    """Everything about the update but the rate. Norms, biases and embeddings are not decayed."""

    name: OptimizerName = OptimizerName.ADAMW
    """The algorithm."""
    beta1: Share = Share.parse("0.9")
    """Decay of the first moment."""
    beta2: Share = Share.parse("0.95")
    """Decay of the second moment."""
    epsilon: Amount = Amount.parse("1e-8")
    """Added to the denominator."""
    weight_decay: Amount = Amount.parse("0.1")
    """Decoupled."""
    gradient_clip: Amount = Amount.parse("1")
    """Global norm of the gradient; '0' clips nothing."""


class Precision(StrEnum):
    """Of compute; master weights, reduction, logits and loss are fp32."""

    BFLOAT16 = "BFloat16"
    FLOAT32 = "Float32"


class DocumentMask(StrEnum):
    """Whether a document sees its neighbours in a sequence."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"


class TrainWork(Model):
    """One segment: where it starts, what it reads, at which rate, and where it ends."""

    start: Start
    """Where it starts."""
    start_tokens: Tokens = Tokens(0)
    """Total tokens behind it; zero unless it starts from a segment."""
    stop_tokens: Tokens
    """Total tokens at its end: a whole number of global batches."""
    phases: Annotated[tuple[Phase, ...], Field(min_length=1, max_length=16)]
    """What it reads, from token zero of the run on."""
    schedule: Schedule
    """The learning rate."""
    sequence_length: Annotated[int, Field(ge=8, le=1_048_576)]
    """Tokens per sequence."""
    global_batch_size: Annotated[int, Field(ge=1, le=1_048_576)]
    """Sequences per optimizer step."""
    optimizer: Optimizer = Optimizer()
    """The update."""
    precision: Precision = Precision.BFLOAT16
    """Of compute."""
    document_mask: DocumentMask = DocumentMask.ENABLED
    """Whether a document sees its neighbours."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Of the order of the data."""


class MergeInput(Model):
    """One model of a merge, and its weight: exactly one of `model` and `segment`."""

    model: ModelRef | None = None
    """Files in Hugging Face layout, such as the base."""
    segment: TrialRef | None = None
    """The end of a Train trial."""
    weight: Amount
    """Relative to the other weights, above zero."""


class MergeWork(Model):
    """The weighted mean of models that come from one base: in fp32, in the order of `inputs`, rounded once.

    Interpolation between a base and a run's end is the case of two inputs; one input alone is that model, exported.
    """

    inputs: Annotated[tuple[MergeInput, ...], Field(min_length=1, max_length=64)]
    """Added up in this order, which is part of the recipe: rounding depends on it."""
    base: ModelRef | None = None
    """Its config, tokenizer, tensors and their types are the output's; the first input's when absent."""


class SuiteWork(Model):
    """A suite of benchmarks, and where its items lie."""

    suite: SuiteName
    """One that is shipped, such as mmlu; or one of the user's, whose `<suite>.yaml` lies beside the items."""
    items: Source
    """Item files with their manifest."""


class EvaluateWork(Model):
    """Scores a model, a segment's end, or a merge that is never written, on held-out texts and suites."""

    model: ModelRef | None = None
    """A base or a reference; exactly one of `model`, `segment` and `merge`."""
    segment: TrialRef | None = None
    """The end of a Train trial."""
    merge: MergeWork | None = None
    """What a Merge trial of this block would write, bit for bit; nothing is written."""
    held_out: Annotated[tuple[TrialRef, ...], Field(min_length=1, max_length=64)] | None = None
    """Prepare trials whose held-out text is meant."""
    sequence_length: Annotated[int, Field(ge=8, le=1_048_576)] | None = None
    """Length of the windows of held-out text."""
    suites: Annotated[tuple[SuiteWork, ...], Field(min_length=1, max_length=16)] | None = None
    """What else is asked."""
    precision: Precision = Precision.FLOAT32
    """Of compute."""

    @property
    def texts(self) -> tuple[TrialRef, ...]:
        """The held-out texts, none where there are only suites."""
        return self.held_out or ()


class Question(StrEnum):
    """What a Decide trial answers."""

    LEARNING_RATE = "LearningRate"
    """Which rate suits each dataset, and which are out of the race; asked at every rung."""
    SCREENING = "Screening"
    """Which datasets help more than the control; asked once, after the race."""
    DURATION = "Duration"
    """Which durations may be the best, and whether longer ones may be better; asked at every duration."""
    MIX = "Mix"
    """Whether a proposed mix is detectably worse than simple ones."""
    SOUP = "Soup"
    """Which mean of the base and a trained model is best among those whose retention holds; asked once, at the end."""
    MIXTURE_PROXY = "MixtureProxy"
    """Which mixture of the datasets promises most, by merges of models that were trained on one of them each."""
    SCALING = "Scaling"
    """What one recipe is worth on models of other sizes, and how much pretraining would have done the same."""


PROXY_DATASETS_MAX = 24
"""Of a question MixtureProxy: its merges, three for each dataset with a weight for each, must fit into a pod's spec."""


class SuiteGroup(Model):
    """One number of a suite."""

    suite: SuiteName
    """As the Evaluate trials name it."""
    group: Annotated[str, Field(min_length=1, max_length=63)]
    """Which of its numbers."""
    measure: Measure
    """What that averages, and so its unit: bits per byte, or points (right answers of a hundred)."""


class DecisionMetric(Model):
    """What is compared: the mean over texts of bits per byte, or a suite's number (`heldOut` or `suite`).

    Inside of decisions lower is better: where points are the unit, a score is what is missing from a hundred.
    """

    held_out: Annotated[tuple[TrialRef, ...], Field(min_length=1, max_length=64)] | None = None
    """Prepare trials whose held-out text is meant."""
    suite: SuiteGroup | None = None
    """A number of a suite."""
    threshold: Amount
    """Minimum effect of a target, margin of a retention; in bits per byte, or in points."""

    @property
    def texts(self) -> tuple[TrialRef, ...]:
        """The held-out texts, none where a suite decides."""
        return self.held_out or ()


class Arm(Model):
    """One trained point."""

    learning_rate: LearningRate
    """Its rate."""
    trial: TrialRef
    """The cooled Train trial, or the Evaluate trial that scored its end."""
    tokens: Tokens | None = None
    """Its total tokens; of LearningRate's arms `rungTokens` says it."""
    weight: Share | None = None
    """Soup: its share in the mean with the base, above 0; the trial is the one that scored that mean."""


class DatasetArms(Model):
    """The arms of one dataset, or of a mix: exactly one of `dataset` and `phases`.

    At one rung; for Screening each where its race ended; for Duration along one trunk; for Mix a single one; for Soup
    every mean that was scored.
    """

    dataset: TrialRef | None = None
    """The Prepare trial that names the data."""
    phases: Annotated[tuple[Phase, ...], Field(min_length=1, max_length=8)] | None = None
    """What the mix reads, replay data among it; answers call it by the digest of this (`mix_digest`)."""
    expected: Amount | None = None
    """Mix: bits per byte of the merge that stands for it, where the proposal was found on merges."""
    arms: Annotated[tuple[Arm, ...], Field(min_length=1, max_length=64)]
    """One arm for each rate that has a result; LearningRate: that is still in the race."""
    missing: Annotated[tuple[LearningRate, ...], Field(max_length=64)] = ()
    """Rates whose trial failed for good, at this rung or before: the answer names them and is undecided."""
    missing_tokens: Annotated[tuple[Tokens, ...], Field(max_length=16)] | None = None
    """Duration: those whose trial failed for good."""


class ControlArms(Model):
    """Replicates at one rate and length: equal recipes on replay data that differ in their order seed alone."""

    learning_rate: LearningRate
    """Their rate."""
    trials: Annotated[tuple[TrialRef, ...], Field(min_length=1, max_length=16)]
    """The control and its replicates."""
    tokens: Tokens | None = None
    """Their total tokens; absent for LearningRate."""


class ProxyMerge(Model):
    """A merge that stands for a mixture, and who has scored it."""

    weights: Annotated[tuple[Share, ...], Field(min_length=2, max_length=PROXY_DATASETS_MAX)]
    """Of the question's datasets, in their order; they sum to 1."""
    trial: TrialRef
    """The Evaluate trial."""


class SizedModel(Model):
    """One base, and what the recipe made of it."""

    baseline: TrialRef
    """The Evaluate trial of the base."""
    target: Annotated[tuple[TrialRef, ...], Field(max_length=64)] = ()
    """The texts of the question's target, in that order, prepared with this model's tokenizer; none of a suite."""
    retention: Annotated[tuple[TrialRef, ...], Field(max_length=64)] = ()
    """The texts of the question's retention, likewise."""
    pretraining_tokens: Tokens | None = None
    """What the base was pretrained on, where that is known."""
    arm: Arm | None = None
    """The end of its training; absent for a base that was only evaluated."""
    picked_from: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """Among how many arms this one was the best: it looks better than it is."""


class DecideWork(Model):
    """One question over the results of other trials. Pure: the same inputs give the same document."""

    question: Question
    """What is asked."""
    target: DecisionMetric
    """What shall improve."""
    retention: DecisionMetric | None = None
    """What must not get worse."""
    baseline: TrialRef
    """The Evaluate trial of the base."""
    datasets: Annotated[tuple[DatasetArms, ...], Field(max_length=256)] = ()
    """For whom it is asked; none for Scaling."""
    controls: Annotated[tuple[ControlArms, ...], Field(max_length=256)] = ()
    """For the run noise, and what Screening compares with; without them the answer is marked as undecided."""
    rung_tokens: Tokens | None = None
    """LearningRate: total tokens of the arms."""
    rungs: Annotated[int, Field(ge=1, le=8)] | None = None
    """LearningRate: how many rungs the race has: the Bonferroni bound counts them."""
    last: bool | None = None
    """LearningRate: at the last rung nothing is dropped, the rate is chosen."""
    error_rate: Share | None = None
    """Screening: the chance that any of the datasets is said to help (or to hurt) though it does not."""
    family: Annotated[int, Field(ge=1, le=256)] | None = None
    """Screening: how many datasets are screened in all, this question's and those of its siblings."""
    rates: Annotated[int, Field(ge=1, le=64)] | None = None
    """Duration: of how many each trunk's rate was picked; the arm that it was picked for looks better than it is."""
    picked_at: Tokens | None = None
    """Duration: total tokens of that arm."""
    proposal: Digest | None = None
    """Mix: the mix that is kept unless it is detectably worse, by its digest. It has no arm where its trial failed."""
    mixes: Annotated[int, Field(ge=2, le=16)] | None = None
    """Mix: how many were trained; those without an arm failed for good, and leave the answer undecided."""
    merges: Annotated[tuple[ProxyMerge, ...], Field(min_length=1, max_length=96)] | None = None
    """MixtureProxy: of the uncooled trunks of its datasets."""
    prior: Annotated[tuple[Share, ...], Field(min_length=2, max_length=PROXY_DATASETS_MAX)] | None = None
    """MixtureProxy: the mixture that the answer is drawn towards, by dataset."""
    caps: Annotated[tuple[Share, ...], Field(min_length=2, max_length=PROXY_DATASETS_MAX)] | None = None
    """MixtureProxy: the largest weight of each dataset, since none may be repeated too often; 1 or more in sum."""
    models: Annotated[tuple[SizedModel, ...], Field(min_length=1, max_length=64)] | None = None
    """Scaling: the base of the experiment, and all others."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Of Monte-Carlo quantiles."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        owners = {name: question for question, names in DECIDE_FIELDS.items() for name in names}
        if any((getattr(self, name) is not None) != (self.question is owner) for name, owner in owners.items()):
            raise ValueError(DECIDE_FIELDS_WORDS)
        if bool(self.datasets) == (self.question is Question.SCALING):
            raise ValueError("datasets go with every question but Scaling")
        arms = [arm for entry in self.datasets for arm in entry.arms]
        arms += [model.arm for model in self.models or () if model.arm]
        lengths = [arm.tokens for arm in arms] + [control.tokens for control in self.controls]
        without = self.question is Question.LEARNING_RATE
        if any((tokens is None) != without for tokens in lengths):
            raise ValueError("arms and controls have tokens, but for LearningRate")
        if any((entry.dataset is None) == (entry.phases is None) for entry in self.datasets):
            raise ValueError("arms belong to exactly one of dataset and phases")
        weights = [arm.weight for entry in self.datasets for arm in entry.arms]
        if any((weight is not None) != (self.question is Question.SOUP) for weight in weights):
            raise ValueError("arms have a weight for Soup, and only for Soup")
        if any(weight is not None and not weight for weight in weights):
            raise ValueError("a weight of 0 is the base itself, which every mean is compared with: remove that arm")
        self._check_proxies()
        return self

    def _check_proxies(self) -> None:
        """Every mixture is one of the question's datasets."""
        if self.merges is None or self.prior is None or self.caps is None:
            return
        mixtures = [self.prior, *(merge.weights for merge in self.merges)]
        if any(len(mixture) != len(self.datasets) for mixture in (*mixtures, self.caps)):
            raise ValueError("MixtureProxy: weights, prior and caps have one number for each of datasets")
        if any(sum(mixture) != 1 for mixture in mixtures) or sum(self.caps) < 1 or not all(self.prior):
            raise ValueError("MixtureProxy: weights and prior sum to 1, caps to 1 or more, and no prior is 0")


DECIDE_FIELDS = {
    Question.LEARNING_RATE: ("rung_tokens", "rungs", "last"),
    Question.SCREENING: ("error_rate", "family"),
    Question.DURATION: ("rates", "picked_at"),
    Question.MIX: ("proposal", "mixes"),
    Question.MIXTURE_PROXY: ("merges", "prior", "caps"),
    Question.SCALING: ("models",),
}
"""What a question needs beside arms and controls."""
DECIDE_FIELDS_WORDS = (
    "; ".join(f"{', '.join(map(to_camel, names))} go with {question}" for question, names in DECIDE_FIELDS.items())
    + ", and only with it"
)


class Answered(Model):
    """A question of the recipe, and the decisions that answered it."""

    question: Question
    """What was asked."""
    tokens: Tokens | None = None
    """Total tokens of the arms that it was about, where all have as many."""
    decisions: Annotated[tuple[TrialRef, ...], Field(min_length=1, max_length=256)]
    """The Decide trials; several where one question would have been too long, or was asked again: the last counts."""


class AlsoScored(Model):
    """A model on suites that decide nothing."""

    evaluation: TrialRef
    """The Evaluate trial."""
    dataset: Digest | None = None
    """What it has read: a Prepare trial, or a mix; absent of the base."""
    learning_rate: LearningRate | None = None
    """Of its training."""
    tokens: Tokens | None = None
    """Of its training, total."""
    weight: Share | None = None
    """Its share in a mean with the base, where it is one."""


class ReportWork(Model):
    """One page, figures and tables of what an experiment found. Nothing hangs on it."""

    experiment_uid: Annotated[str, Field(max_length=64)] = ""
    """The experiment it is about: its page, with names and bill, is never reused by another."""
    target: DecisionMetric
    """What should improve."""
    retention: DecisionMetric | None = None
    """What should not get worse."""
    baseline: TrialRef
    """The Evaluate trial of the base."""
    answered: Annotated[tuple[Answered, ...], Field(min_length=1, max_length=64)]
    """What was decided, in the order of the recipe."""
    also: Annotated[tuple[AlsoScored, ...], Field(min_length=1, max_length=64)] | None = None
    """What else was scored, the base first."""


# --- how and where --------------------------------------------------------------------------------------------------

Quantity = Annotated[str, Field(pattern=r"^[0-9]{1,9}(\.[0-9]{1,3})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$", max_length=24)]
"""A Kubernetes resource quantity, such as '500m' or '16Gi'."""
Time = Annotated[str, Field(max_length=32)]
"""RFC 3339, in UTC."""
Duration = Annotated[str, Field(pattern=r"^[0-9]{1,6}(s|m|h)$", max_length=8)]
"""Such as '90s', '15m', '2h'."""


class ModelResources(Model):
    """What the pods of one model ask for."""

    nodes: Annotated[int | None, Field(ge=1, le=1024)] = None
    """Pods per attempt."""
    gpus_per_node: Annotated[int | None, Field(ge=0, le=64)] = None
    """GPUs, and training processes, per pod; 0 means one process on CPU."""
    processes_per_node: Annotated[int | None, Field(ge=1, le=64)] = None
    """Processes per pod without GPUs."""
    cpu: Quantity | None = None
    """CPU request."""
    memory: Quantity | None = None
    """Memory request and limit."""
    profile: Name | None = None
    """A pod profile of the administrator: GPU resource, node selector, tolerations, NCCL environment."""


class Resources(ModelResources):
    """What a trial's pods ask for."""

    image: Annotated[str | None, Field(max_length=512)] = None
    """Another trainer image; it must be allowed and pinned by digest."""
    service_account_name: Name | None = None
    """Must be allowed by the administrator; cpt-trial when absent."""
    credentials_secret_name: Name | None = None
    """A Secret with the store's credentials; must be allowed by the administrator."""


class Observe(Model):
    """What a Train trial looks at beside its loss."""

    held_out: Annotated[tuple[TrialRef, ...], Field(max_length=64)] = ()
    """Prepare trials whose held-out text is scored at the start and at the end."""
    suites: Annotated[tuple[SuiteWork, ...], Field(min_length=1, max_length=4)] | None = None
    """What is asked with it, for curves; without item tables."""
    every_tokens: Tokens | None = None
    """Score in between as well."""
    baseline: TrialRef | None = None
    """The Evaluate trial of the starting model, which the score at step 0 must equal."""


class DataName(Model):
    """How an experiment calls its data."""

    digest: Digest
    """Of a Prepare trial."""
    name: Name
    """Of the dataset or the held-out text."""


class Bill(Model):
    """What the trials of an experiment took, beside the study's protocol. Of committed results only, each once."""

    naive_tokens: Tokens
    """Every point of every sweep as a run of its own; no control."""
    separate_tokens: Tokens
    """The points that were trained, each as a run of its own."""
    arm_tokens: Tokens
    """The same as segments of shared trunks."""
    control_tokens: Tokens
    """Of the control and its replicates."""
    reused_tokens: Tokens
    """Of arms and control: trained before, by equal trials. What follows is without these."""
    training_gigaflops: Annotated[int, Field(ge=0, le=2**53)]
    """Billions of operations, by the convention that the results name."""
    gpu_seconds: Annotated[int, Field(ge=0, le=2**53)]
    """Of the attempts that committed."""
    evaluation_gigaflops: Annotated[int, Field(ge=0, le=2**53)] | None = None
    """Of Evaluate trials, counted likewise."""


class ReportedModel(Model):
    """What an experiment ends with; scores are text, as in its status."""

    trial: Digest
    """Whose end it is."""
    dataset: Name | None = None
    """What it was trained on; absent where that is the mix."""
    learning_rate: LearningRate
    """Its rate."""
    tokens: Tokens
    """Its total tokens."""
    target: Annotated[str, Field(max_length=32)]
    """Score on the target."""
    target_interval: Annotated[str, Field(max_length=64)] | None = None
    """95 %."""
    retention: Annotated[str, Field(max_length=32)] | None = None
    """Score on the retention."""


class Legend(Model):
    """What a Report shows beside its inputs; no digest depends on it."""

    title: Name | None = None
    """The experiment's name."""
    names: Annotated[tuple[DataName, ...], Field(max_length=256)] = ()
    """Results refer to data by digest only; data without a name here is shown by its digest."""
    bill: Bill | None = None
    """What it cost."""
    base: Annotated[str, Field(max_length=512)] | None = None
    """The base's address, or the trial that made it."""
    best: ReportedModel | None = None
    """For the model card; absent where the base is best."""


class Run(Model):
    """How and where a trial runs. Never hashed; effective at the next attempt."""

    resources: Resources = Resources()
    """What its pods ask for."""
    observe: Observe | None = None
    """What a Train trial looks at."""
    legend: Legend | None = None
    """What a Report shows beside its inputs."""
    queue_name: Name | None = None
    """Kueue's LocalQueue."""
    priority_class_name: Name | None = None
    """Of the pods; must be allowed by the administrator."""
    max_retries: Annotated[int | None, Field(ge=0, le=100)] = None
    """Counted retries; starts anew when an attempt committed a new step."""
    active_deadline_seconds: Annotated[int | None, Field(ge=1, le=31_536_000)] = None
    """An attempt that runs longer is ended and counted."""
    suspend: bool | None = None
    """Checkpoint, release the pods, wait."""
    cancel: bool | None = None
    """End for good. Only people set this; the operator never does."""


# --- the kind -------------------------------------------------------------------------------------------------------

_WORK = {
    TrialType.PREFLIGHT: "preflight",
    TrialType.PREPARE: "prepare",
    TrialType.TRAIN: "train",
    TrialType.EVALUATE: "evaluate",
    TrialType.DECIDE: "decide",
    TrialType.MERGE: "merge",
    TrialType.REPORT: "report",
}

Work = PreflightWork | PrepareWork | TrainWork | EvaluateWork | DecideWork | MergeWork | ReportWork


class CPTTrialSpec(Model):
    """Exactly the work block that `type` names, and `run`."""

    type: TrialType
    """What the trial does."""
    preflight: PreflightWork | None = None
    """Look at inputs."""
    prepare: PrepareWork | None = None
    """Tokenise a dataset."""
    train: TrainWork | None = None
    """Train a segment."""
    evaluate: EvaluateWork | None = None
    """Score a model."""
    decide: DecideWork | None = None
    """Answer a question."""
    merge: MergeWork | None = None
    """Write the mean of models."""
    report: ReportWork | None = None
    """Show what was found."""
    protocol: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    """Defaults, planner, digest and scorer as one number; the operator's newest when absent."""
    image_digest: Annotated[str | None, Field(pattern=r"^sha256:[0-9a-f]{64}$", max_length=71)] = None
    """Of an image other than the chart's."""
    salt: Annotated[str | None, Field(max_length=64)] = None
    """Keeps digests apart where reuse is not wanted."""
    run: Annotated[Run, Unhashed] = Run()
    """How and where."""

    @model_validator(mode="after")
    def _one_work_block(self) -> Self:
        want = _WORK[self.type]
        have = [name for name in _WORK.values() if getattr(self, name) is not None]
        if have != [want]:
            raise ValueError(f"type {self.type} needs exactly the block '{want}', found {have or 'none'}")
        return self

    @property
    def work(self) -> Work:
        """The work block that `type` names."""
        block: Work = getattr(self, _WORK[self.type])
        return block


class Attempt(Model):
    """One PyTorchJob: what cannot be observed again once its pods are gone."""

    number: int
    """Counts up, never reused."""
    job_uid: Annotated[str | None, Field(max_length=64)] = None
    """Absent until the job was created."""
    node: Annotated[str | None, Field(max_length=253)] = None
    """Of the first pod."""
    start_time: Time | None = None
    """When the job was created."""
    running_time: Time | None = None
    """When all pods were first seen running."""
    completion_time: Time | None = None
    """When its end was first seen."""
    cause: Annotated[str | None, Field(max_length=64)] = None
    """The reason of its end: one of the Reason words."""
    message: Text | None = None
    """For people."""
    exit_code: int | None = None
    """Of the container that ended it."""
    gpu_seconds: int | None = None
    """Pod time x GPUs."""
    committed_step: int | None = None
    """The last step in a checkpoint."""
    infrastructure_failure: bool | None = None
    """The next attempts avoid its node."""


class Attempts(Model):
    """Totals, and the last ten."""

    total: int = 0
    """Attempts ever made."""
    fruitless: int = 0
    """Counted failures in a row that committed no new step."""
    disruptions: int = 0
    """Free ends in a row that committed no new step."""
    gpu_seconds: int = 0
    """Over all attempts."""
    last: Annotated[tuple[Attempt, ...], Field(max_length=10)] = ()
    """The newest last."""


class Score(Model):
    """A metric as text: numbers of a status are for reading."""

    suite: SuiteName
    """Which; a held-out text by its name."""
    score: Annotated[str, Field(max_length=32)]
    """Value."""
    stderr: Annotated[str | None, Field(max_length=32)] = None
    """Standard error."""


class CheckpointStatus(Model):
    """The last resumable point."""

    uri: Text
    """Its manifest."""
    tokens: Tokens
    """Total tokens."""


class CPTTrialStatus(Model):
    """Observed; numbers are counts or text."""

    observed_generation: int | None = None
    """Of the spec that the conditions speak of."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)] = ()
    """Succeeded, and Stalled where somebody must act."""
    digest: Digest | None = None
    """Of the recipe, when its inputs are known."""
    tokens: Tokens | None = None
    """Trained so far by this trial."""
    progress: Annotated[int | None, Field(ge=0, le=100)] = None
    """Per cent."""
    scores: Annotated[tuple[Score, ...], Field(max_length=64)] = ()
    """By held-out text or suite."""
    checkpoint: CheckpointStatus | None = None
    """The last resumable point."""
    result_digest: Digest | None = None
    """SHA-256 of `result.json`."""
    reused_from: Annotated[str | None, Field(max_length=128)] = None
    """The trial, or the store, that an equal result came from."""
    start_time: Time | None = None
    """Of the first attempt."""
    completion_time: Time | None = None
    """Of the result."""
    gpu_seconds: int | None = None
    """Over all attempts."""
    attempts: Attempts = Attempts()
    """The record."""


class TrialDocument(Model):
    """What reaches the data plane, in `CPT_TRIAL` or a file: a resolved spec and which attempt this is."""

    api_version: Literal["cpt.dev/v1alpha1"] = "cpt.dev/v1alpha1"
    """Of this document."""
    namespace: Name
    """Whose part of the store."""
    name: Name
    """Of the trial, for logs."""
    digest: Digest
    """Of the resolved spec; the trainer computes it again and refuses another."""
    attempt: Annotated[int, Field(ge=1)]
    """Which attempt this is."""
    protocol: int
    """Of the digest."""
    spec: CPTTrialSpec
    """Resolved: every reference has its digest, every source its address."""
