"""Every family, tied and untied: our model is transformers' model, and documents do not see each other."""

from __future__ import annotations

import importlib
import json
from typing import Any

import numpy as np
import pytest
import torch

from cpt_api.trial import Precision, Resources
from cpt_trainer.batches import make_batch
from cpt_trainer.errors import ConfigError, DataError
from cpt_trainer.loss import IGNORED
from cpt_trainer.model import FAMILIES, Trainee, initialise, make, read_config, require_document_masks
from cpt_trainer.parallel import parallelise
from cpt_trainer.peers import Alone
from cpt_trainer.process import Process, threads_for
from cpt_trainer.state import tensors_of
from trainer_image.kit import CONFIG, VOCABULARY

ALONE = Process(0, 1, torch.device("cpu"), 1, Alone())


def config_of(family: str, **changes: Any) -> Any:
    """A tiny configuration."""
    return read_config({"config.json": json.dumps(CONFIG | {"model_type": family} | changes).encode()})


def make_trainee(family: str, *, tied: bool = True, **changes: Any) -> Trainee:
    """With random weights."""
    config = config_of(family, tie_word_embeddings=tied, **changes)
    trainee = Trainee(make(config, ALONE.device))
    parallelise(trainee, config, ALONE, Precision.FLOAT32)
    initialise(trainee.lm, seed=1)
    return trainee


def rows(*documents: int, seed: int = 0) -> Any:
    """A row of tokens with documents of those lengths, each ended by EOS (0)."""
    tokens = np.random.default_rng(seed).integers(1, VOCABULARY, sum(documents) + 1)
    tokens[np.cumsum(documents) - 1] = 0
    return tokens[None]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_parity(family: str, tied: bool) -> None:
    """Losses are those of a model that transformers itself made, with the same weights."""
    trainee = make_trainee(family, tied=tied)
    module = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    peer = getattr(module, f"{FAMILIES[family]}ForCausalLM")(config_of(family, tie_word_embeddings=tied))
    peer.load_state_dict(trainee.lm.state_dict())
    batch, _ = make_batch(rows(24), np.array([-1]))
    with torch.no_grad():
        ours = trainee(batch).mean().item()
        theirs = peer(input_ids=batch.tokens_BT, labels=batch.tokens_BT, shift_labels=batch.targets_BT).loss.item()
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert len(tensors_of(trainee.lm)) == len({id(p) for p in peer.parameters()})


WINDOWS = [
    pytest.param("mistral", {"sliding_window": 4}, id="mistral with a window"),
    pytest.param(
        "qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}, id="qwen2, some layers"
    ),
    pytest.param(
        "qwen3", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}, id="qwen3, all layers"
    ),
]
"""Tokens see but a few before them."""


@pytest.mark.parametrize(("family", "changes"), WINDOWS)
def test_windows(family: str, changes: dict[str, Any]) -> None:
    """They are there: without them the losses are others."""
    batch, _ = make_batch(rows(10), np.array([-1]))
    with torch.no_grad():
        narrow, wide = make_trainee(family, **changes)(batch), make_trainee(family)(batch)
    assert torch.equal(narrow[0, :4], wide[0, :4])
    assert not torch.isclose(narrow[0, 6:], wide[0, 6:]).any()


@pytest.mark.parametrize(("family", "changes"), [*(pytest.param(f, {}, id=f) for f in FAMILIES), *WINDOWS])
def test_documents(family: str, changes: dict[str, Any]) -> None:
    """Documents in one row cost what they cost alone."""
    trainee = make_trainee(family, **changes)
    tokens = rows(10, 7, 8)
    with torch.no_grad():
        together = trainee(make_batch(tokens, np.array([0]))[0])[0]
        parts = [tokens[:, a : b + 1] for a, b in ((0, 10), (10, 17), (17, 25))]
        alone = torch.cat([trainee(make_batch(part, np.array([0]))[0])[0] for part in parts])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_a_flattened_model_passes_the_gate() -> None:
    """One that a far too high rate has made deaf leaks nothing between documents: it is scored, and loses."""
    trainee = make_trainee("llama")
    with torch.no_grad():
        for tensor in trainee.lm.parameters():
            tensor.zero_()
    require_document_masks(trainee, ALONE)


