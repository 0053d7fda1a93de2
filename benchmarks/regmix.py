"""RegMix's public tables (512 mixtures) through MergeProxy's regression, against RegMix's own trees on the same rows.

    make bench NAME=regmix

Fitted is each of the 13 losses of the 512 models of 1M parameters, predicted are 256 other mixtures of such models, and
64 of models with 1B parameters. Printed is how well the order is met (Spearman's rank correlation, mean over the
losses), and the regret: how much worse the mixture is that looks best than the one that is best, in standard deviations
of the loss between mixtures. Also for as few rows as MergeProxy has merges, three for each domain and three.

The peer is LightGBM with the parameters of RegMix's notebook, which stops early by a look at the mixtures that it is
then measured on; ours does not look.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.outcome import Outcome, measured

from cpt_trainer.decide.law import fit
from regmix import Floats, Table, compare

PEER = ("lightgbm==4.6.0", "numpy==2.3.5")
GOAL = 0.95
"""Of our rank correlation."""


def run(folder: Path, peer: Path) -> Outcome:
    """Each on all rows and on few."""
    del folder  # nothing is written
    fitted = Table.read("fitted-1m")
    theirs = measured([peer, "-m", "benchmarks.peers.regmix_trees"], {}).answer
    for name in ("unseen-1m", "unseen-1b"):
        unseen = Table.read(name)
        ours = {"all": compare(_predict, [fitted], unseen), "few": compare(_predict, fitted.few(), unseen)}
        for rows, number in (("all", len(fitted.weights)), ("few", len(next(fitted.few()).weights))):
            print(f"{name}, {number} fitted: {_words(*ours[rows])}; LightGBM: {_words(*theirs[name][rows])}")
        if name == "unseen-1m":
            one, other = ours["all"][0], theirs[name]["all"][0]
    return Outcome(f"{one:.3f}", f"{other:.3f}", one / other, f"ours ≥ {GOAL}")


def _predict(fitted: Table, number: int, weights: Floats) -> Floats:
    return fit(fitted.weights, fitted.losses[:, number]).log_loss(weights)


def _words(rank_correlation: float, regret: float) -> str:
    return f"rank correlation {rank_correlation:.3f}, regret {regret:.2f} standard deviations"
