"""What a run must notice although it computes: that it shall end, and that it does not move any more.

    with Watch() as watch:              installs the handler of SIGTERM, starts one thread
    watch.enter(Phase.TRAINING)         from here on SIGTERM is a wish, that the loop fulfils after its step
    watch.is_stopping                   read by the loop before each step's reduction, so that all ranks stop together
    watch.step(), watch.beat()          after each step; whenever something else that is long has moved

The thread ends the process when a signal was not followed by a beat within 10 s (or two steps, where they are longer):
a peer is dead and the collective will never return, nothing can be saved. And when no beat came for
max(10 x median step, 300 s): stacks of all threads go to stderr, exit 210.

Python runs signal handlers between two instructions of the main thread, which may be inside a collective for minutes;
the C-level wake-up pipe is written at once.

Price: one thread that wakes up once a second.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import signal
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import NoReturn, Self

from cpt_trainer.errors import Hang, Terminated, TrainerExit
from cpt_trainer.words import last_words

SILENCE_SECONDS = 300.0
"""Without a beat: the least that counts as a hang."""
_MEDIANS = 10
_ANSWER_SECONDS = 10.0
"""From a signal to the next beat."""
_TURN_SECONDS = 1.0
_REMEMBERED = 64


class Phase(Enum):
    """What SIGTERM means."""

    OPEN = "nothing is lost: end where the process stands"
    TRAINING = "a wish, that the loop fulfils after its step"
    SCORING = "the same, after what may take longer than any step"
    SAVING = "it is being fulfilled"


class Watch:
    """One per process."""

    def __init__(
        self,
        silence_seconds: float = SILENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        end: Callable[[TrainerExit], None] | None = None,
    ) -> None:
        self._silence_seconds = silence_seconds
        self._clock = clock
        self._end = end or _end
        self._steps: deque[float] = deque(maxlen=_REMEMBERED)  # seconds of steps
        self._beat = clock()  # the last sign of life
        self._asked: float | None = None  # when SIGTERM came
        self._phase = Phase.OPEN
        self.committed_step: int | None = None
        """For the last words."""

    @property
    def is_stopping(self) -> bool:
        """Whether this process was asked to end."""
        return self._asked is not None

    def __enter__(self) -> Self:
        """Listen; only from the main thread."""
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._handler = signal.signal(signal.SIGTERM, self._on_signal)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave signals as they were."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, self._handler)
        os.close(self._writer)  # which ends the thread
        self._thread.join()
        os.close(self._reader)

    def enter(self, phase: Phase) -> None:
        """From here on signals mean something else, and a hang is looked for only while training."""
        self.beat()
        self._phase = phase

    def step(self) -> None:
        """A step has ended."""
        now = self._clock()
        self._steps.append(now - self._beat)
        self._beat = now

    def beat(self) -> None:
        """Something has moved."""
        self._beat = self._clock()

    def look(self) -> None:
        """Whether the process must end now; called once a second."""
        if self._phase is not Phase.TRAINING:
            return
        now = self._clock()
        median = statistics.median(self._steps) if self._steps else 0.0
        if self._asked is not None and now - max(self._asked, self._beat) > max(_ANSWER_SECONDS, 2 * median):
            self._end(self.terminated("no step ended after the signal, another rank may be dead"))
        silent_seconds = now - self._beat
        if silent_seconds > max(_MEDIANS * median, self._silence_seconds):
            faulthandler.dump_traceback(all_threads=True)
            words = f"no step for {silent_seconds:.0f} s, the median is {median:.1f} s; the stacks are above"
            self._end(Hang(words, committed_step=self.committed_step))

    def terminated(self, why: str) -> Terminated:
        """The end on request, with the committed step."""
        step = "no step is" if self.committed_step is None else f"step {self.committed_step} is"
        return Terminated(f"terminated: {why}; {step} committed", committed_step=self.committed_step)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._note()
        if self._phase is Phase.OPEN:
            raise self.terminated("outside of training")

    def _note(self) -> None:
        if self._asked is None:
            self._asked = self._clock()

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._reader], [], [], _TURN_SECONDS)
            signals = os.read(self._reader, 64) if ready else None
            if signals == b"":
                return
            if signals and signal.SIGTERM in signals:
                self._note()
            self.look()


def _end(error: TrainerExit) -> NoReturn:
    """From a thread, while the main thread may never return."""
    code = last_words(error)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(code)
