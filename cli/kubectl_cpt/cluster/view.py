"""An experiment on one screen: where it is, what was decided, what its trials do, and what to do next. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cpt_api.experiment import CPTExperimentStatus
from cpt_api.values import Tokens
from cpt_operator.plan.subjects import MIX
from kubectl_cpt.cluster.objects import Experiment, Trial
from kubectl_cpt.numbers import amount, money, percent
from kubectl_cpt.render import columns, datasets, mix, models

_BAR_CELLS = 20
_TRIALS_SHOWN = 20
_OPERATOR = "app.kubernetes.io/name=cpt-operator"


def screen(
    experiment: Experiment, trials: Sequence[Trial], *, wide: bool = False, per_gpu_hour: float | None = None
) -> str:
    """All of it. `wide` shows every trial, else those that are at work or in trouble."""
    status = CPTExperimentStatus.model_validate(experiment.status)
    parts = [
        list(_head(experiment, status)),
        list(_stages(status)),
        list(_datasets(status)),
        models(status.scaling),
        list(_trials(trials, wide=wide)),
        list(_bill(experiment, status, per_gpu_hour)),
        [f"next: {text}" for text in advice(experiment, trials)],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def line(experiment: Experiment) -> str:
    """The shortest form, for logs."""
    status = CPTExperimentStatus.model_validate(experiment.status)
    condition = experiment.condition
    parts = [f"{experiment.name}: {condition.get('reason', 'not seen by the operator yet')}"]
    if status.trials.total:
        parts.append(f"{status.trials.succeeded + status.trials.failed} of {status.trials.total} trials")
    if status.progress is not None:
        parts.append(f"{status.progress} %")
    if status.eta:
        parts.append(f"ETA {status.eta}")
    return ", ".join(parts)


def bar(share: float, cells: int = _BAR_CELLS) -> str:
    """Such as `#######.............`, readable everywhere."""
    full = round(cells * min(1.0, max(0.0, share)))
    return "#" * full + "." * (cells - full)


def _head(experiment: Experiment, status: CPTExperimentStatus) -> Iterator[str]:
    yield line(experiment)
    message = experiment.condition.get("message")
    if message:
        yield str(message)
    if status.progress is not None:
        yield f"[{bar(status.progress / 100, 40)}] {status.progress} %"
    if experiment.is_seen and not experiment.is_current:
        yield "the manifest was changed; the operator has not looked at it yet"


def _stages(status: CPTExperimentStatus) -> Iterator[str]:
    if status.stages:
        rows = [("STAGE", "STATE", "DECISION", "REASON")]
        rows += [(s.name, s.state, s.decision.short if s.decision else "", s.reason or "") for s in status.stages]
        yield from columns(rows)


def _datasets(status: CPTExperimentStatus) -> Iterator[str]:
    if any(dataset.verdict for dataset in status.datasets):
        yield from datasets(status.datasets)
    yield from mix(status.mix)
    best = status.best
    if best:
        share = f"{best.soup_weight} of " if best.soup_weight else ""
        yield f"best so far: {share}{best.dataset or MIX} at {best.learning_rate}, target {best.target} ({best.trial})"
        if best.uri:
            yield f"written: {best.uri}"


def _trials(trials: Sequence[Trial], *, wide: bool) -> Iterator[str]:
    shown = [trial for trial in trials if wide or trial.at_work or trial.failed]
    rows: list[tuple[str, ...]] = [("TRIAL", "WHAT", "STATUS", "PROGRESS", "TOKENS", "ATTEMPTS")]
    rows += [_row(trial) for trial in (shown if wide else shown[:_TRIALS_SHOWN])]
    if len(rows) > 1:
        yield from columns(rows, right=(4, 5))
    hidden = len(trials) - len(rows) + 1
    if hidden:
        ended = sum(trial.ended for trial in trials)
        yield f"{hidden} more trials are not shown ({ended} have ended in all); `-o wide` lists them"


def _row(trial: Trial) -> tuple[str, ...]:
    percent_done = trial.status.get("progress")
    tokens = trial.status.get("tokens")
    attempts = (trial.status.get("attempts") or {}).get("total", 0)
    progress = f"{bar(percent_done / 100)} {percent_done} %" if percent_done is not None else ""
    return (
        trial.name,
        trial.title,
        trial.state,
        progress,
        amount(Tokens.parse(tokens)) if tokens else "",
        str(attempts),
    )


def _bill(experiment: Experiment, status: CPTExperimentStatus, per_gpu_hour: float | None) -> Iterator[str]:
    ledger = status.ledger
    budgets = experiment.body["spec"].get("budget") or {}
    budget, gpu_hours = budgets.get("tokens"), budgets.get("gpuHours")
    if not (ledger.tokens_trained or ledger.tokens_reused or budget or gpu_hours):
        return
    text = f"tokens: {amount(ledger.tokens_trained)} trained, {amount(ledger.tokens_reused)} reused"
    if ledger.tokens_naive:
        text += f", {amount(ledger.tokens_naive)} as separate runs"
    if budget:
        text += f", budget {budget} ({percent(ledger.tokens_trained, Tokens.parse(budget))} used)"
    text += f"; {ledger.gpu_seconds:,d} GPU-seconds"
    if gpu_hours:
        text += f", budget {gpu_hours} GPU-hours ({percent(ledger.gpu_seconds, 3600 * float(gpu_hours))} used)"
    if per_gpu_hour:
        text += f", {money(ledger.gpu_seconds / 3600 * per_gpu_hour)} at {money(per_gpu_hour)} per GPU-hour"
    yield text
    if ledger.flops:
        share = percent(float(ledger.evaluation_flops or 0), float(ledger.flops))
        yield f"operations: {ledger.flops} FLOPs, {share} of it by Evaluate trials"


def advice(experiment: Experiment, trials: Sequence[Trial]) -> Iterator[str]:
    """What a person would do next."""
    failed = sorted((trial for trial in trials if trial.failed), key=lambda trial: not trial.lost)
    name = experiment.name
    if not experiment.is_seen:
        yield f"does the operator run? `kubectl get deployments -A -l {_OPERATOR}`"
        return
    for trial in failed[:1]:
        yield f"`kubectl cpt logs {trial.name}`: {trial.message}"
        yield f"`kubectl cpt retry {name}` makes failed trials anew, when the cause is gone"
    if experiment.succeeded and experiment.status.get("reportUri"):
        yield f"`kubectl cpt report {name}`: a page with figures, tables and the bill"
    elif experiment.succeeded:
        yield f"`kubectl cpt status {name} -o yaml` holds everything that was decided"
    elif experiment.body["spec"].get("suspend"):
        yield f"`kubectl cpt resume {name}`"
    elif not experiment.stalled and not failed:
        yield f"`kubectl cpt wait {name}` returns when it has ended"
