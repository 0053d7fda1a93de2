"""The generated CRDs: equal to the models, structural, and by the conventions of the Kubernetes API."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from cpt_api.crdgen import KINDS, ROOT, definition, files, structural
from cpt_api.model import Model

Node = dict[str, Any]
Found = tuple[str, Node]


def schema_of(kind_name: str) -> Node:
    (kind,) = (kind for kind in KINDS if kind.name == kind_name)
    schema: Node = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def walk(node: Node, path: str = "") -> Iterator[Found]:
    """Every schema below `node` with its path."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    if "items" in node:
        yield from walk(node["items"], f"{path}[]")


FIELDS = [(f"{kind.name}{path}", node) for kind in KINDS for path, node in walk(schema_of(kind.name))]
SPEC_FIELDS = [(path, node) for path, node in FIELDS if ".spec" in path]


def offenders(fields: list[Found], wrong: Any) -> list[str]:
    return [path for path, node in fields if wrong(node)]


class TestFiles:
    @pytest.mark.parametrize("path", files(), ids=str)
    def test_regenerated_file_is_equal(self, path: Any) -> None:
        """What is in the repository is what the models say: `make crds` changes nothing."""
        assert (ROOT / path).read_text() == files()[path], f"{path} is stale: run `make crds`"

    @pytest.mark.parametrize("path", [path for path in files() if path.parts[0] == "crds"], ids=str)
    def test_client_side_apply_still_works(self, path: Any) -> None:
        """`kubectl apply` keeps the whole as JSON in an annotation, which holds 256 KiB."""
        assert len(json.dumps(yaml.safe_load(files()[path]))) < 128 * 1024

    def test_chart_holds_the_same_definitions(self) -> None:
        """With `crds.enabled` and without `crds.keep` the chart's copy is the canonical file."""
        for path, text in files().items():
            if path.parts[0] == "helm":
                plain = re.sub(
                    r"^ *\{\{- if \.Values\.crds\.keep.*?^ *\{\{- end \}\}\n", "", text, flags=re.MULTILINE | re.DOTALL
                )
                plain = re.sub(r"^\{\{-.*\n", "", plain, flags=re.MULTILINE)
                assert plain == (ROOT / "crds" / path.name).read_text()

    def test_header_survives_yaml(self) -> None:
        """Each canonical file is one document."""
        for path in (ROOT / "crds").glob("*.yaml"):
            assert yaml.safe_load(path.read_text())["kind"] == "CustomResourceDefinition"


