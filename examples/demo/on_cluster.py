"""The demo on a local cluster: real text, a tiny base, and the whole recipe.

It does nothing that you could not do by hand: texts into the store, `kubectl apply` of base.yaml and experiment.yaml,
then it watches, reads the decision documents, and prints them. Applied again it changes nothing and ends at once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from answer import Answer, Rung, show
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cpt_api.conditions import ConditionType
from cpt_api.experiment import CPTExperimentStatus
from cpt_api.layout import REPORT_PAGE, data_prefix, result_key
from cpt_api.result import HeldOutScore, Result
from cpt_api.trial import CPTTrialSpec, CPTTrialStatus, TrialType
from cpt_api.values import Digest
from cpt_local import s3
from cpt_local.cluster import Cluster
from cpt_local.errors import LocalError

HERE = Path(__file__).parent
NAMESPACE = "demo"
EXPERIMENT = "demo"
BASE_INPUTS = ("demo-inputs", "demo-speeches")
BASE_TRIAL = "demo-base"
SOURCES = "sources/demo"
TITLE = "cpt.dev/title"
POLL_SECONDS = 2.0
PATIENCE_SECONDS = 1800.0
"""Without any progress; then something is wrong that the conditions do not tell."""


class DemoError(RuntimeError):
    """The demo cannot go on; the message says why and what to look at."""


@dataclass(frozen=True, slots=True)
class Object:
    """A CPTTrial or CPTExperiment as the API server has it."""

    name: str
    annotations: Mapping[str, str]
    spec: Mapping[str, Any]
    status: Mapping[str, Any]

    def condition(self, type_: ConditionType) -> tuple[str, str]:
        """Status, and reason with message, of a condition; ("", "") when it is not there."""
        for condition in self.status.get("conditions", ()):
            if condition["type"] == type_:
                return condition["status"], f"{condition['reason']}: {condition['message']}"
        return "", ""

    @property
    def succeeded(self) -> bool:
        """Whether it has ended well; DemoError when it never will."""
        status, text = self.condition(ConditionType.SUCCEEDED)
        stalled, why = self.condition(ConditionType.STALLED)
        if status == "False" or stalled == "True":
            raise DemoError(f"{self.name} does not go on: {why or text}")
        return status == "True"


@dataclass(frozen=True, slots=True)
class Kubectl:
    """The demo's hands: what you would type."""

    cluster: Cluster

    def apply(self, file: Path) -> None:
        """Make the cluster hold what the file says; the same file again changes nothing."""
        self.cluster.kubectl("--namespace", NAMESPACE, "apply", "--filename", str(file))

    def get(self, kind: str) -> list[Object]:
        """All objects of a kind."""
        items = json.loads(self.cluster.kubectl("--namespace", NAMESPACE, "get", kind, "--output=json"))["items"]
        return [_object(item) for item in items]


def _object(item: Mapping[str, Any]) -> Object:
    meta = item["metadata"]
    return Object(meta["name"], meta.get("annotations", {}), item["spec"], item.get("status", {}))


def run(name: str, texts: Path, report: Path) -> int:
    """The whole demo on the cluster of that name: its answer is printed, its report put into that folder; exit code."""
    console = Console(stderr=True)
    try:
        _run(Cluster.find(name), texts, report, console)
    except (DemoError, LocalError) as error:
        console.print(f"[red]demo: {error}")
        console.print(f"    kubectl -n {NAMESPACE} describe cptx,cptt        tells more; the cluster is left up")
        return 1
    return 0


def _run(cluster: Cluster, texts: Path, report: Path, console: Console) -> None:
    kubectl = Kubectl(cluster)
    put_texts(cluster, texts)
    with progress_bars(console) as bars:
        # both at once, as from Git: the experiment looks at its texts while the base is trained
        kubectl.apply(HERE / "base.yaml")
        kubectl.apply(HERE / "experiment.yaml")
        watch_base(kubectl, bars)
        watch_experiment(kubectl, bars)
    answer = read_answer(cluster, kubectl)
    show(answer, Console())
    print(f"\nreport      {fetch_report(cluster, answer.status, report)}\nPrometheus  {cluster.prometheus_url}")
    print(f"\nThe cluster is still up. Try next:\n\n    export KUBECONFIG={cluster.kubeconfig}")
    print(f"    kubectl -n {NAMESPACE} get cptx,cptt\n    kubectl -n {NAMESPACE} describe cptx {EXPERIMENT}")
    print("    make cluster-down                 removes everything")


# --- texts ------------------------------------------------------------------------------------------------------------


def put_texts(cluster: Cluster, folder: Path) -> None:
    """Upload what the store does not have in that size already."""
    store = s3.client(cluster)
    have = store.list_objects_v2(Bucket=s3.BUCKET, Prefix=f"{SOURCES}/").get("Contents", [])
    sizes = {item["Key"]: item["Size"] for item in have}
    for path in sorted(path for path in folder.rglob("*.json*") if path.is_file()):
        key = f"{SOURCES}/{path.relative_to(folder)}"
        if sizes.get(key) != path.stat().st_size:
            store.upload_file(str(path), s3.BUCKET, key)


