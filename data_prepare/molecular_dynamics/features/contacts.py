"""Contacts per frame of each pair of residues, counted in frames or read from a contact file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import require
from data_prepare.molecular_dynamics.contacts.file_format import read_contacts, read_header
from data_prepare.molecular_dynamics.contacts.search import ContactSearch, single_interactions
from data_prepare.molecular_dynamics.frames.cell_list import Neighbours
from data_prepare.properties import INTERACTIONS, MD_PAIR_WIDTH
from data_prepare.structure.sequence import ONE_LETTER
from data_prepare.structure.topology import Topology, label_of_residue


class ContactCounts:
    """Contacts per frame (N, N, 10): a channel per interaction, row = residue of atom 1, column = of atom 2.

    `residue_of_atom` holds the residue, 0 to N - 1, of each atom of the search. The last channel stays 0.
    """

    def __init__(self, search: ContactSearch, residue_of_atom: NDArray) -> None:
        self._search = search
        self._residue = residue_of_atom
        n = int(residue_of_atom.max()) + 1
        self._counts = np.zeros((n, n, MD_PAIR_WIDTH), np.int32)

    def add(self, xyz: NDArray[np.float64], neighbours: Neighbours) -> None:
        """Add a frame; see `ContactSearch.contacts_among`."""
        channel, atom_1, atom_2 = self._search.contacts_among(xyz, neighbours)
        np.add.at(self._counts, (self._residue[atom_1], self._residue[atom_2], channel), 1)

    def result(self, frames: int) -> NDArray[np.float32]:
        """(N, N, 10)."""
        return per_frame(self._counts, frames)


def per_frame(counts: NDArray[np.int32], frames: int) -> NDArray[np.float32]:
    """Quotients of a large array, computed in float64 without a copy of that size."""
    return np.divide(counts, frames, out=np.empty(counts.shape, np.float32), casting="same_kind")


def contacts_of_file(
    topology: Topology, path: str | Path, frames: range, may_lack: Collection[str] = ()
) -> NDArray[np.float32]:
    """Contacts per frame (N, N, 10), as in `ContactCounts`, of a contact file.

    The file may cover some of the `frames` (their numbers in the trajectory). Interactions outside `INTERACTIONS`, such
    as those with ligands and water, and lines with residues outside the protein are not counted. Interactions that the
    file may lack and lacks are NaN. InputError if it lacks another one, if a residue of the protein is unknown or
    ambiguous, or if its frames do not match its header or `frames`.
    """
    header = read_header(path)
    used = header.frames
    again = "make the file again, or omit -i"
    other = next((frame for frame in used if frame not in frames), None)
    of = f"the frames {frames.start} to {frames[-1]} with stride {frames.step}"
    require(other is None, f"{path}: frame {other} is none of {of}; {again}")
    missing = set(INTERACTIONS) - single_interactions(header.interaction_types)
    wanted = missing - set(may_lack)
    require(not wanted, f"{path}: lacks the interactions {', '.join(sorted(wanted))}; {again}")

    labels = label_of_residue(topology.traced)
    index = {label: row for row, label in enumerate(labels)}
    ambiguous = {label for label, number in Counter(labels).items() if number > 1}
    counts = np.zeros((len(labels), len(labels), MD_PAIR_WIDTH), np.int32)
    others = set(label_of_residue(topology)) - index.keys()
    names = {*ONE_LETTER, *topology.traced.residue_names}

    def outside(label: str) -> bool:
        """Whether a residue is a ligand, water or ion: one of the system, or of a name that the protein lacks."""
        return label not in index and (label in others or (label.count(":") > 1 and label.split(":")[1] not in names))

    seen = set()
    for frame, interaction, *atoms in read_contacts(path):
        seen.add(frame)
        pair = [atom.rsplit(":", 1)[0] for atom in atoms]
        if interaction not in INTERACTIONS or any(map(outside, pair)):
            continue
        for label in pair:
            require(label in index, f"{path}: residue {label} is not in the protein of {topology.path}; {again}")
            require(label not in ambiguous, f"{path}: residue {label} is ambiguous in {topology.path}; omit -i")
        require(frame in used, f"{path}: frame {frame} is outside the range in the header; {again}")
        counts[index[pair[0]], index[pair[1]], INTERACTIONS.index(interaction)] += 1
    require(
        len(seen) <= header.total_frames, f"{path}: has lines of {len(seen)} of {header.total_frames} frames; {again}"
    )
    result = per_frame(counts, header.total_frames)
    result[..., [INTERACTIONS.index(name) for name in missing]] = np.nan
    return result
