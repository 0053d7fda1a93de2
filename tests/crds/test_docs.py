"""The generated pages say what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpt_api.conditions import Reason
from cpt_api.crdgen import ROOT
from cpt_api.docs import files
from cpt_api.exits import Ending, ExitCode, ending
from cpt_api.sentences import sentences


@pytest.mark.parametrize("path", files(), ids=str)
def test_regenerated_page_is_equal(path: Path) -> None:
    """`make crds` changes nothing."""
    assert (ROOT / path).read_text() == files()[path], f"{path} is stale: run `make crds`"


def test_every_reason_has_a_sentence() -> None:
    """A reason without meaning helps nobody."""
    assert set(sentences(Reason)) == {reason.name for reason in Reason}


def test_reasons_are_words_of_a_condition() -> None:
    """The API conventions: CamelCase, no spaces, at most 64 characters here."""
    assert all(reason.value.isalnum() and reason.value[0].isupper() and len(reason) <= 64 for reason in Reason)


@pytest.mark.parametrize(
    ("code", "want"),
    [
        (ExitCode.COMMITTED, Ending.SUCCESS),
        (ExitCode.DIVERGED, Ending.DIVERGED),
        (ExitCode.CONFIG, Ending.PERMANENT),
        (ExitCode.DATA, Ending.PERMANENT),
        (ExitCode.DOES_NOT_FIT, Ending.PERMANENT),
        (ExitCode.UNCLASSIFIED, Ending.COUNTED),
        (ExitCode.HANG, Ending.COUNTED),
        (ExitCode.STORAGE, Ending.COUNTED),
        (ExitCode.KILLED, Ending.COUNTED),
        (ExitCode.SEGMENTATION_FAULT, Ending.COUNTED),
        (ExitCode.HALVE_MICRO_BATCH, Ending.FREE),
        (ExitCode.TERMINATED, Ending.FREE),
        (42, Ending.COUNTED),
    ],
)
def test_endings(code: int, want: Ending) -> None:
    """The table that both planes rely on is frozen."""
    assert ending(code) is want
