"""What the panels of several figures share: a metric in its unit, with the line of the base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cpt_trainer.report.drawing import LIGHT
from cpt_trainer.report.findings import Metric

Interval = tuple[float, float]


def name_metric(panel: Any, metric: Metric) -> None:
    """Which metric, and of which texts."""
    panel.set_title(f"{metric.name}: {', '.join(metric.texts[:3])}{' …' if len(metric.texts) > 3 else ''}")


def draw_base(panel: Any, metric: Metric) -> None:
    """Where the base is; for the retention also how much may be lost."""
    panel.axhline(metric.base, color=LIGHT["muted"], linewidth=1, linestyle="--", label="the base")
    if metric.name == "retention":
        panel.axhline(metric.base + metric.threshold, color=LIGHT["more"], linewidth=1, linestyle=":")
        panel.annotate(
            "base + margin", (0.01, metric.base + metric.threshold), xycoords=("axes fraction", "data"),
            va="bottom", fontsize=7, color=LIGHT["more"],
        )  # fmt: skip
    panel.set_ylabel(f"{metric.unit.scores} (lower is better)")


def bars(values: Sequence[float], intervals: Sequence[Interval]) -> list[list[float]]:
    """As matplotlib wants them: how far each interval reaches below its value, and above."""
    below = [max(0.0, value - low) for value, (low, _) in zip(values, intervals, strict=True)]
    above = [max(0.0, high - value) for value, (_, high) in zip(values, intervals, strict=True)]
    return [below, above]
