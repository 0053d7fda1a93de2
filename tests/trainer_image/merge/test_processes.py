"""Merging as a process of its own: killed at any moment, and watched for what it holds in memory."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cpt_api.result import CheckpointRef
from cpt_api.values import Digest, Tokens
from cpt_trainer.base import MODEL, keep_files
from cpt_trainer.manifest import BLOCK_BYTES, At, Kind, Manifest, ObjectEntry, Role, TensorEntry, manifest_key
from cpt_trainer.sources import list_files
from cpt_trainer.store import Address, Store, open_address
from cpt_trainer.trial import Trial, commit_result
from cpt_trainer.weights import INDEX, SINGLE, layout
from trainer_image.kit import CONFIG, Lab, tokenizer

pytestmark = pytest.mark.processes

MEMORY_MAX_BYTES = 200 * 10**6
"""Of a merge of any size."""
ROWS, COLUMNS, LAYERS = 4096, 4096, 8
"""134 million values, 256 MiB in bf16: who loads two such models and their mean holds 768 MiB."""

CHILD = """
import json, os, re, signal, sys
from pathlib import Path
from cpt_api.trial import TrialDocument
from cpt_trainer import merge
from cpt_trainer.store import Address, open_address
from cpt_trainer.trial import Trial

file, address, shard_bytes, killed_at = sys.argv[1:]
store = open_address(Address(**json.loads(address)))
seen = 0

def dying(chunks):
    global seen
    for chunk in chunks:
        seen += 1
        if seen == int(killed_at):
            os.kill(os.getpid(), signal.SIGKILL)
        yield chunk

