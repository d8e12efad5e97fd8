"""ATLAS: `<pdb>_<chain>.pdb` with `<pdb>_<chain>_R1.xtc` to `_R3.xtc`, zipped per protein or unpacked.

Missing replicas are skipped. Zips are preferred to unpacked files, because their checksums reveal broken downloads,
except `_analysis.zip` with a tenth of the frames, which is the last choice.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final
from zipfile import ZipFile, ZipInfo

from data_prepare.errors import InputError, reading, require
from data_prepare.sources.entry import Ensemble, Entry, FileEntry, Selection, UnusableEntry, read_replicas
from data_prepare.sources.walk import walk
from data_prepare.structure.readers import read_topology

if TYPE_CHECKING:
    from data_prepare.molecular_dynamics.frames.trajectory import BrokenFrame, Chunk

SOURCE: Final = "ATLAS"
WANTED: Final = "zips <pdb>_<chain>*.zip, or <pdb>_<chain>.pdb with <pdb>_<chain>_R1.xtc and so on"
PROTEIN: Final = re.compile(r"\d[0-9a-zA-Z]{3}_[0-9a-zA-Z]+")
ARCHIVE_NAME: Final = re.compile(rf"({PROTEIN.pattern})(_protein|_total|_analysis)?\.zip")
REPLICA_NAME: Final = re.compile(rf"({PROTEIN.pattern}?)(?:_prod)?_R(\d+)(?:_fit)?\.xtc")


def entries(raw: Path) -> Iterator[Entry]:
    """One entry per protein, named `<pdb>_<chain>`."""
    folders = list(walk(raw))
    archives: dict[str, Path] = {}
    analyses: dict[str, Path] = {}
    for path in (path for _, files in folders for path in files):
        if match := ARCHIVE_NAME.fullmatch(path.name):
            # sorted by name: _protein.zip before _total.zip
            (analyses if match[2] == "_analysis" else archives).setdefault(match[1], path)
    for name, archive in archives.items():
        yield ArchiveEntry(name=name, source=SOURCE, path=archive)
    for folder, files in folders:
        replicas = _replicas(path.name for path in files)
        topologies = {path.stem: path for path in files if path.suffix == ".pdb" and PROTEIN.fullmatch(path.stem)}
        for name in (topologies.keys() | replicas.keys()) - archives.keys():
            trajectories = tuple(folder / file for file in replicas.get(name, ()))
            if name in topologies and trajectories:
                analyses.pop(name, None)
                yield FileEntry(name=name, source=SOURCE, path=topologies[name], trajectories=trajectories)
            elif name not in analyses:
                missing = f"{name}.pdb" if trajectories else f"{name}_R1.xtc or other replicas"
                path = trajectories[0] if trajectories else topologies[name]
                yield UnusableEntry(name=name, source=SOURCE, path=path, reason=f"has no {missing}; download it again")
    for name in analyses.keys() - archives.keys():
        yield ArchiveEntry(name=name, source=SOURCE, path=analyses[name])


def _replicas(names: Iterable[str]) -> dict[str, list[str]]:
    """Protein -> names of its trajectories in the order of their numbers; the shortest name for each number."""
    found: dict[str, dict[int, str]] = {}
    for name in sorted(names, key=lambda name: (len(name), name)):
        if match := REPLICA_NAME.fullmatch(name):
            found.setdefault(match[1], {}).setdefault(int(match[2]), name)
    return {protein: [files[number] for number in sorted(files)] for protein, files in found.items()}


@dataclass(frozen=True, kw_only=True)
class ArchiveEntry(Entry):
    """A protein in a downloaded zip, unpacked one file at a time into a temporary folder."""

    @contextmanager
    def open(self, selection: Selection) -> Iterator[Ensemble]:
        """Frames of all replicas in the zip."""
        with reading(self.path, "a readable zip"):
            archive = ZipFile(self.path)
        with archive, tempfile.TemporaryDirectory(prefix="atlas_") as temporary:
            folder = Path(temporary)
            # the files may be in any folder of the zip
            members = {PurePosixPath(info.filename).name: info for info in archive.infolist() if not info.is_dir()}
            replicas = _replicas(members).get(self.name, ())
            for name in (f"{self.name}.pdb", *(replicas or [f"{self.name}_R1.xtc"])):
                require(name in members, f"{self.path}: has no {name}; download it again")
            with self._named(folder):
                read = read_topology(_unpack(archive, members[f"{self.name}.pdb"], folder))
            topology = selection.of(replace(read, path=self.path / read.path.name))

            left_out: list[BrokenFrame] = []

            def chunks() -> Iterator[Chunk]:
                for name in replicas:
                    broken: list[BrokenFrame] = []
                    with self._named(folder):
                        path = _unpack(archive, members[name], folder)
                    replica = read_replicas(topology, (path,), selection, broken)
                    while (chunk := self._next(replica, folder)) is not None:
                        yield chunk
                    path.unlink()
                    left_out.extend(frame._replace(source=str(self.path / name)) for frame in broken)

            yield Ensemble(topology, chunks(), left_out)

    def _next(self, chunks: Iterator[Chunk], folder: Path) -> Chunk | None:
        with self._named(folder):
            return next(chunks, None)

    @contextmanager
    def _named(self, folder: Path) -> Iterator[None]:
        """Name the archive in messages and warnings instead of the temporary folder."""
        try:
            with warnings.catch_warnings(record=True) as noticed:
                yield
        except InputError as error:
            raise InputError(str(error).replace(str(folder), str(self.path))) from None
        for note in noticed:
            warnings.warn(str(note.message).replace(str(folder), str(self.path)), note.category, stacklevel=2)


def _unpack(archive: ZipFile, member: ZipInfo, folder: Path) -> Path:
    """Write a member into a folder, ignoring its path in the zip."""
    path = folder / PurePosixPath(member.filename).name
    free = shutil.disk_usage(folder).free
    space = "set TMPDIR to a folder with more space"
    sizes = f"needs {member.file_size / 1e9:.1f} GB, but {folder.parent} has {free / 1e9:.1f} GB free"
    require(member.file_size <= free, f"{path}: {sizes}; {space}")
    remedy = f"download it again, or {space}"  # other processes may fill the disk meanwhile
    with reading(path, "a readable file", remedy), archive.open(member) as source, open(path, "wb") as target:
        shutil.copyfileobj(source, target)
    return path
