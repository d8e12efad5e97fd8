"""Frames of a trajectory in chunks, checked against the topology."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from mdtraj.formats.registry import FormatRegistry
from mdtraj.utils import lengths_and_angles_to_box_vectors
from numpy.typing import NDArray

from data_prepare.errors import reading, require
from data_prepare.molecular_dynamics.frames.frame_range import FrameRange
from data_prepare.molecular_dynamics.frames.unwrap import WholeChains
from data_prepare.structure.readers import is_structure_file, read_models
from data_prepare.structure.topology import Topology

ANGSTROM_PER_NM: Final = np.float32(10.0)
NM_PER_ANGSTROM: Final = np.float32(0.1)
CHUNK_FRAMES: Final = 100
CHUNK_ATOMS: Final = 1_000_000  # frames x atoms: 12 MB of coordinates, a few times over
TRAJECTORY_SUFFIXES: Final = (".xtc", ".trr", ".dcd", ".nc", ".netcdf", ".ncdf", ".h5", ".hdf5")
ALL_FRAMES: Final = FrameRange()

Unit = Literal["angstrom", "nm"]


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some frames of a trajectory in the unit of the file, because each conversion rounds."""

    numbers: NDArray[np.int64]  # (frames,) index of each frame in the trajectory
    xyz: NDArray[np.float32]  # (frames, atoms, 3)
    unit: Unit

    @cached_property
    def angstrom(self) -> NDArray[np.float32]:
        """(frames, atoms, 3) in Angstrom."""
        return self.xyz if self.unit == "angstrom" else self.xyz * ANGSTROM_PER_NM

    @cached_property
    def nm(self) -> NDArray[np.float32]:
        """(frames, atoms, 3) in nm."""
        return self.xyz if self.unit == "nm" else self.xyz * NM_PER_ANGSTROM


def checked_chunk(numbers: NDArray[np.int64], xyz: NDArray[np.float32], unit: Unit, source: object) -> Chunk:
    """Chunk of finite frames; otherwise InputError names the source and the frame."""
    finite = np.isfinite(xyz).all(axis=(1, 2))
    bad = numbers[finite.argmin()]
    require(finite.all(), f"{source}: frame {bad} has coordinates that are not finite; repair or exclude it")
    return Chunk(numbers, xyz, unit)