# --- watching ---------------------------------------------------------------------------------------------------------


def progress_bars(console: Console) -> Progress:
    """One line a part; plain lines where nobody looks at a terminal."""
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console)


def watch_base(kubectl: Kubectl, bars: Progress) -> None:
    """Until the base is trained."""
    bar = bars.add_task("base", total=100, text="")

    def look() -> tuple[bool, Any]:
        trials = {trial.name: trial for trial in kubectl.get("cptt")}
        done = [trials[name].succeeded for name in (*BASE_INPUTS, BASE_TRIAL)]
        base = trials[BASE_TRIAL]
        status = CPTTrialStatus.model_validate(base.status)
        text = base.condition(ConditionType.SUCCEEDED)[1].partition(":")[0]
        bars.update(bar, completed=status.progress or 0, text=text)
        return base.succeeded and all(done), (status.progress, text)

    until(look)
    bars.update(bar, completed=100)


def watch_experiment(kubectl: Kubectl, bars: Progress) -> None:
    """Until every stage is decided."""
    bar = bars.add_task("experiment", total=100, text="")

    def look() -> tuple[bool, Any]:
        (experiment,) = (item for item in kubectl.get("cptx") if item.name == EXPERIMENT)
        status = CPTExperimentStatus.model_validate(experiment.status)
        text = f"{status.stage or 'waiting'}, trials {status.trials_summary or '0/?'}"
        bars.update(bar, completed=status.progress or 0, text=text)
        return experiment.succeeded, status.trials

    until(look)
    bars.update(bar, completed=100)


def until(look: Callable[[], tuple[bool, Any]]) -> None:
    """Look again and again until it is done; DemoError when nothing changes for a very long time."""
    seen: Any = None
    since = time.monotonic()
    while True:
        done, state = look()
        if done:
            return
        if state != seen:
            seen, since = state, time.monotonic()
        if time.monotonic() - since > PATIENCE_SECONDS:
            raise DemoError(f"nothing has changed for {PATIENCE_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)


# --- the answer -------------------------------------------------------------------------------------------------------


def read_answer(cluster: Cluster, kubectl: Kubectl) -> Answer:
    """From the status and the decision documents in the store."""
    store = s3.client(cluster)
    (experiment,) = (item for item in kubectl.get("cptx") if item.name == EXPERIMENT)
    trials = [trial for trial in kubectl.get("cptt") if TITLE in trial.annotations]

    def result(trial: Object) -> Result:
        key = result_key(NAMESPACE, Digest.parse(trial.status["digest"]))
        return Result.model_validate_json(store.get_object(Bucket=s3.BUCKET, Key=key)["Body"].read())

    def of_type(type_: TrialType) -> list[Object]:
        return [trial for trial in trials if trial.spec["type"] == type_]

    prepared = {Digest.parse(t.status["digest"]): t.annotations[TITLE] for t in of_type(TrialType.PREPARE)}
    (baseline,) = (trial for trial in of_type(TrialType.EVALUATE) if trial.annotations[TITLE] == "base")
    rungs = []
    for trial in of_type(TrialType.DECIDE):
        decide, decision = CPTTrialSpec.model_validate(trial.spec).decide, result(trial).decision
        assert decide is not None
        assert decision is not None
        if decide.rung_tokens is None:  # of another stage
            continue
        rungs.append(Rung(decide.rung_tokens, decision))
    datasets = {choice.dataset for rung in rungs for choice in rung.decision.rates}
    return Answer(
        status=CPTExperimentStatus.model_validate(experiment.status),
        rungs=sorted(rungs, key=lambda rung: rung.tokens),
        names={digest: prepared.get(digest, "the mix") for digest in datasets},
        base=_base_scores(result(baseline).held_out, prepared, experiment.spec["evaluation"]),
    )


def fetch_report(cluster: Cluster, status: CPTExperimentStatus, folder: Path) -> str:
    """The page in that folder, with its figures and tables; or why there is none."""
    if status.report_uri is None:
        return next(stage.reason or stage.state for stage in status.stages if stage.name == "report")
    store, digest = s3.client(cluster), Digest.parse(status.report_uri.split("/")[-2])
    prefix = data_prefix(NAMESPACE, digest)
    body = store.get_object(Bucket=s3.BUCKET, Key=result_key(NAMESPACE, digest))["Body"].read()
    for output in Result.model_validate_json(body).outputs:
        path = folder / output.key
        path.parent.mkdir(parents=True, exist_ok=True)
        store.download_file(s3.BUCKET, prefix + output.key, str(path))
    return str(folder / REPORT_PAGE)


def _base_scores(
    scores: Sequence[HeldOutScore], names: Mapping[Digest, str], evaluation: Mapping[str, Any]
) -> dict[str, HeldOutScore]:
    wanted = {kind: evaluation[kind]["data"][0]["name"] for kind in ("target", "retention")}
    return {kind: score for kind, name in wanted.items() for score in scores if names.get(score.text) == name}
