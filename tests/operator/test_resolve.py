"""From names to digests."""

from __future__ import annotations

from typing import Any

import pytest

from cpt_api.conditions import Reason
from cpt_api.digest import trial_digest
from cpt_api.result import Finding as InputFinding
from cpt_api.result import Result
from cpt_api.trial import CPTTrialSpec
from cpt_operator.plan.types import Finding
from cpt_operator.resolve import Input, State, World, resolve
from make import make_digest, make_result

PREFLIGHT = CPTTrialSpec.model_validate(
    {
        "type": "Preflight",
        "preflight": {"inputs": [{"name": "corpus", "kind": "Dataset", "uri": "s3://cpt/sources/corpus.jsonl"}]},
    }
)
PREPARE = CPTTrialSpec.model_validate(
    {
        "type": "Prepare",
        "prepare": {
            "source": {"preflightName": "look", "input": "corpus"},
            "tokenizer": {"trial": {"trialName": "base"}},
        },
    }
)
EVALUATE = CPTTrialSpec.model_validate(
    {
        "type": "Evaluate",
        "evaluate": {
            "segment": {"digest": make_digest("segment")},
            "heldOut": [{"digest": make_digest("text")}],
            "sequenceLength": 64,
        },
    }
)

MERGE = CPTTrialSpec.model_validate(
    {
        "type": "Merge",
        "merge": {
            "inputs": [
                {"model": {"trial": {"trialName": "base"}}, "weight": "0.5"},
                {"segment": {"digest": make_digest("segment")}, "weight": "0.5"},
            ],
        },
    }
)


def world(
    base: State | None = State.SUCCEEDED, look: Result | None = None, planned: bool = False, **digests: State
) -> World:
    """`look` has succeeded; `base` is as told; `digests` are trials by the text of their digest."""
    named = {"look": Input("look", State.SUCCEEDED, make_digest("look"))}
    if base is not None:
        named["base"] = Input("base", base, make_digest("base"))
    return World(
        by_name=named,
        by_digest={make_digest(text): [Input(text, state, make_digest(text))] for text, state in digests.items()},
        preflights={"look": look or make_result(PREFLIGHT)},
        planned=planned,
    )


def reason(answer: Any) -> Reason:
    assert isinstance(answer, Finding)
    return answer.reason


class TestNames:
    """Design 2, *Hand-written trials*."""

    def test_resolved(self) -> None:
        """Every reference has its digest, sources their address."""
        spec = resolve(PREPARE, world())
        assert isinstance(spec, CPTTrialSpec)
        assert spec.prepare
        assert spec.prepare.source.uri == "s3://cpt/sources/corpus.jsonl"
        assert spec.prepare.tokenizer.trial
        assert spec.prepare.tokenizer.trial.digest == make_digest("base")

    def test_a_name_and_a_digest_give_one_digest(self) -> None:
        """Whoever writes the same with digests gets the same trial."""
        spec = resolve(PREPARE, world())
        assert isinstance(spec, CPTTrialSpec)
        written = CPTTrialSpec.model_validate(spec.to_dict())
        assert trial_digest(written) == trial_digest(spec)

    def test_waits_for_a_trial_that_is_not_there(self) -> None:
        """It may be applied a moment later."""
        assert reason(resolve(PREPARE, world(base=None))) is Reason.WAITING_FOR_INPUT

    def test_waits_for_a_trial_that_runs(self) -> None:
        """Its end is needed."""
        assert reason(resolve(PREPARE, world(base=State.PENDING))) is Reason.WAITING_FOR_INPUT

    def test_a_failed_input_stalls(self) -> None:
        """Nothing goes on until somebody acts."""
        assert reason(resolve(PREPARE, world(base=State.FAILED))) is Reason.INPUT_FAILED

    def test_a_diverged_input_stalls(self) -> None:
        """It has no end to go on from."""
        assert reason(resolve(PREPARE, world(base=State.DIVERGED))) is Reason.INPUT_FAILED

    def test_an_input_that_preflight_did_not_resolve_stalls(self) -> None:
        """The message is Preflight's."""
        trouble = InputFinding(input="corpus", reason="Empty", message="no documents")
        answer = resolve(PREPARE, world(look=make_result(PREFLIGHT, findings=(trouble,))))
        assert reason(answer) is Reason.INPUT_FAILED
        assert isinstance(answer, Finding)
        assert "no documents" in answer.message

    def test_a_source_without_digest_is_invalid(self) -> None:
        """Only a Preflight gives digests to addresses."""
        spec = PREPARE.to_dict()
        spec["prepare"]["source"] = {"uri": "s3://cpt/a"}
        assert reason(resolve(CPTTrialSpec.model_validate(spec), world())) is Reason.INVALID


