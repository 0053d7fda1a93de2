"""Progress for people, on standard error: bars where somebody looks at a terminal, lines everywhere else.

03:12:40  started   python 3e-4 seed 0 trunk @ 53248
03:12:58  done      python 3e-4 seed 0 trunk @ 53248 in 18 s: linux 5.231, speeches 2.240   (9 of 41 trials)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kubectl_cpt.numbers import amount, duration

_STYLES = {"done": "green", "reused": "green", "failed": "bold red", "retrying": "yellow", "stopping": "yellow"}
_LINES_EVERY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Row:
    """A trial at work."""

    title: str
    seconds: float
    """Since its first attempt here."""
    tokens: int = 0
    planned_tokens: int = 0
    """0: it says nothing about its progress."""


@dataclass(frozen=True, slots=True)
class Overview:
    """All trials together."""

    ended: int
    total: int
    """Known by now: the plan grows as decisions are made."""
    tokens: int
    planned_tokens: int
    eta_seconds: float | None

    def __str__(self) -> str:
        parts = [f"{self.ended} of {self.total} trials"]
        if self.planned_tokens:
            parts.append(f"{amount(self.tokens)} of {amount(self.planned_tokens)} tokens")
        if self.eta_seconds is not None:
            parts.append(f"about {duration(self.eta_seconds)} left of what is planned by now")
        return ", ".join(parts)


class Display(Protocol):
    """What a session tells."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def say(self, event: str, text: str) -> None:
        """One event."""
        ...

    def show(self, rows: Sequence[Row], overview: Overview) -> None:
        """The present state; called about once a second."""
        ...


def display_for(console: Console) -> Display:
    """The kind that suits the console."""
    return Bars(console) if console.is_terminal else Lines(console)


class Lines:
    """For logs: one line an event, and an overview now and then."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._last = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def say(self, event: str, text: str) -> None:
        """At once."""
        self._console.print(
            f"{time.strftime('%H:%M:%S')}  {event:<8}  {text}", soft_wrap=True, highlight=False, markup=False
        )

    def show(self, rows: Sequence[Row], overview: Overview) -> None:
        """Every half minute."""
        if self._clock() - self._last < _LINES_EVERY_SECONDS:
            return
        self._last = self._clock()
        for row in rows:
            if row.planned_tokens:
                self.say("at work", f"{row.title}: {amount(row.tokens)} of {amount(row.planned_tokens)} tokens")
        self.say("overview", str(overview))


class Bars:
    """For terminals: events scroll by above a table that stands still."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, event: str, text: str) -> None:
        """Above the bars."""
        line = Text.assemble((f"{event:<8}  ", _STYLES.get(event, "dim")), text)
        self._console.print(line, highlight=False, soft_wrap=True)

    def show(self, rows: Sequence[Row], overview: Overview) -> None:
        """Draw everything anew."""
        table = Table.grid(padding=(0, 1))
        for row in rows:
            bar = ProgressBar(total=row.planned_tokens or 1, completed=row.tokens, width=24)
            done = f"{100 * row.tokens // row.planned_tokens} %" if row.planned_tokens else ""
            table.add_row(row.title, bar if row.planned_tokens else "", done, duration(row.seconds))
        whole = ProgressBar(total=overview.planned_tokens or 1, completed=overview.tokens, width=24)
        foot = Table.grid(padding=(0, 1))
        foot.add_row(whole, str(overview))
        self._live.update(Group(table, foot), refresh=True)