def chunk_size(atoms: int) -> int:
    """Frames of a system to hold in memory at once."""
    return max(1, min(CHUNK_FRAMES, CHUNK_ATOMS // atoms))


def is_trajectory_file(path: str | Path) -> bool:
    """Whether a file name is that of a trajectory."""
    return Path(path).suffix.lower() in TRAJECTORY_SUFFIXES


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file, opened by MDTraj's reader for its suffix."""
    require(is_trajectory_file(path), f"{path}: unknown trajectory format; expected {', '.join(TRAJECTORY_SUFFIXES)}")
    with reading(path, "a readable trajectory"):
        path.stat()
        with FormatRegistry.fileobjects[path.suffix.lower()](str(path)) as file:
            _check_end(path, file)
            yield file


def _check_end(path: Path, file: Any) -> None:
    """Refuse a truncated file, which MDTraj's readers would take for a shorter one."""
    frames = len(file)
    if path.suffix.lower() == ".dcd":
        with open(path, "rb") as opened:
            head = opened.read(12)
        order = "<" if head[:4] == struct.pack("<i", 84) else ">"
        (claimed,) = struct.unpack(f"{order}i", head[8:])
        require(claimed <= frames, f"{path}: truncated, it has {frames} of {claimed} frames; copy it again")
    elif path.suffix.lower() in (".xtc", ".trr"):
        file.seek(max(frames - 1, 0))
        file.read(n_frames=2)  # fails if an incomplete frame follows the last one
        file.seek(0)


def _stored_frames(path: Path, frames: FrameRange, size: int) -> Iterator[tuple[Chunk, NDArray[np.float64] | None]]:
    """Frames in a range as stored, up to `size` at once, with their boxes (frames, 3, 3); skips the others unread."""
    if is_structure_file(path):
        stop = None if frames.end is None else frames.end + 1
        models = zip(count(frames.begin, frames.stride), islice(read_models(path), frames.begin, stop, frames.stride))
        while models_read := list(islice(models, size)):
            taken, positions = zip(*models_read, strict=True)
            yield Chunk(np.array(taken), np.array(positions, np.float32), "angstrom"), None
        return
    with _opened(path) as file:
        unit: Unit = "nm" if file.distance_unit == "nanometers" else "angstrom"
        numbers = np.array(frames.numbers(len(file), path))
        if frames.begin:
            file.seek(frames.begin)
        for some in np.split(numbers, range(size, len(numbers), size)):
            data = file.read(n_frames=len(some), stride=frames.stride)
            xyz = np.asarray(data[0] if isinstance(data, tuple) else data, np.float32)
            require(len(xyz) == len(some), f"{path}: truncated at frame {some[0] + len(xyz)}; copy it again")
            yield Chunk(some, xyz, unit), _box_vectors(data)


def _box_vectors(data: object) -> NDArray[np.float64] | None:
    """Box vectors (frames, 3, 3), in rows, from the tuple of an MDTraj reader: vectors, or lengths and angles."""
    if not isinstance(data, tuple):
        return None
    frames = len(data[0])
    arrays = [np.asarray(item) for item in data[1:] if item is not None]
    for array in arrays:
        if array.shape == (frames, 3, 3):
            return array.astype(np.float64)
    cell = [array.T.astype(np.float64) for array in arrays if array.shape == (frames, 3)]
    if len(cell) != 2 or not (cell[0] > 0).all():
        return None
    return np.stack(lengths_and_angles_to_box_vectors(*cell[0], *cell[1]), axis=1)


def read_chunks(
    topology: Topology,
    path: str | Path,
    frames: FrameRange = ALL_FRAMES,
    size: int | None = None,
    whole: bool = False,
) -> Iterator[Chunk]:
    """Frames of a trajectory in chunks of up to `size`, by default `chunk_size`.

    `path` is a file of MDTraj's formats, or a PDB or mmCIF file whose models are the frames. `topology` is that of the
    system or a part of it. `whole` makes protein chains whole that the periodic box has broken.

    InputError if the file is missing, unreadable, truncated or empty, its number of atoms differs from that of the
    topology, a coordinate is not finite, or the range contains no frame.
    """
    path = Path(path)
    make_whole = None
    chunk = None
    for chunk, box in _stored_frames(path, frames, size or chunk_size(topology.atoms_in_file)):
        xyz = _atoms_of_topology(topology, path, chunk.xyz)
        if whole and box is not None:
            make_whole = make_whole or _whole_chains(topology, path)
            xyz = make_whole(xyz, box)
        yield checked_chunk(chunk.numbers, xyz, chunk.unit, path)
    require(chunk is not None, f"{path}: no frame from {frames.begin} on; choose a smaller begin")


def _atoms_of_topology(topology: Topology, path: Path, xyz: NDArray[np.float32]) -> NDArray[np.float32]:
    """Frames with only the atoms of the topology."""
    n = xyz.shape[1]
    expected = f"the topology {topology.path} has {topology.num_atoms}; give the topology of this trajectory"
    require(n in (topology.num_atoms, topology.atoms_in_file), f"{path}: {n} atoms, but {expected}")
    order = topology.file_index if n == topology.atoms_in_file else topology.file_index.argsort().argsort()
    return xyz if n == len(order) and (np.diff(order) == 1).all() else xyz[:, order]


def _whole_chains(topology: Topology, path: Path) -> WholeChains:
    """Unwrapping by the first frame of the file, even if it is not used."""
    first, box = next(_stored_frames(path, FrameRange(end=0), 1))
    xyz = _atoms_of_topology(topology, path, first.xyz)
    return WholeChains(topology, xyz[0], np.zeros((3, 3)) if box is None else box[0])


def first_frame(topology: Topology, path: str | Path, whole: bool = False) -> NDArray[np.float32]:
    """First frame (atoms, 3) of a trajectory in Angstrom."""
    return next(read_chunks(topology, path, FrameRange(end=0), whole=whole)).angstrom[0]


def count_frames(path: str | Path) -> int:
    """Number of frames of a trajectory."""
    path = Path(path)
    if is_structure_file(path):
        return sum(1 for _ in read_models(path))
    with _opened(path) as file:
        return len(file)
