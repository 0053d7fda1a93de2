"""Conditions and reasons: the same word in a condition, an event, a log line and the documentation."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from cpt_api.model import Model


class ConditionType(StrEnum):
    """Condition types of both kinds."""

    READY = "Ready"
    """kstatus: the experiment does what it should, though it may not be finished."""
    RECONCILING = "Reconciling"
    """kstatus: the operator is about to change something; present only while True."""
    STALLED = "Stalled"
    """kstatus: nothing goes on until somebody acts; present only while True."""
    SUCCEEDED = "Succeeded"
    """Unknown until the end."""


class Condition(Model):
    """As in the Kubernetes API conventions."""

    type: Annotated[str, Field(max_length=64)]
    """One of the condition types."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Field(max_length=64)]
    """One word for programs."""
    message: Annotated[str, Field(max_length=1024)]
    """One or two sentences for people: what, why, and what to do."""
    last_transition_time: Annotated[str, Field(max_length=32)]
    """When `status` last changed."""
    observed_generation: int | None = None
    """Of the spec that it speaks of."""


class Reason(StrEnum):
    """Every reason, with its sentence."""

    # on the way
    EXPANDING = "Expanding"
    """The experiment was accepted and is being expanded."""
    WAITING_FOR_MODEL = "WaitingForModel"
    """The trial that makes the base has not succeeded yet."""
    WAITING_FOR_INPUT = "WaitingForInput"
    """A trial that this one reads has not succeeded yet; or all have, and it waits for its turn."""
    WAITING_FOR_EQUAL_TRIAL = "WaitingForEqualTrial"
    """An equal trial of the namespace is at work; its result will be shared."""
    QUEUED = "Queued"
    """Waiting for a free place: parallelTrials, or the cluster's queue."""
    STARTING = "Starting"
    """The attempt was created and its pods are not all running yet."""
    RUNNING = "Running"
    """At work."""
    RETRYING = "Retrying"
    """The last attempt ended early; the next one starts after a pause."""
    SUSPENDED = "Suspended"
    """Paused by the user; its pods are released."""
    STORE_UNAVAILABLE = "StoreUnavailable"
    """The artifact store does not answer; nothing is decided until it does."""
    # ends
    COMPLETED = "Completed"
    """Finished."""
    REUSED = "Reused"
    """An equal result existed; nothing was trained."""
    DIVERGED = "Diverged"
    """Training diverged: a result, not a failure."""
    CANCELLED = "Cancelled"
    """Ended by the user."""
    FAILED = "Failed"
    """Ended for good without a result."""
    # somebody must act
    INVALID = "Invalid"
    """The spec cannot be carried out as written."""
    NOT_ALLOWED = "NotAllowed"
    """The administrator's allow-list does not hold what the spec names."""
    PREFLIGHT_FAILED = "PreflightFailed"
    """Preflight found something wrong with the inputs; it looks again every ten minutes."""
    INPUT_FAILED = "InputFailed"
    """A trial that this one reads has failed."""
    SOURCE_CHANGED = "SourceChanged"
    """The files of an input changed under their address."""
    PROTOCOL_UNSUPPORTED = "ProtocolUnsupported"
    """This operator does not ship the protocol of the experiment."""
    SPEC_TOO_LARGE = "SpecTooLarge"
    """The resolved trial does not fit into a pod's environment."""
    BACKEND_MISSING = "BackendMissing"
    """PyTorchJob is not served by this cluster: install training-operator 1.9."""
    STORE_REFUSED = "StoreRefused"
    """The artifact store refuses the operator's credentials."""
    BUDGET_EXHAUSTED = "BudgetExhausted"
    """The budget is used up; raise it and the experiment goes on from its checkpoints."""
    TOO_MANY_FAILURES = "TooManyFailures"
    """More trials failed than maxFailedTrials allows, or one failed under onTrialFailure: Stop."""
    UNDECIDED = "Undecided"
    """A dataset's screening is undecided, and screening.onUndecided is Stop."""
    NAME_TAKEN = "NameTaken"
    """An object of that name exists and is not ours."""
    QUEUE_DEACTIVATED = "QueueDeactivated"
    """The attempt's Workload is deactivated, and Kueue leaves it alone until that is undone, or the trial retried."""
    QUEUE_STUCK = "QueueStuck"
    """Kueue admitted the attempt more than five minutes ago, and its job is still suspended."""
    # how an attempt ended
    ATTEMPTS_EXHAUSTED = "AttemptsExhausted"
    """Too many attempts in a row committed no step."""
    PREEMPTION_THRASHING = "PreemptionThrashing"
    """Three disruptions in a row before a new step was committed."""
    EXITED = "Exited"
    """A container ended with an exit code that is retried."""
    CONFIG_ERROR = "ConfigError"
    """Exit 3: the trial cannot be carried out as written."""
    DATA_ERROR = "DataError"
    """Exit 4: data or a digest differ from what the trial names."""
    DOES_NOT_FIT = "DoesNotFit"
    """Exit 6: not even one sequence fits into memory."""
    HANG = "Hang"
    """Exit 210: no step for a long time, or communication failed."""
    STORAGE_ERROR = "StorageError"
    """Exit 211: the store could not be read or written until the deadline."""
    OUT_OF_MEMORY = "OutOfMemory"
    """Exit 212: half the micro-batch comes next."""
    KILLED = "Killed"
    """Exit 137 or 139, the kernel's killer at the memory limit among them."""
    TERMINATED = "Terminated"
    """Exit 143: ended on request, at a checkpoint where there was time."""
    DISRUPTED = "Disrupted"
    """The pod was evicted, preempted, or rejected at admission."""
    NODE_LOST = "NodeLost"
    """The pod's node is gone."""
    POD_LOST = "PodLost"
    """A pod vanished or was replaced."""
    JOB_LOST = "JobLost"
    """The job vanished before its end was seen."""
    START_TIMEOUT = "StartTimeout"
    """Not all pods were running in time."""
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    """The attempt ran longer than activeDeadlineSeconds."""
    RESULT_INVALID = "ResultInvalid"
    """A result.json exists that is not this trial's: it is not believed."""
    # why pods do not start
    IMAGE_PULL_FAILED = "ImagePullFailed"
    """The image cannot be pulled."""
    POD_FORBIDDEN = "PodForbidden"
    """A pod could not be created: quota, Pod Security, or a missing ServiceAccount."""
    UNSCHEDULABLE = "Unschedulable"
    """No node fits the pod now."""
    CONTAINER_CONFIG_ERROR = "ContainerConfigError"
    """A container could not be set up: a Secret or key is missing."""
