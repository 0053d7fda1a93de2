"""`cpt-trainer VERB`: from the environment or the command line to one verb, and from its end to an exit code.

    in a pod    CPT_TRIAL='{"digest": …}' CPT_STORE=s3://cpt cpt-trainer train
    by hand     cpt-trainer prepare --trial trial.yaml --store ./store
    afterwards  cpt-trainer verify --trial decision.yaml --store ./store      takes a decision anew; writes nothing
    without     cpt-trainer compare A B, cpt-trainer evaluate --list          see evaluate/commands.py

What happens around a verb, whichever it is:

    parse the trial -> fork -> child:  finished already? -> the verb -> result.json
                            -> parent: pass on output and SIGTERM; put the end of the output beside the trial's data

Exit codes are those of `cpt_api.exits`. The last words, one JSON line with reason and message, go to stderr and to the
pod's termination message.

Price: the environment is read here and nowhere else, verbs are imported when they are wanted, and an already finished
trial costs one GET.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import structlog
from pydantic import ValidationError

from cpt_api import PROTOCOL
from cpt_api.digest import trial_digest
from cpt_api.exits import ExitCode
from cpt_api.result import Outcome
from cpt_api.trial import CPTTrialSpec, TrialDocument, TrialType
from cpt_trainer.errors import ConfigError, Diverged, TrainerExit
from cpt_trainer.loading import verb_module
from cpt_trainer.options import Parser
from cpt_trainer.output import watch
from cpt_trainer.store import Address, open_address
from cpt_trainer.trial import Trial
from cpt_trainer.words import last_words

log = structlog.get_logger()

VERBS = tuple(type_.value.lower() for type_ in TrialType)
_PARALLEL = frozenset({TrialType.TRAIN.value.lower(), TrialType.EVALUATE.value.lower()})
"""Those that several processes carry out together."""
VERIFY = "verify"
"""The one verb that is not a trial's: it carries out nothing, and leaves nothing."""
COMPARE = "compare"
"""Two item tables; it needs no trial either."""
_SUITES = frozenset({"--list", "--fetch-items"})
"""Options of `evaluate` that are about suites, not about a model."""
_LOG_SECONDS = 20.0
"""For the end of the output: it must not cost the grace that a pod has."""
_CULPRIT_SECONDS = 3.0
"""A rank that lost another one ends after it, so that the pod ends with the code that tells the cause."""

_COLLECTIONS = (50_000, 20, 50)
"""By default the collector looks through the young objects at every 700th: nothing here lives in cycles for long."""

Environment = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Place:
    """Which process of an attempt this is."""

    rank: int
    """Of the process; of the node, where this process launches others."""
    launches: bool
    """Whether it starts the processes that do the work, and does none itself."""
    worker: bool
    """Whether it was started by one that launches."""

    @classmethod
    def of(cls, verb: str, environment: Environment) -> Place:
        """As training-operator and torchrun say it."""
        worker = "LOCAL_RANK" in environment
        many = int(environment.get("WORLD_SIZE", "1")) > 1 or int(environment.get("PET_NPROC_PER_NODE", "1")) > 1
        launches = verb in _PARALLEL and many and not worker
        return cls(int(environment.get("RANK", "0")), launches, worker)

    def log_name(self, attempt: int) -> str:
        """The key of its output, below the trial's data prefix."""
        return f"logs/attempt-{attempt}-{'node' if self.launches else 'rank'}-{self.rank}.log"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry of `cpt-trainer`."""
    gc.set_threshold(*_COLLECTIONS)
    configure_logs()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if _is_command(words):
            from cpt_trainer.evaluate.commands import carry_out

            carry_out(words, os.environ)
            sys.exit(ExitCode.COMMITTED)
        verb, trial = _parse(words, os.environ)
        if verb == VERIFY:
            sys.exit(_verify(trial))
    except TrainerExit as error:
        sys.exit(last_words(error))
    place = Place.of(verb, os.environ)
    structlog.contextvars.bind_contextvars(trial=trial.document.name, attempt=trial.document.attempt, rank=place.rank)
    code, tail = watch(lambda: _attempt(verb, trial, place, words))
    _keep_tail(trial, place, tail)
    if place.worker and code == ExitCode.HANG:
        time.sleep(_CULPRIT_SECONDS)
    sys.exit(code)


def configure_logs() -> None:
    """One JSON line per event on stderr."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


# --- what is asked for ----------------------------------------------------------------------------------------------


def _is_command(words: Sequence[str]) -> bool:
    """Whether no trial is meant."""
    return words[:1] == [COMPARE] or (words[:1] == ["evaluate"] and not _SUITES.isdisjoint(words))


