"""The operator under the chart's rights, as the audit log of all tests of this folder saw it; runs last."""

from __future__ import annotations

from typing import Any

from chart import rendered, rights
from cluster.harness import SYSTEM, Lab
from cpt_operator.kinds import Kind


def seen(lab: Lab) -> list[dict[str, Any]]:
    return [event for event in lab.plane.audit(user="cpt-operator") if "objectRef" in event]


def test_no_call_was_forbidden(lab: Lab) -> None:
    """It asks for nothing that it may not have."""
    refused = {
        (e["verb"], e["requestURI"]) for e in lab.plane.audit(user="cpt-operator") if e["responseStatus"]["code"] == 403
    }
    assert refused == set()


def test_no_right_is_unused(lab: Lab) -> None:
    """Each verb of the chart's rules was needed by some test."""
    chart = rendered()
    granted = rights([*chart.one("ClusterRole", "cpt-operator")["rules"], *chart.one("Role", "-lease")["rules"]])
    wanted = {(resource, verb) for resource, verbs in granted.items() for verb in verbs.split()}
    used = {(_resource(event["objectRef"]), event["verb"]) for event in seen(lab)}
    used |= {(f"{resource}[cpt-cpt-operator]", verb) for resource, verb in used if resource.endswith("/leases")}
    assert wanted - used == set()


def test_it_stays_in_its_namespaces(lab: Lab) -> None:
    """Told to watch some, it asks for nothing of others, nor of the whole cluster."""
    places = {event["objectRef"].get("namespace") for event in seen(lab)}
    assert None not in places
    assert {place for place in places if place and not place.startswith(("team-", "life", "idle"))} == {SYSTEM}


def test_it_never_writes_a_manifest(lab: Lab) -> None:
    """Of a CPTExperiment, it writes the status and nothing else."""
    writes = {
        event["objectRef"].get("subresource", "")
        for event in seen(lab)
        if event["objectRef"]["resource"] == Kind.EXPERIMENT.plural and event["verb"] in ("patch", "update", "create")
    }
    assert writes == {"status"}


def _resource(place: dict[str, Any]) -> str:
    sub = f"/{place['subresource']}" if "subresource" in place else ""
    return f"{place.get('apiGroup') or 'core'}/{place['resource']}{sub}"
