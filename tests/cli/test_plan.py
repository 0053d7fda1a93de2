"""`kubectl cpt plan`: golden output for the demo, bounds, prices, and what it must not load."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from kubectl_cpt.bill import Bill, Prices
from kubectl_cpt.errors import Exit
from kubectl_cpt.foresee import foresee, tokens
from kubectl_cpt.main import app
from kubectl_cpt.manifest import Document, Manifests
from kubectl_cpt.preview import preview
from make import make_experiment
from mixes import explicit

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
DEMO = ("-f", str(ROOT / "examples/demo"))
LATER = ("screening", "durations", "mix", "soup", "scaling")
STUDY = ROOT / "docs/study.md"
PRICES = ("--parameters", "0.92M", "--tokens-per-second-per-gpu", "4000", "--price-per-gpu-hour", "2.5")
SIZES = {"scaling": ("--parameters-of", "large=2.2M")}
FORMATS = {"wide": "demo-plan.txt", "markdown": "demo-plan.md", "yaml": "demo-plan.yaml"}


def plan(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(app, ["plan", *arguments], input=text)


def later(example: str) -> tuple[str, ...]:
    """An example of a later stage, with the demo's base."""
    return ("-f", str(ROOT / "examples/demo/base.yaml"), "-f", str(ROOT / "examples" / example))


def with_plans(page: str) -> str:
    """A page with what `kubectl cpt plan` says now below each of its calls."""

    def call(found: re.Match[str]) -> str:
        words = [str(ROOT / word) if word.startswith("examples/") else word for word in found[1].split()]
        return f"$ kubectl cpt plan {found[1]}\n{plan(*words).stdout}```"

    return re.sub(r"\$ kubectl cpt plan ([^\n]*)\n.*?```", call, page, flags=re.DOTALL)


def manifest(**changes: Any) -> str:
    body = {
        "apiVersion": "cpt.dev/v1alpha1",
        "kind": "CPTExperiment",
        "metadata": {"name": "sweep"},
        "spec": make_experiment(**changes).to_dict(),
    }
    return json.dumps(body)  # JSON is YAML


class TestGolden:
    """What others rely on is a golden file; `python tests/cli/test_plan.py` writes them anew."""

    @pytest.mark.parametrize("output", FORMATS)
    def test_demo(self, output: str) -> None:
        """The demo's plan is that of the file, to the byte."""
        done = plan(*DEMO, *PRICES, "-o", output)
        assert done.exit_code == Exit.SUCCESS, done.stderr
        assert done.stdout == (GOLDEN / FORMATS[output]).read_text()

    @pytest.mark.parametrize("example", LATER)
    def test_later_stages(self, example: str) -> None:
        """What a stage after the sweep adds: its arms, its decisions, and what they cost."""
        done = plan(*later(example), *PRICES, *SIZES.get(example, ()))
        assert done.stdout == (GOLDEN / f"{example}-plan.txt").read_text()

    def test_json_says_the_same_as_yaml(self) -> None:
        """Both are one document."""
        done = plan(*DEMO, *PRICES, "-o", "json")
        assert json.loads(done.stdout) == yaml.safe_load((GOLDEN / "demo-plan.yaml").read_text())


class TestStudy:
    """docs/study.md shows what it costs; `python tests/cli/test_plan.py` writes it anew."""

    def test_documented(self) -> None:
        """The plan of examples/study is that of the page, to the byte."""
        assert STUDY.read_text() == with_plans(STUDY.read_text())

    def test_nothing_to_warn_of(self) -> None:
        """Batches divide, budgets suffice, no rate stands alone, every base has a place on the axis."""
        done = plan("-f", str(ROOT / "examples/study"))
        assert done.exit_code == Exit.SUCCESS, done.stderr
        assert "warning:" not in done.stdout


