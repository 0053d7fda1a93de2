"""One experiment from `kubectl apply` to its choice, on a cluster in memory."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from cpt_api import PROTOCOL
from cpt_api.experiment import CPTExperimentStatus
from cpt_api.layout import result_key
from cpt_api.result import Finding as InputFinding
from cpt_api.result import Outcome, Verdict
from cpt_api.trial import Question
from cpt_api.values import Digest
from cpt_operator import rfc3339, summary
from cpt_operator.children import child_name
from cpt_operator.cluster import Forbidden, Rejected
from cpt_operator.evidence import protocol_of
from cpt_operator.kinds import Key, Kind
from cpt_operator.plan import Context, plan
from cpt_operator.records import JobRecord, TrialRecord, record_of
from cpt_operator.standing import has_failed, is_at_work, reason_of
from make import make_digest, make_experiment, make_screened
from world import NAMESPACE, START, World, works

SWEEP = Key(Kind.EXPERIMENT, NAMESPACE, "sweep")
SCREENED = {**make_experiment().to_dict()["recipe"], "screening": {"onUndecided": "Stop"}}


def apply(world: World, name: str = "sweep", **changes: Any) -> Any:
    return world.add(Kind.EXPERIMENT, name, make_experiment(**changes).to_dict())


def ready(world: World, name: str = "sweep") -> tuple[str, str]:
    condition = world.condition(Kind.EXPERIMENT, name, "Ready")
    assert condition is not None
    return condition[:2]


def why(world: World, name: str = "sweep") -> str:
    condition = world.condition(Kind.EXPERIMENT, name, "Ready")
    assert condition is not None
    return condition[2]


def status(world: World, name: str = "sweep") -> CPTExperimentStatus:
    body = world.objects[Key(Kind.EXPERIMENT, NAMESPACE, name)]
    return CPTExperimentStatus.model_validate(body["status"])


def trials(world: World, name: str = "sweep") -> list[TrialRecord]:
    owner = world.store.experiment(NAMESPACE, name)
    assert owner is not None
    return world.store.trials_of(owner.uid)


def made(world: World, kind: Kind) -> Counter[str]:
    return Counter(key.name for verb, key in world.writes if verb == "create" and key.kind is kind)


def fails(code: int, type_: str = "Train") -> Any:
    """A kubelet on which trials of that type exit with `code` after five seconds."""

    def kubelet(world: World, job: JobRecord) -> None:
        pods = world.store.pods_of(job.uid)
        if job.labels["cpt.dev/type"] != type_ or not pods:
            works(world, job)
        elif (world.now - rfc3339.parse(pods[0].created)).total_seconds() >= 5:
            world.finish(job, code, message="it was to be")

    return kubelet


def slow(seconds: float) -> Any:
    """A kubelet on which everything but training takes no time."""

    def kubelet(world: World, job: JobRecord) -> None:
        pods = world.store.pods_of(job.uid)
        if pods and job.labels["cpt.dev/type"] == "Train":
            began = pods[0].containers[0].running_since
            if began and (world.now - START).total_seconds() < seconds:
                return
        works(world, job)

    return kubelet


def slow_report(world: World, job: JobRecord) -> None:
    """A kubelet on which the report does not end."""
    if job.labels["cpt.dev/type"] == "Report" and world.store.pods_of(job.uid):
        return
    works(world, job)


def report_of(world: World) -> TrialRecord:
    (report,) = [trial for trial in trials(world) if trial.spec["type"] == "Report"]
    return report


def make_model(world: World, name: str, digest: str) -> None:
    """A hand-written trial of that name has succeeded."""
    since = {"lastTransitionTime": "2026-11-24T12:00:00Z"}
    done = {"type": "Succeeded", "status": "True", "reason": "Completed", "message": ""} | since
    world.add(Kind.TRIAL, name, {"type": "Train"})
    body = world.objects[Key(Kind.TRIAL, NAMESPACE, name)]
    world.put(Kind.TRIAL, body | {"status": {"conditions": [done], "digest": make_digest(digest)}})


class TestSweep:
    """The main job."""

    async def test_it_ends_with_a_choice(self) -> None:
        """Every dataset has its rate; nothing is created twice."""
        world = World(kubelet=works)
        apply(world)
        await world.settle(120)
        assert ready(world) == ("True", "Completed")
        done = status(world)
        assert {d.name: str(d.best_learning_rate) for d in done.datasets} == {"python": "1e-4", "perl": "1e-4"}
        assert done.best is not None
        assert done.best.trial in {trial.name for trial in trials(world)}
        assert (done.progress, done.trials_summary) == (100, "24/24")
        assert set(made(world, Kind.TRIAL).values()) == {1}
        assert set(made(world, Kind.JOB).values()) == {1}

    async def test_a_soup(self) -> None:
        """It is written once, and the status says where."""
        world = World(kubelet=works)
        apply(world, recipe=make_experiment().to_dict()["recipe"] | {"soup": {}})
        await world.settle(240)
        assert ready(world) == ("True", "Completed")
        best = status(world).best
        assert best is not None
        assert best.soup_weight == Decimal("0.25")
        assert best.uri == f"s3://cpt/data/{NAMESPACE}/{best.digest}/export/"
        assert [trial.name for trial in trials(world) if trial.spec["type"] == "Merge"] == [best.trial]

    async def test_idle_afterwards(self) -> None:
        """A finished experiment costs nothing."""
        world = World(kubelet=works)
        apply(world)
        await world.settle(120)
        writes = len(world.writes)
        await world.settle(600)
        assert len(world.writes) == writes

    async def test_no_more_trials_at_once_than_allowed(self) -> None:
        """parallelTrials holds across stages."""
        most = 0

        def kubelet(world: World, job: JobRecord) -> None:
            nonlocal most
            most = max(most, sum(is_at_work(trial.status) for trial in world.store.trials()))
            works(world, job)

        world = World(kubelet=kubelet)
        apply(world, scheduling={"parallelTrials": 3})
        await world.settle(120)
        assert ready(world) == ("True", "Completed")
        assert most == 3

    async def test_writes_per_trial(self) -> None:
        """Six in its whole life and the first of its progress, however long it waits for inputs and for a place.

        Created, WaitingForInput, Starting, its job created, (Running), Completed, the job deleted an hour later.
        """
        world = World(kubelet=works)
        apply(world, scheduling={"parallelTrials": 2})
        await world.settle(2 * 3600)
        assert ready(world) == ("True", "Completed")
        assert not world.jobs()
        of_job = Counter(key.name.rpartition("-")[0] for _, key in world.writes if key.kind is Kind.JOB)
        per_trial = Counter(key.name for _, key in world.writes if key.kind is Kind.TRIAL) + of_job
        assert max(per_trial.values()) == 6 + 1

    async def test_the_same_experiment_again_is_reused(self) -> None:
        """Under another name: every trial but Preflight and report is reused, nothing is trained."""
        world = World(kubelet=works)
        apply(world)
        await world.settle(120)
        apply(world, "again")
        await world.settle(120)
        assert ready(world, "again") == ("True", "Completed")
        again = status(world, "again")
        assert (again.trials.reused, again.ledger.tokens_trained) == (22, 0)
        assert again.ledger.tokens_reused > 0
        assert sum(name.startswith("again") for name in made(world, Kind.JOB)) == 2

    async def test_a_finished_one_costs_a_new_operator_nothing(self) -> None:
        """Its results are not read again, and a deleted trial is missed all the same."""
        world = World(kubelet=works)
        apply(world)
        await world.settle(120)
        gets = world.s3.gets
        world.restart()
        await world.settle(30)
        assert world.s3.gets == gets
        world.remove(trials(world)[3].key)
        await world.settle(30)
        assert (ready(world), len(trials(world))) == (("True", "Completed"), 24)
        assert status(world).trials.reused == 1

    async def test_two_equal_ones_at_the_same_time_train_once(self) -> None:
        """Single flight by digest; both end with the same choice."""
        world = World(kubelet=works)
        apply(world)
        apply(world, "twin")
        await world.settle(300)
        assert (ready(world), ready(world, "twin")) == (("True", "Completed"), ("True", "Completed"))
        digests = [
            body["metadata"]["annotations"]["cpt.dev/digest"]
            for key, body in world.objects.items()
            if key.kind is Kind.JOB
        ]
        assert len(digests) == len(set(digests)) == 26

    async def test_a_place_is_not_left_unused_for_an_older_equal_trial(self) -> None:
        """Whose experiment has no place for it: the younger one trains what both share."""
        world = World(kubelet=slow(1e9))
        apply(world, scheduling={"parallelTrials": 1})
        await world.settle(60)
        apply(world, "twin")
        await world.settle(60)
        assert Counter(job.labels["cpt.dev/experiment"] for job in world.jobs_at_work()) == {"sweep": 1, "twin": 4}

    async def test_the_target_comes_first(self) -> None:
        """`kubectl get cptt` shows the first score."""
        world = World(kubelet=works)
        apply(world)
        await world.settle(120)
        for trial in trials(world):
            scores = [score["suite"] for score in trial.status.get("scores") or ()]
            assert scores in ([], ["linux", "speeches"])

    async def test_a_failed_trial_is_tried_again_when_it_is_deleted(self) -> None:
        """`retry`: it is made anew, with a fresh count, and a failed experiment goes on."""
        world = World(kubelet=fails(4, "Decide"))
        apply(world)
        await world.settle(120)
        assert ready(world) == ("False", "Failed")
        world.kubelet = works
        failed = next(trial for trial in trials(world) if has_failed(trial.status))
        world.remove(failed.key)
        await world.settle(120)
        assert ready(world) == ("True", "Completed")
        assert world.trial(failed.name).attempts.total == 1

    async def test_it_waits_for_its_model(self) -> None:
        """Reconciling until the base's trial has succeeded."""
        world = World(kubelet=works)
        apply(world, model={"trialName": "base"})
        await world.settle(30)
        assert ready(world) == ("Unknown", "WaitingForModel")
        assert world.condition(Kind.EXPERIMENT, "sweep", "Reconciling") is not None

    async def test_its_model_failed(self) -> None:
        """Stalled, with the trial's words."""
        world = World(kubelet=works)
        world.add(Kind.TRIAL, "base", {"type": "Train"})
        body = world.objects[Key(Kind.TRIAL, NAMESPACE, "base")]
        failed = {"type": "Succeeded", "status": "False", "reason": "DataError", "message": "exit 4"}
        since = {"lastTransitionTime": "2026-11-24T12:00:00Z"}
        world.put(Kind.TRIAL, body | {"status": {"conditions": [failed | since]}})
        apply(world, model={"trialName": "base"})
        await world.settle(30)
        assert ready(world) == ("False", "InputFailed")

    async def test_a_base_that_is_made_anew_changes_nothing(self) -> None:
        """Which base is meant was settled by the first trials; what is finished stays so."""
        world = World(kubelet=works)
        make_model(world, "base", "base")
        apply(world, model={"trialName": "base"})
        await world.settle(200)
        assert ready(world) == ("True", "Completed")
        writes = len(world.writes)
        world.remove(Key(Kind.TRIAL, NAMESPACE, "base"))
        await world.settle(30)
        make_model(world, "base", "another")
        await world.settle(30)
        assert ready(world) == ("True", "Completed")
        assert len(world.writes) == writes

    async def test_a_further_model_is_waited_for(self) -> None:
        """The sweep goes on without it; what its trial made is another base, and the first one stays what it is."""
        world = World(kubelet=works)
        recipe = {**make_experiment().to_dict()["recipe"], "scaling": {"models": [{"name": "big", "trialName": "big"}]}}
        make_model(world, "base", "base")
        apply(world, model={"trialName": "base"}, recipe=recipe)
        await world.settle(200)
        assert ready(world) == ("Unknown", "WaitingForModel")
        assert [stage.state for stage in status(world).stages] == ["Decided", "Decided", "Running", "Waiting"]
        make_model(world, "big", "another")
        await world.settle(200)
        assert ready(world) == ("True", "Completed")
        assert [model.name for model in status(world).scaling] == ["base", "big"]
        assert [model.gain for model in status(world).scaling] == ["+0.5000", "+0.5000"]

    async def test_an_appended_dataset_stops_nothing(self) -> None:
        """While it is looked at and catches up, what the others have planned runs on."""
        world = World(kubelet=slow(1e9))
        apply(world)
        await world.settle(30)
        assert len(world.jobs_at_work()) == 4
        before = status(world).trials.total
        more = [*make_experiment().to_dict()["datasets"], {"name": "sql", "uri": "s3://cpt/sources/sql.jsonl"}]
        world.change(Kind.EXPERIMENT, "sweep", lambda spec: spec.update(datasets=more))
        await world.settle(30)
        assert len(world.jobs_at_work()) == 4
        assert (status(world).trials.total, status(world).trials.superseded) == (before + 1, 0)  # one place too few

    async def test_progress_never_goes_backwards(self) -> None:
        """What later rungs will train is counted from the beginning."""
        world = World(kubelet=works)
        rungs = {"learningRates": ["1e-4", "1e-3"], "rungs": ["10240", "20480", "40960"]}
        apply(world, recipe={"learningRateSweep": rungs})
        seen: list[int] = []
        while not seen or seen[-1] < 100:
            await world.settle(1)
            seen.append(status(world).progress or 0)
        assert seen == sorted(seen)
        assert {0, 100} < set(seen)

    async def test_it_tells_when_it_is_completed(self) -> None:
        """Once."""
        world = World(kubelet=works)
        apply(world)
        await world.settle(300)
        assert [reason for name, reason, _ in world.events if name == "sweep"] == ["Completed"]

    async def test_it_ends_with_verdicts(self) -> None:
        """With screening every dataset has a word, and the message says them."""
        world = World(kubelet=works)
        apply(world, recipe=SCREENED)
        await world.settle(120)
        assert ready(world) == ("True", "Completed")
        done = status(world)
        assert {d.name: d.verdict for d in done.datasets} == {"python": "Helps", "perl": "Helps"}
        assert ("screening", "Decided") in {(stage.name, stage.state) for stage in done.stages}
        assert "perl: Helps; python: Helps" in why(world)

    async def test_what_was_screened_is_reused(self) -> None:
        """Without screening first: then only the question is new, its controls were there; each has its own report."""
        world = World(kubelet=works)
        apply(world)
        await world.settle(120)
        apply(world, "other", recipe=SCREENED)
        await world.settle(120)
        assert ready(world, "other") == ("True", "Completed")
        own = [trial for trial in trials(world, "other") if reason_of(trial.status) != "Reused"]
        assert sorted(trial.name.split("-")[1] for trial in own) == ["dec", "pre", "rep"]

    async def test_a_deleted_trial_comes_back_as_reused(self) -> None:
        """With no pod."""
        world = World(kubelet=works)
        apply(world)
        await world.settle(120)
        jobs = made(world, Kind.JOB)
        name = next(trial.name for trial in trials(world) if "-train-" in trial.name)
        world.remove(Key(Kind.TRIAL, NAMESPACE, name))
        await world.settle(30)
        record = world.store.trial(NAMESPACE, name)
        assert record is not None
        assert reason_of(record.status) == "Reused"
        assert made(world, Kind.JOB) == jobs

    async def test_big_plans_are_made_in_portions(self) -> None:
        """At most 50 writes a turn, and all of them are made."""
        datasets = [{"name": f"d{i}", "uri": f"s3://cpt/sources/d{i}"} for i in range(20)]
        world = World(kubelet=slow(1e9))
        apply(world, datasets=datasets)
        await world.settle(20)
        assert len(trials(world)) == 1 + 22 + 1 + 88


