"""`kubectl cpt verify`: every decision taken anew from the stored tables, and held against what was written.

    DECISION          QUESTION      METHOD                  ANSWER
    rung 1: decision  LearningRate  one-standard-error 2    equal
    which help        Screening     maximum-t 1             differs
    which help: screened[0].target.verdict: stored Helps, recomputed Undecided

The statistics are the trainer's: its verb `verify` runs here as a program, as `kubectl cpt run` runs its other verbs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpt_api import PROTOCOL
from cpt_api.exits import ExitCode
from cpt_api.trial import CPTTrialSpec, TrialDocument
from cpt_api.values import Digest
from cpt_operator.plan import Succeeded
from cpt_trainer.store import Store
from kubectl_cpt.errors import CliError, NotConfirmed
from kubectl_cpt.machine.attempt import NOT_INHERITED
from kubectl_cpt.machine.processes import TRAINER
from kubectl_cpt.machine.recalled import recalled
from kubectl_cpt.manifest import Manifests, load
from kubectl_cpt.opened import address_of, opened
from kubectl_cpt.render import FOR_PROGRAMS, columns, for_programs

_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Claim:
    """A decision that was taken."""

    title: str
    """For people."""
    namespace: str
    name: str
    digest: Digest
    spec: CPTTrialSpec
    """Resolved."""

    @property
    def document(self) -> TrialDocument:
        """As the trainer reads it."""
        protocol = self.spec.protocol or PROTOCOL
        return TrialDocument(
            namespace=self.namespace, name=self.name, digest=self.digest, attempt=1, protocol=protocol, spec=self.spec
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """On one claim."""

    claim: Claim
    answer: str
    """equal, differs, or unknown where it could not be taken anew."""
    method: str = ""
    differences: tuple[str, ...] = ()
    """Where, and both values; or why it is unknown."""

    def to_dict(self) -> dict[str, Any]:
        """For programs."""
        spec = self.claim.spec
        return {
            "trial": self.claim.name,
            "title": self.claim.title,
            "digest": self.claim.digest,
            "question": spec.decide.question.value if spec.decide else None,
            "method": self.method or None,
            "answer": self.answer,
            "differences": list(self.differences),
        }


def claims_of(manifests: Manifests, store: Store) -> list[Claim]:
    """Every decision that `kubectl cpt run` took for these manifests on that store."""
    world = recalled(manifests, store)
    claims = [
        Claim(job.title, world.namespace, job.name, job.digest, job.spec)
        for job in world.jobs
        if job.spec.decide and job.digest and isinstance(world.outcomes.get(job.digest), Succeeded)
    ]
    if not claims:
        raise CliError(f"no decision was taken on {store.address.uri} yet: `kubectl cpt run` goes on")
    return claims


def verify_run(
    files: Sequence[str], store: str, namespace: str | None, output: str, environment: Mapping[str, str]
) -> None:
    """All decisions of a `kubectl cpt run`."""
    with opened(address_of(store, environment)) as found:
        claims = claims_of(load(files, namespace=namespace), found)
    answer(judged(claims, found.address.uri, environment), output)


def judged(
    claims: Sequence[Claim], store: str, environment: Mapping[str, str], program: Sequence[str] = TRAINER
) -> list[Verdict]:
    """In the order of the claims, some at a time."""
    with tempfile.TemporaryDirectory(prefix="kubectl-cpt-") as folder:

        def judge(numbered: tuple[int, Claim]) -> Verdict:
            number, claim = numbered
            file = Path(folder, f"{number}.json")
            file.write_text(json.dumps(claim.document.to_dict()))
            return _judged(claim, (*program, "verify", "--trial", str(file), "--store", store), environment)

        with ThreadPoolExecutor(min(_AT_ONCE, os.cpu_count() or 1)) as pool:
            return list(pool.map(judge, enumerate(claims)))


def _judged(claim: Claim, command: Sequence[str], environment: Mapping[str, str]) -> Verdict:
    inherited = {name: value for name, value in environment.items() if name not in NOT_INHERITED}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=inherited)
    if not done.stdout or done.returncode not in (ExitCode.COMMITTED, ExitCode.DATA):
        return Verdict(claim, "unknown", differences=(_last_words(done),))
    found = json.loads(done.stdout)
    differences = tuple(
        f"{each['at']}: stored {each['stored']}, recomputed {each['recomputed']}" for each in found["differences"]
    )
    return Verdict(claim, str(found["answer"]).lower(), str(found["method"]), differences)


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    """Why the trainer ended early."""
    last = (done.stderr.splitlines() or [""])[-1]
    try:
        words = json.loads(last)
        return f"{words['reason']}: {words['message']}"
    except (ValueError, KeyError, TypeError):
        return f"the trainer ended with exit code {done.returncode}: {last or 'it said nothing'}"


def answer(verdicts: Sequence[Verdict], output: str) -> None:
    """To standard output. Raises NotConfirmed unless all are equal."""
    documents = {"kind": "Verification", "decisions": [verdict.to_dict() for verdict in verdicts]}
    sys.stdout.write(for_programs(documents, output) if output in FOR_PROGRAMS else as_text(verdicts))
    _require_equal(verdicts)


def as_text(verdicts: Sequence[Verdict]) -> str:
    """For people."""
    rows = [("DECISION", "QUESTION", "METHOD", "ANSWER")]
    rows += [(v.claim.title, str(v.to_dict()["question"]), v.method, v.answer) for v in verdicts]
    return "\n".join([*columns(rows), *_places(verdicts)]) + "\n"


def _places(verdicts: Sequence[Verdict]) -> Iterator[str]:
    for verdict in verdicts:
        yield from (f"{verdict.claim.title}: {text}" for text in verdict.differences)


def _require_equal(verdicts: Sequence[Verdict]) -> None:
    differ = sum(verdict.answer == "differs" for verdict in verdicts)
    unknown = sum(verdict.answer == "unknown" for verdict in verdicts)
    if differ or unknown:
        parts = [f"{differ} differ from their tables"] if differ else []
        parts += [f"{unknown} could not be taken anew"] if unknown else []
        raise NotConfirmed(f"of {len(verdicts)} decisions {' and '.join(parts)}: see above")
