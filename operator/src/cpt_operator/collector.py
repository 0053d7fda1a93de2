"""Python's cycle collector, set for a process that plans.

A plan of 5,000 trials makes 300,000 objects, hardly any in a cycle, and by default the collector looks through them
every 700: two seconds instead of one. What is loaded at start stays, so that is never looked through again.
"""

from __future__ import annotations

import gc

_YOUNG = 50_000
_MIDDLE = 20
_OLD = 50


def relax() -> None:
    """Once, when everything is imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
