"""`kubectl cpt run` with real processes: what runs, in which order, how often, and what a restart does again."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from cli.bench import ALL, TOKENS, TRAINS, Bench
from kubectl_cpt.errors import Exit

pytestmark = pytest.mark.processes


def wait_for(path: Path, pattern: str) -> Path:
    """The first file that matches; the test's own timeout ends this when none ever does."""
    while True:
        for found in path.glob(pattern):
            return found
        time.sleep(0.02)


class TestWhole:
    """From a manifest to an answer."""

    def test_an_experiment(self, bench: Bench) -> None:
        """Every trial of the plan runs once, and every dataset has a rate."""
        done = bench.run()
        assert done.code == Exit.SUCCESS, done.said
        assert len(bench.attempts()) == ALL
        assert {d["name"]: d["bestLearningRate"] for d in done.answer["status"]["datasets"]} == {"python": "1e-4"}
        assert done.answer["status"]["ledger"]["tokensTrained"] == str(TOKENS)
        assert Path(done.answer["places"]["decision"]).exists()

    def test_screening(self, bench: Bench) -> None:
        """A stage more: every dataset has its verdict, and both decisions are shown with their place."""
        recipe = bench.experiment()["spec"]["recipe"] | {"screening": {}}
        bench.write(bench.experiment(recipe=recipe))
        done = bench.run()
        assert done.code == Exit.SUCCESS, done.said
        assert len(bench.attempts()) == ALL + 1
        (python,) = done.answer["status"]["datasets"]
        assert (python["verdict"], python["bestLearningRate"]) == ("Helps", "1e-4")

    def test_durations(self, bench: Bench) -> None:
        """As many as the decisions want; the chosen one is the dataset's."""
        recipe = bench.experiment()["spec"]["recipe"] | {"durationSweep": {"durations": ["20480", "40960"]}}
        bench.write(bench.experiment(recipe=recipe))
        done = bench.run()
        assert done.code == Exit.SUCCESS, done.said
        assert bench.attempts().count("train") == TRAINS + 4
        (python,) = done.answer["status"]["datasets"]
        assert python["optimalTokens"] == "20480"

    def test_soup(self, bench: Bench) -> None:
        """The chosen mean is written, and what was found says where it lies."""
        recipe = bench.experiment()["spec"]["recipe"] | {"soup": {"weights": ["0.5", "1"]}}
        bench.write(bench.experiment(recipe=recipe, budget={"tokens": str(TOKENS)}))
        done = bench.run()
        assert done.code == Exit.SUCCESS, done.said
        assert (bench.attempts().count("evaluate"), bench.attempts().count("merge")) == (1 + 2, 1)
        best = done.answer["status"]["best"]
        assert best["soupWeight"] == "0.5"
        assert best["uri"] == done.answer["places"]["best"]
        assert best["uri"].endswith(f"{best['digest']}/export/")

    def test_a_mix(self, bench: Bench) -> None:
        """As written, and swept: the status says what it is made of, and nothing of it is trained again."""
        recipe = {
            "learningRateSweep": {"learningRates": ["1e-4"], "rungs": ["10240"]},
            "mixing": {"strategy": "Explicit", "phases": [{"weights": [{"dataset": "python", "weight": "3"}]}]},
            "mixSweep": {"durations": ["20480", "40960"]},
        }
        bench.write(bench.experiment(recipe=recipe))
        done = bench.run()
        assert done.code == Exit.SUCCESS, done.said
        assert bench.attempts().count("train") == TRAINS + 4
        assert done.answer["status"]["mix"] == [{"dataset": "python", "weight": "1"}]
        assert [stage["name"] for stage in done.answer["status"]["stages"]][-3:] == ["mixing", "mixSweep", "report"]
        assert bench.run().answer == done.answer

    def test_scaling(self, bench: Bench) -> None:
        """The same on another base: its texts, its score, two rates, and two more decisions."""
        models = [{"name": "large", "uri": "s3://cpt/sources/large"}]
        bench.write(bench.experiment(recipe=bench.experiment()["spec"]["recipe"] | {"scaling": {"models": models}}))
        done = bench.run()
        assert done.code == Exit.SUCCESS, done.said
        assert bench.attempts().count("train") == TRAINS + 4
        assert len(bench.attempts()) == ALL + 3 + 1 + 4 + 2
        base, large = done.answer["status"]["scaling"]
        assert (base["name"], large["name"], large["gain"]) == ("base", "large", "+0.5000")

    def test_again(self, bench: Bench) -> None:
        """A second run trains nothing and gives the same answer."""
        first, second = bench.run(), bench.run()
        assert second.code == Exit.SUCCESS
        assert second.answer == first.answer
        assert len(bench.attempts()) == ALL

    def test_another_experiment_reuses(self, bench: Bench) -> None:
        """Equal trials are found by their digest: only its own Preflight and report run."""
        bench.run()
        other = bench.experiment()
        other["metadata"]["name"] = "other"
        bench.write(other)
        done = bench.run()
        assert done.answer["status"]["ledger"]["tokensTrained"] == "0"
        assert done.answer["status"]["ledger"]["tokensReused"] == str(TOKENS)
        assert (bench.attempts().count("preflight"), bench.attempts().count("report")) == (2, 2)
        assert len(bench.attempts()) == ALL + 2

    def test_trials_by_hand(self, bench: Bench) -> None:
        """Names are resolved as on a cluster, in any order of the file, and the experiment starts from their end."""
        bench.write(bench.experiment(model={"trialName": "base"}), *reversed(base_trials(bench)))
        done = bench.run()
        assert done.code == Exit.SUCCESS, done.said
        by_hand = [trial["name"] for trial in done.answer["trials"] if trial["stage"] == "by hand"]
        assert sorted(by_hand) == ["base", "inputs", "speeches"]
        assert bench.attempts().count("train") == TRAINS + 1

    def test_a_soup_by_hand(self, bench: Bench) -> None:
        """A merge waits for what it is made of; what is only evaluated waits for the same."""
        end = {"segment": {"trialName": "base"}, "weight": "1"}
        scored = {"heldOut": [{"trialName": "speeches"}], "sequenceLength": 64}
        soup = bench.document("CPTTrial", "soup", {"type": "Merge", "merge": {"inputs": [end]}})
        unwritten = bench.document(
            "CPTTrial", "u", {"type": "Evaluate", "evaluate": scored | {"merge": {"inputs": [end]}}}
        )
        bench.write(unwritten, soup, *base_trials(bench))
        done = bench.run()
        assert done.code == Exit.SUCCESS, done.said
        assert bench.attempts() == ["evaluate", "merge", "preflight", "prepare", "train"]

    def test_without_the_base(self, bench: Bench) -> None:
        """A base that nobody makes is said before anything runs."""
        bench.write(bench.experiment(model={"trialName": "base"}))
        done = bench.run()
        assert done.code == Exit.FAILED
        assert "there is no CPTTrial base in the files" in done.said
        assert bench.attempts() == []


