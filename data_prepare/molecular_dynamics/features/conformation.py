"""Accumulators over superposed frames of the protein: secondary structure, dihedral angles, fluctuations."""

from __future__ import annotations

from typing import Final

import mdtraj
import numpy as np
from numpy.typing import NDArray

from data_prepare.correlation import correlation
from data_prepare.properties import DSSP_STATES, NUM_ANGLE_BINS
from data_prepare.structure.topology import CARBONYL_OXYGENS, Topology

BIN_EDGES: Final = np.linspace(-np.pi, np.pi, NUM_ANGLE_BINS + 1)  # radians
CHI1_ENDS: Final = ("CG", "CG1", "SG", "OG", "OG1", "SE")
ANGLES: Final = ("chi", "phi", "psi")
LONGEST_PEPTIDE_BOND: Final = 0.25  # nm, as in DSSP


class SecondaryStructure:
    """Fraction of frames in each of the eight DSSP states (Kabsch and Sander, Biopolymers 1983) for N protein residues.

    A residue without a carbonyl oxygen counts as blank. MDTraj does not get it: the hydrogen of the next residue would
    be placed by an atom outside of its array.
    """

    def __init__(self, molecule: Topology) -> None:
        oxygens = {*CARBONYL_OXYGENS}
        whole = np.array(["C" in atoms and not oxygens.isdisjoint(atoms) for atoms in molecule.atoms_by_name])
        backbone = np.isin(molecule.atom_names, ("N", "CA", "C", *CARBONYL_OXYGENS))
        self._atoms = np.flatnonzero(backbone & whole[molecule.residue_of_atom])
        self._topology = molecule.subset(self._atoms).to_mdtraj()
        self._columns = np.flatnonzero(molecule.is_protein[whole])  # of the protein residues in the array of MDTraj
        self._rows = np.flatnonzero(whole[molecule.is_protein])  # the same among all protein residues
        self._counts = np.zeros((int(molecule.is_protein.sum()), len(DSSP_STATES)), np.int64)

    def add(self, trajectory: mdtraj.Trajectory) -> None:
        """Add frames."""
        backbone = mdtraj.Trajectory(trajectory.xyz[:, self._atoms], self._topology)
        states = mdtraj.compute_dssp(backbone, simplified=False)[:, self._columns]  # (frames, residues)
        for column, state in enumerate(DSSP_STATES[:-1]):
            self._counts[self._rows, column] += (states == state).sum(axis=0)

    def result(self, frames: int) -> dict[str, NDArray]:
        """`ss` (N, 8)."""
        self._counts[:, -1] = frames - self._counts[:, :-1].sum(axis=1)
        return {"ss": self._counts / frames}


def angle_atoms(molecule: Topology) -> dict[str, NDArray[np.int64]]:
    """Atoms (N, 4) of chi1, phi and psi of the protein residues, -1 where an angle does not exist.

    phi and psi need the adjacent residue or cap.
    """
    atoms, chain, protein = molecule.atoms_by_name, molecule.chain_of_residue, molecule.is_protein
    result = {angle: np.full((len(atoms), 4), -1, np.int64) for angle in ANGLES}
    for i, own in enumerate(atoms):
        end = next((name for name in CHI1_ENDS if name in own), None)
        if protein[i] and end is not None and "CB" in own:
            result["chi"][i] = [own[name] for name in ("N", "CA", "CB", end)]
        if i == 0 or chain[i - 1] != chain[i]:
            continue
        before = atoms[i - 1]
        if protein[i] and "C" in before:
            result["phi"][i] = [before["C"], own["N"], own["CA"], own["C"]]
        if protein[i - 1] and "N" in own:
            result["psi"][i - 1] = [before["N"], before["CA"], before["C"], own["N"]]
    return {angle: values[protein] for angle, values in result.items()}


def angle_bins(angles: NDArray) -> NDArray[np.intp]:
    """Bin of each angle (radians), 0 to 11; an edge belongs to the bin above it.

    Clipped at both ends: float32 pi is slightly larger than pi.
    """
    return np.clip(np.searchsorted(BIN_EDGES, angles, side="right") - 1, 0, NUM_ANGLE_BINS - 1)


class Dihedrals:
    """Fraction of frames in each of 12 bins of 30 degrees from -pi for chi1, phi and psi.

    phi and psi need a peptide bond in the first frame (atoms, 3), nm: a chain may have gaps.
    """

    def __init__(self, molecule: Topology, first: NDArray[np.float32]) -> None:
        self._atoms = angle_atoms(molecule)
        for angle, bond in (("phi", slice(0, 2)), ("psi", slice(2, 4))):
            carbon, nitrogen = first[self._atoms[angle][:, bond].T]  # (N, 3) each
            self._atoms[angle][np.linalg.norm(carbon - nitrogen, axis=1) > LONGEST_PEPTIDE_BOND] = -1
        self._counts = {angle: np.zeros((len(atoms), NUM_ANGLE_BINS), np.int64) for angle, atoms in self._atoms.items()}

    def add(self, trajectory: mdtraj.Trajectory) -> None:
        """Add frames."""
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


class Fluctuations:
    """RMSF and displacement correlation of N C-alpha atoms; `reference` (N, 3), nm, are those of the first frame.

    With d_i the displacement of atom i from its mean position, the RMSF is sqrt(<d_i d_i>) and the correlation
    <d_i d_j> / sqrt(<d_i d_i> <d_j d_j>).
    """

    def __init__(self, ca: NDArray, reference: NDArray) -> None:
        self._ca = ca
        self._reference = reference
        # displacements from the reference; `result` subtracts the mean
        self._shift = np.zeros((len(ca), 3))  # sum of the displacements, nm
        self._product = np.zeros((len(ca), len(ca)))  # sum of their scalar products, nm^2

    def add(self, trajectory: mdtraj.Trajectory) -> None:
        """Add frames."""
        moved = trajectory.xyz[:, self._ca].astype(np.float64) - self._reference  # (frames, N, 3)
        self._shift += moved.sum(axis=0)
        flat = moved.transpose(0, 2, 1).reshape(-1, moved.shape[1])  # (frames * 3, N)
        self._product += flat.T @ flat

    def result(self, frames: int) -> dict[str, NDArray]:
        """`rmsf_nor` (N,) float32, the RMSF in nm, and `corr` (N, N), 0 for a C-alpha atom that never moves."""
        mean = self._shift / frames
        covariance = self._product  # (N, N) nm^2
        covariance /= frames
        covariance -= mean @ mean.T
        rmsf = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        return {"rmsf_nor": rmsf.astype(np.float32), "corr": correlation(covariance)}
