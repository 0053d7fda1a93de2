"""One control plane, one S3 and one ServiceAccount for all tests of this folder; each test has its own namespace."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.controlplane import ControlPlane, control_plane, objects_of
from cpt_local import programs
from cpt_operator.apiserver import ApiServer
from cluster.harness import SYSTEM, Lab, Team
from cluster.seaweed import seaweed

ROOT = Path(__file__).parents[2]
_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them need the control plane."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The real thing, shared."""
    folder = tmp_path_factory.mktemp("lab")
    binaries = programs.folder("kubernetes")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PATH", f"{programs.folder('helm')}:{os.environ['PATH']}")
        with control_plane(binaries, folder) as plane, seaweed(folder) as store:
            token = _install(plane)
            yield Lab(plane, store, folder, token)


def _install(plane: ControlPlane) -> str:
    """Our kinds, training-operator's kind, and the chart's ServiceAccount; its token."""
    import asyncio

    return asyncio.run(_installed(plane))


async def _installed(plane: ControlPlane) -> str:
    from chart import rendered

    api = await ApiServer.login(str(plane.kubeconfig))
    try:
        await api.request("create", "/api/v1/namespaces", body={"metadata": {"name": SYSTEM}})
        for crd in (*objects_of(*(ROOT / "crds").glob("*.yaml")), pytorchjob_crd()):
            await apply(api, crd)
        for body in rendered().objects:
            if body["kind"] in ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"):
                await apply(api, dict(body))
        path = f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/cpt-cpt-operator/token"
        spec = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 86_400}}
        token: str = (await api.request("create", path, body=spec))["status"]["token"]
        while not (
            await api.serves("/apis/cpt.dev/v1alpha1", "cpttrials")
            and await api.serves("/apis/kubeflow.org/v1", "pytorchjobs")
        ):
            pass
        return token
    finally:
        await api.close()


def pytorchjob_crd() -> dict[str, Any]:
    """As training-operator ships it."""
    manifests = programs.folder("training-operator") / "manifests"
    return objects_of(manifests / "base" / "crds" / "kubeflow.org_pytorchjobs.yaml")[0]


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
