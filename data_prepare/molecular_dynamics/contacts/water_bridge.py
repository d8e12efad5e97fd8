"""Water bridges: two atoms bonded to the same water (wb), or to two waters that bond to each other (wb2).

All bonds are hydrogen bonds by the rule of `hydrogen_bond`, here with atoms of any other residue. One atom is in
`sele`, the other in `sele2`; their residues obey `hbond_res_diff`. With a ligand at one end the types are lwb and lwb2.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prepare.molecular_dynamics.contacts.hydrogen_bond import NOT_POLAR
from data_prepare.molecular_dynamics.contacts.kernels import Criteria
from data_prepare.molecular_dynamics.contacts.search import ContactSearch, atom_ranks, chain_codes
from data_prepare.molecular_dynamics.contacts.selection import Selections
from data_prepare.structure.topology import Topology


class Bridge(NamedTuple):
    """A type and the atoms of its line: the two ends, then the waters, the first one at the first end."""

    kind: str
    atoms: tuple[int, ...]


class WaterBridges:
    """Finds water bridges frame by frame; see `ContactSearch` for the parameters."""

    def __init__(self, topology: Topology, first_frame: NDArray, criteria: Criteria, selections: Selections) -> None:
        nothing = np.zeros(topology.num_atoms, np.bool_)
        self._solvent = nothing if selections.solvent is None else selections.solvent
        self._ligand = nothing if selections.ligand is None else selections.ligand
        self._sele, self._sele2 = selections.sides
        polar = ~np.isin(topology.elements, (*NOT_POLAR, "X"))
        limits = criteria.hydrogen_bond
        self._res_diff = limits.hbond_res_diff
        self._search = ContactSearch(
            topology,
            first_frame,
            ("hb",),
            criteria._replace(hydrogen_bond=limits._replace(hbond_res_diff=1)),
            Selections((selections.members | self._solvent) & polar),
        )
        self._chain = chain_codes(topology, criteria)[topology.residue_of_atom]
        self._number = topology.residue_numbers[topology.residue_of_atom]
        self._rank = atom_ranks(topology)

    def bridges(self, frame: NDArray) -> list[Bridge]:
        """Bridges of one frame (atoms, 3) of the system in Angstrom."""
        _, one, two = self._search.contacts(frame)
        at_end = ~self._solvent
        at_end[one[~self._solvent[two]]] = at_end[two[~self._solvent[one]]] = True  # waters with an end
        useful = at_end[one] & at_end[two]  # bulk water needs no loop
        near: dict[int, list[int]] = defaultdict(list)  # what each water is bonded to
        for a, b in zip(one[useful].tolist(), two[useful].tolist(), strict=True):
            for water, other in ((a, b), (b, a)):
                if self._solvent[water]:
                    near[water].append(other)
        ends = {water: [atom for atom in atoms if not self._solvent[atom]] for water, atoms in near.items()}
        found: list[tuple[int, ...]] = []
        for water, atoms in near.items():
            found += [(*pair, water) for pair in combinations(ends[water], 2)]
            for second in atoms:
                if self._solvent[second] and second > water:
                    found += [(a, b, water, second) for a, b in product(ends[water], ends[second])]
        return [self._bridge(*atoms) for atoms in found if self._may_bridge(atoms[0], atoms[1])]

    def _may_bridge(self, a: int, b: int) -> bool:
        near = self._chain[a] == self._chain[b] and abs(self._number[a] - self._number[b]) < self._res_diff
        selected = (self._sele[a] and self._sele2[b]) or (self._sele2[a] and self._sele[b])
        return bool(a != b and selected and not near)

    def _bridge(self, a: int, b: int, *waters: int) -> Bridge:
        kind = ("l" if self._ligand[a] or self._ligand[b] else "") + ("wb" if len(waters) == 1 else "wb2")
        if self._rank[a] > self._rank[b]:
            a, b, waters = b, a, waters[::-1]
        return Bridge(kind, (a, b, *waters))
