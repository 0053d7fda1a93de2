"""What goes into a plan and what comes out of it. All of it is frozen data; nothing here knows a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cpt_api.conditions import Reason
from cpt_api.experiment import Best, DatasetStatus, MixShare, ModelStatus, StageStatus
from cpt_api.result import Result
from cpt_api.trial import CPTTrialSpec
from cpt_api.unit import BITS, Unit
from cpt_api.values import Digest, Tokens

NO_TOKENS = Tokens(0)


@dataclass(frozen=True, slots=True)
class Units:
    """In which the two metrics are shown."""

    target: Unit = BITS
    retention: Unit = BITS


@dataclass(frozen=True, slots=True)
class Succeeded:
    """A trial's committed result."""

    result: Result
    reused: bool = False
    """Whether an equal trial had it before: this experiment paid nothing for it. Says nothing about what is planned."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A trial that ended for good without a result."""

    reason: str
    message: str


Outcome = Succeeded | Failed
Outcomes = Mapping[Digest, Outcome]
"""What is known about trials by digest; a digest that is absent has not ended."""


@dataclass(frozen=True, slots=True)
class Look:
    """A Preflight that was made for this experiment, and what it answered (None: nothing yet)."""

    spec: CPTTrialSpec
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class Context:
    """What a plan depends on beside the manifest."""

    experiment_uid: str
    protocol: int
    looks: tuple[Look, ...] = ()
    """All Preflights of this experiment so far: what they resolved is frozen for its life."""
    look_again: bool = False
    """Whether it is time for another Preflight of inputs with findings."""
    base: Digest | None = None
    """With `model.trialName`: the digest of that trial, once it has succeeded."""
    made: Mapping[str, Digest] = field(default_factory=dict)
    """The same for further models, by the name of their trial."""
    image_digest: str | None = None
    """Of an image other than the chart's."""
    experiment: str = ""
    """Its name, as the report's title."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Why nothing more can be planned, in the words of the condition."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class PlannedTrial:
    """One trial of the plan, resolved: every reference has its digest."""

    digest: Digest
    spec: CPTTrialSpec
    stage: str
    title: str
    """For people, such as `python 3e-4 @ 128k`."""
    tokens: Tokens = NO_TOKENS
    """That it trains."""
    needs: tuple[Digest, ...] = ()
    """Trials that must have succeeded before it can start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageState:
    """How far a stage is: what all of them say."""

    decision: Digest | None = None
    """The latest Decide trial that has answered; where several ask the first."""
    sentence: str = ""
    """For people."""
    decided: bool = False
    """Nothing of it is open."""
    failures: tuple[str, ...] = ()
    """What failed for good, what was refused or left out, in words."""
    obstacle: str | None = None
    """Why it cannot be decided."""
    remedy: str = ""
    """What to do about training that diverged; empty where there is none."""
    tokens_ahead: Tokens = NO_TOKENS
    """That trials which are not known yet train at most."""


@dataclass(frozen=True, slots=True)
class Operations:
    """Floating-point operations of what has a result, by the convention that the results name."""

    training: float = 0.0
    evaluation: float = 0.0
    """Of Evaluate trials; held-out text scored while training is not among them."""

    @property
    def total(self) -> float:
        """Both."""
        return self.training + self.evaluation


NO_OPERATIONS = Operations()


@dataclass(frozen=True, slots=True)
class Plan:
    """All trials known so far, in the order in which they should start, and what was decided."""

    trials: tuple[PlannedTrial, ...]
    stages: tuple[StageStatus, ...] = ()
    datasets: tuple[DatasetStatus, ...] = ()
    mix: tuple[MixShare, ...] = ()
    """The mix that was taken, as soon as it is known."""
    scaling: tuple[ModelStatus, ...] = ()
    best: Best | None = None
    units: Units = field(default_factory=Units)
    """In which scores and gains stand here."""
    tokens_ahead: Tokens = NO_TOKENS
    """That trials which are not known yet will train at most."""
    tokens_naive: Tokens = NO_TOKENS
    """By the study's protocol: each point of each sweep its own run."""
    tokens_naive_elsewhere: Tokens = NO_TOKENS
    """Of these, on each further base of a scaling."""
    operations: Operations = NO_OPERATIONS
    """Of trials that were not reused."""
    finding: Finding | None = None
    """Set: nothing more can be planned until somebody acts."""
    complete: bool = False
    """Every stage is decided; nothing is left to do."""
    report: Digest | None = None
    """The Report trial, once it has made its page."""
    message: str = ""
    """The answer in one sentence, when complete."""