class TestBounds:
    """Between them lies every way that the race can go."""

    def test_rungs_of_survivors_only(self) -> None:
        """With one rung nothing can be dropped; with two, half of the rates at most."""
        one = foresee(Document("a", "b", make_experiment()))
        assert tokens(one.least.trials) == tokens(one.most.trials)
        sweep = {"learningRates": ["1e-5", "1e-4", "1e-3", "1e-2", "1e-1"], "rungs": ["10240", "20480"]}
        two = foresee(Document("a", "b", make_experiment(recipe={"learningRateSweep": sweep})))
        first = (2 + 2) * 5 * 10240
        second = (16384 - 8192) + (20480 - 16384)
        assert tokens(two.least.trials) == first + 2 * 3 * second
        assert tokens(two.most.trials) == first + 2 * 5 * second

    def test_one_more_rate(self) -> None:
        """What it adds per dataset is what each rate of the grid costs there."""
        rungs = ["10240", "20480"]
        totals = []
        for rates in (["1e-4", "1e-3"], ["1e-4", "1e-3", "1e-2"]):
            spec = make_experiment(
                recipe={"learningRateSweep": {"learningRates": rates, "rungs": rungs}},
                replay=None,
                evaluation={"target": make_experiment().to_dict()["evaluation"]["target"]},
            )
            forecast = foresee(Document("a", "b", spec))
            totals.append(tokens(forecast.most.trials))
        assert totals[1] - totals[0] == 2 * forecast.tokens_of_one_more_rate

    @pytest.mark.parametrize("last", ["10240", "40960"])
    def test_controls_for_screening(self, last: str) -> None:
        """Where the race has one rung all controls are there already; else each goes to where its rate ends."""
        recipe = {"learningRateSweep": {"learningRates": ["1e-4", "1e-3"], "rungs": sorted({"10240", last})}}
        plain = foresee(Document("a", "b", make_experiment(recipe=recipe)))
        screened = foresee(Document("a", "b", make_experiment(recipe={**recipe, "screening": {}})))
        beyond = (32768 - 8192) + (40960 - 32768) if last == "40960" else 0
        assert tokens(screened.most.trials) - tokens(plain.most.trials) == 2 * beyond
        assert tokens(screened.least.trials) - tokens(plain.least.trials) == beyond

    def test_durations(self) -> None:
        """From two on none may be worth it; with screening before no dataset may survive."""
        sweep = {"learningRates": ["1e-4"], "rungs": ["10240"]}
        recipe = {"learningRateSweep": sweep, "durationSweep": {"durations": ["20480", "40960", "81920"]}}
        forecast = foresee(Document("a", "b", make_experiment(recipe=recipe)))
        least = (16384 - 8192) + (20480 - 16384) + (32768 - 16384) + (40960 - 32768)
        most = least + (65536 - 32768) + (81920 - 65536)
        assert tokens(forecast.least.trials) == 4 * 10240 + 2 * least
        assert tokens(forecast.most.trials) == 4 * 10240 + 2 * most
        assert forecast.most.tokens_naive == 2 * 10240 + 2 * (20480 + 40960 + 81920)
        recipe["screening"] = {}
        assert tokens(foresee(Document("a", "b", make_experiment(recipe=recipe))).least.trials) == 4 * 10240

    def test_soup(self) -> None:
        """It trains nothing; whether one is released decides about two trials, its model and the score of that."""
        sweep = {"learningRates": ["1e-4"], "rungs": ["10240"]}
        plain, cooked = (
            foresee(Document("a", "b", make_experiment(recipe={"learningRateSweep": sweep, **soup})))
            for soup in ({}, {"soup": {"weights": ["0.5", "1"]}})
        )
        assert tokens(cooked.most.trials) == tokens(plain.most.trials)
        assert len(cooked.least.trials) - len(plain.least.trials) == 2 + 1
        assert len(cooked.most.trials) - len(cooked.least.trials) == 2

    def test_mix(self) -> None:
        """The proposal and two simple mixes, then rates and durations of the mix; nothing where no dataset survives."""
        sweep = {"learningRates": ["1e-4", "1e-3"], "rungs": ["10240"]}
        recipe = {
            "learningRateSweep": sweep,
            "durationSweep": {"durations": ["20480", "40960"]},
            "mixing": {},
            "mixSweep": {"durations": ["20480"]},
        }
        plain = foresee(Document("a", "b", make_experiment(recipe={**recipe, "mixing": None, "mixSweep": None})))
        mixed = foresee(Document("a", "b", make_experiment(recipe=recipe)))
        # the first rung of the mix is the proposal's arm
        own = 3 * 10240 + 10240 + (20480 - 8192)
        assert tokens(mixed.most.trials) - tokens(plain.most.trials) == own
        assert mixed.most.tokens_naive - plain.most.tokens_naive == 2 * 10240 + 20480
        screened = foresee(Document("a", "b", make_experiment(recipe={**recipe, "screening": {}})))
        assert not [trial for trial in screened.least.trials if trial.stage in ("mixing", "mixSweep")]

    def test_by_merges(self) -> None:
        """They cost no token and no durations; their evaluations and their question are foreseen."""
        sweep = {"learningRates": ["1e-4", "1e-3"], "rungs": ["10240"]}
        simple, found = (
            foresee(
                Document("a", "b", make_experiment(recipe={"learningRateSweep": sweep, "mixing": {"strategy": name}}))
            )
            for name in ("Proportional", "MergeProxy")
        )
        assert tokens(found.most.trials) - tokens(simple.most.trials) == 10240  # the proposal is one mix more
        assert len([t for t in found.most.trials if t.spec.evaluate and t.spec.evaluate.merge]) == 9
        assert [t.title for t in found.most.trials if t.spec.decide and t.spec.decide.merges] == ["mixture by merges"]

    def test_the_study(self) -> None:
        """Issue 4's fixed set-up but for its one longer sweep: 356.5B as separate runs with all sweeps to 5B … 2.5B."""
        recipe = {
            "learningRateSweep": {"learningRates": ["3e-6", "1e-5", "3e-5", "1e-4"], "rungs": ["1B", "2.5B", "5B"]},
            "durationSweep": {"durations": ["2.5B", "5B", "10B", "20B", "40B"]},
            "mixing": {},
            "mixSweep": {"durations": ["2.5B", "5B", "10B", "20B", "40B"]},
        }
        training = {"sequenceLength": 4096, "globalBatchSize": 256}
        forecast = foresee(Document("a", "b", make_experiment(recipe=recipe, training=training)))
        swept, lasting, mixed = 2 * 4 * 5e9, 2 * 77.5e9, 4 * 1e9 + 77.5e9
        assert forecast.most.tokens_naive == pytest.approx(swept + lasting + mixed, rel=1e-3)


