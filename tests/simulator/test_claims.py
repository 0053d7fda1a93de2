"""Whole experiments on worlds with known truth: about 100 answers per claim and setting, here; thousands by
`python -m simulator`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from simulator import duration_claims, merge_claims, mix_claims, scaling_claims, screening_claims, soup_claims
from simulator.__main__ import Counts, all_hold, observe, page
from simulator.claims import CLAIMS, Claim, Tally, chosen_gain
from simulator.experiment import Ended, run_experiment
from simulator.settings import SETTINGS
from simulator.studies import STUDIES
from simulator.truth import Curve, Truth

EXPERIMENTS = 25
"""Of four datasets each."""
NONE_HELPS = "run 0.01, tail 1 x; none helps"
STUDIES_WITHOUT_GAIN = 100
"""The error of calling a useless dataset helpful has one answer for a whole study."""
PLACES = {
    setting.name: (study, index) for study, each in enumerate(STUDIES) for index, setting in enumerate(each.settings)
}


@pytest.fixture(scope="module")
def counted() -> Callable[[str], Counts]:
    """What the claims say about a setting; each is run once."""
    known: dict[str, Counts] = {}

    def count(name: str) -> Counts:
        if name not in known:
            known[name] = Counter()
            study, setting = PLACES[name]
            for number in range(STUDIES_WITHOUT_GAIN if name == NONE_HELPS else EXPERIMENTS):
                known[name].update(observe(study, setting, number))
        return known[name]

    return count


@pytest.mark.parametrize("setting", ["run 0.01, tail 1 x", "items only", "all rates equal"])
@pytest.mark.parametrize("claim", CLAIMS, ids=[claim.name for claim in CLAIMS])
def test_claim(counted: Callable[[str], Counts], claim: Claim, setting: str) -> None:
    """A share of about 100 answers does not contradict what design 4 promises (99.9 % Monte-Carlo interval)."""
    assert_not_contradicted(counted(setting), claim, setting)


@pytest.mark.parametrize("setting", [NONE_HELPS, "little noise; some help"])
@pytest.mark.parametrize("claim", screening_claims.CLAIMS, ids=[claim.name for claim in screening_claims.CLAIMS])
def test_screening(counted: Callable[[str], Counts], claim: Claim, setting: str) -> None:
    """The same for studies of four datasets."""
    assert_not_contradicted(counted(setting), claim, setting)


@pytest.mark.parametrize("setting", ["run 0.01, tail 1 x; saturated"])
@pytest.mark.parametrize("claim", duration_claims.CLAIMS, ids=[claim.name for claim in duration_claims.CLAIMS])
def test_durations(counted: Callable[[str], Counts], claim: Claim, setting: str) -> None:
    """The same for duration sweeps of four datasets."""
    assert_not_contradicted(counted(setting), claim, setting)


@pytest.mark.parametrize("setting", ["run 0.01, tail 1 x; at the margin", "run 0.01, tail 1 x; better in both"])
@pytest.mark.parametrize("claim", soup_claims.CLAIMS, ids=[claim.name for claim in soup_claims.CLAIMS])
def test_soups(counted: Callable[[str], Counts], claim: Claim, setting: str) -> None:
    """The same for soups of four datasets."""
    assert_not_contradicted(counted(setting), claim, setting)


@pytest.mark.parametrize("setting", ["run 0.01, tail 1 x; any best mix"])
@pytest.mark.parametrize("claim", mix_claims.CLAIMS, ids=[claim.name for claim in mix_claims.CLAIMS])
def test_mixes(counted: Callable[[str], Counts], claim: Claim, setting: str) -> None:
    """The same for mixes of four datasets."""
    assert_not_contradicted(counted(setting), claim, setting)


@pytest.mark.parametrize("setting", ["run 0.01, tail 1 x; any best mix; by merges"])
@pytest.mark.parametrize("claim", merge_claims.CLAIMS, ids=[claim.name for claim in merge_claims.CLAIMS])
def test_merges(counted: Callable[[str], Counts], claim: Claim, setting: str) -> None:
    """The same for mixes that merges of trunks propose."""
    assert_not_contradicted(counted(setting), claim, setting)


@pytest.mark.parametrize("setting", ["run 0.01, tail 1 x; three sizes", "run 0.01, tail 1 x; nearly flat line"])
@pytest.mark.parametrize("claim", scaling_claims.CLAIMS, ids=[claim.name for claim in scaling_claims.CLAIMS])
def test_scaling(counted: Callable[[str], Counts], claim: Claim, setting: str) -> None:
    """The same for a recipe on three models."""
    assert_not_contradicted(counted(setting), claim, setting)


def assert_not_contradicted(counts: Counts, claim: Claim, setting: str) -> None:
    """By as many answers as there are; some worlds have none to give, as equal rates have no optimum to be near to."""
    right, wrong = (counts[setting, claim.name, answer] for answer in (True, False))
    if right + wrong:
        low, high = Tally(right, right + wrong).bounds(z=3.29)
        assert low <= claim.high
        assert high >= claim.low


def test_the_same_twice() -> None:
    """A world, its plan and its decisions are a function of the seed."""
    curves = {"a": Curve(2e-4, 0.02)}
    first, second = (run_experiment(Truth(curves), 3) for _ in range(2))
    assert first.decisions == second.decisions
    assert [spec.to_dict() for spec in first.asked] == [spec.to_dict() for spec in second.asked]


@pytest.mark.parametrize(("limit", "chosen"), [(5e-4, True), (1e-6, False)], ids=["the highest rate", "every rate"])
def test_divergence(limit: float, *, chosen: bool) -> None:
    """Runs that diverge are results: the race goes on without them, and ends where none is left."""
    ended = run_experiment(Truth({"a": Curve(1e-4, 0.02)}, diverges_above=limit), 0)
    assert ended.plan.complete
    assert (ended.chosen["a"].chosen is not None) is chosen


def test_page() -> None:
    """A share outside the promise is unsure while its Monte-Carlo interval reaches into it; else it does not hold."""
    name, claim = SETTINGS[0].name, CLAIMS[0]

    def verdict(right: int, wrong: int) -> str:
        text = page(Counter({(name, claim.name, True): right, (name, claim.name, False): wrong}), 1, 1)
        return next(line for line in text.splitlines() if line.startswith(f"| {name}")).split("|")[-2].strip()

    assert [verdict(96, 4), verdict(94, 6), verdict(940, 60), verdict(800, 200)] == [
        "yes",
        "unsure",
        "unsure",
        "**no**",
    ]


def test_unsure_settings_go_on() -> None:
    """One claim that is not shown by the first experiments is enough; one without an answer is not."""
    study, claim = STUDIES[0], CLAIMS[0]
    name = study.settings[0].name

    def answered(right: int, wrong: int) -> Counts:
        return Counter({(name, claim.name, True): right, (name, claim.name, False): wrong})

    assert all_hold(Counter(), study, name)
    assert [all_hold(answered(*each), study, name) for each in ((96, 4), (94, 6), (800, 200))] == [True, False, False]


def test_plain_intervals_are_worse() -> None:
    """The world is no walk-over: among equal rates the plain interval of the chosen one's gain misses more often."""
    ended = [run_experiment(SETTINGS[PLACES["all rates equal"][1]].truth(number), number) for number in range(10)]
    missed = sum(not answer for one in ended for answer in chosen_gain(one))
    assert sum(not _plainly_covered(one, name) for one in ended for name in one.chosen) > missed


def _plainly_covered(ended: Ended, name: str) -> bool:
    gain = ended.chosen[name].gain
    assert gain is not None
    assert gain.upper is not None
    return abs(gain.value - ended.world.truth.curves[name].gain) <= gain.upper - gain.value
