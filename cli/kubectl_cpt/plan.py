"""`kubectl cpt plan`: offline, by the operator's own planner. Reads manifests and, with --live, one object each."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kubectl_cpt import render
from kubectl_cpt.bill import Prices
from kubectl_cpt.cluster.kubectl import Kubectl
from kubectl_cpt.cluster.objects import live_spec
from kubectl_cpt.errors import CliError, TooExpensive
from kubectl_cpt.manifest import DEFAULT_NAMESPACE, Manifests, load
from kubectl_cpt.numbers import money
from kubectl_cpt.preview import Preview, by_hand, preview


def show(
    files: Sequence[str],
    kustomization: str | None,
    namespace: str | None,
    output: str,
    prices: Prices,
    cost_limit: float | None,
    kubectl: Kubectl | None = None,
) -> None:
    """Print all experiments of the files, compared with those that `kubectl` finds.

    Raises TooExpensive when one may cost more than `cost_limit`.
    """
    if not files and not kustomization:
        raise CliError("nothing to plan: name manifests with --filename, or a folder with --kustomize")
    if cost_limit is not None and None in (prices.rate, prices.per_gpu_hour):
        raise CliError(
            "--fail-over-cost needs --price-per-gpu-hour and a speed: --tokens-per-second-per-gpu, or --parameters, "
            "--gpu-teraflops and --mfu"
        )
    manifests = load(files, kustomization, namespace, kubectl.namespace() if kubectl else DEFAULT_NAMESPACE)
    _require_models(prices, manifests)
    previews = [
        preview(document, manifests, prices, live_spec(kubectl, document.name, document.namespace) if kubectl else None)
        for document in manifests.experiments
    ]
    hand = by_hand(manifests.trials)
    if output in render.FOR_PROGRAMS:
        text = render.for_programs(render.document_of(previews, hand), output)
    elif output == "markdown":
        text = render.as_markdown(previews, hand)
    else:
        text = render.as_table(previews, hand, wide=output == "wide")
    sys.stdout.write(text)
    if cost_limit is not None:
        _check(previews, cost_limit)


def _require_models(prices: Prices, manifests: Manifests) -> None:
    """A size that is told of no model is a typing error."""
    scalings = (document.spec.recipe.scaling for document in manifests.experiments)
    known = {model.name for scaling in scalings if scaling for model in scaling.models or ()}
    for name in prices.further:
        if name not in known:
            raise CliError(f"--parameters-of {name}: no experiment has such a model, there {_are(sorted(known))}")


def _are(names: Sequence[str]) -> str:
    return f"are {', '.join(names)}" if names else "is none in recipe.scaling"


def _check(previews: Sequence[Preview], limit: float) -> None:
    for each in previews:
        if each.most.cost is None:
            raise CliError(f"{each.name}: what it costs is not known, see its notes: --fail-over-cost cannot tell")
        if each.most.cost > limit:
            raise TooExpensive(
                f"{each.name} may cost {money(each.most.cost)}, --fail-over-cost allows {money(limit)}: take fewer "
                "rates, rungs or datasets"
            )
