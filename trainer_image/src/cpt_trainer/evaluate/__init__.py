"""`evaluate`: what a model scores on held-out texts, and on the items of suites.

The verb is `trial.py`; it needs torch. Suites, items, prompts, groups and comparisons do not, so nothing is
imported here.
"""

from __future__ import annotations

from cpt_trainer.trial import Trial


def run(trial: Trial) -> None:
    """Score and commit."""
    from cpt_trainer.evaluate.trial import run as score  # torch takes two seconds to import

    score(trial)
