"""Looking after experiments on a cluster: everything that `kubectl cpt` does there goes through kubectl.

So contexts, logins and proxies are kubectl's own, and starting costs nothing. The objects are read as the operator
writes them; the only things ever changed are fields that belong to people: `spec.suspend`, `run.cancel`, and the
existence of a failed trial.
"""
