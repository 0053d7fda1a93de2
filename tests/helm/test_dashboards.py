"""The chart's dashboards: what is said about each panel, and that it asks for what there is."""

from __future__ import annotations

import re

import pytest

from chart import CHART, ROOT, VALUES, rendered
from cpt_dashboards.__main__ import files
from grafana import DASHBOARDS, QUESTIONS, Json, Question, panels
from promql import Named, read
from published import unknown


def test_files_are_what_the_code_says() -> None:
    """`make crds` changes nothing, and no file is left of a dashboard that is gone."""
    for path, text in files().items():
        assert (ROOT / path).read_text() == text
    assert {path.name for path in files()} == {path.name for path in (CHART / "dashboards").iterdir()}


class TestQuestions:
    """What panels ask of Prometheus."""

    @pytest.mark.parametrize("question", QUESTIONS, ids=str)
    def test_names_are_published(self, question: Question) -> None:
        """Every metric is served by our code, and every label is one of its own or of its target."""
        named = read(question.expression)
        assert named.metrics
        assert unknown(named) == []

    @pytest.mark.parametrize("question", QUESTIONS, ids=str)
    def test_variables_are_chosen_on_the_page(self, question: Question) -> None:
        """Every variable is one of the page's or of Grafana's own."""
        chosen = {one["name"] for one in DASHBOARDS[question.dashboard]["templating"]["list"]}
        used = set(re.findall(r"\$([a-z]\w*)", question.expression))
        assert used <= chosen

    def test_rates_fit_the_scrapes(self) -> None:
        """No rate is taken over a time that is written down: Grafana knows how often is scraped."""
        ranges = {found for question in QUESTIONS for found in re.findall(r"\[(.*?)\]", question.expression)}
        assert ranges == {"$__rate_interval", "$__range", "10m"}  # the last bridges the operator's absence

    def test_reading(self) -> None:
        """Our reader of PromQL finds a wrong name wherever it may stand."""
        text = 'sum by (a) (rate(m{b=~"$c"}[5m])) / on (d) n > 3 or time() - p{e!=""} offset 1d'
        assert read(text) == Named({"m": {"b"}, "n": set(), "p": {"e"}}, {"a", "d"})


@pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=list(DASHBOARDS))
class TestPage:
    """What everybody expects of a dashboard that is shipped."""

    def test_works_without_an_import_dialog(self, dashboard: Json) -> None:
        """It names no data source of an installation, and is found under one address."""
        assert "__inputs" not in dashboard
        sources = {str(one["datasource"]) for one in [*panels(dashboard), *targets(dashboard)] if "datasource" in one}
        assert sources == {"{'type': 'prometheus', 'uid': '${datasource}'}"}
        assert dashboard["templating"]["list"][0]["type"] == "datasource"
        assert dashboard["uid"].startswith("cpt-")

    def test_every_panel_says_what_it_answers(self, dashboard: Json) -> None:
        """In a sentence, under a title of its own, and in a unit."""
        titles = [panel["title"] for panel in panels(dashboard)]
        assert len(set(titles)) == len(titles)
        for panel in panels(dashboard):
            assert panel["description"].endswith("."), panel["title"]
            if panel["type"] != "text":
                assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]

    def test_panels_lie_side_by_side(self, dashboard: Json) -> None:
        """None covers another or leaves the page, and each has a number of its own."""
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                     for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
            assert not taken & cells
            assert max(x for x, _ in cells) < 24
            taken |= cells
        assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])

    def test_columns_have_words(self, dashboard: Json) -> None:
        """What a table's questions are called is what its columns are called."""
        for panel in panels(dashboard):
            if panel["type"] == "table":
                shown = panel["transformations"][1]["options"]["renameByName"].values()
                assert {one["matcher"]["options"] for one in panel["fieldConfig"]["overrides"]} == set(shown)


def targets(dashboard: Json) -> list[Json]:
    return [target for panel in panels(dashboard) for target in panel.get("targets", ())]


@pytest.mark.processes
class TestDelivery:
    """ConfigMaps for Grafana's sidecar."""

    def test_off_by_default(self) -> None:
        """Whoever has no Grafana gets none."""
        assert rendered().of("ConfigMap", "dashboard") == []

    def test_one_for_each(self) -> None:
        """With the label by which the sidecar finds them, and the very bytes that were tested."""
        maps = rendered("--set", "dashboards.enabled=true").of("ConfigMap", "dashboard")
        assert {m["metadata"]["labels"]["grafana_dashboard"] for m in maps} == {"1"}
        data = {name: text for one in maps for name, text in one["data"].items()}
        assert data == {f"cpt-{name}.json": (CHART / f"dashboards/{name}.json").read_text() for name in DASHBOARDS}

    def test_they_fit(self) -> None:
        """A ConfigMap may have a MiB, and the annotation in which `kubectl apply` keeps a copy a quarter of that."""
        for path in (CHART / "dashboards").iterdir():
            assert path.stat().st_size < 200_000

    def test_labels_and_folder_are_values(self) -> None:
        """As a sidecar that is set up otherwise wants them."""
        maps = rendered("--values", str(VALUES / "everything.yaml")).of("ConfigMap", "dashboard")
        assert len(maps) == len(DASHBOARDS)
        for one in maps:
            assert one["metadata"]["labels"]["our_dashboards"] == "yes"
            assert one["metadata"]["annotations"] == {"grafana_folder": "Training"}
