"""Which trials there are, what is known about them, and which can start now. Knows neither processes nor a clock.

    world = World(manifests, memory)
    world.answer(digest, Succeeded(result))         the planner sees it from now on
    world.ready()                                   trials whose inputs are all there, in the order of the plan

Hand-written trials and those of the experiment are treated alike: references are resolved by the operator's own rules,
and a trial whose input failed never starts. Price: a turn plans anew, 40 ms for 60 trials.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from cpt_api import PROTOCOL
from cpt_api.conditions import Reason
from cpt_api.digest import trial_digest
from cpt_api.experiment import Budget, CPTExperimentSpec, TrialFailure
from cpt_api.model import sha256
from cpt_api.names import trial_name
from cpt_api.result import Outcome as ResultOutcome
from cpt_api.result import Result
from cpt_api.trial import CPTTrialSpec, TrialType
from cpt_api.values import Digest, Tokens
from cpt_operator.plan import Context, Earlier, Failed, Finding, Look, Outcome, Plan, Succeeded, plan
from cpt_operator.plan.recipe import further_trials
from cpt_operator.resolve import Input, State, preflight_names, resolve, trial_digests, trial_names
from cpt_operator.resolve import World as References
from kubectl_cpt.errors import CliError
from kubectl_cpt.machine.memory import Memory
from kubectl_cpt.manifest import Document, Manifests
from kubectl_cpt.preview import own_tokens

BY_HAND = "by hand"
_DONE = frozenset({State.SUCCEEDED, State.DIVERGED})


@dataclass(frozen=True, slots=True)
class Job:
    """One trial; `spec` is resolved, and `digest` its name, as soon as its inputs are known."""

    name: str
    stage: str
    title: str
    """For people."""
    spec: CPTTrialSpec
    tokens: int
    """That it trains."""
    digest: Digest | None
    waits: Finding | None
    """Why it cannot start yet, or never."""

    @property
    def label(self) -> str:
        """The title with what it is, where the title alone does not tell."""
        tells = self.stage != BY_HAND and (self.spec.train or self.spec.decide)
        return self.title if tells else f"{self.spec.type} {self.title}"


class World:
    """Everything that a run knows. `answer` and `remember` change it; the rest follows."""

    def __init__(self, manifests: Manifests, memory: Memory) -> None:
        self._experiment = manifests.experiment
        self._hand_written = manifests.trials
        self.namespace = _only_namespace(manifests)
        self.memory = memory
        self.outcomes: dict[Digest, Outcome] = {}
        self._earlier = Earlier()
        # what stalled an earlier run may have been mended since: then one more look is due
        self._may_look_again = bool(memory.looks)
        if manifests.experiment:
            _refuse(manifests.experiment.spec, manifests)

    @property
    def experiment(self) -> Document[CPTExperimentSpec] | None:
        """What is planned; None where there are hand-written trials only."""
        return self._experiment

    def answer(self, digest: Digest, outcome: Outcome) -> None:
        """A trial has ended for good, or had ended before."""
        self.outcomes[digest] = outcome
        self._forget()

    def remember(self, memory: Memory) -> None:
        """Looks or attempts were added."""
        looks = {trial_digest(spec) for spec in memory.looks}
        if any(memory.attempts.get(digest) != self.memory.attempts.get(digest) for digest in looks):
            self._may_look_again = False  # this run has looked itself
        self.memory = memory
        self._forget()

    def _forget(self) -> None:
        for derived in ("plan", "jobs", "_by_hand", "_names"):
            self.__dict__.pop(derived, None)

    # --- the plan -----------------------------------------------------------------------------------------------------

    @cached_property
    def plan(self) -> Plan:
        """Of the experiment, as far as it is known; empty while its base is not there."""
        experiment = self._experiment
        if experiment is None or (experiment.spec.model.trial_name and self.base is None):
            return Plan(trials=())
        looks = tuple(Look(spec, self.outcomes.get(trial_digest(spec))) for spec in self.memory.looks)
        context = Context(
            experiment_uid=uid_of(experiment),
            protocol=PROTOCOL,
            looks=looks,
            look_again=self._may_look_again,
            base=self.base,
            experiment=experiment.name,
            made=self._made(further_trials(experiment.spec)),
        )
        told = {digest: self._told(digest, outcome) for digest, outcome in self.outcomes.items()}
        return plan(experiment.spec, context, told, self._earlier)

    def _told(self, digest: Digest, outcome: Outcome) -> Outcome:
        """As the planner needs it: whose result existed before is reused."""
        if isinstance(outcome, Succeeded) and digest not in self.memory.attempts:
            return replace(outcome, reused=True)
        return outcome

    @property
    def base(self) -> Digest | None:
        """Of `model.trialName`, once it has succeeded."""
        name = self._experiment.spec.model.trial_name if self._experiment else None
        return self._made([name]).get(name) if name else None

    def _made(self, names: Iterable[str]) -> dict[str, Digest]:
        """Those of these hand-written trials that have succeeded."""
        wanted = set(names)
        return {
            job.name: job.digest
            for job in self._by_hand
            if job.name in wanted and job.digest is not None and self._state(job.digest) is State.SUCCEEDED
        }

    def new_look(self) -> CPTTrialSpec | None:
        """A Preflight that the plan asks for and that is not remembered yet: it must be, before it starts."""
        known = {trial_digest(spec) for spec in self.memory.looks}
        for planned in self.plan.trials:
            if planned.spec.type is TrialType.PREFLIGHT and planned.digest not in known:
                return planned.spec
        return None

    @cached_property
    def jobs(self) -> tuple[Job, ...]:
        """All trials known by now, in the order in which they should start."""
        return (*self._by_hand, *self._planned())

    def ready(self) -> Iterator[Job]:
        """Those that can start now, if nobody has started them."""
        return (
            job for job in self.jobs if job.digest is not None and job.waits is None and job.digest not in self.outcomes
        )

    @cached_property
    def _names(self) -> Mapping[Digest, str]:
        """Of planned trials."""
        experiment = self._experiment
        return {
            planned.digest: trial_name(experiment.name, uid_of(experiment), planned.spec.type, planned.digest)
            for planned in (self.plan.trials if experiment else ())
            if experiment
        }

    def _planned(self) -> Iterator[Job]:
        experiment = self._experiment
        for planned in self.plan.trials if experiment else ():
            assert experiment is not None
            name = self._names[planned.digest]
            found = resolve(planned.spec, self._references(planned.spec, {}, planned=True))
            waits = found if isinstance(found, Finding) else None
            title, spec = planned.title, planned.spec
            yield Job(name, planned.stage, title, spec, planned.tokens, planned.digest, waits)

    @cached_property
    def _by_hand(self) -> tuple[Job, ...]:
        """In the order of the files; each may name those before and after it."""
        jobs: dict[str, Job] = {}
        for _ in self._hand_written:  # a chain is at most as long as there are trials
            before = dict(jobs)
            for document in self._hand_written:
                jobs[document.name] = self._resolved(document, jobs)
            if jobs == before:
                break
        return tuple(jobs.values())

    def _resolved(self, document: Document[CPTTrialSpec], jobs: Mapping[str, Job]) -> Job:
        spec = document.spec
        found = resolve(spec, self._references(spec, jobs, planned=False))
        missing = sorted(name for name in trial_names(spec) if name not in {d.name for d in self._hand_written})
        if missing:
            text = f"there is no CPTTrial {missing[0]} in the files: add its file with --filename"
            found = Finding(Reason.INPUT_FAILED, text)
        job = Job(document.name, BY_HAND, document.name, spec, own_tokens(spec), None, None)
        if isinstance(found, Finding):
            return replace(job, waits=found)
        return replace(job, spec=found, digest=trial_digest(found))

    def _references(self, spec: CPTTrialSpec, jobs: Mapping[str, Job], *, planned: bool) -> References:
        ours = {job.digest for job in jobs.values()} | self.outcomes.keys()
        digests = {  # of those that nobody here makes the trainer will say whether the store has them
            digest: [Input(self._names.get(digest, digest.short), self._state(digest), digest)]
            for digest in trial_digests(spec)
            if planned or digest in ours
        }
        named = {name: job for name, job in jobs.items() if name in trial_names(spec) | preflight_names(spec)}
        inputs = {n: Input(n, self._state(j.digest) if j.digest else State.PENDING, j.digest) for n, j in named.items()}
        results = {name: result for name, job in named.items() if (result := self._result(job.digest))}
        return References(inputs, digests, results, planned)

    def _result(self, digest: Digest | None) -> Result | None:
        outcome = self.outcomes.get(digest) if digest else None
        return outcome.result if isinstance(outcome, Succeeded) else None

    def _state(self, digest: Digest) -> State:
        match self.outcomes.get(digest):
            case Succeeded(result):
                return State.DIVERGED if result.outcome is ResultOutcome.DIVERGED else State.SUCCEEDED
            case Failed():
                return State.FAILED
            case _:
                return State.PENDING

    # --- what is the matter -------------------------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Nothing is left to do, and all went well."""
        done = (job.digest is not None and self._state(job.digest) in _DONE for job in self._by_hand)
        return all(done) and (self._experiment is None or self.plan.complete)

    def stop(self) -> Finding | None:
        """Why nothing more may be started, by the experiment's own limits."""
        spec = self._experiment.spec if self._experiment else None
        if spec is None:
            return None
        failed = [
            job
            for job, outcome in self._ended()
            if isinstance(outcome, Failed) and job.spec.type is not TrialType.REPORT  # nothing hangs on that
        ]
        limit = spec.scheduling.max_failed_trials if spec.scheduling else None
        if spec.scheduling and spec.scheduling.on_trial_failure is TrialFailure.STOP:
            limit = 0
        if limit is not None and len(failed) > limit:
            text = f"{len(failed)} trials failed, {limit} are accepted (scheduling)"
            return Finding(Reason.TOO_MANY_FAILURES, text)
        spent = "" if self.plan.complete else self._spent(spec.budget or Budget())
        return Finding(Reason.BUDGET_EXHAUSTED, f"{spent}: raise it and run again") if spent else None

    def _spent(self, budget: Budget) -> str:
        """Which of them is used up, in words."""
        left = any(job.tokens and job.stage != BY_HAND and job.digest not in self.outcomes for job in self.jobs)
        if budget.tokens is not None and self.tokens_trained >= budget.tokens and left:
            return f"{Tokens(self.tokens_trained)} tokens are trained, budget.tokens is {budget.tokens}"
        used = self.gpu_seconds / 3600
        if budget.gpu_hours is not None and used >= float(budget.gpu_hours):
            return f"{used:.3g} GPU-hours are used, budget.gpuHours is {budget.gpu_hours}"
        return ""

    def stuck(self) -> list[str]:
        """Why nothing can start though something is left to do; asked for when nothing runs."""
        findings = [finding for finding in (self.stop(), self.plan.finding) if finding]
        found = [f"{finding.reason}: {finding.message}" for finding in findings]
        for job in self.jobs:
            outcome = self.outcomes.get(job.digest) if job.digest else None
            if isinstance(outcome, Failed):
                found.append(f"{job.label}: {outcome.reason}: {outcome.message}")
            elif job.digest and self._state(job.digest) is State.DIVERGED and job.stage == BY_HAND:
                found.append(f"{job.label}: {Reason.DIVERGED}: take a lower learning rate")
        # trials behind a failed one say nothing new
        waits = (job for job in self.jobs if job.waits and job.waits.reason is not Reason.WAITING_FOR_INPUT)
        return found or [f"{job.label}: {job.waits.reason}: {job.waits.message}" for job in waits if job.waits]

    # --- counting -----------------------------------------------------------------------------------------------------

    def _ended(self) -> Iterator[tuple[Job, Outcome]]:
        """Trials of the experiment."""
        for job in self.jobs:
            if job.stage != BY_HAND and job.digest in self.outcomes:
                yield job, self.outcomes[job.digest]

    @property
    def tokens_trained(self) -> int:
        """By trials that runs on this store have started for this experiment; equal ones of others are free."""
        return sum(job.tokens for job, _ in self._ended() if job.digest in self.memory.attempts)

    @property
    def gpu_seconds(self) -> float:
        """Of the attempts that committed, likewise."""
        own = (outcome for job, outcome in self._ended() if job.digest in self.memory.attempts)
        return sum(outcome.result.gpu_seconds for outcome in own if isinstance(outcome, Succeeded))

    @property
    def tokens_reused(self) -> int:
        """By equal trials that others have trained."""
        return sum(job.tokens for job, _ in self._ended() if job.digest not in self.memory.attempts)


def uid_of(experiment: Document[CPTExperimentSpec]) -> str:
    """Here a name is enough: there is no API server that could hold a second experiment of that name."""
    return sha256(f"{experiment.namespace}/{experiment.name}".encode())[:32]


def _only_namespace(manifests: Manifests) -> str:
    namespaces = [e.namespace for e in manifests.experiments] + [t.namespace for t in manifests.trials]
    found = sorted(set(namespaces))
    if len(found) > 1:
        raise CliError(f"the files name several namespaces ({', '.join(found)}): choose one with --namespace")
    return found[0]


def _refuse(spec: CPTExperimentSpec, manifests: Manifests) -> None:
    if spec.suspend:
        raise CliError("spec.suspend is set: remove it from the manifest, and run again")
    base = spec.model.trial_name
    for name in (*([base] if base else []), *further_trials(spec)):
        if not any(trial.name == name for trial in manifests.trials):
            raise CliError(f"trialName: there is no CPTTrial {name} in the files: add its file with --filename")
