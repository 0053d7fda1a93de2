"""Digests of the examples, frozen per protocol: an upgrade of the operator re-trains nothing.

When this fails, either the change was not meant to alter what is trained, or it needs a new protocol. Where an example
itself was changed: `CPT_WRITE_GOLDEN=1 pytest tests/operator/plan/test_golden.py` writes the files anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cpt_api import KNOWN_PROTOCOLS, PROTOCOL
from cpt_api.digest import trial_digest
from cpt_api.experiment import CPTExperimentSpec
from cpt_api.result import Result
from cpt_api.trial import CPTTrialSpec, TrialType
from cpt_api.values import Digest
from cpt_operator.plan import Context, Look, Outcome, Plan, Succeeded, plan
from cpt_operator.resolve import Input, State, World, resolve
from make import make_result

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).parent.parent / "golden"
EXAMPLES = ROOT / "examples"


def by_hand(path: Path, protocol: int) -> Iterator[tuple[str, CPTTrialSpec]]:
    """Hand-written trials in their order, resolved: each reads those before it."""
    named: dict[str, Input] = {}
    looks: dict[str, Result] = {}
    for document in yaml.safe_load_all(path.read_text()):
        name = document["metadata"]["name"]
        spec = CPTTrialSpec.model_validate(document["spec"] | {"protocol": protocol})
        resolved = resolve(spec, World(by_name=named, by_digest={}, preflights=looks, planned=False))
        assert isinstance(resolved, CPTTrialSpec), resolved
        named[name] = Input(name, State.SUCCEEDED, trial_digest(resolved))
        if spec.type is TrialType.PREFLIGHT:
            looks[name] = make_result(resolved)
        yield name, resolved


def unfolded(spec: CPTExperimentSpec, context: Context) -> Plan:
    """The whole plan, when every trial answers as `make_result` says."""
    outcomes: dict[Digest, Outcome] = {}
    while True:
        made = plan(spec, context, outcomes)
        ready = [trial for trial in made.trials if trial.digest not in outcomes]
        if not ready:
            return made
        for trial in ready:
            outcomes[trial.digest] = Succeeded(make_result(trial.spec))
            if trial.spec.type is TrialType.PREFLIGHT:
                context = replace(context, looks=(*context.looks, Look(trial.spec, outcomes[trial.digest])))


def lines(experiment: str, protocol: int) -> Iterator[str]:
    """One for each trial of an example, from the demo's base to its last decision."""
    base: Digest | None = None
    for name, spec in by_hand(EXAMPLES / "demo/base.yaml", protocol):
        base = trial_digest(spec)
        yield f"{base} {spec.type} {name}"
    made: dict[str, Digest] = {}
    if (further := EXAMPLES / experiment / "base.yaml").exists() and experiment != "demo":
        for name, spec in by_hand(further, protocol):
            made[name] = trial_digest(spec)
            yield f"{made[name]} {spec.type} {name}"
    document = yaml.safe_load((EXAMPLES / experiment / "experiment.yaml").read_text())
    uid = "00000000-0000-0000-0000-000000000000"
    context = Context(experiment_uid=uid, protocol=protocol, base=base, made=made)
    done = unfolded(CPTExperimentSpec.model_validate(document["spec"]), context)
    assert done.complete
    for trial in done.trials:
        yield f"{trial.digest} {trial.spec.type} {trial.title}"


@pytest.mark.parametrize("protocol", sorted(KNOWN_PROTOCOLS))
@pytest.mark.parametrize(
    ("experiment", "name"),
    [
        ("demo", "digests"),
        ("screening", "digests-screening"),
        ("durations", "digests-durations"),
        ("soup", "digests-soup"),
        ("mix", "digests-mix"),
        ("scaling", "digests-scaling"),
    ],
)
def test_digests(experiment: str, name: str, protocol: int) -> None:
    """Every trial that an example plans."""
    path = GOLDEN / f"{name}-protocol-{protocol}.txt"
    text = "\n".join(lines(experiment, protocol)) + "\n"
    if os.environ.get("CPT_WRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("protocol", sorted(KNOWN_PROTOCOLS))
def test_digests_of_hand_written_trials(protocol: int) -> None:
    """What is asked of a model, and where its items lie, is in the digest."""
    path = GOLDEN / f"digests-evaluation-protocol-{protocol}.txt"
    trials = by_hand(EXAMPLES / "evaluation/trials.yaml", protocol)
    text = "".join(f"{trial_digest(spec)} {spec.type} {name}\n" for name, spec in trials)
    if os.environ.get("CPT_WRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize(
    ("less", "more"),
    [("screening", "durations"), ("durations", "soup"), ("durations", "mix"), ("durations", "scaling")],
)
def test_examples_share(less: str, more: str) -> None:
    """What one example prepares and trains is not done again by the next; decisions and reports may be about more."""
    own = (" Decide ", " Preflight round", " Report ")
    shared = {line for line in lines(less, PROTOCOL) if not any(word in line for word in own)}
    assert shared < set(lines(more, PROTOCOL))
