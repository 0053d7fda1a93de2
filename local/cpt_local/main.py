"""The command line: `python -m cpt_local {up,down,status,kubeconfig,…}`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence

from cpt_local import node, tenants
from cpt_local import up as up_module
from cpt_local.cluster import Cluster, check_name, names
from cpt_local.down import down
from cpt_local.errors import LocalError, MissingClusterError

_DEFAULT = up_module.Wish()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = _parser().parse_args(arguments)
    # a shell of `su` or `cron` has no sbin, where most of our programs are
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    try:
        options.run(options)
    except LocalError as error:
        print(f"cpt-local: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\ncpt-local: interrupted; the next `up` or `down` removes what is there", file=sys.stderr, flush=True)
        os._exit(130)  # steps that wait for something would be waited for
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cpt_local", description="A real Kubernetes cluster on this machine."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--name", default=_DEFAULT.name, help="which cluster; several stand side by side (%(default)s)")

    up = commands.add_parser("up", parents=[shared], help="make the cluster, or complete the one that runs")
    up.add_argument("--nodes", type=int, default=_DEFAULT.nodes, choices=range(1, 10), help="how many (%(default)s)")
    up.add_argument("--namespace", action="append", default=[], help="ready for experiments, besides demo; repeatable")
    up.add_argument("--fake-gpus", type=int, default=_DEFAULT.fake_gpus, metavar="N",
                    help=f"amount of {node.FAKE_GPU} on each node (%(default)s)")  # fmt: skip
    up.add_argument("--without-training-operator", action="store_true", help="a later `up` without this adds it")
    up.add_argument("--without-chart", action="store_true", help="do not install our operator")
    up.add_argument("--kwok", action="store_true", help="look after fake nodes, for tests of scale")
    up.set_defaults(run=_up)

    for name, function, text in (
        ("down", _down, "remove a cluster without a trace"),
        ("status", _status, "what runs, and where"),
        ("kubeconfig", _kubeconfig, "print the path, for KUBECONFIG=$(…)"),
    ):
        commands.add_parser(name, parents=[shared], help=text).set_defaults(run=function)
    for name, function, argument, text in (
        ("kill-node", _kill_node, "node", "lose a node, as by a power cut"),
        ("start-node", _start_node, "node", "bring a lost node back, empty"),
        ("add-namespace", _add_namespace, "namespace", "make a namespace ready for experiments"),
    ):
        command = commands.add_parser(name, parents=[shared], help=text)
        command.add_argument(argument)
        command.set_defaults(run=function)
    return parser


def _up(options: argparse.Namespace) -> None:
    cluster = up_module.up(
        up_module.Wish(
            name=check_name(options.name),
            nodes=options.nodes,
            namespaces=tuple(dict.fromkeys([*_DEFAULT.namespaces, *options.namespace])),
            training_operator=not options.without_training_operator,
            chart=not options.without_chart,
            kwok=options.kwok,
            fake_gpus=options.fake_gpus,
        )
    )
    print(f"\nexport KUBECONFIG={cluster.kubeconfig}")
    if shutil.which("kubectl") is None:
        print(f"alias kubectl={cluster.program('kubectl')}")
    print(f"# S3 {cluster.s3_endpoint}, Prometheus {cluster.prometheus_url}")


def _down(options: argparse.Namespace) -> None:
    found = down(check_name(options.name))
    print(f"cluster {options.name} is removed" if found else f"there is no cluster {options.name}, nothing was done")


def _status(options: argparse.Namespace) -> None:
    cluster = Cluster.find(options.name)
    troubles = up_module.ailments(cluster)
    print(f"cluster {cluster.name}: {'; '.join(troubles) or 'healthy'}")
    for what, where in {
        "KUBECONFIG": cluster.kubeconfig,
        "API server": cluster.api_url,
        "S3": cluster.s3_endpoint,
        "Prometheus": cluster.prometheus_url,
        "audit log": cluster.audit_log,
        "logs": cluster.folder / "logs",
    }.items():
        print(f"  {what:11} {where}")
    for name in cluster.node_names:
        print(f"  {name:11} {cluster.node_address(name)} {'alive' if node.is_alive(cluster, name) else 'dead'}")
    others = [name for name in names() if name != cluster.name]
    if others:
        print(f"  others      {', '.join(others)}")
    if troubles:
        raise MissingClusterError(
            f"cluster {cluster.name} is not whole: `start-node` brings a node back, `up` makes all of it anew"
        )


def _kubeconfig(options: argparse.Namespace) -> None:
    print(Cluster.find(options.name).kubeconfig)


def _kill_node(options: argparse.Namespace) -> None:
    node.kill_node(Cluster.find(options.name), options.node)


def _start_node(options: argparse.Namespace) -> None:
    up_module.restart_node(Cluster.find(options.name), options.node)


def _add_namespace(options: argparse.Namespace) -> None:
    tenants.add(Cluster.find(options.name), options.namespace)
