"""Triton kernels for NVIDIA GPUs: attention maps and the middle layer of the pair head, forward and backward.

`pair_head` and `encoder` have the plain forms, and the notation. There each operation reads and writes all maps, or the
whole middle layer, which takes most of the time. Here one kernel does what it can while it holds them.

Attention: a program has the scores of a query in all heads. It writes their maps after softmax and dropout, and adds
V_a a to the pair logits. The backward pass has the sum X of the gradients that reach a map from the context and from
the pair logits, and forms that of a score, P * (X - sum over keys of P * X), where P are the maps before dropout.

Pair head: for the pairs of a row i, mid = (q * k_i) W_p^T + from_q - from_k_i, with from_q = q W_d^T + b and from_k =
k W_d^T. The forward kernel forms the products, GELU and V_m in registers and writes the logits and, for the backward
pass, mid. With G the gradient of the logits and D = (G V_m) * GELU'(mid) that of mid, the backward pass computes

    dq_j = sum_i k_i * (D_ij W_p)          one product per pair
    E_i = sum_j D_ij^T q_j                 another; dk_i = sum_c W_p * E_i, dW_p = sum_i k_i * E_i

Sums over programs go through partial results, so results do not depend on the order in which programs run. Programs
that read the same part of D follow each other, so that all but the first find it in the cache.

Rows and columns after the last token of a protein, as `lengths` says, are not computed: maps and GELU(mid) count as 0
there. Proteins of a batch differ in length, and half of its pairs can be padding.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

OUTPUTS: Final = 16  # rows of V_m and V_a, padded
ROWS: Final = 32  # rows i that a program of the backward pass adds up
# blocks of the kernels: fastest on an H200, for cards with 227 KB of shared memory; and for those with 99 KB or more
LARGE: Final = {
    "forward": {"BJ": 128, "BC": 256, "BK": 64, "num_warps": 8, "num_stages": 3},
    "middle": {"BJ": 32, "BC": 128, "num_warps": 4, "num_stages": 2},
    "q": {"BJ": 128, "BH": 128, "BC": 128, "num_warps": 8, "num_stages": 3},
    "k": {"BJ": 64, "BH": 128, "BC": 128, "num_warps": 8, "num_stages": 4},
    "maps": {"BJ": 128, "num_warps": 4},
    "scores": {"BJ": 256, "ROWS": 8, "num_warps": 4},
}
SMALL: Final = LARGE | {
    "forward": {"BJ": 64, "BC": 128, "BK": 32, "num_warps": 4, "num_stages": 3},
    "middle": {"BJ": 32, "BC": 128, "num_warps": 4, "num_stages": 1},
    "q": {"BJ": 64, "BH": 64, "BC": 128, "num_warps": 4, "num_stages": 2},
    "k": {"BJ": 32, "BH": 64, "BC": 128, "num_warps": 4, "num_stages": 3},
}


@cache
def blocks(device: torch.device) -> dict[str, dict[str, int]]:
    """Blocks of the kernels for a device."""
    return blocks_of(torch.cuda.get_device_capability(device)) if device.type == "cuda" else SMALL


def blocks_of(capability: tuple[int, int]) -> dict[str, dict[str, int]]:
    """Blocks of the kernels for a compute capability."""
    return LARGE if capability[0] in (9, 10) else SMALL


@triton.jit
def normal(x):
    """Distribution function of the normal distribution: GELU(x) = x normal(x).

    The logarithm of its tail is smooth: a polynomial, fitted to the least error of both functions, which is 7e-7. Half
    as many instructions as `tl.erf`, of which the forward kernel had more than it has of anything else.
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
    """One row i and BJ partners j of a protein; row 0 of the T is the `first` of the protein's."""
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

        size = (rows, length, ctx.first)

        def sums(*shape: int) -> Tensor:  # 0 for rows and columns after the last token
            return q.new_zeros(shape, dtype=torch.float32)

        d_middle, d_q = torch.empty_like(middle), torch.empty_like(q)
        from_q, from_k = sums(batch, chunks, length, channels), sums(batch, partners, rows, channels)
        of_v = sums(batch * chunks * partners, outputs, channels)
        found = (d_middle, from_q, from_k, of_v)
        middle_kernel[triton.cdiv(channels, of["middle"]["BC"]), partners, batch * chunks](
            middle, grad, v, lengths, *found, *size, C=channels, O=outputs, P=OUTPUTS, ROWS=ROWS, **of["middle"]
        )
        q_kernel[triton.cdiv(hidden, of["q"]["BH"]), triton.cdiv(length, of["q"]["BJ"]), batch](
            d_middle, k, w_p, lengths, d_q, *size, H=hidden, C=channels, **of["q"]
        )
        of_k, of_w = sums(parts, batch, rows, hidden), sums(batch * chunks, channels, hidden)
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


