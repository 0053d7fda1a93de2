"""`cpt-trainer report` of a simulated sweep: what it writes, what it refuses, that equal inputs give equal bytes."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from cpt_api.layout import result_key
from cpt_api.result import Result
from cpt_api.trial import Bill, CPTTrialSpec, Legend
from cpt_api.values import Tokens
from cpt_trainer import report
from cpt_trainer.errors import ConfigError, DataError, MissingError
from cpt_trainer.report.card import card
from cpt_trainer.report.findings import read_findings
from cpt_trainer.trial import Trial
from simulator import scaling_claims
from simulator.scaling_claims import bases
from simulator.truth import Curve, Truth
from trainer_image.report.study import NAMESPACE, TRUTH, decisions, files, make_study, make_trial, plant

ALL_DIVERGE = Truth({"python": Curve(2e-4, 0.02)}, diverges_above=1e-9)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """A report that was made."""
    trial = make_study(tmp_path_factory.mktemp("study"))
    report.run(trial)
    return trial


def with_legend(trial: Trial, **changes: object) -> Trial:
    """Under other names, or with another bill."""
    run = trial.spec.run
    legend = (run.legend or Legend()).model_copy(update=changes)
    spec = trial.spec.model_copy(update={"run": run.model_copy(update={"legend": legend})})
    return make_trial(trial.store, spec)


class References(HTMLParser):
    """Everything that a browser would fetch, or follow."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        self.found += re.findall(r"url\(([^)]*)\)|@import", text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.found += [
            value or ""
            for name, value in attrs
            if name.rpartition(":")[2] in ("href", "src", "srcset", "data", "poster")
        ]


