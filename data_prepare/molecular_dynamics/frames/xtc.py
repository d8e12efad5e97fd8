"""Whether compressed frames of an XTC file fit their number of atoms: MDTraj's decoder trusts them.

It would write damaged ones past the end of its arrays. Source: `xdrfile_decompress_coord_float` of xdrfile (GROMACS).
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numba import njit
from numpy.typing import NDArray

from data_prepare.molecular_dynamics.frames.layout import (
    LONGEST_HEADER,
    XTC_COMPRESSED,
    XTC_PLAIN_ATOMS,
    XTC_SMALL_SIZES,
    XTC_START,
)

WIDE = 0xFFFFFF  # from this range on, the three integers of an atom are stored one by one


def first_damaged(path: Path, starts: NDArray[np.int64]) -> int | None:
    """Index of the first frame, of those that begin at these bytes, that does not fit its number of atoms."""
    with open(path, "rb") as file:
        return next((k for k, start in enumerate(starts.tolist()) if not _is_sound(file, start)), None)


def _is_sound(file: BinaryIO, start: int) -> bool:
    file.seek(start)
    header = file.read(LONGEST_HEADER)
    atoms = XTC_START.unpack_from(header)[1]
    if atoms <= XTC_PLAIN_ATOMS:
        return True
    _, *integers, small, length = XTC_COMPRESSED.unpack_from(header, XTC_START.size)
    sizes = [high - low + 1 for low, high in zip(integers[:3], integers[3:], strict=True)]
    wide = max(sizes) > WIDE
    bits = sum(size.bit_length() for size in sizes) if wide else (sizes[0] * sizes[1] * sizes[2]).bit_length()
    content = np.frombuffer(file.read(length), np.uint8)
    return max(sizes) < 2**31 and _fits(content, atoms, bits, small, XTC_SMALL_SIZES.start, XTC_SMALL_SIZES.stop)


@njit(cache=True, nogil=True)
def _fits(content: NDArray, atoms: int, bits: int, small: int, smallest: int, largest: int) -> bool:
    """Whether the bits of a frame hold exactly `atoms`: each has `bits`, those in a run after it `small` bits.

    A bit tells whether another run length and change of `small`, 5 bits together, follow.
    """
    place, done, run = 0, 0, 0
    while done < atoms:
        place += bits
        if place + 1 > 8 * len(content):
            return False
        done += 1
        flag = (content[place >> 3] >> (7 - (place & 7))) & 1
        place += 1
        change = 0
        if flag:
            if place + 5 > 8 * len(content):
                return False
            code = 0
            for k in range(place, place + 5):
                code = 2 * code + ((content[k >> 3] >> (7 - (k & 7))) & 1)
            place += 5
            change = code % 3 - 1
            run = code // 3
        done += run
        place += run * small
        small += change
        if not smallest <= small < largest:
            return False
    return done == atoms and place <= 8 * len(content)
