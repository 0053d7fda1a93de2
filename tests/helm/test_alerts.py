"""The chart's alerts: each is tried where it must speak and where it must not, and a page says what to do."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart import CHART, ROOT, VALUES, rendered
from promql import read
from published import unknown

ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((CHART / "rules/alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
NAMES = [alert["alert"] for alert in ALERTS]
CASES = Path(__file__).parent / "alerts.yaml"


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
class TestAlert:
    """Whoever is woken by it knows what is wrong, and what to do."""

    def test_names_are_published(self, alert: dict[str, Any]) -> None:
        """It asks for what our code serves."""
        assert unknown(read(alert["expr"])) == []

    def test_runbook(self, alert: dict[str, Any]) -> None:
        """Its section of the page has its name, and says what it means and what to do."""
        page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert anchor == alert["alert"].lower()
        _, found, rest = (ROOT / page).read_text().partition(f"\n## {alert['alert']}\n")
        section = rest.partition("\n## ")[0]
        assert found
        assert "\n**Meaning.**" in section
        assert "\n**What to do.**" in section

    def test_severity(self, alert: dict[str, Any]) -> None:
        """One of three, by which people route: now, today, for information."""
        assert alert["labels"]["severity"] in ("critical", "warning", "info")

    def test_tried(self, alert: dict[str, Any]) -> None:
        """There is a time at which it speaks, and one at which it does not."""
        tests = [one for case in yaml.safe_load(CASES.read_text())["tests"] for one in case["alert_rule_test"]]
        outcomes = {bool(one["exp_alerts"]) for one in tests if one["alertname"] == alert["alert"]}
        assert outcomes == {True, False}


@pytest.mark.processes
class TestPrometheus:
    """By Prometheus' own tool."""

    def test_rules_are_valid(self) -> None:
        """It finds nothing to complain of."""
        promtool("check", "rules", "--lint=all", "--lint-fatal", str(CHART / "rules/alerts.yaml"))

    def test_cases(self) -> None:
        """Every alert speaks and is silent where it must, with the words that people get."""
        promtool("test", "rules", str(CASES))


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.processes
class TestDelivery:
    """A PrometheusRule."""

    def test_off_by_default(self) -> None:
        """A cluster without the Prometheus operator can install the chart."""
        assert rendered().of("PrometheusRule") == []

    def test_as_they_were_tried(self) -> None:
        """The very groups, with Prometheus' own templates in them."""
        spec = rendered("--set", "rules.enabled=true").one("PrometheusRule")["spec"]
        assert spec == yaml.safe_load((CHART / "rules/alerts.yaml").read_text())

    def test_runbooks_are_addresses(self) -> None:
        """With `rules.runbooks` a click leads to the page."""
        rule = rendered("--values", str(VALUES / "everything.yaml")).one("PrometheusRule")
        assert rule["metadata"]["labels"]["release"] == "prometheus"
        urls = [one["annotations"]["runbook_url"] for group in rule["spec"]["groups"] for one in group["rules"]]
        assert urls == [f"https://git.example/cpt/blob/main/docs/alerts.md#{name.lower()}" for name in NAMES]
