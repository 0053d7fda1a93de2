"""Which solved examples stand before an item: never the item itself.

    shots = ShotPicker(task, items)
    shots.before(item)                   (Item('anatomy/dev-0'), …), all of the item's stratum
    shots.contaminated                   how many items stood, by their text, among their own shots

`First` takes the first ones, so that all items of a stratum begin alike and what they share is computed once. Out of
the scored items it skips the item and every one that says the same, and takes the next.

`PerItem` draws anew before each item, in the order of the file, from `random.Random(seed)` started once for each
stratum: which items llm-foundry takes, in its order (its `get_fewshot_sample_idxs` gives a Python set, whose order is
that of the interpreter's hash of small integers). Nothing is shared then; that is what the Gauntlet costs.
"""

from __future__ import annotations

import random
from collections import defaultdict
from functools import cached_property

from cpt_trainer.errors import DataError
from cpt_trainer.evaluate.items import Item, ItemSet
from cpt_trainer.evaluate.task import Found, Pick, Shots, ShotSource, Task


class ShotPicker:
    """Of one task."""

    def __init__(self, task: Task, items: ItemSet) -> None:
        self._task = task
        self._items = items
        self._sources: dict[str, list[Item]] = defaultdict(list)
        """By stratum."""
        if task.shots is not None:
            for item in items.shots if task.shots.source is ShotSource.SHOTS else items.scored:
                self._sources[item.stratum].append(item)

    def before(self, item: Item) -> tuple[Item, ...]:
        """The examples before that item; fewer where its stratum is too small for a draw."""
        return self._chosen.get(item.id, ())

    @cached_property
    def contaminated(self) -> tuple[str, ...]:
        """Items whose own text stands among their shots."""
        return tuple(
            item.id
            for item in self._items.scored
            if any(shot.meaning == item.meaning for shot in self._chosen.get(item.id, ()))
        )

    @cached_property
    def _chosen(self) -> dict[str, tuple[Item, ...]]:
        shots = self._task.shots
        if shots is None:
            return {}
        if shots.pick is Pick.FIRST:
            return {item.id: self._first(item, shots) for item in self._items.scored}
        return self._drawn(shots)

    def _first(self, item: Item, shots: Shots) -> tuple[Item, ...]:
        found: list[Item] = []
        for shot in self._sources[item.stratum]:
            if shots.source is ShotSource.SCORED and shot.meaning == item.meaning:
                continue
            found.append(shot)
            if len(found) == shots.count:
                return tuple(found)
        raise DataError(
            f"task {self._task.name}: stratum {item.stratum!r} of {self._items.file.key} has {len(found)} examples for "
            f"item {item.id}, {shots.count} are asked for"
        )

    def _drawn(self, shots: Shots) -> dict[str, tuple[Item, ...]]:
        chosen: dict[str, tuple[Item, ...]] = {}
        for source in self._sources.values():
            chance = random.Random(shots.seed)  # noqa: S311 - reproducible on purpose
            for index, item in enumerate(source):
                chosen[item.id] = tuple(source[at] for at in _sample(len(source), shots.count, index, chance))
        return chosen


def require_clean(task: Task, picker: ShotPicker) -> int:
    """How many items are contaminated; raises DataError where the suite does not allow any."""
    found = picker.contaminated
    if found and task.shots is not None and task.shots.contamination is Found.FAIL:
        raise DataError(
            f"task {task.name}: {len(found)} items stand, solved, among their own shots, the first is {found[0]!r}: "
            "remove them from the item file, or let the task say contamination: Report"
        )
    return len(found)


def _sample(size: int, count: int, index: int, chance: random.Random) -> set[int]:
    """Numbers below `size` without `index`; draws what llm-foundry draws, in its order."""
    count = min(size - 1, count)
    drawn = set(chance.sample(range(size), count))
    if index in drawn:
        drawn.remove(index)
        if len(drawn) >= size - 1:
            return drawn
        other = chance.choice(range(size))
        while other in drawn or other == index:
            other = chance.choice(range(size))
        drawn.add(other)
    return drawn
