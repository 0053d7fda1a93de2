"""`make cluster`: everything that a cluster needs, at the same time where it can be.

    programs, Debian tree ─┬─ network ─┬─ API server ─┬─ controllers, DNS, Prometheus, namespaces
                           │           │              ├─ nodes Ready ── training-operator
                           │           ├─ node: containerd ── images ──┘
                           │           └─ S3 ── our chart

A cluster that `up` finds whole is kept, and what is asked for and missing is added. What an earlier `up` left when it
was killed is removed first.
"""

from __future__ import annotations

import compileall
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cpt_local import (
    chart,
    controlplane,
    host,
    images,
    kwok,
    network,
    node,
    pki,
    programs,
    prometheus,
    s3,
    tenants,
    training_operator,
)
from cpt_local.cluster import Cluster, all_locked, free_number, locked, taken_numbers
from cpt_local.down import remove
from cpt_local.errors import LocalError, MissingClusterError
from cpt_local.processes import daemon_pid
from cpt_local.steps import Steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the user asked for."""

    name: str = "cpt"
    nodes: int = 1
    namespaces: tuple[str, ...] = ("demo",)
    training_operator: bool = True
    chart: bool = True
    kwok: bool = False
    fake_gpus: int = 8

    @property
    def upstream(self) -> list[str]:
        """Modules whose programs are needed; helm also renders what Prometheus scrapes."""
        optional = {"training-operator": self.training_operator, "kwok": self.kwok}
        return ["kubernetes", "coredns", "helm", "pause", *(name for name, wanted in optional.items() if wanted)]


def up(wish: Wish) -> Cluster:
    """Make the cluster, or complete the one that is there."""
    host.check(wish.upstream)
    _build(wish.upstream)
    with locked(wish.name):
        cluster = _existing(wish)
        return _make(wish) if cluster is None else _complete(cluster, wish)


def _build(upstream: Sequence[str]) -> None:
    """Build what is not there yet, one after another: each build uses the whole machine."""
    with Steps() as steps:
        before: list[Future[Path]] = []
        for name in upstream:
            if not programs.is_made(name):
                before = [steps.start(f"{name} built", programs.folder, name, after=before)]


def ailments(cluster: Cluster) -> list[str]:
    """What is not as `up` left it; empty when all is there and answers."""
    if not cluster.complete:
        return ["`up` did not reach its end"]
    daemons = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "coredns", "s3"]
    daemons += ["discovery", "prometheus"]
    daemons += [f"{name}-{part}" for name in cluster.node_names for part in ("containerd", "kubelet", "kube-proxy")]
    daemons += ["kwok"] if cluster.kwok else []
    dead = [f"{daemon} is dead" for daemon in daemons if not daemon_pid(cluster.folder, daemon)]
    if dead:
        return dead
    if not controlplane.is_ready(cluster):
        return ["the API server is not ready"]
    return [f"{name} is not Ready" for name in cluster.node_names if not node.is_ready(cluster, name)]


def _existing(wish: Wish) -> Cluster | None:
    try:
        cluster = Cluster.find(wish.name)
        troubles = ailments(cluster)
    except MissingClusterError:
        troubles = ["it has no files"]
    if troubles:
        if remove(wish.name):
            print(f"removed what was left of an earlier cluster {wish.name}: {'; '.join(troubles)}", flush=True)
        return None
    if (cluster.nodes, cluster.fake_gpus) != (wish.nodes, wish.fake_gpus):
        raise LocalError(
            f"cluster {wish.name} runs with {cluster.nodes} nodes of {cluster.fake_gpus} fake GPUs, asked for are "
            f"{wish.nodes} of {wish.fake_gpus}: run `python -m cpt_local down --name {wish.name}` first, or take "
            "another name"
        )
    return cluster


def _reserve(wish: Wish) -> Cluster:
    """Take a free number, safe from other commands that do the same now."""
    with all_locked():
        cluster = Cluster(
            name=wish.name,
            number=free_number(network.host_routes(), taken_numbers()),
            nodes=wish.nodes,
            kwok=wish.kwok,
            fake_gpus=wish.fake_gpus,
            training_operator=False,
            chart=False,
        )
        cluster.save()
    return cluster


def _make(wish: Wish) -> Cluster:
    cluster = _reserve(wish)
    programs.link(wish.upstream, cluster.folder / "bin")
    s3.add_identities(cluster, [s3.ADMIN, s3.OPERATOR, *wish.namespaces])
    with Steps() as steps:
        archive = steps.start("container images written", _write_images, cluster, wish)
        network_up = steps.start("network", network.create_control_plane, cluster)
        keys = steps.start("certificates and tokens", pki.create, cluster)
        api = steps.start("etcd and API server", controlplane.start_api_server, cluster, after=[network_up, keys])
        store = steps.start("S3", s3.start, cluster, after=[network_up])
        steps.start("controller manager and scheduler", controlplane.start_controllers, cluster, after=[api])
        steps.start("DNS", controlplane.start_dns, cluster, after=[api])
        steps.start("Prometheus", prometheus.start, cluster, after=[api])
        spaces = steps.start("namespaces", tenants.add, cluster, *wish.namespaces, after=[api])
        system = steps.start(f"namespace {tenants.SYSTEM}", tenants.add_system, cluster, after=[api])
        nodes: list[Future[Any]] = []
        for name in cluster.node_names:
            nodes += _start_node(steps, cluster, name, archive, network_up, api)
        if wish.kwok:
            steps.start("kwok", kwok.start, cluster, after=[api])
        before_chart = [store, system, spaces, *nodes]
        if wish.training_operator:  # before our operator, which starts anew when PyTorchJob appears
            before_chart.append(_start_training_operator(steps, cluster, nodes, after=[api]))
        if wish.chart:
            steps.start("our chart", chart.install, cluster, after=before_chart)
    cluster = replace(cluster, complete=True, training_operator=wish.training_operator, chart=wish.chart)
    cluster.save()
    return cluster


def _start_node(
    steps: Steps, cluster: Cluster, name: str, archive: Future[Path], network_up: Future[Any], api: Future[Any]
) -> list[Future[Any]]:
    runtime = steps.start(f"{name}: containerd", node.start, cluster, name, images.shown_folders(), after=[network_up])
    imported = _import_images(steps, cluster, name, after=[runtime, archive])
    ready = steps.start(f"{name}: Ready", node.join, cluster, name, cluster.fake_gpus, after=[runtime, api])
    return [imported, ready]


def _start_training_operator(
    steps: Steps, cluster: Cluster, images_there: Sequence[Future[Any]], after: Sequence[Future[Any]] = ()
) -> Future[None]:
    """Has begun once the returned step is done, and is available when the block of steps ends."""
    applied = steps.start("training-operator's manifests", training_operator.apply, cluster, after=after)
    crds = steps.start("CRDs of other frameworks", training_operator.apply_other_frameworks, cluster, after=[applied])
    steps.start("training-operator available", training_operator.wait, cluster, after=[crds, *images_there])
    return applied


def _import_images(steps: Steps, cluster: Cluster, name: str, after: Sequence[Future[Any]]) -> Future[None]:
    return steps.start(f"{name}: images", node.import_images, cluster, name, _archive(cluster), after=after)


def restart_node(cluster: Cluster, name: str) -> None:
    """Bring a lost node back, empty, as a machine that was replaced.

    Raises LocalError when the cluster has no such node.
    """
    if name not in cluster.node_names:
        raise LocalError(f"cluster {cluster.name} has no node {name!r}, only {', '.join(cluster.node_names)}")
    with locked(cluster.name):
        node.remove(cluster, name)
        node.start(cluster, name, images.shown_folders())
        node.import_images(cluster, name, _archive(cluster))
        node.join(cluster, name, cluster.fake_gpus)


def _complete(cluster: Cluster, wish: Wish) -> Cluster:
    """Add what is asked for and missing; our chart is upgraded in any case, its sources may have changed."""
    print(f"cluster {cluster.name} runs already", flush=True)
    programs.link(wish.upstream, cluster.folder / "bin")
    completed = replace(
        cluster,
        kwok=cluster.kwok or wish.kwok,
        training_operator=cluster.training_operator or wish.training_operator,
        chart=cluster.chart or wish.chart,
    )
    with Steps() as steps:
        spaces = steps.start("namespaces", tenants.add, cluster, *wish.namespaces)
        if wish.kwok and not cluster.kwok:
            steps.start("kwok", kwok.start, cluster)
        if wish.training_operator and not cluster.training_operator:
            archive = steps.start("container images written", _write_images, cluster, wish)
            imported = [_import_images(steps, cluster, name, after=[archive]) for name in cluster.node_names]
            _start_training_operator(steps, cluster, imported)
        if wish.chart:
            steps.start("our chart", chart.install, completed, after=[spaces])
    completed.save()
    return completed


def _archive(cluster: Cluster) -> Path:
    return cluster.folder / "images.tar"


def _write_images(cluster: Cluster, wish: Wish) -> Path:
    pause = images.Image(images.PAUSE, images.program_layer(programs.folder("pause") / "pause", "/pause"), ("/pause",))
    upstream: Sequence[images.Image] = [training_operator.image()] if wish.training_operator else []
    own = images.ours(*chart.images(), images.debian_layer())
    images.write_archive(_archive(cluster), [pause, *own, *upstream])
    for folder in images.source_folders():  # containers, which may not write there, would compile them in every pod
        compileall.compile_dir(folder, quiet=2)
    return _archive(cluster)