def test_gate_of_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attention that ignores the mask is found at the start."""
    trainee = make_trainee("llama")
    require_document_masks(trainee, ALONE)
    hidden = Trainee.hidden_BTD

    def blind(self: Trainee, batch: Any) -> torch.Tensor:
        mask = torch.ones_like(batch.mask_B1TT).tril()
        return hidden(self, type(batch)(batch.tokens_BT, batch.targets_BT, batch.positions_BT, mask))

    monkeypatch.setattr(Trainee, "hidden_BTD", blind)
    with pytest.raises(ConfigError, match="does not keep documents apart"):
        require_document_masks(trainee, ALONE)


class TestBatch:
    """Tokens with targets, positions and documents."""

    def test_documents(self) -> None:
        """Positions begin anew after EOS, and nothing is predicted from EOS."""
        batch, pairs = make_batch(np.array([[5, 6, 0, 7, 8, 9]]), np.array([0]))
        assert batch.positions_BT.tolist() == [[0, 1, 2, 0, 1]]
        assert batch.targets_BT.tolist() == [[6, 0, IGNORED, 8, 9]]
        assert batch.mask_B1TT is not None
        assert batch.mask_B1TT[0, 0].int().tolist() == [
            [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]
        ]  # fmt: skip
        assert pairs.tolist() == [1 + 2 + 3 + 1 + 2]

    def test_one_document(self) -> None:
        """Where each row is one document no mask is needed, also when it ends with the row."""
        batch, _ = make_batch(np.array([[5, 6, 7, 0], [5, 6, 7, 8]]), np.array([0, 0]))
        assert batch.mask_B1TT is None

    def test_unmasked(self) -> None:
        """Without document masks all count, and all see what was before."""
        batch, pairs = make_batch(np.array([[5, 0, 7, 8]]), np.array([-1]))
        assert (batch.mask_B1TT, batch.positions_BT.tolist(), pairs.tolist()) == (None, [[0, 1, 2]], [6])
        assert batch.targets_BT.tolist() == [[0, 7, 8]]


class TestWeights:
    """Random weights."""

    def test_seed(self) -> None:
        """They follow from the seed and the name alone."""
        first, again = (tensors_of(make_trainee("llama").lm) for _ in range(2))
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert not torch.equal(first["model.layers.0.mlp.up_proj.weight"], first["model.layers.1.mlp.up_proj.weight"])

    def test_deviation(self) -> None:
        """Matrices have the deviation that the configuration names, norms are one."""
        tensors = tensors_of(make_trainee("llama").lm)
        assert tensors["model.embed_tokens.weight"].std().item() == pytest.approx(0.02, rel=0.05)
        assert (tensors["model.norm.weight"] == 1).all()


@pytest.mark.parametrize(
    ("config", "error", "words"),
    [
        pytest.param({"model_type": "gemma3"}, ConfigError, "expected one of llama", id="family"),
        pytest.param({"attention_dropout": 0.1}, ConfigError, "repeatable", id="dropout"),
        pytest.param({"model_type": None}, ConfigError, "expected one of", id="none"),
    ],
)
def test_refused(config: dict[str, Any], error: type[Exception], words: str) -> None:
    """What we cannot train is refused by name."""
    with pytest.raises(error, match=words):
        read_config({"config.json": json.dumps(CONFIG | config).encode()})


def test_no_config() -> None:
    """A config.json that is none is said to be none."""
    with pytest.raises(DataError, match=r"no readable config\.json"):
        read_config({"config.json": b"[]"})


@pytest.mark.parametrize(
    ("resources", "is_set", "threads"),
    [
        ({}, False, None),
        ({"cpu": "900m"}, False, 1),
        ({"cpu": "2"}, False, 2),
        ({"cpu": "2500m"}, False, 3),
        ({"cpu": "4", "processesPerNode": 2}, False, 2),
        ({"cpu": "8"}, True, None),
        ({"cpu": "8", "gpusPerNode": 1}, False, None),
    ],
)
def test_threads(resources: dict[str, Any], is_set: bool, threads: int | None) -> None:
    """A process has its part of the CPUs that its pod asks for; OMP_NUM_THREADS counts more."""
    assert threads_for(Resources.model_validate(resources), is_set) == threads
