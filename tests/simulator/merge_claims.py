"""What design 4 promises about mixes, where merges of trunks propose them: the worlds and claims of mixes.

Merges speak for mixes but for a bend of their own, whose size is that of a run's noise.

That a proposal which is as good as every control is kept in 95 of 100 is not promised here: it also falls where merges
order the trained mixes otherwise than these scored, which costs nothing that can be detected (record 0015 has figures).
"""

from __future__ import annotations

from dataclasses import replace

from simulator import mix_claims

CLAIMS = tuple(claim for claim in mix_claims.CLAIMS if claim.check is not mix_claims.a_good_proposal_is_kept)
SETTINGS = tuple(
    replace(setting, name=f"{setting.name}; by merges", noises=replace(setting.noises, merges_bend=0.01))
    for setting in mix_claims.SETTINGS
)
