"""The commands themselves: status, logs, retry, cancel, suspend, resume, wait."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from cpt_api.layout import data_prefix
from cpt_api.values import Digest
from cpt_operator.kinds import TRIAL_LABEL
from cpt_trainer.errors import TrainerExit
from cpt_trainer.store import Address, open_address
from kubectl_cpt import render
from kubectl_cpt.cluster import objects, view, watching
from kubectl_cpt.cluster.kubectl import EXPERIMENTS, TRIALS, Kubectl, MissingError, Object
from kubectl_cpt.cluster.objects import Trial
from kubectl_cpt.errors import CliError

_STORE_SECONDS = 30.0


# --- status -----------------------------------------------------------------------------------------------------------


def status(kubectl: Kubectl, name: str, output: str) -> None:
    """Once, to standard output."""
    if output in ("json", "yaml"):
        document = objects.document(kubectl, name)
        sys.stdout.write(render.as_json(document) if output == "json" else render.as_yaml(document))
        return
    experiment = objects.experiment(kubectl, name)
    if output == "name":
        sys.stdout.write(f"cptexperiment.cpt.dev/{name}\n")
        return
    sys.stdout.write(view.screen(experiment, objects.trials_of(kubectl, name), wide=output == "wide"))


def follow(kubectl: Kubectl, name: str, *, wide: bool) -> None:
    """Draw it anew at every change, until it has ended; lines where nobody looks at a terminal."""
    objects.experiment(kubectl, name)  # the error of a wrong name, before anything is drawn
    console = Console()
    shown = ""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for experiment, trials in watching.states(kubectl, name):
            if console.is_terminal:
                live.update(Text(view.screen(experiment, trials, wide=wide)), refresh=True)
            elif (text := view.line(experiment)) != shown:
                shown = text
                sys.stdout.write(f"{text}\n")
                sys.stdout.flush()
            if experiment.succeeded or experiment.failed:
                break
    sys.stdout.write(view.screen(experiment, trials, wide=wide))


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
        failed = [trial for trial in objects.trials_of(kubectl, reference) if trial.lost]
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
    _stored_logs(found, Digest.parse(digest), store, environment)


def _stored_logs(trial: Trial, digest: Digest, uri: str, environment: Mapping[str, str]) -> None:
    prefix = f"{data_prefix(trial.body['metadata']['namespace'], digest)}logs/"
    path_style = environment.get("CPT_STORE_PATH_STYLE", "true") != "false"
    store = open_address(Address(uri, environment.get("AWS_ENDPOINT_URL_S3"), path_style), _STORE_SECONDS)
    try:
        keys = [entry.key for entry in store.list(prefix)]
        for key in keys:
            sys.stdout.write(f"--- {key.removeprefix(prefix)}\n{store.get(key).decode(errors='replace')}\n")
    except TrainerExit as error:
        raise CliError(f"the store: {error}") from error
    if not keys:
        raise CliError(
            f"nothing below {uri}/{prefix}: no attempt of {trial.name} has ended yet, or it is another store"
        )
