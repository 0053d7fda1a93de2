"""Previews as text: a table for terminals, Markdown for pull requests. Without colours and widths of the terminal, so
that the same manifest gives the same bytes everywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from cpt_api.experiment import DatasetStatus, MixShare, ModelStatus
from cpt_operator.plan.subjects import MIX
from kubectl_cpt import numbers
from kubectl_cpt.documents import EXPONENT
from kubectl_cpt.numbers import amount, percent, span
from kubectl_cpt.preview import Preview, Row

Cells = Sequence[str]
NO_CHANGES = "no changes: applying it does nothing"


FOR_PROGRAMS = ("json", "yaml")


def for_programs(document: Any, output: str) -> str:
    """One of these two, in the order of the document; YAML as it stands in manifests."""
    if output == "json":
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return str(yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


class _Dumper(yaml.SafeDumper):
    """PyYAML's, which would write the string 1e-5 without quotes, and every newer reader takes that for a number."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+0123456789"))


def document_of(previews: Sequence[Preview], hand: Sequence[Row]) -> dict[str, Any]:
    """For `-o json` and `-o yaml`."""
    return {
        "kind": "Plan",
        "experiments": [preview.to_dict() for preview in previews],
        "byHand": [{"what": row.what, "tokens": row.tokens[1]} for row in hand],
    }


def mix(shares: Sequence[MixShare]) -> Iterator[str]:
    """One line, or one for each phase; none where there is no mix."""
    phases: dict[int | None, list[str]] = {}
    for share in shares:
        phases.setdefault(share.phase, []).append(f"{share.dataset} {share.weight}")
    for phase, parts in phases.items():
        yield f"{MIX}{f', phase {phase}' if phase else ''}: {', '.join(parts)}"


# --- table ------------------------------------------------------------------------------------------------------------


def as_table(previews: Sequence[Preview], hand: Sequence[Row], *, wide: bool = False) -> str:
    """For people; `wide` lists every trial."""
    parts = [_table_of(preview, wide=wide) for preview in previews]
    if hand:
        parts.insert(0, ["trials written by hand", "", *columns(_row_cells(hand), right=(2, 3))])
    return "\n\n\n".join("\n".join(part) for part in parts) + "\n"


def _table_of(preview: Preview, *, wide: bool) -> list[str]:
    total = ("total", "", span(*preview.counts), span(preview.least.tokens, preview.most.tokens))
    lines = [f"{preview.name}: {preview.summary}", ""]
    lines += columns([*_row_cells(preview.rows), total], right=(2, 3))
    lines += ["", *columns(list(_bill_cells(preview)), right=(1,))]
    if wide:
        cells = [("STAGE", "TYPE", "TRIAL", "TOKENS")]
        cells += [(t.stage, t.type.value, t.title, amount(t.tokens) if t.tokens else "") for t in preview.trials]
        lines += ["", *columns(cells, right=(3,))]
    if preview.changes is not None:
        lines += ["", "against the live object:", *map(str, preview.changes or (NO_CHANGES,))]
    lines += [""] if preview.warnings or preview.notes else []
    lines += [f"warning: {text}" for text in preview.warnings]
    return lines + [f"note: {text}" for text in preview.notes]


def _row_cells(rows: Sequence[Row]) -> list[Cells]:
    cells: list[Cells] = [("STAGE", "WHAT", "TRIALS", "TOKENS")]
    before = ""
    for row in rows:
        shown = "" if row.stage == before else row.stage
        cells.append((shown, row.what, span(*row.trials), span(*row.tokens) if row.tokens[1] else ""))
        before = row.stage
    return cells


def _bill_cells(preview: Preview) -> Iterator[Cells]:
    yield ("tokens trained", span(preview.least.tokens, preview.most.tokens), "")
    separate = span(preview.naive_least.tokens, preview.naive.tokens)
    yield ("as separate runs", separate, f"naive protocol, no control; this plan trains {_ratio(preview)}")
    for label, mine, theirs, missing in _priced(preview):
        yield (label, mine, missing or f"separate runs {theirs}")
    if preview.most.evaluation:
        yield ("scores on suites", _evaluation(preview), "of that; separate runs stand here without any")


_PRICED = (
    ("FLOPs (6ND)", "flops", numbers.flops, "--parameters"),
    ("GPU-hours", "gpu_hours", numbers.hours, "--tokens-per-second-per-gpu, or --gpu-teraflops with --mfu"),
    ("price", "cost", numbers.money, "--price-per-gpu-hour and the GPU-hours"),
)
"""What is shown, and which options tell it."""


_UNKNOWN = "unknown"


