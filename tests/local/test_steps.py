"""Steps of `up` at the same time."""

from __future__ import annotations

import threading

import pytest

from cpt_local.steps import Steps


def test_steps_wait_for_those_before_them() -> None:
    """A step starts when all that it waits for are done, and gets no say in their order."""
    order: list[str] = []
    with Steps(lambda _line: None) as steps:
        first = steps.start("first", order.append, "first")
        second = steps.start("second", order.append, "second", after=[first])
        steps.start("third", order.append, "third", after=[first, second])
    assert order == ["first", "second", "third"]


def test_independent_steps_run_at_the_same_time() -> None:
    """Two steps that meet at a barrier both pass it."""
    barrier = threading.Barrier(2, timeout=60)
    with Steps(lambda _line: None) as steps:
        one = steps.start("one", barrier.wait)
        two = steps.start("two", barrier.wait)
    assert {one.result(), two.result()} == {0, 1}


def test_first_failure_is_raised() -> None:
    """What waits for a failed step never starts, and the block raises the failure itself."""

    def fail() -> None:
        raise ValueError("no etcd")

    ran: list[str] = []
    lines: list[str] = []
    with pytest.raises(ValueError, match="no etcd"), Steps(lines.append) as steps:
        failed = steps.start("API server", fail)
        steps.start("node", ran.append, "node", after=[failed])
    assert ran == []
    assert "FAILED: API server" in "".join(lines)


def test_each_step_is_reported() -> None:
    """A line for each step that is done, with its name."""
    lines: list[str] = []
    with Steps(lines.append) as steps:
        steps.start("network", lambda: None)
    assert len(lines) == 1
    assert "s  network (" in lines[0]
