"""Residue head and pair head.

The pair head in its plain form, for residues i and j with q = q_j and k = k_i:

    middle(i, j) = W_p (q * k) + W_d (q - k) + b            pair_middle_linear, W = [W_p, W_d]
    logits(i, j) = V_m GELU(middle(i, j)) + V_a a(i, j) + c    pair_pred_linear, V = [V_m, V_a], a = all attention maps

Here neither the (L, L, 2 * hidden) input of `pair_middle_linear` nor the (L, L, layers * heads) stack of attention maps
is formed: W_p (q * k) - W_d k = (W_p diag(q) - W_d) k is one batched matrix product, and V_a a is a sum over layers,
each map projected as soon as the encoder has it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


def linear(inputs: int, outputs: int) -> nn.Linear:
    """Linear map with PyTorch's initial weights and biases at 0."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.bias)
    return layer


def head(hidden: int, outputs: int, dropout: float) -> nn.Sequential:
    """Linear, GELU, LayerNorm, dropout, linear: (..., hidden) -> (..., outputs)."""
    return nn.Sequential(
        linear(hidden, hidden), nn.GELU(), nn.LayerNorm(hidden), nn.Dropout(dropout), linear(hidden, outputs)
    )


def attention_logits(maps: Tensor, layer: int, pred: nn.Linear) -> Tensor:
    """One layer's part of V_a a.

    Parameters
    ----------
    maps
        (B, heads, L, L) attention of query i on key j.
    layer
        Number of the layer; the maps are channels layer * heads ... of the whole stack.
    pred
        `pair_pred_linear`; its last columns are V_a.

    Returns
    -------
    Tensor
        (B, outputs, L, L).
    """
    heads = maps.shape[1]
    first = pred.in_features // 2 + layer * heads  # the first half is V_m
    weight = pred.weight[:, first : first + heads]  # (outputs, heads)
    return (weight @ maps.flatten(2)).unflatten(2, maps.shape[2:])  # (outputs, heads) @ (B, heads, L * L)


def pair_logits(q: Tensor, k: Tensor, middle: nn.Linear, pred: nn.Linear, tile: int | None = None) -> Tensor:
    """V_m GELU(middle) + c of all residue pairs.

    Parameters
    ----------
    q, k
        (B, L, hidden) halves of the transformed residue embeddings.
    middle, pred
        `pair_middle_linear` and `pair_pred_linear`.
    tile
        Columns j computed at a time; where gradients are wanted, tiles are computed again in the backward pass instead
        of kept. Default: all at once. Memory beyond the result: O(B tile (L + hidden) channels).

    Returns
    -------
    Tensor
        (B, outputs, L, L), row i, column j.
    """
    if tile is None or tile >= q.shape[1]:
        logits = _columns(q, k, middle, pred)
    elif torch.is_grad_enabled():
        tiles = [
            checkpoint(_columns, part, k, middle, pred, use_reentrant=False, preserve_rng_state=False)
            for part in q.split(tile, dim=1)
        ]
        logits = torch.cat(tiles, dim=2)
    else:
        logits = torch.cat([_columns(part, k, middle, pred) for part in q.split(tile, dim=1)], dim=2)
    return logits.permute(0, 3, 1, 2)  # (B, L, L, outputs) -> (B, outputs, L, L)


def _columns(q: Tensor, k: Tensor, middle: nn.Linear, pred: nn.Linear) -> Tensor:
    """Columns T of the pair matrix: q (B, T, hidden), k (B, L, hidden) -> (B, L, T, outputs)."""
    hidden, channels = q.shape[-1], middle.out_features
    w_p, w_d = middle.weight.to(q.dtype).split(hidden, dim=1)  # each (channels, hidden)
    weight = w_p * q[:, :, None, :] - w_d  # (B, T, channels, hidden)
    start = F.linear(q, w_d, middle.bias)  # (B, T, channels)
    mid = torch.baddbmm(start.flatten(1)[:, None, :], k, weight.flatten(1, 2).mT)  # (B, L, T * channels)
    mid = F.gelu(mid.unflatten(2, (-1, channels)))  # (B, L, T, channels)
    return F.linear(mid, pred.weight[:, :channels], pred.bias)  # (B, L, T, outputs)
