"""The chart's values: documented, strict, and the same as what the operator accepts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from chart import CHART, helm
from cpt_api.model import Model
from cpt_api.sentences import descriptions
from cpt_api.trial import Resources
from cpt_operator.settings import Allowed, ArtifactStore, Caps, Kueue, Profile, Settings, Toleration

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())

TRIALS = SCHEMA["properties"]["trials"]["properties"]
DEFINITIONS = SCHEMA["definitions"]


def properties(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property below `node`."""
    for name, child in node.get("properties", {}).items():
        yield f"{path}{name}", child
        yield from properties(child, f"{path}{name}.")


def test_every_value_is_documented() -> None:
    """An editor that knows the schema explains each value."""
    everything = [*properties(SCHEMA), *(p for name in DEFINITIONS for p in properties(DEFINITIONS[name], f"{name}."))]
    assert [path for path, node in everything if not node.get("description")] == []


def test_every_object_is_strict() -> None:
    """There is no place where a misspelt value is taken for a setting."""
    objects = [("values", SCHEMA), *properties(SCHEMA), *DEFINITIONS.items()]
    loose = [path for path, node in objects if "properties" in node and node.get("additionalProperties") is not False]
    assert loose == []


def test_every_value_has_a_default() -> None:
    """`helm show values` shows whatever can be set."""
    missing = [path for path, _ in properties(SCHEMA) if path != "global" and not has(DEFAULTS, path)]
    assert missing == []


def has(values: Any, path: str) -> bool:
    head, _, rest = path.partition(".")
    return isinstance(values, dict) and head in values and (not rest or has(values[head], rest))


@pytest.mark.parametrize(
    ("schema", "model"),
    [
        pytest.param(DEFINITIONS["profile"], Profile, id="profile"),
        pytest.param(DEFINITIONS["resources"], Resources, id="resources"),
        pytest.param(DEFINITIONS["toleration"], Toleration, id="toleration"),
    ],
)
def test_structures_are_the_operators(schema: dict[str, Any], model: type[Model]) -> None:
    """What the chart lets through is what the operator knows, in the same words."""
    assert {name: node["description"] for name, node in schema["properties"].items()} == descriptions(model)


def test_groups_are_the_operators() -> None:
    """Every allow-list, cap, queue setting and address of the store can be set, and no other."""
    assert set(TRIALS["allowed"]["properties"]) == set(descriptions(Allowed))
    assert set(TRIALS["caps"]["properties"]) == set(descriptions(Caps))
    assert set(SCHEMA["properties"]["kueue"]["properties"]) == set(descriptions(Kueue))
    store = set(SCHEMA["properties"]["artifactStore"]["properties"])
    assert store == set(descriptions(ArtifactStore)) | {"credentialsSecret"}


def test_defaults_are_the_operators() -> None:
    """A value that is left alone means the same in the chart and in the settings' file."""
    written = {**DEFAULTS["trials"], "trainerImage": DEFAULTS["trials"]["image"], "lease": {"namespace": "x"}}
    del written["image"]
    chart = Settings.model_validate({**written, "kueue": DEFAULTS["kueue"], "artifactStore": {"bucket": "cpt"}})
    plain = Settings.model_validate(
        {"artifactStore": {"bucket": "cpt"}, "trainerImage": chart.trainer_image, "lease": {"namespace": "x"}}
    )
    assert chart == plain


@pytest.mark.processes
@pytest.mark.parametrize(
    ("setting", "want"),
    [
        pytest.param("replicsa=2", "replicsa", id="a misspelt value"),
        pytest.param("trials.allowed.serviceAccount={x}", "serviceAccount", id="a misspelt value inside"),
        pytest.param("replicas=two", "replicas", id="a word for a number"),
        pytest.param("trials.finishedJobsTtlSeconds=1000000", "finishedJobsTtlSeconds", id="a number that YAML rounds"),
        pytest.param("artifactStore.endpoint=http://s3/path", "endpoint", id="an endpoint with a path"),
        pytest.param("artifactStore.endpoint=http://key:secret@s3", "endpoint", id="an endpoint with credentials"),
        pytest.param("watchNamespaces={Team_A}", "watchNamespaces", id="a name that is none"),
        pytest.param("trials.profiles.h100.gpu=8", "gpu", id="a profile with an unknown key"),
        pytest.param("trials.image=", "image", id="no trainer image"),
    ],
)
def test_mistakes_are_refused(setting: str, want: str) -> None:
    """Helm stops before anything is installed, and names the value."""
    done = helm("template", "cpt", str(CHART), "--set", setting)
    assert done.returncode != 0
    assert want in done.stderr
