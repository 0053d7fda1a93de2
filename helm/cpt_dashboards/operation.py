"""Does the operator keep up, and do the API server and the store answer it?"""

from __future__ import annotations

from cpt_dashboards.grafana import Dashboard, Panel, Query, Row, Threshold, Variable
from cpt_dashboards.promql import quantile

OPERATOR = 'job=~"$job"'
_QUANTILES = (0.5, 0.99)


def rates(metric: str, *labels: str, selector: str = OPERATOR) -> str:
    """A second, of all replicas."""
    return f"sum by ({', '.join(labels)}) (rate({metric}{{{selector}}}[$__rate_interval]))"


def times(title: str, description: str, histogram: str, *labels: str) -> Panel:
    """Half of them are faster, and all but one in a hundred."""
    words = " ".join(f"{{{{{label}}}}}" for label in labels)
    queries = (Query(quantile(q, histogram, OPERATOR, *labels), f"{q:.0%} {words}".rstrip()) for q in _QUANTILES)
    return Panel(title, description, tuple(queries), unit="s", logarithmic=True)


DASHBOARD = Dashboard(
    name="operator",
    title="CPT / Operator",
    description="Does the operator keep up, and do the API server and the store answer it?",
    variables=(Variable("job", "Job", "label_values(cpt_store_objects, job)"),),
    parts=(
        Panel(
            "Works",
            "Replicas that hold the lease: one. None: nothing is begun and nothing is noticed; running trials go on.",
            (Query(f"sum(leader_election_master_status{{{OPERATOR}}})", "leaders"),),
            kind="stat",
            width=4,
            thresholds=(Threshold(0, "red"), Threshold(1, "green"), Threshold(2, "orange")),
        ),
        Panel(
            "Replicas",
            "That Prometheus reaches.",
            (Query(f"count(leader_election_master_status{{{OPERATOR}}})", "replicas"),),
            kind="stat",
            width=4,
        ),
        Panel(
            "Objects watched",
            "By the replica that works.",
            (Query(f"max by (kind) (cpt_store_objects{{{OPERATOR}}})", "{{kind}}"),),
            kind="stat",
            width=8,
        ),
        Panel(
            "Watches that lost something",
            "What the ten-minute list found wrong since the start: ends and versions that were never seen. Now and then"
            " one is no harm, the list repairs it.",
            (Query(f"sum by (sort) (cpt_store_drift_total{{{OPERATOR}}})", "{{sort}}"),),
            kind="stat",
            width=4,
            thresholds=(Threshold(10, "orange"),),
        ),
        Panel(
            "Trials without series",
            "Beyond the 500 with an attempt that have some; they are missing on the other pages.",
            (Query(f"max(cpt_trial_series_dropped{{{OPERATOR}}})", "dropped"),),
            kind="stat",
            width=4,
            thresholds=(Threshold(1, "orange"),),
        ),
        Row("The work queue"),
        Panel(
            "Keys",
            "Waiting for a worker, delayed, and in work. When those that wait only grow, it does not keep up.",
            (
                Query(f"sum(workqueue_depth{{{OPERATOR}}})", "waiting"),
                Query(f"sum(workqueue_delayed{{{OPERATOR}}})", "delayed"),
                Query(f"sum(controller_runtime_active_workers{{{OPERATOR}}})", "in work"),
            ),
        ),
        times("Waiting for a worker", "Not counting a delay that was asked for.", "workqueue_queue_duration_seconds"),
        times(
            "A turn takes",
            "By kind. A turn asks the store and the API server, so it is slow when they are.",
            "controller_runtime_reconcile_time_seconds",
            "controller",
        ),
        Panel(
            "Turns",
            "A second, by kind and result. What failed is tried again after a pause; the log has the reason.",
            (Query(rates("controller_runtime_reconcile_total", "controller", "result"), "{{controller}} {{result}}"),),
            unit="ops",
        ),
        Panel(
            "Turns asked for and repeated",
            "A second.",
            (
                Query(f"sum(rate(workqueue_adds_total{{{OPERATOR}}}[$__rate_interval]))", "asked for"),
                Query(f"sum(rate(workqueue_retries_total{{{OPERATOR}}}[$__rate_interval]))", "repeated"),
            ),
            unit="ops",
        ),
        Panel(
            "The longest turn now",
            "A turn that takes minutes is stuck.",
            (Query(f"max(workqueue_longest_running_processor_seconds{{{OPERATOR}}})", "longest"),),
            unit="s",
        ),
        Row("The API server and the store"),
        Panel(
            "Requests to the API server",
            "A second. 409 is a race that is tried again, 403 a right that is missing.",
            (Query(rates("cpt_api_request_seconds_count", "verb", "code"), "{{verb}} {{code}}"),),
            unit="reqps",
        ),
        times("The API server takes", "By verb.", "cpt_api_request_seconds", "verb"),
        Panel(
            "Requests to the store",
            "A second. 404 is an answer: not there yet. 403, unreachable and timeout stop decisions, not trials.",
            (Query(rates("cpt_s3_request_seconds_count", "verb", "code"), "{{verb}} {{code}}"),),
            unit="reqps",
        ),
        times("The store takes", "By verb.", "cpt_s3_request_seconds", "verb"),
        Panel(
            "CPU",
            "Cores.",
            (Query(rates("process_cpu_seconds_total", "pod"), "{{pod}}"),),
        ),
        Panel(
            "Memory",
            "Resident. Some 100 MB, and more with thousands of trials; the chart's limit is 512 MiB.",
            (Query(f"max by (pod) (process_resident_memory_bytes{{{OPERATOR}}})", "{{pod}}"),),
            unit="bytes",
        ),
    ),
)
