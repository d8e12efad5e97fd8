"""The middle layer of the pair head, GELU, and the logits of residue pairs.

For the pairs of a row i, mid = (q * k_i) W_p^T + from_q - from_k_i, with from_q = q W_d^T + b and from_k = k W_d^T. The
forward kernel forms the products, GELU and V_m in registers and writes the logits and, for the backward pass, mid. With
G the gradient of the logits and D = (G V_m) * GELU'(mid) that of mid, the backward pass computes

    dq_j = sum_i k_i * (D_ij W_p)          one product per pair
    E_i = sum_j D_ij^T q_j                 another; dk_i = sum_c W_p * E_i, dW_p = sum_i k_i * E_i

Programs that read the same part of D, or of G, follow each other, so that all but the first find it in the cache.
"""

from __future__ import annotations

from typing import Any, Final

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

from model.network.kernels.blocks import OUTPUTS, blocks

ROWS: Final = 32  # rows i that a program of the backward pass adds up


@triton.jit
def normal(x):
    """Distribution function of the normal distribution: GELU(x) = x normal(x).

    The logarithm of its tail is smooth: a polynomial, fitted to the least error of this function and of GELU, 7e-7.
    Half as many instructions as with `tl.erf`, which took most of the instructions of the forward kernel.
    """
    z = tl.abs(x)
    tail = 1.15105205 + z * (0.459414079 + z * (0.0523432367 + z * (-0.0072823763 + z * 0.000500259265)))
    tail = tl.exp2(-1.00000186 - z * tail)
    return tl.where(x < 0, tail, 1.0 - tail)


