"""The main job in small, on a real node: two equal sweeps applied in the same second, and all that one sees of them."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request

import pytest

from e2e.lab import Lab, audit_entries, conditions, experiment, repository
from grafana import DASHBOARDS, QUESTIONS, Prometheus

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

BUDGETS = {"cpt_experiment_budget_tokens", "cpt_experiment_budget_gpu_seconds"}
"""Only of experiments that have one."""
NOT_HERE = (
    "fleet: Experiments I",  # nothing is stalled
    "experiment: Suites",  # held-out text decides
    "experiment: MFU",  # of a CPU no peak is known
    "cost: MFU",
    "cost: Utilisation",  # no GPU, no exporter
    "cost: Memory",
    "cost: Power",
    "cost: Bills G",  # no budgets
    "cost: Bills H",
    "cost: Budgets",
)
"""Questions that this cluster cannot answer."""
OPERATOR = "system:serviceaccount:cpt-system:cpt-operator"


class TestAnswer:
    """Which rate for which data, how sure, and at what cost."""

    def test_the_right_data_help_more(self, swept: Lab) -> None:
        """Text with the target's words gains more than text with others."""
        status = swept.get("cptx/one")["status"]
        effects = {dataset["name"]: float(dataset["effect"]) for dataset in status["datasets"]}
        assert effects["helpful"] > effects["useless"]
        assert status["best"]["dataset"] == "helpful"

    def test_each_digest_is_trained_once(self, swept: Lab) -> None:
        """Of two equal trials one trains, the other is reused."""
        one, two = (swept.get(f"cptx/{name}")["status"]["ledger"] for name in ("one", "two"))
        trained = int(one["tokensTrained"]) + int(two["tokensTrained"])
        reused = int(one["tokensReused"]) + int(two["tokensReused"])
        assert trained == reused > 0
        digests = [
            item["status"]["digest"]
            for name in ("one", "two")
            for item in swept.trials_of(name)
            if item["status"]["attempts"]["total"] > 0
        ]
        assert len(digests) == len(set(digests))

    def test_they_decide_the_same(self, swept: Lab) -> None:
        """Reused results give the same answer."""
        one, two = (swept.get(f"cptx/{name}")["status"] for name in ("one", "two"))
        assert one["datasets"] == two["datasets"]
        assert one["best"] | {"trial": ""} == two["best"] | {"trial": ""}


class TestConventions:
    """What kubectl and GitOps expect."""

    def test_applying_again_changes_nothing(self, swept: Lab) -> None:
        """No new generation, and no difference on the server's side."""
        before = swept.get("cptx/one")["metadata"]
        again = experiment(swept, "one")
        swept.apply(again)
        after = swept.get("cptx/one")["metadata"]
        assert (before["generation"], before["resourceVersion"]) == (after["generation"], after["resourceVersion"])
        difference = swept.try_kubectl("diff", "--server-side", "--filename=-", stdin=json.dumps(again))
        assert (difference.returncode, difference.stdout) == (0, "")

    def test_kstatus_reads_it_as_current(self, swept: Lab) -> None:
        """Ready, and neither reconciling nor stalled."""
        found = conditions(swept.get("cptx/one"))
        assert found["Ready"]["status"] == "True"
        assert not {"Reconciling", "Stalled"} & set(found)

    def test_get_tells_the_answer(self, swept: Lab) -> None:
        """`kubectl get cptx` has the stage, the trials and the scores."""
        heading, *rows = swept.kubectl("get", "cptx").splitlines()
        assert heading.split() == ["NAME", "STAGE", "TRIALS", "PROGRESS", "TARGET", "RETENTION", "SAVED", "AGE"]
        assert all(len(row.split()) == len(heading.split()) for row in rows)

    def test_deleting_a_finished_trial_trains_nothing(self, swept: Lab) -> None:
        """It comes back as reused, without a pod."""
        victim = next(item for item in swept.trials_of("one") if item["spec"]["type"] == "Train")
        name, uid = victim["metadata"]["name"], victim["metadata"]["uid"]
        swept.kubectl("delete", f"cptt/{name}")
        swept.kubectl("wait", f"cptt/{name}", "--for=create", "--timeout=30s")
        made = swept.wait_until(
            f"cptt/{name}",
            lambda item: (
                item["metadata"]["uid"] != uid and conditions(item).get("Succeeded", {}).get("status") == "True"
            ),
        )
        assert conditions(made)["Succeeded"]["reason"] == "Reused"
        assert made["status"]["attempts"]["total"] == 0


class TestOperation:
    """What a cluster's owner sees."""

    def test_metrics_are_in_prometheus(self, swept: Lab) -> None:
        """Every name that the code knows about experiments has a series."""
        names = (repository() / "tests/operator/golden/metrics.txt").read_text().split("\n")
        wanted = {line.split()[0] for line in names if line.startswith("cpt_experiment_")} - BUDGETS
        query = urllib.parse.urlencode({"match[]": f'{{namespace="{swept.namespace}"}}'})
        deadline = time.monotonic() + 60
        missing = wanted
        while missing and time.monotonic() < deadline:  # the next scrape may be seconds away
            with urllib.request.urlopen(f"{swept.cluster.prometheus_url}/api/v1/series?{query}") as answer:  # noqa: S310
                missing = wanted - {series["__name__"] for series in json.load(answer)["data"]}
            time.sleep(1)
        assert missing == set()

    @pytest.mark.parametrize("dashboard", DASHBOARDS)
    def test_panels_are_answered(self, swept: Lab, dashboard: str) -> None:
        """Every panel of every dashboard has data of what ran, but those that this cluster cannot have."""
        asked = [one for one in QUESTIONS if one.dashboard == dashboard]
        prometheus, now = Prometheus(swept.cluster.prometheus_url), time.time()
        chosen = {"namespace": swept.namespace} | ({"experiment": "one|two"} if dashboard == "cost" else {})
        if dashboard == "experiment":
            chosen["experiment"] = _who_trained(swept)
        empty = {str(one) for one in asked if not prometheus.series(one.asked(**chosen), now - 600, now, step=5)}
        assert {name for name in empty if not name.startswith(NOT_HERE)} == set()

    def test_no_alert_is_wrong(self, swept: Lab) -> None:
        """Prometheus evaluates each of them, and none speaks of experiments that went well."""
        prometheus = Prometheus(swept.cluster.prometheus_url)
        rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
        assert {rule["name"]: rule["health"] for rule in rules} == {rule["name"]: "ok" for rule in rules} != {}
        alerts = [alert["labels"] for rule in rules for alert in rule["alerts"]]
        assert [labels for labels in alerts if labels.get("namespace") == swept.namespace] == []

    def test_the_operator_asked_for_nothing_forbidden(self, swept: Lab) -> None:
        """Its ServiceAccount has every right that it uses."""
        refused = [
            (entry["verb"], entry["requestURI"])
            for entry in audit_entries(swept.cluster, OPERATOR)
            if entry.get("responseStatus", {}).get("code") == 403
        ]
        assert refused == []


def _who_trained(lab: Lab) -> str:
    """One of two equal experiments: the other may have reused everything."""
    trained = {name: int(lab.get(f"cptx/{name}")["status"]["ledger"]["tokensTrained"]) for name in ("one", "two")}
    return max(trained, key=lambda name: trained[name])
