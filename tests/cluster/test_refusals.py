"""What a real API server refuses, and with which words: a person must know what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.harness import Team
from cpt_operator.apiserver import Rejected
from cpt_operator.kinds import Kind
from make import make_digest, make_experiment

CRDS = Path(__file__).parents[2] / "crds"
DIGEST = make_digest("x")
OTHER = make_digest("y")
SOURCE = {"uri": "s3://cpt/base", "digest": DIGEST}
LOOK = {"type": "Preflight", "preflight": {"inputs": [{"name": "corpus", "kind": "Dataset", "uri": "s3://cpt/corpus"}]}}
PREPARE = {"type": "Prepare", "prepare": {"source": SOURCE, "tokenizer": {"source": SOURCE}}}
EVALUATE = {
    "type": "Evaluate",
    "evaluate": {"model": {"source": SOURCE}, "heldOut": [{"digest": DIGEST}], "sequenceLength": 64},
}
TRAIN: dict[str, Any] = {
    "type": "Train",
    "train": {
        "start": {"model": {"source": SOURCE}},
        "phases": [{"mixture": [{"dataset": {"digest": DIGEST}, "weight": "1"}], "untilTokens": "10240"}],
        "schedule": {"peakLearningRate": "1e-4"},
        "stopTokens": "10240",
        "sequenceLength": 64,
        "globalBatchSize": 8,
    },
}


def changed(spec: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with another value at `a.b.0.c`; None removes it."""
    copy: Any = deepcopy(dict(spec))
    *parents, last = path.split(".")
    place = copy
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place.setdefault(name, {})
    if value is None:
        del place[last]
    else:
        place[last] = value
    result: dict[str, Any] = copy
    return result


async def refusal(team: Team, kind: Kind, spec: Mapping[str, Any], name: str = "x") -> str:
    """What the API server says to a new object."""
    body = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"namespace": team.namespace, "name": name},
        "spec": dict(spec),
    }
    query = {"fieldValidation": "Strict", "dryRun": "All"}
    with pytest.raises(Rejected) as refused:
        await team.api.request("create", kind.path(team.namespace), query=query, body=body)
    return str(refused.value)


