"""Attempts: what an end means for the next attempt, and the record that survives the pods."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cpt_api.conditions import Reason
from cpt_api.exits import Ending
from cpt_api.trial import Attempts
from cpt_operator import rfc3339
from cpt_operator.attempts import (
    KEPT,
    End,
    LastWords,
    avoided_nodes,
    closed,
    exited,
    given_up,
    is_settled,
    meaning,
    not_before,
    open_attempt,
    opened,
    settled,
)
from world import START


def ended(record: Attempts, end: End, step: int = 0, gpu_seconds: int = 0) -> Attempts:
    """One more attempt, from its opening to its settling."""
    return settled(closed(opened(record, START), end, gpu_seconds, START + timedelta(seconds=60)), step)


def after(*ends: End | tuple[End, int]) -> Attempts:
    record = Attempts()
    for entry in ends:
        end, step = entry if isinstance(entry, tuple) else (entry, 0)
        record = ended(record, end, step)
    return record


HANG = exited(210, None, "node-1")
EVICTED = End(Reason.DISRUPTED, "evicted")


class TestExitCodes:
    """Design 3, "Ends, and what they mean"."""

    @pytest.mark.parametrize(
        ("code", "cause", "want"),
        [
            (3, Reason.CONFIG_ERROR, Ending.PERMANENT),
            (4, Reason.DATA_ERROR, Ending.PERMANENT),
            (6, Reason.DOES_NOT_FIT, Ending.PERMANENT),
            (1, Reason.EXITED, Ending.COUNTED),
            (2, Reason.EXITED, Ending.COUNTED),
            (137, Reason.KILLED, Ending.COUNTED),
            (139, Reason.KILLED, Ending.COUNTED),
            (210, Reason.HANG, Ending.COUNTED),
            (211, Reason.STORAGE_ERROR, Ending.COUNTED),
            (212, Reason.OUT_OF_MEMORY, Ending.FREE),
            (143, Reason.TERMINATED, Ending.FREE),
        ],
    )
    def test_table(self, code: int, cause: Reason, want: Ending) -> None:
        """Each exit code has its cause and its meaning."""
        attempt = after(exited(code, None, None)).last[-1]
        assert (attempt.cause, meaning(attempt), attempt.exit_code) == (cause, want, code)

    @pytest.mark.parametrize("code", [0, 5])
    def test_a_promise_without_result_is_counted(self, code: int) -> None:
        """Exit 0 and 5 without `result.json` are failures like others."""
        assert meaning(after(exited(code, None, None)).last[-1]) is Ending.COUNTED

    def test_a_source_that_changed_has_its_own_word(self) -> None:
        """Exit 4 whose last words say SourceChanged is shown as that."""
        end = exited(4, '{"reason": "SourceChanged", "message": "corpus/a.jsonl has another ETag"}', None)
        assert (end.cause, end.message) == (Reason.SOURCE_CHANGED, "exit 4: corpus/a.jsonl has another ETag")

    def test_the_kernels_killer_is_named(self) -> None:
        """Exit 137 by the memory limit says what to raise."""
        assert "memory limit" in exited(137, None, None, oom_killed=True).message


class TestLastWords:
    """The termination message was written under a user's identity."""

    def test_json_line(self) -> None:
        """The trainer's line gives message and committed step."""
        words = LastWords.parse('log line\n{"message": "stopped", "committedStep": 40}')
        assert (words.text, words.committed_step) == ("stopped", 40)

    @pytest.mark.parametrize("text", ["Killed", "[1]", '{"committedStep": "x"}', '{"committedStep": -1}', "", "{"])
    def test_anything_else_is_text(self, text: str) -> None:
        """What is no such line is shown and means nothing."""
        assert LastWords.parse(text).committed_step is None


class TestRecord:
    """The record of what cannot be seen again."""

    def test_numbers_count_up(self) -> None:
        """No number is used twice."""
        record = after(HANG, EVICTED, HANG)
        assert [attempt.number for attempt in record.last] == [1, 2, 3]

    def test_only_the_last_ten_are_kept(self) -> None:
        """Totals count all."""
        record = after(*[HANG] * 12)
        assert (record.total, len(record.last), record.last[0].number) == (12, KEPT, 3)

    def test_an_open_attempt_is_not_settled_away(self) -> None:
        """An attempt is open until its end was seen, and unsettled until the store has answered."""
        record = opened(Attempts(), START)
        assert open_attempt(record) is not None
        record = closed(record, HANG, 0, START)
        assert open_attempt(record) is None
        assert not is_settled(record)
        assert is_settled(settled(record, 0))

    def test_gpu_seconds_add_up(self) -> None:
        """Over all attempts."""
        record = ended(ended(Attempts(), HANG, gpu_seconds=100), EVICTED, gpu_seconds=50)
        assert (record.gpu_seconds, record.last[-1].gpu_seconds) == (150, 50)

    def test_a_committed_step_is_never_forgotten(self) -> None:
        """The maximum ever seen counts."""
        assert after((HANG, 40), (HANG, 0)).last[-1].committed_step == 40