def _priced(preview: Preview) -> Iterator[Cells]:
    """What follows from tokens, of this plan and of separate runs; what is unknown says so."""
    for label, name, show, options in _PRICED:
        least, most, naive_least, naive = (
            getattr(bill, name) for bill in (preview.least, preview.most, preview.naive_least, preview.naive)
        )
        if most is None:
            yield (label, _UNKNOWN, _UNKNOWN, f"takes {options}")
        else:
            yield (label, span(least, most, show), span(naive_least, naive, show), "")


def _evaluation(preview: Preview) -> str:
    """The part of it in a plan that is short, and in one that is long; the longer, the less."""
    low, high = sorted(bill.evaluation or 0 for bill in (preview.least, preview.most))
    return span(low, high, lambda part: f"{100 * part:.1f}") + " %"


def _ratio(preview: Preview) -> str:
    if not preview.naive_least.tokens:
        return "nothing to compare with"
    least = percent(preview.least.tokens, preview.naive_least.tokens)
    most = percent(preview.most.tokens, preview.naive.tokens)
    low, high = sorted((least, most), key=lambda text: int(text.removesuffix(" %")))
    return f"{low} of it" if low == high else f"{low.removesuffix(' %')} to {high} of it"


def columns(rows: Sequence[Cells], right: Sequence[int] = ()) -> list[str]:
    """Aligned, two spaces between, nothing at the end of a line."""
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


# --- Markdown ---------------------------------------------------------------------------------------------------------


def datasets(found: Sequence[DatasetStatus]) -> list[str]:
    """What was decided about each; the column of durations where there are any."""
    rows: list[Cells] = [("DATASET", "VERDICT", "LEARNING RATE", "TOKENS", "GAIN", "95 %")]
    rows += [
        (
            each.name,
            each.verdict or "",
            str(each.best_learning_rate or ""),
            amount(each.optimal_tokens) if each.optimal_tokens else "",
            each.effect or "",
            each.interval or "",
        )
        for each in found
    ]
    if not any(each.optimal_tokens for each in found):
        rows = [(*row[:3], *row[4:]) for row in rows]
    return columns(rows)


def models(found: Sequence[ModelStatus]) -> list[str]:
    """What the recipe is worth on each; nothing where there is no scaling."""
    rows: list[Cells] = [("MODEL", "BEFORE", "AFTER", "GAIN", "95 %", "WORTH x ITS COMPUTE")]
    rows += [
        (
            each.name,
            each.base_target or "",
            each.target or "",
            each.gain or "",
            each.interval or "",
            each.compute_equivalent or "",
        )
        for each in found
    ]
    return columns(rows) if found else []


def as_markdown(previews: Sequence[Preview], hand: Sequence[Row]) -> str:
    """A comment for a pull request."""
    parts = [_markdown_of(preview) for preview in previews]
    if hand:
        parts.insert(0, ["### Trials written by hand", "", *_markdown_rows(hand)])
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _markdown_of(preview: Preview) -> list[str]:
    lines = [f"### `{preview.name}`", "", f"{preview.summary[0].upper()}{preview.summary[1:]}.", ""]
    lines += [f"> **Warning:** {text}" for text in preview.warnings]
    lines += [""] if preview.warnings else []
    if preview.changes is not None:
        lines += ["```diff", *map(str, preview.changes or (NO_CHANGES,)), "```", ""]
    lines += ["| | this plan | separate runs |", "|---|---:|---:|", *_markdown_bill(preview), ""]
    total = f"| **total** | | **{span(*preview.counts)}** | **{span(preview.least.tokens, preview.most.tokens)}** |"
    lines += [*_markdown_rows(preview.rows), total, ""]
    lines += [f"<details><summary>All {len(preview.trials)} trials that may run</summary>", ""]
    lines += ["| stage | type | trial | tokens |", "|---|---|---|---:|"]
    lines += [f"| {t.stage} | {t.type} | {t.title} | {amount(t.tokens) if t.tokens else ''} |" for t in preview.trials]
    return [*lines, "", "</details>", "", *(f"- {text}" for text in preview.notes)]


def _markdown_bill(preview: Preview) -> Iterator[str]:
    tokens = span(preview.least.tokens, preview.most.tokens)
    yield f"| tokens | {tokens} ({_ratio(preview)}) | {span(preview.naive_least.tokens, preview.naive.tokens)} |"
    for label, mine, theirs, missing in _priced(preview):
        yield f"| {label} | {mine}{missing and f' ({missing})'} | {theirs} |"
    if preview.most.evaluation:
        yield f"| of that scores on suites | {_evaluation(preview)} | without |"


def _markdown_rows(rows: Sequence[Row]) -> list[str]:
    lines = ["| stage | what | trials | tokens |", "|---|---|---:|---:|"]
    return lines + [f"| {' | '.join(cells)} |" for cells in _row_cells(rows)[1:]]
