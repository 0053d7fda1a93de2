"""Command lines: what is wrong with one ends like any other error."""

from __future__ import annotations

import argparse
from typing import NoReturn

from cpt_trainer.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """Raises ConfigError."""

    def error(self, message: str) -> NoReturn:
        """In place of argparse's own exit."""
        raise ConfigError(f"{message}; see {self.prog} --help")
