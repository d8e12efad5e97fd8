"""Logits of residue pairs. For residues i and j, with q = q_j and k = k_i:

    middle(i, j) = W_p (q * k) + W_d (q - k) + b            pair_middle_linear, W = [W_p, W_d]
    logits(i, j) = V_m GELU(middle(i, j)) + V_a a(i, j) + c    pair_pred_linear, V = [V_m, V_a], a = all attention maps

Neither the (L, L, 2 * hidden) input of `pair_middle_linear` nor the (L, L, layers * heads) stack of attention maps is
formed: W_p (q * k) + W_d q = (W_p diag(k) + W_d) q is one matrix product for a tile of rows i and all j, and V_a a is
summed layer by layer as the encoder computes the maps. Without gradients, forming q * k for a batch of pairs is faster
for short proteins, where it is smaller than W_p diag(k) + W_d.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from model.network.encoder import attention_maps

CPU_TILE: Final = 2**21  # numbers in D and the middle layer of a tile: larger tensors are slower, and fragment memory
GPU_TILE: Final = 2**29  # 1 GB in bfloat16
KERNEL_TILE: Final = 2**30  # numbers of the middle layer of a tile, whose gradient a kernel holds
CPU_KEPT: Final = 2**26  # numbers of the middle layer of all pairs
GPU_KEPT: Final = 2**31
CPU_PAIRS: Final = 2**11  # pairs per step of the form with products
GPU_PAIRS: Final = 2**16


def attention_weight(pred: nn.Linear, layer: int, heads: int) -> Tensor:
    """The columns of V_a for the attention maps of a layer, (outputs, heads): V_a is the second half of `pred`."""
    first = pred.in_features // 2 + layer * heads
    return pred.weight[:, first : first + heads]


def attention_logits(maps: Tensor, weight: Tensor) -> Tensor:
    """One layer's part of V_a a, (B, outputs, L, L), from its maps (B, heads, L, L): attention of query i on key j."""
    # (B, outputs, heads) @ (B, heads, L * L); a broadcasting `matmul` would copy the maps
    return torch.bmm(weight.expand(len(maps), -1, -1), maps.flatten(2)).unflatten(2, maps.shape[2:])


class AttentionPart:
    """V_a a, which grows layer by layer as the encoder makes its attention maps; `kernels` are the Triton kernels."""

    def __init__(self, pred: nn.Linear, layers: int, kernels: ModuleType | None) -> None:
        self.pred, self.layers, self.kernels = pred, layers, kernels
        self.learn = torch.is_grad_enabled()  # also where the encoder is frozen
        self.logits: Tensor | None = None  # (B, outputs, L, L) float32
        self.seeds: Tensor | None = None  # of the kernels' dropout, one for each layer
        self.lengths: Tensor | None = None  # (B,) int32, tokens of each protein up to its last

    def maps(self, layer: int, scores: Tensor, keys: Tensor | None, dropout: float) -> Tensor:
        """Attention maps of a layer, as `encoder.attention_maps`; adds their part."""
        maps = None if self.kernels else attention_maps(scores, keys, dropout)
        with torch.set_grad_enabled(self.learn):
            weight = attention_weight(self.pred, layer, scores.shape[1])
            if maps is not None:
                part = attention_logits(maps, weight.to(maps.dtype))
                self.logits = part.float() if self.logits is None else self.logits.add_(part)
                return maps
            assert self.kernels is not None
            if self.logits is None:
                batch, length = len(scores), scores.shape[-1]
                self.logits = scores.new_zeros(batch, len(weight), length, length, dtype=torch.float32)
                if dropout:
                    self.seeds = torch.randint(2**31 - 1, (self.layers,), device=scores.device, dtype=torch.int32)
                numbers = torch.arange(1, length + 1, device=scores.device, dtype=torch.int32)
                self.lengths = (numbers.expand(batch, -1) if keys is None else numbers * keys[:, 0, 0]).amax(-1)
            inputs = (scores, weight, self.logits, keys, self.lengths, dropout, self.seeds, layer)
            maps, self.logits = self.kernels.AttentionMaps.apply(*inputs)
        return maps


