"""Suites as files: those shipped beside this module, and users' own.

    shipped()                         ("core-offline", "gauntlet-v0.2", "gauntlet-v0.3", "mmlu")
    read_suite("mmlu")                the Suite
    read_suite("my/suite.yaml")       one of the user's, or: my/suite.yaml:14: tasks[2].metric: …

Every refusal names file, line and reason.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cpt_trainer.errors import ConfigError, MissingError
from cpt_trainer.evaluate.suite import MisplacedError, Place, Suite
from cpt_trainer.sources import Files

_SHIPPED = files("cpt_trainer.evaluate") / "suites"
_SUFFIX = ".yaml"


def shipped() -> tuple[str, ...]:
    """Names of the suites that need no file."""
    return tuple(sorted(file.name.removesuffix(_SUFFIX) for file in _SHIPPED.iterdir() if file.name.endswith(_SUFFIX)))


def read_suite(name: str) -> Suite:
    """A shipped suite by its name, or the one in a file that ends with .yaml."""
    if name in shipped():
        return parse_suite((_SHIPPED / f"{name}{_SUFFIX}").read_text(encoding="utf-8"), f"{name}{_SUFFIX}")
    if not name.endswith(_SUFFIX):
        raise ConfigError(f"there is no suite {name!r}: expected one of {', '.join(shipped())}, or a .yaml file")
    try:
        text = Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"suite {name}: {error}") from error
    return parse_suite(text, name)


def parse_suite(text: str, file: str) -> Suite:
    """What the text says; raises ConfigError with the line of what is wrong."""
    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{file}:1: a suite is a mapping with name, version, description, tasks and groups")
        _require_single_keys(root, file)
        content = yaml.load(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{file}:{line}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}:1: {error}") from None
    try:
        return Suite.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        cause = first.get("ctx", {}).get("error")
        where, line = _place(root, (*first["loc"], *(cause.place if isinstance(cause, MisplacedError) else ())))
        reason = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{file}:{line}: {where + ': ' if where else ''}{reason}") from None


def _place(root: yaml.Node, path: Place) -> tuple[str, int]:
    """As a reader would write it, and the line where it stands (or the nearest that is there)."""
    where, node, line = "", root, root.start_mark.line + 1
    for step in path:
        found = _child(node, step)
        if isinstance(step, int):
            where += f"[{step}]"
        elif found is not None or (step == path[-1] and step.isidentifier()):
            where += f".{step}" if where else step
        if found is not None:
            node, line = found[1], found[0].start_mark.line + 1
    return where, line


def _child(node: yaml.Node, step: int | str) -> tuple[yaml.Node, yaml.Node] | None:
    """The node that says where it begins, and the node itself."""
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == step), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    return None


def _require_single_keys(node: Any, file: str) -> None:
    """YAML takes the last of two; whoever wrote both meant both."""
    if isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _require_single_keys(value, file)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        if key.value in seen:
            raise ConfigError(f"{file}:{key.start_mark.line + 1}: {key.value!r} stands twice")
        seen.add(key.value)
        _require_single_keys(value, file)


def suite_of(name: str, files: Files) -> Suite:
    """Raises MissingError for a name that stands for nothing, ConfigError for a suite that is none."""
    if name in shipped():
        return read_suite(name)
    key = f"{name}.yaml"
    try:
        return parse_suite(files.store.get(key).decode(), f"{files.uri.rstrip('/')}/{key}")
    except MissingError:
        raise MissingError(
            f"there is no suite {name!r}: {', '.join(shipped())} are shipped, and {files.uri} has no {key}"
        ) from None