class TestBill:
    """6ND, GPU-hours, money."""

    def test_by_hand(self) -> None:
        """The example of the module's docstring."""
        bill = Bill.of(1_500_000_000, Prices(7_000_000_000, 9000, 2.5))
        assert bill.flops == pytest.approx(6.3e19)
        assert bill.gpu_hours == pytest.approx(46.296, abs=1e-3)
        assert bill.cost == pytest.approx(115.74, abs=1e-2)

    def test_unknown_is_not_zero(self) -> None:
        """What the user did not tell is None."""
        assert Bill.of(1000, Prices()) == Bill(1000, None, None, None)
        assert Bill.of(1000, Prices(7_000_000_000, 9000, 2.5), {"13b": 1}) == Bill(1000, None, None, None)

    def test_a_larger_model(self) -> None:
        """A token on it costs as much more as it is larger."""
        prices = Prices(7_000_000_000, 9000, 2.5, further={"13b": 13_000_000_000})
        bill = Bill.of(1_500_000_000, prices, {"13b": 500_000_000})
        assert bill.tokens == 1_500_000_000
        assert bill.flops == pytest.approx(6 * (7e9 * 1e9 + 13e9 * 0.5e9))
        assert bill.gpu_hours == pytest.approx(59.5, abs=0.1)

    def test_scores(self) -> None:
        """A token that is read costs a third of one that is trained; on another base as much more as it is larger."""
        prices = Prices(7_000_000_000, 9000, 2.5, further={"13b": 13_000_000_000}, tokens_per_evaluation=60_000_000)
        bill = Bill.of(1_500_000_000, prices, {}, {"": 10, "13b": 1})
        read = 60e6 * (10 + 13 / 7)
        assert bill.tokens == 1_500_000_000
        assert bill.flops == pytest.approx(6 * 7e9 * 1.5e9 + 2 * 7e9 * read)
        assert bill.evaluation == pytest.approx(read / 3 / (1.5e9 + read / 3))
        assert Bill.of(1000, replace(prices, further={}), {}, {"13b": 1}) == Bill(1000, None, None, None)

    @pytest.mark.parametrize("output", ["table", "markdown"])
    def test_scores_of_a_plan(self, output: str) -> None:
        """They are in the price where it is said what they take; else a note says that they are not."""
        sizes = ("--parameters-of", "13b=13B", "--parameters-of", "70b=69B", "-o", output)
        study = ("-f", str(ROOT / "examples/study"), *PRICES, *sizes)
        done = plan(*study)
        assert "what it takes to ask gauntlet-v0.2 and mmlu is not in the numbers above" in done.stdout
        assert "scores on suites" not in done.stdout
        done = plan(*study, "--tokens-per-evaluation", "60M")
        assert "what it takes to ask" not in done.stdout
        assert re.search(r"scores on suites +\|? *[0-9.]+ to [0-9.]+ %", done.stdout)

    def test_sizes_of_further_models(self) -> None:
        """Without them nothing is known; a name that is none is told."""
        done = plan(*later("scaling"), *PRICES)
        assert "note: what training on further bases costs hangs on their sizes" in done.stdout
        assert "--parameters-of large=COUNT" in done.stdout
        done = plan(*later("scaling"), *PRICES, "--fail-over-cost", "1")
        assert (done.exit_code, "cannot tell" in done.stderr) == (Exit.FAILED, True)
        done = plan(*later("scaling"), *PRICES, "--parameters-of", "lage=2M")
        assert "there are large" in done.stderr
        done = plan(*later("scaling"), *PRICES, "--parameters-of", "large")
        assert (done.exit_code, "70b=69B" in done.stderr) == (Exit.USAGE, True)

    def test_a_speed_that_is_assumed(self) -> None:
        """The docstring's other example; a measured speed counts more."""
        assumed = Prices(7_000_000_000, None, 2.5, 989, 0.4)
        assert assumed.rate == pytest.approx(9419, abs=1)
        assert Bill.of(1_500_000_000, assumed).cost == pytest.approx(110.59, abs=0.1)
        assert Prices(7_000_000_000, 9000, 2.5, 989, 0.4).rate == 9000
        assert Prices(None, None, 2.5, 989, 0.4).rate is None

    @pytest.mark.parametrize("output", ["table", "markdown"])
    def test_unknown_is_said(self, output: str) -> None:
        """With the options that tell it."""
        done = plan(*DEMO, "--parameters", "1M", "-o", output)
        (price,) = [line for line in done.stdout.splitlines() if "price" in line]
        assert "unknown" in price
        assert "--price-per-gpu-hour" in price
        assert not any("FLOPs" in line and "unknown" in line for line in done.stdout.splitlines())

    @pytest.mark.parametrize(("limit", "want"), [("0.2", Exit.TOO_EXPENSIVE), ("100", Exit.SUCCESS)])
    def test_fail_over_cost(self, limit: str, want: Exit) -> None:
        """The plan is printed, and the exit code is 4 when it may cost more."""
        done = plan(*DEMO, *PRICES, "--fail-over-cost", limit)
        assert done.exit_code == want
        assert "tokens trained" in done.stdout

    def test_fail_over_cost_needs_prices(self) -> None:
        """An unknown price is not a low one."""
        done = plan(*DEMO, "--fail-over-cost", "1")
        assert done.exit_code == Exit.FAILED
        assert "--price-per-gpu-hour" in done.stderr


