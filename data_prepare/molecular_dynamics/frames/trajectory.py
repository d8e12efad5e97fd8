"""Frames of a trajectory in chunks, checked against the topology."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from mdtraj.formats.registry import FormatRegistry
from mdtraj.utils import lengths_and_angles_to_box_vectors
from numpy.typing import NDArray

from data_prepare.errors import InputWarning, reading, require
from data_prepare.molecular_dynamics.frames.frame_range import ALL_FRAMES, FrameRange
from data_prepare.molecular_dynamics.frames.layout import layout_of
from data_prepare.molecular_dynamics.frames.netcdf import NetCDFTrajectory
from data_prepare.molecular_dynamics.frames.unwrap import WholeChains
from data_prepare.molecular_dynamics.frames.xtc import first_damaged
from data_prepare.structure.covalent import CovalentGeometry
from data_prepare.structure.readers import NETCDF_SUFFIXES, TRAJECTORY_SUFFIXES, is_structure_file, read_models
from data_prepare.structure.topology import Topology

ANGSTROM_PER_NM: Final = np.float32(10.0)
NM_PER_ANGSTROM: Final = np.float32(0.1)
CHUNK_FRAMES: Final = 100
CHUNK_ATOMS: Final = 1_000_000  # frames x atoms: 12 MB of coordinates, a few times over
SHORTEST_BOX: Final = 1.0  # nm; shorter vectors stand for no box, such as CRYST1 1 1 1 of NMR structures

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


StoredChunk = tuple[Chunk, NDArray[np.float64] | None]  # with its boxes (frames, 3, 3) in its unit


class BrokenFrame(NamedTuple):
    """A frame that does not fit its topology."""

    source: str  # file
    frame: int
    problem: str  # "has only zeros"

    def __str__(self) -> str:
        return f"{self.source}: frame {self.frame} {self.problem}"


class FrameCheck:
    """Refuses frames that are not finite or do not fit their topology (see `covalent`).

    With a list `left_out`, such frames are appended to it instead, unless no frame is sound. `source` names the frames
    in messages, or `files`, if each frame has its own.
    """

    def __init__(
        self,
        topology: Topology,
        source: object,
        left_out: list[BrokenFrame] | None = None,
        files: Sequence[Path] = (),
    ) -> None:
        self._geometry = CovalentGeometry(topology)
        self._source = str(source)
        self._files = files
        self._left_out = left_out
        self._broken: list[BrokenFrame] = []
        self._sound = 0

    def sound(self, stored: Iterable[StoredChunk]) -> Iterator[StoredChunk]:
        """The sound frames of chunks; chunks without any are left out.

        Tells of the frames that were left out when all are read; InputError if none is sound.
        """
        for chunk, box in stored:
            kept = self._sound_frames(chunk, box)
            if len(kept) == len(chunk.numbers):
                yield chunk, box
            elif kept:
                some = Chunk(chunk.numbers[kept], chunk.xyz[kept], chunk.unit)
                yield some, None if box is None else box[kept]
        self._end()

    def _sound_frames(self, chunk: Chunk, box: NDArray[np.float64] | None) -> list[int]:
        scale = float(ANGSTROM_PER_NM) if chunk.unit == "nm" else 1.0
        problems = self._geometry.problems(chunk.xyz, scale, box)
        kept = [k for k, problem in enumerate(problems) if problem is None]
        if self._sound == 0 and kept:
            first = slice(kept[0], kept[0] + 1)
            problem = self._geometry.problem_of_sample(chunk.xyz[first], scale, None if box is None else box[first])
            broken = self._broken_frame(int(chunk.numbers[kept[0]]), problem or "")
            require(problem is None, f"{broken}; give the topology of this trajectory")
        self._sound += len(kept)
        if len(kept) == len(problems):
            return kept
        for number, problem in zip(chunk.numbers.tolist(), problems, strict=True):
            if problem is not None:
                self._broken.append(self._broken_frame(number, problem))
        remedy = "--skip-broken-frames leaves such frames out" if self._sound else "mend or replace the file"
        hopeless = self._sound == 0 and len(self._broken) >= CHUNK_FRAMES
        require(self._left_out is not None and not hopeless, f"{self._broken[0]}; {remedy}")
        return kept

    def _broken_frame(self, number: int, problem: str) -> BrokenFrame:
        return (
            BrokenFrame(str(self._files[number]), 0, problem)
            if self._files
            else BrokenFrame(self._source, number, problem)
        )

    def _end(self) -> None:
        if not self._broken or self._left_out is None:
            return
        require(self._sound, f"{self._broken[0]}, and no frame is sound; mend or replace the file")
        self._left_out += self._broken
        number, total = len(self._broken), len(self._broken) + self._sound
        warnings.warn(f"{self._broken[0]}; left out {number} of {total} frames", InputWarning, stacklevel=2)


def chunk_size(atoms: int) -> int:
    """Frames of a system to hold in memory at once."""
    return max(1, min(CHUNK_FRAMES, CHUNK_ATOMS // atoms))


def is_trajectory_file(path: str | Path) -> bool:
    """Whether a file name is that of a trajectory."""
    return Path(path).suffix.lower() in TRAJECTORY_SUFFIXES


class _TrajectoryFile(NamedTuple):
    path: Path
    reader: Any  # of MDTraj, or one with its interface
    frames: int  # whole ones
    cut: bool  # the file ends inside the next one

    def count(self, end: int | None) -> int:
        """Number of whole frames; InputError if the file is truncated and a frame beyond them may be wanted."""
        offer = f", or read its {self.frames} whole frames with --end {self.frames - 1}" if self.frames > 1 else ""
        problem = f"{self.path}: cut short or damaged in frame {self.frames}; copy it again{offer}"
        require(not self.cut or (end is not None and end < self.frames), problem)
        return self.frames

    def read(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
        """Evenly spaced frames (frames, atoms, 3) in the unit of the file, and their boxes (frames, 3, 3)."""
        # a TRR may have frames without positions in between
        one_by_one = numbers[-1] - numbers[0] >= len(numbers) or self.path.suffix.lower() == ".trr"
        parts = []
        for some in numbers[:, None] if one_by_one else [numbers]:
            if self.path.suffix.lower() == ".xtc":
                damaged = first_damaged(self.path, self.reader.offsets[some])
                require(damaged is None, f"{self.path}: damaged at frame {some[damaged or 0]}; copy it again")
            self.reader.seek(int(some[0]))
            data = self.reader.read(n_frames=len(some))
            require(len(data[0]) == len(some), f"{self.path}: damaged at frame {some[0] + len(data[0])}; copy it again")
            parts.append((np.asarray(data[0], np.float32), _box_vectors(data)))
        xyz, boxes = zip(*parts, strict=True)
        return np.concatenate(xyz), None if any(box is None for box in boxes) else np.concatenate(boxes)


@contextmanager
def _opened(path: Path) -> Iterator[_TrajectoryFile]:
    """The file; InputWarning if its header counts other frames than it has."""
    suffix = path.suffix.lower()
    require(is_trajectory_file(path), f"{path}: unknown trajectory format; expected {', '.join(TRAJECTORY_SUFFIXES)}")
    with reading(path, "a readable trajectory"), ExitStack() as stack:
        if suffix in NETCDF_SUFFIXES:
            reader: Any = stack.enter_context(NetCDFTrajectory(path))
            frames, counted, room = reader.frames, reader.counted, reader.room
            cut = frames < counted
        else:
            starts, cut, counted = layout_of(path)
            frames = room = len(starts)
        require(frames, f"{path}: no whole frame with positions; copy or download it again")
        if suffix not in NETCDF_SUFFIXES:
            reader = stack.enter_context(FormatRegistry.fileobjects[suffix](str(path)))
        if suffix in (".xtc", ".trr"):
            reader.offsets = starts
        if not cut and counted not in (None, room):
            message = f"{path}: its header counts {counted} frames, but it has {room}; reading {frames}"
            warnings.warn(message, InputWarning, stacklevel=1)
        yield _TrajectoryFile(path, reader, frames, cut)


def _stored_frames(topology: Topology, path: Path, frames: FrameRange, size: int) -> Iterator[StoredChunk]:
    """Frames in a range as stored, up to `size` at once, with only the atoms of the topology; skips others unread."""
    if is_structure_file(path):
        models = _models(path, frames)
        while models_read := list(islice(models, size)):
            taken, positions = zip(*models_read, strict=True)
            xyz = _atoms_of_topology(topology, path, np.array(positions, np.float32))
            yield Chunk(np.array(taken), xyz, "angstrom"), None
        return
    with _opened(path) as file:
        unit: Unit = "nm" if file.reader.distance_unit == "nanometers" else "angstrom"
        numbers = np.array(frames.numbers(file.count(frames.end), path))
        for some in np.split(numbers, range(size, len(numbers), size)):
            xyz, boxes = file.read(some)
            if boxes is not None:
                lengths = np.linalg.norm(boxes, axis=2)  # (frames, 3)
                boxes[(lengths < (SHORTEST_BOX if unit == "nm" else 10 * SHORTEST_BOX)).any(axis=1)] = 0.0
            yield Chunk(some, _atoms_of_topology(topology, path, xyz), unit), boxes


def _models(path: Path, frames: FrameRange) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Models of a structure file in a range, with their indices; their number is known when all are read."""
    number = -1
    for number, model in enumerate(read_models(path)):
        if number >= frames.begin and (number - frames.begin) % frames.stride == 0:
            yield number, model
        if number == frames.end:
            return
    frames.numbers(number + 1, path)  # begin or end may be beyond the last one


