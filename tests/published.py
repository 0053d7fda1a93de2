"""Every series that our code serves, with its labels as Prometheus has them, and what questions may name besides."""

from __future__ import annotations

from collections.abc import Mapping

from cpt_operator.docs import rows
from cpt_trainer.telemetry import METRICS
from promql import Named

_TARGET = {"namespace", "pod", "container", "node", "job", "instance", "endpoint"}
"""What Prometheus says of every target of a PodMonitor."""
_TRIAL = {"experiment", "trial"}
"""What the PodMonitor of trials adds."""
_DETAIL = {
    "cpt_train_suite_score": "suite",
    "cpt_train_held_out_bits_per_byte": "text",
    "cpt_train_dataset_loss": "dataset",
    "cpt_train_dataset_epochs": "dataset",
}
_DCGM = ("DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_POWER_USAGE")
_OTHERS = {
    "process_cpu_seconds_total": _TARGET,
    "process_resident_memory_bytes": _TARGET,
    **dict.fromkeys(_DCGM, _TARGET | {"exported_namespace", "exported_pod"}),
}
"""Of every process, and of NVIDIA's exporter."""


def _ours() -> dict[str, set[str]]:
    found = {name: _TARGET | _TRIAL | ({_DETAIL[name]} if name in _DETAIL else set()) for name in METRICS}
    for name, kind, labels, _ in rows():
        is_histogram = kind == "histogram"
        own = {label for label in labels.split(", ") if label} | ({"le"} if is_histogram else set())
        found |= {name + suffix: _TARGET | own for suffix in (("_bucket", "_sum", "_count") if is_histogram else ("",))}
    return found


KNOWN: Mapping[str, set[str]] = _ours() | _OTHERS


def unknown(named: Named) -> list[str]:
    """What a question names and nobody serves."""
    metrics = [name for name in named.metrics if name not in KNOWN]
    labels = [f"{n}.{label}" for n, used in named.metrics.items() if n in KNOWN for label in used - KNOWN[n]]
    grouped = named.labels - set().union(*(KNOWN.get(name, set()) for name in named.metrics))
    return sorted([*metrics, *labels, *grouped])
