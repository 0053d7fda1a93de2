"""What is loaded before the first step: the model classes, and little besides."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpt_trainer.loading import unhurried_collector, unused_compiler
from cpt_trainer.model import FAMILIES


def printed(script: str) -> str:
    """By a process of its own, which has nothing to complain of at its end."""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stderr == ""
    return ended.stdout


@pytest.mark.processes
class TestModels:
    """The classes are those of transformers."""

    def test_nothing_unused(self) -> None:
        """Neither scipy nor accelerate is loaded, for any family; whoever wants them later can have them."""
        script = (
            "import sys\n"
            "from cpt_trainer.loading import model_module\n"
            "from cpt_trainer.model import FAMILIES\n"
            "for family, name in FAMILIES.items():\n"
            "    getattr(model_module(family, 'modeling'), name + 'ForCausalLM')\n"
            "print(sorted({'scipy', 'accelerate'} & sys.modules.keys()))\n"
            "import accelerate, scipy.special\n"
            "print(sorted({'scipy', 'accelerate'} & sys.modules.keys()))"
        )
        assert FAMILIES
        assert printed(script).splitlines() == ["[]", "['accelerate', 'scipy']"]

    def test_what_is_there_stays(self) -> None:
        """Several processes meet by accelerate before they make a model."""
        script = (
            "import sys, accelerate\n"
            "from cpt_trainer.loading import model_module\n"
            "model_module('llama', 'configuration')\n"
            "print(sys.modules['accelerate'] is accelerate)"
        )
        assert printed(script) == "True\n"

    def test_after_transformers(self) -> None:
        """Who has loaded it without us, and let it find accelerate, gets models all the same."""
        script = (
            "import transformers.utils.import_utils as found\n"
            "found.is_accelerate_available()\n"
            "from cpt_trainer.loading import model_module\n"
            "print(model_module('llama', 'modeling').LlamaForCausalLM.__name__)"
        )
        assert printed(script) == "LlamaForCausalLM\n"

    def test_names_of_the_package(self) -> None:
        """What else is written for transformers finds the same classes in it."""
        script = (
            "from cpt_trainer.loading import model_module\n"
            "ours = model_module('llama', 'modeling').LlamaForCausalLM\n"
            "from transformers import AutoModelForCausalLM, LlamaForCausalLM\n"
            "from transformers.models import llama\n"
            "print(LlamaForCausalLM is ours, llama.LlamaForCausalLM is ours)"
        )
        assert printed(script) == "True True\n"


@pytest.mark.parametrize(
    ("device", "want"),
    [
        pytest.param("null", ("triton",), id="none"),
        pytest.param("nvme0", ("triton",), id="a disk"),
        pytest.param("nvidiactl", (), id="NVIDIA"),
        pytest.param("kfd", (), id="AMD"),
    ],
)
def test_compiler(tmp_path: Path, device: str, want: tuple[str, ...]) -> None:
    """The one for GPUs is loaded where there is one."""
    (tmp_path / device).touch()
    assert unused_compiler(tmp_path) == want


class TestCollector:
    """It waits while much is loaded."""

    @pytest.fixture(autouse=True)
    def as_it_was(self) -> Iterator[None]:
        yield
        gc.enable()
        gc.unfreeze()

    def test_waits(self) -> None:
        """And goes on after it, without what was loaded."""
        with unhurried_collector():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0

    def test_stays_off(self) -> None:
        """Where somebody had turned it off."""
        gc.disable()
        with unhurried_collector():
            pass
        assert not gc.isenabled()

    def test_goes_on_after_an_error(self) -> None:
        """A verb that cannot be imported changes nothing."""
        with pytest.raises(ImportError), unhurried_collector():
            raise ImportError
        assert gc.isenabled()