def pair_logits(
    q: Tensor, k: Tensor, middle: nn.Linear, pred: nn.Linear, kernel: Callable[..., Tensor] | None = None
) -> Tensor:
    """V_m GELU(middle) + c of all residue pairs: (B, outputs, L, L), row i, column j, at least float32.

    q and k (B, L, hidden) are the halves of the transformed residue embeddings; products use their dtype. The memory
    beyond the result is that of a tile of rows and of the middle layer of all pairs, if it has at most `CPU_KEPT` or
    `GPU_KEPT` numbers: the backward pass computes everything else again. With `kernel`, which computes a tile from its
    first row in place of `tile_logits`, it is the middle layer, and nothing without gradients; logits of padding are c.
    """
    with torch.autocast(q.device.type, enabled=False):
        v_m = pred.weight[:, : middle.out_features]  # (outputs, channels)
        parameters = [value.to(q.dtype) for value in (middle.weight, middle.bias, v_m, pred.bias)]
        batch, length, hidden = q.shape
        of_row = batch * middle.out_features * length
        if kernel is not None:
            rows = max(1, KERNEL_TILE // of_row)
            tiles = [kernel(rows * n, q, k_i, *parameters) for n, k_i in enumerate(k.split(rows, dim=1))]
            return tiles[0] if len(tiles) == 1 else torch.cat(tiles, dim=2)
        if not torch.is_grad_enabled() and length < middle.out_features:  # q * k is smaller than D
            return _logits_of_products(q, k, *parameters)
        most = GPU_TILE if q.is_cuda else CPU_TILE
        rows = max(1, most // (of_row + batch * middle.out_features * hidden))
        kept = of_row * length <= (GPU_KEPT if q.is_cuda else CPU_KEPT)
        return torch.cat([tile_logits(kept, q, k_i, *parameters) for k_i in k.split(rows, dim=1)], dim=2)


def tile_logits(kept: bool, q: Tensor, k: Tensor, weight: Tensor, bias: Tensor, v_m: Tensor, c: Tensor) -> Tensor:
    """`pair_logits` of T rows of each protein: q (B, L, hidden), k (B, T, hidden) -> (B, outputs, T, L).

    Nothing is stored for the backward pass but the inputs, and the middle layer if it is `kept`.
    """
    if not kept:
        return again(lambda *inputs: _logits_of(_middle(*inputs[:4]), *inputs[4:]), q, k, weight, bias, v_m, c)
    return again(_logits_of, again(_middle, q, k, weight, bias), v_m, c)


def again(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """A function whose tensors the backward pass computes again."""
    if not torch.is_grad_enabled():
        return function(*inputs)
    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)


def _middle(q: Tensor, k: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The middle layer (B, T, channels, L) of T rows."""
    w_p, w_d = weight.split(q.shape[2], dim=1)  # each (channels, hidden)
    d = torch.addcmul(w_d, w_p, k[:, :, None])  # (B, T, channels, hidden)
    start = F.linear(k, -w_d, bias)  # (B, T, channels)
    return torch.baddbmm(start.flatten(1)[..., None], d.flatten(1, 2), q.mT).unflatten(1, start.shape[1:])


def _logits_of(mid: Tensor, v_m: Tensor, c: Tensor) -> Tensor:
    """Logits (B, outputs, T, L), at least float32, of a middle layer."""
    rows = F.gelu(mid).flatten(0, 1)  # (B * T, channels, L)
    # (B * T, outputs, channels) @ rows; a broadcasting `matmul` would copy the rows
    part = torch.baddbmm(c[:, None], v_m.expand(len(rows), -1, -1), rows)  # (B * T, outputs, L)
    return part.unflatten(0, mid.shape[:2]).transpose(1, 2).to(torch.promote_types(mid.dtype, torch.float32))


def _logits_of_products(q: Tensor, k: Tensor, weight: Tensor, bias: Tensor, v_m: Tensor, c: Tensor) -> Tensor:
    """`pair_logits` without gradients: W_p (q * k) of some rows of one protein, or of several proteins, at a time.

    Memory beyond the result: O(pairs (hidden + channels)) for `CPU_PAIRS` or `GPU_PAIRS` pairs, at least one row.
    """
    batch, length, hidden = q.shape
    w_p, w_d = weight.split(hidden, dim=1)  # each (channels, hidden)
    from_q = F.linear(q, w_d, bias)  # (B, L, channels)
    from_k = F.linear(k, w_d)  # (B, L, channels)
    dtype = torch.promote_types(q.dtype, torch.float32)
    logits = q.new_empty(batch, len(v_m), length, length, dtype=dtype)  # (B, outputs, L, L)
    pairs = GPU_PAIRS if q.is_cuda else CPU_PAIRS
    proteins, rows = max(1, pairs // length**2), max(1, pairs // length)
    for b in range(0, batch, proteins):
        some = slice(b, b + proteins)
        for i in range(0, length, rows):
            product = k[some, i : i + rows, None] * q[some, None]  # (P, T, L, hidden)
            start = from_q[some, None] - from_k[some, i : i + rows, None]  # (P, T, L, channels)
            mid = start.flatten(0, 2).addmm_(product.flatten(0, 2), w_p.mT)  # (P * T * L, channels)
            part = F.linear(F.gelu(mid), v_m, c).unflatten(0, start.shape[:3])  # (P, T, L, outputs)
            logits[some, :, i : i + rows] = part.permute(0, 3, 1, 2)
    return logits
