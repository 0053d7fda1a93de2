"""Manifests from files: the models of the API, then what only CEL would refuse, each problem with file and line.

    experiment.yaml:28: CPTExperiment demo: spec.recipe.learningRateSweep.learningRates[0]: 1e-5 stands there without
    quotes, so YAML reads a number: write "1e-5"

Everything that is wrong is listed at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cpt_api import API_VERSION
from cpt_api.experiment import Base, CPTExperimentSpec, LearningRateSweep, Reference, ScalingModel
from cpt_api.model import Model, Name, Uri
from cpt_api.names import EXPERIMENT_NAME_MAX, TRIAL_NAME_MAX
from cpt_api.trial import CPTTrialSpec, EvaluateWork, MergeInput, ModelRef, Start, TrialRef
from kubectl_cpt import documents
from kubectl_cpt.documents import FieldPath, Raw, node_at
from kubectl_cpt.errors import CliError, ManifestError

S = TypeVar("S", CPTExperimentSpec, CPTTrialSpec)
DEFAULT_NAMESPACE = "default"
_PROBLEMS_SHOWN = 20
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_EXACTLY_ONE: dict[type[Model], tuple[str, ...]] = {
    Base: ("uri", "trial_name"),
    Reference: ("uri", "trial_name"),
    ScalingModel: ("uri", "trial_name"),
    TrialRef: ("digest", "trial_name"),
    ModelRef: ("source", "trial"),
    Start: ("model", "segment", "random"),
    MergeInput: ("model", "segment"),
    EvaluateWork: ("model", "segment", "merge"),
}
"""What the API server checks by CEL rules, which nothing here can run."""


def _pattern(annotated: Any) -> str:
    """Of one of the API's string types."""
    return str(annotated.__metadata__[0].pattern)


_RULES = {
    _pattern(Name): "a name: lower-case letters, digits and '-', at most 63 characters",
    _pattern(Uri): "an address in the artifact store, such as s3://bucket/folder/texts.jsonl",
}
"""Patterns in words."""


@dataclass(frozen=True, slots=True)
class Document(Generic[S]):
    """One object of ours."""

    name: str
    namespace: str
    spec: S


@dataclass(frozen=True, slots=True)
class Manifests:
    """All objects of ours in the given files, in their order."""

    experiments: tuple[Document[CPTExperimentSpec], ...]
    trials: tuple[Document[CPTTrialSpec], ...]

    @property
    def experiment(self) -> Document[CPTExperimentSpec] | None:
        """The only one, if there is one."""
        if len(self.experiments) > 1:
            names = ", ".join(document.name for document in self.experiments)
            raise CliError(f"one experiment at a time: the files hold {names}")
        return self.experiments[0] if self.experiments else None


def load(
    files: Sequence[str],
    kustomization: str | None = None,
    namespace: str | None = None,
    default_namespace: str = DEFAULT_NAMESPACE,
) -> Manifests:
    """Read and check files, folders of .yaml files, or `-` for standard input. `namespace` beats the manifests' own."""
    texts = [text for file in files for text in documents.texts(file)]
    if kustomization:
        texts.append((kustomization, documents.kustomized(kustomization)))
    found = [raw for origin, text in texts for raw in documents.documents(origin, text)]
    if not found:
        origins = ", ".join(origin for origin, _ in texts) or "no files"
        raise ManifestError(
            [f"{origins}: no CPTExperiment and no CPTTrial of {API_VERSION}: name their files with --filename"]
        )
    parsed = [_parsed(raw, namespace, default_namespace) for raw in found]
    problems = [problem for _, problems in parsed for problem in problems]
    good = [document for document, _ in parsed if document]
    problems += _names_taken(good)
    if problems:
        more = len(problems) - _PROBLEMS_SHOWN
        raise ManifestError([*problems[:_PROBLEMS_SHOWN], *([f"and {more} more problems"] if more > 0 else [])])
    return Manifests(
        tuple(Document(d.name, d.namespace, d.spec) for d in good if isinstance(d.spec, CPTExperimentSpec)),
        tuple(Document(d.name, d.namespace, d.spec) for d in good if isinstance(d.spec, CPTTrialSpec)),
    )


