"""Grafana's JSON, as little of it as dashboards need.

    Panel("Tokens per second", "All trials at work.", Query("sum(cpt_train_tokens_per_second)", "all"), width=12)

becomes an object of 40 lines: a place in the grid of 24 columns, the data source of the page's own variable, a unit, a
legend. Panels stand side by side as long as they fit and then begin a new line; a `Row` is a heading. No colour is
named but those of thresholds, so pages are readable on light and dark.

Written by schema 39 (Grafana 11), which later versions read. A page names no data source of an installation and has no
`__inputs`: it works as it is, by a sidecar or by hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Json = dict[str, Any]

COLUMNS = 24
TAG = "cpt"
"""By which people find all pages."""
_SCHEMA = 39
_SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
_HEIGHTS = {"stat": 4, "timeseries": 8, "table": 9, "text": 4}

Kind = Literal["stat", "timeseries", "table", "text"]


@dataclass(frozen=True, slots=True)
class Query:
    """One question in PromQL."""

    expression: str
    legend: str = ""
    """Of its series: words and {{labels}}. In a table the title of its column; without one only its labels show."""
    unit: str = ""
    """Of a table's column; elsewhere the panel has one."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """From this value on a stat or a cell has that colour."""

    value: float
    color: Literal["green", "orange", "red"]


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture with its questions."""

    title: str
    description: str
    """What it answers, and what to think of it."""
    queries: tuple[Query, ...] = ()
    kind: Kind = "timeseries"
    unit: str = "short"
    """As Grafana calls it: percentunit, s, bytes, short."""
    width: int = 8
    height: int = 0
    """0: what is usual for its kind."""
    thresholds: tuple[Threshold, ...] = ()
    stacked: bool = False
    logarithmic: bool = False
    maximum: float | None = None
    names: bool = False
    """A stat that shows the legend's words instead of the value."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Title -> address; of the rows of a table."""
    text: str = ""
    """Markdown, of a text."""


@dataclass(frozen=True, slots=True)
class Row:
    """A heading."""

    title: str


@dataclass(frozen=True, slots=True)
class Variable:
    """What the person chooses at the top of a page."""

    name: str
    label: str
    query: str
    """`label_values(metric, label)`; of a text its default."""
    many: bool = True
    """Several, or all of them; else exactly one."""
    is_text: bool = False


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A page."""

    name: str
    """Of its file, and after `cpt-` of its address."""
    title: str
    description: str
    """Which question it answers."""
    variables: tuple[Variable, ...]
    parts: tuple[Panel | Row, ...]
    range: str = "now-6h"

    @property
    def uid(self) -> str:
        """Of its address, `/d/<uid>`."""
        return f"cpt-{self.name}"

    @property
    def panels(self) -> Iterator[Panel]:
        """Without headings."""
        return (part for part in self.parts if isinstance(part, Panel))

    def to_json(self, all_pages: Sequence[Dashboard]) -> Json:
        """As Grafana reads it, with links to the other pages."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": [TAG],
            "schemaVersion": _SCHEMA,
            "editable": False,
            "graphTooltip": 1,  # one crosshair in all panels
            "refresh": "30s",
            "time": {"from": self.range, "to": "now"},
            "timezone": "",  # the reader's
            "links": [_link(page) for page in all_pages if page is not self],
            "templating": {"list": [_DATA_SOURCE, *(_variable(variable) for variable in self.variables)]},
            "annotations": {"list": []},
            "panels": list(_placed(self.parts)),
        }


_DATA_SOURCE: Json = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _link(page: Dashboard) -> Json:
    """The data source goes along, what was chosen does not: All on one page may be none on another."""
    return {
        "type": "link",
        "title": page.title,
        "tooltip": page.description,
        "url": f"/d/{page.uid}?${{datasource:queryparam}}",
        "icon": "dashboard",
        "keepTime": True,
        "includeVars": False,
        "asDropdown": False,
        "targetBlank": False,
        "tags": [],
    }


