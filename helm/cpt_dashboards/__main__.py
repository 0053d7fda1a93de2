"""Write the dashboards, or with --check compare them."""

from __future__ import annotations

import json
from pathlib import Path

from cpt_api.crdgen import update
from cpt_dashboards import cost, experiment, fleet, operation

DASHBOARDS = (fleet.DASHBOARD, experiment.DASHBOARD, operation.DASHBOARD, cost.DASHBOARD)


def files() -> dict[Path, str]:
    """What is generated, by its place below the repository's root."""
    return {
        Path("helm/dashboards") / f"{dashboard.name}.json": json.dumps(dashboard.to_json(DASHBOARDS), indent=1) + "\n"
        for dashboard in DASHBOARDS
    }


if __name__ == "__main__":
    raise SystemExit(update(files(), "Generate the chart's Grafana dashboards."))