class TestStructural:
    """The API server's rules for structural schemas, and the conventions that its reviewers check."""

    def test_every_node_has_one_type(self) -> None:
        """No unions, no null types, no free-form values."""
        types = {"object", "array", "string", "integer", "boolean"}
        assert offenders(FIELDS, lambda node: node.get("type") not in types) == []

    def test_no_floats(self) -> None:
        """Rates and shares are strings: a float prints differently on every machine."""
        assert offenders(FIELDS, lambda node: node["type"] == "number") == []

    def test_forbidden_keywords(self) -> None:
        """What OpenAPI 3.0 or the API server does not know is not written."""
        unions = {"$ref", "$defs", "definitions", "anyOf", "oneOf", "allOf", "const", "discriminator", "nullable"}
        others = {"title", "prefixItems", "uniqueItems", "patternProperties", "additionalProperties"}
        forbidden = unions | others
        assert offenders(FIELDS, lambda node: forbidden & set(node)) == []

    def test_no_default_in_spec(self) -> None:
        """A default in a spec makes GitOps tools drift for ever."""
        assert offenders(SPEC_FIELDS, lambda node: "default" in node) == []

    def test_the_only_default(self) -> None:
        """Until the operator has seen an object its status says so."""
        defaults = {path: node["default"] for path, node in FIELDS if "default" in node}
        assert defaults == {f"{kind.name}.status": {"observedGeneration": -1} for kind in KINDS}

    def test_strings_are_bounded(self) -> None:
        """CEL costs are estimated from maxLength, and an experiment stays below 64 KB."""
        unbounded = offenders(
            FIELDS, lambda node: node["type"] == "string" and "maxLength" not in node and "enum" not in node
        )
        assert [path for path in unbounded if not path.endswith((".apiVersion", ".kind"))] == []

    def test_lists_are_bounded_and_typed(self) -> None:
        """At most 256 items, and server-side apply knows how to merge them."""
        wrong = offenders(
            FIELDS,
            lambda node: (
                node["type"] == "array" and not (node.get("maxItems", 999) <= 256 and "x-kubernetes-list-type" in node)
            ),
        )
        assert wrong == []

    def test_named_lists_are_maps(self) -> None:
        """Two managers can own different items of a list whose items have names."""
        named = {path: node for path, node in FIELDS if "name" in node.get("items", {}).get("required", ())}
        assert named
        assert {node["x-kubernetes-list-type"] for node in named.values()} == {"map"}

    def test_rates_are_a_set(self) -> None:
        """A rate that stands twice is refused."""
        sweep = schema_of("CPTExperiment")["properties"]["spec"]["properties"]["recipe"]["properties"]
        assert sweep["learningRateSweep"]["properties"]["learningRates"]["x-kubernetes-list-type"] == "set"

    def test_enumerations_are_camel_case(self) -> None:
        """Values are words such as OneMinusSqrt."""
        words = [word for _, node in FIELDS for word in node.get("enum", ())]
        assert [word for word in words if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", word)] == []

    def test_every_field_is_described(self) -> None:
        """`kubectl explain` has a sentence for every field."""
        described = [(path, node) for path, node in FIELDS if path.count(".") > 1 and not path.endswith("[]")]
        assert offenders(described, lambda node: not node.get("description")) == []

    def test_learning_rates_say_quote_it(self) -> None:
        """An unquoted 1e-5 is refused by a bare type error: the description is where people look next."""
        rates = [node for path, node in SPEC_FIELDS if path.endswith(("learningRates", "model.peakLearningRate"))]
        assert len(rates) == 3
        assert all("Quote" in node["description"] for node in rates)

    def test_rules_name_existing_fields(self) -> None:
        """A fieldPath points below the node on which its rule stands."""
        for path, node in FIELDS:
            for rule in node.get("x-kubernetes-validations", ()):
                below = node
                for part in rule.get("fieldPath", "").split(".")[1:]:
                    assert part in below["properties"], f"{path}: {rule}"
                    below = below["properties"][part]

    def test_every_rule_has_a_message(self) -> None:
        """The API server's own text for a failed rule is CEL."""
        rules = [rule for _, node in FIELDS for rule in node.get("x-kubernetes-validations", ())]
        assert rules
        assert all(rule["message"] for rule in rules)

    def test_no_transition_rule_below_uncorrelated_lists(self) -> None:
        """The API server cannot tell which old item an item of a set or an atomic list was."""
        loose = [path for path, node in FIELDS if node.get("x-kubernetes-list-type") in ("set", "atomic")]
        compared = [
            path
            for path, node in FIELDS
            if any("oldSelf" in rule["rule"] for rule in node.get("x-kubernetes-validations", ()))
        ]
        assert [path for path in compared for parent in loose if path.startswith(f"{parent}[]")] == []


class TestConverter:
    """What the models do not use today is refused, not guessed."""

    def test_union_is_refused(self) -> None:
        """A union has no structural form."""

        class Mixed(Model):
            value: int | str

        class Outer(Model):
            inner: Mixed

        with pytest.raises(ValueError, match="a union has no structural form"):
            structural(Outer)

    def test_map_is_refused(self) -> None:
        """Lists of named items instead of maps."""

        class Labelled(Model):
            labels: dict[str, str]

        class Outer(Model):
            inner: Labelled

        with pytest.raises(ValueError, match="maps are not in the API"):
            structural(Outer)

    def test_unknown_keyword_is_refused(self) -> None:
        """A tuple of different types would need prefixItems."""

        class Paired(Model):
            pair: tuple[int, str]

        class Outer(Model):
            inner: Paired

        with pytest.raises(ValueError, match="prefixItems"):
            structural(Outer)


class TestKinds:
    @pytest.mark.parametrize(
        ("kind", "want"),
        [
            ("CPTExperiment", ["Stage", "Trials", "Progress", "Target", "Retention", "Saved", "Age"]),
            ("CPTTrial", ["Type", "LR", "Tokens", "Status", "Progress", "Target", "Attempts", "Age"]),
        ],
    )
    def test_columns(self, kind: str, want: list[str]) -> None:
        """`kubectl get` shows what the design promises."""
        (found,) = (each for each in KINDS if each.name == kind)
        assert [column.name for column in found.columns if not column.wide] == want

    def test_columns_read_existing_fields(self) -> None:
        """A path that no schema has would print nothing for ever."""
        for kind in KINDS:
            known = {path.replace("[]", "") for path, _ in walk(schema_of(kind.name))} | {".metadata.creationTimestamp"}
            for column in kind.columns:
                assert re.sub(r"\[[^]]*\]", "", column.path) in known, column