@triton.jit(do_not_specialize=["first"])
def forward_kernel(
    q, k, w, from_q, from_k, v, c, lengths, logits, middle, T, L, first,
    H: tl.constexpr, C: tl.constexpr, O: tl.constexpr, KEEP: tl.constexpr, P: tl.constexpr,
    BJ: tl.constexpr, BC: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """One row i and BJ partners j of a protein, of T rows from the `first` one."""
    row = tl.program_id(0).to(tl.int64)  # b * T + i
    b = row // T
    i = row % T
    tokens = tl.load(lengths + b)
    j = tl.program_id(1) * BJ + tl.arange(0, BJ)
    in_j = (j < tokens)[:, None]
    of_j = b * L + j
    o = tl.arange(0, P)
    at = ((b * O + o)[None, :] * T + i) * L + j[:, None]
    stored = (j < L)[:, None] & (o < O)[None, :]
    bias = tl.load(c + o, o < O, 0.0).to(tl.float32)[None, :]
    out = tl.zeros((BJ, P), tl.float32)
    if (first + i >= tokens) | (tl.program_id(1) * BJ >= tokens):
        tl.store(logits + at, out + bias, stored)
        return
    for start in tl.static_range(0, C, BC):
        cc = start + tl.arange(0, BC)
        in_c = cc < C
        mid = tl.zeros((BJ, BC), tl.float32)
        for channel in range(0, H, BK):
            h = channel + tl.arange(0, BK)
            in_h = h < H
            x = tl.load(q + of_j[:, None] * H + h[None, :], in_j & in_h[None, :], 0.0)
            x = x * tl.load(k + row * H + h, in_h, 0.0)[None, :]
            y = tl.load(w + cc[:, None] * H + h[None, :], in_c[:, None] & in_h[None, :], 0.0)
            mid = tl.dot(x, tl.trans(y), mid, input_precision="ieee")
        mid += tl.load(from_q + of_j[:, None] * C + cc[None, :], in_j & in_c[None, :], 0.0).to(tl.float32)
        mid -= tl.load(from_k + row * C + cc, in_c, 0.0).to(tl.float32)[None, :]
        if KEEP:
            rounded = mid.to(q.dtype.element_ty)
            tl.store(middle + (row * L + j)[:, None] * C + cc[None, :], rounded, in_j & in_c[None, :])
        z = tl.load(v + o[:, None] * C + cc[None, :], (o < O)[:, None] & in_c[None, :], 0.0)
        out = tl.dot((mid * normal(mid)).to(z.dtype), tl.trans(z), out, input_precision="ieee")
    tl.store(logits + at, tl.where(in_j, out, 0.0) + bias, stored)


@triton.jit(do_not_specialize=["first"])
def middle_kernel(
    middle, grad, v, lengths, d_middle, part_q, part_k, part_v, T, L, first,
    C: tl.constexpr, O: tl.constexpr, P: tl.constexpr, ROWS: tl.constexpr, BJ: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """D of `ROWS` rows i, BJ partners j and BC channels, and its sums over the pairs."""
    chunks = tl.cdiv(T, ROWS)
    b = (tl.program_id(2) // chunks).to(tl.int64)
    chunk = tl.program_id(2) % chunks
    tokens = tl.load(lengths + b)
    rows = tl.where(tl.program_id(1) * BJ < tokens, min(T, chunk * ROWS + ROWS, tokens - first), 0)
    j = tl.program_id(1) * BJ + tl.arange(0, BJ)
    cc = tl.program_id(0) * BC + tl.arange(0, BC)
    o = tl.arange(0, P)
    inside = (j < tokens)[:, None] & (cc < C)[None, :]
    z = tl.load(v + o[:, None] * C + cc[None, :], (o < O)[:, None] & (cc < C)[None, :], 0.0)
    sum_q = tl.zeros((BJ, BC), tl.float32)
    sum_v = tl.zeros((P, BC), tl.float32)
    for i in range(chunk * ROWS, rows):
        row = b * T + i
        at = (row * L + j)[:, None] * C + cc[None, :]
        mid = tl.load(middle + at, inside, 0.0).to(tl.float32)
        of = ((b * O + o)[:, None] * T + i) * L + j[None, :]
        g = tl.load(grad + of, (o < O)[:, None] & (j < tokens)[None, :], 0.0).to(z.dtype)
        cdf = normal(mid)
        slope = cdf + mid * tl.exp2(-0.7213475204444817 * mid * mid - 1.3257480647361593)  # log2 of the density
        sum_v = tl.dot(g, (mid * cdf).to(z.dtype), sum_v, input_precision="ieee")
        d = tl.dot(tl.trans(g), z, input_precision="ieee") * slope
        tl.store(d_middle + at, d.to(z.dtype), inside)
        sum_q += d
        sums = (b * tl.num_programs(1) + tl.program_id(1)) * T + i
        tl.store(part_k + sums * C + cc, -tl.sum(d, 0), cc < C)
    sums = (b * chunks + chunk) * L + j
    tl.store(part_q + sums[:, None] * C + cc[None, :], sum_q, (j < L)[:, None] & (cc < C)[None, :])
    sums = tl.program_id(2).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    tl.store(part_v + (sums * O + o)[:, None] * C + cc[None, :], sum_v, (o < O)[:, None] & (cc < C)[None, :])


@triton.jit(do_not_specialize=["first"])
def q_kernel(
    d_middle, k, w, lengths, d_q, T, L, first,
    H: tl.constexpr, C: tl.constexpr, BC: tl.constexpr, BJ: tl.constexpr, BH: tl.constexpr,
):  # fmt: skip
    """dq of BJ residues and BH channels."""
    b = tl.program_id(2).to(tl.int64)
    tokens = tl.load(lengths + b)
    rows = tl.where(tl.program_id(1) * BJ < tokens, min(T, tokens - first), 0)
    j = tl.program_id(1) * BJ + tl.arange(0, BJ)
    h = tl.program_id(0) * BH + tl.arange(0, BH)
    total = tl.zeros((BJ, BH), tl.float32)
    for start in tl.static_range(0, C, BC):
        cc = start + tl.arange(0, BC)
        inside = (j < tokens)[:, None] & (cc < C)[None, :]
        y = tl.load(w + cc[:, None] * H + h[None, :], (cc < C)[:, None] & (h < H)[None, :], 0.0)
        for i in range(0, rows):
            row = b * T + i
            d = tl.load(d_middle + (row * L + j)[:, None] * C + cc[None, :], inside, 0.0)
            x = tl.load(k + row * H + h, h < H, 0.0).to(tl.float32)
            total += x[None, :] * tl.dot(d, y, input_precision="ieee")
    tl.store(d_q + (b * L + j)[:, None] * H + h[None, :], total, (j < L)[:, None] & (h < H)[None, :])


@triton.jit(do_not_specialize=["first"])
def k_kernel(
    d_middle, q, k, w, lengths, part_k, part_w, T, L, first,
    H: tl.constexpr, C: tl.constexpr, ROWS: tl.constexpr, BC: tl.constexpr, BH: tl.constexpr, BJ: tl.constexpr,
):  # fmt: skip
    """E of `ROWS` rows i for BC x BH channels, and its sums."""
    chunks = tl.cdiv(T, ROWS)
    b = (tl.program_id(2) // chunks).to(tl.int64)
    chunk = tl.program_id(2) % chunks
    cc = tl.program_id(1) * BC + tl.arange(0, BC)
    h = tl.program_id(0) * BH + tl.arange(0, BH)
    in_c = cc < C
    in_h = h < H
    y = tl.load(w + cc[:, None] * H + h[None, :], in_c[:, None] & in_h[None, :], 0.0)
    sum_w = tl.zeros((BC, BH), tl.float32)
    e = tl.zeros((BC, BH), tl.float32)
    tokens = tl.load(lengths + b)
    steps = tl.cdiv(tokens, BJ)
    rows = max(0, min(T - chunk * ROWS, ROWS, tokens - first - chunk * ROWS))
    for n in range(0, rows * steps):  # one loop, so that loads run ahead across rows
        i = chunk * ROWS + n // steps
        j = (n % steps) * BJ + tl.arange(0, BJ)
        row = b * T + i
        in_j = (j < tokens)[:, None]
        d = tl.load(d_middle + (row * L + j)[:, None] * C + cc[None, :], in_j & in_c[None, :], 0.0)
        x = tl.load(q + (b * L + j)[:, None] * H + h[None, :], in_j & in_h[None, :], 0.0)
        e = tl.dot(tl.trans(d), x, e, input_precision="ieee")
        if n % steps == steps - 1:
            sum_w += tl.load(k + row * H + h, in_h, 0.0).to(tl.float32)[None, :] * e
            sums = (tl.program_id(1) * tl.num_programs(2) // chunks + b) * T + i
            tl.store(part_k + sums * H + h, tl.sum(y.to(tl.float32) * e, 0), in_h)
            e = tl.zeros((BC, BH), tl.float32)
    at = (tl.program_id(2).to(tl.int64) * C + cc)[:, None] * H + h[None, :]
    tl.store(part_w + at, sum_w, in_c[:, None] & in_h[None, :])


class MiddleLayer(torch.autograd.Function):
    """V_m GELU(mid) + c, (B, outputs, T, L) float32, of q (B, L, hidden) and k (B, T, hidden)."""

    @staticmethod
    def forward(
        ctx: Any,
        lengths: Tensor,
        first: int,
        q: Tensor,
        k: Tensor,
        w_p: Tensor,
        from_q: Tensor,
        from_k: Tensor,
        v: Tensor,
        c: Tensor,
    ):
        """lengths (B,) int32; k has the rows from the `first` one; w_p (channels, hidden), from_q (B, L, channels),
        from_k (B, T, channels), v (outputs, channels), c (outputs,).
        """
        given = [value.contiguous() for value in (q, k, w_p, from_q, from_k, v, c)]
        q, k, w_p, v = (given[n] for n in (0, 1, 2, 5))
        (batch, length, hidden), rows, (outputs, channels) = q.shape, k.shape[1], v.shape
        logits = q.new_empty(batch, outputs, rows, length, dtype=torch.float32)
        keep = any(ctx.needs_input_grad)
        middle = q.new_empty((batch, rows, length, channels) if keep else 0)
        own = blocks(q.device)["forward"]
        with torch.cuda.device_of(q):  # Triton uses the current card; in the backward pass PyTorch sets it
            forward_kernel[batch * rows, triton.cdiv(length, own["BJ"])](
                *given,
                *(lengths, logits, middle, rows, length, first),
                **{"H": hidden, "C": channels, "O": outputs, "KEEP": keep, "P": OUTPUTS},
                **own,
            )
        ctx.first = first
        ctx.save_for_backward(q, k, w_p, v, middle, lengths)
        return logits

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor):
        """Gradients of the inputs of `forward`."""
        q, k, w_p, v, middle, lengths = ctx.saved_tensors
        grad = grad.contiguous()
        (batch, length, hidden), rows, (outputs, channels) = q.shape, k.shape[1], v.shape
        of, chunks = blocks(q.device), triton.cdiv(rows, ROWS)
        partners, parts = triton.cdiv(length, of["middle"]["BJ"]), triton.cdiv(channels, of["k"]["BC"])

        size, single = (rows, length, ctx.first), {"dtype": torch.float32}
        d_middle, d_q = torch.empty_like(middle), torch.empty_like(q)
        from_q = q.new_empty(batch, chunks, length, channels, **single)
        from_k = q.new_zeros(batch, partners, rows, channels, **single)  # programs write none of padding
        of_v = q.new_empty(batch * chunks * partners, outputs, channels, **single)
        found = (d_middle, from_q, from_k, of_v)
        middle_kernel[triton.cdiv(channels, of["middle"]["BC"]), partners, batch * chunks](
            middle, grad, v, lengths, *found, *size, C=channels, O=outputs, P=OUTPUTS, ROWS=ROWS, **of["middle"]
        )
        q_kernel[triton.cdiv(hidden, of["q"]["BH"]), triton.cdiv(length, of["q"]["BJ"]), batch](
            d_middle, k, w_p, lengths, d_q, *size, H=hidden, C=channels, **of["q"]
        )
        of_k = q.new_zeros(parts, batch, rows, hidden, **single)
        of_w = q.new_empty(batch * chunks, channels, hidden, **single)
        k_kernel[triton.cdiv(hidden, of["k"]["BH"]), parts, batch * chunks](
            d_middle, q, k, w_p, lengths, of_k, of_w, *size, H=hidden, C=channels, ROWS=ROWS, **of["k"]
        )
        gradients = (d_q, of_k.sum(0), of_w.sum(0), from_q.sum(1), from_k.sum(1), of_v.sum(0), grad.sum((0, 2, 3)))
        return None, None, *(part.to(q.dtype) for part in gradients)


def tile_logits(
    lengths: Tensor, first: int, q: Tensor, k: Tensor, weight: Tensor, bias: Tensor, v_m: Tensor, c: Tensor
) -> Tensor:
    """As `pair_head.tile_logits`, of rows from the `first` one; keeps the middle layer for the backward pass."""
    w_p, w_d = weight.split(q.shape[2], dim=1)
    inputs = (q, k, w_p, F.linear(q, w_d, bias), F.linear(k, w_d), v_m, c)
    logits: Tensor = MiddleLayer.apply(lengths, first, *inputs)
    return logits
