"""`python -m simulator [--experiments 250] [--at-most 2000]`: claims against worlds with known truth, as Markdown.

Where so many experiments leave a claim unsure, or speak against it, its setting goes on to the larger number.
"""

from __future__ import annotations

import argparse
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

from cpt_trainer.decide import duration, learning_rate, mix, proxy, scaling, screening, soup
from simulator.claims import Claim, Tally
from simulator.experiment import RATES, RUNGS, experiment_spec, run_experiment
from simulator.settings import CURVES
from simulator.studies import STUDIES, Study

Counts = Counter[tuple[str, str, bool]]
"""Answers by setting, claim, and whether it was right."""
_MODULES = (learning_rate, screening, duration, mix, proxy, soup, scaling)
_METHODS = ", ".join(f"`{module.METHOD}`" for module in _MODULES)


def main() -> None:
    """Run every setting and write the table."""
    parser = argparse.ArgumentParser(prog="python -m simulator")
    parser.add_argument("--experiments", type=int, default=250, help="per setting")
    parser.add_argument("--at-most", type=int, default=2000, help="per setting, where not every claim holds by then")
    parser.add_argument("--processes", type=int, default=None, help="all cores when absent")
    parser.add_argument("--out", type=Path, default=Path("docs/evidence/simulation.md"))
    arguments = parser.parse_args()
    counts: Counts = Counter()
    places = [(study, setting) for study, each in enumerate(STUDIES) for setting in range(len(each.settings))]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(arguments.processes) as pool:
        for study, setting in places:
            name, done = STUDIES[study].settings[setting].name, 0
            for goal in (arguments.experiments, max(arguments.experiments, arguments.at_most)):
                if done and all_hold(counts, STUDIES[study], name):
                    break
                for answers in pool.map(observe, repeat(study), repeat(setting), range(done, goal), chunksize=10):
                    counts.update(answers)
                done = goal
            # all of it takes hours: show what there is
            arguments.out.write_text(page(counts, arguments.experiments, arguments.at_most))
            print(f"{name}: {done} experiments", flush=True)  # noqa: T201 - progress


def observe(study: int, setting: int, number: int) -> Counts:
    """One experiment of a setting, and what the claims say about it."""
    claims, place = STUDIES[study].claims, STUDIES[study].settings[setting]
    truth = place.truth(number)
    ended = run_experiment(truth, number, experiment_spec(sorted(truth.curves), STUDIES[study].stages))
    assert ended.plan.complete, f"experiment {number} of {place.name} does not end: {ended.plan.finding}"
    return Counter((place.name, claim.name, bool(answer)) for claim in claims for answer in claim.check(ended))


def all_hold(counts: Counts, study: Study, setting: str) -> bool:
    """No claim of it is unsure or fails."""
    tallies = ((claim, _tally(counts, setting, claim)) for claim in study.claims)
    return all(_holds(claim, tally) == "yes" for claim, tally in tallies if tally.of)


def page(counts: Counts, experiments: int, at_most: int) -> str:
    """Markdown: a table per claim of each study."""
    lines = [
        "# Simulation",
        "",
        f"Written by `python -m simulator --experiments {experiments} --at-most {at_most}` (`make simulate`); do not",
        f"edit. Worlds with known truth answer the trials of {experiments} whole experiments per setting, through the",
        f"real planner and the real decisions ({_METHODS}): four datasets, rates {', '.join(RATES)}, rungs",
        f"{', '.join(RUNGS)}, three control arms per rate. Of a setting in which a claim was unsure by then, or did",
        f"not hold, there are {at_most}. World seeds count from 0, curves are drawn from ({CURVES}, seed) or follow",
        "from the noises. Every plan ended.",
        "",
        "A share is that of datasets (or contrasts, or studies) for which the claim was right; in brackets its 99 %",
        "Monte-Carlo interval, as if they were independent (those of one experiment share its run noise and its",
        "documents). One outside the promised range whose interval reaches into it is *unsure*; where the promise is",
        "for the interval's lower end, that end decides. The last settings are corners: harder than the noise knobs",
        "for which design 4 makes its promises.",
    ]
    for study in STUDIES:
        lines += ["", f"# {study.name}", *(line for claim in study.claims for line in _table(counts, study, claim))]
    return "\n".join(lines) + "\n"


def _table(counts: Counts, study: Study, claim: Claim) -> list[str]:
    """Of one claim; a setting in which nothing was asked has no row, a claim without rows no table."""
    low, high = f"{100 * claim.low:g}", f"{100 * claim.high:g}"
    promised = f"{low} to {high} %" if claim.high < 1 else f">= {low} %" + (" at the lower end" if claim.strict else "")
    rows = []
    for setting in study.settings:
        tally = _tally(counts, setting.name, claim)
        if tally.of:
            rows.append(f"| {setting.name} | {_cells(claim, tally)} |")
    head = ["", f"## {claim.name}", "", f"Promised: {promised}.", "", "| setting | right | of | share | holds |"]
    return [*head, "|---|---|---|---|---|", *rows] if rows else []


def _tally(counts: Counts, setting: str, claim: Claim) -> Tally:
    right = counts[setting, claim.name, True]
    return Tally(right, right + counts[setting, claim.name, False])


def _cells(claim: Claim, tally: Tally) -> str:
    low, high = tally.bounds()
    share = f"{100 * tally.share:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    return f"{tally.right} | {tally.of} | {share} | {_holds(claim, tally)}"


def _holds(claim: Claim, tally: Tally) -> str:
    low, high = tally.bounds()
    if claim.low <= (low if claim.strict else tally.share) <= claim.high:
        return "yes"
    return "unsure" if low <= claim.high and high >= claim.low else "**no**"


if __name__ == "__main__":
    main()
