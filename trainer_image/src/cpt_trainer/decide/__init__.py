"""`cpt-trainer decide`: one question over the item tables of other trials, and a small document that answers it.

    estimates.py        how good, how much better, how sure
    noise.py            how far two runs of one recipe lie apart
    race.py             one rung between the rates of one dataset
    learning_rate.py    question LearningRate: the document
    words.py            its sentences
    inputs.py           the only module here that reads the store; all others are pure

The same tables give the same document, on any machine and in any order: sums are exact, numbers have 9 significant
digits, and the method's version is named. No torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cpt_trainer.trial import Trial


def run(trial: Trial) -> None:
    """Answer the question of a Decide trial."""
    # imported here because tables.py, which inputs.py reads with, takes its estimates from this package
    from cpt_trainer.decide.inputs import read_models
    from cpt_trainer.decide.learning_rate import decide
    from cpt_trainer.trial import commit_result

    work = trial.spec.decide
    assert work is not None, "main chose the verb by the type"
    commit_result(trial, decision=decide(work, read_models(trial, work)))