class TestReport:
    """The last trial."""

    async def test_where_it_lies(self) -> None:
        """The status names the page once it is there; nothing about the trial is written twice."""
        world = World(kubelet=slow_report)
        apply(world)
        await world.settle(60)
        assert (status(world).stage, status(world).report_uri) == ("report", None)
        world.kubelet = works
        await world.settle(60)
        assert (status(world).stage, ready(world)) == (None, ("True", "Completed"))
        report = report_of(world)
        assert status(world).report_uri == f"s3://cpt/data/{NAMESPACE}/{report.digest}/report.html"
        assert [verb for verb, key in world.writes if key == report.key].count("run") == 0

    async def test_its_failure_fails_nothing(self) -> None:
        """Not even where no trial may fail: the experiment is completed, and says that there is no report, and why."""
        world = World(kubelet=fails(4, "Report"))
        apply(world, scheduling={"onTrialFailure": "Stop"})
        await world.settle(120)
        assert ready(world) == ("True", "Completed")
        assert "no report: DataError: exit 4: it was to be" in why(world)
        assert ("sweep", "Completed", why(world)) in world.events
        stage = status(world).stages[-1]
        assert (stage.name, stage.state) == ("report", "Failed")
        assert (status(world).trials.failed, status(world).report_uri) == (1, None)

    async def test_a_failed_one_is_made_anew_when_it_is_deleted(self) -> None:
        """`retry`, as with every trial; nothing else runs again."""
        world = World(kubelet=fails(4, "Report"))
        apply(world)
        await world.settle(120)
        jobs = len(world.jobs())
        world.kubelet = works
        world.remove(report_of(world).key)
        await world.settle(120)
        assert ready(world) == ("True", "Completed")
        assert "no report" not in why(world)
        assert status(world).report_uri is not None
        assert len(world.jobs()) == jobs  # the old one went with its trial


