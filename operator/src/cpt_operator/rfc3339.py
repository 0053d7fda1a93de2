"""Times as Kubernetes writes them.

>>> text(parse("2026-11-24T15:00:00Z"))
'2026-11-24T15:00:00Z'
"""

from __future__ import annotations

from datetime import UTC, datetime


def parse(time: str) -> datetime:
    """With its zone. Raises ValueError for anything else than RFC 3339."""
    return datetime.fromisoformat(time).astimezone(UTC)


def text(time: datetime) -> str:
    """In UTC and whole seconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_between(begin: str, end: datetime) -> float:
    """From a written time to another; negative when it has not come yet."""
    return (end - parse(begin)).total_seconds()