def _box_vectors(data: tuple[Any, ...]) -> NDArray[np.float64] | None:
    """Box vectors (frames, 3, 3), in rows, from the tuple of an MDTraj reader: vectors, or lengths and angles."""
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
    left_out: list[BrokenFrame] | None = None,
) -> Iterator[Chunk]:
    """Frames of a trajectory in chunks of up to `size`, by default `chunk_size`.

    `path` is a file of MDTraj's formats, or a PDB or mmCIF file whose models are the frames. `topology` is that of the
    system or a part of it. `whole` makes protein chains whole that the periodic box has broken. Broken frames are
    refused, or left out and appended to a list `left_out`, see `FrameCheck`.

    InputError if the file is missing, unreadable or empty, or truncated before the end of the range; if its number of
    atoms differs from that of the topology, a frame does not fit it, or the range contains no frame. InputWarning if
    its header counts other frames than it has, or the range ends beyond them.
    """
    path = Path(path)
    make_whole = None
    stored = _stored_frames(topology, path, frames, size or chunk_size(topology.atoms_in_file))
    for chunk, box in FrameCheck(topology, path, left_out).sound(stored):
        if whole and box is not None:
            make_whole = make_whole or _whole_chains(topology, path, frames.end)
            chunk = Chunk(chunk.numbers, make_whole(chunk.xyz, box), chunk.unit)
        yield chunk


