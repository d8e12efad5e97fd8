"""An entry of a source: a protein or complex, listed by name and opened for processing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import pydantic.dataclasses

from data_prepare.errors import InputError
from data_prepare.molecular_dynamics.frames.frame_range import FrameRange
from data_prepare.structure.readers import read_structure, read_topology
from data_prepare.structure.topology import Structure, Topology

if TYPE_CHECKING:
    from data_prepare.molecular_dynamics.frames.trajectory import BrokenFrame, Chunk

GZIP_RATIO: Final = 4  # size of a structure file to its gzipped size, roughly
System = TypeVar("System", Topology, Structure)


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True)
class Selection(FrameRange):
    """The frames of each replica and the chains to use."""

    chains: tuple[str, ...] = ()
    """Ids of the chains; all if empty."""

    def of(self, system: System) -> System:
        """The selected chains of a topology or structure."""
        return system.select_chains(self.chains) if self.chains else system


class Ensemble(NamedTuple):
    """Frames of one system, replica after replica."""

    topology: Topology  # of all atoms
    chunks: Iterator[Chunk]  # with these atoms, read on demand
    left_out: list[BrokenFrame]  # filled when all chunks are read


@dataclass(frozen=True, kw_only=True)
class Entry(ABC):
    """A protein or complex of a source, small enough to send to another machine."""

    name: str  # in the store and in the training table
    source: str  # data set
    group: str = ""  # training group; by default that of the source
    label: str = ""  # train or test; empty if clusters decide
    path: Path  # structure, or topology of the trajectories

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files to read."""
        return (self.path,)

    @property
    def reads_models(self) -> bool:
        """Whether the frames are the models of the structure file, which is nothing but a structure otherwise."""
        return False

    @property
    def size(self) -> int:
        """Uncompressed bytes to read; the largest entries are processed first."""
        files = [path for path in self.paths if path.is_file()]
        return sum(path.stat().st_size * (GZIP_RATIO if path.suffix == ".gz" else 1) for path in files)

    def problem(self) -> str | None:
        """Why the entry would fail, as far as names of files tell; None if they are all there."""
        return next((f"no such file: {path}" for path in self.paths if not path.exists()), None)

    @abstractmethod
    def open(self, selection: Selection) -> AbstractContextManager[Ensemble | Structure]:
        """The system, valid inside the context; an unusable file raises InputError here or while chunks are read."""


@dataclass(frozen=True, kw_only=True)
class UnusableEntry(Entry):
    """An entry with missing files, which fails when it is processed; `path` is a file that exists."""

    reason: str  # "has no ...; download it again"
    others: tuple[Path, ...] = ()  # more of its files

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that exist."""
        return (self.path, *self.others)

    def problem(self) -> str:
        """The reason, with the folder."""
        return f"{self.path.parent}: entry {self.name} {self.reason}"

    def open(self, selection: Selection) -> AbstractContextManager[Ensemble | Structure]:
        """Raise InputError with the reason."""
        raise InputError(self.problem())


@dataclass(frozen=True, kw_only=True)
class FileEntry(Entry):
    """A structure, or a topology with the trajectories of its replicas."""

    trajectories: tuple[Path, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files to read; a multi-model file may be its own trajectory."""
        return tuple(dict.fromkeys((self.path, *self.trajectories)))

    @property
    def reads_models(self) -> bool:
        """Whether the frames are the models of the structure file."""
        return self.path in self.trajectories

    @contextmanager
    def open(self, selection: Selection) -> Iterator[Ensemble | Structure]:
        """The first model of the structure, or the frames of all trajectories."""
        if self.trajectories:
            topology = selection.of(read_topology(self.path))
            left_out: list[BrokenFrame] = []
            yield Ensemble(topology, read_replicas(topology, self.trajectories, selection, left_out), left_out)
        else:
            yield selection.of(read_structure(self.path))


def read_replicas(
    topology: Topology, paths: tuple[Path, ...], selection: Selection, left_out: list[BrokenFrame]
) -> Iterator[Chunk]:
    """Frames of the trajectories of a system, with chains made whole and without broken frames."""
    # imported late, because the trajectory libraries need seconds
    from data_prepare.molecular_dynamics.frames.trajectory import read_chunks

    for path in paths:
        yield from read_chunks(topology, path, selection, whole=True, left_out=left_out)
