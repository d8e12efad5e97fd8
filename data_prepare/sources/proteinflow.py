"""ProteinFlow: complexes of the PDB and of SAbDab, a pickle per biological unit; PDB and mmCIF files work as well.

A pickle is a dict chain -> `crd_bb` (L, 4, 3; N, C, CA, O; Angstrom), `crd_sc` (side chains, not used), `msk` (L; 0 is
unresolved) and `seq` (text). It is read without running what it names.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import InputError
from data_prepare.pickles import load_restricted
from data_prepare.sources.entry import Entry, FileEntry, Selection
from data_prepare.sources.walk import files_under, in_order, stem
from data_prepare.structure.atom_records import AtomRecord, topology_of
from data_prepare.structure.readers import is_structure_file
from data_prepare.structure.sequence import ONE_LETTER, UNKNOWN
from data_prepare.structure.topology import Structure, Topology

PICKLE_SUFFIXES: Final = (".pickle", ".pkl")
SPLITS: Final = "splits_dict"  # folder of the release with lists of its clusters, no structures
ATOMS: Final = ("N", "CA", "C", "O")
COLUMN_OF_ATOM: Final = (0, 2, 1, 3)  # of `crd_bb`
THREE_LETTERS: Final = {letter: name for name, letter in reversed(ONE_LETTER.items())}  # the first name of a letter


def list_entries(raw: Path) -> list[Entry]:
    """One entry a file, named by it; those with sabdab in their path, from the name of `raw` on, are of SAbDab."""
    wanted = "pickles (.pickle, .pkl), or PDB and mmCIF files"
    entries: list[Entry] = []
    for path in files_under(raw, wanted):
        below = path.relative_to(raw)
        sabdab = "sabdab" in f"{raw.resolve().name}/{below}".lower()
        source = "proteinflow_sabdab" if sabdab else "proteinflow_pdb"
        if path.suffix.lower() in PICKLE_SUFFIXES and SPLITS not in below.parts:
            entries.append(PickleEntry(name=path.stem, source=source, path=path))
        elif is_structure_file(path):
            entries.append(FileEntry(name=stem(path), source=source, topology=path))
    return in_order(entries, raw, wanted)


@dataclass(frozen=True, kw_only=True)
class PickleEntry(Entry):
    """A biological unit in a pickle.

    Attributes
    ----------
    path
        Pickle of the release.
    """

    path: Path

    @property
    def paths(self) -> tuple[Path, ...]:
        """The pickle."""
        return (self.path,)

    @contextmanager
    def open(self, selection: Selection) -> Iterator[Structure]:
        """Backbone of the resolved residues; a residue's number is its place in the sequence, from 1."""
        structure = Structure(*_backbone(self.path, load_restricted(self.path)))
        yield structure.select_chains(selection.chains) if selection.chains else structure


def _backbone(path: Path, chains: object) -> tuple[Topology, NDArray[np.float64]]:
    """Topology and (atoms, 3) Angstrom of what a pickle holds; chains without any resolved residue are left out."""
    if not isinstance(chains, dict) or not chains:
        raise InputError(f"{path}: not a ProteinFlow entry; expected a dict of chains")
    records: list[AtomRecord] = []
    sequences: dict[Hashable, str] = {}
    positions = []
    for chain, data in chains.items():
        where = f"{path}: chain {chain}"
        if (
            not isinstance(data, dict)
            or not {"crd_bb", "msk", "seq"} <= data.keys()
            or not isinstance(data["seq"], str)
        ):
            raise InputError(f"{where}: not a ProteinFlow chain; expected a dict with crd_bb, msk and seq")
        crd, resolved = np.asarray(data["crd_bb"]), np.asarray(data["msk"])
        length = len(data["seq"])
        if crd.shape != (length, len(ATOMS), 3) or resolved.shape != (length,):
            raise InputError(
                f"{where}: crd_bb {crd.shape} and msk {resolved.shape} do not fit {length} residues of seq"
            )
        if crd.dtype.kind not in "iuf" or resolved.dtype.kind not in "biuf":
            raise InputError(f"{where}: crd_bb or msk are not numbers")
        for place in np.flatnonzero(resolved):
            residue = THREE_LETTERS.get(data["seq"][place], "UNK")
            for atom in ATOMS:
                records.append(
                    AtomRecord(atom, atom[0], residue, int(place) + 1, "", str(chain), chain, sequence_index=int(place))
                )
        if resolved.any():
            letters = (letter if letter in THREE_LETTERS else UNKNOWN for letter in data["seq"])
            sequences[chain] = "".join(letters)
            positions.append(crd[resolved != 0][:, COLUMN_OF_ATOM].reshape(-1, 3).astype(np.float64))  # (atoms, 3)
    if not positions:
        raise InputError(f"{path}: no residue is resolved (msk is 0 everywhere)")
    return topology_of(path, records, sequences), np.concatenate(positions)
