"""mdCATH: `mdcath_dataset_<domain>.h5`, all-atom domains at five temperatures, five replicas each.

The file is read as it is: topology from the text `pdbProteinAtoms`, frames from the datasets `coords` (frames, atoms,
3; Angstrom) of `<domain>/<temperature>/<replica>`, in older files `<domain>/sims<temperature>K/<replica>`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import gemmi
import h5py
import numpy as np

from data_prepare.errors import InputError
from data_prepare.sources.entry import Ensemble, Entry, Selection, select
from data_prepare.sources.walk import files_under, in_order
from data_prepare.structure import pdb
from data_prepare.structure.sequence import ONE_LETTER
from data_prepare.structure.topology import Topology

if TYPE_CHECKING:
    from data_prepare.molecular_dynamics.frames.trajectory import Chunk

SOURCE: Final = "mdCATH"
FILE_NAME: Final = re.compile(r"mdcath_dataset_(\w+)\.h5", re.IGNORECASE)
TEMPERATURE_GROUP: Final = re.compile(r"(?:sims)?(\d+)K?")
DEFAULT_TEMPERATURES: Final = (348,)
ATOM_ARRAYS: Final = ("chain", "element", "resid", "resname", "z")


def list_entries(raw: Path, temperatures: Sequence[int] = DEFAULT_TEMPERATURES) -> list[Entry]:
    """One entry a domain and temperature (K), named `<domain>_<temperature>`."""
    wanted = "mdcath_dataset_<domain>.h5 files"
    if not temperatures:
        raise InputError("no temperature of mdCATH; give at least one, such as 348")
    return in_order(
        (
            MdCathEntry(name=f"{match[1]}_{temperature}", source=SOURCE, path=path, temperature=temperature)
            for path in files_under(raw, wanted)
            if (match := FILE_NAME.fullmatch(path.name))
            for temperature in dict.fromkeys(temperatures)
        ),
        raw,
        wanted,
    )


@dataclass(frozen=True, kw_only=True)
class MdCathEntry(Entry):
    """Replicas of a domain at one temperature.

    Attributes
    ----------
    path
        File of the domain.
    temperature
        K.
    """

    path: Path
    temperature: int

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file of the domain, which has all temperatures."""
        return (self.path,)

    @contextmanager
    def open(self, selection: Selection) -> Iterator[Ensemble]:
        """Frames of all replicas, in the order of their numbers."""
        if not self.path.is_file():
            raise InputError(f"{self.path}: no such file")
        with self._damage_told():
            file = h5py.File(self.path, "r", locking="best-effort")  # some cluster file systems have no locks
        with file:
            with self._damage_told():
                domain = self._domain(file)
                topology = select(self._topology(domain), selection)
                replicas = self._replicas(domain)
            yield Ensemble(topology, self._chunks(replicas, topology, selection))

    @contextmanager
    def _damage_told(self) -> Iterator[None]:
        """Turn what h5py raises, and what a file with other contents leads to, into InputError."""
        try:
            yield
        except InputError:
            raise
        except (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{self.path}: damaged or not of mdCATH, copy it again ({type(error).__name__}: {error})"
            ) from None

    def _domain(self, file: h5py.File) -> h5py.Group:
        match = FILE_NAME.fullmatch(self.path.name)
        name = match[1] if match else self.name
        if name not in file:
            raise InputError(f"{self.path}: no group {name} in it; it has {', '.join(file) or 'none'}")
        return file[name]

    def _topology(self, domain: h5py.Group) -> Topology:
        """Topology of the protein's PDB text, if it tells the same atoms as the arrays beside it."""
        topology = pdb.first_model(self.path, domain["pdbProteinAtoms"].asstr()[()].splitlines()).topology
        atoms = topology.atoms_in_file
        lengths = {name: len(domain[name]) for name in ATOM_ARRAYS if name in domain}
        if "numProteinAtoms" in domain.attrs:
            lengths["numProteinAtoms"] = int(domain.attrs["numProteinAtoms"])
        for name, length in lengths.items():
            if length != atoms:
                raise InputError(
                    f"{self.path}: pdbProteinAtoms has {atoms} atoms, {name} {length}; copy the file again"
                )
        # chain ids are not compared: programs make them of segments, each in its own way
        residue = topology.residue_of_atom
        told = {
            "resid": topology.residue_numbers[residue],
            "resname": [_letter(topology.residue_names[row]) for row in residue],
            "element": list(topology.elements),
            "z": [gemmi.Element(element).atomic_number for element in topology.elements],
        }
        there = {name: domain[name][()][topology.file_index] for name in told if name in domain}
        for name in ("resname", "element"):
            if name in there:
                convert = _letter if name == "resname" else str.upper
                there[name] = np.array([convert(text) for text in _texts(there[name])])
        for name, values in there.items():
            if len(differ := np.flatnonzero(values != np.array(told[name]))):
                raise InputError(
                    f"{self.path}: atom {differ[0] + 1} of pdbProteinAtoms is another one in the array {name}; "
                    "copy the file again"
                )
        return topology

    def _replicas(self, domain: h5py.Group) -> list[h5py.Group]:
        """Groups of the replicas at the temperature."""
        temperatures = {
            int(match[1]): group for group in domain if (match := TEMPERATURE_GROUP.fullmatch(group)) is not None
        }
        if self.temperature not in temperatures:
            known = ", ".join(map(str, sorted(temperatures))) or "none"
            raise InputError(f"{self.path}: no simulations at {self.temperature} K; it has {known}")
        group = domain[temperatures[self.temperature]]
        numbers = sorted((name for name in group if name.isdigit()), key=int)
        if not numbers:
            raise InputError(f"{self.path}: no replicas at {self.temperature} K")
        return [group[number] for number in numbers]

    def _chunks(self, replicas: Sequence[h5py.Group], topology: Topology, selection: Selection) -> Iterator[Chunk]:
        for replica in replicas:
            with self._damage_told():
                yield from self._chunks_of(replica, topology, selection)

    def _chunks_of(self, replica: h5py.Group, topology: Topology, selection: Selection) -> Iterator[Chunk]:
        """Frames of one replica, those asked for alone."""
        # the libraries of trajectories take seconds to import: only a task needs them
        from data_prepare.molecular_dynamics.frames.trajectory import (
            ANGSTROM_PER_NM,
            checked_chunk,
            chunk_size,
        )
        from data_prepare.molecular_dynamics.frames.unwrap import WholeChains

        coords = replica["coords"]
        where = f"{self.path}: {replica.name}/coords"
        if coords.ndim != 3 or coords.shape[1:] != (topology.atoms_in_file, 3):
            expected = f"(frames, {topology.atoms_in_file}, 3)"
            raise InputError(f"{where}: shape {coords.shape}, expected {expected}; copy the file again")
        numbers = np.array(selection.numbers(len(coords), where))
        box = replica["box"][()] * ANGSTROM_PER_NM if "box" in replica else np.zeros(0)
        make_whole = None
        if box.shape == (3, 3):  # in nm; other forms have been in use, of unknown unit
            make_whole = WholeChains(topology, coords[0][topology.file_index], box)
        size = chunk_size(topology.atoms_in_file)
        for first in range(0, len(numbers), size):
            some = numbers[first : first + size]
            xyz = coords[some[0] : some[-1] + 1 : selection.stride].astype(np.float32)[:, topology.file_index]
            if make_whole is not None:
                xyz = make_whole(xyz, np.broadcast_to(box, (len(xyz), 3, 3)))
            yield checked_chunk(some, xyz, "angstrom", where)


def _texts(values: np.ndarray) -> list[str]:
    """Texts of an array of bytes or str, without blanks."""
    return [(value.decode() if isinstance(value, bytes) else str(value)).strip() for value in values]


def _letter(residue_name: str) -> str:
    """One letter of an amino acid, whatever its protonation is called; the name of any other residue."""
    return ONE_LETTER.get(residue_name, residue_name)