class TestStop:
    """Suspend, budget, failures."""

    async def test_suspend_and_resume(self) -> None:
        """Running trials stop, nothing new is made; afterwards it goes on to its end."""
        world = World(kubelet=slow(60))
        apply(world)
        await world.settle(30)
        world.change(Kind.EXPERIMENT, "sweep", lambda spec: spec.update(suspend=True))
        await world.settle(10)
        assert world.jobs_at_work() == []
        for pod in world.pods_leaving():
            world.remove(pod.key)
        await world.settle(10)
        assert ready(world) == ("True", "Suspended")
        assert {reason_of(trial.status) for trial in trials(world) if is_at_work(trial.status)} == set()
        world.change(Kind.EXPERIMENT, "sweep", lambda spec: spec.pop("suspend"))
        await world.settle(300)
        assert ready(world) == ("True", "Completed")

    async def test_budget(self) -> None:
        """Reached: nothing more is trained. Raised: it goes on."""
        world = World(kubelet=works)
        apply(world, budget={"tokens": "20000"})
        await world.settle(300)
        assert ready(world) == ("False", "BudgetExhausted")
        trained = status(world).ledger.tokens_trained
        assert 20_000 <= trained <= 20_000 + 4 * 8192
        world.change(Kind.EXPERIMENT, "sweep", lambda spec: spec.update(budget={"tokens": "1M"}))
        await world.settle(300)
        assert ready(world) == ("True", "Completed")

    async def test_gpu_hours(self) -> None:
        """They are used up while trials run: these save a checkpoint and release their GPUs. Raised: it goes on."""
        world = World(kubelet=slow(600))
        apply(world, resources={"gpusPerNode": 8}, budget={"gpuHours": "0.5"}, scheduling={"parallelTrials": 2})
        await world.settle(60)
        assert ready(world) == ("True", "Running")
        await world.settle(120)
        assert world.jobs_at_work() == []
        for pod in world.pods_leaving():
            world.remove(pod.key)
        await world.settle(60)
        assert ready(world) == ("False", "BudgetExhausted")
        assert "GPU-hours are used, budget.gpuHours is 0.5" in why(world)
        assert 1800 <= status(world).ledger.gpu_seconds < 1800 + 16 * 60
        world.change(Kind.EXPERIMENT, "sweep", lambda spec: spec.update(budget={"gpuHours": "1e3"}))
        await world.settle(1000)
        assert ready(world) == ("True", "Completed")

    async def test_gpu_hours_without_gpus(self) -> None:
        """What runs on CPUs uses none of them."""
        world = World(kubelet=works)
        apply(world, resources={"gpusPerNode": 0}, budget={"gpuHours": "0.001"})
        await world.settle(200)
        assert ready(world) == ("True", "Completed")
        assert status(world).ledger.gpu_seconds == 0

    async def test_what_exists_is_free(self) -> None:
        """Over budget, trials whose result exists are reused all the same."""
        world = World(kubelet=works)
        apply(world)
        await world.settle(200)
        rates = {"learningRateSweep": {"learningRates": ["1e-4", "1e-3", "1e-2"], "rungs": ["10240"]}}
        apply(world, "wider", recipe=rates, budget={"tokens": "1"}, scheduling={"parallelTrials": 1})
        await world.settle(300)
        assert ready(world, "wider") == ("False", "BudgetExhausted")
        wider = status(world, "wider")
        assert wider.trials.reused == 4 + 1 + 16
        assert wider.ledger.tokens_trained <= 2 * 10_240

    async def test_suspend_reaches_trials_that_are_not_planned_now(self) -> None:
        """A manifest that became invalid can still be paused."""
        world = World(kubelet=slow(1e9))
        apply(world)
        await world.settle(30)
        bad = {"learningRates": ["1e-4", "1e-3"], "rungs": ["10240", "10241"]}
        world.change(Kind.EXPERIMENT, "sweep", lambda spec: spec["recipe"].update(learningRateSweep=bad))
        world.change(Kind.EXPERIMENT, "sweep", lambda spec: spec["training"].update(warmupTokens="1M"))
        await world.settle(10)
        assert ready(world) == ("False", "Invalid")
        assert len(world.jobs_at_work()) == 4
        world.change(Kind.EXPERIMENT, "sweep", lambda spec: spec.update(suspend=True))
        await world.settle(30)
        assert world.jobs_at_work() == []

    async def test_failures_stop_it(self) -> None:
        """onTrialFailure: Stop."""
        world = World(kubelet=fails(4))
        apply(world, scheduling={"onTrialFailure": "Stop", "parallelTrials": 1})
        await world.settle(120)
        assert ready(world) == ("False", "TooManyFailures")
        assert "it was to be" in why(world)
        assert status(world).trials.failed == 1

    async def test_failures_are_survived(self) -> None:
        """Continue is the default: what is left decides, or nothing can."""
        world = World(kubelet=fails(4))
        apply(world)
        await world.settle(300)
        assert ready(world) == ("False", "Failed")
        assert world.condition(Kind.EXPERIMENT, "sweep")[:2] == ("False", "Failed")  # type: ignore[index]

    async def test_lowering_parallel_trials_stops_nothing(self) -> None:
        """Only new starts."""
        world = World(kubelet=slow(1e9))
        apply(world)
        await world.settle(30)
        assert len(world.jobs_at_work()) == 4
        world.change(Kind.EXPERIMENT, "sweep", lambda spec: spec.update(scheduling={"parallelTrials": 1}))
        await world.settle(30)
        assert len(world.jobs_at_work()) == 4

    async def test_raising_parallel_trials_starts_more(self) -> None:
        """At once."""
        world = World(kubelet=slow(1e9))
        apply(world)
        await world.settle(30)
        world.change(Kind.EXPERIMENT, "sweep", lambda spec: spec.update(scheduling={"parallelTrials": 6}))
        await world.settle(10)
        assert len(world.jobs_at_work()) == 6

    async def test_a_cancelled_trial_is_not_made_again(self) -> None:
        """The others go on; it is counted as failed."""
        world = World(kubelet=slow(60))
        apply(world)
        await world.settle(30)
        name = next(trial.name for trial in trials(world) if "-train-" in trial.name)
        world.change(Kind.TRIAL, name, lambda spec: spec["run"].update(cancel=True))
        await world.settle(400)
        record = world.store.trial(NAMESPACE, name)
        assert record is not None
        assert reason_of(record.status) == "Cancelled"
        assert ready(world) == ("True", "Completed")


