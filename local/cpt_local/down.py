"""`make cluster-down`: nothing is left, whatever state the cluster is in, also when its files are gone.

Processes and cables are found by the names of network namespaces, pods by the cluster's control group; mounts belong to
the nodes' own mount namespaces and end with their processes. Price: 2 s, for removing files.
"""

from __future__ import annotations

import contextlib
import shutil

from cpt_local import cgroups, network, s3
from cpt_local.cluster import Cluster, locked, state_root
from cpt_local.errors import MissingClusterError


def down(name: str) -> bool:
    """Remove a cluster; whether there was anything to remove."""
    with locked(name):
        return remove(name)


def remove(name: str) -> bool:
    """As `down`, for those who hold the cluster already."""
    namespaces, folder = network.of_cluster(name), state_root() / name
    found = bool(namespaces or folder.exists() or cgroups.leftovers(name))
    # nodes first: a node's processes would otherwise report that the control plane is gone
    for namespace in reversed(namespaces):
        network.destroy(namespace)
    with contextlib.suppress(MissingClusterError):  # `up` did not get as far as that
        cluster = Cluster.find(name)
        network.cut_cable(cluster)
        s3.remove_sockets(cluster)
    cgroups.remove(name)
    if folder.exists():
        shutil.rmtree(folder)
    return found
