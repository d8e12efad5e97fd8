"""The Triton kernels in Triton's interpreter, on a CPU, against the plain forms."""

from __future__ import annotations

import warnings
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from data_prepare.properties import PROPERTIES, RESIDUE_PROPERTIES
from model.config import ModelConfig
from model.network import dance, device, pair_head
from model.network.dance import DanceModel
from model.network.pair_head import attention_logits, pair_logits
from model.network.tokenizer import tokenize

pytest.importorskip("triton", reason="Triton is not installed")
from model.network import kernels  # conftest.py chooses the interpreter
from model.network.kernels import blocks

OUTPUTS = 13


def close(found: list[Tensor], expected: list[Tensor], tolerance: float = 2e-6) -> None:
    for got, right in zip(found, expected, strict=True):
        assert (got - right).norm() <= tolerance * right.norm()


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "length", "hidden", "maps"), [(37, 37, 24, 12), (5, 70, 40, 150), (1, 5, 20, 300)])
def test_pair_head(monkeypatch: pytest.MonkeyPatch, rows: int, length: int, hidden: int, maps: int) -> None:
    """Logits and all gradients: sizes that are no multiples of the blocks, more rows than a program adds up."""
    middle, pred = nn.Linear(2 * hidden, maps), nn.Linear(2 * maps, OUTPUTS)
    tokens = torch.tensor([length, max(1, length - 34)], dtype=torch.int32)
    row, column = torch.arange(rows)[:, None], torch.arange(length)
    inside = torch.stack([(row < own) & (column < own) for own in tokens])[:, None]
    own_kernel = partial(kernels.tile_logits, tokens)
    results: list[list[Tensor]] = []
    few_rows = 2 * maps * length * 4
    for kernel, tile in ((own_kernel, pair_head.KERNEL_TILE), (own_kernel, few_rows), (None, 1)):
        monkeypatch.setattr(pair_head, "KERNEL_TILE", tile)
        torch.manual_seed(0)
        q, k = (torch.randn(2, n, hidden, requires_grad=True) for n in (length, rows))
        parameters = [*middle.parameters(), *pred.parameters()]
        logits = pair_logits(q, k, middle, pred, kernel)
        if kernel is None:  # no middle layer in padding
            logits = torch.where(inside, logits, pred.bias[:, None, None])
        results.append([logits, *torch.autograd.grad(logits.square().sum(), [q, k, *parameters])])
    for found in results[:2]:
        close(found, results[2])
    with torch.no_grad():
        close([pair_logits(q, k, middle, pred, own_kernel)], results[2][:1])


@pytest.mark.parametrize(("masked", "dropout"), [(False, 0.0), (True, 0.2)])
@pytest.mark.slow
def test_attention_maps(monkeypatch: pytest.MonkeyPatch, masked: bool, dropout: float) -> None:
    """Maps, logits and gradients, also of a frozen encoder, whose scores have none. Several blocks of keys."""
    monkeypatch.setitem(blocks.SMALL, "maps", {"BJ": 16})
    monkeypatch.setitem(blocks.SMALL, "scores", {"BJ": 16, "ROWS": 4})
    torch.manual_seed(1)
    length, heads = 21, 5
    scores, weight = 2 * torch.randn(2, heads, length, length), torch.randn(OUTPUTS, heads)
    part, of_maps, of_part = torch.randn(2, OUTPUTS, length, length), torch.randn_like(scores), torch.randn(1)
    tokens = torch.tensor([length, length - 6] if masked else [length, length], dtype=torch.int32)
    keys = (torch.arange(length) < tokens[:, None])[:, None, None] if masked else None
    if keys is not None:
        keys[0, ..., 3] = False  # a key that is not attended to, before the last token
    queries = torch.arange(length)[:, None] < tokens[:, None, None, None]
    seeds = torch.tensor([7, 8, 9], dtype=torch.int32)

    def run(fused: bool, frozen: bool, kept: Tensor | None = None, of_context: bool = True) -> list[Tensor]:
        s, v, p = (value.clone().requires_grad_() for value in (scores, weight, part))
        s.requires_grad_(not frozen)
        if fused:
            maps, logits = kernels.AttentionMaps.apply(s, v, p * 1, keys, tokens, dropout, seeds, 2)
        else:
            maps = (s if keys is None else s.masked_fill(~keys, -torch.inf)).softmax(-1) * queries
            maps = maps if kept is None else maps * kept / (1 - dropout)
            logits = p + attention_logits(maps, v)
        assert maps.requires_grad != frozen
        total = (logits.square() * of_part).sum() + ((maps * of_maps).sum() if of_context and not frozen else 0)
        return [maps, logits, *torch.autograd.grad(total, [v, p] if frozen else [s, v, p])]

    found = run(True, False)
    kept = (found[0] > 0).float() if dropout else None
    if kept is not None:
        own = kept[0] if keys is None else kept[0][..., keys[0, 0, 0]]
        assert own.mean().item() == pytest.approx(1 - dropout, abs=0.02)
        # no pattern between neighbours, queries and heads
        noise = own - own.mean()
        for shift in ((0, 0, 1), (0, 1, 0), (1, 0, 0)):
            assert (noise * noise.roll(shift, (0, 1, 2))).mean().abs() < 0.02 * dropout * (1 - dropout) * 10
    close(found, run(False, False, kept))
    close(run(True, True), run(False, True, kept))
    close(run(True, False, of_context=False), run(False, False, kept, of_context=False))