class TestBad:
    """Bad input, each with its message."""

    async def test_spec(self) -> None:
        """A spec that the schema let pass and the model does not."""
        world = World()
        world.add(Kind.EXPERIMENT, "sweep", {"model": {}})
        await world.settle()
        assert ready(world) == ("False", "Invalid")

    async def test_recipe(self) -> None:
        """A manifest that contradicts itself."""
        world = World()
        apply(world, training={"sequenceLength": 64, "globalBatchSize": 8, "warmupTokens": "1M"})
        await world.settle()
        assert ready(world) == ("False", "Invalid")
        assert "warmupTokens" in why(world)

    async def test_not_allowed(self) -> None:
        """Before anything is created."""
        world = World()
        apply(world, resources={"serviceAccountName": "admin"})
        await world.settle()
        assert ready(world) == ("False", "NotAllowed")
        assert trials(world) == []

    async def test_too_many_trials(self) -> None:
        """The administrator's cap."""
        world = World(kubelet=works, caps={"trialsPerExperiment": 10})
        apply(world)
        await world.settle(30)
        assert ready(world) == ("False", "NotAllowed")
        assert len(trials(world)) == 1

    async def test_findings_are_looked_at_again(self) -> None:
        """Stalled with Preflight's words; ten minutes later a new round finds all well."""
        world = World()
        healthy = False

        def kubelet(world: World, job: JobRecord) -> None:
            if job.labels["cpt.dev/type"] != "Preflight" or healthy or not world.store.pods_of(job.uid):
                works(world, job)
                return
            trouble = InputFinding(input="perl", reason="Empty", message="no documents at s3://cpt/sources/perl.jsonl")
            world.commit(job, findings=(trouble,), outcome=Outcome.FINDINGS)
            world.finish(job, 0)

        world.kubelet = kubelet
        apply(world)
        await world.settle(60)
        assert ready(world) == ("False", "PreflightFailed")
        assert "no documents" in why(world)
        writes = len(world.writes)
        await world.settle(500)
        assert len(world.writes) == writes
        await world.settle(6000)
        assert len([trial for trial in trials(world) if "-pre-" in trial.name]) == 2  # the first and the latest
        healthy = True
        await world.settle(700)
        assert ready(world) == ("True", "Completed")

    async def test_undecided(self) -> None:
        """Under onUndecided: Stop a dataset without a verdict stalls it, with an event, and says what it would take."""

        def kubelet(world: World, job: JobRecord) -> None:
            work = world.document(job).spec.decide
            if work is None or work.question is not Question.SCREENING or not world.store.pods_of(job.uid):
                works(world, job)
                return
            world.commit(job, decision=make_screened(work, Verdict.UNDECIDED))
            world.finish(job, 0)

        world = World(kubelet=kubelet)
        apply(world, recipe=SCREENED)
        await world.settle(120)
        assert ready(world) == ("False", "Undecided")
        assert "undecided: perl, python; an experiment with a new name" in why(world)
        assert [reason for name, reason, _ in world.events if name == "sweep"] == ["Undecided"]

    async def test_name_taken(self) -> None:
        """A stranger has the name of a trial."""
        world = World(kubelet=works)
        record = world.add(Kind.EXPERIMENT, "sweep", make_experiment().to_dict(), uid="uid-sweep")
        first = plan(make_experiment(), Context(experiment_uid="uid-sweep", protocol=1), {}).trials[0]
        world.add(Kind.TRIAL, child_name(record, first), {"type": "Train"})
        await world.settle(60)
        assert ready(world) == ("False", "NameTaken")

    @pytest.mark.parametrize(
        ("error", "reason"), [(Forbidden("exceeded quota"), "NotAllowed"), (Rejected("spec: too long"), "Invalid")]
    )
    async def test_a_trial_that_cannot_be_created(self, error: Exception, reason: str) -> None:
        """The API server's words, and no hot loop; it is tried again."""
        world = World(kubelet=works)
        world.refuse_trial = error
        apply(world)
        await world.settle(200)
        assert ready(world) == ("False", reason)
        assert str(error) in why(world)
        assert world.turns < 20
        world.refuse_trial = None
        await world.settle(200)
        assert ready(world) == ("True", "Completed")

    async def test_store_refused(self) -> None:
        """Stalled, no hot loop, and it recovers."""
        world = World(kubelet=works)
        world.s3.down = 403
        apply(world)
        await world.settle(60)
        assert ready(world) == ("False", "StoreRefused")
        world.s3.down = None
        await world.settle(300)
        assert ready(world) == ("True", "Completed")

    async def test_store_outage(self) -> None:
        """Nothing fails, it waits and goes on."""
        world = World(kubelet=works)
        apply(world)
        await world.settle(12)
        world.s3.down = 503
        await world.settle(60)
        world.s3.down = None
        await world.settle(300)
        assert ready(world) == ("True", "Completed")
        assert status(world).trials.failed == 0

    async def test_backend_missing(self) -> None:
        """Until the training-operator is installed."""
        world = World(backend_served=False)
        apply(world)
        await world.settle()
        assert ready(world) == ("False", "BackendMissing")

    async def test_pods_that_cannot_start_are_named(self) -> None:
        """The experiment says which trial waits for what."""

        def kubelet(world: World, job: JobRecord) -> None:
            if not world.store.pods_of(job.uid):
                world.start_pods(job, waiting={"reason": "ErrImagePull", "message": "no such image"})

        world = World(kubelet=kubelet)
        apply(world)
        await world.settle(60)
        assert ready(world) == ("True", "ImagePullFailed")
        assert "no such image" in why(world)

    async def test_a_stalled_trial_stalls_its_experiment(self) -> None:
        """When nothing else goes on."""
        world = World(kubelet=works)
        world.add(Kind.EXPERIMENT, "sweep", make_experiment().to_dict(), uid="uid-sweep")
        first = plan(make_experiment(), Context(experiment_uid="uid-sweep", protocol=1), {}).trials[0]
        world.write(result_key(NAMESPACE, first.digest), {"planted": True})
        await world.settle(30)
        assert ready(world) == ("False", "ResultInvalid")

    @pytest.mark.parametrize("when", [0, 3, 6, 9, 12, 15, 18])
    async def test_a_new_operator_goes_on(self, when: int) -> None:
        """Whatever was remembered is lost; nothing is made twice, and the result is the same."""
        world = World(kubelet=works)
        apply(world)
        await world.settle(when)
        world.restart()
        await world.settle(200)
        assert ready(world) == ("True", "Completed")
        assert set(made(world, Kind.JOB).values()) == {1}
        assert set(made(world, Kind.TRIAL).values()) == {1}


