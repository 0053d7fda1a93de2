"""What a run says about itself while it runs: three readers, one state.

    people, later    data/<ns>/<digest>/metrics/attempt-2.jsonl    a JSON line for each step, put with checkpoints,
                                                                   every 60 s and at the end: runs can be compared
    the operator     progress.json                                 every 15 s
    Prometheus       /metrics of rank 0                            cpt_train_*, computed from the state when scraped

    {"step": 12, "tokens": 53248, "loss": 4.9713, "learningRate": 0.0003, "gradientNorm": 0.91, "seconds": 0.42, …}

A store that does not answer holds up nothing here: both documents are written from a thread, and the next time will do.

Price: the file of an attempt is put whole each time, 200 bytes for each step so far. At most 34 series: of many
datasets and texts the first four have one each.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import structlog

from cpt_api.result import CurvePoint, HeldOutScore
from cpt_api.values import Digest, Tokens
from cpt_trainer.checkpoint import Statistics
from cpt_trainer.errors import TrainerExit
from cpt_trainer.trial import Trial, put_progress

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from prometheus_client.core import Metric

log = structlog.get_logger()

PROGRESS_SECONDS = 15.0
LINES_SECONDS = 60.0
_LOG_SECONDS = 10.0
_LABELLED = 4
"""Datasets, and texts, that have series of their own."""
_SPIKE_WINDOW = 128
_SPIKE_SIGMAS = 6.0


@dataclass(frozen=True, slots=True)
class Step:
    """One step, the same on all ranks but for its times."""

    step: int
    """Since token zero of the run."""
    tokens: int
    """Total, after it."""
    loss: float | None
    """Nats per valid token; None where it is not finite."""
    learning_rate: float
    gradient_norm: float | None
    """None: not finite, and the step was skipped."""
    datasets: Mapping[Digest, float]
    """Loss of each dataset that was in the batch."""
    flops: float
    """All ranks."""
    seconds: float
    data_seconds: float
    """Waited for data."""

    def line(self) -> str:
        """As it stands in the file."""
        values = {_camel(name): value for name, value in asdict(self).items()}
        values["datasets"] = {digest.short: loss for digest, loss in sorted(self.datasets.items())}
        return json.dumps(values, allow_nan=False)


@dataclass(slots=True, eq=False)
class Telemetry:
    """Of rank 0. Written by the loop, read by the thread and by scrapes."""

    trial: Trial
    planned_tokens: int
    micro_batch: int
    lines: list[str] = field(default_factory=list)
    """Of this attempt."""
    last: Step | None = None
    last_time: float = 0.0
    """When it ended."""
    committed: Statistics = field(default_factory=Statistics)
    """Of checkpoints."""
    committed_time: float | None = None
    """When a checkpoint was last seen to be committed."""
    mfu: float | None = None
    """None on devices whose peak is not known."""
    held_out: tuple[HeldOutScore, ...] = ()
    """The latest."""
    suites: tuple[CurvePoint, ...] = ()
    """The same of what is asked."""
    epochs: Mapping[Digest, float] = field(default_factory=dict)
    """Of each dataset, so far."""
    tokens: int = 0
    """Total."""
    flops: float = 0.0
    """Of this attempt."""
    data_seconds: float = 0.0
    skipped_steps: int = 0
    spikes: int = 0
    tokens_per_second: float = 0.0
    _losses: deque[float] = field(default_factory=lambda: deque(maxlen=_SPIKE_WINDOW))
    _said: float = -math.inf  # when the last step was logged
    _wake: threading.Event = field(default_factory=threading.Event)
    _written: threading.Event = field(default_factory=threading.Event)
    _closed: bool = False
    _server: tuple[WSGIServer, threading.Thread] | None = None

    def start(self) -> None:
        """Begin to write, and to serve where a port is given."""
        threading.Thread(target=self._run, name="telemetry", daemon=True).start()
        if self.trial.metrics_port is not None:
            self._server = serve(self, self.trial.metrics_port)

    def close(self) -> None:
        """Stop serving and writing; a write on its way is not waited for."""
        self._closed = True
        self._wake.set()
        if self._server is not None:
            server, thread = self._server
            server.shutdown()
            server.server_close()
            thread.join()

    def note(self, step: Step, batch_tokens: int) -> None:
        """Take note of a step."""
        self.last, self.last_time, self.tokens = step, time.time(), step.tokens
        self.flops += step.flops
        self.lines.append(step.line())
        self.data_seconds += step.data_seconds
        self.skipped_steps += step.gradient_norm is None
        self.tokens_per_second = batch_tokens / max(step.seconds, 1e-9)
        self._look_for_spike(step.loss)
        now = time.monotonic()
        if now - self._said >= _LOG_SECONDS:
            self._said = now
            log.info("step", **json.loads(step.line()), tokensPerSecond=round(self.tokens_per_second))

    def note_committed(self, statistics: Statistics) -> None:
        """Take note of checkpoints."""
        if statistics.committed_step != self.committed.committed_step:
            self.committed_time = time.time()
        self.committed = statistics

    def note_scores(self, step: int, scores: Sequence[HeldOutScore]) -> None:
        """Take note of held-out scores."""
        self.held_out = tuple(scores)
        values = {score.text.short: score.bits_per_byte for score in scores}
        self.lines.append(json.dumps({"step": step, "heldOut": values}))
        log.info("held_out", step=step, bits_per_byte=values)

    def note_suites(self, step: int, points: Sequence[CurvePoint]) -> None:
        """Take note of scores on suites."""
        self.suites = tuple(points)
        values = {point.suite: point.value for point in points}
        self.lines.append(json.dumps({"step": step, "suites": values}))
        log.info("asked", step=step, suites=values)

    def flush(self) -> None:
        """Put the lines of this attempt."""
        key = f"{self.trial.data}metrics/attempt-{self.trial.document.attempt}.jsonl"
        self.trial.store.put(key, "".join(f"{line}\n" for line in tuple(self.lines)).encode())

    def flush_soon(self) -> None:
        """From the thread."""
        self._wake.set()

    def flush_within(self, seconds: float) -> None:
        """From the thread, and wait for it no longer than that."""
        self._written.clear()
        self._wake.set()
        self._written.wait(seconds)

    def put_progress(self) -> None:
        """Overwrite progress.json."""
        done = self.committed
        put_progress(
            self.trial,
            tokens=self.tokens,
            planned_tokens=self.planned_tokens,
            step=self.last.step if self.last else done.committed_step or 0,
            committed_step=done.committed_step or 0,
            committed_tokens=Tokens(done.committed_tokens or 0),
            held_out=self.held_out,
            suites=self.suites,
            micro_batch=self.micro_batch,
        )

    def _look_for_spike(self, loss: float | None) -> None:
        """Six standard deviations above the mean of the last 128 (OLMo's definition)."""
        if loss is None:
            return
        seen = self._losses
        if len(seen) == _SPIKE_WINDOW:
            mean = math.fsum(seen) / _SPIKE_WINDOW
            deviation = math.sqrt(math.fsum((one - mean) ** 2 for one in seen) / _SPIKE_WINDOW)
            self.spikes += loss > mean + _SPIKE_SIGMAS * deviation
        seen.append(loss)

    def _run(self) -> None:
        put = time.monotonic()
        while True:
            asked = self._wake.wait(PROGRESS_SECONDS)
            self._wake.clear()
            if self._closed:
                return
            try:
                self.put_progress()
                if asked or time.monotonic() - put >= LINES_SECONDS:
                    self.flush()
                    put = time.monotonic()
                    self._written.set()
            except TrainerExit as error:
                log.warning("telemetry_not_written", error=str(error))


@dataclass(frozen=True, slots=True)
class Past:
    """What a line says about a step, whichever attempt made it."""

    loss: float | None
    flops: float
    skipped: bool


def earlier_steps(trial: Trial, until: int) -> dict[int, Past]:
    """Steps up to `until` that attempts before this one wrote; of a step that was made twice the later line counts.

    Lines of an attempt that was killed may be missing, up to a minute of them.
    """
    past: dict[int, Past] = {}
    entries = list(trial.store.list(f"{trial.data}metrics/attempt-"))
    for entry in sorted(entries, key=lambda entry: int(entry.key.rpartition("-")[2].removesuffix(".jsonl"))):
        for line in trial.store.get(entry.key).splitlines():
            values = json.loads(line)
            if "loss" in values and values["step"] <= until:
                past[values["step"]] = Past(values["loss"], values["flops"], values["gradientNorm"] is None)
    return past


# --- Prometheus -----------------------------------------------------------------------------------------------------

METRICS: Mapping[str, str] = {
    "cpt_train_step": "Optimizer steps since token zero of the run.",
    "cpt_train_tokens_total": "Tokens since token zero of the run.",
    "cpt_train_loss": "Nats per valid token of the last step.",
    "cpt_train_dataset_loss": "Nats per valid token of the last step, by dataset.",
    "cpt_train_dataset_epochs": "How often each dataset was read, by dataset.",
    "cpt_train_learning_rate": "Of the last step.",
    "cpt_train_gradient_norm": "Global norm of the last step, before clipping.",
    "cpt_train_tokens_per_second": "Of the last step, all ranks.",
    "cpt_train_mfu_full_attention_ratio": "Part of the devices' bf16 peak, full attention counted; known devices only.",
    "cpt_train_flops_total": "Floating-point operations of this attempt; causal, real document lengths.",
    "cpt_train_data_wait_seconds_total": "Time that steps of this attempt waited for data.",
    "cpt_train_skipped_steps_total": "Steps of this attempt with a gradient that was not finite.",
    "cpt_train_loss_spikes_total": "Losses six standard deviations above the mean of the 128 before.",
    "cpt_train_last_step_timestamp_seconds": "When the last step ended.",
    "cpt_train_checkpoint_committed_step": "The last step in a checkpoint.",
    "cpt_train_checkpoint_timestamp_seconds": "When a checkpoint was last seen to be committed.",
    "cpt_train_checkpoint_block_seconds": "How long the last save held up training.",
    "cpt_train_checkpoint_flush_seconds": "How long the last committed save took after that.",
    "cpt_train_checkpoint_bytes": "Size of the last committed save.",
    "cpt_train_checkpoint_failures_total": "Saves of this attempt that failed.",
    "cpt_train_held_out_bits_per_byte": "The latest score of a held-out text, by text.",
    "cpt_train_suite_score": "The latest score on a suite that is asked for curves, by suite.",
}


def serve(telemetry: Telemetry, port: int) -> tuple[WSGIServer, threading.Thread]:
    """Answer GET /metrics."""
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(Collector(telemetry))
    log.info("metrics_served", port=port)
    server, thread = start_http_server(port, registry=registry)
    return server, thread


@dataclass(frozen=True, slots=True)
class Collector:
    """Series from the state, at the moment of a scrape."""

    telemetry: Telemetry

    def collect(self) -> Iterator[Metric]:
        """prometheus_client's interface."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for name, (label, values) in _series(self.telemetry).items():
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            family = kind(name, METRICS[name], labels=[label] if label else [])
            for labels, value in values:
                family.add_metric(labels, value)
            yield family


Series = Sequence[tuple[Sequence[str], float]]


def _series(state: Telemetry) -> dict[str, tuple[str, Series]]:
    """Label, and values by label."""
    last, saved = state.last, state.committed
    plain: dict[str, float | None] = {
        "cpt_train_tokens_total": state.tokens,
        "cpt_train_flops_total": state.flops,
        "cpt_train_data_wait_seconds_total": state.data_seconds,
        "cpt_train_skipped_steps_total": state.skipped_steps,
        "cpt_train_loss_spikes_total": state.spikes,
        "cpt_train_checkpoint_committed_step": saved.committed_step,
        "cpt_train_checkpoint_timestamp_seconds": state.committed_time,
        "cpt_train_mfu_full_attention_ratio": state.mfu,
        "cpt_train_checkpoint_block_seconds": saved.block_seconds,
        "cpt_train_checkpoint_flush_seconds": saved.flush_seconds,
        "cpt_train_checkpoint_bytes": saved.bytes,
        "cpt_train_checkpoint_failures_total": saved.failures,
    }
    if last is not None:
        plain |= {
            "cpt_train_step": last.step,
            "cpt_train_loss": last.loss,
            "cpt_train_learning_rate": last.learning_rate,
            "cpt_train_gradient_norm": last.gradient_norm,
            "cpt_train_tokens_per_second": state.tokens_per_second,
            "cpt_train_last_step_timestamp_seconds": state.last_time,
        }
    series: dict[str, tuple[str, Series]] = {
        name: ("", [((), float(value))]) for name, value in plain.items() if value is not None
    }
    losses = last.datasets if last else {}
    scores = {score.text: score.bits_per_byte for score in state.held_out}
    series["cpt_train_dataset_loss"] = ("dataset", _labelled(losses))
    series["cpt_train_dataset_epochs"] = ("dataset", _labelled(state.epochs))
    series["cpt_train_held_out_bits_per_byte"] = ("text", _labelled(scores))
    series["cpt_train_suite_score"] = ("suite", [([point.suite], point.value) for point in state.suites])
    return series


def _labelled(values: Mapping[Digest, float]) -> Series:
    return [([digest.short], value) for digest, value in sorted(values.items())[:_LABELLED]]


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
