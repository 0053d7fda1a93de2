"""Completion of `kubectl cpt`: kubectl asks a program `kubectl_complete-cpt` on the PATH, in cobra's words.

$ kubectl_complete-cpt stat            what kubectl runs after `kubectl cpt stat<TAB>`
status	Where an experiment is, …       one candidate a line, with its help after a tab
:4                                     and what the shell shall do: 4 nothing else, 0 complete file names
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

from typer.main import get_command

from kubectl_cpt.cluster.kubectl import EXPERIMENTS, TRIALS, Kubectl
from kubectl_cpt.errors import CliError
from kubectl_cpt.main import app

Names = Callable[[str], Sequence[str]]
"""Names of all objects of a kind."""

_NOTHING_ELSE, _FILES = ":4", ":0"
_TAKE_FILES = frozenset(
    {"-f", "--filename", "-k", "--kustomize", "--store", "--source-root", "--logs", "--kubeconfig", "--to"}
)
_NAMED: Mapping[str, str] = {
    **dict.fromkeys(("status", "wait", "report", "verify", "suspend", "resume", "retry"), EXPERIMENTS),
    **dict.fromkeys(("logs", "cancel"), TRIALS),
}
"""What a command's argument names."""


def main() -> None:
    """Entry point of `kubectl_complete-cpt`."""
    print("\n".join(complete(sys.argv[1:], _names)))


def complete(words: Sequence[str], names: Names) -> list[str]:
    """The last of `words`, which may be empty, is what is being typed."""
    commands: Mapping[str, Any] = get_command(app).commands  # type: ignore[attr-defined]  # a group has them
    typed, before = words[-1] if words else "", words[-2] if len(words) > 1 else ""
    if len(words) < 2:
        found = [_line(name, command.help) for name, command in sorted(commands.items())]
    elif before in _TAKE_FILES:
        return [_FILES]
    else:
        found = list(_after_command(words[0], commands.get(words[0]), typed, before, names))
    return [*(line for line in found if line.startswith(typed)), _NOTHING_ELSE]


def _after_command(name: str, command: Any, typed: str, before: str, names: Names) -> Iterator[str]:
    if command is None:
        return
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    asked = next((option for option in options if before in option.opts and option.default is not False), None)
    if asked is not None:
        yield from map(str, type(asked.default) if isinstance(asked.default, StrEnum) else ())
    elif typed.startswith("-"):
        yield from (_line(text, option.help) for option in options for text in option.opts)
    elif name in _NAMED:
        yield from names(_NAMED[name])


def _line(word: str, explanation: str) -> str:
    return f"{word}\t{explanation.splitlines()[0]}"


def _names(kind: str) -> Sequence[str]:
    """Of the present context; none while the cluster does not answer."""
    try:
        return Kubectl()("get", kind, "--output=name", "--request-timeout=2s").replace(f"{kind}/", "").split()
    except CliError:
        return ()


if __name__ == "__main__":
    main()
