"""Where the frames of an XTC, TRR or DCD file begin, by its headers alone.

MDTraj's readers take a truncated DCD for a shorter one, cannot open a TRR that ends inside a frame, and trust the sizes
in damaged headers. Sources: xdrfile (GROMACS), the DCD form of CHARMM and NAMD.
"""

from __future__ import annotations

import os
import struct
from itertools import product
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import require

XTC_START: Final = struct.Struct(">3i10fi")  # magic, atoms, step; time, box; atoms
XTC_MAGIC: Final = 1995
XTC_COMPRESSED: Final = struct.Struct(">f8i")  # precision; lowest and highest integers, index of the small size, bytes
XTC_SMALL_SIZES: Final = range(9, 73)  # indices
XTC_PLAIN_ATOMS: Final = 9  # so few are not compressed
TRR_START: Final = struct.pack(">3i12s", 1993, 13, 12, b"GMX_trn_file")
TRR_SIZES: Final = struct.Struct(">24x12i")  # ir, e, box, virial, pressure, topology, symbols, x, v, f; atoms, step
LONGEST_HEADER: Final = 92  # of a frame


class Layout(NamedTuple):
    """Frames of a file."""

    starts: NDArray[np.int64]  # (frames,) first byte of each whole frame
    cut: bool  # the file ends inside the next frame, or the next one is damaged
    claimed: int | None = None  # frames by the header of the file


class _Frame(NamedTuple):
    size: int  # bytes; 0 if the header is damaged
    atoms: int = 0
    has_positions: bool = True


def layout_of(path: Path) -> Layout:
    """Layout of a file; `struct.error` or InputError if its first header is damaged."""
    if path.suffix.lower() == ".dcd":
        return _dcd_layout(path)
    frame_of = {".xtc": _xtc_frame, ".trr": _trr_frame}[path.suffix.lower()]
    starts, begin, atoms = [], 0, 0
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        while begin < size:
            file.seek(begin)
            frame = frame_of(file.read(LONGEST_HEADER))
            if not 0 < frame.size <= size - begin or atoms not in (0, frame.atoms):
                break
            if frame.has_positions:
                starts.append(begin)
            begin, atoms = begin + frame.size, frame.atoms
    return Layout(np.array(starts, np.int64), begin < size)


def _xtc_frame(header: bytes) -> _Frame:
    if len(header) < XTC_START.size:
        return _Frame(0)
    magic, atoms, *_, coordinates = XTC_START.unpack_from(header)
    if magic != XTC_MAGIC or atoms <= 0 or coordinates != atoms:
        return _Frame(0)
    if atoms <= XTC_PLAIN_ATOMS:
        return _Frame(XTC_START.size + 12 * atoms, atoms)
    if len(header) < LONGEST_HEADER:
        return _Frame(0)
    _, *integers, small, length = XTC_COMPRESSED.unpack_from(header, XTC_START.size)
    most = 4 * (int(3.6 * atoms) - 3)  # bytes that xdrfile has room for
    possible = small in XTC_SMALL_SIZES and 0 < length <= most
    ordered = all(low <= high for low, high in zip(integers[:3], integers[3:], strict=True))
    return _Frame(LONGEST_HEADER + length + -length % 4 if possible and ordered else 0, atoms)


def _trr_frame(header: bytes) -> _Frame:
    if len(header) < LONGEST_HEADER - 8 or not header.startswith(TRR_START):
        return _Frame(0)
    *sizes, atoms, _ = TRR_SIZES.unpack_from(header)
    box, arrays = sizes[2], sizes[7:]  # arrays: positions, velocities, forces
    if atoms <= 0 or min(sizes) < 0 or not any(arrays):
        return _Frame(0)
    width = max(arrays) // (3 * atoms)  # of a number
    if width not in (4, 8) or not {*arrays} <= {0, 3 * atoms * width} or box not in (0, 9 * width):
        return _Frame(0)
    return _Frame(76 + 2 * width + sum(sizes), atoms, sizes[7] > 0)


def _dcd_layout(path: Path) -> Layout:
    """A record has its length before and after it, in 4 or 8 bytes of either order."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(100)
        forms = [order + kind for order, kind in product("<>", "iq") if _is_dcd(head, order + kind)]
        require(forms, f"{path}: not a DCD file; copy or convert it again")
        form, marker = forms[0], struct.calcsize(forms[0])
        flags = struct.unpack_from(f"{form[0]}20i", head, marker + 4)
        claimed, fixed, cell, fourth, charmm = (flags[k] for k in (0, 8, 10, 11, 19))
        begin = 84 + 2 * marker
        file.seek(begin)
        (title,) = struct.unpack(form, file.read(marker))
        begin += title + 2 * marker
        file.seek(begin + marker)
        (atoms,) = struct.unpack(f"{form[0]}i", file.read(4))
    require(0 <= fixed < atoms and title >= 0, f"{path}: damaged header; copy it again")
    begin += 4 + 2 * marker + (4 * (atoms - fixed) + 2 * marker if fixed else 0)

    def frame(moving: int) -> int:
        axes = 3 + (charmm != 0 and fourth == 1)
        return (48 + 2 * marker if charmm and cell else 0) + axes * (4 * moving + 2 * marker)

    first, later = frame(atoms), frame(atoms - fixed)  # atoms that never move are only in the first frame
    frames, rest = divmod(size - begin - first, later)
    frames = max(0, frames + 1)
    starts = begin + np.where(np.arange(frames) > 0, first - later, 0) + later * np.arange(frames)
    return Layout(starts, size > begin and (rest > 0 if frames else True), claimed)


def _is_dcd(head: bytes, form: str) -> bool:
    marker = struct.calcsize(form)
    return head[: marker + 4] == struct.pack(form, 84) + b"CORD"
