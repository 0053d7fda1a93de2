"""What is simulated: for each stage its worlds and its claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulator import (
    claims,
    duration_claims,
    merge_claims,
    mix_claims,
    scaling_claims,
    screening_claims,
    screening_settings,
    settings,
    soup_claims,
)
from simulator.claims import Claim
from simulator.settings import Setting


@dataclass(frozen=True, slots=True)
class Study:
    """Every setting is held against every claim."""

    name: str
    stages: Mapping[str, Any]
    """Of the recipe, beside the sweep."""
    settings: Sequence[Setting]
    claims: Sequence[Claim]


STUDIES = (
    Study("Learning rates", {}, settings.SETTINGS, claims.CLAIMS),
    Study("Screening", {"screening": {}}, screening_settings.SETTINGS, screening_claims.CLAIMS),
    Study(
        "Durations",
        {"durationSweep": {"durations": ["4M", "8M", "16M", "32M"]}},
        duration_claims.SETTINGS,
        duration_claims.CLAIMS,
    ),
    Study(
        "Mixes",
        {"durationSweep": {"durations": ["4M", "8M"]}, "mixing": {}},
        mix_claims.SETTINGS,
        mix_claims.CLAIMS,
    ),
    Study(
        "Mixes by merges",
        {"mixing": {"strategy": "MergeProxy"}},
        merge_claims.SETTINGS,
        merge_claims.CLAIMS,
    ),
    Study("Soups", {"soup": {}}, soup_claims.SETTINGS, soup_claims.CLAIMS),
    Study("Scaling", scaling_claims.STAGES, scaling_claims.SETTINGS, scaling_claims.CLAIMS),
)
