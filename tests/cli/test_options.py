"""Commands, options and exit codes: others write scripts with them, so they are a golden file."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

from typer.main import get_command
from typer.testing import CliRunner

from kubectl_cpt.errors import Exit
from kubectl_cpt.main import app

GOLDEN = Path(__file__).parent / "golden/options.txt"


def options() -> Iterator[str]:
    """A line for each: command, names, whether it must be there, default, choices."""
    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]  # a group has them
    for name, command in sorted(commands.items()):
        for parameter in command.params:
            names = " ".join(parameter.opts) if parameter.param_type_name == "option" else parameter.metavar
            default = parameter.default
            choices = f", one of {' '.join(type(default))}" if isinstance(default, StrEnum) else ""
            yield f"{name}: {names}: {'required' if parameter.required else f'default {default}'}{choices}"
    for code in Exit:
        yield f"exit {code.value}: {code.name}"


def test_golden() -> None:
    """`python tests/cli/test_options.py` writes it anew; taking something away breaks somebody's script."""
    assert list(options()) == GOLDEN.read_text().splitlines()


def test_help_of_every_command() -> None:
    """Every command and every option says what it does."""
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]  # as above
        done = CliRunner().invoke(app, [name, "--help"], terminal_width=200)
        assert done.exit_code == Exit.SUCCESS
        assert command.help, name
        assert all(p.help for p in command.params if p.param_type_name == "option"), name


if __name__ == "__main__":
    GOLDEN.write_text("\n".join(options()) + "\n")