class TestMerge:
    """A trial written by hand, or an evaluation of what it would write."""

    @pytest.mark.parametrize("unwritten", [False, True])
    def test_resolved(self, unwritten: bool) -> None:
        """Names among the inputs have their digests, in the order of the inputs."""
        spec = MERGE
        if unwritten:
            work = EVALUATE.to_dict()["evaluate"] | {"merge": MERGE.to_dict()["merge"]}
            del work["segment"]
            spec = CPTTrialSpec.model_validate({"type": "Evaluate", "evaluate": work})
        found = resolve(spec, world())
        assert isinstance(found, CPTTrialSpec)
        merge = found.evaluate.merge if found.evaluate else found.merge
        assert merge
        model, segment = (entry.model.trial if entry.model else entry.segment for entry in merge.inputs)
        assert model and segment
        assert (model.digest, segment.digest) == (make_digest("base"), make_digest("segment"))

    @pytest.mark.parametrize(
        ("base", "want"),
        [
            (State.PENDING, Reason.WAITING_FOR_INPUT),
            (State.FAILED, Reason.INPUT_FAILED),
            (State.DIVERGED, Reason.INPUT_FAILED),
        ],
    )
    def test_inputs_must_have_succeeded(self, base: State, want: Reason) -> None:
        """No mean is taken of what is not there, or of a run that diverged."""
        assert reason(resolve(MERGE, world(base=base))) is want


class TestDigests:
    """Nothing starts before its inputs exist."""

    def test_planned_inputs_are_waited_for(self) -> None:
        """An experiment makes every input, if not yet."""
        assert reason(resolve(EVALUATE, world(planned=True))) is Reason.WAITING_FOR_INPUT
        assert resolve(EVALUATE, world(planned=True, segment=State.SUCCEEDED, text=State.SUCCEEDED)) == EVALUATE

    def test_a_hand_written_digest_may_be_in_the_store_only(self) -> None:
        """There is no trial to wait for."""
        assert resolve(EVALUATE, world()) == EVALUATE

    def test_what_is_observed_is_waited_for_too(self) -> None:
        """The baseline must be scored before training starts."""
        spec = EVALUATE.to_dict() | {"run": {"observe": {"baseline": {"trialName": "base"}}}}
        assert reason(resolve(CPTTrialSpec.model_validate(spec), world(base=State.PENDING))) is Reason.WAITING_FOR_INPUT

    def test_the_message_does_not_change_with_every_input(self) -> None:
        """Each change would be a write."""
        one = resolve(EVALUATE, world(planned=True))
        assert one == resolve(EVALUATE, world(planned=True, segment=State.SUCCEEDED))

    def test_a_decision_reads_diverged_arms(self) -> None:
        """Divergence is what it wants to know."""
        arm, data, text = ({"digest": make_digest(name)} for name in ("arm", "data", "text"))
        decide = {
            "question": "LearningRate",
            "target": {"heldOut": [text], "threshold": "0.02"},
            "baseline": arm,
            "datasets": [{"dataset": data, "arms": [{"learningRate": "1e-3", "trial": arm}]}],
            "rungTokens": "1M",
            "rungs": 1,
            "last": True,
        }
        spec = CPTTrialSpec.model_validate({"type": "Decide", "decide": decide})
        everything = world(planned=True, arm=State.DIVERGED, data=State.SUCCEEDED, text=State.SUCCEEDED)
        assert resolve(spec, everything) == spec
