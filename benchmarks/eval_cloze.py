"""Endings: CPU seconds for HellaSwag, ARC and PIQA against lm-eval on the same model, with 10 examples and with none.

    make bench NAME=eval_cloze       after `make evaluation-data`

lm-eval computes the whole text for each choice. Ours computes the examples once for a task, and what stands before the
choices once for a question.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.outcome import Outcome
from benchmarks.scoring import Given, in_turn, outcome

from evaluation_data import lm_eval_python
from real_items import questions

PEER = ()
"""lm-eval's environment is the one that tests have."""
TASKS = ("hellaswag", "arc_easy", "arc_challenge", "piqa")
ITEMS = {10: 40, 0: 250}
"""By examples."""
GOALS = {10: 4.0, 0: 1.3}


def run(folder: Path, peer: Path) -> Outcome:  # noqa: ARG001 - its environment is another
    """In turn; ratios are medians of the rounds' ratios."""
    python = lm_eval_python()
    without, with_examples = (_compared(folder / f"{shots}-shot", python, shots) for shots in (0, 10))
    print(f"0-shot: ours={without.ours} lm-eval={without.peer} ratio={without.ratio:.2f} goal={without.goal}")
    return with_examples


def _compared(folder: Path, python: Path, shots: int) -> Outcome:
    given = Given.of(folder, [q for task in TASKS for q in questions(task, ITEMS[shots], shots)])
    return outcome(*in_turn(given, python, given.best_batch(python), f"{shots}-shot, "), GOALS[shots])
