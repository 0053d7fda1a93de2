"""Training as real processes that are killed, terminated, cut off, and started again with another number of ranks."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from cpt_api.exits import ExitCode
from cpt_api.values import Digest
from cpt_trainer import train
from cpt_trainer.manifest import Listing
from cpt_trainer.store import Address
from cpt_trainer.trial import Trial
from make import make_digest
from trainer_image.conftest import free_ports
from trainer_image.kit import BATCH_TOKENS, NAMESPACE, Lab, descendants

pytestmark = pytest.mark.processes

STEPS = 400
"""Some seconds."""
WAIT_SECONDS = 120


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A store in a folder."""
    return Lab(tmp_path)


def make_trial(lab: Lab, steps: int = STEPS, attempt: int = 1) -> Trial:
    """Two datasets, a small batch."""
    mixture: dict[Digest, str] = {lab.dataset("python"): "0.7", lab.dataset("perl"): "0.3"}
    schedule = {"peakLearningRate": "1e-3", "warmupTokens": str(20 * BATCH_TOKENS)}  # larger ones amplify rounding
    return lab.train(mixture, steps, attempt=attempt, schedule=schedule)


def wait_for_line(lab: Lab, trial: Trial, process: subprocess.Popen[bytes], word: str) -> None:
    """Until an attempt has said that."""
    end = time.monotonic() + WAIT_SECONDS
    while word not in lab.log_of(trial).read_text():
        assert process.poll() is None, lab.log_of(trial).read_text()[-3000:]
        assert time.monotonic() < end, f"no {word!r} in {lab.log_of(trial).read_text()[-3000:]}"
        time.sleep(0.02)


def last_words(lab: Lab, trial: Trial) -> dict[str, object]:
    """Of the first process that ended."""
    lines = lab.log_of(trial).read_text().splitlines()
    return next(json.loads(line) for line in lines if line.startswith('{"reason"') and '"message"' in line)


@pytest.fixture
def undisturbed(tmp_path: Path) -> Iterator[list[float]]:
    """Losses of a run that nothing happened to."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    lab = Lab(tmp_path / "undisturbed")
    trial = make_trial(lab)
    train.run(trial)
    yield list(lab.losses(trial).values())
    torch.set_num_threads(threads)


class TestKilled:
    """Design 3: "kill -9 at a random step and resume: bitwise at the same world size, 1e-6 at another"."""

    def test_resumes(self, lab: Lab, undisturbed: list[float]) -> None:
        """Terminated, killed, and resumed: each step's loss is that of the undisturbed run, bit by bit."""
        first, second, third = (make_trial(lab, attempt=n) for n in (1, 2, 3))
        process = lab.start(first)
        wait_for_line(lab, first, process, '"event": "step"')
        process.send_signal(signal.SIGTERM)
        assert process.wait() == ExitCode.TERMINATED
        process = lab.start(second)
        wait_for_line(lab, second, process, '"event": "step"')
        time.sleep(random.uniform(0, 0.5))  # at a random step
        process.kill()
        process.wait()
        assert lab.run(third) == ExitCode.COMMITTED
        assert list(lab.losses(third).values()) == undisturbed

    def test_other_world(self, lab: Lab, undisturbed: list[float]) -> None:
        """Two ranks go on from what one has saved, and lose nothing but rounding."""
        first, second = (make_trial(lab, attempt=n) for n in (1, 2))
        process = lab.start(first)
        wait_for_line(lab, first, process, '"event": "step"')
        process.send_signal(signal.SIGTERM)
        assert process.wait() == ExitCode.TERMINATED
        assert lab.run(second, processes=2) == ExitCode.COMMITTED
        found = lab.losses(second)
        assert len(found) == STEPS
        np.testing.assert_allclose(list(found.values())[:100], undisturbed[:100], rtol=1e-6)
        assert lab.result(second).numbers["worldSize"] == 2


class TestWorld:
    """Design 3: "loss invariant to world, accumulation, padding"."""

    def test_three_ranks(self, lab: Lab, tmp_path: Path) -> None:
        """Three ranks share a batch of four, train what one trains, and score their end as one does."""
        losses = []
        for folder, processes in (("one", 1), ("three", 3)):
            lab = Lab(tmp_path / folder)
            text = lab.dataset("python")
            start = {"random": {"config": lab.base(tie_word_embeddings=False), "seed": 3}}
            schedule = {"peakLearningRate": "1e-3"}
            run = {"observe": {"heldOut": [{"digest": text}]}}
            trial = lab.train({text: "1"}, 20, start=start, schedule=schedule, run=run)
            assert lab.run(trial, processes) == ExitCode.COMMITTED
            losses.append(list(lab.losses(trial).values()))
        np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)
        evaluation = lab.evaluate([text], segment={"digest": trial.digest})
        assert lab.run(evaluation) == ExitCode.COMMITTED
        found, again = (lab.result(done).held_out[0] for done in (trial, evaluation))
        assert found.bits_per_byte == again.bits_per_byte
        assert lab.store.get(trial.data + found.table) == lab.store.get(evaluation.data + again.table)