class TestFiles:
    """What lies below the trial's data prefix."""

    def test_result_names_them(self, study: Trial) -> None:
        """The control plane believes the result; every output has the bytes that it says."""
        result = Result.believed(study.store.get(result_key(NAMESPACE, study.digest)), study.digest, study.spec)
        written = files(study)
        assert {output.key: output.bytes for output in result.outputs} == {k: len(data) for k, data in written.items()}
        assert {"report.html", "report.json", "tables/arms.csv", "figures/ledger.png"} < set(written)
        assert {key for key in written if key.endswith(".svg")} == {
            "figures/durations-perl.svg",
            "figures/durations-python.svg",
            "figures/learning-rate-perl.svg",
            "figures/learning-rate-python.svg",
            "figures/learning-rate-shuffled.svg",
            "figures/ledger.svg",
            "figures/matrix.svg",
            "figures/screening.svg",
            "figures/soup.svg",
        }
        assert {"matplotlib", "jinja2"} < set(result.software)

    def test_tables_hold_what_the_figures_show(self, study: Trial) -> None:
        """A row for each trained point, and steps that add up."""
        written = files(study)
        arms = list(csv.DictReader(io.StringIO(written["tables/arms.csv"].decode())))
        assert {(row["dataset"], row["learning_rate"]) for row in arms if row["fate"] == "chosen"} == {
            ("perl", "3e-4"),
            ("python", "3e-4"),
            ("shuffled", "1e-4"),
        }
        assert {row["target"] for row in arms if row["outcome"] == "Diverged"} == {""}
        assert all(
            float(row["target_low"]) < float(row["target"]) < float(row["target_high"]) for row in arms if row["target"]
        )
        ledger = [int(row["tokens"]) for row in csv.DictReader(io.StringIO(written["tables/ledger.csv"].decode()))]
        assert sum(ledger[:-1]) == ledger[-1] > 0

    def test_verdicts(self, study: Trial) -> None:
        """Which datasets help, and an effect for every dataset on every text."""
        written = files(study)
        verdicts = list(csv.DictReader(io.StringIO(written["tables/verdicts.csv"].decode())))
        assert {row["dataset"]: row["verdict"] for row in verdicts} == {
            "perl": "Helps",
            "python": "Helps",
            "shuffled": "Undecided",
        }
        matrix = list(csv.DictReader(io.StringIO(written["tables/matrix.csv"].decode())))
        assert {row["text"] for row in matrix} == {"target", "retention"}
        assert len(matrix) == 2 * len(verdicts)

    def test_soup(self, study: Trial) -> None:
        """A row for each mean; the one that is released holds."""
        written = files(study)
        arms = list(csv.DictReader(io.StringIO(written["tables/soup-arms.csv"].decode())))
        (released,) = csv.DictReader(io.StringIO(written["tables/soup.csv"].decode()))
        assert len(arms) == 4 * len({(row["dataset"], row["tokens"]) for row in arms})
        same = ("dataset", "tokens", "weight")
        (row,) = (row for row in arms if all(row[key] == released[key] for key in same))
        assert (released["verdict"], row["retention_holds"]) == ("Chosen", "yes")
        assert "What is released" in written["report.html"].decode()

    def test_soup_without_retention(self, tmp_path: Path) -> None:
        """Every mean lies above the base."""
        trial = make_study(tmp_path, stages={"soup": {"weights": ["0.5"]}}, retention=False)
        report.run(trial)
        assert "no retention was asked for" in files(trial)["figures/soup.svg"].decode()

    def test_mixes(self, tmp_path: Path) -> None:
        """What each reads and how it does; the mix that is taken has its sweep and durations beside the datasets'."""
        stages = {"durationSweep": {"durations": ["4M", "8M"]}, "mixing": {}, "mixSweep": {"durations": ["4M"]}}
        sizes = {"python": 10**9, "perl": 3 * 10**9}
        curves = {"python": Curve(2e-4, 0.02, saturates=1), "perl": Curve(4e-4, 0.01, gain=0.6)}
        trial = make_study(tmp_path, Truth(curves, sizes=sizes), stages)
        report.run(trial)
        written = files(trial)
        rows = list(csv.DictReader(io.StringIO(written["tables/mixes.csv"].decode())))
        assert [row["mix"] for row in rows if row["role"].startswith("proposal")] == ["the-mix"]
        assert {"uniform-mix", "proportional-mix"} < {row["mix"] for row in rows}
        parts = list(csv.DictReader(io.StringIO(written["tables/mix-parts.csv"].decode())))
        assert {row["weight"] for row in parts if row["dataset"] == "replay"} == {"0.05"}
        assert {"figures/mixes.svg", "figures/learning-rate-the-mix.svg", "figures/durations-the-mix.svg"} < set(
            written
        )

    def test_without_a_screening(self, tmp_path: Path) -> None:
        """A recipe that ends with the sweep has no section about it."""
        trial = make_study(tmp_path, stages={})
        report.run(trial)
        assert "figures/screening.svg" not in files(trial)
        assert "Which datasets help" not in files(trial)["report.html"].decode()

    def test_a_scaling(self, tmp_path: Path) -> None:
        """Every base and what the recipe made of it; what lies beyond the line is said so."""
        truth = replace(TRUTH, curves={"python": Curve(2e-4, 0.02)}, bases=bases(0.5))
        trial = make_study(tmp_path, truth, scaling_claims.STAGES)
        report.run(trial)
        written = files(trial)
        rows = list(csv.DictReader(io.StringIO(written["tables/scaling.csv"].decode())))
        assert [row["model"] for row in rows] == ["base", "middle", "large"]
        assert all(float(row["gain_low"]) < float(row["gain"]) < float(row["gain_high"]) for row in rows)
        compute = list(csv.DictReader(io.StringIO(written["tables/scaling-compute.csv"].decode())))
        assert float(compute[0]["equivalent"]) > 1
        assert compute[-1]["equivalent"] == "> 0.962"
        assert "figures/scaling.svg" in written
        assert "What it is worth on other models" in written["report.html"].decode()
        text = written["model-card.md"].decode()
        assert "## The same recipe on other models" in text
        assert "- **middle**: " in text

    def test_json_holds_all_of_it(self, study: Trial) -> None:
        """Decisions as they were taken, names, and the bill."""
        document = json.loads(files(study)["report.json"])
        assert [answer["trial"] for answer in document["answers"]] == decisions(study)
        assert sorted(document["names"].values()) == ["perl", "python", "replay", "retention", "shuffled", "target"]
        # three datasets at four rates to 4M, and two survivors at three durations
        assert document["bill"]["naiveTokens"] == str(Tokens(3 * 4 * 4_000_000 + 2 * 28_000_000))
        assert document["metrics"]["target"]["baseBitsPerByte"] > 2

    def test_all_rates_diverged(self, tmp_path: Path) -> None:
        """There is a page all the same, and it says so."""
        trial = make_study(tmp_path, ALL_DIVERGE)
        report.run(trial)
        assert "every rate diverged" in files(trial)["report.html"].decode()

    def test_without_a_legend(self, study: Trial) -> None:
        """By hand nothing has a name: data are shown by their digests, and there is no bill."""
        spec = study.spec.model_copy(update={"run": study.spec.run.model_copy(update={"legend": None})})
        written = dict(report.make_report(read_findings(make_trial(study.store, spec))))
        assert "figures/ledger.svg" not in written
        assert "python" not in written["report.html"].decode()


