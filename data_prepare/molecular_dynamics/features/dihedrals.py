"""Dihedral angles chi1, phi and psi: fraction of frames in each of 12 bins of 30 degrees from -pi."""

from __future__ import annotations

from typing import Final

import mdtraj
import numpy as np
from numpy.typing import NDArray

from data_prepare.properties import NUM_ANGLE_BINS
from data_prepare.structure.topology import Topology

BIN_EDGES: Final = np.linspace(-np.pi, np.pi, NUM_ANGLE_BINS + 1)
CHI1_ENDS: Final = ("CG", "CG1", "SG", "OG", "OG1", "SE")
ANGLES: Final = ("chi", "phi", "psi")


def angle_atoms(protein: Topology) -> dict[str, NDArray[np.int64]]:
    """Atoms of each angle (N, 4); rows of -1 where it does not exist. phi and psi need the adjacent residue."""
    atoms, chain = protein.atoms_by_name, protein.chain_of_residue
    result = {angle: np.full((len(atoms), 4), -1, np.int64) for angle in ANGLES}
    for i, own in enumerate(atoms):
        end = next((name for name in CHI1_ENDS if name in own), None)
        if end is not None and "CB" in own:
            result["chi"][i] = [own[name] for name in ("N", "CA", "CB", end)]
        if i > 0 and chain[i - 1] == chain[i]:
            before = atoms[i - 1]
            result["phi"][i] = [before["C"], own["N"], own["CA"], own["C"]]
            result["psi"][i - 1] = [before["N"], before["CA"], before["C"], own["N"]]
    return result


def angle_bins(angles: NDArray) -> NDArray[np.intp]:
    """Bin of each angle (radians), 0 to 11; an edge belongs to the bin above it, -pi and pi to the end bins.

    float32 pi is slightly larger than pi, so both ends are clipped.
    """
    return np.clip(np.searchsorted(BIN_EDGES, angles, side="right") - 1, 0, NUM_ANGLE_BINS - 1)


class Dihedrals:
    """Histograms of the angles of a protein."""

    def __init__(self, protein: Topology) -> None:
        self._atoms = angle_atoms(protein)
        self._counts = {angle: np.zeros((len(atoms), NUM_ANGLE_BINS), np.int64) for angle, atoms in self._atoms.items()}

    def add(self, trajectory: mdtraj.Trajectory) -> None:
        """Add frames of the protein."""
        for angle, atoms in self._atoms.items():
            exists = np.flatnonzero(atoms[:, 0] >= 0)
            if len(exists):
                values = mdtraj.compute_dihedrals(trajectory, atoms[exists], periodic=False)  # (frames, angles)
                bins = angle_bins(values)
                np.add.at(self._counts[angle], (np.broadcast_to(exists, bins.shape), bins), 1)

    def result(self, frames: int) -> dict[str, NDArray]:
        """`chi`, `phi` and `psi` (N, 12), NaN where the angle does not exist."""
        return {
            angle: np.where(atoms[:, :1] >= 0, self._counts[angle] / frames, np.nan)
            for angle, atoms in self._atoms.items()
        }
