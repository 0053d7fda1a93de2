"""Letters after five worked examples: CPU seconds for 300 questions of MMLU against lm-eval on the same model.

    make bench NAME=eval_mmlu        after `make evaluation-data`

Both compute one pass for the four letters of a question; lm-eval does so by its logits cache, and without that four.
Ours computes the five examples once for a subject, and the head at one token of each question.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

from benchmarks.outcome import Outcome, spread
from benchmarks.scoring import Given, require_same

from evaluation_data import lm_eval_python
from real_items import questions

PEER = ()
"""lm-eval's environment is the one that tests have."""
SUBJECTS = ("astronomy", "high_school_biology", "professional_law")
ITEMS, SHOTS = 100, 5
ROUNDS = 3
GOAL, UNCACHED_GOAL = 4.0, 10.0


def run(folder: Path, peer: Path) -> Outcome:  # noqa: ARG001 - its environment is another
    """In turn; the ratio is the median of the rounds' ratios."""
    python = lm_eval_python()
    given = Given.of(folder, [q for subject in SUBJECTS for q in questions(f"mmlu/{subject}", ITEMS, SHOTS)])
    batch = given.best_batch(python)
    ours, theirs = [], []
    for number in range(ROUNDS):
        mine, other = given.ours(), given.theirs(python, batch)
        require_same(given, mine, other)
        ours.append(mine.cpu_seconds)
        theirs.append(other.cpu_seconds)
        print(f"round {number + 1}: ours {ours[-1]:.2f} CPU s, lm-eval {theirs[-1]:.2f} CPU s")
    uncached = given.theirs(python, batch, cached=False).cpu_seconds
    print(f"logits cache off: ours={median(ours):.2f} CPU s lm-eval={uncached:.2f} CPU s "
          f"ratio={uncached / median(ours):.1f} goal=≥ {UNCACHED_GOAL:.0f}x")  # fmt: skip
    ratio = median(a / b for a, b in zip(theirs, ours, strict=True))
    return Outcome(f"{spread(ours)} CPU s", f"{spread(theirs)} CPU s", ratio, f"≥ {GOAL:.0f}x")
