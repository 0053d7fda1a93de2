"""The commands themselves: status, logs, report, retry, cancel, suspend, resume, wait."""

from __future__ import annotations

import json
import sys
import webbrowser
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from cpt_api.values import Digest
from cpt_operator.kinds import TRIAL_LABEL
from cpt_operator.plan.report import STAGE as REPORT
from kubectl_cpt import render
from kubectl_cpt.cluster import objects, view, watching
from kubectl_cpt.cluster.kubectl import EXPERIMENTS, TRIALS, Kubectl, MissingError, Object
from kubectl_cpt.cluster.objects import Experiment, Trial
from kubectl_cpt.cluster.stored import fetch_report, print_logs
from kubectl_cpt.errors import CliError

# --- status -----------------------------------------------------------------------------------------------------------


def status(kubectl: Kubectl, name: str, output: str, per_gpu_hour: float | None) -> None:
    """Once, to standard output."""
    if output in render.FOR_PROGRAMS:
        sys.stdout.write(render.for_programs(objects.document(kubectl, name), output))
        return
    experiment = objects.experiment(kubectl, name)
    if output == "name":
        sys.stdout.write(f"cptexperiment.cpt.dev/{name}\n")
        return
    trials = objects.trials_of(kubectl, name)
    sys.stdout.write(view.screen(experiment, trials, wide=output == "wide", per_gpu_hour=per_gpu_hour))


def follow(kubectl: Kubectl, name: str, *, wide: bool, per_gpu_hour: float | None) -> None:
    """Draw it anew at every change, until it has ended; lines where nobody looks at a terminal."""
    objects.experiment(kubectl, name)  # the error of a wrong name, before anything is drawn
    drawn = partial(view.screen, wide=wide, per_gpu_hour=per_gpu_hour)
    console = Console()
    shown = ""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for experiment, trials in watching.states(kubectl, name):
            if console.is_terminal:
                live.update(Text(drawn(experiment, trials)), refresh=True)
            elif (text := view.line(experiment)) != shown:
                shown = text
                sys.stdout.write(f"{text}\n")
                sys.stdout.flush()
            if experiment.succeeded or experiment.failed:
                break
    sys.stdout.write(drawn(experiment, trials))


# --- wait -------------------------------------------------------------------------------------------------------------


def wait(kubectl: Kubectl, name: str, timeout_seconds: float | None) -> None:
    """Until it has succeeded. CliError when it never will, or when somebody must act first."""
    objects.experiment(kubectl, name)
    shown = ""
    for experiment in watching.experiments(kubectl, name, timeout_seconds):
        text = view.line(experiment)
        if text != shown:
            shown = text
            sys.stderr.write(f"{text}\n")
        if experiment.succeeded:
            sys.stdout.write(f"cptexperiment.cpt.dev/{name} succeeded\n")
            return
        if experiment.failed or experiment.stalled:
            condition = experiment.condition
            raise CliError(f"{name}: {condition.get('reason')}: {condition.get('message')}")


# --- changing things --------------------------------------------------------------------------------------------------


def suspend(kubectl: Kubectl, name: str, *, stop: bool) -> None:
    """Pause an experiment, or a trial written by hand; or let it go on."""
    value = True if stop else None
    word = "suspended" if stop else "resumed"
    try:
        kubectl.patch(EXPERIMENTS, name, {"spec": {"suspend": value}})
        sys.stdout.write(f"cptexperiment.cpt.dev/{name} {word}\n")
        return
    except MissingError as error:
        try:
            found = objects.trial(kubectl, name)
        except MissingError:
            raise MissingError(f"there is neither a CPTExperiment nor a CPTTrial {name!r} in this namespace") from error
    if found.experiment:
        raise CliError(
            f"trial {found.name} belongs to experiment {found.experiment}, which decides that: "
            f"`kubectl cpt suspend {found.experiment}`"
        )
    kubectl.patch(TRIALS, name, {"spec": {"run": {"suspend": value}}})
    sys.stdout.write(f"cpttrial.cpt.dev/{name} {word}\n")


def cancel(kubectl: Kubectl, reference: str) -> None:
    """End one trial for good; its experiment goes on without it."""
    found = _trial_not_experiment(kubectl, reference, "pause it with `kubectl cpt suspend`, or delete it")
    if found.ended:
        raise CliError(f"trial {found.name} has ended already ({found.state}): there is nothing to cancel")
    kubectl.patch(TRIALS, found.name, {"spec": {"run": {"cancel": True}}})
    sys.stdout.write(f"cpttrial.cpt.dev/{found.name} cancelled\n")


