"""The chart's dashboards as Grafana gets them, and its questions as Prometheus gets them from Grafana.

for question in QUESTIONS:
    prometheus.series(question.asked(namespace="team", experiment="sweep"))
"""

from __future__ import annotations

import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chart import CHART

Json = dict[str, Any]

DASHBOARDS: dict[str, Json] = {
    path.stem: json.loads(path.read_text()) for path in sorted((CHART / "dashboards").glob("*.json"))
}
_BUILT_IN = {"__rate_interval": "1m", "__range": "10m"}


@dataclass(frozen=True)
class Question:
    """One target of a panel."""

    dashboard: str
    panel: str
    letter: str
    expression: str
    legend: str

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel} {self.letter}"

    def asked(self, **values: str) -> str:
        """With the variables' values; those that are not given are All, or 1 where a number is typed."""
        known = _BUILT_IN | {"price": "1"} | values
        return re.sub(r"\$(\w+)", lambda found: known.get(found[1], ".*"), self.expression.replace('"$1"', '"${1}"'))


def panels(dashboard: Json) -> list[Json]:
    """Without headings."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


QUESTIONS = [
    Question(name, panel["title"], target["refId"], target["expr"], target["legendFormat"])
    for name, dashboard in DASHBOARDS.items()
    for panel in panels(dashboard)
    for target in panel.get("targets", ())
]


@dataclass(frozen=True)
class Prometheus:
    """A running one."""

    url: str

    def ask(self, path: str, **arguments: Any) -> Any:
        """What its API answers; its complaint is the error."""
        query = urllib.parse.urlencode(arguments)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}") as answer:  # noqa: S310  http, our own
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{arguments}: {error.read().decode()}") from None

    def series(self, question: str, start: float, end: float, step: float = 15) -> Sequence[Json]:
        """The answer over that time, but for values that are no numbers."""
        found = self.ask("query_range", query=question, start=start, end=end, step=step)["result"]
        return [one for one in found if any(math.isfinite(float(value)) for _, value in one["values"])]
