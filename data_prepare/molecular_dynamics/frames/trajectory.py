"""Frames of a trajectory in chunks, checked against the topology."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from mdtraj.formats.registry import FormatRegistry
from mdtraj.utils import lengths_and_angles_to_box_vectors
from numpy.typing import NDArray

from data_prepare.errors import InputError
from data_prepare.molecular_dynamics.frames.unwrap import WholeChains
from data_prepare.structure.readers import is_structure_file, read_models
from data_prepare.structure.topology import Topology

ANGSTROM_PER_NM: Final = np.float32(10.0)
NM_PER_ANGSTROM: Final = np.float32(0.1)
CHUNK_FRAMES: Final = 100
CHUNK_ATOMS: Final = 1_000_000  # frames x atoms held at once: 12 MB of coordinates, a few times over
TRAJECTORY_SUFFIXES: Final = (".xtc", ".trr", ".dcd", ".nc", ".netcdf", ".ncdf", ".mdcrd", ".crd", ".h5", ".hdf5")


class Chunk(NamedTuple):
    """Some frames, in both units: a conversion there and back would cost the last bit.

    Attributes
    ----------
    numbers
        (frames,) place of each frame in the trajectory.
    angstrom, nm
        (frames, atoms, 3) float32.
    """

    numbers: NDArray[np.int64]
    angstrom: NDArray[np.float32]
    nm: NDArray[np.float32]


def chunk_size(atoms: int) -> int:
    """Frames of a system that are held at once."""
    return max(1, min(CHUNK_FRAMES, CHUNK_ATOMS // atoms))


def chunk_of_angstrom(xyz: NDArray, first_number: int = 0) -> Chunk:
    """Chunk of frames (frames, atoms, 3) in Angstrom that are at hand."""
    xyz = np.asarray(xyz, np.float32)
    return Chunk(np.arange(first_number, first_number + len(xyz)), xyz, xyz * NM_PER_ANGSTROM)


class _RawChunk(NamedTuple):
    """Frames as stored."""

    xyz: NDArray[np.float32]  # (frames, atoms, 3)
    box: NDArray[np.float64] | None  # (frames, 3, 3) vectors in rows, same unit
    in_nm: bool  # else Angstrom


def _suffix(path: Path) -> str:
    return path.suffix.lower()


def is_trajectory_file(path: str | Path) -> bool:
    """Whether a file is a trajectory by its name."""
    return _suffix(Path(path)) in TRAJECTORY_SUFFIXES


def _open(path: Path) -> AbstractContextManager:
    """The file, opened by MDTraj's reader for its suffix."""
    suffix = _suffix(path)
    if suffix not in FormatRegistry.fileobjects:
        raise InputError(f"{path}: not a trajectory by its name; known are {', '.join(TRAJECTORY_SUFFIXES)}")
    if suffix == ".dcd":
        _check_dcd(path)
    return FormatRegistry.fileobjects[suffix](str(path), mode="r")


def _check_dcd(path: Path) -> None:
    """Refuse a DCD file that was cut short: its reader would end early without a word."""
    with open(path, "rb") as file:
        head = file.read(12)
    if len(head) < 12:
        raise InputError(f"{path}: not a readable trajectory (only {len(head)} bytes)")
    order = "<" if head[:4] == struct.pack("<i", 84) else ">"
    (claimed,) = struct.unpack(f"{order}i", head[8:])
    with FormatRegistry.fileobjects[".dcd"](str(path), mode="r") as opened:
        there = len(opened)
    if claimed > there:
        raise InputError(f"{path}: cut short, {there} of {claimed} frames are there; copy it again")


def _raw_chunks(path: Path, size: int) -> Iterator[_RawChunk]:
    """All frames as stored."""
    if is_structure_file(path):
        models = read_models(path)
        while some := list(islice(models, size)):
            yield _RawChunk(np.array(some), None, False)
        return
    try:
        with _open(path) as file:
            in_nm = file.distance_unit == "nanometers"
            while True:
                data = file.read(n_frames=size)
                xyz = np.asarray(data[0] if isinstance(data, tuple) else data, np.float32)
                if len(xyz) == 0:
                    return
                yield _RawChunk(xyz, _box_vectors(data), in_nm)
    except InputError:
        raise
    except Exception as error:  # every reader of MDTraj raises its own kind
        raise InputError(f"{path}: not a readable trajectory ({type(error).__name__}: {error})") from None


