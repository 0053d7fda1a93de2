"""Builders of valid objects: a test names only what it is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cpt_api.digest import input_digests, subject_digest, trial_digest
from cpt_api.experiment import CPTExperimentSpec
from cpt_api.model import sha256
from cpt_api.result import (
    CheckpointRef,
    Decision,
    DurationArm,
    DurationChoice,
    Equivalent,
    Estimate,
    GroupScore,
    HeldOutScore,
    Judgement,
    MixArm,
    MixChoice,
    MixPart,
    Outcome,
    Proposal,
    RateArm,
    RateChoice,
    ResolvedInput,
    Result,
    Scaled,
    Screened,
    ScreenedArm,
    SoupArm,
    SoupChoice,
    SuiteScore,
    Verdict,
)
from cpt_api.trial import CPTTrialSpec, DecideWork, Measure, Question, TrialType
from cpt_api.values import Digest, LearningRate


def make_digest(text: str) -> Digest:
    """A digest that is the same for the same text."""
    return sha256(text.encode())


def make_experiment(**changes: Any) -> CPTExperimentSpec:
    """Two datasets, two rates, one rung, a control with two replicates."""
    spec: dict[str, Any] = {
        "model": {"uri": "s3://cpt/sources/base"},
        "datasets": [
            {"name": "python", "uri": "s3://cpt/sources/python.jsonl"},
            {"name": "perl", "uri": "s3://cpt/sources/perl.jsonl"},
        ],
        "replay": {"dataset": {"name": "speeches", "uri": "s3://cpt/sources/speeches.jsonl"}},
        "evaluation": {
            "target": {"suite": "Heldout", "data": [{"name": "linux", "uri": "s3://cpt/sources/linux.jsonl"}]},
            "retention": {"suite": "Heldout", "datasets": ["speeches"]},
        },
        "recipe": {"learningRateSweep": {"learningRates": ["1e-4", "1e-3"], "rungs": ["10240"]}},
        "training": {"sequenceLength": 64, "globalBatchSize": 8, "replicates": 2},
    }
    return CPTExperimentSpec.model_validate(spec | changes)


def make_result(spec: CPTTrialSpec, **changes: Any) -> Result:
    """What a trial of that spec commits when all goes well."""
    result = Result(
        protocol=spec.protocol or 1,
        digest=trial_digest(spec),
        type=spec.type,
        inputs=tuple(input_digests(spec)),
        attempt=1,
        **_products(spec),
    )
    return result.model_copy(update=changes)


def _products(spec: CPTTrialSpec) -> dict[str, Any]:
    match spec.type:
        case TrialType.PREFLIGHT:
            assert spec.preflight
            resolved = [
                ResolvedInput(name=i.name, kind=i.kind, uri=i.uri, digest=make_digest(i.uri), files=1, bytes=1)
                for i in spec.preflight.inputs
            ]
            return {"resolved": tuple(resolved)}
        case TrialType.TRAIN:
            assert spec.train
            texts = spec.run.observe.held_out if spec.run.observe else ()
            step = spec.train.stop_tokens // (spec.train.sequence_length * spec.train.global_batch_size)
            checkpoint = CheckpointRef(manifest="checkpoints/end", step=step, tokens=spec.train.stop_tokens)
            return {"checkpoint": checkpoint, "held_out": tuple(_score(t.digest) for t in texts if t.digest)}
        case TrialType.EVALUATE:
            assert spec.evaluate
            return {
                "held_out": tuple(_score(t.digest) for t in spec.evaluate.texts if t.digest),
                "suites": tuple(make_suite_score(work.suite) for work in spec.evaluate.suites or ()),
            }
        case TrialType.DECIDE:
            assert spec.decide
            return {"decision": make_decision(spec.decide)}
        case _:
            return {}


def _score(text: Digest) -> HeldOutScore:
    return HeldOutScore(
        text=text, bits_per_byte=2.0, standard_error=0.01, documents=40, bytes=1000, table="items.parquet"
    )


def make_suite_score(suite: str) -> SuiteScore:
    """Of mmlu and ours bits per byte, second to the share of right answers; of all others that share."""
    groups = [GroupScore(group="accuracy", measure=Measure.ACCURACY, value=0.4, standard_error=0.01)]
    if suite in ("mmlu", "ours"):
        groups.append(GroupScore(group="bits", measure=Measure.BITS_PER_BYTE, value=1.1, standard_error=0.01))
    return SuiteScore(
        suite=suite,
        digest=make_digest(suite),
        fingerprint=make_digest("fp32"),
        groups=tuple(groups),
        items=100,
        table=f"tables/{suite}.parquet",
    )


def make_screened(work: DecideWork, verdict: Verdict = Verdict.HELPS) -> Decision:
    """The same verdict for every dataset."""
    effect = Estimate(value=0.3, standard_error=0.1, degrees_of_freedom=8, lower=0.1, upper=0.5)
    answers = [
        Screened(
            dataset=subject_digest(entry),
            learning_rate=entry.arms[0].learning_rate,
            tokens=entry.arms[0].tokens,
            target=Judgement(verdict=verdict, effect=effect, documents=100),
            arms=tuple(
                ScreenedArm(learning_rate=a.learning_rate, tokens=a.tokens, trial=a.trial.digest, outcome="Compared")
                for a in entry.arms
                if a.tokens and a.trial.digest
            ),
            reason="a reason",
        )
        for entry in work.datasets
    ]
    return Decision(question=work.question, method="test-1", screened=tuple(answers), sentence="screened")


def make_durations(work: DecideWork, *, go_on: bool = True) -> Decision:
    """The shortest is chosen."""
    answers = [
        DurationChoice(
            dataset=subject_digest(entry),
            learning_rate=entry.arms[0].learning_rate,
            arms=tuple(
                DurationArm(tokens=a.tokens, trial=a.trial.digest, outcome="Completed", target=1.4, acceptable=True)
                for a in entry.arms
                if a.tokens and a.trial.digest
            ),
            chosen=entry.arms[0].tokens,
            verdict="Chosen",
            go_on=go_on,
            gain=Estimate(value=0.6, standard_error=0.1, degrees_of_freedom=4, lower=0.3, upper=0.9),
            reason="a reason",
        )
        for entry in work.datasets
    ]
    return Decision(question=work.question, method="test-1", durations=tuple(answers), sentence="how long")


def make_soup(work: DecideWork, *, verdict: str = "Chosen", picked: int = 0) -> Decision:
    """The first mean of the first dataset is chosen, unless told otherwise."""
    gain = Estimate(value=0.4, standard_error=0.1, degrees_of_freedom=20, lower=0.2, upper=0.6)
    arms = [
        SoupArm(
            dataset=subject_digest(entry),
            learning_rate=a.learning_rate,
            tokens=a.tokens,
            weight=a.weight,
            trial=a.trial.digest,
            target=1.3,
            target_interval=(1.25, 1.35),
            gain=gain,
            retention=1.9,
            holds=True,
            front=False,
        )
        for entry in work.datasets
        for a in entry.arms
        if a.tokens and a.weight and a.trial.digest
    ]
    choice = SoupChoice(
        arms=tuple(arms),
        picked=None if verdict == "NoneFeasible" else arms[picked].trial,
        verdict=verdict,
        gain=gain,
        documents=20,
        reason=f"{verdict}: a reason",
    )
    return Decision(question=work.question, method="test-1", soup=choice, sentence="of so many")


def make_mix(work: DecideWork, chosen: Digest | None = None) -> Decision:
    """The proposal is kept unless told otherwise."""
    assert work.proposal
    first = work.datasets[0].arms[0]
    assert first.tokens
    choice = MixChoice(
        learning_rate=first.learning_rate,
        tokens=first.tokens,
        arms=tuple(
            MixArm(
                mix=subject_digest(entry),
                parts=tuple(
                    MixPart(dataset=part.dataset.digest or "", weight=part.weight)
                    for phase in entry.phases or ()
                    for part in phase.mixture
                ),
                trial=entry.arms[0].trial.digest or "",
                outcome="Completed",
                target=1.45,
            )
            for entry in work.datasets
        ),
        proposal=work.proposal,
        chosen=chosen or work.proposal,
        verdict="Kept" if chosen in (None, work.proposal) else "Replaced",
        reason="a reason",
    )
    return Decision(question=work.question, method="test-1", mix=choice, sentence="mixed")


def make_proposal(work: DecideWork, weights: Sequence[str] = (), verdict: str = "Proposed") -> Decision:
    """These weights; without any the prior, in thousandths."""
    assert work.merges
    assert work.prior
    assert work.caps
    given = weights or [f"{part:.3f}" for part in map(float, work.prior)]
    proposal = {
        "learningRate": work.datasets[0].arms[0].learning_rate,
        "components": [
            {"dataset": subject_digest(entry), "weight": weight, "prior": prior, "cap": cap}
            for entry, weight, prior, cap in zip(work.datasets, given, work.prior, work.caps, strict=True)
        ],
        "merges": [
            {"weights": merge.weights, "trial": merge.trial.digest, "target": 1.5, "unseen": 1.5}
            for merge in work.merges
        ],
        "law": "None",
        "expected": 1.4,
        "rankCorrelation": 0.9,
        "verdict": verdict,
        "reason": "a reason",
    }
    answer = Proposal.model_validate(proposal)
    return Decision(question=work.question, method="test-1", proposal=answer, sentence="by merges")


def make_scaled(work: DecideWork) -> Decision:
    """Every arm gains the same, and is worth three times its compute."""
    answers = [
        Scaled(
            baseline=model.baseline.digest or "",
            base_target=2.0,
            base_interval=(1.9, 2.1),
            trial=model.arm.trial.digest if model.arm else None,
            outcome="Completed" if model.arm else "Evaluated",
            target=1.5 if model.arm else None,
            gain=Estimate(value=0.5, standard_error=0.1, degrees_of_freedom=4, lower=0.2, upper=0.8)
            if model.arm
            else None,
            equivalent=Equivalent(place="Between", value=3, lower=2, smallest=0.5, largest=4) if model.arm else None,
            reason="a reason",
        )
        for model in work.models or ()
    ]
    return Decision(question=work.question, method="test-1", scaled=tuple(answers), sentence="scaled")


def make_decision(work: DecideWork, chosen: LearningRate | None = None) -> Decision:
    """Drops the highest rate at every rung but the last, and chooses the lowest unless told otherwise."""
    if work.question is Question.SCREENING:
        return make_screened(work)
    if work.question is Question.DURATION:
        return make_durations(work)
    if work.question is Question.MIXTURE_PROXY:
        return make_proposal(work)
    if work.question is Question.MIX:
        return make_mix(work)
    if work.question is Question.SOUP:
        return make_soup(work)
    if work.question is Question.SCALING:
        return make_scaled(work)
    choices = []
    for entry in work.datasets:
        rates = [arm.learning_rate for arm in entry.arms]
        choices.append(
            RateChoice(
                dataset=subject_digest(entry),
                arms=tuple(
                    RateArm(learning_rate=a.learning_rate, trial=a.trial.digest or "", outcome="Completed", target=1.5)
                    for a in entry.arms
                ),
                survivors=tuple(rates if work.last or len(rates) == 1 else rates[:-1]),
                chosen=chosen or rates[0],
                verdict="Chosen",
                gain=Estimate(value=0.5, standard_error=0.1, degrees_of_freedom=4, lower=0.2, upper=0.8),
                reason="the lowest rate within one standard error of the best",
            )
        )
    return Decision(question=Question.LEARNING_RATE, method="test-1", rates=tuple(choices), sentence="decided")


def outcome_diverged(spec: CPTTrialSpec) -> Result:
    """What a Train trial commits when it diverged."""
    return make_result(spec, outcome=Outcome.DIVERGED, checkpoint=None, held_out=())
