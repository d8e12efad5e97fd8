"""ProteinFlow: complexes of the PDB and of SAbDab as pickles, one per biological unit, or as PDB and mmCIF files.

A pickle is a dict chain -> `crd_bb` (L, 4, 3; N, C, CA, O; Angstrom), `msk` (L; 0 if unresolved) and `seq` (string).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from data_prepare.errors import reading, require
from data_prepare.files import stem
from data_prepare.pickles import load_restricted
from data_prepare.sources.entry import Entry, FileEntry, Selection
from data_prepare.sources.walk import files_under
from data_prepare.structure.atom_records import AtomRecord, topology_of
from data_prepare.structure.readers import is_structure_file
from data_prepare.structure.sequence import THREE_LETTERS, UNKNOWN
from data_prepare.structure.topology import Structure

WANTED: Final = "pickles (.pickle, .pkl), or PDB and mmCIF files"
PICKLE_SUFFIXES: Final = (".pickle", ".pkl")
SPLITS: Final = "splits_dict"  # folder of the release with its clusters, not structures
ATOMS: Final = ("N", "CA", "C", "O")
COLUMN_OF_ATOM: Final = (0, 2, 1, 3)  # of `crd_bb`


def entries(raw: Path) -> Iterator[Entry]:
    """One entry per file; its source is SAbDab if its path, including the name of `raw`, contains sabdab."""
    for path in files_under(raw):
        below = path.relative_to(raw)
        sabdab = "sabdab" in f"{raw.resolve().name}/{below}".lower()
        source = "proteinflow_sabdab" if sabdab else "proteinflow_pdb"
        if path.suffix.lower() in PICKLE_SUFFIXES and SPLITS not in below.parts:
            yield PickleEntry(name=path.stem, source=source, path=path)
        elif is_structure_file(path):
            yield FileEntry(name=stem(path), source=source, path=path)


@dataclass(frozen=True, kw_only=True)
class PickleEntry(Entry):
    """A biological unit in a pickle."""

    @contextmanager
    def open(self, selection: Selection) -> Iterator[Structure]:
        """Backbone of the resolved residues, numbered from 1 as in the sequence."""
        yield selection.of(_backbone(self.path, load_restricted(self.path)))


def _backbone(path: Path, chains: Any) -> Structure:
    """Backbone of all chains with resolved residues."""
    records: list[AtomRecord] = []
    sequences: dict[Hashable, str] = {}
    xyz = [np.zeros((0, 3))]
    require(isinstance(chains, dict), f"{path}: not a ProteinFlow entry, which is a dict of chains; download it again")
    for chain, data in chains.items():
        where = f"{path}: chain {chain}"
        with reading(where, "a ProteinFlow chain with crd_bb, msk and seq"):
            crd, resolved = np.asarray(data["crd_bb"], np.float64), np.asarray(data["msk"], np.float64) != 0
            letters = [letter if letter in THREE_LETTERS else UNKNOWN for letter in data["seq"]]
        fits = crd.shape == (len(letters), len(ATOMS), 3) and resolved.shape == (len(letters),)
        shapes = f"crd_bb {crd.shape} and msk {resolved.shape} do not fit {len(letters)} residues of seq"
        require(fits, f"{where}: {shapes}; download it again")
        sequences[chain] = "".join(letters)
        xyz.append(crd[resolved][:, COLUMN_OF_ATOM].reshape(-1, 3))  # (atoms, 3)
        for index in np.flatnonzero(resolved).tolist():
            residue = THREE_LETTERS.get(letters[index], "UNK")
            for atom in ATOMS:
                record = AtomRecord(atom, atom[0], residue, str(index + 1), "", str(chain), chain, sequence_index=index)
                records.append(record)
    require(records, f"{path}: no resolved residue (msk is 0 everywhere); remove it")
    return Structure(topology_of(path, records, sequences), np.concatenate(xyz))
