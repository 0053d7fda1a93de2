"""RegMix's regression (regression_fitting/regression.ipynb): LightGBM, one model for each loss."""

from __future__ import annotations

import json

import lightgbm
import numpy as np

from regmix import Floats, Table, compare

PARAMETERS = {"objective": "regression", "metric": "l2", "seed": 42, "learning_rate": 1e-2, "verbosity": -1}
ROUNDS, PATIENCE = 1000, 3


def main() -> None:
    """Rank correlation and regret of each table, fitted on all rows and on few, as JSON."""
    fitted = Table.read("fitted-1m")
    found = {
        name: {
            "all": compare(_predict, [fitted], Table.read(name)),
            "few": compare(_predict, fitted.few(), Table.read(name)),
        }
        for name in ("unseen-1m", "unseen-1b")
    }
    print(json.dumps(found))


def _predict(fitted: Table, number: int, weights: Floats) -> Floats:
    """Stops early by the mixtures of the small models, as the notebook does."""
    own = Table.read("unseen-1m")
    rows = lightgbm.Dataset(fitted.weights, fitted.losses[:, number])
    trees = lightgbm.train(
        PARAMETERS,
        rows,
        ROUNDS,
        valid_sets=[lightgbm.Dataset(own.weights, own.losses[:, number], reference=rows)],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )
    return np.asarray(trees.predict(weights))


if __name__ == "__main__":
    main()
