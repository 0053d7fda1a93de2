"""Cross-entropy: chunked as plain, as a sum, in fp32."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from cpt_trainer.loss import IGNORED, token_losses_BT

B, T, D, V = 2, 12, 8, 50


@pytest.fixture
def tensors() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states, a head, and targets of which some count nothing."""
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(B, T, D, generator=generator, requires_grad=True)
    head = torch.randn(V, D, generator=generator, requires_grad=True)
    targets = torch.randint(0, V, (B, T), generator=generator)
    targets[0, 3] = targets[1, 7:] = IGNORED
    return hidden, head, targets


def test_plain(tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    """It is torch's cross-entropy, and 0 where the target is ignored."""
    hidden, head, targets = tensors
    nats = token_losses_BT(hidden, head, targets)
    want = functional.cross_entropy(
        functional.linear(hidden, head).flatten(0, 1), targets.flatten(), ignore_index=IGNORED
    )
    assert (nats.sum() / (targets != IGNORED).sum()).item() == pytest.approx(want.item())
    assert (nats[targets == IGNORED] == 0).all()


@pytest.mark.parametrize("rows", [1, 5, 23])
def test_chunked(tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor], rows: int) -> None:
    """In runs of tokens it gives the same values and gradients."""
    hidden, head, targets = tensors
    results = []
    for chunk_bytes in (2**30, rows * 4 * V):
        nats = token_losses_BT(hidden, head, targets, chunk_bytes)
        results.append((nats, *torch.autograd.grad(nats.sum(), (hidden, head))))
    for plain, chunked in zip(*results, strict=True):
        torch.testing.assert_close(chunked, plain, rtol=1e-5, atol=1e-6)


def test_bfloat16(tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    """With bf16 inputs the loss itself is fp32."""
    hidden, head, targets = tensors
    assert token_losses_BT(hidden.bfloat16(), head.bfloat16(), targets).dtype == torch.float32


def test_ignored_garbage(tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    """What an ignored position holds counts nothing, not even where it is no number."""
    hidden, head, targets = tensors
    spoiled = hidden.detach().clone()
    spoiled[targets == IGNORED] = torch.nan
    assert torch.equal(token_losses_BT(spoiled, head, targets), token_losses_BT(hidden, head, targets))


def test_one_buffer(tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    """The gradient takes the place of the logits, so a second backward pass is refused, not wrong."""
    hidden, head, targets = tensors
    loss = token_losses_BT(hidden, head, targets).sum()
    loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()  # type: ignore[no-untyped-call]
