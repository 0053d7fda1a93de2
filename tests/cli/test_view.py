"""What `kubectl cpt status` shows of an object."""

from __future__ import annotations

from kubectl_cpt.cluster import view
from kubectl_cpt.cluster.objects import Experiment
from make import make_experiment


def test_what_it_has_cost() -> None:
    """GPU-seconds at a price, where one is told."""
    ledger = {"tokensTrained": "1000000", "tokensReused": "0", "tokensNaive": "0", "gpuSeconds": 7200, "flops": "1e15"}
    body = {
        "metadata": {"name": "sweep", "namespace": "team", "generation": 1, "uid": "u"},
        "spec": make_experiment().to_dict(),
        "status": {"observedGeneration": 1, "ledger": ledger},
    }
    told = view.screen(Experiment(body), [], per_gpu_hour=2.5)
    assert "7,200 GPU-seconds, 5.00 at 2.50 per GPU-hour" in told
    assert "per GPU-hour" not in view.screen(Experiment(body), [])
