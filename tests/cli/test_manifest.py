"""Manifests that are wrong: file, line, field, what was found, what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kubectl_cpt.errors import Exit, ManifestError
from kubectl_cpt.main import app
from kubectl_cpt.manifest import load
from make import make_experiment

HEAD = "apiVersion: cpt.dev/v1alpha1\nkind: CPTExperiment\nmetadata: {name: sweep}\n"
GOOD = """\
spec:
  model: {uri: s3://cpt/base}
  datasets:
    - {name: python, uri: s3://cpt/python.jsonl}
  evaluation:
    target: {suite: Heldout, data: [{name: linux, uri: s3://cpt/linux.jsonl}]}
  recipe:
    learningRateSweep:
      learningRates: ["1e-5", "3e-5"]
      rungs: ["10240"]
  training: {sequenceLength: 64, globalBatchSize: 8}
"""


def problems(tmp_path: Path, text: str) -> tuple[str, ...]:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ManifestError) as caught:
        load([str(tmp_path / "x.yaml")])
    return tuple(problem.removeprefix(f"{tmp_path}/") for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("old", "new", "want"),
    [
        pytest.param(
            '["1e-5", "3e-5"]',
            '[1e-5, "3e-5"]',
            "x.yaml:12: CPTExperiment sweep: spec.recipe.learningRateSweep.learningRates[0]: 1e-5 stands there without "
            'quotes, so YAML reads a number: write "1e-5"',
            id="unquoted rate",
        ),
        pytest.param(
            '["10240"]',
            "[10240]",
            "x.yaml:13: CPTExperiment sweep: spec.recipe.learningRateSweep.rungs[0]: 10240 stands there without "
            'quotes, so YAML reads a number: write "10240"',
            id="unquoted tokens",
        ),
        pytest.param(
            '["10240"]',
            '["10K"]',
            "x.yaml:13: CPTExperiment sweep: spec.recipe.learningRateSweep.rungs[0]: '10K': expected a whole number of "
            "tokens, or one with M, B or T, such as '1.5B'",
            id="unit",
        ),
        pytest.param(
            "{name: python, uri:",
            "{name: python, url:",
            "x.yaml:7: CPTExperiment sweep: spec.datasets[0].url: unknown field; did you mean uri?",
            id="typo",
        ),
        pytest.param(
            "sequenceLength: 64, ",
            "",
            "x.yaml:14: CPTExperiment sweep: spec.training.sequenceLength: is required: Tokens per sequence.",
            id="missing",
        ),
        pytest.param(
            "s3://cpt/python.jsonl",
            "http://cpt/python.jsonl",
            "x.yaml:7: CPTExperiment sweep: spec.datasets[0].uri: 'http://cpt/python.jsonl': expected an address in "
            "the artifact store, such as s3://bucket/folder/texts.jsonl",
            id="address",
        ),
        pytest.param(
            "{uri: s3://cpt/base}",
            "{uri: s3://cpt/base, trialName: base}",
            "x.yaml:5: CPTExperiment sweep: spec.model: expected exactly one of uri, trialName",
            id="union",
        ),
        pytest.param(
            '["10240"]',
            '["20480", "10240"]',
            "x.yaml:13: CPTExperiment sweep: spec.recipe.learningRateSweep.rungs: rungs must rise",
            id="order",
        ),
        pytest.param(
            "name: sweep",
            "name: My_Sweep",
            "x.yaml:3: CPTExperiment My_Sweep: metadata.name: 'My_Sweep': expected a letter, then lower-case letters, "
            "digits and '-', at most 52 characters",
            id="name",
        ),
        pytest.param("globalBatchSize: 8}", "globalBatchSize: 8", "x.yaml:15: not YAML: ", id="bracket"),
        pytest.param("  recipe:\n", "  training: {}\n  recipe:\n", "x.yaml:15: the key 'training' stands", id="twice"),
        pytest.param("v1alpha1", "v1", "x.yaml:1: CPTExperiment sweep: apiVersion: expected", id="version"),
        pytest.param("CPTExperiment", "CPTExperience", "x.yaml:1: kind 'CPTExperience': expected CPTExp", id="kind"),
    ],
)
def test_message(tmp_path: Path, old: str, new: str, want: str) -> None:
    """One line."""
    found = problems(tmp_path, (HEAD + GOOD).replace(old, new))
    assert [problem for problem in found if problem.startswith(want)], found


def test_all_at_once(tmp_path: Path) -> None:
    """Everything that is wrong is listed, in the order of the fields."""
    text = (HEAD + GOOD).replace('"1e-5"', "1e-5").replace("suite: Heldout", "suite: MMLU").replace("8}", '"8", x: 1}')
    assert [problem.split(": ")[2] for problem in problems(tmp_path, text)] == [
        "spec.evaluation.target.suite",
        "spec.recipe.learningRateSweep.learningRates[0]",
        "spec.training.x",
    ]


def test_exit_code_of_a_contradiction() -> None:
    """What only the planner sees ends with the same code: 3."""
    spec: dict[str, Any] = make_experiment(training={"sequenceLength": 64, "globalBatchSize": 1024}).to_dict()
    body = {"apiVersion": "cpt.dev/v1alpha1", "kind": "CPTExperiment", "metadata": {"name": "a"}, "spec": spec}
    done = CliRunner().invoke(app, ["plan", "-f", "-"], input=json.dumps(body))
    assert done.exit_code == Exit.MANIFEST
    assert "leaves no whole batch" in done.stderr


def test_other_kinds_are_left_alone(tmp_path: Path) -> None:
    """A file may hold a Namespace and a ConfigMap too."""
    (tmp_path / "x.yaml").write_text(f"apiVersion: v1\nkind: Namespace\n---\n{HEAD}{GOOD}---\n")
    assert [document.name for document in load([str(tmp_path)]).experiments] == ["sweep"]


def test_nothing_of_ours(tmp_path: Path) -> None:
    """Then the file is probably the wrong one."""
    assert "no CPTExperiment and no CPTTrial" in problems(tmp_path, "apiVersion: v1\nkind: Namespace\n")[0]


def test_namespace() -> None:
    """The option beats the manifest, the manifest beats `default`."""
    file = str(Path(__file__).parents[2] / "examples/demo/base.yaml")
    assert {trial.namespace for trial in load([file]).trials} == {"default"}
    assert {trial.namespace for trial in load([file], namespace="team").trials} == {"team"}