def retry(kubectl: Kubectl, reference: str) -> None:
    """Make failed trials anew: one, or all of an experiment."""
    if "/" not in reference:
        try:
            objects.experiment(kubectl, reference)
        except MissingError:
            _retry(kubectl, objects.trial(kubectl, reference))
            return
        failed = [trial for trial in objects.trials_of(kubectl, reference) if trial.lost or trial.given_up]
        if not failed:
            raise CliError(f"no trial of {reference} has failed: there is nothing to retry")
        for trial in failed:
            _retry(kubectl, trial)
        return
    _retry(kubectl, objects.trial(kubectl, reference))


def _retry(kubectl: Kubectl, trial: Trial) -> None:
    if not trial.failed:
        raise CliError(f"trial {trial.name} has not failed ({trial.state}): there is nothing to retry")
    kubectl("delete", TRIALS, trial.name, "--wait=true")
    if trial.experiment is None:  # nobody but us would make it anew
        kubectl("create", "--filename=-", text=json.dumps(_as_written(trial.body)))
    sys.stdout.write(f"cpttrial.cpt.dev/{trial.name} will be made anew\n")


def _as_written(body: Object) -> Mapping[str, Any]:
    kept = ("name", "namespace", "labels", "annotations")
    metadata = {key: value for key, value in body["metadata"].items() if key in kept}
    run = {key: value for key, value in (body["spec"].get("run") or {}).items() if key != "cancel"}
    spec = {key: value for key, value in body["spec"].items() if key != "run"} | ({"run": run} if run else {})
    return {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata, "spec": spec}


def _trial_not_experiment(kubectl: Kubectl, reference: str, instead: str) -> Trial:
    try:
        return objects.trial(kubectl, reference)
    except MissingError:
        objects.experiment(kubectl, reference)
        raise CliError(
            f"{reference} is an experiment: name one of its trials as {reference}/TRIAL, or {instead}"
        ) from None


# --- logs -------------------------------------------------------------------------------------------------------------


def logs(kubectl: Kubectl, reference: str, *, follow: bool, store: str | None, environment: Mapping[str, str]) -> None:
    """Of the pods while they are there; else the last 64 KiB of every rank, from the store."""
    found = _trial_not_experiment(kubectl, reference, "see `kubectl cpt status`")
    if kubectl.list("pods", f"{TRIAL_LABEL}={found.name}"):
        flags = ["--follow", "--max-log-requests=64"] if follow else ["--tail=-1"]
        code = kubectl.follow("logs", f"--selector={TRIAL_LABEL}={found.name}", "--prefix", "--ignore-errors", *flags)
        if code:
            raise CliError("kubectl logs failed, see above")
        return
    digest = found.status.get("digest")
    if not digest:
        raise CliError(f"trial {found.name} has neither pods nor a digest yet ({found.state}): {found.message}")
    if store is None:
        raise CliError(
            f"the pods of {found.name} are gone: name the store with --store s3://BUCKET (AWS_* in the environment), "
            "their last output lies there"
        )
    print_logs(store, str(found.body["metadata"]["namespace"]), found.name, Digest.parse(digest), environment)


# --- the report -------------------------------------------------------------------------------------------------------


def report(kubectl: Kubectl, name: str, *, to: Path | None, opens: bool, environment: Mapping[str, str]) -> None:
    """Where the page lies; with `to`, fetch it there."""
    experiment = objects.experiment(kubectl, name)
    uri = experiment.status.get("reportUri")
    if not uri:
        raise CliError(_no_report(experiment))
    if to is None and not opens:
        sys.stdout.write(f"{uri}\n")
        sys.stderr.write("--to FOLDER fetches it with its figures and tables, --open shows it\n")
        return
    namespace = str(experiment.body["metadata"]["namespace"])
    page = fetch_report(str(uri), namespace, to or Path(f"{name}-report"), environment)
    sys.stdout.write(f"{page}\n")
    if opens and not webbrowser.open(page.absolute().as_uri()):
        raise CliError(f"no browser was found: open {page} yourself")


def _no_report(experiment: Experiment) -> str:
    name = experiment.name
    stages: Sequence[Object] = experiment.status.get("stages") or ()
    stage: Object = next((stage for stage in stages if stage["name"] == REPORT), {})
    if stage.get("state") == "Failed":
        return f"{stage.get('reason')}; `kubectl cpt retry {name}` makes it anew"
    return f"{name} has no report yet: it is made when everything is decided; `kubectl cpt wait {name}`"