EXPERIMENT = make_experiment().to_dict()
EXPERIMENT["recipe"]["durationSweep"] = {"durations": ["40960"]}
EXPERIMENT["recipe"]["soup"] = {"weights": ["0.5"]}
EXPERIMENT["recipe"]["scaling"] = {"models": [{"name": "large", "uri": "s3://cpt/large", "pretrainingTokens": "2T"}]}
EXPERIMENT["references"] = [{"name": "huge", "uri": "s3://cpt/huge", "pretrainingTokens": "2T"}]
MODELS = "recipe.scaling.models"
SWEEP = "recipe.learningRateSweep"
HELD_OUT = "suite Heldout needs data (texts that nothing trains on) or datasets (names whose held-out part is meant)"
NEW_EXPERIMENTS = [
    pytest.param("model.trialName", "base", "expected exactly one of uri and trialName", id="two models"),
    pytest.param("model", {"trialName": "base", "digest": DIGEST}, "digest pins the files at uri", id="pin of a trial"),
    pytest.param("evaluation.target.data", None, HELD_OUT, id="no held-out text"),
    pytest.param("evaluation.retention.datasets", None, HELD_OUT, id="no retention text"),
    pytest.param(
        "evaluation",
        {"target": {"suite": "mmlu", "datasets": ["python"]}, "itemsUri": "s3://cpt/items"},
        "data and datasets go with suite Heldout",
        id="text of a suite",
    ),
    pytest.param("evaluation.itemsUri", "s3://cpt/items", "itemsUri is where the items", id="items of no suite"),
    pytest.param(
        "evaluation",
        {"target": {"suite": "mmlu"}, "itemsUri": "s3://cpt/items", "everyTokens": "4096"},
        "so name curves, or nothing",
        id="nothing to score in between",
    ),
    pytest.param(f"{SWEEP}.rungs", ["2B", "1B"], "rungs must rise: write the shortest first", id="falling rungs"),
    pytest.param("recipe.durationSweep.durations", ["2B", "1B"], "durations must rise", id="falling durations"),
    pytest.param(
        SWEEP, None, "screening and durationSweep go on from a learningRateSweep: add one", id="durations of none"
    ),
    pytest.param(
        SWEEP, None, "without learningRateSweep the recipe needs mixing with strategy Explicit", id="no sweep"
    ),
    pytest.param("recipe.mixing", {"strategy": "Explicit"}, "phases go with strategy Explicit", id="no phases"),
    pytest.param("recipe.mixSweep", {}, "mixSweep trains on the mix: add mixing", id="a sweep of no mix"),
    pytest.param("recipe.soup.weights", ["0.0", "0.5"], "a weight of 0 is the base itself", id="weight of the base"),
    pytest.param("recipe.soup.weights", ["1.5"], "spec.recipe.soup.weights", id="more than the whole"),
    pytest.param(f"{MODELS}.0.trialName", "x", "expected exactly one of uri and trialName", id="two further models"),
    pytest.param(
        MODELS,
        [{"name": "large", "trialName": "x", "digest": DIGEST}],
        "digest pins the files at uri",
        id="pin of a further trial",
    ),
    pytest.param("references.0.uri", None, "expected exactly one of uri and trialName", id="a reference to nothing"),
    pytest.param(
        "recipe.scaling",
        None,
        "references are compared in recipe.scaling: add that, 'scaling: {}' compares",
        id="references without scaling",
    ),
    pytest.param("resources.image", "trainer:1", "must be pinned by digest", id="tagged image"),
    pytest.param("model.uri", "s3://cpt/../secrets", "spec.model.uri", id="dots in a URI"),
    pytest.param("model.uri", "http://169.254.169.254/latest", "spec.model.uri", id="metadata service"),
    pytest.param(f"{SWEEP}.learningRates", [1e-5], "must be of type string", id="unquoted rate"),
    pytest.param(f"{SWEEP}.learningRates", ["fast"], "spec.recipe.learningRateSweep.learningRates", id="no number"),
    pytest.param(f"{SWEEP}.learningRates", [f"{n}e-6" for n in range(1, 5001)], "must have at most", id="5,000 rates"),
    pytest.param("evaluation.epochs", 3, 'unknown field "spec.evaluation.epochs"', id="unknown field"),
    pytest.param("datasets.1.name", "python", "Duplicate value", id="two datasets of one name"),
]
RACE: dict[str, Any] = {
    "type": "Decide",
    "decide": {
        "question": "LearningRate",
        "target": {"heldOut": [{"digest": DIGEST}], "threshold": "0.02"},
        "baseline": {"digest": DIGEST},
        "datasets": [
            {"dataset": {"digest": DIGEST}, "arms": [{"learningRate": "1e-4", "trial": {"digest": DIGEST}}]},
        ],
        "rungTokens": "1B",
        "rungs": 1,
        "last": True,
    },
}
NEW_TRIALS = [
    pytest.param(LOOK | {"type": "Train"}, "the block 'train' goes with type Train, and only with it", id="no train"),
    pytest.param(LOOK | {"type": "Train"}, "the block 'preflight' goes with type Preflight", id="stray preflight"),
    pytest.param(LOOK | {"type": "Prepare"}, "the block 'prepare' goes with type Prepare", id="no prepare"),
    pytest.param(LOOK | {"type": "Evaluate"}, "the block 'evaluate' goes with type Evaluate", id="no evaluate"),
    pytest.param(LOOK | {"type": "Decide"}, "the block 'decide' goes with type Decide", id="no decide"),
    pytest.param(LOOK | {"type": "Merge"}, "the block 'merge' goes with type Merge", id="no merge"),
    pytest.param(
        {"type": "Merge", "merge": {"inputs": [{"segment": {"digest": DIGEST}, "weight": "0.0"}]}},
        "what has a weight of 0 takes no part: remove it",
        id="weight of zero",
    ),
    pytest.param(
        {"type": "Merge", "merge": {"inputs": [{"weight": "1"}]}},
        "expected exactly one of model and segment",
        id="weight of nothing",
    ),
    pytest.param(LOOK | {"type": "Report"}, "the block 'report' goes with type Report", id="no report"),
    pytest.param(
        changed(PREPARE, "prepare.source", {"uri": "s3://cpt/x"}),
        "expected uri with its digest, or preflightName with the name of one of its inputs",
        id="source without digest",
    ),
    pytest.param(
        changed(PREPARE, "prepare.tokenizer.trial", {"digest": DIGEST}),
        "expected exactly one of source and trial",
        id="two tokenizers",
    ),
    pytest.param(
        changed(EVALUATE, "evaluate.heldOut.0.trialName", "x"),
        "expected exactly one of digest and trialName",
        id="two references",
    ),
    pytest.param(
        changed(EVALUATE, "evaluate.segment", {"digest": DIGEST}),
        "expected exactly one of model, segment and merge",
        id="two things to evaluate",
    ),
    pytest.param(
        changed(changed(EVALUATE, "evaluate.heldOut", None), "evaluate.sequenceLength", None),
        "there is nothing to score on: name heldOut, suites or both",
        id="nothing to score on",
    ),
    pytest.param(
        changed(EVALUATE, "evaluate.sequenceLength", None),
        "sequenceLength is the length of the windows of heldOut: they go together",
        id="windows of no length",
    ),
    pytest.param(
        changed(TRAIN, "train.start.segment", {"digest": DIGEST}),
        "expected exactly one of model, segment and random",
        id="two starts",
    ),
    pytest.param(
        changed(RACE, "decide.target.suite", {"suite": "mmlu", "group": "accuracy", "measure": "Accuracy"}),
        "expected exactly one of heldOut and suite",
        id="two targets",
    ),
    pytest.param(
        changed(RACE, "decide.question", "Screening"),
        "rungTokens, rungs, last go with LearningRate; errorRate, family go with Screening; ",
        id="parameters of another question",
    ),
    pytest.param(
        changed(RACE, "decide.question", "Scaling"),
        "datasets go with every question but Scaling",
        id="a scaling of datasets",
    ),
    pytest.param(
        changed(RACE, "decide.datasets.0.phases", [{"mixture": [{"dataset": {"digest": DIGEST}, "weight": "1"}]}]),
        "expected exactly one of dataset and phases",
        id="a dataset and a mix",
    ),
    pytest.param(
        LOOK | {"run": {"resources": {"image": "trainer:1"}}}, "must be pinned by digest", id="tagged image of a trial"
    ),
]
CHANGES = [
    pytest.param("model.uri", "s3://cpt/other", "immutable; create an experiment with a new name", id="model"),
    pytest.param("replay", None, "immutable; create an experiment with a new name", id="replay"),
    pytest.param("evaluation.target.minimumEffect", "0.5", "immutable; create an experiment", id="evaluation"),
    pytest.param("training.seed", 7, "immutable; create an experiment with a new name", id="training"),
    pytest.param("recipe.durationSweep", None, "immutable; create an experiment with a new name", id="durations"),
    pytest.param(
        "recipe.durationSweep.durations", ["30720", "40960"], "an added duration must be longer", id="short duration"
    ),
    pytest.param("recipe.soup", None, "immutable; create an experiment with a new name", id="soup"),
    pytest.param("recipe.soup.weights", ["0.25"], "items may be added, not removed or changed", id="other weight"),
    pytest.param("recipe.scaling", None, "immutable; create an experiment with a new name", id="scaling"),
    pytest.param(MODELS, [], "items may be added, not removed or changed", id="model less"),
    pytest.param(
        f"{MODELS}.0.uri", "s3://cpt/x", "immutable; create an experiment with a new name", id="model's files"
    ),
    pytest.param(f"{MODELS}.0.peakLearningRate", "1e-4", "immutable; create an experiment", id="model's peak"),
    pytest.param("references", None, "items may be added, not removed or changed", id="references"),
    pytest.param("references.0.uri", "s3://cpt/x", "immutable; add a reference under another name", id="reference"),
    pytest.param("recipe.screening", {}, "immutable; create an experiment with a new name", id="screening"),
    pytest.param("artifacts.reuse", "None", "immutable; create an experiment with a new name", id="reuse"),
    pytest.param("resources.image", f"t@sha256:{'0' * 64}", "immutable; create an experiment", id="image"),
    pytest.param(
        "datasets", EXPERIMENT["datasets"][:1], "items may be added, not removed or changed", id="dataset less"
    ),
    pytest.param("datasets.0.uri", "s3://cpt/x", "immutable; add a dataset under another name", id="dataset"),
    pytest.param(f"{SWEEP}.learningRates", ["1e-4"], "items may be added, not removed or changed", id="rate less"),
    pytest.param(f"{SWEEP}.rungs", ["20480"], "items may be added, not removed or changed", id="other rung"),
    pytest.param(
        f"{SWEEP}.rungs", ["5120", "10240"], "an added rung must be longer than all before it", id="short rung"
    ),
]
ALLOWED = [
    pytest.param("datasets", [*EXPERIMENT["datasets"], {"name": "sql", "uri": "s3://cpt/sql"}], id="a dataset more"),
    pytest.param(f"{SWEEP}.learningRates", ["1e-4", "1e-3", "1e-2"], id="a rate more"),
    pytest.param(f"{SWEEP}.rungs", ["10240", "20480"], id="a longer rung"),
    pytest.param("recipe.durationSweep.durations", ["40960", "81920"], id="a longer duration"),
    pytest.param("recipe.soup.weights", ["0.5", "0.25"], id="a weight more"),
    pytest.param(
        MODELS, [*EXPERIMENT["recipe"]["scaling"]["models"], {"name": "small", "trialName": "small"}], id="a model more"
    ),
    pytest.param(f"{MODELS}.0.resources", {"nodes": 2}, id="more nodes for a model"),
    pytest.param(
        "references", [*EXPERIMENT["references"], {"name": "tiny", "uri": "s3://cpt/tiny"}], id="a reference more"
    ),
    pytest.param("scheduling.parallelTrials", 2, id="fewer places"),
    pytest.param("budget.tokens", "1B", id="a budget"),
    pytest.param("budget.gpuHours", "2.5", id="a budget of GPU-hours"),
    pytest.param("suspend", True, id="a pause"),
    pytest.param("resources.memory", "8Gi", id="more memory"),
]


