"""Triton kernels for NVIDIA GPUs, forward and backward: attention maps, and the middle layer of the pair head.

`encoder` and `pair_head` of the network have the plain forms, and the notation. There each operation reads and writes
all maps, or the whole middle layer, which takes most of the time. Here one kernel does what it can while it holds them.

Rows and columns after the last token of a protein, as `lengths` says, are not computed: maps and GELU(middle) count as
0 there. Proteins of a batch differ in length, and half of its pairs can be padding. Sums over programs go through
partial results, so results do not depend on the order in which programs run.
"""

from model.network.kernels.attention import AttentionMaps
from model.network.kernels.pair_head import tile_logits

__all__ = ["AttentionMaps", "tile_logits"]
