"""What Prometheus sees of experiments and trials, computed from the store at scrape time.

Nothing is counted up on the way, so a deleted object leaves no stale series, a restart starts no counter anew, and two
replicas say the same:

    cpt_experiment_progress_ratio{namespace="team",experiment="sweep"} 0.41
    cpt_trial_phase{namespace="team",experiment="sweep",trial="sweep-train-0123456789",phase="Running"} 1.0

An experiment has some 20 series for as long as it exists. Trials have theirs (at most 10, and one per pod) while they
have an attempt; of more than 500 at once the others are dropped, and `cpt_trial_series_dropped` says how many.
Price of a scrape with 500 running trials on two pods each (4,500 series): 30 to 60 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prometheus_client import ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cpt_api.values import Tokens
from cpt_operator.children import STAGE_ANNOTATION, TITLE_ANNOTATION
from cpt_operator.queue import Queue
from cpt_operator.recorder import QUEUE, Recorder
from cpt_operator.records import ExperimentRecord, TrialRecord
from cpt_operator.spending import open_attempt
from cpt_operator.standing import reason_of
from cpt_operator.store import Store

TRIALS_MAX = 500
"""Trials with series of their own."""
_TITLE_MAX = 96
"""A label of a hand-written trial is the user's: it must not fill Prometheus."""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: name, help, labels."""

    name: str
    text: str
    labels: tuple[str, ...]
    counts: bool = False
    """Only ever grows, and its name ends with _total."""


_EXPERIMENT = ("namespace", "experiment")
_TRIAL = ("namespace", "experiment", "trial")

EXPERIMENT_INFO = Family("cpt_experiment_info", "1; who it is.", (*_EXPERIMENT, "uid", "model", "target_suite"))
EXPERIMENT_CONDITION = Family(
    "cpt_experiment_condition", "1 for the present status of each condition.", (*_EXPERIMENT, "type", "status")
)
EXPERIMENT_STAGE = Family("cpt_experiment_stage", "1 for the stage of the recipe it is at.", (*_EXPERIMENT, "stage"))
EXPERIMENT_PROGRESS = Family("cpt_experiment_progress_ratio", "Part of the planned tokens.", _EXPERIMENT)
EXPERIMENT_TRIALS = Family(
    "cpt_experiment_trials",
    "Trials by phase: running, queued, succeeded, failed; reused ones are among the succeeded.",
    (*_EXPERIMENT, "phase"),
)
EXPERIMENT_TOKENS = Family("cpt_experiment_tokens_total", "Trained by its trials.", _EXPERIMENT, counts=True)
EXPERIMENT_REUSED = Family(
    "cpt_experiment_tokens_reused_total", "Trained before, by equal trials.", _EXPERIMENT, counts=True
)
EXPERIMENT_NAIVE = Family(
    "cpt_experiment_tokens_naive_total", "What separate runs would have trained.", _EXPERIMENT, counts=True
)
EXPERIMENT_GPU_SECONDS = Family(
    "cpt_experiment_gpu_seconds_total", "Pod time x GPUs of attempts that ended.", _EXPERIMENT, counts=True
)
EXPERIMENT_BUDGET = Family("cpt_experiment_budget_tokens", "spec.budget.tokens; absent without.", _EXPERIMENT)
EXPERIMENT_BUDGET_GPU_SECONDS = Family(
    "cpt_experiment_budget_gpu_seconds", "spec.budget.gpuHours in seconds; absent without.", _EXPERIMENT
)
EXPERIMENT_SCORE = Family(
    "cpt_experiment_score", "Of the best arm, in the suite's unit.", (*_EXPERIMENT, "suite", "role")
)
TRIAL_INFO = Family(
    "cpt_trial_info", "1; what it does.", (*_TRIAL, "type", "stage", "title", "learning_rate", "digest")
)
TRIAL_PHASE = Family("cpt_trial_phase", "1; the reason that column STATUS shows.", (*_TRIAL, "phase"))
TRIAL_PROGRESS = Family("cpt_trial_progress_ratio", "Part of its tokens.", _TRIAL)
TRIAL_TOKENS = Family("cpt_trial_tokens_total", "Trained by it.", _TRIAL, counts=True)
TRIAL_GPU_SECONDS = Family(
    "cpt_trial_gpu_seconds_total", "Pod time x GPUs, the open attempt's included.", _TRIAL, counts=True
)
TRIAL_ATTEMPTS = Family("cpt_trial_attempts_total", "Attempts ever made.", _TRIAL, counts=True)
TRIAL_POD_INFO = Family(
    "cpt_trial_pod_info", "1; joins metrics of pods and GPUs with trials.", (*_TRIAL, "pod", "node")
)
TRIALS_DROPPED = Family("cpt_trial_series_dropped", f"Running trials beyond {TRIALS_MAX}, without series.", ())
STORE_OBJECTS = Family("cpt_store_objects", "Watched objects by kind.", ("kind",))
STORE_DRIFT = Family(
    "cpt_store_drift_total",
    "What the periodic LIST found wrong: ghosts (an end never seen) and misses (a version never seen).",
    ("sort",),
    counts=True,
)
QUEUE_DEPTH = Family("workqueue_depth", "Keys that wait for a worker.", ("name",))
QUEUE_DELAYED = Family("workqueue_delayed", "Keys whose time has not come.", ("name",))
QUEUE_ADDS = Family("workqueue_adds_total", "Turns that were asked for.", ("name",), counts=True)
QUEUE_RETRIES = Family("workqueue_retries_total", "Turns that failed.", ("name",), counts=True)
QUEUE_UNFINISHED = Family("workqueue_unfinished_work_seconds", "Sum over keys in work.", ("name",))
QUEUE_LONGEST = Family("workqueue_longest_running_processor_seconds", "Of the keys in work.", ("name",))
WORKERS = Family("controller_runtime_active_workers", "Keys in work.", ("controller",))

