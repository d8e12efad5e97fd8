"""AMBER trajectories in NetCDF-3, also truncated ones, which SciPy (the reader behind MDTraj) cannot open.

Sources: NetCDF classic format specification (Unidata); AMBER NetCDF trajectory convention 1.0.
"""

from __future__ import annotations

import os
import struct
from math import prod
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import require

TYPES: Final = {1: ">i1", 2: ">S1", 3: ">i2", 4: ">i4", 5: ">f4", 6: ">f8"}
OFFSETS: Final = {b"CDF\1": ">i", b"CDF\2": ">q"}  # their width grew with the second version
USED: Final = ("coordinates", "cell_lengths", "cell_angles")
STREAMED: Final = 2**32 - 1  # number of records of a file whose writer did not count them


class Variable(NamedTuple):
    """Values per frame."""

    begin: int  # first byte
    step: int  # bytes from frame to frame
    shape: tuple[int, ...]  # of a frame
    dtype: np.dtype


class NetCDFTrajectory:
    """Whole frames of a file, with the interface of MDTraj's readers.

    Its header counts `counted` frames, which it has or, in a truncated file, not; there is room for `room`.
    """

    distance_unit = "angstroms"

    def __init__(self, path: str | Path) -> None:
        with open(path, "rb") as file:
            self.counted, self._variables = _read_header(path, file)
            size = os.fstat(file.fileno()).st_size
        ends = {v: v.begin + prod(v.shape) * v.dtype.itemsize for v in self._variables.values()}  # of the first frame
        self.room = min((max(0, size - end) // v.step + (size >= end) for v, end in ends.items()), default=0)
        self.counted = self.room if self.counted == STREAMED else self.counted
        self.frames = min(self.counted, self.room)
        self._bytes = np.memmap(path, np.uint8, "r")
        self._next = 0

    def __enter__(self) -> NetCDFTrajectory:
        return self

    def __exit__(self, *_: object) -> None:
        del self._bytes

    def seek(self, frame: int) -> None:
        """Read from a frame on."""
        self._next = frame

    def read(self, n_frames: int) -> tuple[NDArray | None, ...]:
        """Positions (frames, atoms, 3), lengths of the cells (frames, 3) in Angstrom and angles in degrees, or None."""
        first, self._next = self._next, self._next + n_frames
        arrays: list[NDArray | None] = []
        for name in USED:
            if (variable := self._variables.get(name)) is None:
                arrays.append(None)
                continue
            begin, step, shape, dtype = variable
            inner = np.empty(shape, dtype).strides
            strided = np.ndarray((self.frames, *shape), dtype, self._bytes, begin, (step, *inner))
            arrays.append(strided[first : self._next].astype(dtype.newbyteorder("=")))
        return tuple(arrays)


def _read_header(path: str | Path, file: BinaryIO) -> tuple[int, dict[str, Variable]]:
    """Number of frames and the variables in `USED`."""
    magic = file.read(4)
    require(magic[:3] != b"\x89HD", f"{path}: NetCDF-4, which is HDF5; convert it to NetCDF-3 (cpptraj)")
    require(magic in OFFSETS, f"{path}: not a NetCDF-3 file; copy or convert it again")

    def number(form: str = ">I") -> int:
        (value,) = struct.unpack(form, file.read(struct.calcsize(form)))
        return int(value)

    def padded(length: int) -> bytes:
        return file.read(length + -length % 4)[:length]

    def skip_attributes() -> None:
        number()
        for _ in range(number()):
            padded(number())
            size = np.dtype(TYPES[number()]).itemsize
            padded(size * number())

    frames = number()
    number()
    dimensions = [(padded(number()), number()) for _ in range(number())]
    skip_attributes()
    number()
    read = []
    for _ in range(number()):
        name = padded(number()).decode()
        shape = tuple(dimensions[number()][1] for _ in range(number()))
        skip_attributes()
        dtype = np.dtype(TYPES[number()])
        number()  # bytes of the variable, wrong if it is large
        read.append((name, shape, dtype, number(OFFSETS[magic])))
    per_record = [prod(shape[1:]) * dtype.itemsize for _, shape, dtype, _ in read if shape[:1] == (0,)]
    record = sum(size + (-size % 4 if len(per_record) > 1 else 0) for size in per_record)
    variables = {}
    for name, shape, dtype, begin in read:
        if name in USED and len(shape) > 1:
            recorded = shape[0] == 0
            frames = frames if recorded else shape[0]
            step = record if recorded else prod(shape[1:]) * dtype.itemsize
            variables[name] = Variable(begin, step, shape[1:], dtype)
    shape = variables["coordinates"].shape if "coordinates" in variables else ()
    require(shape[1:] == (3,), f"{path}: no coordinates (frame, atom, 3); convert it with cpptraj")
    return frames, variables