async def test_two_leaders_do_no_harm() -> None:
    """A forced Lease: both work at everything; nothing is made twice, and the result is the same."""
    world = World(kubelet=works, operators=2)
    apply(world)
    await world.settle(300)
    assert ready(world) == ("True", "Completed")
    assert set(made(world, Kind.JOB).values()) == {1}
    assert set(made(world, Kind.TRIAL).values()) == {1}
    assert {trial.status["attempts"]["total"] for trial in trials(world)} == {1}


class Dead(BaseException):  # no error of the product: nothing survives it
    """kill -9."""


@pytest.mark.parametrize("effect", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 30))
async def test_killed_at_a_write(number: int, effect: str) -> None:
    """Before or after any write: no trial and no job is made twice, none is lost."""
    world = World(kubelet=works)
    one = {"learningRates": ["1e-4"], "rungs": ["10240"]}
    apply(
        world,
        recipe={"learningRateSweep": one},
        datasets=[{"name": "a", "uri": "s3://cpt/a"}],
        replay=None,
        evaluation={"target": {"suite": "Heldout", "datasets": ["a"]}},
    )
    world.die = (number, effect, Dead)
    with pytest.raises(Dead):
        await world.settle(200)
    world.die = None
    world.restart()
    await world.settle(200)
    assert ready(world) == ("True", "Completed")
    assert set(made(world, Kind.TRIAL).values()) == {1}
    assert set(made(world, Kind.JOB).values()) == {1}
    assert {trial.status["attempts"]["total"] for trial in trials(world)} == {1}


