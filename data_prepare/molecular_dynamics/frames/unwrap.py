"""Unwrapping of protein chains that are broken by the periodic box.

Residues join their chain at the nearest image; chains join each other at the C-alpha atoms that are nearest in the
first frame. Whole frames keep every bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_prepare.structure.topology import Topology


class WholeChains:
    """Makes protein chains and their caps whole, frame by frame; other atoms keep their positions.

    The first frame (atoms, 3) of the trajectory and its box (3, 3), with vectors in rows and in the same unit, decide
    which images of several chains belong together.
    """

    def __init__(self, topology: Topology, first_frame: NDArray, first_box: NDArray) -> None:
        self._atoms = topology.molecule_atoms
        molecule = topology.subset(self._atoms)
        rank = np.cumsum(molecule.is_traced) - 1
        begins = np.diff(molecule.chain_of_residue, prepend=-1) > 0
        rank[molecule.is_cap & begins] += 1  # a cap moves with the residue that it is bonded to
        self._residue = rank[molecule.residue_of_atom]  # among those of the protein
        protein = topology.traced
        self._ca = topology.traced_atoms[[atoms["CA"] for atoms in protein.atoms_by_name]]
        self._starts = np.flatnonzero(np.diff(protein.chain_of_residue, prepend=-1))  # first residue of each chain
        self._chain = protein.chain_of_residue
        self._joints: list[tuple[int, int]] = []  # residue of a chain, nearest residue of an earlier one
        if len(self._starts) > 1 and np.linalg.det(first_box) > 0:
            self._joints = self._nearest_pairs(first_frame[self._ca], np.asarray(first_box, np.float64))

    def _nearest_pairs(self, ca: NDArray, box: NDArray) -> list[tuple[int, int]]:
        """Joints of each chain with those already joined, nearest first."""
        fraction = ca.astype(np.float64) @ np.linalg.inv(box)
        chains = [np.flatnonzero(self._chain == chain) for chain in range(len(self._starts))]

        def nearest(a: NDArray, b: NDArray) -> tuple[float, int, int]:
            step = fraction[b] - fraction[a][:, None]  # (residues of a, residues of b, 3)
            distance = np.linalg.norm((step - np.round(step)) @ box, axis=-1)
            i, j = np.unravel_index(distance.argmin(), distance.shape)
            return float(distance[i, j]), int(a[i]), int(b[j])

        pair = {chain: nearest(chains[chain], chains[0]) for chain in range(1, len(chains))}
        joints = []
        while pair:
            chain = min(pair, key=pair.__getitem__)
            joints.append(pair.pop(chain)[1:])
            pair = {other: min(best, nearest(chains[other], chains[chain])) for other, best in pair.items()}
        return joints

    def __call__(self, xyz: NDArray[np.float32], box: NDArray) -> NDArray[np.float32]:
        """Whole frames (frames, atoms, 3), the same array if nothing is broken.

        Boxes (frames, 3, 3) have the same unit; frames with a box of volume 0 are unchanged.
        """
        box = np.asarray(box, np.float64)
        boxed = np.linalg.det(box) > 0
        inverse = np.zeros_like(box)  # fractions are 0 without a box
        inverse[boxed] = np.linalg.inv(box[boxed])
        fraction = xyz[:, self._atoms].astype(np.float64) @ inverse  # (frames, protein atoms, 3)
        ca = xyz[:, self._ca].astype(np.float64) @ inverse  # (frames, N, 3)

        image = np.round(np.diff(ca, axis=1, prepend=ca[:, :1]))  # box vectors from the previous residue
        image[:, self._starts] = 0.0
        image = np.cumsum(image, axis=1)
        image -= np.repeat(image[:, self._starts], np.diff([*self._starts, len(self._ca)]), axis=1)
        for residue, other in self._joints:
            step = ca[:, residue] - image[:, residue] - (ca[:, other] - image[:, other])
            image[:, self._chain == self._chain[residue]] += np.round(step)[:, None]
        image = image[:, self._residue] + np.round(fraction - ca[:, self._residue])  # (frames, protein atoms, 3)
        if not image.any():
            return xyz
        whole = xyz.copy()
        moved = xyz[:, self._atoms] - image @ box
        whole[:, self._atoms] = np.where(image.any(axis=2, keepdims=True), moved, xyz[:, self._atoms])
        return whole
