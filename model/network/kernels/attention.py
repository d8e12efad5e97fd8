"""Attention maps of scores, with softmax and dropout, and their part of the pair logits.

A program has the scores of a query in all heads. It writes their maps after softmax and dropout, and adds V_a a to the
pair logits. A program of the backward pass has those of some queries. With P the maps before dropout and X the sum of
the gradients that reach P from the context and from the pair logits, the gradient of the scores is P * (X - sum over
keys of P * X).
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.network.kernels.blocks import OUTPUTS, blocks, with_heads


@triton.jit
def mixed(x):
    """32 bits in which each bit depends on all bits of x: a multiply-and-shift hash."""
    x ^= x >> 16
    x *= 0x7FEB352D
    x ^= x >> 15
    x *= 0x846CA68B
    return x ^ (x >> 16)


@triton.jit
def scores_of(scores, keys, at, b, n, j, tokens, L, H: tl.constexpr, MASK: tl.constexpr):
    """Scores (BH, BJ) of a query and keys j, float32, -inf for keys that it does not attend to."""
    attended = j < tokens
    if MASK:
        attended = tl.load(keys + b * L + j, attended, 0) != 0
    inside = (n < H)[:, None] & attended[None, :]
    return tl.load(scores + at[:, None] * L + j[None, :], inside, float("-inf")).to(tl.float32)


@triton.jit
def store_zeros(maps, at, n, tokens, L, H: tl.constexpr, BH: tl.constexpr, BJ: tl.constexpr):
    """Zeros in the maps of a query, or in the gradients of its scores, after the last block with a token."""
    for start in range(tl.cdiv(tokens, BJ) * BJ, L, BJ):
        j = start + tl.arange(0, BJ)
        nothing = tl.zeros((BH, BJ), maps.dtype.element_ty)
        tl.store(maps + at[:, None] * L + j[None, :], nothing, (n < H)[:, None] & (j < L)[None, :])


@triton.jit(do_not_specialize=["layer"])
def maps_kernel(
    scores, keys, lengths, seeds, v, maps, sums, part, L, layer, dropout,
    H: tl.constexpr, O: tl.constexpr, P: tl.constexpr, BH: tl.constexpr,
    MASK: tl.constexpr, DROP: tl.constexpr, BJ: tl.constexpr,
):  # fmt: skip
    """Attention maps of query i in all heads, and their part of the pair logits."""
    row = tl.program_id(0).to(tl.int64)  # b * L + i
    b = row // L
    i = row % L
    n = tl.arange(0, BH)
    o = tl.arange(0, P)
    at = (b * H + n) * L + i
    tokens = tl.load(lengths + b)
    tokens = tl.where(i < tokens, tokens, 0)
    top = tl.full((BH,), -1e30, tl.float32)
    total = tl.zeros((BH,), tl.float32)
    for start in range(0, tokens, BJ):
        j = start + tl.arange(0, BJ)
        s = scores_of(scores, keys, at, b, n, j, tokens, L, H, MASK)
        new = tl.maximum(top, tl.max(s, 1))
        total = total * tl.exp(top - new) + tl.sum(tl.exp(s - new[:, None]), 1)
        top = new
    log_sum = top + tl.log(tl.where(total > 0, total, 1.0))
    tl.store(sums + at, log_sum, n < H)
    z = tl.load(v + o[:, None] * H + n[None, :], (o < O)[:, None] & (n < H)[None, :], 0.0)
    if DROP:
        key = mixed(tl.load(seeds + layer).to(tl.uint32) + ((b * H + n) * 0x9E3779B1).to(tl.uint32))
    for start in range(0, tokens, BJ):
        j = start + tl.arange(0, BJ)
        probability = tl.exp(scores_of(scores, keys, at, b, n, j, tokens, L, H, MASK) - log_sum[:, None])
        if DROP:
            bits = mixed(key[:, None] ^ (i * L + j).to(tl.uint32)[None, :])
            kept = (bits >> 8).to(tl.float32) * (1.0 / 16777216.0) >= dropout
            probability = tl.where(kept, probability / (1.0 - dropout), 0.0)
        rounded = probability.to(z.dtype)
        tl.store(maps + at[:, None] * L + j[None, :], rounded, (n < H)[:, None] & (j < L)[None, :])
        of = ((b * O + o)[:, None] * L + i) * L + j[None, :]
        pairs = (o < O)[:, None] & (j < L)[None, :]
        tl.store(part + of, tl.load(part + of, pairs, 0.0) + tl.dot(z, rounded, input_precision="ieee"), pairs)
    store_zeros(maps, at, n, tokens, L, H, BH, BJ)


@triton.jit
def scores_kernel(
    scores, keys, lengths, v, maps, sums, d_maps, grad, d_scores, part_v, queries, L, dropout,
    H: tl.constexpr, O: tl.constexpr, P: tl.constexpr, BH: tl.constexpr, ROWS: tl.constexpr,
    MASK: tl.constexpr, DROP: tl.constexpr, LEARN: tl.constexpr, BJ: tl.constexpr,
):  # fmt: skip
    """Gradients of the scores of `ROWS` of the B * L queries in all heads, and of V_a."""
    n = tl.arange(0, BH)
    o = tl.arange(0, P)
    z = tl.load(v + o[:, None] * H + n[None, :], (o < O)[:, None] & (n < H)[None, :], 0.0)
    sum_v = tl.zeros((P, BH), tl.float32)
    begin = tl.program_id(0).to(tl.int64) * ROWS
    for number in range(0, min(ROWS, queries - begin)):
        row = begin + number  # b * L + i
        b = row // L
        i = row % L
        at = (b * H + n) * L + i
        tokens = tl.load(lengths + b)
        tokens = tl.where(i < tokens, tokens, 0)
        mean = tl.zeros((BH,), tl.float32)  # of the gradients of the maps, weighted by the maps
        for start in range(0, tokens, BJ):
            j = start + tl.arange(0, BJ)
            inside = (n < H)[:, None] & (j < tokens)[None, :]
            of = ((b * O + o)[:, None] * L + i) * L + j[None, :]
            g = tl.load(grad + of, (o < O)[:, None] & (j < tokens)[None, :], 0.0).to(z.dtype)
            a = tl.load(maps + at[:, None] * L + j[None, :], inside, 0.0)
            sum_v = tl.dot(g, tl.trans(a), sum_v, input_precision="ieee")
            if LEARN:
                d = tl.load(d_maps + at[:, None] * L + j[None, :], inside, 0.0).to(tl.float32)
                d += tl.dot(tl.trans(z), g, input_precision="ieee")
                mean += tl.sum(a.to(tl.float32) * d, 1)
        if LEARN:
            log_sum = tl.load(sums + at, n < H, 0.0)
            for start in range(0, tokens, BJ):
                j = start + tl.arange(0, BJ)
                inside = (n < H)[:, None] & (j < tokens)[None, :]
                of = ((b * O + o)[:, None] * L + i) * L + j[None, :]
                g = tl.load(grad + of, (o < O)[:, None] & (j < tokens)[None, :], 0.0).to(z.dtype)
                d = tl.load(d_maps + at[:, None] * L + j[None, :], inside, 0.0).to(tl.float32)
                d += tl.dot(tl.trans(z), g, input_precision="ieee")
                if DROP:
                    a = tl.load(maps + at[:, None] * L + j[None, :], inside, 0.0)
                    d = tl.where(a > 0, d / (1.0 - dropout), 0.0)
                s = scores_of(scores, keys, at, b, n, j, tokens, L, H, MASK)
                d = tl.exp(s - log_sum[:, None]) * (d - mean[:, None])
                tl.store(d_scores + at[:, None] * L + j[None, :], d.to(z.dtype), (n < H)[:, None] & (j < L)[None, :])
            store_zeros(d_scores, at, n, tokens, L, H, BH, BJ)
    at = (tl.program_id(0) * O + o)[:, None] * H + n[None, :]
    tl.store(part_v + at, sum_v, (o < O)[:, None] & (n < H)[None, :])


class AttentionMaps(torch.autograd.Function):
    """Attention maps after dropout of scores (B, heads, L, L), and pair logits to which their part V_a a is added."""

    @staticmethod
    def forward(
        ctx: Any,
        scores: Tensor,
        v: Tensor,
        part: Tensor,
        keys: Tensor | None,
        lengths: Tensor,
        dropout: float,
        seeds: Tensor | None,
        layer: int,
    ):
        """v (outputs, heads), part (B, outputs, L, L) float32, changed in place, keys (B, 1, 1, L) bool or None,
        lengths (B,) int32, for dropout the seeds (layers,) int32 of random numbers.
        """
        (batch, heads, length, _), outputs = scores.shape, len(v)
        ctx.of_v, v = v.dtype, v.to(scores.dtype).contiguous()
        maps, sums = torch.empty_like(scores), scores.new_empty(scores.shape[:3], dtype=torch.float32)
        given = v if keys is None else keys.contiguous().view(torch.uint8)  # unused without keys
        ctx.options = {"H": heads, "O": outputs, "P": OUTPUTS, "MASK": keys is not None, "DROP": dropout > 0}
        ctx.dropout = dropout
        own = ctx.options | with_heads(blocks(scores.device)["maps"], heads)
        found = (maps, sums, part)
        random = seeds if dropout else v
        with torch.cuda.device_of(scores):
            maps_kernel[(batch * length,)](scores, given, lengths, random, v, *found, length, layer, dropout, **own)
        kept = scores if ctx.needs_input_grad[0] else maps  # of a frozen encoder nothing but its maps
        ctx.save_for_backward(kept, given, lengths, v, maps, sums)
        if not ctx.needs_input_grad[0]:
            ctx.mark_non_differentiable(maps)
        ctx.mark_dirty(part)
        ctx.set_materialize_grads(False)
        return maps, part

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_maps: Tensor | None, grad: Tensor | None):
        """Gradients of scores and v; that of the pair logits passes through."""
        scores, keys, lengths, v, maps, sums = ctx.saved_tensors
        if grad is None:  # of a loss of residue properties alone
            grad = v.new_zeros((len(maps), len(v), *maps.shape[2:]), dtype=torch.float32)
        learn, queries = ctx.needs_input_grad[0], scores.shape[0] * scores.shape[2]
        own = ctx.options | with_heads(blocks(scores.device)["scores"], scores.shape[1])
        programs = triton.cdiv(queries, own["ROWS"])
        d_scores = torch.empty_like(scores) if learn else scores
        part_v = v.new_empty(programs, *v.shape, dtype=torch.float32)
        if d_maps is None:  # of a loss of pairs alone; not read without `learn`
            d_maps = torch.zeros_like(scores) if learn else scores
        given = (scores, keys, lengths, v, maps, sums, d_maps.contiguous(), grad.contiguous())
        size = (queries, scores.shape[2])
        scores_kernel[(programs,)](*given, d_scores, part_v, *size, ctx.dropout, LEARN=learn, **own)
        return (d_scores if learn else None), part_v.sum(0).to(ctx.of_v), grad, None, None, None, None, None
