"""Between torch and checkpoints: which rows of which tensors this rank holds, copied out and read in.

`fully_shard` cuts every parameter along dimension 0 into as equal runs of rows as it can; a rank may hold none:

    10 rows on 4 ranks: rows 0..3, 3..6, 6..9, 9..10          2 rows on 4 ranks: 0..1, 1..2, nothing, nothing

Names are those of the model that was passed, without the wrappers of compile and activation checkpointing; a tied
tensor appears once. What a plain (not sharded) model holds is the same on all ranks: rank 0 writes it.

Price: a load holds, besides the model, at most eight tensors' local rows.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from cpt_trainer.errors import DataError
from cpt_trainer.manifest import Checkpoint, Role
from cpt_trainer.weights import Readable, layout

_READERS = 8
_WRAPPERS = ("_orig_mod.", "_checkpoint_wrapped_module.")
TYPES: Mapping[torch.dtype, str] = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True, slots=True)
class Shard:
    """The rows of one tensor that this rank has to write."""

    name: str
    shape: tuple[int, ...]
    """Of the whole tensor."""
    row: int
    """The first one; 0 for a scalar."""
    local: torch.Tensor


@dataclass(frozen=True, slots=True)
class State:
    """All that this rank has to write."""

    shards: Mapping[Role, Sequence[Shard]]
    optimizer_steps: int
    resumable: bool
    """Whether the optimizer is part of it."""


def state_of(model: torch.nn.Module, optimizer: torch.optim.Optimizer | None, rank: int = 0) -> State:
    """What this rank has to write of a model and, where it shall be resumable, its AdamW."""
    named = tensors_of(model)
    moments = {Role.EXP_AVG: "exp_avg", Role.EXP_AVG_SQ: "exp_avg_sq"}
    shards = {Role.WEIGHTS: _shards(named.items(), rank)}
    if optimizer is None:
        return State(shards, 0, resumable=False)
    states = {name: optimizer.state[tensor] for name, tensor in named.items() if tensor in optimizer.state}
    steps = {int(state["step"]) for state in states.values()}
    assert len(steps) <= 1, f"all parameters take part in each step, found step counts {steps}"
    for role, key in moments.items():
        shards[role] = _shards(((name, state[key]) for name, state in states.items()), rank)
    return State(shards, max(steps, default=0), resumable=True)


def tensors_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and the buffers that belong into a checkpoint, each once, by the model's own names."""
    kept = {_plain(name) for name in model.state_dict()}
    found: dict[str, torch.Tensor] = {_plain(name): parameter for name, parameter in model.named_parameters()}
    buffers = {_plain(name): buffer for name, buffer in model.named_buffers()}
    return found | {name: buffer for name, buffer in buffers.items() if name in kept}


def load_into(model: torch.nn.Module, optimizer: torch.optim.Optimizer | None, checkpoint: Checkpoint) -> None:
    """Read this rank's rows of a checkpoint, with the optimizer's state where one is given."""
    named = tensors_of(model)
    _fill(named, checkpoint.tensors())
    if optimizer is None:
        return
    if not checkpoint.manifest.resumable:
        raise DataError(f"{checkpoint.key} has no optimizer state, so no run can go on from it")
    optimizer.state.clear()
    steps = checkpoint.manifest.optimizer_steps
    if steps == 0:
        return
    moments: dict[Role, dict[str, torch.Tensor]] = {Role.EXP_AVG: {}, Role.EXP_AVG_SQ: {}}
    names = {tensor: name for name, tensor in named.items()}
    for group in optimizer.param_groups:
        on_device = bool(group.get("fused") or group.get("capturable"))  # where AdamW itself would put it
        for parameter in group["params"]:
            first, second = torch.zeros_like(parameter.detach()), torch.zeros_like(parameter.detach())
            step = torch.tensor(float(steps), device=parameter.device if on_device else "cpu")
            optimizer.state[parameter] = {"step": step, "exp_avg": first, "exp_avg_sq": second}
            moments[Role.EXP_AVG][names[parameter]] = first
            moments[Role.EXP_AVG_SQ][names[parameter]] = second
    for role, tensors in moments.items():
        _fill(tensors, checkpoint.tensors(role))


