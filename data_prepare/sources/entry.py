"""An entry of a source: one protein or complex, listed by name and opened when it is processed."""

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
    from data_prepare.molecular_dynamics.frames.trajectory import Chunk

GZIP_RATIO: Final = 4  # size of a structure file to its gzipped size, roughly
System = TypeVar("System", Topology, Structure)


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True)
class Selection(FrameRange):
    """The frames (of each replica) and chains of an entry that are used."""

    chains: tuple[str, ...] = ()
    """Ids of the chains; empty for all."""

    def of(self, system: System) -> System:
        """The selected chains of a topology or structure."""
        return system.select_chains(self.chains) if self.chains else system


class Ensemble(NamedTuple):
    """Frames of one system, all replicas one after the other."""

    topology: Topology  # protein, water and whatever else the system has
    chunks: Iterator[Chunk]  # with these atoms; read from the files on demand


@dataclass(frozen=True, kw_only=True)
class Entry(ABC):
    """One protein or complex of a source; small, so that it can be sent to another machine."""

    name: str  # in the store and in the training table
    source: str  # data set it comes from
    group: str = ""  # training group; empty for that of the source
    label: str = ""  # train or test; empty if the split by clusters decides
    path: Path  # file that is read; of trajectories their topology

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files that are read."""
        return (self.path,)

    @property
    def size(self) -> int:
        """Uncompressed bytes to read; the largest entries are processed first."""
        there = [path for path in self.paths if path.is_file()]
        return sum(path.stat().st_size * (GZIP_RATIO if path.suffix == ".gz" else 1) for path in there)

    @abstractmethod
    def open(self, selection: Selection) -> AbstractContextManager[Ensemble | Structure]:
        """The system, valid inside the context; InputError, also while chunks are read, if a file cannot be used."""


@dataclass(frozen=True, kw_only=True)
class UnusableEntry(Entry):
    """An entry with missing files: it is listed by one that exists, and fails when it is processed."""

    reason: str  # what is missing, and the remedy: "has no ...; download it again"

    def open(self, selection: Selection) -> AbstractContextManager[Ensemble | Structure]:
        """Raise InputError with the reason."""
        raise InputError(f"{self.path.parent}: entry {self.name} {self.reason}")


@dataclass(frozen=True, kw_only=True)
class FileEntry(Entry):
    """A structure, or a topology with trajectories (replicas, pooled to one ensemble)."""

    trajectories: tuple[Path, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files that are read; a multi-model file may be its own trajectory."""
        return tuple(dict.fromkeys((self.path, *self.trajectories)))

    @contextmanager
    def open(self, selection: Selection) -> Iterator[Ensemble | Structure]:
        """The first model of the structure, or the frames of all trajectories."""
        if self.trajectories:
            topology = selection.of(read_topology(self.path))
            yield Ensemble(topology, read_replicas(topology, self.trajectories, selection))
        else:
            yield selection.of(read_structure(self.path))


def read_replicas(topology: Topology, paths: tuple[Path, ...], selection: Selection) -> Iterator[Chunk]:
    """Frames of several trajectories of a system, one after the other; chains broken by the box are made whole."""
    # the libraries of trajectories take seconds to import
    from data_prepare.molecular_dynamics.frames.trajectory import read_chunks

    for path in paths:
        yield from read_chunks(topology, path, selection, whole=True)