@pytest.mark.parametrize("frozen", [False, True])
def test_scores_of_a_frozen_encoder_are_not_kept(frozen: bool) -> None:
    scores, weight = torch.randn(1, 3, 5, 5, requires_grad=not frozen), torch.randn(OUTPUTS, 3, requires_grad=True)
    tokens = torch.tensor([5], dtype=torch.int32)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.data_ptr()) or x, lambda x: x):
        kernels.AttentionMaps.apply(scores, weight, torch.zeros(1, OUTPUTS, 5, 5), None, tokens, 0.0, None, 0)
    assert (scores.data_ptr() in kept) != frozen


def mask_of(value: Tensor, mask: Tensor) -> Tensor:
    """Rows, and columns of pairs, that are not padding."""
    row = mask.bool()
    length = row.shape[1]
    return value[row[:, :, None] & row[:, None] if value.shape[1:3] == (length, length) else row]


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.slow
def test_network(monkeypatch: pytest.MonkeyPatch, frozen: bool) -> None:
    """All outputs and gradients of a network that uses them, padded; its attention maps too."""
    sizes = {"hidden": 24, "layers": 2, "heads": 3, "feed_forward": 32}
    torch.manual_seed(0)
    model = DanceModel(ModelConfig(**sizes, freeze_encoder=frozen, encoder_dropout=0.0, head_dropout=0.0))
    batch = tokenize(["MQIFVKTLTGK", "ACDEF"])
    results: list[list[Tensor]] = []
    for module in (None, kernels):
        monkeypatch.setattr(dance, "kernels_for", lambda _, module=module: module)
        outputs = model(**batch, attention=True, embedding=True)
        learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        gradients: list[Tensor | None] = []
        for names in (PROPERTIES, RESIDUE_PROPERTIES):  # all, and of residues alone
            loss = sum(mask_of(outputs[name], batch["attention_mask"]).square().sum() for name in names)
            gradients += torch.autograd.grad(loss, learned, allow_unused=True, retain_graph=True)
        # the kernels give gradients of 0 where the plain form has none
        inside = [mask_of(value, batch["attention_mask"]) for value in outputs.values()]
        results.append([*inside, *(value for value in gradients if value is not None and value.any())])
    close(*results, tolerance=1e-5)


@pytest.mark.slow
def test_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs and gradients are as close to float32 as those of the plain form. The interpreter has no bfloat16."""
    torch.manual_seed(0)
    sizes = {"hidden": 24, "layers": 2, "heads": 3, "feed_forward": 32}
    model = DanceModel(ModelConfig(**sizes, encoder_dropout=0.0, head_dropout=0.0))
    batch, results = tokenize(["MQIFVKTLTGK", "ACDEF"]), []
    for half, module in ((False, None), (True, None), (True, kernels)):
        monkeypatch.setattr(dance, "kernels_for", lambda _, module=module: module)
        with torch.autocast("cpu", torch.float16, enabled=half):
            outputs = [mask_of(value, batch["attention_mask"]) for value in model(**batch).values()]
        gradients = torch.autograd.grad(sum(value.square().sum() for value in outputs), list(model.parameters()))
        results.append(torch.cat([value.flatten() for part in (outputs, gradients) for value in part]))
    plain, fused = ((found - results[0]).norm() / results[0].norm() for found in results[1:])
    assert 0 < fused < 2 * plain < 0.01
    assert fused != plain


@pytest.mark.parametrize(
    ("capability", "half", "compiler", "used"),
    [
        ((8, 0), True, True, True),
        ((7, 5), True, True, False),
        ((9, 0), False, True, False),
        ((9, 0), True, False, False),
    ],
)
def test_where_the_kernels_run(monkeypatch: pytest.MonkeyPatch, capability, half, compiler, used) -> None:
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: half)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(device, "which", lambda name: "/usr/bin/gcc" if compiler and name == "gcc" else None)
    monkeypatch.setattr(device.sys, "platform", "linux")
    monkeypatch.delenv("CC", raising=False)
    device._has_compiler.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            assert device.kernels_for(torch.device("cuda")) is (kernels if used else None)
    device._has_compiler.cache_clear()
    assert ["gcc" in str(warning.message) for warning in caught] == [True] * (not compiler)  # once