def _parsed(raw: Raw, namespace: str | None, default: str) -> tuple[Document[Any] | None, list[str]]:
    """The object, and everything that is wrong with it."""
    kind: type[CPTExperimentSpec | CPTTrialSpec] = (
        CPTExperimentSpec if raw.body["kind"] == "CPTExperiment" else CPTTrialSpec
    )
    metadata = raw.body.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    problems = _name_problems(raw, metadata.get("name"), kind)
    try:
        spec = kind.model_validate(raw.body.get("spec") or {})
    except ValidationError as error:
        return None, problems + [_explained(raw, kind, detail) for detail in _causes(error)]
    problems += [raw.problem(("spec", *path), text) for path, text in _rule_problems(spec)]
    where = namespace or metadata.get("namespace") or default
    return Document(str(metadata.get("name")), str(where), spec), problems


def _name_problems(raw: Raw, name: object, kind: type[Model]) -> list[str]:
    limit = EXPERIMENT_NAME_MAX if kind is CPTExperimentSpec else TRIAL_NAME_MAX
    if isinstance(name, str) and _NAME.fullmatch(name) and len(name) <= limit:
        return []
    rule = f"a letter, then lower-case letters, digits and '-', at most {limit} characters"
    found = f"{name!r}: expected " if name else "missing: give it a name, "
    return [raw.problem(("metadata", "name"), f"{found}{rule}")]


def _names_taken(good: Sequence[Document[Any]]) -> list[str]:
    keys = [(type(d.spec).__name__.removesuffix("Spec"), d.namespace, d.name) for d in good]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    return [f"{kind} {name} stands in the files twice: rename one" for kind, _, name in twice]


def _causes(error: ValidationError) -> list[ErrorDetails]:
    """Without those that only follow from errors further inside."""
    details = error.errors(include_url=False)
    return [
        detail
        for detail in details
        if not any(
            other["loc"] != detail["loc"] and other["loc"][: len(detail["loc"])] == detail["loc"] for other in details
        )
    ]


def _explained(raw: Raw, kind: type[Model], error: ErrorDetails) -> str:
    path = ("spec", *error["loc"])
    node = node_at(raw.node, path)
    match error["type"]:
        case "missing":
            text = f"is required: {_description(kind, error['loc'])}"
        case "extra_forbidden":
            text = f"unknown field; {_suggestion(kind, error['loc'])}"
        case _ if _is_bare_number(node) and not isinstance(error["input"], str):
            text = f'{node.value} stands there without quotes, so YAML reads a number: write "{node.value}"'
            if error["type"] not in ("value_error", "string_type"):
                text = f"{node.value}: {error['msg']}"
        case "value_error":
            text = error["msg"].removeprefix("Value error, ")
        case "string_pattern_mismatch" if rule := _RULES.get(error["ctx"]["pattern"]):
            text = f"{_shown(error['input'])}: expected {rule}"
        case _:
            text = f"{_shown(error['input'])}: {error['msg'][0].lower()}{error['msg'][1:]}"
    return raw.problem(path, text)


def _is_bare_number(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag.rpartition(":")[2] in ("float", "int") and not node.style


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _model_at(kind: type[Model], path: FieldPath) -> type[Model]:
    """The model that holds the last part of `path`."""
    for part in path[:-1]:
        field = next((f for name, f in kind.model_fields.items() if part in (f.alias, name)), None)
        kind = next(_models_in(field.annotation), kind) if field else kind
    return kind


def _models_in(annotation: Any) -> Iterator[type[Model]]:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)


def _description(kind: type[Model], path: FieldPath) -> str:
    from cpt_api.sentences import descriptions

    return descriptions(_model_at(kind, path)).get(str(path[-1]), "")


def _suggestion(kind: type[Model], path: FieldPath) -> str:
    known = [field.alias or name for name, field in _model_at(kind, path).model_fields.items()]
    close = difflib.get_close_matches(str(path[-1]), known, n=1)
    return f"did you mean {close[0]}?" if close else f"expected one of {', '.join(known)}"


def _rule_problems(value: object, path: FieldPath = ()) -> Iterator[tuple[FieldPath, str]]:
    """What only the API server's rules would refuse."""
    if isinstance(value, tuple):
        for number, item in enumerate(value):
            yield from _rule_problems(item, (*path, number))
    if not isinstance(value, Model):
        return
    fields = type(value).model_fields
    choice = _EXACTLY_ONE.get(type(value))
    if choice and sum(getattr(value, name) is not None for name in choice) != 1:
        yield path, f"expected exactly one of {', '.join(fields[name].alias or name for name in choice)}"
    if isinstance(value, LearningRateSweep) and list(value.rungs or ()) != sorted(value.rungs or ()):
        yield (*path, "rungs"), "rungs must rise: write the shortest first"
    for name, field in fields.items():
        yield from _rule_problems(getattr(value, name), (*path, field.alias or name))
