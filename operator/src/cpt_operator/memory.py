"""What reconcilers remember between turns. Losing it costs a few reads and writes, never correctness.

- **Who is starting**: between the decision to start a trial and the answer to the write that records it, other
  workers must already see the place as taken. One event loop, and no await between deciding and `starting()`.
- **Who is in line**: trials that wait for nothing but a place. Most of them waited for inputs before, and a status that
  said only that the one wait has become the other would be a write per trial.
- **When something was last read or written**, for what may be done only so often.
- **What an experiment at work rests on**: what its trials answered, and the plan that was made of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from cpt_api.values import Digest
from cpt_operator.children import Expansion
from cpt_operator.family import Family
from cpt_operator.kinds import Key
from cpt_operator.plan import Earlier, Outcome


@dataclass(slots=True)
class _Work:
    """Of one experiment."""

    outcomes: dict[str, tuple[int, Outcome]] = field(default_factory=dict)
    """By uid of the trial, with its resourceVersion."""
    known: tuple[int, Mapping[Digest, Outcome]] = (0, {})
    """All of them by digest, with the revision of the trials."""
    question: object = None
    """What the expansion was made from."""
    expansion: Expansion | None = None
    earlier: Earlier = field(default_factory=Earlier)
    """What one plan takes over from the one before."""
    family: tuple[Expansion, int, Family] | None = None
    """Of that expansion, at that revision of the trials."""


class Memory:
    """One per process."""

    def __init__(self) -> None:
        # trials whose attempt is being recorded, with the digest of what they train
        self._starting: dict[Key, str] = {}
        self._in_line: set[Key] = set()
        # (what, of which object uid) -> when, in seconds of the wall clock; swept when it doubles
        self._times: dict[tuple[str, str], float] = {}
        self._sweep_at = 1024
        # by experiment; forgotten when it is complete or gone
        self._work: defaultdict[Key, _Work] = defaultdict(_Work)

    @contextmanager
    def starting(self, trial: Key, digest: str) -> Iterator[None]:
        """`trial` counts as started from here on; afterwards its record in the store says so."""
        self._starting[trial] = digest
        try:
            yield
        finally:
            del self._starting[trial]

    def is_starting(self, trial: Key) -> bool:
        """Whether its attempt is being recorded right now."""
        return trial in self._starting

    def starting_with(self, namespace: str, digest: str) -> str | None:
        """The name of a trial of that digest whose attempt is being recorded right now."""
        return next(
            (key.name for key, of in self._starting.items() if key.namespace == namespace and of == digest), None
        )

    def is_in_line(self, trial: Key) -> bool:
        """Whether its last turn found that it waits for nothing but a place."""
        return trial in self._in_line

    def stand_in_line(self, trial: Key, *, waits: bool) -> None:
        """The turn of `trial` found whether it waits for nothing but a place."""
        if waits:
            self._in_line.add(trial)
        else:
            self._in_line.discard(trial)

    def due_in_seconds(self, what: str, uid: str, every_seconds: float, now: float) -> float:
        """How long until `what` may be done again for the object with that uid; 0 when it may be done now."""
        last = self._times.get((what, uid))
        return 0.0 if last is None else max(0.0, last + every_seconds - now)

    def done(self, what: str, uid: str, now: float) -> None:
        """`what` was done just now."""
        self._times[what, uid] = now
        if len(self._times) >= self._sweep_at:
            hour_ago = now - 3600
            self._times = {key: time for key, time in self._times.items() if time >= hour_ago}
            self._sweep_at = max(1024, 2 * len(self._times))

    def recall(self, experiment: Key, trial_uid: str, resource_version: int) -> Outcome | None:
        """What that version of a trial answered, if it was read before."""
        version, outcome = self._work[experiment].outcomes.get(trial_uid, (0, None))
        return outcome if version == resource_version else None

    def remember(self, experiment: Key, trial_uid: str, resource_version: int, outcome: Outcome) -> None:
        """That version of a trial answered so."""
        self._work[experiment].outcomes[trial_uid] = (resource_version, outcome)

    def known(self, experiment: Key, revision: int) -> Mapping[Digest, Outcome] | None:
        """What the trials answered at that revision of them, if all of it was read before."""
        at, outcomes = self._work[experiment].known
        return outcomes if at == revision else None

    def keep_known(self, experiment: Key, revision: int, outcomes: Mapping[Digest, Outcome]) -> None:
        """That is all that the trials have answered at that revision."""
        self._work[experiment].known = (revision, outcomes)

    def expansion(self, experiment: Key, question: object) -> Expansion | None:
        """The last plan, if it was made from the same."""
        work = self._work[experiment]
        return work.expansion if work.question == question else None

    def earlier(self, experiment: Key) -> Earlier:
        """What the next plan may take over."""
        return self._work[experiment].earlier

    def keep_expansion(self, experiment: Key, question: object, expansion: Expansion) -> None:
        """The plan that was made from `question`."""
        work = self._work[experiment]
        work.question, work.expansion = question, expansion

    def family(self, experiment: Key, expansion: Expansion, revision: int) -> Family | None:
        """The last walk over the trials, if plan and trials are the same."""
        known = self._work[experiment].family
        return known[2] if known and known[0] is expansion and known[1] == revision else None

    def keep_family(self, experiment: Key, expansion: Expansion, revision: int, family: Family) -> None:
        """Of that plan, at that revision of the trials."""
        self._work[experiment].family = (expansion, revision, family)

    def forget(self, experiment: Key) -> None:
        """It is complete or gone."""
        self._work.pop(experiment, None)