@triton.jit
def mixed(x):
    """32 bits in which each bit depends on all bits of x: a multiply-and-shift hash."""
    x ^= x >> 16
    x *= 0x7FEB352D
    x ^= x >> 15
    x *= 0x846CA68B
    return x ^ (x >> 16)


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
        valid = j < tokens
        s = tl.load(scores + at[:, None] * L + j[None, :], (n < H)[:, None] & valid[None, :], 0.0).to(tl.float32)
        if MASK:
            valid = tl.load(keys + b * L + j, valid, 0) != 0
        s = tl.where(valid[None, :], s, float("-inf"))
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
        inside = (n < H)[:, None] & (j < L)[None, :]
        valid = j < tokens
        s = tl.load(scores + at[:, None] * L + j[None, :], inside, 0.0).to(tl.float32)
        if MASK:
            valid = tl.load(keys + b * L + j, valid, 0) != 0
        probability = tl.where(valid[None, :], tl.exp(s - log_sum[:, None]), 0.0)
        if DROP:
            bits = mixed(key[:, None] ^ (i * L + j).to(tl.uint32)[None, :])
            kept = (bits >> 8).to(tl.float32) * (1.0 / 16777216.0) >= dropout
            probability = tl.where(kept, probability / (1.0 - dropout), 0.0)
        rounded = probability.to(z.dtype)
        tl.store(maps + at[:, None] * L + j[None, :], rounded, inside)
        rounded = tl.where(inside, rounded, 0.0)
        of = ((b * O + o)[:, None] * L + i) * L + j[None, :]
        pairs = (o < O)[:, None] & (j < L)[None, :]
        tl.store(part + of, tl.load(part + of, pairs, 0.0) + tl.dot(z, rounded, input_precision="ieee"), pairs)
    for start in range(tl.cdiv(tokens, BJ) * BJ, L, BJ):
        j = start + tl.arange(0, BJ)
        nothing = tl.zeros((BH, BJ), maps.dtype.element_ty)
        tl.store(maps + at[:, None] * L + j[None, :], nothing, (n < H)[:, None] & (j < L)[None, :])


@triton.jit
def scores_kernel(
    scores, keys, lengths, v, maps, sums, d_maps, grad, d_scores, part_v, T, L, dropout,
    H: tl.constexpr, O: tl.constexpr, P: tl.constexpr, BH: tl.constexpr, ROWS: tl.constexpr,
    MASK: tl.constexpr, DROP: tl.constexpr, LEARN: tl.constexpr, BJ: tl.constexpr,
):  # fmt: skip
    """Gradients of the scores of `ROWS` of the T = B * L queries in all heads, and of V_a."""
    n = tl.arange(0, BH)
    o = tl.arange(0, P)
    z = tl.load(v + o[:, None] * H + n[None, :], (o < O)[:, None] & (n < H)[None, :], 0.0)
    sum_v = tl.zeros((P, BH), tl.float32)
    first = tl.program_id(0).to(tl.int64) * ROWS
    for number in range(0, min(ROWS, T - first)):
        row = first + number  # b * L + i
        b = row // L
        i = row % L
        at = (b * H + n) * L + i
        tokens = tl.load(lengths + b)
        tokens = tl.where(i < tokens, tokens, 0)
        mean = tl.zeros((BH,), tl.float32)  # of the gradients of the maps, weighted by the maps
        for start in range(0, tokens, BJ):
            j = start + tl.arange(0, BJ)
            inside = (n < H)[:, None] & (j < L)[None, :]
            of = ((b * O + o)[:, None] * L + i) * L + j[None, :]
            g = tl.load(grad + of, (o < O)[:, None] & (j < L)[None, :], 0.0).to(z.dtype)
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
                inside = (n < H)[:, None] & (j < L)[None, :]
                of = ((b * O + o)[:, None] * L + i) * L + j[None, :]
                g = tl.load(grad + of, (o < O)[:, None] & (j < L)[None, :], 0.0).to(z.dtype)
                d = tl.load(d_maps + at[:, None] * L + j[None, :], inside, 0.0).to(tl.float32)
                d += tl.dot(tl.trans(z), g, input_precision="ieee")
                if DROP:
                    a = tl.load(maps + at[:, None] * L + j[None, :], inside, 0.0)
                    d = tl.where(a > 0, d / (1.0 - dropout), 0.0)
                s = tl.load(scores + at[:, None] * L + j[None, :], inside, 0.0).to(tl.float32)
                valid = j < tokens
                if MASK:
                    valid = tl.load(keys + b * L + j, valid, 0) != 0
                d = tl.where(valid[None, :], tl.exp(s - log_sum[:, None]) * (d - mean[:, None]), 0.0)
                tl.store(d_scores + at[:, None] * L + j[None, :], d.to(z.dtype), inside)
            for start in range(tl.cdiv(tokens, BJ) * BJ, L, BJ):
                j = start + tl.arange(0, BJ)
                nothing = tl.zeros((BH, BJ), z.dtype)
                tl.store(d_scores + at[:, None] * L + j[None, :], nothing, (n < H)[:, None] & (j < L)[None, :])
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
        ctx.options = {"H": heads, "O": outputs, "P": OUTPUTS, "BH": max(16, triton.next_power_of_2(heads))}
        ctx.options |= {"MASK": keys is not None, "DROP": dropout > 0}
        ctx.dropout = dropout
        own = ctx.options | blocks(scores.device)["maps"]
        found = (maps, sums, part)
        random = seeds if dropout else v
        with torch.cuda.device_of(scores):
            maps_kernel[(batch * length,)](scores, given, lengths, random, v, *found, length, layer, dropout, **own)
        kept = scores if ctx.needs_input_grad[0] else maps  # of a frozen encoder nothing but its maps
        ctx.save_for_backward(kept, given, lengths, v, maps, sums)
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
        own = ctx.options | blocks(scores.device)["scores"]
        programs = triton.cdiv(queries, own["ROWS"])
        d_scores = torch.empty_like(scores) if learn else scores
        part_v = v.new_empty(programs, *v.shape, dtype=torch.float32)
        d_maps, grad = (scores if d_maps is None else d_maps.contiguous()), grad.contiguous()
        given = (scores, keys, lengths, v, maps, sums, d_maps, grad)
        size = (queries, scores.shape[2])
        scores_kernel[(programs,)](*given, d_scores, part_v, *size, ctx.dropout, LEARN=learn, **own)
        return (d_scores if learn else None), part_v.sum(0).to(ctx.of_v), grad, None, None, None, None, None
