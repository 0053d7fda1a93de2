"""The administrator's settings: one YAML file, rendered by the chart, strict: an unknown key is an error.

    artifactStore: {bucket: cpt, endpoint: "http://s3.cpt-system.svc:8333", region: us-east-1}
    trainerImage: registry.example/cpt-trainer@sha256:…
    lease: {name: cpt-operator, namespace: cpt-system}

Everything else has a default. Credentials are not here: they come as AWS_* variables from a Secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import Field, ValidationError

from cpt_api.model import Model, Name
from cpt_api.trial import Resources

Label = Annotated[str, Field(max_length=317)]


class SettingsError(ValueError):
    """The file cannot be used; the message says where and why."""


class ArtifactStore(Model):
    """Where every result, checkpoint and table lies. One for the whole installation."""

    bucket: Annotated[str, Field(min_length=3, max_length=63)]
    """Its name; keys are derived below it."""
    endpoint: str | None = None
    """Of an S3 other than Amazon's, such as http://s3.cpt-system.svc:8333."""
    region: str = "us-east-1"
    """As signatures need one."""
    path_style: bool = True
    """Whether the bucket stands in the path rather than in the host name."""

    @property
    def uri(self) -> str:
        """What a trial's pod gets as CPT_STORE."""
        return f"s3://{self.bucket}"


class Lease(Model):
    """Who of several replicas works."""

    name: Name = "cpt-operator"
    """Of the Lease object."""
    namespace: Name
    """Of the operator."""
    duration_seconds: Annotated[int, Field(ge=3)] = 15
    """A leader that was not heard of for so long is replaced."""


class Toleration(Model):
    """As in a pod's spec."""

    key: Label | None = None
    """Of the taint."""
    operator: Literal["Exists", "Equal"] | None = None
    """How the value is compared."""
    value: Label | None = None
    """Of the taint."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Of the taint."""
    toleration_seconds: int | None = None
    """With NoExecute."""


class Profile(Model):
    """What pods need on one sort of node. Only the administrator can say such things about a pod."""

    gpu_resource: Label = "nvidia.com/gpu"
    """The extended resource that `gpusPerNode` counts."""
    extra_resources: Mapping[Label, str] = Field(default_factory=dict)
    """Further limits per pod, such as RDMA devices."""
    environment: Mapping[str, str] = Field(default_factory=dict)
    """Such as NCCL_*."""
    node_selector: Mapping[Label, str] = Field(default_factory=dict)
    """Labels of the nodes."""
    tolerations: tuple[Toleration, ...] = ()
    """Of the nodes' taints."""
    image_pull_secrets: tuple[Name, ...] = ()
    """In the trials' namespace."""
    pod_labels: Mapping[Label, str] = Field(default_factory=dict)
    """For policies and accounting."""
    runtime_class_name: Name | None = None
    """Such as nvidia."""
    scheduler_name: Name | None = None
    """Other than the default."""


class Allowed(Model):
    """What a user's manifest may name; anything else is `Stalled=NotAllowed`."""

    service_accounts: tuple[Name, ...] = ("cpt-trial",)
    """Under which trials may run."""
    credential_secrets: tuple[Name, ...] = ("cpt-store",)
    """With the store's credentials."""
    images: tuple[str, ...] = ()
    """Other trainer images, by repository; each use must be pinned by digest."""
    priority_classes: tuple[Name, ...] = ()
    """Of pods."""


class Caps(Model):
    """What keeps one user's mistake small."""

    trials_per_experiment: Annotated[int, Field(ge=1)] = 1000
    """A plan with more is `Stalled=NotAllowed`."""
    gpus_per_namespace: Annotated[int | None, Field(ge=0)] = None
    """Of all attempts at once; unlimited when absent."""


class Kueue(Model):
    """The queues of `scheduling.queueName`."""

    enabled: bool = False
    """Whether to watch its Workloads, which say why an attempt waits."""


class Settings(Model):
    """The whole file."""

    artifact_store: ArtifactStore
    """Where results lie."""
    trainer_image: Annotated[str, Field(min_length=1, max_length=512)]
    """Of trials that name no other."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """Of trials' pods."""
    lease: Lease
    """Leader election."""
    watch_namespaces: tuple[Name, ...] = ()
    """Only these; the whole cluster when empty."""
    allowed: Allowed = Allowed()
    """Allow-lists."""
    caps: Caps = Caps()
    """Limits."""
    kueue: Kueue = Kueue()
    """What is seen of Kueue."""
    profiles: Mapping[Name, Profile] = Field(default_factory=dict)
    """By name, for `resources.profile`."""
    defaults: Resources = Resources(
        nodes=1,
        gpus_per_node=0,
        service_account_name="cpt-trial",
        credentials_secret_name="cpt-store",  # noqa: S106 - the name of a Secret
    )
    """Of a trial's resources."""
    parallel_trials: Annotated[int, Field(ge=1)] = 4
    """Of an experiment that does not say."""
    finished_jobs_ttl_seconds: Annotated[int, Field(ge=0)] = 3600
    """How long the job of a finished attempt is kept."""
    failed_jobs_ttl_seconds: Annotated[int, Field(ge=0)] = 86_400
    """How long the job of a trial's last failed attempt is kept."""
    start_timeout_seconds: Annotated[int, Field(ge=1)] = 900
    """An attempt whose pods are not all running by then is ended and made again."""
    workers: Annotated[int, Field(ge=1, le=64)] = 4
    """Reconciles at a time."""
    relist_seconds: Annotated[int, Field(ge=1)] = 600
    """Between two comparisons of the store with the API server."""
    http_host: Annotated[str | None, Field(max_length=253)] = None
    """Where the port is open; on every address when absent."""
    http_port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    """Of /metrics, /healthz and /readyz."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file.

        Raises SettingsError when it cannot be read, or is not as described here.
        """
        try:
            return cls.model_validate(yaml.safe_load(path.read_text()))
        except (OSError, yaml.YAMLError) as error:
            raise SettingsError(f"settings {path}: {error}") from None
        except ValidationError as error:
            problems = "; ".join(f"{_place(e['loc'])}: {e['msg']}" for e in error.errors(include_url=False))
            raise SettingsError(f"settings {path}: {problems}") from None


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location)) or "the file"
