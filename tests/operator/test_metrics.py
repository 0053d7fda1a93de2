"""What Prometheus sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from cpt_operator.docs import files, rows
from cpt_operator.kinds import Kind
from cpt_operator.metrics import TRIALS_MAX, Metrics
from cpt_operator.recorder import Recorder
from make import make_experiment
from world import World, works

GOLDEN = Path(__file__).parent / "golden" / "metrics.txt"
ROOT = Path(__file__).parents[2]


def scrape(world: World, recorder: Recorder | None = None) -> dict[str, dict[tuple[str, ...], float]]:
    """Values by the labels' values (labels sorted), by name; the experiment's or trial's own labels are cut off."""
    runtime = world.operators[0].runtime
    metrics = Metrics(runtime.store, runtime.queue, recorder or Recorder(), runtime.now)
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            rest = {k: v for k, v in sample.labels.items() if k not in ("namespace", "experiment", "trial")}
            found.setdefault(sample.name, {})[tuple(rest.values())] = sample.value
    return found


async def at_work(**changes: Any) -> World:
    """An experiment of which four trials run on 8 GPUs each, for 100 seconds by now."""
    world = World(kubelet=_starts)
    resources = {"gpusPerNode": 8}
    world.add(Kind.EXPERIMENT, "sweep", make_experiment(resources=resources, **changes).to_dict())
    await world.settle(30)
    return world


def _starts(world: World, job: Any) -> None:
    if job.labels["cpt.dev/type"] == "Train":
        if not world.store.pods_of(job.uid):
            world.start_pods(job)
    else:
        works(world, job)


class TestNames:
    """Others build dashboards and alerts on them."""

    def test_golden(self) -> None:
        """A name, type or label that changes is a change of the product."""
        assert [
            f"{name} {kind} {labels}".rstrip() for name, kind, labels, _ in rows()
        ] == GOLDEN.read_text().splitlines()

    def test_page(self) -> None:
        """docs/metrics.md is what the code says: `make crds` changes nothing."""
        for path, text in files().items():
            assert (ROOT / path).read_text() == text

    async def test_nothing_else_is_exposed(self) -> None:
        """But what every process has."""
        recorder = Recorder()
        recorder.reconciled("cpttrials", 0.1, error=False)
        known = {name for name, *_ in rows()}
        for name in scrape(await at_work(), recorder):
            base = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
            assert base in known or name.startswith("process_"), name


class TestExperiment:
    """Numbers of the status, as numbers."""

    async def test_finished(self) -> None:
        """Its conditions, its bill, its best."""
        world = World(kubelet=works)
        world.add(Kind.EXPERIMENT, "sweep", make_experiment(budget={"tokens": "1M", "gpuHours": "10"}).to_dict())
        await world.settle(120)
        seen = scrape(world)
        assert seen["cpt_experiment_condition"][("True", "Succeeded")] == 1
        assert seen["cpt_experiment_progress_ratio"][()] == 1
        assert seen["cpt_experiment_trials"] == {("running",): 0, ("queued",): 0, ("succeeded",): 24, ("failed",): 0}
        assert seen["cpt_experiment_tokens_total"][()] == 81_920
        assert seen["cpt_experiment_tokens_naive_total"][()] == 40_960
        assert seen["cpt_experiment_budget_tokens"][()] == 1_000_000
        assert seen["cpt_experiment_budget_gpu_seconds"][()] == 36_000
        assert seen["cpt_experiment_score"][("target", "Heldout")] == 1.5
        assert "cpt_experiment_stage" not in seen

    async def test_just_created(self) -> None:
        """Without a status it is there, and nothing fails."""
        world = World()
        world.add(Kind.EXPERIMENT, "sweep", make_experiment().to_dict())
        assert scrape(world)["cpt_experiment_progress_ratio"][()] == 0


class TestTrials:
    """Those with an attempt."""

    async def test_running(self) -> None:
        """Four of them; the GPUs of their open attempts count."""
        world = await at_work()
        seen = scrape(world)
        assert len(seen["cpt_trial_info"]) == 4
        assert set(seen["cpt_trial_phase"]) == {("Running",)}
        first = world.trial(world.jobs_at_work()[0].labels["cpt.dev/trial"]).attempts.last[-1].running_time
        assert first is not None
        assert seen["cpt_trial_gpu_seconds_total"][()] > 8 * 10
        assert len(seen["cpt_trial_pod_info"]) == 4

    async def test_ended_ones_have_no_series(self) -> None:
        """A deleted or finished trial leaves none behind."""
        world = World(kubelet=works)
        world.add(Kind.EXPERIMENT, "sweep", make_experiment().to_dict())
        await world.settle(120)
        seen = scrape(world)
        assert "cpt_trial_info" not in seen
        assert seen["cpt_trial_series_dropped"][()] == 0

    def test_there_is_a_cap(self) -> None:
        """And a series that says how many were dropped."""
        world = World()
        for number in range(TRIALS_MAX + 7):
            world.add(Kind.TRIAL, f"t{number}", {"type": "Preflight"})
            body = world.objects[next(reversed(world.objects))]
            world.put(Kind.TRIAL, body | {"status": {"attempts": {"total": 1, "last": [{"number": 1}]}}})
        runtime = world.operators[0].runtime
        text = Metrics(runtime.store, runtime.queue, Recorder(), runtime.now).text().decode()
        assert text.count("\ncpt_trial_info{") == TRIALS_MAX
        assert "\ncpt_trial_series_dropped 7.0" in text


def test_own_health() -> None:
    """Under controller-runtime's names."""
    recorder = Recorder()
    recorder.reconciled("cpttrials", 0.1, error=False)
    recorder.reconciled("cpttrials", 0.1, error=True)
    recorder.s3_request("get", "404", 0.01)
    recorder.leads("cpt-operator", is_leader=True)
    world = World()
    world.add(Kind.EXPERIMENT, "sweep", make_experiment().to_dict())
    seen = scrape(world, recorder)
    assert seen["controller_runtime_reconcile_total"] == {("cpttrials", "success"): 1, ("cpttrials", "error"): 1}
    assert seen["controller_runtime_reconcile_errors_total"] == {("cpttrials",): 1}
    assert seen["cpt_s3_request_seconds_count"] == {("404", "get"): 1}
    assert seen["leader_election_master_status"] == {("cpt-operator",): 1}
    assert seen["workqueue_depth"] == {("cpt",): 1}
    assert seen["cpt_store_objects"][("cptexperiments",)] == 1
