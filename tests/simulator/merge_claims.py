"""What design 4 promises about mixes, where merges of trunks propose them: the worlds and claims of mixes.

Merges speak for mixes but for a bend of their own, whose size is that of a run's noise.
"""

from __future__ import annotations

from dataclasses import replace

from simulator import mix_claims

CLAIMS = mix_claims.CLAIMS
SETTINGS = tuple(
    replace(setting, name=f"{setting.name}; by merges", noises=replace(setting.noises, merges_bend=0.01))
    for setting in mix_claims.SETTINGS
)
