"""Allow-lists and places."""

from __future__ import annotations

from typing import Any

import pytest

from cpt_api.conditions import Reason
from cpt_api.trial import CPTTrialSpec, Resources, TrialType
from cpt_operator.admission import (
    complete_resources,
    next_in_line,
    no_gpus,
    no_place,
    not_allowed,
    not_consistent,
)
from cpt_operator.kinds import Kind
from cpt_operator.records import TrialRecord, record_of
from world import make_settings

PIN = "@sha256:" + "a" * 64


def make_trial(name: str, state: str = "", **meta: Any) -> TrialRecord:
    """A record: `state` is a reason, or `at work`, or `given up`, or nothing yet."""
    status: dict[str, Any] = {}
    if state == "at work":
        status = {"attempts": {"last": [{"number": 1}]}}
    elif state == "given up":
        stalled = {"type": "Stalled", "status": "True", "reason": "QueueDeactivated", "message": ""}
        status = {"attempts": {"last": [{"number": 1}]}, "conditions": [stalled]}
    elif state:
        status = {"conditions": [{"type": "Succeeded", "status": "Unknown", "reason": state, "message": ""}]}
    order = {"cpt.dev/order": name}
    body = {
        "metadata": {"namespace": "team", "name": name, "uid": name, "resourceVersion": "1", "annotations": order}
        | meta,
        "spec": {"type": "Train", "run": {"resources": {"gpusPerNode": 4}}},
        "status": status,
    }
    record = record_of(Kind.TRIAL, body)
    assert isinstance(record, TrialRecord)
    return record


def place(trial: str, others: dict[str, str], places: int, starting: tuple[str, ...] = (), line: str = "") -> bool:
    """Whether the trial gets a place."""
    me = make_trial(trial)
    siblings = [me, *(make_trial(name, state) for name, state in others.items())]
    return no_place(me, siblings, places, lambda key: key.name in starting, lambda key: key.name in line) is None


class TestPlaces:
    """`parallelTrials` holds across stages; lowering it only stops new starts."""

    def test_a_free_place_is_taken(self) -> None:
        """One at work leaves one of two."""
        assert place("b", {"a": "at work"}, 2)

    def test_no_place_is_left(self) -> None:
        """Two of two are taken."""
        assert not place("c", {"a": "at work", "b": "at work"}, 2)

    def test_who_is_earlier_in_the_plan_goes_first(self) -> None:
        """The one free place belongs to b."""
        assert not place("c", {"a": "at work", "b": "Queued"}, 2, line="b")
        assert place("b", {"a": "at work", "c": "Queued"}, 2, line="c")

    def test_who_waits_for_something_else_holds_no_place(self) -> None:
        """A trial without its inputs is not ahead."""
        assert place("c", {"a": "WaitingForInput", "b": "Retrying"}, 1)

    def test_whom_a_queue_has_given_up_holds_no_place(self) -> None:
        """Its attempt is open and has no pods; others go on meanwhile."""
        assert place("b", {"a": "given up"}, 1)

    def test_who_is_being_recorded_counts(self) -> None:
        """Its write has not come back yet."""
        assert not place("b", {"a": "Queued"}, 1, starting=("a",), line="a")

    def test_lowering_never_lets_more_in(self) -> None:
        """Four are at work, two places remain of them."""
        assert not place("e", dict.fromkeys("abcd", "at work"), 2)

    def test_those_next_in_line_are_woken_in_order(self) -> None:
        """No more of them than there are places."""
        line = next_in_line([make_trial(name, "Queued") for name in "cabd"], 2, lambda key: key.name in "abc")
        assert [trial.name for trial in line] == ["a", "b"]


class TestGpus:
    """`caps.gpusPerNamespace`."""

    @pytest.mark.parametrize(("cap", "fits"), [(8, True), (7, False), (None, True)])
    def test_cap(self, cap: int | None, fits: bool) -> None:
        """Four are in use, four more are wanted."""
        used = [make_trial("a", "at work"), make_trial("b", "Queued")]
        assert (no_gpus(4, cap, used, make_settings(), lambda _key: False) is None) is fits

    def test_without_gpus_there_is_no_cap(self) -> None:
        """Trials on CPU are not counted."""
        assert no_gpus(0, 0, [], make_settings(), lambda _key: False) is None


