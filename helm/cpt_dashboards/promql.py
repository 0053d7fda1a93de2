"""How all dashboards ask.

An old pod of the operator beside a new one says the same of an experiment, and a trial's series begin anew with each
attempt's pod. So nothing is added up before there is one series of each thing:

    one("cpt_experiment_trials", CHOSEN, *EXPERIMENT, "phase")
    max by (namespace, experiment, phase) (cpt_experiment_trials{namespace=~"$namespace", experiment=~"$experiment"})

Nothing is recorded in advance, so the pages work without any rule. Price, for 500 trials at 720 points of six hours: a
total takes half a second, all 500 curves with their titles two.
"""

from __future__ import annotations

CHOSEN = 'namespace=~"$namespace", experiment=~"$experiment"'
"""Of pages on which several may be chosen."""
EXPERIMENT = ("namespace", "experiment")
TRIAL = (*EXPERIMENT, "trial")


def one(metric: str, selector: str, *labels: str) -> str:
    """One series for each value of the labels, whoever says it."""
    return f"max by ({', '.join(labels)}) ({metric}{{{selector}}})"


def rate(metric: str, selector: str, *labels: str) -> str:
    """By how much a counter grows in a second, likewise."""
    return f"max by ({', '.join(labels)}) (rate({metric}{{{selector}}}[$__rate_interval]))"


def titled(metric: str, selector: str, *labels: str) -> str:
    """A trial's series with the title that says what it does; ten minutes without the operator leave no gap."""
    value = one(metric, selector, "namespace", "trial", *labels)
    title = f"max by (namespace, trial, title) (last_over_time(cpt_trial_info{{{selector}}}[10m]))"
    return f"{value} * on (namespace, trial) group_left (title) {title}"


def quantile(share: float, histogram: str, selector: str, *labels: str) -> str:
    """Below which so many observations are."""
    by = ", ".join(("le", *labels))
    return f"histogram_quantile({share}, sum by ({by}) (rate({histogram}_bucket{{{selector}}}[$__rate_interval])))"


def count(series: str) -> str:
    """How many; 0 where there are none."""
    return f"count({series}) or vector(0)"
