"""mdCATH: `mdcath_dataset_<domain>.h5`, all-atom domains at five temperatures, five replicas each.

The topology is in the text `pdbProteinAtoms`, the frames in the datasets `coords` (frames, atoms, 3; Angstrom) of
`<domain>/<temperature>/<replica>`, in older files `<domain>/sims<temperature>K/<replica>`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from data_prepare.errors import reading, require
from data_prepare.files import check_texts, open_hdf5
from data_prepare.sources.entry import Ensemble, Entry, Selection
from data_prepare.sources.walk import files_under
from data_prepare.structure import pdb
from data_prepare.structure.topology import Topology

if TYPE_CHECKING:
    import h5py

    from data_prepare.molecular_dynamics.frames.trajectory import BrokenFrame, Chunk, StoredChunk

WANTED: Final = "mdcath_dataset_<domain>.h5 files"
FILE_NAME: Final = re.compile(r"mdcath_dataset_(\w+)\.h5", re.IGNORECASE)
TEMPERATURE_GROUP: Final = re.compile(r"(?:sims)?(\d+)K?")
DEFAULT_TEMPERATURES: Final = (348,)
FORM: Final = "a readable mdCATH file"


def entries(raw: Path, temperatures: Sequence[int] = DEFAULT_TEMPERATURES) -> Iterator[Entry]:
    """One entry per domain and temperature (K), named `<domain>_<temperature>`."""
    for path in files_under(raw):
        if match := FILE_NAME.fullmatch(path.name):
            for temperature in dict.fromkeys(temperatures):
                name = f"{match[1]}_{temperature}"
                yield MdCathEntry(name=name, source="mdCATH", path=path, domain=match[1], temperature=temperature)


@dataclass(frozen=True, kw_only=True)
class MdCathEntry(Entry):
    """All replicas of a domain at one temperature."""

    domain: str  # CATH id
    temperature: int  # K

    @contextmanager
    def open(self, selection: Selection) -> Iterator[Ensemble]:
        """Frames of all replicas, in the order of their numbers."""

        with reading(self.path, FORM):
            file = open_hdf5(self.path)
        with file:
            with reading(self.path, FORM):
                require(self.domain in file, f"{self.path}: no group {self.domain}; it has {', '.join(file) or 'none'}")
                domain = file[self.domain]
                check_texts(domain["pdbProteinAtoms"].id)
                lines = domain["pdbProteinAtoms"].asstr()[()].splitlines()
                topology = selection.of(pdb.first_model(self.path, lines).topology)
                replicas = self._replicas(domain)
            left_out: list[BrokenFrame] = []
            chunks = (chunk for replica in replicas for chunk in self._chunks(replica, topology, selection, left_out))
            yield Ensemble(topology, chunks, left_out)

    def _replicas(self, domain: h5py.Group) -> list[h5py.Group]:
        """Groups of the replicas at the temperature."""
        temperatures = {int(match[1]): group for group in domain if (match := TEMPERATURE_GROUP.fullmatch(group))}
        group = domain[temperatures[self.temperature]] if self.temperature in temperatures else ()
        numbers = sorted((name for name in group if name.isdigit()), key=int)
        known = ", ".join(map(str, sorted(temperatures))) or "none"
        require(numbers, f"{self.path}: no replicas at {self.temperature} K; its temperatures are {known}")
        return [group[number] for number in numbers]

    def _chunks(
        self, replica: h5py.Group, topology: Topology, selection: Selection, left_out: list[BrokenFrame]
    ) -> Iterator[Chunk]:
        """The selected frames of a replica, without broken ones."""
        # imported late, because the trajectory libraries need seconds
        from data_prepare.molecular_dynamics.frames.trajectory import ANGSTROM_PER_NM, Chunk, FrameCheck, chunk_size
        from data_prepare.molecular_dynamics.frames.unwrap import WholeChains

        with reading(self.path, FORM):
            coords = replica["coords"]
            where = f"{self.path}: {replica.name}/coords"
            atoms = topology.atoms_in_file
            expected = f"{where}: shape {coords.shape}, expected (frames, {atoms}, 3); download the file again"
            require(coords.ndim == 3 and coords.shape[1:] == (atoms, 3), expected)
            numbers = np.array(selection.numbers(len(coords), where))
            box = replica["box"][()] * ANGSTROM_PER_NM if "box" in replica else np.zeros(0)
            boxed = box.shape == (3, 3)  # in nm; other shapes have an unknown unit
            size = chunk_size(atoms)

            def stored() -> Iterator[StoredChunk]:
                for some in np.split(numbers, range(size, len(numbers), size)):
                    xyz = coords[some[0] : some[-1] + 1 : selection.stride].astype(np.float32)[:, topology.file_index]
                    yield Chunk(some, xyz, "angstrom"), np.broadcast_to(box, (len(xyz), 3, 3)) if boxed else None

            make_whole = None
            for chunk, boxes in FrameCheck(topology, where, left_out).sound(stored()):
                if boxes is not None:
                    make_whole = make_whole or WholeChains(topology, chunk.xyz[0], box)
                    chunk = Chunk(chunk.numbers, make_whole(chunk.xyz, boxes), chunk.unit)
                yield chunk
