"""A model on a suite: every task asked as a whole, then the table, then the suite's numbers.

    opened = open_suite(trial, work)        suite and items are read and checked, before a GPU is busy
    asked = ask(opened, scorer)             posed and answered, task by task
    publish(trial, asked, scorer)           the item table, and what stands in result.json

A task that is missing, an item that has another digest than the suite asks for, an answer that is lost: each ends it.
A mean over what is left would be another number under the same name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import structlog

from cpt_api.model import canonical_json, sha256
from cpt_api.result import GroupScore, Output, SuiteScore
from cpt_api.trial import SuiteWork
from cpt_trainer.decide.estimates import rounded
from cpt_trainer.evaluate.answers import Spoken, answered
from cpt_trainer.evaluate.group import leaves, score
from cpt_trainer.evaluate.items import ItemFolder, ItemSet
from cpt_trainer.evaluate.prompts import PosedTask, pose
from cpt_trainer.evaluate.requests import Completion, Likelihood, Question
from cpt_trainer.evaluate.sanity import gate
from cpt_trainer.evaluate.scorer import Scorer
from cpt_trainer.evaluate.suite import Suite
from cpt_trainer.evaluate.suite_file import suite_of
from cpt_trainer.evaluate.suite_table import About, Scoring, TaskItems, write_prompts, write_suite_table
from cpt_trainer.sources import open_source
from cpt_trainer.tables import Row, suite_items
from cpt_trainer.trial import Trial

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Opened:
    """A suite of a trial with its items, before a model is there."""

    work: SuiteWork
    suite: Suite
    items: Mapping[str, ItemSet]
    """By task."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a model said to all of it."""

    opened: Opened
    tasks: tuple[PosedTask, ...]
    rows: tuple[Row, ...]


def open_suite(trial: Trial, work: SuiteWork) -> Opened:
    """One that is shipped, or the user's own beside the items."""
    files = open_source(trial, work.items)
    suite, folder = suite_of(work.suite, files), ItemFolder(files.store)
    return Opened(work, suite, {task.name: folder.read_for(task) for task in suite.tasks})


def ask(opened: Opened, scorer: Scorer) -> Asked:
    """All ranks call this with the same suite."""
    tasks: list[PosedTask] = []
    rows: list[Row] = []
    for task in opened.suite.tasks:
        posed = pose(task, opened.items[task.name])
        rows += answered(posed, _main(posed, scorer), _texts(posed, scorer))
        tasks.append(posed)
        log.info("task", suite=opened.suite.name, task=task.name, items=len(posed.items))
    return Asked(opened, tuple(tasks), tuple(rows))


def _main(posed: PosedTask, scorer: Scorer) -> Sequence[Spoken]:
    questions = [one.main for one in posed.items if isinstance(one.main, Question)]
    completions = [one.main for one in posed.items if isinstance(one.main, Completion)]
    return scorer.likelihoods(questions) if questions else scorer.completions(completions)


def _texts(posed: PosedTask, scorer: Scorer) -> Sequence[tuple[Likelihood, ...]]:
    """The second pass of a letter task."""
    texts = [one.text for one in posed.items if one.text is not None]
    return scorer.likelihoods(texts) if texts else ()


def publish(trial: Trial, asked: Asked, scorer: Scorer) -> tuple[SuiteScore, list[Output]]:
    """Write the item table and the prompts. Raises DataError for answers that cannot be meant."""
    suite = asked.opened.suite
    fingerprint = asdict(scorer.fingerprint)
    about = About(
        suite=suite,
        tasks=tuple(_asked_of(asked.opened, posed) for posed in asked.tasks),
        scoring=Scoring(protocol=trial.document.protocol, fingerprint=fingerprint, tokenizer=scorer.observed.tokenizer),
    )
    items = suite_items(suite.name, asked.rows)
    warnings = gate(suite, items)
    table = write_suite_table(trial.store, trial.data, about, items)
    prompts = write_prompts(trial.store, trial.data, suite, asked.tasks)
    found = [(group, score(leaves(suite, group, items))) for group in suite.groups]
    published = SuiteScore(
        suite=asked.opened.work.suite,
        digest=suite.digest,
        fingerprint=sha256(canonical_json(fingerprint)),
        groups=tuple(
            GroupScore(
                group=group.name,
                measure=group.measure.value,
                value=rounded(estimate.value),
                standard_error=rounded(estimate.standard_error),
            )
            for group, estimate in found
        ),
        items=len(items),
        warnings=warnings,
        table=table.key,
    )
    return published, [table, prompts]


def _asked_of(opened: Opened, posed: PosedTask) -> TaskItems:
    name = posed.task.name
    digest = opened.items[name].file.digest
    return TaskItems(task=name, digest=digest, scored=len(posed.items), contaminated=posed.contaminated)
