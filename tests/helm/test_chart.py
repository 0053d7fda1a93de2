"""What the chart renders: the settings, the rights, the definitions and the pods."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from chart import CHART, ROOT, VALUES, Object, Rendered, helm, rendered, rights, violations
from cpt_operator.docs import rows
from cpt_trainer.telemetry import METRICS

pytestmark = pytest.mark.processes

VARIANTS = {
    "default": (),
    "namespaced": ("--values", str(VALUES / "namespaced.yaml")),
    "replicas": ("--values", str(VALUES / "replicas.yaml")),
    "everything": ("--values", str(VALUES / "everything.yaml")),
}

WHERE_IT_WATCHES = {
    "cpt.dev/cptexperiments": "get list watch",
    "cpt.dev/cpttrials": "create delete get list patch watch",
    "cpt.dev/cptexperiments/status": "patch",
    "cpt.dev/cpttrials/status": "patch",
    "kubeflow.org/pytorchjobs": "create delete get list watch",
    "core/pods": "list watch",
    "core/events": "create list",
}
IN_ITS_OWN_NAMESPACE = {
    "coordination.k8s.io/leases": "create",
    "coordination.k8s.io/leases[cpt-cpt-operator]": "get update",
}


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> Rendered:
    """Each way to install it."""
    return rendered(*VARIANTS[request.param])


def pod(chart: Rendered) -> Object:
    spec: Object = chart.one("Deployment")["spec"]["template"]["spec"]
    return spec


class TestEveryVariant:
    @pytest.mark.parametrize("name", VARIANTS)
    def test_lint(self, name: str) -> None:
        """Helm finds nothing to warn of."""
        done = helm("lint", str(CHART), "--strict", *VARIANTS[name])
        assert done.returncode == 0, done.stdout + done.stderr

    def test_settings_are_accepted(self, variant: Rendered) -> None:
        """The operator reads the ConfigMap without a complaint, and knows its own Lease."""
        lease = variant.settings.lease
        assert (lease.name, lease.namespace) == (variant.one("Deployment")["metadata"]["name"], "cpt-system")

    def test_pods_are_restricted(self, variant: Rendered) -> None:
        """A namespace that enforces the `restricted` profile admits the operator."""
        assert violations(pod(variant)) == []

    def test_root_is_read_only(self, variant: Rendered) -> None:
        """Only /tmp can be written."""
        (container,) = pod(variant)["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert [m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")] == ["/tmp"]

    def test_owned_objects_are_labelled(self, variant: Rendered) -> None:
        """Everything but the definitions, which outlive the release, can be found by its labels."""
        for item in variant.objects:
            if item["kind"] != "CustomResourceDefinition":
                assert item["metadata"]["labels"]["app.kubernetes.io/instance"] == "cpt"

    def test_selectors_agree(self, variant: Rendered) -> None:
        """The Service and the NetworkPolicy mean the Deployment's pods."""
        want = variant.one("Deployment")["spec"]["selector"]["matchLabels"]
        assert variant.one("Service")["spec"]["selector"] == want
        assert variant.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == want

    def test_no_secret_right(self, variant: Rendered) -> None:
        """The operator can read no Secret, change no definition, and enter no pod, anywhere."""
        rules = [rule for kind in ("Role", "ClusterRole") for role in variant.of(kind) for rule in role["rules"]]
        granted = " ".join(rights(rules))
        assert not any(word in granted for word in ("secrets", "customresourcedefinitions", "exec", "*"))


class TestSettings:
    def test_everything_arrives(self) -> None:
        """Every value of `trials` and `artifactStore` reaches the operator as it was written."""
        values = yaml.safe_load((VALUES / "everything.yaml").read_text())
        config = rendered(*VARIANTS["everything"]).config
        trials, store = values["trials"], values["artifactStore"]
        assert config.pop("trainerImage") == trials.pop("image")
        del store["credentialsSecret"], config["lease"]
        assert config == {"artifactStore": store, "watchNamespaces": [], "kueue": values["kueue"], **trials}

    def test_credentials_are_not_settings(self) -> None:
        """The Secret's name is in the pod's environment only."""
        chart = rendered(*VARIANTS["everything"])
        assert "cpt-operator-store" not in str(chart.of("ConfigMap"))
        (container,) = pod(chart)["containers"]
        assert {e["valueFrom"]["secretKeyRef"]["name"] for e in container["env"]} == {"cpt-operator-store"}

    def test_new_settings_are_new_pods(self) -> None:
        """The operator reads its file once, so a change must replace the pods."""
        before, after = rendered(), rendered("--set", "trials.parallelTrials=5")
        annotations = [c.one("Deployment")["spec"]["template"]["metadata"]["annotations"] for c in (before, after)]
        assert annotations[0] != annotations[1]