class TestRetries:
    """Design 6: "retries are free for disruptions and counted for the rest"."""

    def test_fruitless_attempts_are_counted(self) -> None:
        """Four failures without progress exceed three retries."""
        assert given_up(after(HANG, HANG, HANG), 3) is None
        finding = given_up(after(HANG, HANG, HANG, HANG), 3)
        assert finding is not None
        assert finding.reason is Reason.ATTEMPTS_EXHAUSTED

    def test_a_new_step_starts_the_count_anew(self) -> None:
        """A failure after progress is the first again."""
        record = after(HANG, HANG, (HANG, 10), HANG)
        assert record.fruitless == 1

    def test_an_old_step_does_not(self) -> None:
        """The same committed step again is no progress."""
        assert after((HANG, 10), (HANG, 10)).fruitless == 1

    def test_disruptions_are_free(self) -> None:
        """They count against no retry."""
        assert after(EVICTED, EVICTED).fruitless == 0

    def test_three_disruptions_without_progress_are_thrashing(self) -> None:
        """The message tells how long they lasted."""
        assert given_up(after(EVICTED, EVICTED), 0) is None
        finding = given_up(after(EVICTED, EVICTED, EVICTED), 0)
        assert finding is not None
        assert finding.reason is Reason.PREEMPTION_THRASHING
        assert "60 s, 60 s, 60 s" in finding.message

    def test_disruptions_with_progress_go_on_for_ever(self) -> None:
        """Each commits a new step."""
        record = Attempts()
        for step in range(1, 30):
            record = ended(record, EVICTED, step)
        assert given_up(record, 0) is None

    def test_a_permanent_end_is_the_last(self) -> None:
        """Whatever maxRetries says."""
        finding = given_up(after(exited(6, '{"message": "one sequence needs 90 GB"}', None)), 100)
        assert finding is not None
        assert (finding.reason, finding.message) == (Reason.DOES_NOT_FIT, "exit 6: one sequence needs 90 GB")

    def test_halving_the_micro_batch_is_no_disruption(self) -> None:
        """From 512 sequences to one takes nine free attempts."""
        out_of_memory = exited(212, None, None)
        assert given_up(after(*[out_of_memory] * 9), 0) is None

    def test_halving_ends(self) -> None:
        """A trainer that asks for half for ever does not get it."""
        finding = given_up(after(*[exited(212, None, None)] * 10), 0)
        assert finding is not None
        assert finding.reason is Reason.DOES_NOT_FIT


class TestPauses:
    """10 s, doubled, up to 5 min; free ends at once."""

    @pytest.mark.parametrize(("failures", "want_seconds"), [(1, 10), (2, 20), (3, 40), (6, 300), (20, 300)])
    def test_counted(self, failures: int, want_seconds: int) -> None:
        """Each failure in a row doubles the pause."""
        record = after(*[HANG] * failures)
        begin = not_before(record)
        assert begin is not None
        assert begin - rfc3339.parse(str(record.last[-1].completion_time)) == timedelta(seconds=want_seconds)

    def test_free(self) -> None:
        """A disrupted attempt is followed at once."""
        assert not_before(after(EVICTED)) is None

    def test_a_gang_that_never_met_waits(self) -> None:
        """Who held nodes while others were missing lets somebody else have them."""
        assert not_before(after(End(Reason.UNSCHEDULABLE, "1 of 2 pods"))) is not None


def test_the_last_two_bad_nodes_are_avoided() -> None:
    """Only infrastructure failures blame a node."""
    lost = [End(Reason.NODE_LOST, "gone", node=f"node-{i}", infrastructure=True) for i in range(3)]
    assert avoided_nodes(after(*lost, End(Reason.EXITED, "exit 1", 1, "node-9"))) == ("node-1", "node-2")
