"""Every question of the dashboards, and every alert, before a real Prometheus that has scraped the real exporters."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from chart import CHART
from cluster.controlplane import daemon, free_port
from grafana import QUESTIONS, Prometheus, Question
from scene import BEGIN, END, INTERVAL_SECONDS, scrapes

pytestmark = pytest.mark.processes

EMPTY = {
    "experiment: Score of the best arm A": "nothing is decided yet",
}
"""Questions about an experiment at work that have no answer, and why."""


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """With five minutes of history, and the chart's rules."""
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "scrapes").write_text(asyncio.run(scrapes()))
    make = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet", "scrapes", "data"]
    subprocess.run(make, check=True, cwd=folder)
    (folder / "prometheus.yml").write_text(f"rule_files: [{CHART / 'rules' / 'alerts.yaml'}]\n")
    port = free_port()
    options = ("--config.file=prometheus.yml", "--storage.tsdb.path=data", "--storage.tsdb.retention.time=100y")
    with daemon(folder, "prometheus", *options, f"--web.listen-address=127.0.0.1:{port}") as process:
        url = f"http://127.0.0.1:{port}"
        while not _answers(f"{url}/-/ready"):
            assert process.poll() is None, (folder / "prometheus.log").read_text()
            time.sleep(0.05)  # it offers nothing to watch while it starts
        yield Prometheus(url)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url) as answer:  # noqa: S310  http, our own
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_question_is_answered(question: Question, prometheus: Prometheus) -> None:
    """There is data in every panel, one series of each name, and the legend names labels that it has."""
    chosen = {"namespace": "team", "experiment": "sweep"} if question.dashboard == "experiment" else {}
    found = prometheus.series(question.asked(**chosen), BEGIN, END, INTERVAL_SECONDS)
    if str(question) in EMPTY:
        assert found == []
        return
    assert found
    labels = set(re.findall(r"{{(\w+)}}", question.legend))
    assert all(labels <= set(one["metric"]) for one in found)
    if question.legend != "__auto" and labels:
        assert len({_named(question.legend, one["metric"]) for one in found}) == len(found)


def _named(legend: str, labels: dict[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda part: labels[part[1]], legend)
