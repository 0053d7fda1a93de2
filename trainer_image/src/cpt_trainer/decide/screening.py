"""Question Screening: which datasets help more than replay data alone, trained alike?

    rate   tokens   control - arm   SE      t
    1e-4   2M       0.011           0.014   0.8
    3e-4   4M       0.052           0.013   4.0     the largest of three: alone it would say p = 0.002,
    1e-3   4M       0.038           0.013   2.9     as the largest it says p = 0.005; of two datasets 0.010: Helps

An arm is held against the control at the same rate and tokens (against the mean of its replicates where there are
some), so what re-warming and cooling do to any data cancels. The variance is that of the items and of the runs. A
dataset may do well at any of its rates, so its statistic is the largest t, referred to what the largest of so many is
by chance (joint.py); halves of the items would not do, since they share a lucky run. Holm over the datasets.

Helps: the lower bound of the best rate is above zero. Hurts: the upper bounds of *all* rates are below. Unaffected: the
90 % interval lies inside the threshold. Retention is judged the same way at that one rate. That the model itself is
not worse than the base is a claim about a model, with item noise alone; what the recipe forgets has run noise.

Price: 0.1 s for a dataset of four rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cpt_api.digest import subject_digest
from cpt_api.result import Cell, Decision, Estimate, Judgement, Screened, ScreenedArm
from cpt_api.trial import Arm, DecideWork, DecisionMetric, Question
from cpt_api.unit import unit_of
from cpt_trainer.decide import screening_words as words
from cpt_trainer.decide.against import Case, Compared, Controls, compare
from cpt_trainer.decide.document import ONE_SIDED, Models, Texts, base_of, estimate, shown, spread
from cpt_trainer.decide.estimates import difference, level
from cpt_trainer.decide.joint import MaximumNull, correlations
from cpt_trainer.decide.judgement import Evidence, Rule, judge, undecided
from cpt_trainer.decide.matrix import columns, matrix
from cpt_trainer.decide.noise import RunNoise, run_noise, with_runs
from cpt_trainer.decide.words import cut
from cpt_trainer.trial import known

METHOD = "screening/1"
"""Changes with the procedure: equal methods and equal inputs give equal documents."""


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """Target or retention."""

    rule: Rule
    noise: RunNoise | None
    base: Texts


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Everything that was found out about one dataset."""

    case: Case
    target: Judgement
    evidence: Evidence | None
    """On the target; None where nothing could be judged."""
    retention: Judgement | None
    forgotten: Estimate | None
    """By the best arm's model, against the base."""
    forgotten_by_recipe: Estimate | None
    within_margin: bool | None


def decide(work: DecideWork, models: Models) -> Decision:
    """The answer for every dataset, by digest."""
    base = base_of(work, models)
    controls: Controls = {
        (control.learning_rate, control.tokens): [models[trial] for trial in sorted(map(known, control.trials))]
        for control in work.controls
    }
    groups = [[scores for scores in group if scores] for group in controls.values()]
    target = _metric(work, work.target, base.target, [[scores.target for scores in group] for group in groups])
    retention = None
    if work.retention:
        runs = [[scores.retention for scores in group] for group in groups]
        retention = _metric(work, work.retention, base.retention, runs)
    entries = sorted(work.datasets, key=subject_digest)
    cases = [compare(entry, models, controls, target.noise) for entry in entries]
    texts = columns(work)
    rows = matrix(cases, texts, groups)
    judged = _judged(cases, target, retention, work.seed)
    return Decision(
        question=Question.SCREENING,
        method=METHOD,
        run_noise=spread(target.noise),
        screened=tuple(_screened(one, target, retention, rows[one.case.dataset]) for one in judged),
        texts=tuple(texts),
        sentence=words.of_screening(
            [one.target.verdict for one in judged], target.noise, target.rule.unit, with_controls=bool(controls)
        ),
    )


def _metric(work: DecideWork, metric: DecisionMetric, base: Texts, runs: Sequence[Sequence[Texts]]) -> Metric:
    assert work.error_rate is not None, "this question has one"
    assert work.family is not None, "this question has one"
    documents = sum(len(text.bytes) for text in base)
    rule = Rule(float(metric.threshold), work.family, float(work.error_rate), documents, unit_of(metric))
    return Metric(rule, run_noise(runs), base)