@pytest.mark.parametrize(("path", "value", "words"), NEW_EXPERIMENTS)
async def test_a_bad_experiment_is_refused(team: Team, path: str, value: Any, words: str) -> None:
    """At `kubectl apply`, before anything happens."""
    assert words in await refusal(team, Kind.EXPERIMENT, changed(EXPERIMENT, path, value))


@pytest.mark.parametrize(("spec", "words"), NEW_TRIALS)
async def test_a_bad_trial_is_refused(team: Team, spec: Mapping[str, Any], words: str) -> None:
    """Hand-written ones too."""
    assert words in await refusal(team, Kind.TRIAL, spec)


@pytest.mark.parametrize(("kind", "spec", "limit"), [(Kind.EXPERIMENT, EXPERIMENT, 52), (Kind.TRIAL, LOOK, 48)])
async def test_names(team: Team, kind: Kind, spec: Mapping[str, Any], limit: int) -> None:
    """A limit is told in the message; so is what a name may consist of."""
    assert f"expected at most {limit} characters" in await refusal(team, kind, spec, "x" * 63)
    assert "expected a DNS-1035 label" in await refusal(team, kind, spec, "1-x")
    await team.create(kind, "x" * limit, spec)


async def experiment_with_everything(team: Team) -> None:
    await team.create(Kind.EXPERIMENT, "x", EXPERIMENT)


