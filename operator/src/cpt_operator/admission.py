"""Who may run: allow-lists of the administrator, and places among siblings. Pure.

**Places.** An experiment has `parallelTrials` places. A trial may start when those at work, and those ahead of it in
the plan that wait for nothing but a place, leave one free:

    parallelTrials 2, at work: a;  in line, in the plan's order: b, c    -> b may start, c is told to wait

Lowering the number stops nothing that runs. Trials of nobody (hand-written ones) take no place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from cpt_api.conditions import Reason
from cpt_api.trial import CPTTrialSpec, Resources, Run, TrialType
from cpt_operator.children import ORDER_ANNOTATION
from cpt_operator.kinds import Key
from cpt_operator.plan.trials import sized
from cpt_operator.plan.types import Finding
from cpt_operator.records import TrialRecord
from cpt_operator.settings import Settings

# --- what may be asked for --------------------------------------------------------------------------------------------


def complete_resources(trial_type: TrialType, wanted: Resources, settings: Settings) -> Resources:
    """With the administrator's defaults where nothing is said, and no more than the verb can use."""
    defaults = settings.defaults
    fields = {
        name: getattr(defaults, name) if (value := getattr(wanted, name)) is None else value
        for name in Resources.model_fields
    }
    return sized(Resources(**fields), trial_type)


def not_allowed(resources: Resources, priority_class: str | None, settings: Settings) -> Finding | None:
    """What of complete `resources` the administrator does not allow."""
    allowed = settings.allowed
    lists: tuple[tuple[str, str | None, Iterable[str]], ...] = (
        ("serviceAccountName", resources.service_account_name, allowed.service_accounts),
        ("credentialsSecretName", resources.credentials_secret_name, allowed.credential_secrets),
        ("profile", resources.profile, settings.profiles),
        ("priorityClassName", priority_class, allowed.priority_classes),
    )
    for field, value, values in lists:
        if value is not None and value not in values:
            return _not_allowed(field, value, values)
    cap = settings.caps.gpus_per_namespace
    if cap is not None and gpus(resources) > cap:
        return Finding(
            Reason.NOT_ALLOWED,
            f"{gpus(resources)} GPUs are asked for by one trial, a namespace may have {cap}: ask for fewer nodes or "
            "gpusPerNode, or the administrator",
        )
    return _image_not_allowed(resources.image, settings)


def _not_allowed(field: str, value: str, values: Iterable[str]) -> Finding:
    names = ", ".join(sorted(values)) or "none"
    return Finding(
        Reason.NOT_ALLOWED,
        f"{field} {value!r} is not allowed (allowed: {names}): choose one of these or ask the administrator",
    )


def _image_not_allowed(image: str | None, settings: Settings) -> Finding | None:
    if image is None or image == settings.trainer_image:
        return None
    repository, at, digest = image.partition("@")
    if repository.rpartition(":")[0] and "/" not in repository.rpartition(":")[2]:
        repository = repository.rpartition(":")[0]  # a tag beside the digest means nothing
    if repository not in settings.allowed.images:
        return _not_allowed("image", image, settings.allowed.images)
    if not at or not digest.startswith("sha256:"):
        return Finding(Reason.NOT_ALLOWED, f"image {image!r} must be pinned: {repository}@sha256:…")
    return None


def image_digest(image: str | None) -> str | None:
    """What enters the digest of trials: that of an image that is named.

    Even where it is the chart's own: the chart's changes with an upgrade, and digests must not.
    """
    return image.partition("@")[2] or None if image else None


def not_consistent(spec: CPTTrialSpec) -> Finding | None:
    """An image that is named must be part of the digest."""
    want = image_digest(spec.run.resources.image)
    if spec.image_digest == want:
        return None
    return Finding(
        Reason.INVALID,
        f"imageDigest is {spec.image_digest}, run.resources.image needs {want}: results of another image are another "
        "recipe; write the image's digest there, or remove it",
    )


def gpus(resources: Resources) -> int:
    """Of one attempt."""
    return (resources.nodes or 1) * (resources.gpus_per_node or 0)


# --- places -----------------------------------------------------------------------------------------------------------


def no_place(
    trial: TrialRecord,
    siblings: Sequence[TrialRecord],
    places: int,
    is_starting: Callable[[Key], bool],
    is_in_line: Callable[[Key], bool],
) -> Finding | None:
    """Why the trial may not start yet.

    `is_starting` tells of attempts that are just being recorded, `is_in_line` of who waits for nothing but a place.
    """
    others = [sibling for sibling in siblings if sibling.uid != trial.uid]
    at_work = sum(_has_place(other) or is_starting(other.key) for other in others)
    if at_work >= places:
        return Finding(Reason.QUEUED, f"all {places} places of the experiment (parallelTrials) are taken")
    ahead = sum(place_of(other) < place_of(trial) and _waits(other, is_in_line) for other in others)
    if at_work + ahead >= places:
        return Finding(Reason.QUEUED, "trials that come earlier in the plan start first")
    return None


def _has_place(trial: TrialRecord) -> bool:
    """An attempt that a queue has given up has no pods, and shall not keep others from going on."""
    return trial.standing.is_at_work and not trial.standing.is_stalled


def no_gpus(
    wanted: int, cap: int | None, others: Iterable[TrialRecord], settings: Settings, is_starting: Callable[[Key], bool]
) -> Finding | None:
    """Why the namespace's GPUs do not suffice for `wanted` more now."""
    if cap is None or wanted == 0:
        return None
    used = sum(_gpus_of(other, settings) for other in others if other.standing.is_at_work or is_starting(other.key))
    if used + wanted <= cap:
        return None
    return Finding(Reason.QUEUED, f"the namespace may have {cap} GPUs; {used} are in use and this trial needs {wanted}")


def _gpus_of(trial: TrialRecord, settings: Settings) -> int:
    run = Run.model_validate(trial.spec.get("run") or {})
    return gpus(complete_resources(TrialType(trial.spec["type"]), run.resources, settings))


def place_of(trial: TrialRecord) -> tuple[str, str]:
    """Its place in the plan."""
    return trial.annotations.get(ORDER_ANNOTATION, ""), trial.name


def next_in_line(siblings: Iterable[TrialRecord], places: int, is_in_line: Callable[[Key], bool]) -> list[TrialRecord]:
    """Who should look again when a place may have become free."""
    return sorted((s for s in siblings if _waits(s, is_in_line)), key=place_of)[:places]


def _waits(trial: TrialRecord, is_in_line: Callable[[Key], bool]) -> bool:
    busy = trial.deleting or trial.standing.is_at_work or trial.standing.has_ended
    return is_in_line(trial.key) and not busy