def _variable(variable: Variable) -> Json:
    if variable.is_text:
        current = {"text": variable.query, "value": variable.query}
        return {"name": variable.name, "label": variable.label, "type": "textbox", "query": variable.query,
                "current": current, "options": [{**current, "selected": True}]}  # fmt: skip
    common: Json = {
        "name": variable.name,
        "label": variable.label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": variable.query, "refId": variable.name},
        "refresh": 2,  # what there was in the time that is looked at
        "sort": 1,
    }
    if not variable.many:
        return common
    everything = {"text": ["All"], "value": ["$__all"]}
    return {**common, "multi": True, "includeAll": True, "allValue": ".*", "current": everything}


def _placed(parts: Sequence[Panel | Row]) -> Iterator[Json]:
    """From left to right and from top to bottom."""
    x = y = line = 0  # line: the height of the one that is being filled
    for number, part in enumerate(parts, start=1):
        width, height = (COLUMNS, 1) if isinstance(part, Row) else (part.width, part.height or _HEIGHTS[part.kind])
        if x + width > COLUMNS:
            x, y, line = 0, y + line, 0
        place = {"id": number, "gridPos": {"x": x, "y": y, "w": width, "h": height}}
        x, line = x + width, max(line, height)
        yield place | (_row(part) if isinstance(part, Row) else _panel(part))


def _row(row: Row) -> Json:
    return {"type": "row", "title": row.title, "collapsed": False, "panels": []}


def _panel(panel: Panel) -> Json:
    common: Json = {"type": panel.kind, "title": panel.title, "description": panel.description}
    if panel.kind == "text":
        return common | {"options": {"mode": "markdown", "content": panel.text}}
    return common | {
        "datasource": _SOURCE,
        "targets": [_target(panel, query, index) for index, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": list(_overrides(panel))},
        **_OPTIONS[panel.kind](panel),
    }


def _target(panel: Panel, query: Query, index: int) -> Json:
    is_now = panel.kind in ("stat", "table")
    return {
        "refId": _letter(index),
        "datasource": _SOURCE,
        "expr": query.expression,
        "legendFormat": query.legend or "__auto",
        "instant": is_now,
        "range": not is_now,
        "format": "table" if panel.kind == "table" else "time_series",
    }


def _letter(index: int) -> str:
    return chr(ord("A") + index)


def _defaults(panel: Panel) -> Json:
    steps: list[Json] = [{"color": "text" if panel.kind == "stat" else "green", "value": None}]
    steps += [{"color": threshold.color, "value": threshold.value} for threshold in panel.thresholds]
    defaults: Json = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.maximum is not None:
        defaults |= {"min": 0, "max": panel.maximum}
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 20 if panel.stacked else 0,
            "showPoints": "auto",  # a trial of a minute is a point or two
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "scaleDistribution": {"type": "log", "log": 10} if panel.logarithmic else {"type": "linear"},
        }
    if panel.links:
        defaults["links"] = [{"title": title, "url": url} for title, url in panel.links.items()]
    return defaults


def _overrides(panel: Panel) -> Iterator[Json]:
    """Units of a table's columns."""
    if panel.kind == "table":
        for query in filter(lambda query: query.legend, panel.queries):
            properties = [{"id": "unit", "value": query.unit or panel.unit}]
            yield {"matcher": {"id": "byName", "options": query.legend}, "properties": properties}


def _stat(panel: Panel) -> Json:
    return {
        "options": {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "name" if panel.names else "auto",
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
        }
    }


def _timeseries(_: Panel) -> Json:
    return {
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    }


def _table(panel: Panel) -> Json:
    """One line for all answers that have the same labels; each question, of which there are several, is a column."""
    columns = {f"Value #{_letter(index)}": query.legend for index, query in enumerate(panel.queries)}
    shown = {column: title for column, title in columns.items() if title}
    hidden = dict.fromkeys(["Time", *(column for column in columns if column not in shown)], True)
    return {
        "options": {"showHeader": True, "cellHeight": "sm"},
        "transformations": [
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {"excludeByName": hidden, "renameByName": shown}},
        ],
    }


_OPTIONS = {"stat": _stat, "timeseries": _timeseries, "table": _table}
