"""What applying a manifest would change, and what the API server would refuse."""

from __future__ import annotations

from typing import Any

import pytest

from cpt_api.experiment import CPTExperimentSpec
from kubectl_cpt.changes import changes
from make import make_experiment

SPEC = make_experiment().to_dict()
SWEEP = SPEC["recipe"]["learningRateSweep"]
SQL = {"name": "sql", "uri": "s3://cpt/sql.jsonl"}


def sweep(**fields: Any) -> dict[str, Any]:
    return {"recipe": {"learningRateSweep": SWEEP | fields}}


@pytest.mark.parametrize(
    ("wanted", "want"),
    [
        pytest.param({}, [], id="nothing"),
        pytest.param(sweep(learningRates=["0.0001", "10e-4"]), [], id="written otherwise"),
        pytest.param({"datasets": [*SPEC["datasets"], SQL]}, ["+ datasets[sql]"], id="appended dataset"),
        pytest.param({"datasets": SPEC["datasets"][::-1]}, [], id="another order"),
        pytest.param(
            {"datasets": SPEC["datasets"][:1]}, ["! datasets[perl]: - (items may only be added)"], id="removed dataset"
        ),
        pytest.param(
            {"datasets": [SPEC["datasets"][0] | {"maxTokens": "1M"}, SPEC["datasets"][1]]},
            ["! datasets[python].maxTokens: 1M (items may only be added)"],
            id="changed dataset",
        ),
        pytest.param(
            sweep(rungs=["10240", "20480"]),
            ["+ recipe.learningRateSweep.rungs[20480]: 20480"],
            id="longer rung",
        ),
        pytest.param(
            sweep(rungs=["5120", "10240"]),
            ["! recipe.learningRateSweep.rungs[5120]: an added rung must be longer than 10240"],
            id="shorter rung",
        ),
        pytest.param(
            {"training": SPEC["training"] | {"seed": 1}}, ["! training.seed: 1 (immutable)"], id="immutable, added"
        ),
        pytest.param(
            {"training": SPEC["training"] | {"sequenceLength": 32}},
            ["! training.sequenceLength: 64 -> 32 (immutable)"],
            id="immutable, changed",
        ),
        pytest.param(
            {"recipe": SPEC["recipe"] | {"durationSweep": {"durations": ["20480"]}}},
            ["! recipe.durationSweep: + (immutable)"],
            id="durations, which were not there",
        ),
        pytest.param(
            {"recipe": SPEC["recipe"] | {"soup": {}}}, ["! recipe.soup: + (immutable)"], id="a soup, likewise"
        ),
        pytest.param(
            {"recipe": SPEC["recipe"] | {"scaling": {}}},
            ["! recipe.scaling: + (immutable)"],
            id="a scaling, which was not there",
        ),
        pytest.param(
            {"recipe": SPEC["recipe"] | {"screening": {"onUndecided": "Keep"}}},
            ["! recipe.screening: + (immutable)"],
            id="another stage",
        ),
        pytest.param({"scheduling": {"parallelTrials": 4}}, ["+ scheduling"], id="mutable block"),
        pytest.param({"suspend": True}, ["+ suspend: True"], id="suspended"),
    ],
)
def test_signs(wanted: dict[str, Any], want: list[str]) -> None:
    """Each change is one line."""
    assert list(map(str, changes(make_experiment(), make_experiment(**wanted)))) == want


def test_mutable_and_removed() -> None:
    """Budgets may be raised, and taken away."""
    live = make_experiment(budget={"tokens": "1M"}, scheduling={"parallelTrials": 2})
    wanted = make_experiment(scheduling={"parallelTrials": 4})
    assert list(map(str, changes(live, wanted))) == ["~ scheduling.parallelTrials: 2 -> 4", "- budget"]


@pytest.mark.parametrize(
    ("durations", "want"),
    [
        (["20480", "40960"], ["+ recipe.durationSweep.durations[40960]: 40960"]),
        (["15360", "20480"], ["! recipe.durationSweep.durations[15360]: an added duration must be longer than 20480"]),
    ],
    ids=["longer", "shorter"],
)
def test_durations(durations: list[str], want: list[str]) -> None:
    """One more may be added, where there are some."""

    def spec(durations: list[str]) -> CPTExperimentSpec:
        return make_experiment(recipe=SPEC["recipe"] | {"durationSweep": {"durations": durations}})

    assert list(map(str, changes(spec(["20480"]), spec(durations)))) == want


@pytest.mark.parametrize(
    ("weights", "want"),
    [
        (["0.5", "0.25"], ["+ recipe.soup.weights[0.25]: 0.25"]),
        (["0.25"], ["! recipe.soup.weights[0.5]: - (items may only be added)", "+ recipe.soup.weights[0.25]: 0.25"]),
    ],
    ids=["added", "replaced"],
)
def test_soup(weights: list[str], want: list[str]) -> None:
    """One more may be added, in any order."""

    def spec(weights: list[str]) -> CPTExperimentSpec:
        return make_experiment(recipe=SPEC["recipe"] | {"soup": {"weights": weights}})

    assert list(map(str, changes(spec(["0.5"]), spec(weights)))) == want


@pytest.mark.parametrize(
    ("models", "want"),
    [
        ([{"name": "a", "uri": "s3://cpt/a"}, {"name": "b", "uri": "s3://cpt/b"}], ["+ recipe.scaling.models[b]"]),
        ([{"name": "a", "uri": "s3://cpt/a", "resources": {"nodes": 2}}], ["+ recipe.scaling.models[a].resources"]),
        (
            [{"name": "a", "uri": "s3://cpt/other"}],
            ["! recipe.scaling.models[a].uri: s3://cpt/a -> s3://cpt/other (items may only be added)"],
        ),
    ],
    ids=["appended", "resources", "other files"],
)
def test_models(models: list[dict[str, Any]], want: list[str]) -> None:
    """Models of a scaling may be appended; of those that were there only what their pods ask for may change."""

    def spec(models: list[dict[str, Any]]) -> CPTExperimentSpec:
        return make_experiment(recipe=SPEC["recipe"] | {"scaling": {"models": models}})

    assert list(map(str, changes(spec([{"name": "a", "uri": "s3://cpt/a"}]), spec(models)))) == want


def test_first_models() -> None:
    """Where there is a scaling without models, and without references, both may come later."""
    live = make_experiment(recipe=SPEC["recipe"] | {"scaling": {}})
    model = {"name": "a", "uri": "s3://cpt/a"}
    wanted = make_experiment(
        recipe=SPEC["recipe"] | {"scaling": {"models": [model]}}, references=[{**model, "name": "b"}]
    )
    assert sorted(map(str, changes(live, wanted))) == ["+ recipe.scaling.models", "+ references"]
    assert all(change.sign == "!" for change in changes(wanted, live))
