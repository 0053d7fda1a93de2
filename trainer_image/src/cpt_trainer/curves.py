"""Suites that a run is asked while it is trained, in the loop's own precision: a number now and then, for curves.

    step 0      core-offline 0.248        as at each step that held-out text is scored at
    step 500    core-offline 0.261

Nothing is decided by them and nothing is kept but the number, so a model that gives no finite one draws no point. No
randomness is used and no mode changed: training goes on as if nobody had asked.

Price: every rank asks everything, since sharded weights are gathered by all; training waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import structlog
import torch

from cpt_api.result import CurvePoint
from cpt_api.trial import Precision, SuiteWork
from cpt_trainer.base import Files
from cpt_trainer.decide.estimates import rounded
from cpt_trainer.errors import DataError
from cpt_trainer.evaluate.group import leaves, score
from cpt_trainer.evaluate.scorer import Scorer
from cpt_trainer.evaluate.suite_score import Opened, ask, open_suite
from cpt_trainer.model import Trainee
from cpt_trainer.parallel import TYPES
from cpt_trainer.process import Process
from cpt_trainer.tables import suite_items
from cpt_trainer.tokenizer import TokenizerFiles, tokenizer_of
from cpt_trainer.trial import Trial

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Curves:
    """What is asked, and who answers."""

    opened: Sequence[Opened]
    trainee: Trainee
    tokenizer: TokenizerFiles
    process: Process
    dtype: torch.dtype

    def points(self) -> list[CurvePoint]:
        """Of the weights as they are. All ranks call this together."""
        # a scorer of its own each time: it remembers what the weights made of a prefix
        scorer = Scorer(self.trainee, self.tokenizer, self.process.device, self.dtype)
        with _eager(self.process.device):
            return [point for suite in self.opened if (point := _point(suite, scorer))]


def open_curves(
    trial: Trial, suites: Sequence[SuiteWork], files: Files, trainee: Trainee, process: Process, precision: Precision
) -> Curves:
    """Suites and items are read and checked, before anything is computed."""
    opened = [open_suite(trial, wanted) for wanted in suites]
    return Curves(opened, trainee, tokenizer_of(files), process, TYPES[precision])


def _point(opened: Opened, scorer: Scorer) -> CurvePoint | None:
    suite = opened.suite
    try:
        items = suite_items(suite.name, ask(opened, scorer).rows)
    except DataError as error:
        log.warning("no_point", suite=suite.name, why=str(error))
        return None
    found = score(leaves(suite, suite.groups[0], items))
    return CurvePoint(suite=suite.name, value=rounded(found.value), standard_error=rounded(found.standard_error))


def _eager(device: torch.device) -> AbstractContextManager[object]:
    """Each pass has a shape of its own: blocks that are compiled for training would be compiled for each."""
    return torch.compiler.set_stance("force_eager") if device.type == "cuda" else nullcontext()
