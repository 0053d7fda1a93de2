"""What stands under fields and members is found where it is wanted, and read for nobody else."""

from __future__ import annotations

import subprocess
import sys
from enum import StrEnum

import pytest

from cpt_api.model import Model
from cpt_api.sentences import descriptions, sentences


class Colour(StrEnum):
    RED = "Red"
    """Like a rose."""
    GREEN = "Green"


class Flower(Model):
    """A sentence about the whole is not one of a field."""

    leaves_count: int
    """As many as
    there are."""
    colour: Colour = Colour.RED


class Rose(Flower):
    thorns: int = 0
    """They sting."""


@pytest.mark.parametrize(
    ("kind", "want"),
    [
        pytest.param(Colour, {"RED": "Like a rose."}, id="members"),
        pytest.param(Flower, {"leaves_count": "As many as\nthere are."}, id="fields"),
        pytest.param(Rose, {"thorns": "They sting."}, id="of the class itself"),
    ],
)
def test_sentences(kind: type[Model | StrEnum], want: dict[str, str]) -> None:
    """By the name in the source; what has none is absent."""
    assert sentences(kind) == want


def test_descriptions() -> None:
    """By the name in a manifest, with what a model inherits."""
    assert descriptions(Rose) == {"leavesCount": "As many as\nthere are.", "thorns": "They sting."}


def test_nobody_pays_for_them() -> None:
    """Importing the API reads none of its source."""
    script = "import linecache, cpt_api.experiment, cpt_api.result, cpt_api.trial; print(sorted(linecache.cache))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