class TestWarnings:
    """What will run, and will not tell what one hopes for."""

    @pytest.mark.parametrize(
        ("until", "sweep", "want"),
        [
            pytest.param("20480", None, ["there is mixing and no mixSweep"], id="chosen for nothing"),
            pytest.param("40960", {"durations": ["40960"]}, ["a phase of the mix ends at 40960"], id="late"),
            pytest.param("20480", {"durations": ["40960"]}, [], id="fine"),
        ],
    )
    def test_mix(self, until: str, sweep: dict[str, Any] | None, want: list[str]) -> None:
        """A mix that nothing is trained on, and a phase that nobody reaches."""
        swept = {"learningRateSweep": {"learningRates": ["1e-4", "1e-3"], "rungs": ["10240"]}}
        recipe = explicit([(until, [("python", "1")]), (None, [("perl", "1")])], **swept).to_dict()["recipe"]
        spec = make_experiment(recipe={**recipe, "mixSweep": sweep})
        found = preview(Document("a", "b", spec), Manifests((), ()), Prices()).warnings
        assert [text[: len(start)] for text, start in zip(found, want, strict=True)] == want

    @pytest.mark.parametrize(
        ("changes", "want"),
        [
            pytest.param({"replay": None, "evaluation": "linux"}, "no control", id="no replay"),
            pytest.param({"training": {"replicates": 1}}, "no run-noise estimate", id="one replicate"),
            pytest.param({"budget": {"tokens": "1000"}}, "BudgetExhausted", id="budget"),
            pytest.param(
                {"budget": {"gpuHours": "1e-4"}}, "budget.gpuHours is 0.0001, up to", id="budget of GPU-hours"
            ),
            pytest.param({"recipe": {"learningRates": ["1e-4"]}}, "nothing to compare", id="one rate"),
            pytest.param({"recipe": {"rungs": ["10000"]}}, "rung 10000 becomes 10240", id="rounded"),
            pytest.param({"resources": {"nodes": 3}}, "not divisible by 3 processes", id="batch"),
            pytest.param({"datasets": "1000"}, "repeated 5.1 times", id="epochs"),
        ],
    )
    def test_said(self, changes: dict[str, Any], want: str) -> None:
        """In a sentence."""
        spec = make_experiment().to_dict()
        if "recipe" in changes:
            changes = {"recipe": {"learningRateSweep": spec["recipe"]["learningRateSweep"] | changes["recipe"]}}
        if "training" in changes:
            changes = {"training": spec["training"] | changes["training"]}
        if changes.get("evaluation") == "linux":
            changes["evaluation"] = {"target": spec["evaluation"]["target"]}
        if "datasets" in changes:
            changes = {"datasets": [spec["datasets"][0] | {"maxTokens": changes["datasets"]}]}
        done = plan("-f", "-", *PRICES, text=manifest(**changes))
        assert done.exit_code == Exit.SUCCESS, done.stderr
        assert any(want in line for line in done.stdout.splitlines() if line.startswith("warning:"))

    def test_a_base_that_is_not_there(self) -> None:
        """Its cost is not counted, and the plan says so."""
        done = plan("-f", str(ROOT / "examples/demo/experiment.yaml"))
        assert "CPTTrial demo-base, which is not in these files" in done.stdout


def test_light() -> None:
    """`plan` loads neither a framework nor a cluster's client nor storage: it must answer within a second."""
    heavy = ("torch", "numpy", "transformers", "kopf", "kubernetes", "aiohttp", "boto3", "rich.live")
    code = f"""
import sys
from typer.testing import CliRunner
from kubectl_cpt.main import app
assert CliRunner().invoke(app, {["plan", *DEMO]!r}).exit_code == 0
print([name for name in {heavy!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


if __name__ == "__main__":
    for example in LATER:
        done = plan(*later(example), *PRICES, *SIZES.get(example, ()))
        (GOLDEN / f"{example}-plan.txt").write_text(done.stdout)
    for format_, name in FORMATS.items():
        (GOLDEN / name).write_text(plan(*DEMO, *PRICES, "-o", format_).stdout)
    STUDY.write_text(with_plans(STUDY.read_text()))