async def test_status_can_be_deleted() -> None:
    """All of it is derived."""
    world = World(kubelet=works)
    apply(world)
    await world.settle(120)
    body = world.objects[SWEEP]
    before = status(world)
    world.put(Kind.EXPERIMENT, body | {"status": {"observedGeneration": -1}})
    await world.settle(60)
    after = status(world)
    assert after.model_copy(update={"conditions": ()}) == before.model_copy(update={"conditions": ()})


async def test_progress_is_written_every_30_s_at_most() -> None:
    """Numbers that move wait for their turn."""
    world = World(kubelet=slow(1e9))
    apply(world)
    await world.settle(30)
    before = sum(verb == "status" and key == SWEEP for verb, key in world.writes)
    for step in range(60):
        for job in world.jobs_at_work():
            world.commit_step(job, step * 10)
        await world.settle(10)
    writes = sum(verb == "status" and key == SWEEP for verb, key in world.writes) - before
    assert 10 <= writes <= 21


async def test_a_result_that_vanished_is_no_result() -> None:
    """Retracted behind the operator's back: what is finished stays so; what is added fails until it is put back."""
    world = World(kubelet=works)
    apply(world)
    await world.settle(120)
    decision = next(trial for trial in trials(world) if "-dec-" in trial.name)
    assert decision.digest
    key = result_key(NAMESPACE, Digest(decision.digest))
    kept = world.s3.objects.pop(key)
    world.restart()
    await world.settle(60)
    assert ready(world) == ("True", "Completed")
    world.change(Kind.EXPERIMENT, "sweep", lambda _spec: None)
    await world.settle(60)
    assert ready(world) == ("False", "Failed")
    world.s3.objects[key] = kept
    world.change(Kind.EXPERIMENT, "sweep", lambda _spec: None)
    await world.settle(60)
    assert ready(world) == ("True", "Completed")


def test_a_protocol_is_kept_for_life() -> None:
    """Also by an experiment whose status was deleted: its trials know."""
    meta = {"namespace": NAMESPACE, "name": "t", "uid": "t", "resourceVersion": "1"}
    child = record_of(Kind.TRIAL, {"metadata": meta, "spec": {"type": "Train", "protocol": 7}})
    assert isinstance(child, TrialRecord)
    assert protocol_of(CPTExperimentStatus(), [child]) == 7
    assert protocol_of(CPTExperimentStatus(protocol=6), [child]) == 6
    assert protocol_of(CPTExperimentStatus(), []) == PROTOCOL


def test_order_of_checks() -> None:
    """What is finished stays so; what must be acted upon comes before what runs."""
    assert [check.__name__ for check in summary.CHECKS] == [
        "finished",
        "base_failed",
        "finding",
        "looking_again",
        "stopped",
        "suspended",
        "at_work",
        "waiting_for_model",
        "expanding",
        "trial_stalled",
        "queued",
    ]
