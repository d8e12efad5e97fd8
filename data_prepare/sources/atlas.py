"""ATLAS: `<pdb>_<chain>.pdb` with `<pdb>_<chain>_R1.xtc` to `_R3.xtc`, a zip per protein or unpacked.

A protein with some replicas missing has those that are there. Of a zip and its unpacked files the zip is read: it has
checksums, and a broken download does not look like a shorter simulation.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final
from zipfile import BadZipFile, ZipFile, ZipInfo

from data_prepare.errors import InputError
from data_prepare.sources.entry import Ensemble, Entry, FileEntry, Selection, UnusableEntry, read_replicas, select
from data_prepare.sources.walk import in_order, walk
from data_prepare.structure.readers import read_topology
from data_prepare.structure.topology import Topology

if TYPE_CHECKING:
    from data_prepare.molecular_dynamics.frames.trajectory import Chunk

SOURCE: Final = "ATLAS"
PROTEIN: Final = re.compile(r"\d[0-9a-zA-Z]{3}_[0-9a-zA-Z]+")
ARCHIVE_NAME: Final = re.compile(rf"({PROTEIN.pattern})(?:_protein|_total)?\.zip")  # _analysis.zip has no frames
REPLICA_NAME: Final = re.compile(rf"({PROTEIN.pattern}?)(?:_prod)?_R(\d+)(?:_fit)?\.xtc")


def list_entries(raw: Path) -> list[Entry]:
    """One entry a protein, named `<pdb>_<chain>`."""
    wanted = "zips <pdb>_<chain>*.zip, or <pdb>_<chain>.pdb with <pdb>_<chain>_R1.xtc and so on"
    folders = walk(raw, wanted)
    archives: dict[str, Path] = {}
    for _, files in folders:
        for path in files:
            if match := ARCHIVE_NAME.fullmatch(path.name):
                archives.setdefault(match[1], path)  # in the order of names: _protein.zip before _total.zip
    entries: list[Entry] = [ArchiveEntry(name=name, source=SOURCE, archive=path) for name, path in archives.items()]
    for folder, files in folders:
        replicas = _replicas(path.name for path in files)
        topologies = {path.stem for path in files if path.suffix == ".pdb" and PROTEIN.fullmatch(path.stem)}
        for name in (topologies | replicas.keys()) - archives.keys():
            trajectories = tuple(folder / file for file in replicas.get(name, ()))
            entries.append(_unpacked(name, folder, name in topologies, trajectories))
    return in_order(entries, raw, wanted)


def _replicas(names: Iterable[str]) -> dict[str, list[str]]:
    """Protein -> names of its trajectories in the order of their numbers; of one number the shortest name."""
    found: dict[str, dict[int, str]] = {}
    for name in sorted(names, key=lambda name: (len(name), name)):
        if match := REPLICA_NAME.fullmatch(name):
            found.setdefault(match[1], {}).setdefault(int(match[2]), name)
    return {protein: [files[number] for number in sorted(files)] for protein, files in found.items()}


def _unpacked(name: str, folder: Path, has_topology: bool, trajectories: tuple[Path, ...]) -> Entry:
    topology = folder / f"{name}.pdb"
    if has_topology and trajectories:
        return FileEntry(name=name, source=SOURCE, topology=topology, trajectories=trajectories)
    files = trajectories or (topology,)
    missing = f"{name}.pdb" if trajectories else f"{name}_R1.xtc and its other replicas"
    reason = f"{folder}: entry {name} has no {missing}; download it again"
    return UnusableEntry(name=name, source=SOURCE, files=files, reason=reason)


@dataclass(frozen=True, kw_only=True)
class ArchiveEntry(Entry):
    """A protein in a zip, of which one file at a time is unpacked into a temporary folder.

    Attributes
    ----------
    archive
        Zip as downloaded.
    """

    archive: Path

    @property
    def paths(self) -> tuple[Path, ...]:
        """The zip."""
        return (self.archive,)

    @contextmanager
    def open(self, selection: Selection) -> Iterator[Ensemble]:
        """Frames of all replicas in the zip."""
        if not self.archive.is_file():
            raise InputError(f"{self.archive}: no such file")
        with tempfile.TemporaryDirectory(prefix="atlas_") as temporary, _opened(self.archive) as archive:
            folder = Path(temporary)
            topology_file, replicas = self._members(archive)
            with self._named(folder):
                read = read_topology(_unpack(archive, topology_file, folder))
            topology = select(replace(read, path=self.archive / read.path.name), selection)
            yield Ensemble(topology, self._chunks(archive, replicas, folder, topology, selection))

    @contextmanager
    def _named(self, folder: Path) -> Iterator[None]:
        """Name the archive in messages, in place of the temporary folder that will be gone."""
        try:
            yield
        except InputError as error:
            raise InputError(str(error).replace(str(folder), str(self.archive))) from None

    def _members(self, archive: ZipFile) -> tuple[ZipInfo, list[ZipInfo]]:
        """Topology and replicas, in whichever folder of the zip they are."""
        members = {PurePosixPath(member.filename).name: member for member in archive.infolist() if not member.is_dir()}
        if f"{self.name}.pdb" not in members:
            raise InputError(f"{self.archive}: no {self.name}.pdb in it; download it again")
        replicas = _replicas(members).get(self.name)
        if not replicas:
            raise InputError(f"{self.archive}: no {self.name}_R1.xtc or other replicas in it; download it again")
        return members[f"{self.name}.pdb"], [members[name] for name in replicas]

    def _chunks(
        self, archive: ZipFile, replicas: Sequence[ZipInfo], folder: Path, topology: Topology, selection: Selection
    ) -> Iterator[Chunk]:
        """Frames of all replicas, of which one at a time lies unpacked."""
        for replica in replicas:
            with self._named(folder):
                path = _unpack(archive, replica, folder)
                yield from read_replicas(topology, (path,), selection)
                path.unlink()


def _opened(path: Path) -> ZipFile:
    try:
        return ZipFile(path)
    except (OSError, BadZipFile, ValueError) as error:
        raise InputError(f"{path}: not a readable zip, download it again ({error})") from None


def _unpack(archive: ZipFile, member: ZipInfo, folder: Path) -> Path:
    """Write a member into a folder, under its own name without the path that the zip gives it."""
    path = folder / PurePosixPath(member.filename).name
    if member.file_size > (free := shutil.disk_usage(folder).free):
        raise InputError(
            f"{archive.filename}: {path.name} takes {member.file_size / 1e9:.1f} GB, {folder.parent} has "
            f"{free / 1e9:.1f} GB left; set TMPDIR to a folder with more"
        )
    try:
        with archive.open(member) as source, open(path, "wb") as target:
            shutil.copyfileobj(source, target)
    except (BadZipFile, EOFError, RuntimeError, zlib.error) as error:  # RuntimeError: encrypted, or unknown compression
        raise InputError(f"{archive.filename}: {path.name} is damaged, download it again ({error})") from None
    return path