def _judged(cases: Sequence[Case], target: Metric, retention: Metric | None, seed: int) -> list[Judged]:
    evidence = {case.dataset: _on_target(case, seed) for case in cases if target.noise and case.compared}
    targets = judge(evidence, target.rule)
    retained = {
        case.dataset: _on_retention(case, case.best, retention.noise)
        for case in cases
        if retention and retention.noise and case.best
    }
    retentions = judge(retained, retention.rule) if retention else {}
    return [
        Judged(
            case,
            targets.get(case.dataset) or undecided(case.best.gain.value if case.best else None, target.rule),
            evidence.get(case.dataset),
            retentions.get(case.dataset) or _undecided_retention(case, retention),
            *_forgotten(case.best, retention),
        )
        for case in cases
    ]


def _undecided_retention(case: Case, retention: Metric | None) -> Judgement | None:
    if retention is None:
        return None
    return undecided(level(case.best.retention).value if case.best else None, retention.rule)


def _on_target(case: Case, seed: int) -> Evidence:
    best, every = case.best, list(case.compared.values())
    assert best is not None, "something was compared"
    gains = [one.gain for one in every]
    null = MaximumNull.of(
        correlations([one.target for one in every], gains), df=min(gain.df for gain in gains), seed=seed
    )
    return Evidence(best.gain, gains, null, case.complete)


def _on_retention(case: Case, best: Compared, noise: RunNoise) -> Evidence:
    """At the rate that the target picked: one t, and no maximum."""
    kept = with_runs(level(best.retention), noise, best.runs)
    return Evidence(kept, [kept], MaximumNull.of([[1.0]], kept.df, 0), case.complete)


def _forgotten(best: Compared | None, retention: Metric | None) -> tuple[Estimate | None, Estimate | None, bool | None]:
    """By the model (items only, one-sided), by the recipe (with run noise), and whether the model keeps the margin."""
    if best is None or retention is None:
        return None, None, None
    lost = difference(best.scores.retention, retention.base)
    model = estimate(lost, ONE_SIDED)
    recipe = estimate(with_runs(lost, retention.noise, runs=1)) if retention.noise else None
    assert model.upper is not None, "an interval was asked for"
    return model, recipe, model.upper <= retention.rule.threshold


def _screened(one: Judged, target: Metric, retention: Metric | None, row: tuple[Cell, ...]) -> Screened:
    case, best = one.case, one.case.best
    return Screened(
        dataset=case.dataset,
        learning_rate=best.arm.learning_rate if best else None,
        tokens=best.arm.tokens if best else None,
        target=one.target,
        retention=one.retention,
        forgotten=one.forgotten,
        forgotten_within_margin=one.within_margin,
        forgotten_by_recipe=one.forgotten_by_recipe,
        arms=tuple(_arm(case, arm, target.noise) for arm in sorted(case.entry.arms, key=lambda arm: arm.learning_rate)),
        cells=row,
        reason=_reason(one, target, retention),
    )


def _arm(case: Case, arm: Arm, noise: RunNoise | None) -> ScreenedArm:
    compared = case.compared.get(arm.learning_rate)
    gain = None
    if compared:
        gain = estimate(compared.gain) if noise else Estimate(value=shown(compared.gain.value))
    assert arm.tokens is not None, "arms of this question have them"
    return ScreenedArm(
        learning_rate=arm.learning_rate,
        tokens=arm.tokens,
        trial=known(arm.trial),
        outcome=case.outcomes[arm.learning_rate],
        gain=gain,
    )


def _reason(one: Judged, target: Metric, retention: Metric | None) -> str:
    doubts = words.doubts(one.case, target.noise)
    sentences = [words.of_verdict(one.target, one.case, target.rule, doubts)]
    if one.evidence and one.case.best and not doubts:
        sentences.append(words.of_need(one.target, one.evidence, level(one.case.best.target).variance, target.rule))
    sentences.append(words.of_divergence(one.case))
    if retention and one.forgotten:
        sentences.append(words.of_retention(one.retention, one.forgotten, one.forgotten_by_recipe, retention.rule))
    return cut(" ".join(filter(None, sentences)))
