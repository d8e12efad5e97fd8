"""Heads of SeqDance and ESMDance: layers with initial weights, and logits -> properties by name."""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn
from torch.nn import functional as F

from data_prepare.properties import INTERACTIONS, PAIR_CHANNELS, RESIDUE_COLUMNS

SOFTPLUS_THRESHOLD: Final = 2.0  # softplus(x) = x above it


def linear(inputs: int, outputs: int) -> nn.Linear:
    """Linear map with PyTorch's initial weights and zero biases."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.bias)
    return layer


def head(hidden: int, outputs: int, dropout: float) -> nn.Sequential:
    """Linear, GELU, LayerNorm, dropout, linear: (..., hidden) -> (..., outputs)."""
    return nn.Sequential(
        linear(hidden, hidden), nn.GELU(), nn.LayerNorm(hidden), nn.Dropout(dropout), linear(hidden, outputs)
    )


def residue_properties(logits: Tensor) -> dict[str, Tensor]:
    """(B, L, 50) -> residue property -> (B, L) or (B, L, bins): distributions, RMSF in 0 to 1, others >= 0."""
    outputs = {}
    widths = [width for _, width in RESIDUE_COLUMNS.values()]
    for name, part in zip(RESIDUE_COLUMNS, logits.split(widths, dim=-1), strict=True):  # part (B, L, bins)
        if part.shape[-1] > 1:
            outputs[name] = part.softmax(-1)
        elif name == "rmsf_nor":
            outputs[name] = part.squeeze(-1).sigmoid()
        else:
            outputs[name] = F.softplus(part.squeeze(-1), threshold=SOFTPLUS_THRESHOLD)
    return outputs


def pair_properties(logits: Tensor) -> dict[str, Tensor]:
    """(B, 13, L, L) -> pair property -> (B, L, L): correlations in -1 to 1, interaction frequencies >= 0."""
    contacts, correlations = logits.split([len(INTERACTIONS), len(PAIR_CHANNELS) - len(INTERACTIONS)], dim=1)
    contacts = F.softplus(contacts, threshold=SOFTPLUS_THRESHOLD)  # (B, 9, L, L)
    correlations = 2 * correlations.sigmoid() - 1  # (B, 4, L, L)
    return dict(zip(PAIR_CHANNELS, (*contacts.unbind(1), *correlations.unbind(1)), strict=True))
