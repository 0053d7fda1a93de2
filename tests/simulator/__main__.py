"""`python -m simulator [--experiments 2000] [--out FILE]`: claims against worlds with known truth, as Markdown."""

from __future__ import annotations

import argparse
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

from cpt_trainer.decide.learning_rate import METHOD
from simulator.claims import CLAIMS, Claim, Tally
from simulator.experiment import RATES, RUNGS, run_experiment
from simulator.settings import CURVES, SETTINGS

Counts = Counter[tuple[str, str, bool]]
"""Answers by setting, claim, and whether it was right."""


def main() -> None:
    """Run every setting and write the table."""
    parser = argparse.ArgumentParser(prog="python -m simulator")
    parser.add_argument("--experiments", type=int, default=2000, help="per setting")
    parser.add_argument("--processes", type=int, default=None, help="all cores when absent")
    parser.add_argument("--out", type=Path, default=Path("docs/evidence/simulation.md"))
    arguments = parser.parse_args()
    counts: Counts = Counter()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(arguments.processes) as pool:
        for index, setting in enumerate(SETTINGS):
            numbers = range(arguments.experiments)
            for answers in pool.map(observe, repeat(index), numbers, chunksize=10):
                counts.update(answers)
            arguments.out.write_text(page(counts, arguments.experiments))  # all of it takes an hour: show what there is
            print(f"{setting.name}: {arguments.experiments} experiments", flush=True)  # noqa: T201 - progress


def observe(index: int, number: int) -> Counts:
    """One experiment of a setting, and what the claims say about it."""
    setting = SETTINGS[index]
    ended = run_experiment(setting.truth(number), number)
    assert ended.plan.complete, f"experiment {number} of {setting.name} does not end: {ended.plan.finding}"
    return Counter((setting.name, claim.name, bool(answer)) for claim in CLAIMS for answer in claim.check(ended))


def page(counts: Counts, experiments: int) -> str:
    """Markdown: a table per claim."""
    lines = [
        "# Simulation",
        "",
        f"Written by `python -m simulator --experiments {experiments}` (`make simulate`); do not edit. Worlds with",
        f"known truth answer the trials of {experiments} whole experiments per setting, through the real planner and",
        f"the real decisions (`{METHOD}`): four datasets, rates {', '.join(RATES)}, rungs {', '.join(RUNGS)}, three",
        f"control arms per rate. World seeds are 0 to {experiments - 1}, curves are drawn from ({CURVES}, seed). Every",
        "plan ended.",
        "",
        "A share is that of datasets (or contrasts) for which the claim was right; in brackets its 99 % Monte-Carlo",
        "interval, as if they were independent (those of one experiment share its run noise and its documents). One",
        "outside the promised range whose interval reaches into it is *unsure*. The last settings are corners: harder",
        "than the noise knobs for which design 4 makes its promises.",
    ]
    for claim in CLAIMS:
        promised = (
            f"{100 * claim.low:.0f} to {100 * claim.high:.0f} %" if claim.high < 1 else f">= {100 * claim.low:.0f} %"
        )
        lines += ["", f"## {claim.name}", "", f"Promised: {promised}.", "", "| setting | right | of | share | holds |"]
        lines += ["|---|---|---|---|---|"]
        for setting in SETTINGS:
            right = counts[setting.name, claim.name, True]
            tally = Tally(right, right + counts[setting.name, claim.name, False])
            if tally.of:
                lines.append(f"| {setting.name} | {_cells(claim, tally)} |")
    return "\n".join(lines) + "\n"


def _cells(claim: Claim, tally: Tally) -> str:
    low, high = tally.bounds()
    if claim.low <= tally.share <= claim.high:
        holds = "yes"
    else:
        holds = "unsure" if low <= claim.high and high >= claim.low else "**no**"
    share = f"{100 * tally.share:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    return f"{tally.right} | {tally.of} | {share} | {holds}"


if __name__ == "__main__":
    main()
