"""Five minutes of a fleet as Prometheus would have scraped them, from the real exporters, without waiting for them.

One pod of the operator has finished the experiment `done` and refuses `wrong`. Another runs `sweep` with four trials on
8 GPUs each; rank 0 of each and NVIDIA's exporter are scraped too.

    scrapes()   →   'cpt_experiment_progress_ratio{namespace="team",experiment="done",job=…} 1.0 1767225600' …

as OpenMetrics with times, of which `promtool tsdb create-blocks-from openmetrics` makes a database.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, cast

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from cpt_api.result import CurvePoint, HeldOutScore
from cpt_operator.kinds import Kind
from cpt_operator.metrics import Metrics
from cpt_operator.recorder import Recorder
from cpt_trainer.checkpoint import Statistics
from cpt_trainer.telemetry import Collector, Step, Telemetry
from make import make_digest, make_experiment
from world import NAMESPACE, World, works

Labels = Mapping[str, str]

BEGIN = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
INTERVAL_SECONDS = 15
SCRAPES = 21
END = BEGIN + (SCRAPES - 1) * INTERVAL_SECONDS
_BUDGET = {"tokens": "1M", "gpuHours": "10"}
_JOB = "cpt-system/cpt-operator"


async def scrapes() -> str:
    """All of it."""
    done, sweep = World(kubelet=works), World(kubelet=_trains)
    done.add(Kind.EXPERIMENT, "done", make_experiment(budget=_BUDGET).to_dict())
    done.add(Kind.EXPERIMENT, "wrong", make_experiment(resources={"serviceAccountName": "root"}).to_dict())
    await done.settle(120)
    sweep.add(Kind.EXPERIMENT, "sweep", make_experiment(resources={"gpusPerNode": 8}, budget=_BUDGET).to_dict())
    await sweep.settle(30)
    first, second = _Operator(done, "cpt-operator-a"), _Operator(sweep, "cpt-operator-b")
    sources: list[_Operator | _Trial] = [first, second, *map(_Trial, second.of("cpt_trial_pod_info"))]
    lines: dict[str, list[str]] = {}  # by name: a family stands together
    for number in range(SCRAPES):
        time = BEGIN + number * INTERVAL_SECONDS
        await sweep.settle(INTERVAL_SECONDS)
        for source in sources:
            for name, labels, value in source.scrape(number):
                text = ",".join(f'{key}="{word}"' for key, word in labels.items() if word)
                lines.setdefault(name, []).append(f"{name}{{{text}}} {value} {time:.0f}")
    return "\n".join([*(line for name in sorted(lines) for line in lines[name]), "# EOF\n"])


def _trains(world: World, job: Any) -> None:
    """A kubelet under which training goes on for ever."""
    if job.labels["cpt.dev/type"] != "Train":
        works(world, job)
    elif not world.store.pods_of(job.uid):
        world.start_pods(job)


class _Operator:
    """A pod of the operator, whose `namespace` and `pod` give way to those of its series."""

    def __init__(self, world: World, pod: str) -> None:
        self._recorder = Recorder()
        self._recorder.leads("cpt-operator", is_leader=True)
        runtime = world.operators[0].runtime
        self._metrics = Metrics(runtime.store, runtime.queue, self._recorder, runtime.now)
        self._target = {"namespace": "cpt-system", "pod": pod, "instance": f"{pod}:8080", "job": _JOB}

    def scrape(self, number: int) -> Iterator[tuple[str, Labels, float]]:
        """After turns and requests of all sorts."""
        for kind in ("cptexperiments", "cpttrials"):
            self._recorder.reconciled(kind, 0.01, error=number % 5 == 0)
        self._recorder.waited(0.002)
        self._recorder.api_request("patch", "200", 0.02)
        self._recorder.s3_request("get", "404", 0.02)
        for name, labels, value in _samples(text_string_to_metric_families(self._metrics.text().decode())):
            yield name, {**self._target, **labels}, value

    def of(self, metric: str) -> list[Labels]:
        """Of its series."""
        return [labels for name, labels, _ in self.scrape(0) if name == metric]


class _Trial:
    """Rank 0 of a trial, and one of its GPUs."""

    def __init__(self, labels: Labels) -> None:
        self._labels = {"namespace": NAMESPACE, "pod": labels["pod"], "job": "cpt-system/cpt-operator-trials"}
        self._labels |= {"experiment": labels["experiment"], "trial": labels["trial"]}
        # neither trial nor store is asked for series
        self._telemetry = Telemetry(cast("Any", None), planned_tokens=10**6, micro_batch=4, mfu=0.4)
        self._telemetry.epochs = {make_digest("python"): 0.5}

    def scrape(self, number: int) -> Iterator[tuple[str, Labels, float]]:
        """Ten steps and a checkpoint later."""
        telemetry, step = self._telemetry, 10 * (number + 1)
        telemetry.note(Step(step, step * 512, 2.0, 1e-3, 0.9, {make_digest("python"): 2.1}, 1e12, 1.0, 0.01), 512)
        telemetry.note_committed(Statistics(committed_step=step - 5, block_seconds=0.1, flush_seconds=2, bytes=10**6))
        telemetry.held_out = (
            HeldOutScore(
                text=make_digest("linux"), bits_per_byte=1.5, standard_error=0.1, documents=2, bytes=10, table="t"
            ),
        )
        telemetry.suites = (CurvePoint(suite="mmlu", value=0.5, standard_error=0.1),)
        for name, labels, value in _samples(Collector(telemetry).collect()):
            yield name, {**self._labels, **labels}, value
        for name, value in {"GPU_UTIL": 90.0, "FB_USED": 4e4, "POWER_USAGE": 300.0}.items():
            yield f"DCGM_FI_DEV_{name}", self._gpu(), value

    def _gpu(self) -> Labels:
        """As NVIDIA's exporter names the pod; in half of all clusters Prometheus keeps its own pod's name there."""
        namespace, pod = self._labels["namespace"], self._labels["pod"]
        if sum(pod.encode()) % 2:
            return {"gpu": "0", "namespace": namespace, "pod": pod}
        return {"gpu": "0", "namespace": "gpu", "pod": "dcgm", "exported_namespace": namespace, "exported_pod": pod}


def _samples(families: Iterable[Metric]) -> Iterator[tuple[str, Labels, float]]:
    for family in families:
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value