def _box_vectors(data: object) -> NDArray[np.float64] | None:
    """Box vectors (frames, 3, 3) among what a reader of MDTraj gives: as they are, or lengths and angles."""
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


def check_range(begin: int, end: int | None, stride: int) -> None:
    """Raise InputError unless 0 <= begin <= end and stride >= 1."""
    if begin < 0 or stride < 1 or (end is not None and end < begin):
        raise InputError(f"frames {begin} to {end} with stride {stride}: expected 0 <= begin <= end and stride >= 1")


def read_chunks(
    topology: Topology,
    path: str | Path,
    begin: int = 0,
    end: int | None = None,
    stride: int = 1,
    size: int | None = None,
    whole: bool = False,
) -> Iterator[Chunk]:
    """Frames of a trajectory, a chunk at a time.

    Parameters
    ----------
    topology
        Of the same system, or a part of it.
    path
        XTC, DCD, TRR, NetCDF (whatever MDTraj opens), or the models of a PDB or mmCIF file.
    begin, end, stride
        Which frames; `end` is inclusive and None is the last one.
    size
        Frames read at once; by default as many as fit a bounded memory, at most 100.
    whole
        Make protein chains whole that the periodic box has broken, if the trajectory has a box.

    Yields
    ------
    Chunks of up to `size` frames, atoms as in `topology`.

    Raises
    ------
    InputError
        If the file is missing, unreadable, cut short or empty, its atoms are not as many as those of the topology, a
        coordinate is not finite, or the range has no frame.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    check_range(begin, end, stride)
    if size is None:
        size = chunk_size(topology.atoms_in_file)
    position = 0
    used = 0
    make_whole = None
    for xyz, box, in_nm in _raw_chunks(path, size):
        if xyz.shape[1] not in (topology.num_atoms, topology.atoms_in_file):
            raise InputError(
                f"{path}: {xyz.shape[1]} atoms, but the topology {topology.path} has {topology.num_atoms}; "
                "give the topology of this trajectory"
            )
        if xyz.shape[1] != topology.num_atoms:
            xyz = xyz[:, topology.file_index]
        if whole and box is not None:
            if make_whole is None:  # the first frame decides, whichever are used
                make_whole = WholeChains(topology, xyz[0], box[0])
            xyz = make_whole(xyz, box)
        numbers = np.arange(position, position + len(xyz))
        position += len(xyz)
        keep = (numbers >= begin) & ((numbers - begin) % stride == 0)
        if end is not None:
            keep &= numbers <= end
        if keep.any():
            numbers, xyz = numbers[keep], xyz[keep]
            finite = np.isfinite(xyz).all(axis=(1, 2))
            if not finite.all():
                raise InputError(f"{path}: frame {numbers[~finite][0]} has coordinates that are not finite numbers")
            used += len(numbers)
            if in_nm:
                yield Chunk(numbers, xyz * ANGSTROM_PER_NM, xyz)
            else:
                yield Chunk(numbers, xyz, xyz * NM_PER_ANGSTROM)
        if end is not None and position > end:
            break
    if position == 0:
        raise InputError(f"{path}: no frames in it")
    if used == 0:
        raise InputError(f"{path}: no frame from {begin} to {end}; it has {position}")


def first_frame(topology: Topology, path: str | Path, whole: bool = False) -> NDArray[np.float32]:
    """First frame (atoms, 3) of a trajectory in Angstrom."""
    return next(read_chunks(topology, path, size=1, whole=whole)).angstrom[0]


def count_frames(topology: Topology, path: str | Path) -> int:
    """Number of frames of a trajectory."""
    path = Path(path)
    if _suffix(path) in (".xtc", ".dcd", ".nc", ".trr") and path.is_file():
        try:
            with _open(path) as file:
                return len(file)
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{path}: not a readable trajectory ({type(error).__name__}: {error})") from None
    if is_structure_file(path):
        return sum(1 for _ in read_models(path))
    return sum(len(chunk.numbers) for chunk in read_chunks(topology, path))
