"""Floating-point operations of a training, and how many a card can do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from data_prepare.properties import NUM_PAIR_OUTPUTS, NUM_RESIDUE_OUTPUTS
from model.config import ModelConfig

# Dense bf16 peak in TFLOP/s by a pattern of the name that PyTorch gives; the first that fits. Sources: NVIDIA's data
# sheets (half of the figures "with sparsity"), for the GeForce cards the white papers (fp32 accumulation). V100 and T4
# have no bf16: fp16.
PEAK_TFLOPS: Final = (
    (r"\bGB200\b", 2500.0),
    (r"\bB200\b", 2250.0),
    (r"\bH[12]00 NVL\b", 835.0),
    (r"\bH[18]00 PCIe\b", 756.0),
    (r"\b(G?H200|H[18]00)\b", 989.0),
    (r"\bH20\b", 148.0),
    (r"\bA[18]00\b", 312.0),
    (r"\bA40\b", 149.7),
    (r"\bA30\b", 165.0),
    (r"\bA10G\b", 70.0),
    (r"\bA10\b", 125.0),
    (r"\bRTX A6000\b", 154.8),
    (r"\bRTX 6000 Ada\b", 364.2),
    (r"\bL40S\b", 362.0),
    (r"\bL40\b", 181.0),
    (r"\bL4\b", 121.0),
    (r"\bV100-PCIE\b", 112.0),
    (r"\bV100\b", 125.0),
    (r"\bT4\b", 65.0),
    (r"\bRTX 5090$", 209.5),
    (r"\bRTX 4090$", 165.2),
    (r"\bRTX 3090 Ti$", 80.0),
    (r"\bRTX 3090$", 71.0),
)


def peak_flops(devices: Sequence[str]) -> float | None:
    """Sum of the dense bf16 peaks of cards in FLOP/s by their names; None if one is unknown, a CPU, or a MIG slice."""
    found = [next((peak for pattern, peak in PEAK_TFLOPS if re.search(pattern, name)), None) for name in devices]
    known = [peak for name, peak in zip(devices, found, strict=True) if peak is not None and " MIG " not in name]
    return 1e12 * sum(known) if known and len(known) == len(devices) else None


def training_flops(config: ModelConfig, tokens: int, pairs: int) -> float:
    """Model FLOPs of the forward and backward passes of proteins with `tokens` tokens and `pairs` pairs of tokens.

    `tokens` is the sum over the proteins of their lengths L, `pairs` that of L^2, both without padding. A multiply-add
    counts as two; only matrix products count, and nothing that is recomputed ("model FLOPs": Chowdhery et al., PaLM,
    arXiv 2204.02311, appendix B). For hidden size H, feed-forward size F, M = layers * heads attention maps, and 50
    and 13 outputs for residues and pairs, the products of the forward pass are

        encoder          layers (L (8 H^2 + 4 H F) + 4 L^2 H)
        residue head     2 L H^2 + 100 L H
        pair head        2 L H^2 + 4 L H^2 + 2 L^2 H M + 26 L^2 M + 26 L^2 M

    The pair head's lines are its two linear maps of residues, its middle layer as one product per row of pairs (see
    `pair_head`; half of the (L, L, 2 H) form), and its outputs from the middle layer and from the attention maps. The
    backward pass has two products for each of them, of which one is the gradient of the input. A frozen encoder has
    none, nor is there a gradient of what it hands to the heads: embeddings and attention maps.
    """
    hidden, maps = config.hidden, config.maps
    encoder = config.layers * (tokens * (8 * hidden**2 + 4 * hidden * config.feed_forward) + 4 * pairs * hidden)
    from_encoder = 4 * tokens * hidden**2 + 2 * NUM_PAIR_OUTPUTS * pairs * maps  # products with its outputs
    after = 2 * tokens * hidden * NUM_RESIDUE_OUTPUTS + 4 * tokens * hidden**2
    after += 2 * pairs * hidden * maps + 2 * NUM_PAIR_OUTPUTS * pairs * maps
    if config.freeze_encoder:
        return float(encoder + 2 * from_encoder + 3 * after)
    return float(3 * (encoder + from_encoder + after))
