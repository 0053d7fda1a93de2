"""The chart as tests use it: rendered by a real Helm, read as plain objects.

rendered("--set", "replicas=2").one("Deployment")["spec"]["replicas"]   →   2
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from cpt_local import programs
from cpt_operator.settings import Settings

ROOT = Path(__file__).parents[1]
CHART = ROOT / "helm"
VALUES = Path(__file__).parent / "helm" / "values"
KUBERNETES = "1.36.0"
"""What Helm believes to install to; without a cluster a Helm built from source believes in 1.20."""

Object = Mapping[str, Any]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Helm. It fails where it fails: look at `returncode`."""
    command = [str(programs.folder("helm") / "helm"), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@dataclass(frozen=True)
class Rendered:
    """The objects of one `helm template`."""

    objects: Sequence[Object]

    def of(self, kind: str, name: str = "") -> list[Object]:
        """Those of a kind, whose names end as given."""
        return [o for o in self.objects if o["kind"] == kind and o["metadata"]["name"].endswith(name)]

    def one(self, kind: str, name: str = "") -> Object:
        """The only one."""
        (found,) = self.of(kind, name)
        return found

    @property
    def config(self) -> dict[str, Any]:
        """The operator's settings as the ConfigMap has them."""
        config: dict[str, Any] = yaml.safe_load(self.one("ConfigMap", "operator")["data"]["config.yaml"])
        return config

    @property
    def settings(self) -> Settings:
        """As the operator reads them."""
        return Settings.model_validate(self.config)


@cache
def rendered(*arguments: str) -> Rendered:
    """Render a release called `cpt` in namespace `cpt-system`."""
    done = helm("template", "cpt", str(CHART), "--namespace", "cpt-system", "--kube-version", KUBERNETES, *arguments)
    assert done.returncode == 0, done.stderr
    return Rendered([o for o in yaml.safe_load_all(done.stdout) if o])


def rights(rules: Sequence[Object]) -> dict[str, str]:
    """RBAC rules as a table: `group/resource[name]` → verbs in order."""
    table: dict[str, str] = {}
    for rule in rules:
        names = f"[{','.join(rule['resourceNames'])}]" if "resourceNames" in rule else ""
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                table[f"{group or 'core'}/{resource}{names}"] = " ".join(sorted(rule["verbs"]))
    return table


VOLUMES = frozenset({"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected",
                     "secret"})  # fmt: skip


def violations(pod: Object) -> list[str]:
    """What Kubernetes' `restricted` profile would refuse in a pod's spec, by the table of its documentation."""
    return [*_of_pod(pod), *(v for c in _containers(pod) for v in _of_container(c, pod.get("securityContext", {})))]


def _containers(pod: Object) -> Iterator[Object]:
    yield from pod.get("initContainers", ())
    yield from pod["containers"]


def _of_pod(pod: Object) -> Iterator[str]:
    yield from (key for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key))
    if pod.get("securityContext", {}).get("sysctls"):
        yield "sysctls"
    for volume in pod.get("volumes", ()):
        yield from (f"volume {volume['name']}: {kind}" for kind in volume if kind != "name" and kind not in VOLUMES)


def _of_container(container: Object, of_pod: Object) -> Iterator[str]:
    own = container.get("securityContext", {})
    both = {**of_pod, **own}
    capabilities = own.get("capabilities", {})
    wrong = {
        "privileged": own.get("privileged"),
        "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is not False,
        "capabilities.drop": capabilities.get("drop") != ["ALL"],
        "capabilities.add": set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"},
        "runAsNonRoot": both.get("runAsNonRoot") is not True,
        "runAsUser": both.get("runAsUser") == 0,
        "seccompProfile": both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"),
        "procMount": own.get("procMount", "Default") != "Default",
        "hostPort": any(port.get("hostPort") for port in container.get("ports", ())),
    }
    yield from (f"{container['name']}: {what}" for what, is_wrong in wrong.items() if is_wrong)