def _parse(words: Sequence[str], environment: Environment) -> tuple[str, Trial]:
    parser = Parser(prog="cpt-trainer", description="Carries out one trial: what its spec says, to its result.json.")
    verbs = (*VERBS, VERIFY)
    parser.add_argument("verb", choices=verbs, metavar="VERB", help=", ".join((*verbs, COMPARE)))
    parser.add_argument("--trial", type=Path, metavar="FILE", help="a trial as YAML or JSON (in a pod: CPT_TRIAL)")
    parser.add_argument("--store", metavar="URI", help="s3://bucket[/prefix] or a folder (in a pod: CPT_STORE)")
    options = parser.parse_args(words)
    document = _document(options.trial, environment)
    if options.verb not in (document.spec.type.value.lower(), VERIFY):
        raise ConfigError(
            f"trial {document.name} is of type {document.spec.type}: run cpt-trainer {document.spec.type.value.lower()}"
        )
    uri = options.store or environment.get("CPT_STORE")
    if not uri:
        raise ConfigError("no store: name one with --store or in CPT_STORE")
    port = environment.get("CPT_METRICS_PORT")
    trial = Trial(
        document,
        open_address(Address.of(uri, environment)),
        environment.get("CPT_POD_UID", ""),
        int(port) if port else None,
    )
    return options.verb, trial


def _document(file: Path | None, environment: Environment) -> TrialDocument:
    """The trial from a file or the environment."""
    if file is not None:
        name = str(file)
        try:
            text = file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"trial {name}: {error}") from error
    else:
        name = "CPT_TRIAL"
        text = environment.get(name, "")
        if not text:
            raise ConfigError("no trial: name a file with --trial, or put the document into CPT_TRIAL")
    try:
        content = _content(text)
        return TrialDocument.model_validate(_of_manifest(content) if "metadata" in content else content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(f"{name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (TypeError, KeyError, ValueError) as error:
        raise ConfigError(f"{name} is not a trial: {error}; expected a CPTTrial or a TrialDocument") from error


def _content(text: str) -> Any:
    """JSON, or YAML, which takes a hundred times as long to read."""
    if text.startswith("{"):
        return json.loads(text)
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _of_manifest(manifest: dict[str, Any]) -> dict[str, Any]:
    """The first attempt of a resolved CPTTrial, as `kubectl get cptt NAME -o yaml` prints it."""
    spec = CPTTrialSpec.model_validate(manifest["spec"])
    metadata = manifest["metadata"]
    return {
        "namespace": metadata.get("namespace", "default"),
        "name": metadata["name"],
        "digest": trial_digest(spec),
        "attempt": 1,
        "protocol": spec.protocol or PROTOCOL,
        "spec": spec,
    }


# --- the attempt ----------------------------------------------------------------------------------------------------


def _attempt(verb: str, trial: Trial, place: Place, words: Sequence[str]) -> int:
    """In the child: the verb, and what its end means."""
    try:
        if place.worker or not _is_finished(trial):
            _run(verb, trial, place, words)
    except TrainerExit as error:
        log.error("ended_early", reason=error.reason, exc_info=error.code is ExitCode.UNCLASSIFIED)
        return last_words(error)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:
        log.exception("failed")
        return last_words(TrainerExit(f"{type(error).__name__}: {error}"))
    return ExitCode.COMMITTED


def _is_finished(trial: Trial) -> bool:
    """Whether an attempt before this one has committed the result."""
    result = trial.result()
    if result is None:
        return False
    log.info("finished_already", by_attempt=result.attempt, outcome=result.outcome)
    if result.outcome is Outcome.DIVERGED:
        raise Diverged("it diverged in an attempt before this one, as its result says")
    return True


def _run(verb: str, trial: Trial, place: Place, words: Sequence[str]) -> None:
    if place.launches:
        from cpt_trainer.launch import launch

        launch([sys.executable, "-m", "cpt_trainer", *words])
        return
    verb_module(verb).run(trial)


def _verify(trial: Trial) -> int:
    """The answer goes to standard output."""
    from cpt_trainer.verify import verify

    found = verify(trial)
    sys.stdout.write(f"{found.to_json().decode()}\n")
    return ExitCode.COMMITTED if found.equal else ExitCode.DATA


def _keep_tail(trial: Trial, place: Place, tail: bytes) -> None:
    """Put the end of the output where it outlives the pod; whether that works changes nothing."""
    key = trial.data + place.log_name(trial.document.attempt)
    try:
        open_address(trial.store.address, _LOG_SECONDS).put(key, tail)
    except TrainerExit as error:
        log.warning("output_not_kept", key=key, error=str(error))