class TestAllowed:
    """Design 2, *Trust*."""

    SETTINGS = make_settings(
        allowed={"images": ["example.test/mine"], "priorityClasses": ["low"]},
        profiles={"h100": {}},
        caps={"gpusPerNamespace": 16},
    )

    @pytest.mark.parametrize(
        ("wanted", "word"),
        [
            pytest.param({"service_account_name": "admin"}, "serviceAccountName", id="account"),
            pytest.param({"credentials_secret_name": "other"}, "credentialsSecretName", id="secret"),
            pytest.param({"profile": "b200"}, "h100", id="profile, naming those that exist"),
            pytest.param({"image": "example.test/other" + PIN}, "image", id="image"),
            pytest.param({"image": "example.test/mine:1"}, "pinned", id="image that is not pinned"),
            pytest.param({"image": "example.test/mine/evil" + PIN}, "image", id="image below an allowed one"),
            pytest.param({"nodes": 4, "gpus_per_node": 8}, "32 GPUs", id="more GPUs than a namespace has"),
        ],
    )
    def test_refused(self, wanted: dict[str, Any], word: str) -> None:
        """The message names the field and what is allowed."""
        resources = complete_resources(TrialType.TRAIN, Resources(**wanted), self.SETTINGS)
        finding = not_allowed(resources, None, self.SETTINGS)
        assert finding is not None
        assert finding.reason is Reason.NOT_ALLOWED
        assert word in finding.message

    @pytest.mark.parametrize(
        "wanted",
        [{}, {"image": "example.test/mine" + PIN}, {"image": "example.test/mine:1" + PIN}, {"profile": "h100"}],
    )
    def test_accepted(self, wanted: dict[str, Any]) -> None:
        """Defaults, and what the lists hold."""
        resources = complete_resources(TrialType.TRAIN, Resources(**wanted), self.SETTINGS)
        assert not_allowed(resources, "low", self.SETTINGS) is None

    def test_priority_class(self) -> None:
        """A priority class that is not listed is refused."""
        resources = complete_resources(TrialType.TRAIN, Resources(), self.SETTINGS)
        finding = not_allowed(resources, "system-cluster-critical", self.SETTINGS)
        assert finding is not None
        assert "priorityClassName" in finding.message

    def test_another_image_is_part_of_the_digest(self) -> None:
        """A trial with another image and no imageDigest would pass its result off as the chart's."""
        image = "example.test/mine" + PIN
        spec = {"type": "Preflight", "run": {"resources": {"image": image}}}
        spec["preflight"] = {"inputs": [{"name": "a", "kind": "Dataset", "uri": "s3://cpt/a"}]}
        assert not_consistent(CPTTrialSpec.model_validate(spec)) is not None
        right = spec | {"imageDigest": PIN[1:]}
        assert not_consistent(CPTTrialSpec.model_validate(right)) is None


def test_evaluation_runs_on_one_node() -> None:
    """All of its GPUs share the questions, or the model where one cannot hold it."""
    settings = make_settings(defaults={"gpusPerNode": 8, "nodes": 2, "serviceAccountName": "cpt-trial"})
    node = complete_resources(TrialType.EVALUATE, Resources(), settings)
    assert (node.nodes, node.gpus_per_node, node.processes_per_node) == (1, 8, None)
    on_cpu = complete_resources(TrialType.EVALUATE, Resources(gpus_per_node=0, processes_per_node=2), settings)
    assert (on_cpu.nodes, on_cpu.gpus_per_node, on_cpu.processes_per_node) == (1, 0, 2)


def test_trials_without_a_model_get_no_gpu() -> None:
    """Preflight, Prepare, Decide and Merge run in one pod on CPU."""
    settings = make_settings(defaults={"gpusPerNode": 8, "nodes": 2, "serviceAccountName": "cpt-trial"})
    for trial_type in (TrialType.DECIDE, TrialType.MERGE):
        small = complete_resources(trial_type, Resources(gpus_per_node=8), settings)
        assert (small.nodes, small.gpus_per_node, small.service_account_name) == (1, 0, "cpt-trial")
    assert complete_resources(TrialType.TRAIN, Resources(), settings).gpus_per_node == 8
