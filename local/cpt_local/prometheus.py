"""Debian's Prometheus, which scrapes what the chart's PodMonitors say, with the alerts of its PrometheusRule.

There is no Prometheus operator here; scrape_configs() does what that one does with a PodMonitor:

    selector.matchLabels {app.kubernetes.io/name: cpt-trial}   keep pods whose label app_kubernetes_io_name is cpt-trial
    namespaceSelector {any: true}                              all namespaces
    podMetricsEndpoints [{port: metrics, interval: 15s}]       the container port of that name
"""

from __future__ import annotations

import sys
from typing import Any

import yaml

from cpt_local import chart
from cpt_local.cluster import Cluster
from cpt_local.controlplane import answers
from cpt_local.discovery import META, label_name
from cpt_local.network import enter
from cpt_local.pki import kubeconfig
from cpt_local.processes import start_daemon, wait_for_daemon

_START_SECONDS = 60.0
_INTERVAL = "5s"
"""Shorter than the chart's: a trial of the demo lives for 20 s."""


_RELABELING = {
    "sourceLabels": "source_labels",
    "targetLabel": "target_label",
    "regex": "regex",
    "action": "action",
}
"""Words of a PodMonitor, and Prometheus' own; what the chart does not use is not here."""


def start(cluster: Cluster) -> None:
    """Start it, and what tells it of pods; return when it answers."""
    folder = cluster.folder / "prometheus"
    folder.mkdir()
    monitors = _rendered(cluster, "podmonitors", "podMonitors.enabled=true", f"podMonitors.interval={_INTERVAL}")
    [rule] = _rendered(cluster, "rules", "rules.enabled=true")
    targets = str(folder / "targets.json")
    configuration = {
        "scrape_configs": [config for monitor in monitors for config in scrape_configs(monitor, targets)],
        "rule_files": ["rules.yml"],
        "global": {"evaluation_interval": _INTERVAL},
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    (folder / "rules.yml").write_text(yaml.safe_dump(rule["spec"]))
    login = str(kubeconfig(cluster, "prometheus"))
    discovery = [*enter(cluster.namespace()), sys.executable, "-m", "cpt_local.discovery", login, targets]
    start_daemon("discovery", discovery, cluster.folder)
    command = [
        *enter(cluster.namespace()),
        *("prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"),
        f"--web.listen-address={cluster.address}:9090",
    ]
    start_daemon("prometheus", command, cluster.folder)
    wait_for_daemon(cluster.folder, "prometheus", lambda: answers(f"{cluster.prometheus_url}/-/ready"), _START_SECONDS)


def _rendered(cluster: Cluster, template: str, *values: str) -> list[dict[str, Any]]:
    """The objects of one template of the chart."""
    options = [f"--show-only=templates/{template}.yaml", *(f"--set={value}" for value in values)]
    text = chart.helm(cluster, "template", chart.RELEASE, str(chart.FOLDER), *options)
    return [document for document in yaml.safe_load_all(text) if document]


def scrape_configs(monitor: dict[str, Any], targets: str) -> list[dict[str, Any]]:
    """One for each endpoint of a PodMonitor, over a file of all pods."""
    metadata, spec = monitor["metadata"], monitor["spec"]
    name = f"{metadata['namespace']}/{metadata['name']}"
    selector = spec.get("namespaceSelector", {})
    namespaces = ".*" if selector.get("any") else "|".join(selector.get("matchNames", [metadata["namespace"]]))
    keep = {"namespace": namespaces}
    keep |= {f"pod_label_{label_name(key)}": value for key, value in spec["selector"]["matchLabels"].items()}
    copy = {"namespace": "namespace", "pod_name": "pod", "pod_container_name": "container", "pod_node_name": "node"}
    configs = []
    for index, endpoint in enumerate(spec["podMetricsEndpoints"]):
        kept = keep | {"pod_container_port_name": endpoint["port"]}
        rules = [
            *({"source_labels": [META + source], "regex": regex, "action": "keep"} for source, regex in kept.items()),
            *({"source_labels": [META + source], "target_label": target} for source, target in copy.items()),
            {"target_label": "job", "replacement": name},
            {"target_label": "endpoint", "replacement": endpoint["port"]},
            *(_relabeling(rule) for rule in endpoint.get("relabelings", ())),
        ]
        configs.append(
            {
                "job_name": f"podMonitor/{name}/{index}",
                "file_sd_configs": [{"files": [targets]}],
                "relabel_configs": rules,
                "metric_relabel_configs": [_relabeling(rule) for rule in endpoint.get("metricRelabelings", ())],
                "honor_labels": endpoint.get("honorLabels", False),
                "sample_limit": spec.get("sampleLimit", 0),
                "scrape_interval": endpoint["interval"],
                "scrape_timeout": endpoint["interval"],
            }
        )
    return configs


def _relabeling(rule: dict[str, Any]) -> dict[str, Any]:
    """The same in Prometheus' own words."""
    return {_RELABELING[key]: value for key, value in rule.items()}
