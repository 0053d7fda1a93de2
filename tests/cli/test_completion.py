"""What the shell offers after `kubectl cpt …<TAB>`."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kubectl_cpt.completion import complete


def names(kind: str) -> Sequence[str]:
    return {"cptexperiments.cpt.dev": ("sweep", "study"), "cpttrials.cpt.dev": ("sweep-train-1",)}[kind]


@pytest.mark.parametrize(
    ("words", "want"),
    [
        pytest.param(["s"], ["status", "suspend", ":4"], id="commands"),
        pytest.param(["status", ""], ["sweep", "study", ":4"], id="experiments"),
        pytest.param(["logs", "sw"], ["sweep-train-1", ":4"], id="trials"),
        pytest.param(["status", "--wa"], ["--watch", ":4"], id="options"),
        pytest.param(["status", "--watch", "sw"], ["sweep", ":4"], id="after a flag"),
        pytest.param(["status", "-o", "j"], ["json", ":4"], id="choices"),
        pytest.param(["run", "--store", ""], [":0"], id="files"),
        pytest.param(["nonsense", ""], [":4"], id="unknown"),
    ],
)
def test_candidates(words: list[str], want: list[str]) -> None:
    """Candidates in cobra's words, then what the shell shall do."""
    assert [line.partition("\t")[0] for line in complete(words, names)] == want
