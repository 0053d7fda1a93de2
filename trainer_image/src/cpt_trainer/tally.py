"""What a step found, on this rank and then on all: the one reduction of a step besides those of sharding.

    tally = Tally.of(trainee, share, datasets, process)      gradients of the summed loss are in place
    tally.square, tally.stop, tally.save = …                 what else all ranks must know alike
    tally = tally.summed(process)

So all ranks divide by the same count of valid tokens, skip the same steps, and stop and save after the same step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cpt_api.values import Digest
from cpt_trainer.batches import Share
from cpt_trainer.loss import IGNORED
from cpt_trainer.model import Trainee
from cpt_trainer.process import Process


@dataclass(slots=True)
class Tally:
    """What a step found: on this rank, then summed over all."""

    datasets: Sequence[Digest]
    """In the order of the lists."""
    nats: list[float]
    """Loss of each dataset."""
    valid: list[float]
    """Targets that count, of each dataset."""
    square: float = 0.0
    """Squared norm of the gradient of the summed loss."""
    pairs: float = 0.0
    stop: float = 0.0
    """Ranks that were asked to end."""
    save: float = 0.0
    """1 where rank 0 wants a checkpoint."""

    @classmethod
    def of(cls, trainee: Trainee, share: Share, datasets: Sequence[Digest], process: Process) -> Tally:
        """Forward and backward through this rank's share: gradients of the summed loss."""
        nats, valid = dict.fromkeys(datasets, 0.0), dict.fromkeys(datasets, 0.0)
        for batch, origins in zip(share.batches, share.datasets, strict=True):
            nats_BT = trainee(batch.to(process.device))
            nats_BT.sum().backward()
            sums = nats_BT.detach().double().sum(dim=1).tolist()
            counts = (batch.targets_BT != IGNORED).sum(dim=1).tolist()
            for dataset, found, count in zip(origins, sums, counts, strict=True):
                if dataset is not None:
                    nats[dataset] += found
                    valid[dataset] += count
        return cls(datasets, list(nats.values()), list(valid.values()), pairs=share.pairs)

    def summed(self, process: Process) -> Tally:
        """Over all ranks: the one reduction of a step."""
        count = len(self.datasets)
        found = process.sum([*self.nats, *self.valid, self.square, self.pairs, self.stop, self.save])
        return Tally(self.datasets, found[:count], found[count : 2 * count], *found[2 * count :])

    @property
    def loss(self) -> float:
        """Mean over all targets that count."""
        return sum(self.nats) / sum(self.valid)

    def losses(self) -> dict[Digest, float]:
        """Mean of each dataset that was in the batch."""
        parts = zip(self.datasets, self.nats, self.valid, strict=True)
        return {name: nats / valid for name, nats, valid in parts if valid and math.isfinite(nats)}