async def change(team: Team, path: str, value: Any) -> Any:
    """As `kubectl apply` would."""
    body = await team.get(Kind.EXPERIMENT, "x")
    assert body is not None
    operation = {"op": "replace", "path": "/spec", "value": changed(body["spec"], path, value)}
    return await team.patch(Kind.EXPERIMENT, "x", operation)


@pytest.mark.parametrize(("path", "value", "words"), CHANGES)
async def test_a_change_is_refused(team: Team, path: str, value: Any, words: str) -> None:
    """What was trained must stay what the manifest says."""
    await experiment_with_everything(team)
    with pytest.raises(Rejected) as refused:
        await change(team, path, value)
    assert words in str(refused.value)


@pytest.mark.parametrize(("path", "value"), ALLOWED)
async def test_a_change_is_accepted(team: Team, path: str, value: Any) -> None:
    """Lists grow; resources, scheduling, budget and suspend may change at any time."""
    await experiment_with_everything(team)
    assert (await change(team, path, value))["metadata"]["generation"] == 2


async def test_further_models_may_come_later(team: Team) -> None:
    """Where the recipe has a scaling without any, and without references."""
    spec = changed(changed(EXPERIMENT, "references", None), "recipe.scaling", {})
    await team.create(Kind.EXPERIMENT, "x", spec)
    assert (await change(team, MODELS, EXPERIMENT["recipe"]["scaling"]["models"]))["metadata"]["generation"] == 2
    assert (await change(team, "references", EXPERIMENT["references"]))["metadata"]["generation"] == 3


