"""PodMonitors without a Prometheus operator, pods without a Kubernetes discovery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cpt_local.discovery import label_name, targets, write
from cpt_local.prometheus import scrape_configs


def make_monitor(**spec: Any) -> dict[str, Any]:
    """A PodMonitor as the chart renders it."""
    return {
        "metadata": {"name": "op", "namespace": "cpt-system"},
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/name": "cpt-trial"}},
            "podMetricsEndpoints": [{"port": "metrics", "interval": "5s"}],
            **spec,
        },
    }


def make_pod(name: str = "trial-0", phase: str = "Running", address: str = "10.244.1.7") -> dict[str, Any]:
    """A pod as the API server lists it."""
    container = {"name": "pytorch", "ports": [{"name": "metrics", "containerPort": 8080}, {"containerPort": 23456}]}
    return {
        "metadata": {"name": name, "namespace": "demo", "labels": {"app.kubernetes.io/name": "cpt-trial"}},
        "spec": {"nodeName": "node-1", "containers": [container]},
        "status": {"phase": phase, "podIP": address},
    }


class TestScrapeConfigs:
    """One for each endpoint of a PodMonitor."""

    def test_selects_by_label_port_and_namespace(self) -> None:
        """Only pods with the label, only the named port, only the monitor's own namespace."""
        [config] = scrape_configs(make_monitor(), "t.json")
        kept = {rule["source_labels"][0]: rule["regex"] for rule in config["relabel_configs"] if "regex" in rule}
        assert kept == {
            "__meta_kubernetes_namespace": "cpt-system",
            "__meta_kubernetes_pod_label_app_kubernetes_io_name": "cpt-trial",
            "__meta_kubernetes_pod_container_port_name": "metrics",
        }

    @pytest.mark.parametrize(
        ("selector", "want"), [({"any": True}, ".*"), ({"matchNames": ["a", "b"]}, "a|b"), ({}, "cpt-system")]
    )
    def test_namespaces(self, selector: dict[str, Any], want: str) -> None:
        """All namespaces, those named, or the monitor's own."""
        [config] = scrape_configs(make_monitor(namespaceSelector=selector), "t.json")
        assert config["relabel_configs"][0]["regex"] == want

    def test_limits_and_labels(self) -> None:
        """Labels that the monitor makes of a pod's, those that it leaves alone, and how many samples it takes."""
        relabeling = {"sourceLabels": ["__meta_kubernetes_pod_label_cpt_dev_trial"], "targetLabel": "trial"}
        endpoint = {"port": "metrics", "interval": "5s", "honorLabels": True, "relabelings": [relabeling]}
        [config] = scrape_configs(make_monitor(podMetricsEndpoints=[endpoint], sampleLimit=500), "t.json")
        assert (config["honor_labels"], config["sample_limit"]) == (True, 500)
        want = {"source_labels": ["__meta_kubernetes_pod_label_cpt_dev_trial"], "target_label": "trial"}
        assert config["relabel_configs"][-1] == want

    def test_which_series_are_kept(self) -> None:
        """What a pod serves besides is dropped."""
        rule = {"sourceLabels": ["__name__"], "regex": "cpt_train_.+", "action": "keep"}
        endpoint = {"port": "metrics", "interval": "5s", "metricRelabelings": [rule]}
        [config] = scrape_configs(make_monitor(podMetricsEndpoints=[endpoint]), "t.json")
        want = {"source_labels": ["__name__"], "regex": "cpt_train_.+", "action": "keep"}
        assert config["metric_relabel_configs"] == [want]


class TestTargets:
    """What Prometheus is told of a pod."""

    def test_one_for_each_port(self) -> None:
        """Every port of every container, under the labels of kubernetes_sd_configs."""
        first, second = targets(make_pod())
        assert first["targets"] == ["10.244.1.7:8080"]
        assert first["labels"]["__meta_kubernetes_pod_container_port_name"] == "metrics"
        assert first["labels"]["__meta_kubernetes_pod_label_app_kubernetes_io_name"] == "cpt-trial"
        assert second["targets"] == ["10.244.1.7:23456"]

    @pytest.mark.parametrize(
        "pod", [make_pod(phase="Succeeded"), make_pod(phase="Failed"), make_pod(phase="Pending", address="")]
    )
    def test_none_of_pods_that_cannot_answer(self, pod: dict[str, Any]) -> None:
        """A pod that has ended or has no address is no target."""
        assert targets(pod) == []

    def test_file_is_left_alone_when_nothing_changes(self, tmp_path: Path) -> None:
        """Most changes of pods change no target; Prometheus reads the file again at each write."""
        file = tmp_path / "targets.json"
        write(file, {"uid": make_pod()})
        before = file.stat().st_ino
        write(file, {"uid": make_pod() | {"irrelevant": True}})
        assert file.stat().st_ino == before
        write(file, {})
        assert file.read_text() == "[]"

    def test_label_names(self) -> None:
        """Signs that Prometheus does not allow become underscores."""
        assert label_name("training.kubeflow.org/job-name") == "training_kubeflow_org_job_name"
