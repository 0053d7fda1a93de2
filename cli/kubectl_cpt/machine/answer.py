"""What came out of a run, what it cost, and where it lies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cpt_api.digest import subject_digest
from cpt_api.experiment import CPTExperimentStatus, Ledger, TrialCounts
from cpt_api.layout import REPORT_PAGE, data_prefix, export_prefix, result_key
from cpt_api.result import Decision, DurationChoice, RateChoice, Screened
from cpt_api.trial import TrialType
from cpt_api.unit import Unit
from cpt_api.values import Digest, Tokens
from cpt_operator.plan import ENDED_STAGES, Failed, Succeeded
from cpt_operator.plan.bill import shown
from cpt_operator.plan.repeat import STAGE as SCALING
from cpt_operator.plan.subjects import MIX
from kubectl_cpt.machine.world import BY_HAND, Job, World
from kubectl_cpt.numbers import amount, duration, percent
from kubectl_cpt.render import columns, datasets, mix, models


def status_of(world: World, store: str) -> CPTExperimentStatus:
    """As the operator would write it, without conditions."""
    plan = world.plan
    jobs = [job for job in world.jobs if job.stage != BY_HAND]
    outcomes = [world.outcomes.get(job.digest) for job in jobs if job.digest]
    failed = sum(isinstance(outcome, Failed) for outcome in outcomes)
    succeeded = sum(isinstance(outcome, Succeeded) for outcome in outcomes)
    names = {job.digest: job.name for job in jobs}
    best = plan.best
    if best:
        uri = f"{store}/{export_prefix(world.namespace, best.digest)}" if best.soup_weight else None
        best = best.model_copy(update={"trial": names.get(best.digest, best.trial), "uri": uri})
    return CPTExperimentStatus(
        stage=next((stage.name for stage in plan.stages if stage.state not in ENDED_STAGES), None),
        trials=TrialCounts(
            total=len(jobs),
            queued=len(jobs) - succeeded - failed,
            succeeded=succeeded,
            failed=failed,
            reused=sum(job.digest in world.outcomes and job.digest not in world.memory.attempts for job in jobs),
        ),
        trials_summary=f"{succeeded + failed}/{len(jobs)}",
        stages=plan.stages,
        datasets=plan.datasets,
        mix=plan.mix,
        scaling=plan.scaling,
        best=best,
        ledger=Ledger(
            tokens_trained=Tokens(world.tokens_trained),
            tokens_reused=Tokens(world.tokens_reused),
            tokens_naive=plan.tokens_naive,
            gpu_seconds=round(world.gpu_seconds),
            flops=shown(plan.operations.total),
            evaluation_flops=shown(plan.operations.evaluation),
        ),
        report_uri=_report(world, store),
    )


def document_of(world: World, store: str, logs: Path) -> dict[str, Any]:
    """For `-o json` and `-o yaml`."""
    trials = [
        {
            "name": job.name,
            "stage": job.stage,
            "title": job.title,
            "digest": job.digest,
            "outcome": _outcome(world, job),
        }
        for job in world.jobs
        if job.digest
    ]
    return {
        "kind": "Run",
        "experiment": world.experiment.name if world.experiment else None,
        "status": status_of(world, store).to_dict() if world.experiment else None,
        "trials": trials,
        "places": dict(_places(world, store, logs)),
    }


def _outcome(world: World, job: Job) -> str | None:
    """One word; None while it has not ended."""
    match world.outcomes.get(job.digest) if job.digest else None:
        case Succeeded(result):
            return result.outcome.value
        case Failed(reason):
            return reason
        case _:
            return None


def as_text(world: World, store: str, logs: Path, seconds: float) -> str:
    """For people."""
    lines: list[str] = []
    if world.experiment:
        status = status_of(world, store)
        lines += [f"{world.experiment.name}: {world.plan.message}", "", *_decisions(world, status), ""]
        lines += [*columns(list(_bill(status, seconds))), ""]
    hand_written = list(_by_hand(world))
    if hand_written:
        lines += [*columns([("TRIAL BY HAND", "DIGEST", "OUTCOME"), *hand_written]), ""]
    lines += columns(list(_places(world, store, logs)))
    return "\n".join(lines) + "\n"


def _decisions(world: World, status: CPTExperimentStatus) -> Iterator[str]:
    yield from datasets(status.datasets)
    yield from mix(status.mix)
    screened = _screened(world)
    than = "the control (bounds: one-sided 95 %, adjusted for rates and datasets)" if screened else "the base"
    unit, kept = world.plan.units.target, world.plan.units.retention
    yield f"gain: {unit.name} of the target {unit.gained} against {than}"
    if best := status.best:
        scores = f"target {_with(unit, best.target)}" + (f" ({best.target_interval})" if best.target_interval else "")
        scores += f", retention {_with(kept, best.retention)}" if best.retention else ""
        share = f"{best.soup_weight} of " if best.soup_weight else ""
        yield f"best: {share}{best.dataset or MIX} at {best.learning_rate}, {amount(best.tokens)} tokens: {scores}"
    yield from models(status.scaling)
    yield from (f"{name}: {choice.reason}" for name, choice in _choices(world).items())
    yield from (f"{name}: {answer.reason}" for name, answer in screened.items())
    yield from (f"{name}: {choice.reason}" for name, choice in _lasting(world).items())
    yield from (f"on {name}: {reason}" for name, reason in _scaled(world))
    yield from (f"{stage.name}: {stage.reason}" for stage in status.stages if stage.reason)


def _with(unit: Unit, score: str) -> str:
    """Bits per byte are what is meant where nothing is said."""
    return score if unit.full is None else f"{score} {unit.name}"


def _choices(world: World) -> dict[str, RateChoice]:
    """The newest answer for each dataset."""
    names = _names(world)
    found = {names[choice.dataset]: choice for decision in _documents(world) for choice in decision.rates}
    return dict(sorted(found.items()))


def _screened(world: World) -> dict[str, Screened]:
    """The verdict on each dataset."""
    names = _names(world)
    found = {names[one.dataset]: one for decision in _documents(world) for one in decision.screened or ()}
    return dict(sorted(found.items()))


def _lasting(world: World) -> dict[str, DurationChoice]:
    """The newest choice of a duration for each dataset."""
    names = _names(world)
    found = {names[one.dataset]: one for decision in _documents(world) for one in decision.durations or ()}
    return dict(sorted(found.items()))


def _scaled(world: World) -> Iterator[tuple[str, str]]:
    """The newest answer for each model of the scaling."""
    reasons = {one.baseline: one.reason for decision in _documents(world) for one in decision.scaled or ()}
    for job in world.jobs:
        if job.spec.evaluate and job.digest in reasons:
            yield job.title.removeprefix("the base "), reasons[job.digest]


def _names(world: World) -> dict[Digest | None, str]:
    """Datasets by their Prepare trial, and the mix by what it reads."""
    found: dict[Digest | None, str] = {
        job.digest: job.title for job in world.jobs if job.spec.type is TrialType.PREPARE and job.stage != BY_HAND
    }
    entries = (entry for job in world.jobs if job.spec.decide for entry in job.spec.decide.datasets)
    return found | {subject_digest(entry): MIX for entry in entries if entry.phases}


def _documents(world: World) -> Iterator[Decision]:
    """In the order of the plan."""
    for job in world.jobs:
        outcome = world.outcomes.get(job.digest) if job.digest else None
        decision = outcome.result.decision if isinstance(outcome, Succeeded) else None
        # of two rates on another base: the answer of that stage tells what came of them
        if decision and not (job.stage == SCALING and decision.rates):
            yield decision


def _bill(status: CPTExperimentStatus, seconds: float) -> Iterator[tuple[str, str]]:
    ledger = status.ledger
    trained = f"{amount(ledger.tokens_trained)} tokens by runs on this store, {amount(ledger.tokens_reused)} reused"
    if ledger.tokens_naive:
        own = percent(ledger.tokens_trained, ledger.tokens_naive)
        trained += f"; as separate runs {amount(ledger.tokens_naive)}, without control ({own})"
    yield ("trained", trained)
    yield (
        "trials",
        f"{status.trials.succeeded} succeeded, {status.trials.failed} failed, {status.trials.reused} reused",
    )
    yield ("time", f"{duration(seconds)} in this run; {ledger.gpu_seconds:,d} GPU-seconds in all")


def _report(world: World, store: str) -> str | None:
    digest = world.plan.report
    return f"{store}/{data_prefix(world.namespace, digest)}{REPORT_PAGE}" if digest else None


def _by_hand(world: World) -> Iterator[tuple[str, str, str]]:
    for job in world.jobs:
        if job.stage == BY_HAND and job.digest:
            yield (job.name, job.digest.short, _outcome(world, job) or "")


def _places(world: World, store: str, logs: Path) -> Iterator[tuple[str, str]]:
    """By what lies there."""
    best = world.plan.best
    outcome = world.outcomes.get(best.digest) if best else None
    if best and best.soup_weight:
        yield ("best", f"{store}/{export_prefix(world.namespace, best.digest)}")
    elif best and isinstance(outcome, Succeeded) and outcome.result.checkpoint:
        prefix = data_prefix(world.namespace, best.digest)
        yield ("best", f"{store}/{prefix}{outcome.result.checkpoint.manifest}")
    for stage in world.plan.stages:
        if stage.decision:
            yield ("decision", f"{store}/{result_key(world.namespace, stage.decision)}")
    if report := _report(world, store):
        yield ("report", report)
    yield ("store", store)
    yield ("logs", str(logs))
