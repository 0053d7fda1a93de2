"""Sentences of a screening, made of what was decided and nothing else.

"Helps: at 3e-4 and 4M tokens it saves 0.0521 bits per byte against the control (one-sided 95 % bounds, adjusted for 3
rates and 2 datasets: 0.0112 and 0.0834). 0.0438 would be seen with 80 % power (100 documents, 8.6 degrees of freedom).
Retention against the control: Undecided, it loses 0.0021 bits per byte. Against the base this model lost 0.0064, at
most 0.0114 (one-sided 95 %, items only): within the margin of 0.02; another run of the recipe
-0.0213 to 0.0341 (95 %)."
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from cpt_api.result import Estimate, Judgement, Verdict
from cpt_api.unit import Unit
from cpt_trainer.decide.against import Case
from cpt_trainer.decide.estimates import t_quantile
from cpt_trainer.decide.judgement import POWER, Evidence, Rule
from cpt_trainer.decide.noise import RunNoise
from cpt_trainer.decide.words import changed, held_out, listed, many, number, of_noise


def of_screening(verdicts: Sequence[Verdict], noise: RunNoise | None, unit: Unit, *, with_controls: bool) -> str:
    """How many datasets do what."""
    found = Counter(verdicts)
    counts = ", ".join(f"{verdict} {found[verdict]}" for verdict in Verdict if found[verdict])
    return f"Of {many(len(verdicts), 'dataset')}: {counts}. {of_noise(noise, unit) if with_controls else _NO_CONTROL}"


_NO_CONTROL = "No control: name replay data (replay.dataset), which the control trains on."


def doubts(case: Case, noise: RunNoise | None) -> list[str]:
    """Why nothing can be said, whatever the numbers are."""
    found = []
    if case.entry.missing:
        found.append(f"these arms failed: {listed(map(str, sorted(case.entry.missing)))}")
    if uncontrolled := case.rates("ControlMissing"):
        found.append("no control" + (f" at {listed(map(str, uncontrolled))}" if case.compared else ""))
    elif noise is None:
        found.append("no run-noise estimate: set training.replicates to 3")
    elif not case.compared:
        found.append("no rate at which both arm and control have a score")
    return found


def of_verdict(judgement: Judgement, case: Case, rule: Rule, doubts: Sequence[str]) -> str:
    """The word, the effect and its bounds."""
    best, effect = case.best, judgement.effect
    head = f"{judgement.verdict} ({'; '.join(doubts)})" if doubts else str(judgement.verdict)
    if best is None or effect is None:
        return f"{head}."
    where = f"at {best.arm.learning_rate} and {best.arm.tokens} tokens"
    what = f"{head}: {where} it {changed(effect.value, rule.unit)} against the control"
    if effect.lower is None or effect.upper is None or judgement.detectable is None:
        return f"{what}."
    family = f"{many(len(case.compared), 'rate')} and {many(rule.family, 'dataset')}"
    return (
        f"{what} (one-sided 95 % bounds, adjusted for {family}: {number(effect.lower)} and {number(effect.upper)}). "
        f"{number(judgement.detectable)} would be seen with 80 % power ({judgement.documents} {rule.unit.items}, "
        f"{number(effect.degrees_of_freedom or 0)} degrees of freedom)."
    )


def of_need(judgement: Judgement, evidence: Evidence, item_variance: float, rule: Rule) -> str:
    """What it would take to see the minimum effect; empty when there is a verdict, or it would be seen."""
    if judgement.verdict is not Verdict.UNDECIDED or rule.threshold == 0:
        return ""
    best = evidence.best
    reach = evidence.null.quantile(rule.first_level) + t_quantile(POWER, best.df)
    wanted, runs = (rule.threshold / reach) ** 2, max(0.0, best.variance - item_variance)
    goal = f"To see {number(rule.threshold)}"
    if best.variance <= wanted:
        return f"{goal} this is enough: the effect lies near the edge; more {rule.unit.items} or replicates narrow it."
    if runs < wanted:
        documents = math.ceil(rule.documents * item_variance / (wanted - runs))
        return f"{goal} take {documents} {held_out(rule.unit)}."
    return (
        f"{goal} {rule.unit.items} are not enough, as runs alone differ by {number(math.sqrt(runs))}: longer rungs or "
        "more replicates may do, or a larger minimumEffect."
    )


def of_divergence(case: Case) -> str:
    """Rates that say nothing."""
    sentences = [
        f"{what}: {listed(map(str, rates))}."
        for what, rates in (
            ("Diverged", case.rates("Diverged")),
            ("Its control diverged", case.rates("ControlDiverged")),
        )
        if rates
    ]
    return " ".join(sentences)


def of_retention(judgement: Judgement | None, forgotten: Estimate, by_recipe: Estimate | None, rule: Rule) -> str:
    """What was forgotten: against the control, by this model, by the recipe."""
    assert forgotten.upper is not None, "a model claim has bounds"
    sentence = ""
    if judgement and judgement.effect:
        sentence = (
            f"Retention against the control: {judgement.verdict}, it {changed(judgement.effect.value, rule.unit)}. "
        )
    kept = "within" if forgotten.upper <= rule.threshold else "not shown to be within"
    sentence += (
        f"Against the base this model lost {number(forgotten.value)}, at most {number(forgotten.upper)} (one-sided "
        f"95 %, items only): {kept} the margin of {number(rule.threshold)}"
    )
    if by_recipe and by_recipe.lower is not None and by_recipe.upper is not None:
        sentence += f"; another run of the recipe {number(by_recipe.lower)} to {number(by_recipe.upper)} (95 %)"
    return f"{sentence}."