FAMILIES = (
    EXPERIMENT_INFO,
    EXPERIMENT_CONDITION,
    EXPERIMENT_STAGE,
    EXPERIMENT_PROGRESS,
    EXPERIMENT_TRIALS,
    EXPERIMENT_TOKENS,
    EXPERIMENT_REUSED,
    EXPERIMENT_NAIVE,
    EXPERIMENT_GPU_SECONDS,
    EXPERIMENT_BUDGET,
    EXPERIMENT_BUDGET_GPU_SECONDS,
    EXPERIMENT_SCORE,
    TRIAL_INFO,
    TRIAL_PHASE,
    TRIAL_PROGRESS,
    TRIAL_TOKENS,
    TRIAL_GPU_SECONDS,
    TRIAL_ATTEMPTS,
    TRIAL_POD_INFO,
    TRIALS_DROPPED,
    STORE_OBJECTS,
    STORE_DRIFT,
    QUEUE_DEPTH,
    QUEUE_DELAYED,
    QUEUE_ADDS,
    QUEUE_RETRIES,
    QUEUE_UNFINISHED,
    QUEUE_LONGEST,
    WORKERS,
)
"""In the order of a scrape."""


class Metrics(Collector):
    """A Prometheus collector over the store. `text()` is what `/metrics` answers."""

    def __init__(self, store: Store, queue: Queue, recorder: Recorder, now: Callable[[], datetime]) -> None:
        self._store = store
        self._queue = queue
        self._recorder = recorder
        self._now = now
        self._process = ProcessCollector(registry=None)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self)  # it asks for nothing but collect()

    def collect(self) -> Iterator[Metric]:
        """Every family, those without a series too."""
        scrape = _Scrape()
        for experiment in self._store.experiments():
            _experiment(scrape, experiment)
        self._trials(scrape)
        self._health(scrape)
        yield from scrape.families.values()
        yield from self._recorder.collect()
        yield from self._process.collect()

    def _trials(self, scrape: _Scrape) -> None:
        running = [trial for trial in self._store.trials() if trial.standing.is_at_work]
        running.sort(key=lambda trial: (trial.created, trial.name))  # who has series keeps them
        for trial in running[:TRIALS_MAX]:
            labels = (trial.namespace, trial.owner_name or "", trial.name)
            _trial(scrape, trial, labels)
            scrape.add(TRIAL_GPU_SECONDS, labels, self._gpu_seconds(trial))
            for job in self._store.jobs_of(trial.uid):
                for pod in self._store.pods_of(job.uid):
                    scrape.add(TRIAL_POD_INFO, (*labels, pod.name, pod.node or ""), 1)
        scrape.add(TRIALS_DROPPED, (), max(0, len(running) - TRIALS_MAX))

    def _gpu_seconds(self, trial: TrialRecord) -> float:
        ended: float = (trial.status.get("attempts") or {}).get("gpuSeconds") or 0
        return ended + open_attempt(trial, self._store, self._now()).gpu_seconds

    def _health(self, scrape: _Scrape) -> None:
        store, queue = self._store.statistics(), self._queue.statistics()
        for kind, count in store.objects.items():
            scrape.add(STORE_OBJECTS, (kind.plural,), count)
        scrape.add(STORE_DRIFT, ("ghosts",), store.ghosts)
        scrape.add(STORE_DRIFT, ("misses",), store.misses)
        scrape.add(QUEUE_DEPTH, (QUEUE,), queue.depth)
        scrape.add(QUEUE_DELAYED, (QUEUE,), queue.delayed)
        scrape.add(QUEUE_ADDS, (QUEUE,), queue.adds)
        scrape.add(QUEUE_RETRIES, (QUEUE,), queue.retries)
        scrape.add(QUEUE_UNFINISHED, (QUEUE,), queue.unfinished_seconds)
        scrape.add(QUEUE_LONGEST, (QUEUE,), queue.longest_running_seconds)
        scrape.add(WORKERS, (QUEUE,), queue.busy)


