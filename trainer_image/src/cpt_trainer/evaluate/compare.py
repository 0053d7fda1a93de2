"""`cpt-trainer compare A B`: how two models differ on a suite, paired by item, from their tables alone.

    $ cpt-trainer compare base/tables/mmlu-4be1c0a9d2f3.parquet mine/tables/mmlu-77a01c5e9b20.parquet
    suite mmlu, version 1; 95 % intervals, each for itself
                                 A        B      B - A                          items
    accuracy                0.4581   0.4655    +0.0074   [+0.0021, +0.0127]     14042
    …

Both must be on one suite, on the very same items and prompts, scored in one way; the first difference is named. Models
with different tokenizers may be compared: right answers and bits per byte do not depend on it, and nothing else is
shown.

An interval says what other items of the same kind would show of these two models. What another run of the same recipe
would show is a question for replicates (`decide/`).

Price: two tables are read; a second for MMLU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from cpt_api.trial import Measure
from cpt_trainer.decide.estimates import Estimated, rounded
from cpt_trainer.errors import DataError
from cpt_trainer.evaluate.group import Leaf, gain, leaves, of_category, score, task_leaf
from cpt_trainer.evaluate.suite import Suite
from cpt_trainer.evaluate.suite_table import SuiteTable
from cpt_trainer.evaluate.task import Format, Metric, Task
from cpt_trainer.tables import Items, first_difference

_SAME = ("suite", "task", "item", "item_hash", "prompt_hash", "stratum", "cluster", "gold", "bytes")
"""What must be equal in two tables that are compared."""


@dataclass(frozen=True, slots=True)
class Line:
    """One number of a suite, of both models and between them."""

    depth: int
    """0: a group, 1: a category of the one before, 2: a task on its own."""
    name: str
    measure: str
    a: float
    b: float
    difference: float
    """B minus A."""
    standard_error: float
    lower: float
    """Of the 95 % interval of the difference."""
    upper: float
    items: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on one suite."""

    suite: str
    version: int
    digest: str
    one_tokenizer: bool
    lines: tuple[Line, ...]

    def to_dict(self) -> dict[str, object]:
        """For programs."""
        return asdict(self)


def compare(a: SuiteTable, b: SuiteTable) -> Comparison:
    """Raises DataError when the two cannot be compared."""
    _require_comparable(a, b)
    suite = a.suite
    lines = (*_group_lines(suite, a.items, b.items), *_task_lines(suite, a.items, b.items))
    one_tokenizer = a.about.scoring.tokenizer == b.about.scoring.tokenizer
    return Comparison(suite.name, suite.version, suite.digest, one_tokenizer, lines)


def render(comparison: Comparison) -> str:
    """For people."""
    width = max(len(line.name) + 2 * line.depth for line in comparison.lines) + 2
    head = f"suite {comparison.suite}, version {comparison.version}; 95 % intervals, each for itself"
    if not comparison.one_tokenizer:
        head += (
            "\nthe models have different tokenizers: right answers and bits per byte compare, log-probabilities do not"
        )
    columns = f"{'':{width}}{'A':>9}{'B':>9}{'B - A':>10}{'':>24}{'items':>8}"
    return "\n".join((head, columns, *(_rendered(line, width) for line in comparison.lines)))


def _rendered(line: Line, width: int) -> str:
    interval = f"[{line.lower:+.4f}, {line.upper:+.4f}]"
    name = "  " * line.depth + line.name
    return f"{name:{width}}{line.a:9.4f}{line.b:9.4f}{line.difference:+10.4f}{interval:>24}{line.items:>8}"


def _group_lines(suite: Suite, a: Items, b: Items) -> Iterator[Line]:
    for group in suite.groups:
        ours, theirs = leaves(suite, group, a), leaves(suite, group, b)
        yield _line(0, group.name, group.measure, ours, theirs)
        if len(group.categories) > 1:
            for category in group.categories:
                parts = of_category(ours, category.name), of_category(theirs, category.name)
                yield _line(1, category.name, group.measure, *parts)


def _task_lines(suite: Suite, a: Items, b: Items) -> Iterator[Line]:
    for task in suite.tasks:
        for measure in _measures(task):
            name = task.name if measure is Measure.ACCURACY else f"{task.name}, bits per byte"
            parts = (task_leaf(suite, measure, task.name, a),), (task_leaf(suite, measure, task.name, b),)
            yield _line(2, name, measure, *parts)


def _measures(task: Task) -> Iterator[Measure]:
    if task.metric is not Metric.BITS_PER_BYTE:
        yield Measure.ACCURACY
    if task.format is not Format.GENERATION:
        yield Measure.BITS_PER_BYTE


def _line(depth: int, name: str, measure: Measure, a: tuple[Leaf, ...], b: tuple[Leaf, ...]) -> Line:
    between: Estimated = gain(b, a)
    lower, upper = between.interval()
    return Line(
        depth=depth,
        name=name,
        measure=measure,
        a=rounded(score(a).value),
        b=rounded(score(b).value),
        difference=rounded(between.value),
        standard_error=rounded(between.standard_error),
        lower=rounded(lower),
        upper=rounded(upper),
        items=sum(leaf.items for leaf in a),
    )


def _require_comparable(a: SuiteTable, b: SuiteTable) -> None:
    one, other = a.about, b.about
    if one.suite.digest != other.suite.digest:
        raise DataError(
            f"A is of suite {one.suite.name} ({one.suite.digest.short}…), B of {other.suite.name} "
            f"({other.suite.digest.short}…): evaluate both on one suite"
        )
    for mine, theirs in zip(one.tasks, other.tasks, strict=True):
        if mine.digest != theirs.digest:
            raise DataError(
                f"task {mine.task}: A was asked the items {mine.digest.short}…, B {theirs.digest.short}…: evaluate "
                "both on the same item file"
            )
    for name, mine_, theirs_ in (
        ("protocol", one.scoring.protocol, other.scoring.protocol),
        *_fingerprints(one.scoring.fingerprint, other.scoring.fingerprint),
    ):
        if mine_ != theirs_:
            raise DataError(
                f"A was scored with {name} {mine_}, B with {theirs_}: that moves scores; evaluate both in one way"
            )
    _require_equal_rows(a.items, b.items)


def _fingerprints(a: dict[str, str | int], b: dict[str, str | int]) -> Iterator[tuple[str, object, object]]:
    return ((name, a.get(name), b.get(name)) for name in sorted(a.keys() | b.keys()))


def _require_equal_rows(a: Items, b: Items) -> None:
    if different := first_difference(a, b, _SAME):
        name, row = different
        raise DataError(
            f"task {a.task[row]}, item {a.item[row]}: {name} is {getattr(a, name)[row]} in A and "
            f"{getattr(b, name)[row]} in B: evaluate both on the same items by the same version"
        )