@pytest.mark.parametrize(("spec", "path", "value"), [
    pytest.param(LOOK, "preflight.inputs.0.uri", "s3://cpt/x", id="preflight"),
    pytest.param(PREPARE, "prepare.source.digest", OTHER, id="prepare"),
    pytest.param(TRAIN, "train.schedule.peakLearningRate", "1e-3", id="train"),
    pytest.param(EVALUATE, "evaluate.sequenceLength", 128, id="evaluate"),
    pytest.param(LOOK, "protocol", 2, id="protocol"),
    pytest.param(LOOK, "salt", "x", id="salt"),
    pytest.param(LOOK, "imageDigest", f"sha256:{'0' * 64}", id="image"),
])  # fmt: skip
async def test_a_trial_stays_what_it_is(team: Team, spec: Mapping[str, Any], path: str, value: Any) -> None:
    """Everything that its digest hashes."""
    await team.create(Kind.TRIAL, "x", spec)
    with pytest.raises(Rejected, match="create a trial with a new name"):
        await team.patch(Kind.TRIAL, "x", {"op": "replace", "path": "/spec", "value": changed(spec, path, value)})


async def test_how_a_trial_runs_may_change(team: Team) -> None:
    """Resources, suspend, cancel."""
    await team.create(Kind.TRIAL, "x", LOOK)
    run = {"suspend": True, "cancel": True, "resources": {"memory": "8Gi"}}
    await team.patch(Kind.TRIAL, "x", {"op": "add", "path": "/spec/run", "value": run})


async def test_a_new_object_says_that_nobody_looked_at_it(team: Team) -> None:
    """kstatus reads observedGeneration: without −1 it would think that all is done."""
    for kind, spec in ((Kind.EXPERIMENT, EXPERIMENT), (Kind.TRIAL, LOOK)):
        assert (await team.create(kind, "x", spec))["status"] == {"observedGeneration": -1}


def test_every_message_has_its_case() -> None:
    """A rule that nobody saw refuse something may refuse nothing."""
    words = {str(case.values[-1]) for case in (*NEW_EXPERIMENTS, *NEW_TRIALS, *CHANGES)}
    words |= {"expected a DNS-1035 label", "expected at most", "immutable; create a trial with a new name"}
    unseen = {message for message in _messages() if not any(part in message for part in words)}
    assert unseen == set()


def _messages() -> Iterator[str]:
    for file in CRDS.glob("*.yaml"):
        crd = yaml.safe_load(file.read_text())
        yield from _of(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])


def _of(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for rule in schema.get("x-kubernetes-validations", ()):
            yield rule["message"]
        for value in schema.values():
            yield from _of(value)