def _atoms_of_topology(topology: Topology, path: Path, xyz: NDArray[np.float32]) -> NDArray[np.float32]:
    """Frames with only the atoms of the topology."""
    n = xyz.shape[1]
    expected = f"the topology {topology.path} has {topology.num_atoms}; give the topology of this trajectory"
    require(n in (topology.num_atoms, topology.atoms_in_file), f"{path}: {n} atoms, but {expected}")
    order = topology.file_index if n == topology.atoms_in_file else topology.file_index.argsort().argsort()
    return xyz if n == len(order) and (np.diff(order) == 1).all() else xyz[:, order]


def _whole_chains(topology: Topology, path: Path, end: int | None) -> WholeChains:
    """Unwrapping by the first sound frame of the file, even if it is not used."""
    stored = _stored_frames(topology, path, FrameRange(end=end), 1)
    chunk, box = next(FrameCheck(topology, path, []).sound(stored))
    return WholeChains(topology, chunk.xyz[0], np.zeros((3, 3)) if box is None else box[0])


def first_frame(
    topology: Topology,
    path: str | Path,
    whole: bool = False,
    end: int | None = 0,
    left_out: list[BrokenFrame] | None = None,
) -> NDArray[np.float32]:
    """First frame (atoms, 3) of a trajectory in Angstrom; with `left_out` the first sound one up to `end`."""
    return next(read_chunks(topology, path, FrameRange(end=end), 1, whole, left_out)).angstrom[0]


def count_frames(path: str | Path, end: int | None = None) -> int:
    """Number of frames of a trajectory, by its headers; InputError if it is truncated before the frame `end`."""
    path = Path(path)
    if is_structure_file(path):
        return sum(1 for _ in read_models(path))
    with _opened(path) as file:
        return file.count(end)


def frame_numbers(path: str | Path, frames: FrameRange = ALL_FRAMES) -> range:
    """Indices of the frames of a trajectory in a range; errors and warnings as in `read_chunks`."""
    return frames.numbers(count_frames(path, frames.end), path)
