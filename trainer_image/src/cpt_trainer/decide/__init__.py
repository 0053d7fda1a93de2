"""`cpt-trainer decide`: one question over the item tables of other trials, and a small document that answers it.

    estimates.py        how good, how much better, how sure
    noise.py            how far two runs of one recipe lie apart
    race.py             one rung between the rates of one dataset
    learning_rate.py    question LearningRate: the document
    words.py            its sentences
    screening.py        question Screening: the document
    against.py          arms against the control
    joint.py, holm.py   the largest of several t's, many datasets at once
    judgement.py        from effects to Helps, Hurts, Unaffected, Undecided
    matrix.py           every dataset on every text
    screening_words.py  its sentences
    duration.py         question Duration: the document
    duration_words.py   its sentences
    mix.py              question Mix: the document
    mix_words.py        its sentences
    soup.py             question Soup: the document
    halves.py           half of the documents picks, the other confirms
    soup_words.py       its sentences
    proxy.py            question MixtureProxy: the document
    law.py              the loss of a mixture by its weights
    best_mixture.py     the weights at which a law promises most
    proxy_words.py      its sentences
    scaling.py          question Scaling: the document
    equivalent.py       how much compute the bases' line needs for the same
    scaling_words.py    its sentences
    suites.py           a suite's number as a sum of ratios
    document.py         what all questions share
    inputs.py           the only module here that reads the store; all others are pure

The same tables give the same document, on any machine and in any order: sums are exact, numbers have 9 significant
digits, and the method's version is named. No torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpt_api.trial import DecideWork, Question

if TYPE_CHECKING:
    from cpt_api.result import Decision
    from cpt_trainer.decide.document import Models
    from cpt_trainer.trial import Trial


def run(trial: Trial) -> None:
    """Answer the question of a Decide trial."""
    # imported here because tables.py, which inputs.py reads with, takes its estimates from this package
    from cpt_trainer.decide.inputs import read_models
    from cpt_trainer.trial import commit_result

    work = trial.spec.decide
    assert work is not None, "main chose the verb by the type"
    commit_result(trial, decision=answer(work, read_models(trial, work)))


def answer(work: DecideWork, models: Models) -> Decision:
    """Of the module that the question names."""
    from cpt_trainer.decide import duration, learning_rate, mix, proxy, scaling, screening, soup

    match work.question:
        case Question.LEARNING_RATE:
            return learning_rate.decide(work, models)
        case Question.SCREENING:
            return screening.decide(work, models)
        case Question.DURATION:
            return duration.decide(work, models)
        case Question.MIX:
            return mix.decide(work, models)
        case Question.SOUP:
            return soup.decide(work, models)
        case Question.MIXTURE_PROXY:
            return proxy.decide(work, models)
        case Question.SCALING:
            return scaling.decide(work, models)
