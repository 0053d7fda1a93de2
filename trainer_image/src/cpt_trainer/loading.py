"""Importing torch and transformers, nearly all of the time to a trial's first step, without what nobody here uses.

    verb_module("train").run                              no collection among 470,000 objects, none of which is garbage
    model_module("llama", "modeling").LlamaForCausalLM    as in transformers, without scipy and 600 more modules

torch takes along triton, its compiler for GPUs, where there is none; transformers what it finds installed: scipy for
the losses of object detectors, and accelerate with its command line. None in `sys.modules` is Python's own way to say
that a module cannot be imported, and both do without then. The package `transformers.models` reads the source of 1,700
files, to list all models by name; who imports the modules of one model needs no list, so the package never runs.

Price: a quarter of the time to the first step is saved. Within a process torch and transformers believe for good that
these are not installed, where nothing had imported them before.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

_MODELS = "transformers.models"
_UNUSED = ("scipy", "accelerate")
"""By the model classes; where several processes meet, accelerate is there before them."""
_COMPILER = "triton"
_DRIVERS = ("nvidia*", "nvhost*", "kfd", "dxg")
"""Devices of NVIDIA's GPUs, large and small, of AMD's, and of Windows' Linux: without any of them torch finds none."""

atexit.register(gc.unfreeze)  # else libraries see their objects alive to the very end, and complain of leaks


@contextmanager
def unhurried_collector() -> Iterator[None]:
    """Python's collector of cycles waits, and never looks at what was loaded."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


def verb_module(verb: str) -> ModuleType:
    """What carries it out."""
    with unhurried_collector(), _without(unused_compiler()):
        return importlib.import_module(f"cpt_trainer.{verb}")


def model_module(family: str, kind: str) -> ModuleType:
    """`configuration` or `modeling` of a family of models."""
    # who has loaded transformers has let it look: what it found then must stay
    hidden = () if "transformers" in sys.modules else (*_UNUSED, *unused_compiler())
    with unhurried_collector(), _without(hidden):
        if _MODELS not in sys.modules and (spec := importlib.util.find_spec(_MODELS)):
            sys.modules[_MODELS] = importlib.util.module_from_spec(spec)
        return importlib.import_module(f"{_MODELS}.{family}.{kind}_{family}")


def unused_compiler(devices: Path = Path("/dev")) -> tuple[str, ...]:
    """triton, where there is no GPU; torch for CPUs comes without it, too."""
    return () if any(any(devices.glob(pattern)) for pattern in _DRIVERS) else (_COMPILER,)


@contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    """These cannot be imported, unless somebody has."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is what the import system looks for
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
