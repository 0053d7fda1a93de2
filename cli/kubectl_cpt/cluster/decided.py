"""The decisions of an experiment on a cluster, and where its store is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cpt_api.trial import CPTTrialSpec, TrialType
from cpt_api.values import Digest
from cpt_operator.resolve import Input, State, World, resolve, trial_names
from kubectl_cpt.cluster import objects
from kubectl_cpt.cluster.kubectl import Kubectl, MissingError
from kubectl_cpt.cluster.objects import Trial
from kubectl_cpt.cluster.stored import address_of_report
from kubectl_cpt.errors import CliError
from kubectl_cpt.opened import address_of
from kubectl_cpt.verify import Claim, answer, judged


def verify(kubectl: Kubectl, reference: str, *, store: str | None, output: str, environment: Mapping[str, str]) -> None:
    """Take them anew from the tables in the store; the answer goes to standard output."""
    claims = decisions_of(kubectl, reference)
    uri = address_of(store, environment).uri if store else store_of(kubectl, reference, claims[0].namespace)
    answer(judged(claims, uri, environment), output)


def decisions_of(kubectl: Kubectl, reference: str) -> list[Claim]:
    """All that an experiment took, or the one of a trial: `EXPERIMENT[/TRIAL]`, or a trial written by hand."""
    claims = list(_claims(kubectl, _trials(kubectl, reference)))
    if not claims:
        raise CliError(f"{reference} has taken no decision yet: `kubectl cpt status` says how far it is")
    return claims


def _trials(kubectl: Kubectl, reference: str) -> list[Trial]:
    if "/" not in reference:
        try:
            return objects.trials_of(kubectl, objects.experiment(kubectl, reference).name)
        except MissingError as error:
            try:
                return [objects.trial(kubectl, reference)]
            except MissingError:
                raise error from None
    return [objects.trial(kubectl, reference)]


def _claims(kubectl: Kubectl, trials: list[Trial]) -> Iterator[Claim]:
    for trial in trials:
        digest = trial.status.get("digest")
        if trial.spec["type"] == TrialType.DECIDE and trial.succeeded and digest:
            namespace = str(trial.body["metadata"]["namespace"])
            spec = _resolved(kubectl, CPTTrialSpec.model_validate(trial.spec))
            yield Claim(trial.title, namespace, trial.name, Digest.parse(digest), spec)


def _resolved(kubectl: Kubectl, spec: CPTTrialSpec) -> CPTTrialSpec:
    """With digests where a person wrote names; the trainer checks that all of it has the decision's digest."""
    named = [objects.trial(kubectl, name) for name in sorted(trial_names(spec))]
    inputs = {trial.name: _input(trial) for trial in named}
    found = resolve(spec, World(inputs, {}, {}, planned=False))
    if not isinstance(found, CPTTrialSpec):
        raise CliError(f"{found.reason}: {found.message}")
    return found


def _input(trial: Trial) -> Input:
    digest = trial.status.get("digest")
    return Input(trial.name, State.SUCCEEDED, Digest.parse(digest) if digest else None)


def store_of(kubectl: Kubectl, reference: str, namespace: str) -> str:
    """As the address of the report tells it. CliError where there is none: then only people know."""
    name = reference.partition("/")[0]
    try:
        uri = str(objects.experiment(kubectl, name).status.get("reportUri") or "")
    except MissingError:
        uri = ""
    if not uri:
        raise CliError(f"{name} has no report that tells where its store is: name it with --store s3://BUCKET")
    return address_of_report(uri, namespace)[0]
