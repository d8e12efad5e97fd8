"""Frames of a trajectory in chunks, checked against the topology."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import mdtraj
import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import InputError
from data_prepare.structure import Topology, is_structure_file, read_models

ANGSTROM_PER_NM: Final = np.float32(10.0)
NM_PER_ANGSTROM: Final = np.float32(0.1)


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


def chunk_of_angstrom(xyz: NDArray, first_number: int = 0) -> Chunk:
    """Chunk of frames (frames, atoms, 3) in Angstrom that are at hand."""
    xyz = np.asarray(xyz, np.float32)
    return Chunk(np.arange(first_number, first_number + len(xyz)), xyz, xyz * NM_PER_ANGSTROM)


def _raw_chunks(path: Path, size: int) -> Iterator[tuple[NDArray[np.float32], bool]]:
    """Chunks (frames, atoms, 3) of all frames as stored, and whether that is in nm (else Angstrom)."""
    if is_structure_file(path):
        models = read_models(path)
        for start in range(0, len(models), size):
            yield models[start : start + size], False
        return
    try:
        with mdtraj.open(str(path)) as file:
            in_nm = file.distance_unit == "nanometers"
            while True:
                data = file.read(n_frames=size)
                xyz = np.asarray(data[0] if isinstance(data, tuple) else data, np.float32)
                if len(xyz) == 0:
                    return
                yield xyz, in_nm
    except Exception as error:  # every reader of MDTraj raises its own kind
        raise InputError(f"{path}: not a readable trajectory ({type(error).__name__}: {error})") from None


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
    size: int = 100,
) -> Iterator[Chunk]:
    """Frames of a trajectory, a chunk at a time.

    Parameters
    ----------
    topology
        Of the same system.
    path
        XTC, DCD, TRR, NetCDF (whatever MDTraj opens), or the models of a PDB or mmCIF file.
    begin, end, stride
        Which frames; `end` is inclusive and None is the last one.
    size
        Frames read at once.

    Yields
    ------
    Chunks of up to `size` frames, atoms as in `topology`.

    Raises
    ------
    InputError
        If the file is missing, unreadable or empty, its atoms are not as many as those of the topology, a coordinate
        is not finite, or the range has no frame.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    check_range(begin, end, stride)
    position = 0
    used = 0
    for xyz, in_nm in _raw_chunks(path, size):
        if xyz.shape[1] not in (topology.num_atoms, topology.atoms_in_file):
            raise InputError(
                f"{path}: {xyz.shape[1]} atoms, but the topology {topology.path} has {topology.num_atoms}; "
                "give the topology of this trajectory"
            )
        if xyz.shape[1] != topology.num_atoms:
            xyz = xyz[:, topology.file_rows]
        numbers = np.arange(position, position + len(xyz))
        position += len(xyz)
        keep = (numbers >= begin) & ((numbers - begin) % stride == 0)
        if end is not None:
            keep &= numbers <= end
        numbers, xyz = numbers[keep], xyz[keep]
        if len(numbers):
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


def first_frame(topology: Topology, path: str | Path) -> NDArray[np.float32]:
    """First frame (atoms, 3) of a trajectory in Angstrom."""
    return next(read_chunks(topology, path, size=1)).angstrom[0]


def count_frames(topology: Topology, path: str | Path) -> int:
    """Number of frames of a trajectory."""
    path = Path(path)
    if path.suffix in (".xtc", ".dcd", ".nc", ".trr") and path.is_file():
        try:
            with mdtraj.open(str(path)) as file:
                return len(file)
        except Exception as error:
            raise InputError(f"{path}: not a readable trajectory ({type(error).__name__}: {error})") from None
    return sum(len(chunk.numbers) for chunk in read_chunks(topology, path))
