"""Which metrics and labels a question in PromQL names, as far as our own questions go.

read('sum by (code) (rate(cpt_s3_request_seconds_count{job=~"$job"}[5m]))')
→   Named(metrics={"cpt_s3_request_seconds_count": {"job"}}, labels={"code"})
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*\{([^}]*)\}")
_MATCHER = re.compile(r"([a-zA-Z_][a-zA-Z0-9_]*)\s*(?:=~|!~|!=|=)")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_STRING = re.compile(r'"[^"]*"')
_RANGE = re.compile(r"\[[^\]]*\]")
_DURATION = re.compile(r"\b\d+[smhdwy]\b")
_OPERATORS = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring"}


@dataclass(frozen=True)
class Named:
    """By one question."""

    metrics: Mapping[str, set[str]]
    """With the labels by which their series are selected."""
    labels: set[str]
    """By which it groups and joins."""


def read(question: str) -> Named:
    """What a question names; variables of Grafana may stand in it."""
    text = _DURATION.sub("", _RANGE.sub("", _STRING.sub('""', question)))
    selected: dict[str, set[str]] = {}
    for name, matchers in _SELECTOR.findall(text):
        selected.setdefault(name, set()).update(_MATCHER.findall(matchers))
    labels = {label.strip() for group in _GROUPING.findall(text) for label in group.split(",") if label.strip()}
    rest = _GROUPING.sub(" ", _SELECTOR.sub(r"\1 ", text))
    words = {found[0] for found in _WORD.finditer(rest) if not _is_call(rest, found) and rest[found.start() - 1] != "$"}
    return Named({name: selected.get(name, set()) for name in words - _OPERATORS}, labels)


def _is_call(text: str, found: re.Match[str]) -> bool:
    """A function or an aggregation, whose grouping is cut out."""
    return text[found.end() :].lstrip().startswith("(")
