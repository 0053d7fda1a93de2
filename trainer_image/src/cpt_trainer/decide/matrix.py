"""The characterisation matrix: every dataset on every held-out text, at the rate where it was judged.

                linux    speeches
    python     +0.210*   -0.041       * stands out of all cells (Benjamini and Hochberg, 5 %)
    perl       +0.032    -0.012

Cells have effects and intervals, no verdicts: they say what a dataset is like, not whether to take it. On texts of the
target the rate was picked for its effect, so there the interval's lower end and the mark allow for the picking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cpt_api.digest import group_digest
from cpt_api.result import Cell
from cpt_api.trial import DecideWork
from cpt_api.values import Digest
from cpt_trainer.decide.against import Case, Compared
from cpt_trainer.decide.document import Scores, Texts, interval, shown
from cpt_trainer.decide.estimates import Estimated, level
from cpt_trainer.decide.holm import stands_out
from cpt_trainer.decide.judgement import two_sided
from cpt_trainer.decide.noise import RunNoise, run_noise, with_runs
from cpt_trainer.trial import known

_FALSE_MARKS = 0.05
"""Part of the marks that is expected to stand for nothing."""

Place = tuple[bool, int | None]
"""Whether among the texts of the target or of the retention, and which of them; None: a suite, as a whole."""
Columns = Mapping[Digest, Place]
"""Where a text's sums stand; the target's texts first."""


def columns(work: DecideWork) -> Columns:
    """Every text and suite of the question once."""
    places: dict[Digest, Place] = {}
    for is_target, metric in ((True, work.target), (False, work.retention)):
        if metric and metric.suite:
            places.setdefault(group_digest(metric.suite), (is_target, None))
        for number, text in enumerate(metric.texts if metric else ()):
            places.setdefault(known(text), (is_target, number))
    return places


def matrix(cases: Sequence[Case], texts: Columns, groups: Sequence[Sequence[Scores]]) -> dict[Digest, tuple[Cell, ...]]:
    """A row for each dataset; empty where nothing was compared, without intervals where run noise is unknown."""
    noises = {
        text: run_noise([[_texts(scores.target, scores.retention, place) for scores in group] for group in groups])
        for text, place in texts.items()
    }
    rows = {case: best for case in cases if (best := case.best)}
    found = {(case, text): _effect(best, texts[text], noises[text]) for case, best in rows.items() for text in texts}
    picked_from = {(case, text): len(case.compared) if texts[text][0] else 1 for case, text in found}
    sure = [key for key in found if noises[key[1]]]
    marks = stands_out([min(1.0, picked_from[key] * two_sided(found[key])) for key in sure], _FALSE_MARKS)
    marked = dict(zip(sure, marks, strict=True))
    return {
        case.dataset: tuple(
            Cell(
                effect=shown(found[case, text].value),
                interval=interval(found[case, text], picked_from=picked_from[case, text])
                if (case, text) in marked
                else None,
                marked=marked.get((case, text), False),
            )
            for text in (texts if case in rows else ())
        )
        for case in cases
    }


def _texts(target: Texts, retention: Texts, place: Place) -> Texts:
    is_target, number = place
    texts = target if is_target else retention
    return texts if number is None else [texts[number]]


def _effect(best: Compared, place: Place, noise: RunNoise | None) -> Estimated:
    effect = level(_texts(best.target, best.retention, place))
    return with_runs(effect, noise, best.runs) if noise else effect
