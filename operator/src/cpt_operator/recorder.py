"""The operator's own health, measured as it happens: turns of the work queue, requests to the API server and to S3.

Names are controller-runtime's and client-go's where they have one, so that the dashboards people know fit. Nothing here
knows what it measures: the seams call it.

>>> recorder = Recorder()
>>> recorder.s3_request("get", "404", 0.012)
>>> recorder.reconciled("cpttrials", 0.003, error=False)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric

_FAST = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Seconds; half a decade each."""


class Recorder:
    """Counters and histograms of one process; every method takes microseconds and never raises."""

    def __init__(self) -> None:
        self._turns = Counter(
            "controller_runtime_reconcile",
            "Turns by kind and result (success or error).",
            ("controller", "result"),
            registry=None,
        )
        self._errors = Counter(
            "controller_runtime_reconcile_errors", "Turns that raised an error.", ("controller",), registry=None
        )
        self._turn_seconds = _histogram(
            "controller_runtime_reconcile_time_seconds", "How long a turn took.", ("controller",)
        )
        self._waits = _histogram(
            "workqueue_queue_duration_seconds", "How long a key waited for a worker, not counting its delay.", ("name",)
        )
        self._api = _histogram("cpt_api_request_seconds", "Requests to the API server.", ("verb", "code"))
        self._s3 = _histogram("cpt_s3_request_seconds", "Requests to the artifact store.", ("verb", "code"))
        self._leader = Gauge(
            "leader_election_master_status", "1 in the process that holds the lease.", ("name",), registry=None
        )

    def reconciled(self, kind: str, seconds: float, *, error: bool) -> None:
        """A turn of an object of that kind (its plural) is over."""
        self._turns.labels(kind, "error" if error else "success").inc()
        self._turn_seconds.labels(kind).observe(seconds)
        errors = self._errors.labels(kind)  # the series is there before the first error, so that rates see it
        if error:
            errors.inc()

    def waited(self, seconds: float) -> None:
        """A key left the queue after so long."""
        self._waits.labels(QUEUE).observe(seconds)

    def api_request(self, verb: str, code: str, seconds: float) -> None:
        """The API server answered `code`, or `code` names what happened instead."""
        self._api.labels(verb, code).observe(seconds)

    def s3_request(self, verb: str, code: str, seconds: float) -> None:
        """The artifact store answered `code`, or `code` names what happened instead."""
        self._s3.labels(verb, code).observe(seconds)

    def leads(self, lease: str, *, is_leader: bool) -> None:
        """Whether this process holds the lease."""
        self._leader.labels(lease).set(is_leader)

    def collect(self) -> Iterator[Metric]:
        """What was measured so far."""
        for measured in (
            self._turns,
            self._errors,
            self._turn_seconds,
            self._waits,
            self._api,
            self._s3,
            self._leader,
        ):
            for family in measured.collect():
                # when a series began is a second series for each; nobody asks for it
                family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
                yield family


QUEUE = "cpt"
"""There is one queue for both kinds."""


def _histogram(name: str, text: str, labels: Sequence[str]) -> Histogram:
    return Histogram(name, text, labels, buckets=_FAST, registry=None)
