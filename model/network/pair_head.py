"""Logits of residue pairs. For residues i and j, with q = q_j and k = k_i:

    middle(i, j) = W_p (q * k) + W_d (q - k) + b            pair_middle_linear, W = [W_p, W_d]
    logits(i, j) = V_m GELU(middle(i, j)) + V_a a(i, j) + c    pair_pred_linear, V = [V_m, V_a], a = all attention maps

Neither the (L, L, 2 * hidden) input of `pair_middle_linear` nor the (L, L, layers * heads) stack of attention maps is
formed: W_p (q * k) + W_d q = (W_p diag(k) + W_d) q is one matrix product for a tile of rows i and all j, and V_a a is
summed layer by layer as the encoder computes the maps. Without gradients, forming q * k for a batch of pairs is faster
for short proteins, where it is smaller than W_p diag(k) + W_d.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

CPU_ROWS: Final = 32  # more rows do not speed up the products, and larger tensors are slow to allocate and read
CPU_PAIRS: Final = 2**11  # pairs per step without gradients
GPU_PAIRS: Final = 2**16


def attention_logits(maps: Tensor, layer: int, pred: nn.Linear) -> Tensor:
    """One layer's part of V_a a, (B, outputs, L, L), from its maps (B, heads, L, L): attention of query i on key j.

    Weights of these maps: from column layer * heads of V_a, the second half of the columns of `pred`.
    """
    heads = maps.shape[1]
    first = pred.in_features // 2 + layer * heads  # the first half is V_m
    weight = pred.weight[:, first : first + heads]  # (outputs, heads)
    # (B, outputs, heads) @ (B, heads, L * L); a broadcasting `matmul` would copy the maps
    return torch.bmm(weight.expand(len(maps), -1, -1), maps.flatten(2)).unflatten(2, maps.shape[2:])


def pair_logits(
    q: Tensor, k: Tensor, middle: nn.Linear, pred: nn.Linear, tile: int = CPU_ROWS, recompute: bool = True
) -> Tensor:
    """V_m GELU(middle) + c of all residue pairs: (B, outputs, L, L), row i, column j, at least float32.

    q and k (B, L, hidden) are the halves of the transformed residue embeddings; products use their dtype. `tile` rows
    (at most `CPU_ROWS` on a CPU) are computed at a time, with O(tile (L + hidden) channels) memory beyond the result.
    With `recompute`, the backward pass recomputes `middle` instead of storing it. Differentiable once.
    """
    if torch.compiler.is_compiling():  # a graph would unroll the loops; nearly all time is spent in matrix products
        from model.network.uncompiled import call_uncompiled

        return call_uncompiled(pair_logits, q, k, middle, pred, tile, recompute)
    if not torch.is_grad_enabled() and q.shape[1] < middle.out_features:  # q * k is smaller than D
        with torch.autocast(q.device.type, enabled=False):
            return _pair_logits_of_products(q, k, middle, pred)
    if not q.is_cuda:
        tile = min(tile, CPU_ROWS)
    keep = torch.is_grad_enabled() and not recompute
    v_m = pred.weight[:, : middle.out_features]  # (outputs, channels)
    parameters = (value.to(q.dtype) for value in (middle.weight, middle.bias, v_m, pred.bias))
    with torch.autocast(q.device.type, enabled=False):
        return _PairLogits.apply(q, k, *parameters, tile, keep)


def _pair_logits_of_products(q: Tensor, k: Tensor, middle: nn.Linear, pred: nn.Linear) -> Tensor:
    """`pair_logits` without gradients: W_p (q * k) of some rows of one protein, or of several proteins, at a time.

    Memory beyond the result: O(pairs (hidden + channels)) for `CPU_PAIRS` or `GPU_PAIRS` pairs, at least one row.
    """
    batch, length, hidden = q.shape
    v_m = pred.weight[:, : middle.out_features].to(q.dtype)  # (outputs, channels)
    w_p, w_d = middle.weight.to(q.dtype).split(hidden, dim=1)  # each (channels, hidden)
    from_q = F.linear(q, w_d, middle.bias.to(q.dtype))  # (B, L, channels)
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
            part = F.linear(F.gelu(mid), v_m, pred.bias.to(q.dtype)).unflatten(0, start.shape[:3])  # (P, T, L, outputs)
            logits[some, :, i : i + rows] = part.permute(0, 3, 1, 2)
    return logits


class _PairLogits(torch.autograd.Function):
    """Forward and backward pass by sample and tile, to keep a tile's tensors in the cache.

    With D = W_p diag(k_i) + W_d and m = D q_j + b - W_d k_i for the rows i of a tile, and g = dm:
    dq_j += D^T g, dD = g q_j^T summed over j, dk_i = W_p * dD summed over channels - W_d^T g,
    dW_p += k_i * dD, dW_d += dD - g k_i^T, db += g.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, weight: Tensor, bias: Tensor, v_m: Tensor, c: Tensor, tile: int, keep: bool
    ) -> Tensor:
        w_p, w_d = weight.split(q.shape[2], dim=1)  # each (channels, hidden)
        batch, length, _ = q.shape
        dtype = torch.promote_types(q.dtype, torch.float32)
        logits = q.new_empty(batch, len(v_m), length, length, dtype=dtype)  # (B, outputs, L, L)
        # m of all pairs, or a buffer for m of one tile
        kept = q.new_empty(batch if keep else 1, length if keep else min(tile, length), len(bias), length)
        for sample in range(batch):
            for i in range(0, length, tile):
                k_i = k[sample, i : i + tile]  # (T, hidden)
                mid = kept[sample, i : i + tile] if keep else kept[0, : len(k_i)]  # (T, channels, L)
                _middle(q[sample], k_i, _weight(k_i, w_p, w_d), w_d, bias, mid)
                part = v_m @ F.gelu(mid) + c[:, None]  # (T, outputs, L)
                logits[sample, :, i : i + tile] = part.transpose(0, 1)
        ctx.save_for_backward(q, k, weight, bias, v_m, kept if keep else None)
        ctx.tile = tile
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, weight, bias, v_m, kept = ctx.saved_tensors
        w_p, w_d = weight.split(q.shape[2], dim=1)  # each (channels, hidden)
        batch, length, _ = q.shape
        dtype = gradient.dtype  # for sums over tiles
        dq, dk = torch.zeros_like(q, dtype=dtype), torch.zeros_like(k, dtype=dtype)
        dw_p, dw_d = (torch.zeros_like(part, dtype=dtype) for part in (w_p, w_d))
        db, dv_m = torch.zeros_like(bias, dtype=dtype), torch.zeros_like(v_m, dtype=dtype)
        again = q.new_empty(min(ctx.tile, length), len(bias), length) if kept is None else None  # m of one tile
        for sample in range(batch):
            for i in range(0, length, ctx.tile):
                k_i = k[sample, i : i + ctx.tile]  # (T, hidden)
                d = _weight(k_i, w_p, w_d)  # (T, channels, hidden)
                if again is None:
                    mid = kept[sample, i : i + ctx.tile]  # (T, channels, L)
                else:
                    mid = again[: len(k_i)]  # (T, channels, L)
                    _middle(q[sample], k_i, d, w_d, bias, mid)
                upstream = gradient[sample, :, i : i + ctx.tile].transpose(0, 1).to(q.dtype)  # (T, outputs, L)
                dv_m += (upstream @ F.gelu(mid).mT).sum(0, dtype=dtype)
                g = torch.ops.aten.gelu_backward(v_m.mT @ upstream, mid)  # (T, channels, L)
                dq[sample] += g.flatten(0, 1).mT @ d.flatten(0, 1)  # (L, T * channels) @ (T * channels, hidden)
                dd = (g.flatten(0, 1) @ q[sample]).view_as(d)  # (T * channels, L) @ (L, hidden)
                g = g.sum(2)  # (T, channels)
                dk[sample, i : i + ctx.tile] = (w_p * dd).sum(1, dtype=dtype) - g @ w_d  # (T, hidden)
                dw_p += (k_i[:, None, :] * dd).sum(0, dtype=dtype)
                dw_d += dd.sum(0, dtype=dtype) - g.mT @ k_i
                db += g.sum(0, dtype=dtype)
        dc = gradient.sum((0, 2, 3))
        gradients = (dq, dk, torch.cat((dw_p, dw_d), dim=1), db, dv_m, dc)
        return *(value.to(q.dtype) for value in gradients), None, None


def _weight(k: Tensor, w_p: Tensor, w_d: Tensor) -> Tensor:
    """D of a tile of rows: k (T, hidden), w_p and w_d (channels, hidden) -> (T, channels, hidden)."""
    return torch.addcmul(w_d, w_p, k[:, None, :])


def _middle(q: Tensor, k: Tensor, d: Tensor, w_d: Tensor, bias: Tensor, out: Tensor) -> None:
    """Write m of T rows of one protein to `out` (T, channels, L); q (L, hidden), k (T, hidden), d see `_weight`."""
    start = torch.addmm(bias, k, w_d.mT, alpha=-1)  # (T, channels)
    torch.addmm(start.view(-1, 1), d.flatten(0, 1), q.mT, out=out.view(-1, len(q)))
