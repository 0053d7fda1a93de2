"""Texts with holes: what a prompt is made of.

    fill("{question}\\nAnswer:", {"question": "Who wrote {this}?"})       "Who wrote {this}?\\nAnswer:"
    holes("{question}\\n{options}\\nAnswer:")                             ("question", "options")

A hole is a name in braces, a brace is written twice. There is nothing else (no conditions, no formats), so a suite from
anywhere can do no harm, and what stands in an item is never read as a template. What needs more than that is done once,
where items are made (`fetch.py`).
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from functools import cache

_NAME = re.compile(r"[a-z][a-zA-Z0-9]*")


def holes(template: str) -> tuple[str, ...]:
    """The names, in order; raises ValueError for what is no template."""
    return tuple(name for _, name in _parts(template) if name is not None)


def fill(template: str, values: Mapping[str, str]) -> str:
    """With the values in the holes; raises KeyError for a name without a value."""
    return "".join(text + (values[name] if name is not None else "") for text, name in _parts(template))


@cache
def _parts(template: str) -> tuple[tuple[str, str | None], ...]:
    """Pairs of a text and the hole that follows it."""
    found = []
    try:
        for text, name, form, conversion in string.Formatter().parse(template):
            if name is not None and (not _NAME.fullmatch(name) or form or conversion):
                raise ValueError(f"a hole is a name such as {{question}}, found {{{name}}}")
            found.append((text, name))
    except ValueError as error:
        raise ValueError(f"template {template!r}: {error}; a brace that is meant as one is written twice") from None
    return tuple(found)
