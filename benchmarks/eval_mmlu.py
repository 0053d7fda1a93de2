"""Letters after five worked examples: CPU seconds for 300 questions of MMLU against lm-eval on the same model.

    make bench NAME=eval_mmlu        after `make evaluation-data`

Both compute one pass for the four letters of a question; lm-eval does so by its logits cache, and without that four.
Ours computes the five examples once for a subject, and the head at one token of each question.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

from benchmarks.outcome import Outcome
from benchmarks.scoring import Given, in_turn, outcome

from evaluation_data import lm_eval_python
from real_items import questions

PEER = ()
"""lm-eval's environment is the one that tests have."""
SUBJECTS = ("astronomy", "high_school_biology", "professional_law")
ITEMS, SHOTS = 100, 5
GOAL, UNCACHED_GOAL = 4.0, 10.0


def run(folder: Path, peer: Path) -> Outcome:  # noqa: ARG001 - its environment is another
    """In turn; the ratio is the median of the rounds' ratios."""
    python = lm_eval_python()
    given = Given.of(folder, [q for subject in SUBJECTS for q in questions(f"mmlu/{subject}", ITEMS, SHOTS)])
    batch = given.best_batch(python)
    ours, theirs = in_turn(given, python, batch)
    uncached = given.theirs(python, batch, cached=False).cpu_seconds
    print(f"logits cache off: ours={median(ours):.2f} CPU s lm-eval={uncached:.2f} CPU s "
          f"ratio={uncached / median(ours):.1f} goal=≥ {UNCACHED_GOAL:.0f}x")  # fmt: skip
    return outcome(ours, theirs, GOAL)