put_stream = store.put_stream
store.put_stream = lambda key, chunks: put_stream(key, dying(chunks))
merge.run(Trial(TrialDocument.model_validate_json(Path(file).read_text()), store), int(shard_bytes))
assert "torch" not in sys.modules
peak = int(re.search("VmHWM: *(.*) kB", Path("/proc/self/status").read_text())[1]) * 1024
print(json.dumps({"peakBytes": peak, "chunks": seen}))
"""
"""An attempt that kills itself where it hands over the n-th piece of a shard, and else says what it needed."""


@dataclass(frozen=True)
class Child:
    """How it ended."""

    code: int
    said: dict[str, int]


def merged(lab: Lab, trial: Trial, shard_bytes: int, killed_at: int = 0) -> Child:
    """An attempt as a process."""
    file = lab.folder / "merge.json"
    file.write_text(json.dumps(trial.document.to_dict()))
    address = lab.address
    known = json.dumps({"uri": address.uri, "endpoint": address.endpoint, "sources": address.sources})
    words = [sys.executable, "-c", CHILD, str(file), known, str(shard_bytes), str(killed_at)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return Child(done.returncode, json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {})


@pytest.fixture(params=["folder", "s3"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Lab:
    """An empty store of either kind."""
    if request.param == "folder":
        return Lab(tmp_path)
    return Lab(tmp_path, Address(request.getfixturevalue("s3_uri"), request.getfixturevalue("s3_endpoint")))


def sources(lab: Lab) -> tuple[str, Store]:
    """The address that models of users lie below, and the store behind it."""
    if lab.elsewhere is None:
        return "s3://corpora", open_address(Address(str(lab.folder / "sources")))
    uri = f"{lab.elsewhere.uri}/corpora"
    return uri, open_address(Address(uri, lab.elsewhere.endpoint))


def shapes(layers: int, rows: int, columns: int) -> list[tuple[str, tuple[int, ...]]]:
    """Of a synthetic model."""
    return [(f"model.layers.{n}.mlp.up_proj.weight", (rows, columns)) for n in range(layers)]


def files_of_a_model() -> dict[str, bytes]:
    """Config and tokenizer."""
    return {"config.json": json.dumps(CONFIG).encode(), "tokenizer.json": tokenizer().to_str().encode()}


def model(lab: Lab, name: str, named: Sequence[tuple[str, tuple[int, ...]]], seed: int | None) -> dict[str, Any]:
    """A user's bf16 model, of random values or of zeros; a ModelRef."""
    uri, store = sources(lab)
    for file, data in files_of_a_model().items():
        store.put(f"{name}/{file}", data)
    path = lab.folder / f"{name}.safetensors"
    head, starts = layout([(tensor, "BF16", shape) for tensor, shape in named])
    with path.open("wb") as out:
        out.write(head)
        if seed is not None:
            values = np.random.default_rng(seed).normal(size=(starts[-1] - len(head)) // 2).astype("<f4")
            out.write((values.view("<u4") >> 16).astype("<u2").tobytes())
        out.truncate(starts[-1])
    store.put_file(f"{name}/{SINGLE}", path)
    path.unlink()
    return {"source": {"uri": f"{uri}/{name}", "digest": list_files(lab.store, f"{uri}/{name}").digest}}


def end_of_a_run(lab: Lab, named: Sequence[tuple[str, tuple[int, ...]]]) -> Digest:
    """A Train trial with a checkpoint of fp32 zeros, in blocks that are verified."""
    trial = lab.train({lab.dataset("python"): "1"}, 1, start={"segment": {"digest": "0" * 64}})
    head, starts = layout([(tensor, "F32", shape) for tensor, shape in named])
    path = lab.folder / "rank-0"
    with path.open("wb") as out:
        out.write(head)
        out.truncate(starts[-1])
    key = manifest_key(f"{trial.data}checkpoints/", 1)
    folder = key.rpartition("/")[0]
    trial.store.put_file(f"{folder}/w/rank-0", path)
    first, zeros = head.ljust(BLOCK_BYTES, b"\0"), bytes(BLOCK_BYTES)
    sizes = [BLOCK_BYTES] * (starts[-1] // BLOCK_BYTES) + [starts[-1] % BLOCK_BYTES]
    blocks = [hashlib.sha256((first if n == 0 else zeros)[:size]).hexdigest() for n, size in enumerate(sizes) if size]
    entries = {
        tensor: TensorEntry(dtype="F32", shape=shape, pieces=((0, shape[0], 0, start),))
        for (tensor, shape), start in zip(named, starts, strict=False)
    }
    manifest = Manifest(
        digest=trial.digest,
        kind=Kind.FINAL,
        resumable=False,
        at=At(step=1, samples=1, tokens=Tokens(1), order=trial.digest),
        optimizer_steps=1,
        world_size=1,
        attempt=1,
        writer="w",
        objects=(ObjectEntry(key="w/rank-0", bytes=starts[-1], blocks=tuple(map(Digest, blocks))),),
        tensors={Role.WEIGHTS: entries},
    )
    trial.store.put(key, json.dumps(manifest.to_dict()).encode())
    keep_files(trial, MODEL, files_of_a_model())
    reference = CheckpointRef(manifest=key.removeprefix(trial.data), step=1, tokens=Tokens(1))
    commit_result(trial, checkpoint=reference)
    return trial.digest


class TestKilled:
    """SIGKILL in the middle of a shard, again and again."""

    def test_resumed(self, lab: Lab) -> None:
        """Nothing that was written is lost, no model is there before it is whole, and the bytes are the same."""
        named = shapes(6, 64, 128)
        models = [model(lab, f"m{n}", named, seed=n) for n in range(2)]
        trial = lab.merge(*({"model": one, "weight": "0.5"} for one in models))
        untouched = lab.merge(*({"model": one, "weight": "0.5"} for one in models), base=models[0])
        assert merged(lab, untouched, shard_bytes=40_000).said["chunks"] == 9  # three files: head and two tensors each
        for chunk in (1, 3, 4, 3, 4):  # of this attempt; each shard is three
            assert merged(lab, trial, shard_bytes=40_000, killed_at=chunk).code == -signal.SIGKILL
            assert not any(entry.key.endswith(INDEX) for entry in lab.store.list(trial.data))
        last = merged(lab, trial, shard_bytes=40_000)
        assert (last.code, last.said["chunks"]) == (0, 3)
        outputs = lab.result(trial).outputs
        assert outputs == lab.result(untouched).outputs
        for output in outputs:
            assert hashlib.sha256(lab.store.get(trial.data + output.key)).hexdigest() == output.sha256


class TestMemory:
    """What is held does not depend on the size of the models."""

    def test_files(self, lab: Lab) -> None:
        """Two models of 256 MiB, and their mean."""
        named = shapes(LAYERS, ROWS, COLUMNS)
        models = [model(lab, f"m{n}", named, seed=None) for n in range(2)]
        trial = lab.merge(*({"model": one, "weight": "0.5"} for one in models))
        assert merged(lab, trial, shard_bytes=2**27).said["peakBytes"] <= MEMORY_MAX_BYTES

    def test_checkpoint(self, lab: Lab) -> None:
        """Two ends of runs, whose every byte is verified as it is read: 512 MiB each."""
        end = end_of_a_run(lab, shapes(LAYERS, ROWS, COLUMNS))
        trial = lab.merge(*({"segment": {"digest": end}, "weight": "0.5"} for _ in range(2)))
        assert merged(lab, trial, shard_bytes=2**27).said["peakBytes"] <= MEMORY_MAX_BYTES
