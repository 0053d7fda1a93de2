"""YAML with line numbers: objects of ours from files, and where in a file a field stands.

YAML is read as the API server reads it, where `1e-5` is a number, and not by the older rules of PyYAML, where it is a
string: what passes here passes there.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cpt_api import API_VERSION
from kubectl_cpt.errors import CliError, ManifestError

FieldPath = tuple[str | int, ...]
"""To a field, as pydantic names it."""
EXPONENT = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$")
"""Numbers that PyYAML takes for strings."""


class _Loader(yaml.SafeLoader):
    """PyYAML's, with numbers as every newer reader takes them."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+0123456789"))


@dataclass(frozen=True, slots=True)
class Raw:
    """An object of ours before it was checked, with its place."""

    origin: str
    node: yaml.MappingNode
    body: dict[str, Any]

    @property
    def label(self) -> str:
        """Kind and name."""
        metadata = self.body.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        return f"{self.body['kind']} {name or 'without a name'}"

    def problem(self, path: FieldPath, text: str) -> str:
        """One line: file, line, object, field, what is wrong."""
        line = node_at(self.node, path).start_mark.line + 1
        return f"{self.origin}:{line}: {self.label}: {_dotted(path)}: {text}"


def texts(file: str) -> Iterator[tuple[str, str]]:
    """Name and text of a file, of the .yaml files of a folder, or of standard input for `-`."""
    if file == "-":
        yield "standard input", sys.stdin.read()
        return
    path = Path(file)
    paths = sorted([*path.glob("*.yaml"), *path.glob("*.yml")]) if path.is_dir() else [path]
    if not paths:
        raise ManifestError([f"{file}: the folder holds no .yaml file"])
    for each in paths:
        try:
            yield str(each), each.read_text()
        except OSError as error:
            raise ManifestError([f"{each}: {error.strerror}"]) from error
        except UnicodeDecodeError as error:
            raise ManifestError([f"{each}: not a text file ({error.reason} at byte {error.start})"]) from error


def kustomized(folder: str) -> str:
    """What kubectl makes of a kustomization."""
    try:
        done = subprocess.run(["kubectl", "kustomize", folder], check=False, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise CliError("--kustomize needs kubectl on the PATH") from error
    if done.returncode:
        raise ManifestError([f"kubectl kustomize {folder}: {done.stderr.strip()}"])
    return done.stdout


def documents(origin: str, text: str) -> Iterator[Raw]:
    """Objects of ours; other kinds may stand in the same file."""
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if not isinstance(node, yaml.MappingNode):
                continue
            _refuse_duplicates(origin, node)
            body = loader.construct_document(node)
            if str(body.get("apiVersion", "")).split("/")[0] == API_VERSION.split("/")[0]:
                yield _known_kind(Raw(origin, node, body))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ManifestError([f"{origin}:{line}: not YAML: {error.problem or error.context}"]) from error
    finally:
        loader.dispose()


def _known_kind(raw: Raw) -> Raw:
    if raw.body["apiVersion"] != API_VERSION:
        raise ManifestError([raw.problem(("apiVersion",), f"expected {API_VERSION}")])
    kind = raw.body.get("kind")
    if kind not in ("CPTExperiment", "CPTTrial"):
        line = raw.node.start_mark.line + 1
        raise ManifestError([f"{raw.origin}:{line}: kind {kind!r}: expected CPTExperiment or CPTTrial"])
    return raw


def _refuse_duplicates(origin: str, node: yaml.Node) -> None:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_duplicates(origin, item)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        if key.value in seen and key.value != "<<":
            raise ManifestError([f"{origin}:{key.start_mark.line + 1}: the key {key.value!r} stands there twice"])
        seen.add(str(key.value))
        _refuse_duplicates(origin, value)


def node_at(node: yaml.Node, path: FieldPath) -> yaml.Node:
    """The deepest node on the way to `path`; the key's own where a key is what is wrong."""
    for number, part in enumerate(path):
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        elif isinstance(node, yaml.MappingNode):
            entry = next(((key, value) for key, value in node.value if key.value == part), None)
            if entry is None:
                return node
            is_block = isinstance(entry[1], yaml.CollectionNode)
            node = entry[0] if number + 1 == len(path) and is_block else entry[1]
    return node


def _dotted(path: FieldPath) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")