class TestBytes:
    """Equal inputs, equal bytes."""

    def test_in_another_store(self, study: Trial, tmp_path: Path) -> None:
        """All files, figures too."""
        again = make_study(tmp_path)
        report.run(again)
        assert files(again) == files(study)

    @pytest.mark.processes
    def test_in_another_process_of_another_user(self, study: Trial, tmp_path: Path) -> None:
        """Neither matplotlib's settings, nor locale, time zone or hash seed change a byte; torch is not imported."""
        (tmp_path / "matplotlibrc").write_text("font.size: 20\nsvg.fonttype: path\naxes.facecolor: red\n")
        (tmp_path / "trial.json").write_text(json.dumps(study.document.to_dict()))
        copy = make_study(tmp_path / "store")
        environment = {"MPLCONFIGDIR": str(tmp_path), "LC_ALL": "C", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"}
        command = [sys.executable, "-X", "importtime", "-m", "cpt_trainer", "report"]
        command += ["--trial", str(tmp_path / "trial.json"), "--store", str(tmp_path / "store")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
        assert done.returncode == 0, done.stderr[-2000:]
        assert not [
            line for line in done.stderr.splitlines() if line.endswith((" torch", " boto3", " matplotlib.pyplot"))
        ]
        written = {key: data for key, data in files(copy).items() if not key.startswith("logs/")}
        assert written == files(study)


class TestPage:
    """Self-contained, and safe with what users write."""

    def test_no_external_reference(self, study: Trial) -> None:
        """Whatever a browser could fetch is on the page itself."""
        page = References(files(study)["report.html"].decode())
        assert page.found
        assert {reference for reference in page.found if not reference.startswith("#")} == {"data:,"}
        assert not page.tags & {"script", "img", "iframe", "object", "embed", "video", "audio", "base", "form"}

    def test_ids_are_unique(self, study: Trial) -> None:
        """Several drawings stand on one page: no id is given twice, and every reference finds its own."""
        text = files(study)["report.html"].decode()
        ids = re.findall(r'\bid="([^"]+)"', text)
        assert len(ids) == len(set(ids))
        assert set(re.findall(r'(?:href="|url\()#([^")]+)', text)) <= set(ids)

    def test_words_of_users_are_escaped(self, tmp_path: Path) -> None:
        """A decision's sentence is written under a user's identity."""
        trial = make_study(tmp_path)
        hostile = '<script src="https://evil.example/x.js"></script>'
        for digest in decisions(trial):
            result = Result.model_validate_json(trial.store.get(result_key(NAMESPACE, digest)))
            assert result.decision is not None
            rates = tuple(choice.model_copy(update={"reason": hostile}) for choice in result.decision.rates)
            decision = result.decision.model_copy(update={"sentence": hostile, "rates": rates, "method": hostile})
            plant(trial.store, result.model_copy(update={"decision": decision}))
        report.run(trial)
        text = files(trial)["report.html"].decode()
        assert "&lt;script" in text
        assert "script" not in References(text).tags

    def test_numbers_of_the_bill(self, study: Trial) -> None:
        """What it cost, in words; what is unknown is not shown as nothing."""
        bill = Bill(
            naive_tokens=Tokens.parse("8B"),
            separate_tokens=Tokens.parse("8B"),
            arm_tokens=Tokens.parse("6.4B"),
            control_tokens=Tokens.parse("2B"),
            reused_tokens=Tokens.parse("1B"),
            training_gigaflops=0,
            gpu_seconds=3600,
        )
        text = report.make_report(read_findings(with_legend(study, bill=bill)))["report.html"].decode()
        assert "7.4B tokens were trained: 92 % of the 8B that separate runs take." in text
        assert "3,600 GPU-seconds" in text
        assert "floating-point" not in text
        counted = bill.model_copy(update={"training_gigaflops": 3000, "evaluation_gigaflops": 1000})
        text = report.make_report(read_findings(with_legend(study, bill=counted)))["report.html"].decode()
        assert "Training took 3e+12 floating-point operations; evaluation another 1e+12, 25 % of all." in text


class TestCard:
    """What somebody must know who is handed the model."""

    def test_of_the_best(self, study: Trial) -> None:
        """Lineage, verdicts, scores beside the base's; licences are for people to fill in."""
        text = files(study)["model-card.md"].decode()
        legend = study.spec.run.legend
        assert legend is not None
        assert legend.best is not None
        front, body = text.removeprefix("---\n").split("---\n", 1)
        assert yaml.safe_load(front) == {
            "base_model": legend.base,
            "datasets": [legend.best.dataset],
            "license": "unknown",
            "tags": ["continued-pretraining"],
        }
        assert f"| trial of this model | `{legend.best.trial}` |" in body
        assert f"{legend.best.target} ({legend.best.target_interval})" in body
        assert body.count("| Helps |") == 2
        assert body.count("unknown: fill in before it is passed on") == 3

    def test_none_of_the_base(self, study: Trial) -> None:
        """Where nothing is better than the base there is no model to describe."""
        assert "model-card.md" not in report.make_report(read_findings(with_legend(study, best=None)))

    def test_what_users_wrote_does_nothing(self, study: Trial) -> None:
        """A sentence stays one line of plain text, and stands there once however many decisions say it."""
        findings = read_findings(study)
        hostile = "<script>|[x](javascript:y)\n# title"
        answers = tuple(
            replace(answer, decision=answer.decision.model_copy(update={"sentence": hostile}))
            for answer in findings.answers
        )
        text = (card(replace(findings, answers=answers)) or b"").decode()
        assert text.count("- &lt;script&gt;\\|\\[x\\](javascript:y) \\# title") == 1
        assert "<script" not in text


class TestRefused:
    """Nothing is shown that was not found."""

    def test_no_decision(self, tmp_path: Path) -> None:
        """The trial that is missing is named."""
        trial = make_study(tmp_path)
        trial.store.delete(result_key(NAMESPACE, decisions(trial)[0]))
        with pytest.raises(MissingError, match=f"Decide trial {decisions(trial)[0].short}… has no result"):
            report.run(trial)

    def test_no_score_of_the_base(self, tmp_path: Path) -> None:
        """Without it there is no line to compare with."""
        trial = make_study(tmp_path)
        assert trial.spec.report is not None
        base = trial.spec.report.baseline.digest
        assert base is not None
        result = Result.model_validate_json(trial.store.get(result_key(NAMESPACE, base)))
        plant(trial.store, result.model_copy(update={"held_out": ()}))
        with pytest.raises(DataError, match="has no score of text"):
            report.run(trial)

    def test_two_data_of_one_name(self, study: Trial) -> None:
        """Their files would overwrite each other."""
        assert study.spec.run.legend is not None
        names = tuple(entry.model_copy(update={"name": "same"}) for entry in study.spec.run.legend.names)
        with pytest.raises(ConfigError, match="the same name"):
            read_findings(with_legend(study, names=names))


def test_spec_of_one_by_hand(study: Trial) -> None:
    """What the operator plans can be written to a file and read again."""
    assert CPTTrialSpec.model_validate(study.spec.to_dict()) == study.spec
