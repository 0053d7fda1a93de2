"""The least that training can be: forward, loss, backward, clip, step.

python -m benchmarks.peers.bare_loop FOLDER STEPS
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from benchmarks.peers.common import BATCH, given
from torch.nn import functional


def main(folder: Path, steps: int) -> None:
    """Train, and print the mean loss."""
    have = given(folder)
    rows = torch.from_numpy(have.rows)
    losses = []
    for step in range(steps):
        batch = rows[step * BATCH : (step + 1) * BATCH]
        logits = have.lm(input_ids=batch[:, :-1]).logits
        loss = functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(have.lm.parameters(), 1.0)
        for group in have.optimizer.param_groups:
            group["lr"] = have.rates[step]
        have.optimizer.step()
        have.optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    print(json.dumps({"meanLoss": sum(losses) / len(losses)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