def load_weights(model: torch.nn.Module, weights: Readable) -> None:
    """Read this rank's rows of a base in Hugging Face layout, converted to the model's types."""
    aliases: dict[torch.Tensor, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        aliases.setdefault(parameter, []).append(_plain(name))
    wanted = {}
    for name, tensor in tensors_of(model).items():
        known = [alias for alias in aliases.get(tensor, [name]) if alias in weights.tensors]
        wanted[known[0] if known else name] = tensor
    tied = {alias for names in aliases.values() for alias in names}
    extra = {name for name in weights.tensors if name in tied or name.endswith("rotary_emb.inv_freq")}
    _fill(wanted, weights, ignored=extra, convert=True)


def _plain(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def local_rows(tensor: torch.Tensor) -> tuple[int, torch.Tensor]:
    """First row, and the rows that this rank holds."""
    if not isinstance(tensor, DTensor):
        return 0, tensor.detach()
    shape, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    if shape[1:] != tuple(tensor.shape[1:]):
        raise DataError(f"a tensor of shape {list(tensor.shape)} is cut along another dimension than 0: {offset}")
    return offset[0] if offset else 0, tensor.to_local().detach()


def _is_mine(tensor: torch.Tensor, rank: int) -> bool:
    """Of several ranks that hold the same rows, the first one writes them."""
    if not isinstance(tensor, DTensor):
        return rank == 0
    place = tensor.device_mesh.get_coordinate() or ()
    return all(at == 0 for at, how in zip(place, tensor.placements, strict=True) if how.is_replicate())


def _shards(named: Iterable[tuple[str, torch.Tensor]], rank: int) -> list[Shard]:
    shards = []
    for name, tensor in named:
        row, local = local_rows(tensor)
        if _is_mine(tensor, rank) and local.numel() > 0:
            shards.append(Shard(name, tuple(tensor.shape), row, local))
    return shards


def _fill(
    named: Mapping[str, torch.Tensor], weights: Readable, ignored: Iterable[str] = (), *, convert: bool = False
) -> None:
    """Read every tensor's local rows, after names, shapes and types were found to be as they should."""
    have, want = set(weights.tensors) - set(ignored), set(named)
    have |= want & set(weights.tensors)
    if have != want:
        raise DataError(
            f"the weights are not those of this model: {len(want - have)} tensors are missing, such as "
            f"{sorted(want - have)[:3]}, {len(have - want)} are unknown, such as {sorted(have - want)[:3]}"
        )
    for name, tensor in named.items():
        info = weights.tensors[name]
        if info.shape != tuple(tensor.shape) or (info.dtype != TYPES[tensor.dtype] and not convert):
            raise DataError(
                f"tensor {name}: the weights have {info.dtype} of shape {list(info.shape)}, the model "
                f"{TYPES[tensor.dtype]} of shape {list(tensor.shape)}"
            )
    types = {name: dtype for dtype, name in TYPES.items()}

    def read(item: tuple[str, torch.Tensor]) -> None:
        name, tensor = item
        row, local = local_rows(tensor)
        if local.numel() == 0:
            return
        array = weights.read(name, (row, row + local.shape[0]) if local.dim() else None)
        local.copy_(torch.from_numpy(array).view(types[weights.tensors[name].dtype]))

    with ThreadPoolExecutor(_READERS, thread_name_prefix="weights") as pool:
        for _ in pool.map(read, named.items()):
            pass


# --- staging --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Staged:
    """A safetensors file in anonymous memory, with the shards it holds."""

    role: Role
    shards: Sequence[tuple[str, str, tuple[int, ...], int, int, int]]
    """Name, type, shape of the whole, first row, rows, first byte in the file."""
    file: int
    """Its descriptor."""
    bytes: int

    @property
    def path(self) -> Path:
        """By which any process of this user opens it."""
        return Path(f"/proc/{os.getpid()}/fd/{self.file}")

    def close(self) -> None:
        """Give the memory back."""
        os.close(self.file)


def stage(state: State) -> list[Staged]:
    """Copy what this rank has to write, so that training may go on."""
    return [_stage(role, shards) for role, shards in state.shards.items() if shards]


def _stage(role: Role, shards: Sequence[Shard]) -> Staged:
    head, starts = layout([(s.name, TYPES[s.local.dtype], tuple(s.local.shape)) for s in shards])
    file = os.memfd_create(f"checkpoint-{role}")
    os.ftruncate(file, starts[-1])
    with mmap.mmap(file, starts[-1]) as memory:
        memory[: len(head)] = head
        for shard, start in zip(shards, starts, strict=False):
            _copy(shard.local, memory, start)
    table = [
        (s.name, TYPES[s.local.dtype], s.shape, s.row, s.local.shape[0] if s.shape else 1, start)
        for s, start in zip(shards, starts, strict=False)
    ]
    return Staged(role, table, file, starts[-1])


def _copy(local: torch.Tensor, memory: mmap.mmap, start: int) -> None:
    target = torch.frombuffer(memory, dtype=local.dtype, count=math.prod(local.shape), offset=start)
    target.view(local.shape).copy_(local)
