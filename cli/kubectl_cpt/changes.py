"""A manifest against the live object: what applying it would change. Pure.

    + datasets[sql]                          new; only its own trials are added
    ~ scheduling.parallelTrials: 2 -> 4      changed; effective at the next attempts
    - budget                                 removed
    ! training.seed: 0 -> 1                  refused by the API server: create an experiment with a new name

Values are compared in their normal form: "10e-6" and "1e-5" are one rate. The rules of what may change are those that
the CRD holds as CEL, which nothing here can run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cpt_api.experiment import CPTExperimentSpec
from cpt_api.values import Tokens

_IMMUTABLE = (
    *("model", "replay", "evaluation", "training", "resources.image", "artifacts.reuse"),
    *("recipe.screening", "recipe.mixing"),
)
_GROWING = (
    "datasets",
    "recipe.learningRateSweep.learningRates",
    "recipe.learningRateSweep.rungs",
    "recipe.durationSweep.durations",
    "recipe.mixSweep.learningRates",
    "recipe.mixSweep.rungs",
    "recipe.mixSweep.durations",
    "recipe.soup.weights",
    "recipe.scaling.models",
    "references",
)
"""Lists that may be appended to."""
_BEGINNING = ("recipe.scaling.models", "references")
"""The same where there was none."""
_STAGES = (
    "recipe.learningRateSweep",
    "recipe.durationSweep",
    "recipe.mixSweep",
    "recipe.soup",
    "recipe.scaling",
)
"""Blocks that hold growing lists, and are there from the beginning or never."""
_MODEL_RESOURCES = re.compile(r"recipe\.scaling\.models\[[^]]*\]\.resources")
"""What may change in an item that may not."""
REFUSED = "!"


@dataclass(frozen=True, slots=True)
class Change:
    """Of one field."""

    sign: str
    """+ new, ~ changed, - removed, ! refused."""
    path: str
    what: str
    """Before and after."""

    def __str__(self) -> str:
        return f"{self.sign} {self.path}" + (f": {self.what}" if self.what else "")


def changes(live: CPTExperimentSpec, wanted: CPTExperimentSpec) -> list[Change]:
    """In the order of the fields; empty when applying it changes nothing."""
    return [_judged(change, live) for change in _compared(live.to_dict(), wanted.to_dict(), "")]


def _compared(before: Any, after: Any, path: str) -> Iterator[Change]:
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in [*before, *(key for key in after if key not in before)]:
            yield from _field(before.get(key), after.get(key), f"{path}.{key}" if path else key)
    elif isinstance(before, list) and isinstance(after, list):
        old, new = _by_name(before), _by_name(after)
        for name in [*old, *(name for name in new if name not in old)]:
            yield from _field(old.get(name), new.get(name), f"{path}[{name}]")
    else:
        yield Change("~", path, f"{before} -> {after}")


def _field(before: Any, after: Any, path: str) -> Iterator[Change]:
    if before is None:
        yield Change("+", path, _short(after))
    elif after is None:
        yield Change("-", path, "")
    else:
        yield from _compared(before, after, path)


def _by_name(items: Sequence[Any]) -> dict[str, Any]:
    return {str(item["name"]) if isinstance(item, Mapping) and "name" in item else str(item): item for item in items}


def _short(value: Any) -> str:
    return str(value) if isinstance(value, str | int) else ""


def _judged(change: Change, live: CPTExperimentSpec) -> Change:
    """The same, or refused."""
    fixed = (change.path == field or change.path.startswith((f"{field}.", f"{field}[")) for field in _IMMUTABLE)
    if change.path in _STAGES or any(fixed):
        return Change(REFUSED, change.path, f"{change.what or change.sign} (immutable)")
    grown = next((field for field in _GROWING if change.path.startswith(field)), None)
    if grown is None or _MODEL_RESOURCES.match(change.path):
        return change
    is_item = change.path.startswith(f"{grown}[") and change.path.endswith("]")
    is_first = change.path == grown and grown in _BEGINNING
    if change.sign != "+" or not (is_item or is_first):
        return Change(REFUSED, change.path, f"{change.what or change.sign} (items may only be added)")
    for field, word, before in _lengths(live):
        if grown == field and Tokens.parse(change.what) < max(before):
            return Change(REFUSED, change.path, f"an added {word} must be longer than {max(before)}")
    return change


def _lengths(live: CPTExperimentSpec) -> Iterator[tuple[str, str, Sequence[Tokens]]]:
    """Growing lists of token counts: what is added comes after all that was there."""
    sweep, lasting, mixed = live.recipe.learning_rate_sweep, live.recipe.duration_sweep, live.recipe.mix_sweep
    yield _GROWING[2], "rung", (sweep and sweep.rungs) or ()
    yield _GROWING[3], "duration", (lasting and lasting.durations) or ()
    yield _GROWING[5], "rung", (mixed and mixed.rungs) or ()
    yield _GROWING[6], "duration", (mixed and mixed.durations) or ()
