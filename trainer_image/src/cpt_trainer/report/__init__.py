"""`report`: one page, figures and tables of what an experiment found. The same results give the same bytes.

    findings.py    what there is to show, read from the store; all other modules here are pure
    sweep.py       a section of the page: which learning rate suits each dataset
    screening.py   a section of the page: which datasets help
    durations.py   a section of the page: how long
    mixes.py       a section of the page: which mix
    soup.py        a section of the page: which mean of the base and a trained model is released
    scaling.py     a section of the page: what it is worth on other models
    ledger.py      a section of the page: what it cost
    section.py     what a section is: words, figures, tables
    panels.py      what figures about a metric share
    drawing.py     matplotlib with everything fixed that could differ between machines
    page.py        sections to one HTML file, which asks for nothing from outside
    card.py        the model card of what the experiment ended with

A further stage of the recipe is one more file with a `section()`, named in `_sections`. Below the trial's data prefix:

    report.html  report.json  model-card.md  figures/ledger.svg  figures/ledger.png  tables/ledger.csv  …

Price: a GET for each decision, and half a second for each figure; matplotlib takes a second to import.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from cpt_api.layout import REPORT_PAGE
from cpt_api.result import Output

if TYPE_CHECKING:
    from cpt_trainer.report.findings import Findings
    from cpt_trainer.report.section import Section
    from cpt_trainer.trial import Trial

Files = dict[str, bytes]
"""By key below the trial's data prefix."""


def run(trial: Trial) -> None:
    """Read, draw, write, commit."""
    from cpt_trainer.report.findings import read_findings
    from cpt_trainer.trial import commit_result

    files = make_report(read_findings(trial))
    for key, data in files.items():
        trial.store.put(trial.data + key, data)
    outputs = tuple(
        Output(key=key, bytes=len(data), sha256=hashlib.sha256(data).hexdigest()) for key, data in files.items()
    )
    commit_result(trial, outputs=outputs)


def make_report(findings: Findings) -> Files:
    """All files, the page last."""
    from cpt_trainer.report.card import CARD, card
    from cpt_trainer.report.page import page

    sections = tuple(section for make in _sections() if (section := make(findings)) is not None)
    files = dict(_parts(sections))
    if (text := card(findings)) is not None:
        files[CARD] = text
    return {**files, "report.json": findings.to_json(), REPORT_PAGE: page(findings, sections)}


def _sections() -> tuple[Callable[[Findings], Section | None], ...]:
    """In the order of the page; imported when wanted, since matplotlib comes with them."""
    from cpt_trainer.report import also, durations, ledger, mixes, scaling, screening, soup, sweep

    before = (sweep.section, screening.section, durations.section, mixes.section)
    return (*before, soup.section, scaling.section, also.section, ledger.section)


def _parts(sections: tuple[Section, ...]) -> Iterator[tuple[str, bytes]]:
    for section in sections:
        for figure in section.figures:
            yield f"figures/{figure.name}.svg", figure.drawing.svg
            yield f"figures/{figure.name}.png", figure.drawing.png
        for table in section.tables:
            yield f"tables/{table.name}.csv", table.csv()
