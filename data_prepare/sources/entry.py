"""An entry of a source: one protein or complex, listed by name and opened only when its turn comes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pydantic.dataclasses

from data_prepare.errors import InputError
from data_prepare.molecular_dynamics.frames.frame_range import FrameRange
from data_prepare.structure.readers import read_structure, read_topology
from data_prepare.structure.topology import Structure, Topology

if TYPE_CHECKING:
    from data_prepare.molecular_dynamics.frames.trajectory import Chunk

GZIP_RATIO: Final = 4  # text of a structure to its gzipped size, roughly


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True)
class Selection(FrameRange):
    """The frames (of each replica) and chains of an entry that are used."""

    chains: tuple[str, ...] = ()
    """Ids of the chains; none stands for all."""


class Ensemble(NamedTuple):
    """Frames of one system, all replicas one after the other.

    Attributes
    ----------
    topology
        Atoms of the frames; chains of protein and whatever else is there.
    chunks
        Frames with these atoms; read on, they come from the files.
    """

    topology: Topology
    chunks: Iterator[Chunk]


@dataclass(frozen=True, kw_only=True)
class Entry(ABC):
    """What is needed to make the features of one protein or complex; small, and can be sent to another machine.

    Attributes
    ----------
    name
        Name in the store and in the training table.
    source
        Data set it is from.
    group
        Training group; empty for that of the source.
    label
        train or test; empty if the split by clusters decides.
    """

    name: str
    source: str
    group: str = ""
    label: str = ""

    @property
    @abstractmethod
    def paths(self) -> tuple[Path, ...]:
        """Files that are read."""

    @abstractmethod
    def open(self, selection: Selection) -> AbstractContextManager[Ensemble | Structure]:
        """The system, while the context lasts.

        Raises
        ------
        InputError
            If a file is missing or cannot be read; also later, while chunks are read.
        """

    @property
    def size(self) -> int:
        """Bytes to read, uncompressed: the largest entries begin first."""
        there = [path for path in self.paths if path.is_file()]
        return sum(path.stat().st_size * (GZIP_RATIO if path.suffix == ".gz" else 1) for path in there)


@dataclass(frozen=True, kw_only=True)
class UnusableEntry(Entry):
    """An entry whose file names show that something is missing: it is listed, and fails when its turn comes.

    Attributes
    ----------
    files
        What is there.
    reason
        What is missing, and the remedy.
    """

    files: tuple[Path, ...]
    reason: str

    @property
    def paths(self) -> tuple[Path, ...]:
        """Files that are there."""
        return self.files

    def open(self, selection: Selection) -> AbstractContextManager[Ensemble | Structure]:
        """Raise InputError with the reason."""
        raise InputError(self.reason)


def select(topology: Topology, selection: Selection) -> Topology:
    """The chains that are asked for."""
    return topology.select_chains(selection.chains) if selection.chains else topology


@dataclass(frozen=True, kw_only=True)
class FileEntry(Entry):
    """A structure, or a topology with one or several trajectories (replicas, pooled to one ensemble).

    Attributes
    ----------
    topology
        Structure file, or the topology of the trajectories.
    trajectories
        None of them for a single structure.
    """

    topology: Path
    trajectories: tuple[Path, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """Files that are read."""
        return tuple(dict.fromkeys((self.topology, *self.trajectories)))

    @contextmanager
    def open(self, selection: Selection) -> Iterator[Ensemble | Structure]:
        """The first model of the structure, or the frames of all trajectories."""
        if self.trajectories:
            topology = select(read_topology(self.topology), selection)
            yield Ensemble(topology, read_replicas(topology, self.trajectories, selection))
        else:
            structure = read_structure(self.topology)
            yield structure.select_chains(selection.chains) if selection.chains else structure


def read_replicas(topology: Topology, paths: tuple[Path, ...], selection: Selection) -> Iterator[Chunk]:
    """Frames of several trajectories of a system, one after the other, chains made whole."""
    # the libraries of trajectories take seconds to import: only a task needs them
    from data_prepare.molecular_dynamics.frames.trajectory import read_chunks

    for path in paths:
        yield from read_chunks(topology, path, selection, whole=True)