class TestRights:
    def test_whole_cluster(self) -> None:
        """Where it watches the operator has exactly the rights of the table."""
        role = rendered().one("ClusterRole", "cpt-cpt-operator")
        assert rights(role["rules"]) == WHERE_IT_WATCHES

    def test_with_kueue(self) -> None:
        """Where it shall look at Kueue's Workloads it may, and never touches them."""
        role = rendered("--set", "kueue.enabled=true").one("ClusterRole", "cpt-cpt-operator")
        assert rights(role["rules"]) == WHERE_IT_WATCHES | {"kueue.x-k8s.io/workloads": "list watch"}

    def test_lease(self) -> None:
        """In its own namespace the operator has a Lease and nothing else."""
        assert rights(rendered().one("Role")["rules"]) == IN_ITS_OWN_NAMESPACE

    def test_namespaced(self) -> None:
        """With `watchNamespaces` there is a Role in each of them and nothing for the cluster."""
        chart = rendered(*VARIANTS["namespaced"])
        assert chart.of("ClusterRole") == chart.of("ClusterRoleBinding") == []
        roles = {role["metadata"]["namespace"]: rights(role["rules"]) for role in chart.of("Role")}
        want = {"team-a": WHERE_IT_WATCHES, "team-b": WHERE_IT_WATCHES, "cpt-system": IN_ITS_OWN_NAMESPACE}
        assert roles == want

    @pytest.mark.parametrize("name", VARIANTS)
    def test_bindings(self, name: str) -> None:
        """Every role of the operator is bound to its ServiceAccount, and to nobody else."""
        chart = rendered(*VARIANTS[name])
        account = chart.one("ServiceAccount")["metadata"]
        for binding in [*chart.of("RoleBinding"), *chart.of("ClusterRoleBinding")]:
            (subject,) = binding["subjects"]
            assert (subject["name"], subject["namespace"]) == (account["name"], account["namespace"])

    def test_people_do_not_run_experiments_by_accident(self) -> None:
        """Looking is aggregated to `view`; running, which creates pods, to `edit` only on request."""
        assert "rbac.authorization.k8s.io/aggregate-to-view" in labels(rendered(), "viewer")
        assert "rbac.authorization.k8s.io/aggregate-to-edit" not in labels(rendered(), "editor")
        assert "rbac.authorization.k8s.io/aggregate-to-edit" in labels(rendered(*VARIANTS["everything"]), "editor")


def labels(chart: Rendered, role: str) -> dict[str, str]:
    found: dict[str, str] = chart.one("ClusterRole", role)["metadata"]["labels"]
    return found


class TestDefinitions:
    @pytest.mark.parametrize("path", sorted((ROOT / "crds").glob("*.yaml")), ids=lambda path: path.name)
    def test_equal_to_the_canonical_files(self, path: Any) -> None:
        """What the chart installs is what `crds/` holds."""
        canonical = yaml.safe_load(path.read_text())
        name = canonical["metadata"]["name"]
        assert rendered(*VARIANTS["everything"]).one("CustomResourceDefinition", name) == canonical

    def test_kept_by_default(self) -> None:
        """An uninstall leaves the experiments alone."""
        for definition in rendered().of("CustomResourceDefinition"):
            assert definition["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}

    def test_can_be_left_out(self) -> None:
        """Where an administrator installs definitions, the release owns none."""
        assert rendered(*VARIANTS["namespaced"]).of("CustomResourceDefinition") == []


class TestDeployment:
    def test_replicas(self) -> None:
        """Two replicas are one value away; they spread over nodes."""
        spec = rendered(*VARIANTS["replicas"]).one("Deployment")["spec"]
        assert spec["replicas"] == 2
        assert spec["template"]["spec"]["topologySpreadConstraints"][0]["topologyKey"] == "kubernetes.io/hostname"

    def test_standby_is_ready(self) -> None:
        """Nothing in the probes asks who is the leader, so a rollout does not wait for a standby to lead."""
        (container,) = pod(rendered())["containers"]
        paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("liveness", "readiness", "startup")}
        assert paths == {"liveness": "/healthz", "readiness": "/readyz", "startup": "/healthz"}


class TestMonitors:
    def test_off_by_default(self) -> None:
        """A cluster without the Prometheus operator can install the chart."""
        assert rendered().of("PodMonitor") == []

    def test_ports_exist(self) -> None:
        """The monitor asks for a port that the operator's pod names."""
        chart = rendered(*VARIANTS["everything"])
        (container,) = pod(chart)["containers"]
        ports = {port["name"] for port in container["ports"]}
        assert {e["port"] for e in chart.one("PodMonitor", "operator")["spec"]["podMetricsEndpoints"]} <= ports

    def test_trials_are_scraped_where_they_run(self) -> None:
        """In a namespaced install only the watched namespaces are looked at."""
        chart = rendered(*VARIANTS["namespaced"], "--set", "podMonitors.enabled=true")
        monitor = chart.one("PodMonitor", "trials")
        assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["team-a", "team-b"]}

    def test_trials_speak_of_training_only(self) -> None:
        """A trial's pod runs under a user's identity: it says nothing in the operator's name, and all of training."""
        (endpoint,) = rendered(*VARIANTS["everything"]).one("PodMonitor", "trials")["spec"]["podMetricsEndpoints"]
        (rule,) = endpoint["metricRelabelings"]
        assert (rule["sourceLabels"], rule["action"]) == (["__name__"], "keep")
        assert all(re.fullmatch(rule["regex"], name) for name in METRICS)
        assert not any(re.fullmatch(rule["regex"], name) for name, *_ in rows())