def base_trials(bench: Bench) -> list[dict[str, Any]]:
    """What makes a base: files, their tokens, weights."""
    config = {"preflightName": "inputs", "input": "config"}
    inputs = [
        {"name": "config", "kind": "Tokenizer", "uri": "s3://cpt/base"},
        {"name": "speeches", "kind": "Dataset", "uri": "s3://cpt/speeches.jsonl"},
    ]
    train = {
        "start": {"random": {"config": config}},
        "phases": [{"mixture": [{"dataset": {"trialName": "speeches"}, "weight": "1"}]}],
        "schedule": {"peakLearningRate": "3e-3"},
        "stopTokens": "10240",
        "sequenceLength": 64,
        "globalBatchSize": 8,
    }
    prepare = {"source": {"preflightName": "inputs", "input": "speeches"}, "tokenizer": {"source": config}}
    return [
        bench.document("CPTTrial", "inputs", {"type": "Preflight", "preflight": {"inputs": inputs}}),
        bench.document("CPTTrial", "speeches", {"type": "Prepare", "prepare": prepare}),
        bench.document("CPTTrial", "base", {"type": "Train", "train": train}),
    ]


class TestEnds:
    """What an exit code means: the table of `cpt_api.exits`."""

    def test_a_free_end_is_retried_at_once(self, bench: Bench) -> None:
        """Out of memory: half the micro-batch comes next, and nothing is counted."""
        bench.faults(Evaluate=[212, 143])
        done = bench.run()
        assert done.code == Exit.SUCCESS, done.said
        assert bench.attempts().count("evaluate") == 3
        assert "told to exit with 212; again now" in done.said

    def test_a_permanent_end_is_not(self, bench: Bench) -> None:
        """The experiment cannot go on, and says which trial failed, why, and where its output lies."""
        bench.faults(Preflight=[3])
        done = bench.run()
        assert done.code == Exit.FAILED
        assert bench.attempts() == ["preflight"]
        assert re.search(r"round 1: ConfigError: exit 3: told to exit with 3; its output: .*-1\.log", done.said)

    def test_what_does_not_depend_on_it_goes_on(self, bench: Bench) -> None:
        """A failed Prepare stops its own arms only."""
        bench.faults(Evaluate=[4])
        done = bench.run()
        assert done.code == Exit.FAILED
        assert bench.attempts().count("prepare") == 3
        assert "Evaluate base: DataError: exit 4" in done.said

    def test_a_report_that_fails_fails_nothing(self, bench: Bench) -> None:
        """The answer is there, says that there is no report, and why; the next run makes it."""
        bench.faults(Report=[3])
        bench.write(bench.experiment(scheduling={"onTrialFailure": "Stop"}))
        done = bench.run()
        assert done.code == Exit.SUCCESS, done.said
        assert done.answer["status"]["datasets"][0]["bestLearningRate"] == "1e-4"
        assert "reportUri" not in done.answer["status"]
        (stage,) = [stage for stage in done.answer["status"]["stages"] if stage["name"] == "report"]
        assert (stage["state"], stage["reason"][:35]) == ("Failed", "no report: ConfigError: exit 3: tol")
        again = bench.run()
        assert again.answer["places"]["report"] == again.answer["status"]["reportUri"]

    def test_failed_trials_are_tried_anew_by_the_next_run(self, bench: Bench) -> None:
        """Running again is what `retry` is on a cluster, and no number of an attempt is used twice."""
        bench.faults(Preflight=[3])
        bench.run()
        done = bench.run()
        assert done.code == Exit.SUCCESS, done.said
        assert bench.attempts().count("preflight") == 2


class TestInterrupted:
    """Ctrl-C and kill -9."""

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_trials_end_first(self, bench: Bench, number: signal.Signals) -> None:
        """They get SIGTERM, are waited for, and the next run goes on."""
        bench.faults(Evaluate=[0])
        process = bench.start()
        wait_for(bench.store, "data/*/*/attempts/1")
        while "evaluate" not in bench.attempts():
            time.sleep(0.02)
        process.send_signal(number)
        done = bench.ended(process)
        assert done.code == Exit.INTERRUPTED
        assert "run the same command again to go on" in done.said
        assert bench.run().code == Exit.SUCCESS
        assert bench.attempts().count("evaluate") == 2
        assert bench.attempts().count("preflight") == 1

    def test_killed(self, bench: Bench) -> None:
        """The next run is kept out only as long as a trial that was left behind still runs."""
        bench.faults(Preflight=[0])
        process = bench.start()
        wait_for(bench.store, "data/*/*/attempts/1")
        process.kill()
        process.communicate()
        refused = bench.run()
        assert refused.code == Exit.BUSY
        assert f"in use by process {process.pid}, or by a trial that it started" in refused.said
        os.kill(bench.processes()[0], signal.SIGKILL)
        assert bench.run().code == Exit.SUCCESS
