"""Structures of one sequence, a file each, as the samples of one entry.

Atoms are matched by chain, index of the residue in its chain, and name, so that files may differ in their order. Atoms
that some files lack are left out.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import InputWarning, require
from data_prepare.sources.entry import Ensemble, Entry, Selection
from data_prepare.structure.readers import read_structure, read_topology
from data_prepare.structure.sequence import ONE_LETTER, UNKNOWN
from data_prepare.structure.topology import Topology

if TYPE_CHECKING:
    from data_prepare.molecular_dynamics.frames.trajectory import BrokenFrame, Chunk

# share of the heavy atoms of a file that all files must have, and of its hydrogens, else no hydrogens are used
ENOUGH: Final = 0.95
REMEDY: Final = "move files of another system to a folder of their own"

Place = tuple[str, int, str]  # chain id, index of the residue in the chains of this id, name of the atom


class _Sample(NamedTuple):
    """What a file says about its amino acids and caps."""

    residues: dict[str, list[tuple[str, bool]]]  # chain id -> letter, and whether it has N, CA and C, of each
    atoms: dict[Place, int]  # index in the topology
    hydrogens: set[Place]

    @classmethod
    def of(cls, topology: Topology) -> _Sample:
        residues: dict[str, list[tuple[str, bool]]] = {}
        atoms: dict[Place, int] = {}
        for residue in np.flatnonzero(topology.is_amino_acid | topology.is_cap).tolist():
            chain = topology.chain_ids[topology.chain_of_residue[residue]]
            several = residues.setdefault(chain, [])
            letter = ONE_LETTER.get(topology.residue_names[residue], UNKNOWN)
            atoms |= {(chain, len(several), name): at for name, at in topology.atoms_by_name[residue].items()}
            several.append((letter, bool(topology.is_protein[residue])))
        return cls(residues, atoms, {place for place, at in atoms.items() if topology.elements[at] == "H"})

    def difference(self, first: _Sample) -> str | None:
        """Why the residues are not those of another sample."""
        if self.residues.keys() != first.residues.keys():
            found, expected = (", ".join(name or "(blank)" for name in each.residues) for each in (self, first))
            return f"has the protein chains {found}, not {expected}"
        for chain, residues in self.residues.items():
            others, chain = first.residues[chain], chain or "(blank)"
            if len(residues) != len(others):
                return f"chain {chain} has {len(residues)} residues, not {len(others)}"
            for number, (own, other) in enumerate(zip(residues, others, strict=True), 1):
                if own[0] != other[0]:
                    return f"residue {number} of chain {chain} is {own[0]}, not {other[0]}"
                if own != other:
                    return f"residue {number} of chain {chain} {'has' if own[1] else 'lacks'} N, CA and C, not"
        return None


@dataclass(frozen=True, kw_only=True)
class PooledEntry(Entry):
    """Samples in a structure file each."""

    samples: tuple[Path, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files to read."""
        return self.samples

    @contextmanager
    def open(self, selection: Selection) -> Iterator[Ensemble]:
        """The atoms that all samples have, as named and ordered in the first; a sample is a frame."""
        require(len(self.samples) > 1, f"{self.path}: one sample is no ensemble; add the other ones")
        whole = read_topology(self.path)
        places = self._common(whole)
        if selection.chains:
            chosen = set(whole.atoms_of_chains(selection.chains).tolist())
            places = {place: at for place, at in places.items() if at in chosen}
        topology = whole.subset(np.array(sorted(places.values()), np.intp))
        left_out: list[BrokenFrame] = []
        yield Ensemble(
            topology, self._chunks(topology, sorted(places, key=places.__getitem__), selection, left_out), left_out
        )

    def _common(self, whole: Topology) -> dict[Place, int]:
        """The atoms of the first sample that all have; InputWarning if they are not all."""
        first = _Sample.of(whole)
        common, most = set(first.atoms), len(first.atoms)
        largest = len(first.hydrogens)
        for path in self.samples[1:]:
            sample = _Sample.of(read_topology(path))
            problem = sample.difference(first)
            require(problem is None, f"{path}: {problem}, as in {self.path}; {REMEDY}")
            heavy = [each.atoms.keys() - each.hydrogens for each in (first, sample)]
            shared = len(heavy[0] & heavy[1])
            counts = f"{len(heavy[1])} heavy atoms, of which {self.path} has {shared} of its {len(heavy[0])}"
            require(shared >= ENOUGH * max(map(len, heavy)), f"{path}: {counts}; {REMEDY}")
            common &= sample.atoms.keys()
            most, largest = max(most, len(sample.atoms)), max(largest, len(sample.hydrogens))
        if len(common & first.hydrogens) < ENOUGH * largest:
            common -= first.hydrogens
        if len(common) < most:
            which = "without hydrogens, which differ" if largest and not common & first.hydrogens else "which all have"
            message = f"{self.path}: {len(self.samples)} samples of up to {most} atoms: using {len(common)}, {which}"
            warnings.warn(message, InputWarning, stacklevel=2)
        return {place: at for place, at in first.atoms.items() if place in common}

    def _chunks(
        self, topology: Topology, places: list[Place], selection: Selection, left_out: list[BrokenFrame]
    ) -> Iterator[Chunk]:
        """The selected samples, without broken ones."""
        # imported late, because the trajectory libraries need seconds
        from data_prepare.molecular_dynamics.frames.trajectory import Chunk, FrameCheck, chunk_size

        numbers = np.array(selection.numbers(len(self.samples), f"{self.path} and other samples"))
        size = chunk_size(len(places))
        stored = (
            (Chunk(some, np.stack([_positions(self.samples[number], places) for number in some]), "angstrom"), None)
            for some in np.split(numbers, range(size, len(numbers), size))
        )
        check = FrameCheck(topology, self.path.parent, left_out, self.samples)
        yield from (chunk for chunk, _ in check.sound(stored))


def _positions(path: Path, places: list[Place]) -> NDArray[np.float32]:
    """Positions (atoms, 3) in Angstrom of atoms of a sample."""
    structure = read_structure(path)
    atoms = _Sample.of(structure.topology).atoms
    return structure.xyz[[atoms[place] for place in places]].astype(np.float32)