class TestTerminated:
    """Design 3: "SIGTERM -> 143 with the last step committed"."""

    @pytest.mark.parametrize("processes", [1, 2])
    def test_saves(self, lab: Lab, processes: int) -> None:
        """All ranks stop after the same step, and the last words name it."""
        trial = make_trial(lab, steps=20_000)
        process = lab.start(trial, processes)
        wait_for_line(lab, trial, process, '"event": "step"')
        process.send_signal(signal.SIGTERM)
        assert process.wait() == ExitCode.TERMINATED
        newest = Listing.of(lab.store, trial.data + "checkpoints/").manifests()[0]
        step = int(newest.split("step-")[1][:12])
        assert step > 0
        words = last_words(lab, trial)
        assert (words["reason"], words["committedStep"]) == ("Terminated", step)

    def test_dead_peer(self, lab: Lab) -> None:
        """With a rank that does not move any more nothing can be saved: 143 within the grace all the same."""
        trial = make_trial(lab, steps=20_000)
        process = lab.start(trial, 2)
        wait_for_line(lab, trial, process, '"event": "step"')
        peer = trainer_of_rank(1, process.pid)
        os.kill(peer, signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        wait_for_line(lab, trial, process, "no step ended after the signal")
        os.kill(peer, signal.SIGKILL)
        assert process.wait() == ExitCode.TERMINATED


class Relay:
    """Passes bytes on to a server, and can be cut: then nobody listens, and open connections end."""

    def __init__(self, endpoint: str) -> None:
        host, _, port = endpoint.removeprefix("http://").partition(":")
        self._server = (host, int(port))
        self._sockets: list[socket.socket] = []
        [self._port] = free_ports(1)
        self.endpoint = f"http://127.0.0.1:{self._port}"
        self.join()

    def join(self) -> None:
        """Listen."""
        listener = socket.create_server(("127.0.0.1", self._port))
        self._sockets = [listener]
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        """Hang up."""
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(self._server)
                self._sockets += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


class TestOutage:
    """The issue: "S3 stopped during training: nothing fails, it waits and goes on"."""

    def test_waits(self, lab: Lab, s3_uri: str, s3_endpoint: str) -> None:
        """A store that is gone in the middle of training is waited for, until it takes the last checkpoint."""
        base = make_trial(lab, steps=4)
        train.run(base)
        relay = Relay(s3_endpoint)
        remote = Lab(lab.folder / "remote", Address(s3_uri, relay.endpoint))
        for entry in list(lab.store.list("")):
            remote.store.put(entry.key, lab.store.get(entry.key))
        start = {"model": {"trial": {"digest": base.digest}}}
        trial = remote.train({make_digest("python"): "1"}, STEPS, start=start)
        process = remote.start(trial)
        wait_for_line(remote, trial, process, '"event": "step"')
        relay.cut()
        wait_for_line(remote, trial, process, "store_retry")
        relay.join()
        assert process.wait() == ExitCode.COMMITTED
        assert len(remote.losses(trial)) == STEPS
        relay.cut()


class TestExitCodes:
    """Codes through the real launcher."""

    @pytest.mark.parametrize("processes", [1, 2])
    def test_config(self, lab: Lab, processes: int) -> None:
        """3 for a spec that cannot be carried out."""
        trial = lab.train({lab.dataset("python"): "1"}, 4, stopTokens="100")
        assert lab.run(trial, processes) == ExitCode.CONFIG

    def test_data(self, lab: Lab) -> None:
        """4 for data that is not there."""
        trial = lab.train({lab.dataset("python"): "1"}, 4)
        lab.store.delete(f"data/{NAMESPACE}/{lab.dataset('python')}/manifest.json")
        assert lab.run(trial, processes=2) == ExitCode.DATA

    def test_killed(self, lab: Lab) -> None:
        """137 when the kernel kills a rank."""
        trial = make_trial(lab, steps=20_000)
        process = lab.start(trial, 2)
        wait_for_line(lab, trial, process, '"event": "step"')
        os.kill(trainer_of_rank(1, process.pid), signal.SIGKILL)
        assert process.wait() == ExitCode.KILLED


def trainer_of_rank(rank: int, launcher: int) -> int:
    """The process that trains, below the one that keeps its output."""
    for pid in descendants(launcher):
        above = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        both = [Path(f"/proc/{p}/environ").read_bytes().split(b"\0") for p in (pid, above)]
        is_trainer = b"train" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if is_trainer and all(f"RANK={rank}".encode() in environment for environment in both):
            return pid
    raise AssertionError(f"no process of rank {rank} below {launcher}")
