"""Hugging Face's Trainer on the same sequences, in their order, with the loss on the same targets.

    python -m benchmarks.peers.hf_trainer FOLDER STEPS

Defaults wherever they change nothing about what is computed; no checkpoints, no reports to trackers.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch
from benchmarks.peers.common import BATCH, given
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments


class Rows(Dataset[dict[str, torch.Tensor]]):
    """Our sequences. `shift_labels` are the targets as they are: the last one would be lost otherwise."""

    def __init__(self, rows: torch.Tensor) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        row = self._rows[number]
        return {"input_ids": row[:-1], "labels": row[:-1], "shift_labels": row[1:]}


def main(folder: Path, steps: int) -> None:
    """Train, and print the mean loss."""
    have = given(folder)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        have.optimizer, lambda step: have.rates[min(step, len(have.rates) - 1)]
    )
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            max_steps=steps,
            per_device_train_batch_size=BATCH,
            max_grad_norm=1.0,
            logging_steps=10,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            remove_unused_columns=False,
            train_sampling_strategy="sequential",
            disable_tqdm=True,
        )
        trainer = Trainer(
            model=have.lm,
            args=arguments,
            train_dataset=Rows(torch.from_numpy(have.rows)),
            optimizers=(have.optimizer, schedule),
        )
        print(json.dumps({"meanLoss": trainer.train().training_loss}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
