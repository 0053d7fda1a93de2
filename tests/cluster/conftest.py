"""One control plane, one S3 and one ServiceAccount for all tests of this folder; each test has its own namespace."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chart import rendered
from cluster.controlplane import ControlPlane, control_plane, objects_of
from cluster.harness import SYSTEM, TINY, Lab, OperatorProcess, Team, kubelet
from cluster.seaweed import seaweed
from cpt_local import programs
from cpt_operator.apiserver import ApiServer
from cpt_operator.kinds import Kind
from make import make_experiment

ROOT = Path(__file__).parents[2]
_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them need the control plane."""
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.cluster)
    # these judge what happened meanwhile
    last = [item for name in ("test_idle.py", "test_rights.py") for item in ours if item.path.name == name]
    items[:] = [item for item in items if item not in last] + last


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The real thing, shared."""
    folder = tmp_path_factory.mktemp("lab")
    binaries = programs.folder("kubernetes")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PATH", f"{programs.folder('helm')}:{os.environ['PATH']}")
        with control_plane(binaries, folder) as plane, seaweed(folder) as store:
            yield Lab(plane, store, folder, asyncio.run(install(plane, pytorchjob_crd())))


@dataclass(frozen=True)
class Idle:
    """Ten finished experiments and their operator, left alone since then."""

    team: Team
    operator: OperatorProcess
    since: float


@pytest.fixture(scope="session", autouse=True)
def idle(request: pytest.FixtureRequest) -> Iterator[Idle | None]:
    """Begun before all other tests, so that nobody waits for the minute in which nothing must happen."""
    if not any(item.path.name == "test_idle.py" for item in request.session.items):
        yield None
        return
    lab: Lab = request.getfixturevalue("lab")
    team = Team(lab, "idle")
    with lab.operator(team.namespace, lease=2) as operator:
        asyncio.run(_finish_ten(team))
        yield Idle(team, operator, time.time())


async def _finish_ten(team: Team) -> None:
    async with team, kubelet(team):
        for number in range(10):
            await team.apply(f"done-{number}", make_experiment(**TINY))
        for number in range(10):
            await team.until_reason("Completed", f"done-{number}")

        async def counted() -> bool:  # the last numbers may wait 30 s for their turn
            counts = [(await team.status(f"done-{number}"))["trials"] for number in range(10)]
            return all(count["succeeded"] == count["total"] for count in counts)

        await team.until(counted)
        team.keep = True


async def install(plane: ControlPlane, *crds: dict[str, Any], values: Sequence[str] = ()) -> str:
    """Our kinds and others, and the chart's ServiceAccount with its rights by those values; its token."""
    api = await ApiServer.login(str(plane.kubeconfig))
    try:
        await api.request("create", "/api/v1/namespaces", body={"metadata": {"name": SYSTEM}})
        for crd in (*objects_of(*(ROOT / "crds").glob("*.yaml")), *crds):
            await apply(api, crd)
        for body in rendered(*(part for value in values for part in ("--set", value))).objects:
            if body["kind"] in _RIGHTS:
                await apply(api, dict(body))
        for body in _more_leases():
            await apply(api, body)
        path = f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/{ACCOUNT}/token"
        spec = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 86_400}}
        token: str = (await api.request("create", path, body=spec))["status"]["token"]
        while not await api.serves(Kind.TRIAL.root, Kind.TRIAL.plural):
            await asyncio.sleep(0.1)
        return token
    finally:
        await api.close()


def pytorchjob_crd() -> dict[str, Any]:
    """As training-operator ships it."""
    manifests = programs.folder("training-operator") / "manifests"
    return objects_of(manifests / "base" / "crds" / "kubeflow.org_pytorchjobs.yaml")[0]


def _more_leases() -> list[dict[str, Any]]:
    """Operators that know nothing of each other hold Leases of other names."""
    metadata = {"name": "more-leases", "namespace": SYSTEM}
    group = "rbac.authorization.k8s.io"
    rule = {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": list(Lab.leases),
        "verbs": ["get", "update"],
    }
    return [
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "more-leases"},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": SYSTEM}],
        },
    ]


ACCOUNT = "cpt-cpt-operator"
_RIGHTS = frozenset({"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"})
_PATHS = {
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
}


async def apply(api: ApiServer, body: dict[str, Any]) -> None:
    """`kubectl apply --server-side` of what an installation consists of."""
    metadata = body["metadata"]
    path = _PATHS[body["kind"]].format(namespace=metadata.get("namespace", ""))
    query = {"fieldManager": "tests", "force": "true"}
    await api.request("apply", f"{path}/{metadata['name']}", query=query, body=body)


@pytest.fixture
async def team(lab: Lab) -> AsyncIterator[Team]:
    """A namespace of the test's own."""
    async with Team(lab, f"team-{next(_numbers)}") as team:
        yield team
