"""Sizes of the blocks that programs of the kernels compute, by the card, whose shared memory must hold them."""

from __future__ import annotations

from functools import cache
from typing import Final

import torch
import triton

OUTPUTS: Final = 16  # rows of V_m and V_a, padded
# fastest on an H200, for cards with 227 KB of shared memory; and for those with 99 KB or more
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


def with_heads(own: dict[str, int], heads: int) -> dict[str, int]:
    """Blocks of a kernel of attention for a number of heads, BH; with more than 32 they have fewer keys."""
    padded = max(16, triton.next_power_of_2(heads))
    return own | {"BH": padded, "BJ": min(own["BJ"], 32 * own["BJ"] // padded)}
