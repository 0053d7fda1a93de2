"""A real Kubernetes cluster on one Linux machine, for the demo and the tests; nothing outside this package knows how.

    python -m cpt_local up --name cpt --nodes 1     make cluster
    python -m cpt_local down --name cpt             make cluster-down

Upstream programs are built from their Go modules, the rest comes from Debian's packages and PyPI. No Docker.
"""
