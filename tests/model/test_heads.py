"""The heads against the formula as the paper writes it, with every large tensor formed."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.heads import attention_logits, head, pair_logits

LAYERS, HEADS, HIDDEN, OUTPUTS = 3, 4, 20, 13
MAPS = LAYERS * HEADS


def plain_pair_head(q: Tensor, k: Tensor, maps: Tensor, middle: nn.Linear, pred: nn.Linear) -> Tensor:
    """q, k (B, L, hidden), maps (B, L, L, layers * heads) -> (B, L, L, 13)."""
    product = q[:, None, :, :] * k[:, :, None, :]  # (B, i, j, hidden)
    difference = q[:, None, :, :] - k[:, :, None, :]
    mid = F.gelu(middle(torch.cat((product, difference), dim=-1)))
    return pred(torch.cat((mid, maps), dim=-1))


def fast_pair_head(
    q: Tensor, k: Tensor, layers: list[Tensor], middle: nn.Linear, pred: nn.Linear, tile: int | None
) -> Tensor:
    logits = pair_logits(q, k, middle, pred, tile)
    for number, maps in enumerate(layers):
        logits = logits + attention_logits(maps, number, pred)
    return logits.permute(0, 2, 3, 1)


@pytest.fixture
def linears() -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    return nn.Linear(2 * HIDDEN, MAPS), nn.Linear(2 * MAPS, OUTPUTS)


@pytest.mark.parametrize("tile", [None, 1, 4, 100])
@pytest.mark.parametrize("length", [1, 2, 7, 23])
@pytest.mark.parametrize("padding", [0, 3])
def test_equals_plain_form(linears: tuple[nn.Linear, nn.Linear], length: int, padding: int, tile: int | None) -> None:
    middle, pred = linears
    q, k = torch.randn(2, 2, length + padding, HIDDEN).unbind(0)
    layers = [torch.rand(2, HEADS, length + padding, length + padding).softmax(-1) for _ in range(LAYERS)]
    if padding:
        for maps in layers:
            maps[..., length:] = 0
    leaves = [*(x.requires_grad_() for x in (q, k, *layers)), *middle.parameters(), *pred.parameters()]
    wanted = plain_pair_head(q, k, torch.cat(layers, dim=1).permute(0, 2, 3, 1), middle, pred)
    upstream = torch.randn_like(wanted)
    wanted_gradients = torch.autograd.grad(wanted, leaves, upstream)
    got = fast_pair_head(q, k, layers, middle, pred, tile)
    gradients = torch.autograd.grad(got, leaves, upstream)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)
    for ours, theirs in zip(gradients, wanted_gradients, strict=True):
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm()
    with torch.no_grad():  # tiles without recomputation
        torch.testing.assert_close(fast_pair_head(q, k, layers, middle, pred, tile), wanted, rtol=0, atol=1e-5)


def test_pair_head_is_directed(linears: tuple[nn.Linear, nn.Linear]) -> None:
    q, k = torch.randn(2, 1, 5, HIDDEN).unbind(0)
    logits = pair_logits(q, k, *linears)
    assert not torch.allclose(logits, logits.mT, atol=1e-2)


@pytest.mark.parametrize("tile", [None, 8])
def test_large_intermediates_are_not_kept(linears: tuple[nn.Linear, nn.Linear], tile: int | None) -> None:
    """No tensor of (L, L, hidden) is saved for the backward pass; with tiles none of (L, L, channels) either."""
    length, sizes = 64, []
    q, k = (x.requires_grad_() for x in torch.randn(2, 1, length, HIDDEN).unbind(0))
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        pair_logits(q, k, *linears, tile)
    assert max(sizes, default=0) < length * length * (HIDDEN if tile is None else MAPS)


def test_residue_head() -> None:
    torch.manual_seed(0)
    layers = head(HIDDEN, 50, 0.1)
    assert [name for name, _ in layers.named_parameters()] == [
        f"{n}.{p}" for n in (0, 2, 4) for p in ("weight", "bias")
    ]
    assert not layers[0].bias.any()
    assert not layers[4].bias.any()
    x = torch.randn(3, 5, HIDDEN)
    inner = F.gelu(x @ layers[0].weight.T)
    inner = (inner - inner.mean(-1, keepdim=True)) / (inner.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(layers.eval()(x), inner @ layers[4].weight.T, rtol=0, atol=1e-5)
    assert not torch.allclose(layers.train()(x), layers(x))
