"""The heads against the formula as the paper writes it, with every large tensor formed."""

import gc
import weakref

import pytest
import torch
from plain_dance import plain_pair_head
from torch import Tensor, nn

from model.network import pair_head
from model.network.pair_head import attention_logits, attention_weight, pair_logits

LAYERS, HEADS, HIDDEN, OUTPUTS = 3, 4, 20, 13
MAPS = LAYERS * HEADS


@pytest.fixture(params=[1, 2_000, 2**23], ids=["one row", "some rows", "all rows"])
def tile(request, monkeypatch) -> int:
    """Most numbers of a tile."""
    monkeypatch.setattr(pair_head, "CPU_TILE", request.param)
    return request.param


def plain(q: Tensor, k: Tensor, layers: list[Tensor], middle: nn.Linear, pred: nn.Linear) -> Tensor:
    maps = torch.cat(layers, dim=1).permute(0, 2, 3, 1)  # (B, L, L, layers * heads)
    parameters = ((linear.weight, linear.bias) for linear in (middle, pred))
    return plain_pair_head(q, k, maps, *parameters).permute(0, 3, 1, 2)


def fast(q: Tensor, k: Tensor, layers: list[Tensor], middle: nn.Linear, pred: nn.Linear) -> Tensor:
    logits = pair_logits(q, k, middle, pred)
    for number, maps in enumerate(layers):
        logits = logits + attention_logits(maps, attention_weight(pred, number, HEADS))
    return logits


@pytest.fixture
def linears() -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    return nn.Linear(2 * HIDDEN, MAPS), nn.Linear(2 * MAPS, OUTPUTS)


@pytest.mark.parametrize(("length", "padding"), [(1, 0), (2, 0), (7, 3), (23, 0), (65, 3), (130, 0)])
def test_equals_plain_form(linears: tuple[nn.Linear, nn.Linear], length: int, padding: int, tile: int) -> None:
    """Forward to 1e-5, gradients to 1e-4."""
    q, k = torch.randn(2, 2, length + padding, HIDDEN).unbind(0)
    layers = [torch.rand(2, HEADS, length + padding, length + padding).softmax(-1) for _ in range(LAYERS)]
    if padding:
        for maps in layers:
            maps[..., length:] = 0
    parameters = [*linears[0].parameters(), *linears[1].parameters()]
    leaves = [*(x.requires_grad_() for x in (q, k, *layers)), *parameters]
    wanted = plain(q, k, layers, *linears)
    upstream = torch.randn_like(wanted)
    wanted_gradients = torch.autograd.grad(wanted, leaves, upstream)
    got = fast(q, k, layers, *linears)
    gradients = torch.autograd.grad(got, leaves, upstream)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)
    for ours, theirs in zip(gradients, wanted_gradients, strict=True):
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm()
    with torch.no_grad():
        torch.testing.assert_close(fast(q, k, layers, *linears), wanted, rtol=0, atol=1e-5)


def test_gradients_are_those_of_differences(monkeypatch) -> None:
    """First and second derivatives."""
    monkeypatch.setattr(pair_head, "CPU_TILE", 2 * 2 * 4 * (5 + 3))  # two rows
    torch.manual_seed(0)
    middle, pred = nn.Linear(6, 4).double(), nn.Linear(8, 2).double()
    q, k = torch.randn(2, 2, 5, 3, dtype=torch.float64).requires_grad_().unbind(0)
    inputs = (q, k, *middle.parameters(), *pred.parameters())
    assert torch.autograd.gradcheck(lambda q, k, *_: pair_logits(q, k, middle, pred), inputs)
    assert torch.autograd.gradgradcheck(lambda q, k: pair_logits(q, k, middle, pred), (q, k))


@pytest.mark.parametrize("kept", [False, True])
def test_large_intermediates_are_not_kept(linears: tuple[nn.Linear, nn.Linear], kept: bool, monkeypatch) -> None:
    """The backward pass finds nothing of the size L^2, or the middle layer."""
    length = 64
    monkeypatch.setattr(pair_head, "CPU_KEPT", length**2 * MAPS - (not kept))
    q, k = (x.requires_grad_() for x in torch.randn(2, 1, length, HIDDEN).unbind(0))
    found, middle = [], pair_head._middle
    monkeypatch.setattr(pair_head, "_middle", lambda *inputs: found.append(weakref.ref(y := middle(*inputs))) or y)
    logits = pair_logits(q, k, *linears)
    gc.collect()
    assert (found[0]() is not None) == kept
    logits.sum().backward()


def test_attention_term_keeps_only_the_maps(linears: tuple[nn.Linear, nn.Linear]) -> None:
    sizes: list[int] = []
    maps = torch.rand(2, HEADS, 9, 9)  # of a frozen encoder
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.data_ptr()) or x, lambda x: x):
        attention_logits(maps, attention_weight(linears[1], 1, HEADS))
    assert sizes == [maps.data_ptr()]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(linears: tuple[nn.Linear, nn.Linear], dtype: torch.dtype, tile: int) -> None:
    """q and k come in the type of autocast; logits are float32, gradients have the type of what they belong to."""
    q, k = (x.to(dtype).requires_grad_() for x in torch.randn(2, 2, 37, HIDDEN).unbind(0))
    parameters = [*linears[0].parameters(), *linears[1].parameters()]
    zero = [torch.zeros(2, HEADS, 37, 37) for _ in range(LAYERS)]
    exact = [x.detach().float().requires_grad_() for x in (q, k)]
    wanted = plain(*exact, zero, *linears)
    upstream = torch.randn_like(wanted)
    with torch.autocast("cpu", dtype):
        got = pair_logits(q, k, *linears)
    assert got.dtype == torch.float32
    step = torch.finfo(dtype).eps
    assert (got - wanted).norm() <= step * wanted.norm()
    wanted_gradients = torch.autograd.grad(wanted, [*exact, *parameters], upstream)
    gradients = torch.autograd.grad(got, [q, k, *parameters], upstream)
    for leaf, ours, theirs in zip([q, k, *parameters], gradients, wanted_gradients, strict=True):
        assert ours.dtype == leaf.dtype
        assert (ours - theirs).norm() <= 2 * step * theirs.norm()