class _Scrape:
    """Samples of one scrape by family."""

    def __init__(self) -> None:
        self.families = {
            family.name: (CounterMetricFamily if family.counts else GaugeMetricFamily)(
                family.name, family.text, labels=family.labels
            )
            for family in FAMILIES
        }

    def add(self, family: Family, labels: tuple[str, ...], value: float) -> None:
        self.families[family.name].add_metric(labels, value)


def _experiment(scrape: _Scrape, record: ExperimentRecord) -> None:
    labels, spec, status = (record.namespace, record.name), record.spec, record.status
    model, target = spec.get("model") or {}, (spec.get("evaluation") or {}).get("target") or {}
    base = str(model.get("uri") or model.get("trialName") or "")
    scrape.add(EXPERIMENT_INFO, (*labels, record.uid, base, str(target.get("suite") or "")), 1)
    for condition in status.get("conditions") or ():
        scrape.add(EXPERIMENT_CONDITION, (*labels, condition["type"], condition["status"]), 1)
    if stage := status.get("stage"):
        scrape.add(EXPERIMENT_STAGE, (*labels, stage), 1)
    scrape.add(EXPERIMENT_PROGRESS, labels, (status.get("progress") or 0) / 100)
    trials = status.get("trials") or {}
    for phase in ("running", "queued", "succeeded", "failed"):
        scrape.add(EXPERIMENT_TRIALS, (*labels, phase), trials.get(phase) or 0)
    _ledger(scrape, labels, status.get("ledger") or {})
    budget = spec.get("budget") or {}
    if tokens := budget.get("tokens"):
        scrape.add(EXPERIMENT_BUDGET, labels, Tokens.parse(tokens))
    if hours := budget.get("gpuHours"):
        scrape.add(EXPERIMENT_BUDGET_GPU_SECONDS, labels, 3600 * float(hours))
    _scores(scrape, labels, spec.get("evaluation") or {}, status.get("best") or {})


def _ledger(scrape: _Scrape, labels: tuple[str, ...], ledger: Mapping[str, Any]) -> None:
    scrape.add(EXPERIMENT_TOKENS, labels, Tokens.parse(ledger.get("tokensTrained", "0")))
    scrape.add(EXPERIMENT_REUSED, labels, Tokens.parse(ledger.get("tokensReused", "0")))
    scrape.add(EXPERIMENT_NAIVE, labels, Tokens.parse(ledger.get("tokensNaive", "0")))
    scrape.add(EXPERIMENT_GPU_SECONDS, labels, ledger.get("gpuSeconds") or 0)


def _scores(scrape: _Scrape, labels: tuple[str, ...], evaluation: Mapping[str, Any], best: Mapping[str, Any]) -> None:
    for role in ("target", "retention"):
        if score := best.get(role):
            suite = (evaluation.get(role) or {}).get("suite") or ""
            scrape.add(EXPERIMENT_SCORE, (*labels, str(suite), role), float(score))


def _trial(scrape: _Scrape, record: TrialRecord, labels: tuple[str, ...]) -> None:
    spec, status = record.spec, record.status
    rate = ((spec.get("train") or {}).get("schedule") or {}).get("peakLearningRate") or ""
    stage = record.annotations.get(STAGE_ANNOTATION, "")[:_TITLE_MAX]
    title = record.annotations.get(TITLE_ANNOTATION, "")[:_TITLE_MAX]
    what = (str(spec.get("type")), stage, title, str(rate), (record.digest or "")[:12])
    scrape.add(TRIAL_INFO, (*labels, *what), 1)
    scrape.add(TRIAL_PHASE, (*labels, reason_of(status)), 1)
    scrape.add(TRIAL_PROGRESS, labels, (status.get("progress") or 0) / 100)
    scrape.add(TRIAL_TOKENS, labels, Tokens.parse(status.get("tokens") or "0"))
    scrape.add(TRIAL_ATTEMPTS, labels, status["attempts"].get("total") or 0)
