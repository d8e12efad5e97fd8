"""Residue and pair features of a trajectory, accumulated over chunks of frames in bounded memory.

Definitions (paper, methods; lengths in nm, angles in radians):

- frames are superposed on the first one by their C-alpha atoms before anything but the contacts;
- `dssp_*`: share of frames in each of the eight DSSP states; a residue without a carbonyl oxygen counts as blank;
- `sasa_mean`, `sasa_std`: Shrake-Rupley area of the residue in nm^2, probe 0.14 nm, 960 points, population SD;
- `chi_*`, `phi_*`, `psi_*`: share of frames in 12 bins of 30 degrees from -pi, NaN where the angle does not exist;
- `rmsf`: root mean square distance of the C-alpha from its mean position, nm;
- pair channels 0-8: contact lines per frame, row = residue of atom 1, column = residue of atom 2;
- pair channel 9: correlation of C-alpha displacements, tr <d_i d_j^T> / sqrt(tr <d_i d_i^T> tr <d_j d_j^T>), 0 for a
  C-alpha that never moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import mdtraj
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prepare.correlation import correlation
from data_prepare.errors import InputError
from data_prepare.molecular_dynamics.contacts import HYDROGEN_BONDS, TYPES, ContactSearch, read_contacts, read_header
from data_prepare.molecular_dynamics.contacts.search import protein_atoms
from data_prepare.molecular_dynamics.features.sasa import SurfaceArea, surface_radii
from data_prepare.molecular_dynamics.frames.cell_list import neighbour_lists
from data_prepare.molecular_dynamics.frames.superpose import superposed
from data_prepare.molecular_dynamics.frames.trajectory import ANGSTROM_PER_NM, Chunk, read_chunks
from data_prepare.properties import (
    DSSP_STATES,
    FEATURES,
    INTERACTIONS,
    MD_RESIDUE_WIDTH,
    NUM_ANGLE_BINS,
    RESIDUE_COLUMNS,
)
from data_prepare.structure.topology import Topology, label_of_residue

BIN_EDGES: Final = np.linspace(-np.pi, np.pi, NUM_ANGLE_BINS + 1)
CHI1_ENDS: Final = ("CG", "CG1", "SG", "OG", "OG1", "SE")
DSSP_COLUMNS: Final = tuple(f"dssp_{state}" for state in DSSP_STATES)
ANGLES: Final = ("chi", "phi", "psi")
ANGLE_COLUMNS: Final = {angle: tuple(f"{angle}_{b}" for b in range(NUM_ANGLE_BINS)) for angle in ANGLES}


class MDFeatures(NamedTuple):
    """Features of N residues in the published form.

    Attributes
    ----------
    residue
        N rows; columns `ca_atom`, `dssp_*`, `sasa_mean`, `sasa_std`, `chi_*`, `phi_*`, `psi_*`, `rmsf`.
    pair
        (N, N, 10) float64.
    """

    residue: pd.DataFrame
    pair: NDArray[np.float64]


def angle_atoms(topology: Topology) -> dict[str, NDArray[np.int64]]:
    """Atoms of the angles chi1, phi and psi: per angle (N, 4), rows of -1 where the angle does not exist.

    phi needs a residue before, psi a residue after it in the chain.
    """
    atoms = topology.atoms_by_name
    chain = topology.chain_of_residue
    n = topology.num_residues
    result = {angle: np.full((n, 4), -1, np.int64) for angle in ANGLES}
    for i in range(n):
        end = next((name for name in CHI1_ENDS if name in atoms[i]), None)
        if end is not None and "CB" in atoms[i]:
            result["chi"][i] = [atoms[i][name] for name in ("N", "CA", "CB", end)]
        if i > 0 and chain[i - 1] == chain[i]:
            result["phi"][i] = [atoms[i - 1]["C"], *(atoms[i][name] for name in ("N", "CA", "C"))]
            result["psi"][i - 1] = [*(atoms[i - 1][name] for name in ("N", "CA", "C")), atoms[i]["N"]]
    return result


def angle_bins(values: NDArray) -> NDArray[np.intp]:
    """Bin of each angle (radians), 0 to 11; an edge belongs to the bin above it, -pi and pi to the end bins.

    float32 pi is a little above pi, so both ends are clipped.
    """
    return np.clip(np.searchsorted(BIN_EDGES, values, side="right") - 1, 0, NUM_ANGLE_BINS - 1)


class FeatureAccumulator:
    """Takes chunks of frames, gives the features.

    Parameters
    ----------
    topology
        All atoms of the system; features are of its protein residues.
    first
        Chunk that begins with the first frame of the trajectory: the reference of the superposition.
    features
        Which of `properties.FEATURES` to compute. The columns and channels of the others are 0, or NaN for angles.

    Raises
    ------
    InputError
        If there are fewer than 3 protein residues, a feature is unknown, or contacts are asked for and the protein has
        no hydrogens.
    """

    def __init__(self, topology: Topology, first: Chunk, features: Sequence[str] = FEATURES) -> None:
        if not topology.is_protein.any():
            raise InputError(
                f"{topology.path}: no residue with atoms N, CA and C; features need an all-atom protein "
                "(cg2all back-maps C-alpha models)"
            )
        if topology.is_protein.sum() < 3:
            raise InputError(f"{topology.path}: fewer than 3 protein residues; frames cannot be superposed")
        if unknown := [name for name in features if name not in FEATURES]:
            raise InputError(f"unknown feature {', '.join(unknown)}; known are {', '.join(FEATURES)}")
        self.topology = topology
        self._features = frozenset(features)
        self._atoms = np.flatnonzero(topology.is_protein[topology.residue_of_atom])
        self._protein = topology.protein
        self._mdtraj = self._protein.to_mdtraj()
        self._ca = np.array([atoms["CA"] for atoms in self._protein.atoms_by_name])
        self._angles = angle_atoms(self._protein)
        self._reference = first.nm[0, self._atoms[self._ca]].astype(np.float64)  # (N, 3) nm

        # contacts and areas share a neighbour search of the protein atoms, the heavy ones first
        self._order = protein_atoms(self._protein)
        self._rows = self._protein.residue_of_atom[self._order]
        radii = surface_radii(self._protein.elements)[self._order]
        self._surface = SurfaceArea(radii, self._rows) if "sasa" in features else None
        self._search = ContactSearch(topology, first.angstrom[0]) if "contacts" in features else None
        self._reach = radii * ANGSTROM_PER_NM if self._surface is not None else np.zeros(len(radii))
        if self._search is not None:
            heavy = self._search.num_heavy
            self._reach[:heavy] = np.maximum(self._reach[:heavy], self._search.reach)
            if self._surface is None:
                self._reach = self._reach[:heavy]

        n = self._protein.num_residues
        self.frames = 0
        self._dssp = np.zeros((n, len(DSSP_STATES)), np.int64)
        self._sasa = np.zeros((2, n))  # sums of the area and of its square
        self._histogram = {angle: np.zeros((n, NUM_ANGLE_BINS), np.int64) for angle in ANGLES}
        self._shift = np.zeros((n, 3))  # sum of the displacements from the first frame, nm
        self._product = np.zeros((n, n))  # sum of the scalar products of displacements, nm^2
        self._contacts = np.zeros((n, n, len(TYPES)), np.int32)

    def _trajectory(self, xyz: NDArray) -> mdtraj.Trajectory:
        """Protein atoms of frames (frames, atoms, 3) in nm as an MDTraj trajectory."""
        return mdtraj.Trajectory(xyz[:, self._atoms], self._mdtraj)

    def add(self, chunk: Chunk) -> None:
        """Add frames."""
        self.frames += len(chunk.numbers)
        trajectory = self._trajectory(chunk.nm)
        if not self._features.isdisjoint(("sasa", "rmsf", "corr")):
            trajectory.xyz = superposed(trajectory.xyz, self._ca, self._reference)
        if "ss" in self._features:
            self._add_states(trajectory)
        if "dihedrals" in self._features:
            self._add_angles(trajectory)
        if not self._features.isdisjoint(("rmsf", "corr")):
            self._add_displacements(trajectory)
        if not self._features.isdisjoint(("sasa", "contacts")):
            for angstrom, nm in zip(chunk.angstrom, trajectory.xyz, strict=True):
                self._add_neighbours(angstrom, nm)

    def _add_states(self, trajectory: mdtraj.Trajectory) -> None:
        states = mdtraj.compute_dssp(trajectory, simplified=False)  # (frames, N)
        for column, state in enumerate(DSSP_STATES[:-1]):
            self._dssp[:, column] += (states == state).sum(axis=0)
        self._dssp[:, -1] = self.frames - self._dssp[:, :-1].sum(axis=1)

    def _add_angles(self, trajectory: mdtraj.Trajectory) -> None:
        for angle, atoms in self._angles.items():
            exists = np.flatnonzero(atoms[:, 0] >= 0)
            if len(exists):
                values = mdtraj.compute_dihedrals(trajectory, atoms[exists], periodic=False)  # (frames, angles)
                bins = angle_bins(values)
                np.add.at(self._histogram[angle], (np.broadcast_to(exists, bins.shape), bins), 1)

    def _add_displacements(self, trajectory: mdtraj.Trajectory) -> None:
        # displacements from the first frame, not from the mean that is not known yet: the mean is taken off in result()
        moved = trajectory.xyz[:, self._ca].astype(np.float64) - self._reference  # (frames, N, 3)
        self._shift += moved.sum(axis=0)
        if "corr" in self._features:
            flat = moved.transpose(0, 2, 1).reshape(-1, moved.shape[1])  # (frames * 3, N)
            self._product += flat.T @ flat
        else:
            self._product.flat[:: len(self._ca) + 1] += (moved**2).sum(axis=(0, 2))

    def _add_neighbours(self, angstrom: NDArray, nm: NDArray) -> None:
        """Add contacts and areas of a frame: all atoms of the system as they are, those of the protein superposed."""
        xyz = angstrom[self._atoms[self._order]].astype(np.float64)
        # rigid bodies keep their distances: what is near in a frame is near when it has been superposed
        neighbours = neighbour_lists(xyz[: len(self._reach)], self._reach)
        if self._search is not None:
            kind, atom_1, atom_2 = self._search.contacts_among(xyz, neighbours)
            np.add.at(self._contacts, (self._rows[atom_1], self._rows[atom_2], kind), 1)
        if self._surface is not None:
            area = self._surface.residues(nm[self._order], neighbours)  # (N,)
            self._sasa += area, area**2

    def result(self) -> MDFeatures:
        """Features of the frames so far.

        Raises
        ------
        InputError
            If there are fewer than 2: fluctuations are not defined.
        """
        if self.frames < 2:
            raise InputError(f"{self.topology.path}: {self.frames} frame; fluctuations need at least 2")
        sasa_mean = self._sasa[0] / self.frames
        sasa_std = np.sqrt(np.maximum(self._sasa[1] / self.frames - sasa_mean**2, 0.0))
        mean_shift = self._shift / self.frames
        covariance = self._product / self.frames - mean_shift @ mean_shift.T  # (N, N) nm^2
        variance = np.maximum(np.diag(covariance), 0.0)

        columns: dict[str, NDArray] = {"ca_atom": self._atoms[self._ca]}
        columns |= dict(zip(DSSP_COLUMNS, self._dssp.T / self.frames, strict=True))
        columns |= {"sasa_mean": sasa_mean.astype(np.float32), "sasa_std": sasa_std.astype(np.float32)}
        for angle, atoms in self._angles.items():
            exists = (atoms[:, :1] >= 0) & ("dihedrals" in self._features)
            shares = np.where(exists, self._histogram[angle] / self.frames, np.nan)
            columns |= dict(zip(ANGLE_COLUMNS[angle], shares.T, strict=True))
        columns["rmsf"] = np.sqrt(variance).astype(np.float32) * np.float32("rmsf" in self._features)

        pair = np.zeros((*covariance.shape, len(INTERACTIONS) + 1))
        pair[..., :-1] = self._contacts / self.frames
        if "corr" in self._features:
            pair[..., -1] = correlation(covariance)
        return MDFeatures(pd.DataFrame(columns), pair)


def contact_frequencies(topology: Topology, path: str | Path, frames: int) -> NDArray[np.float64]:
    """Contact lines per frame of each pair of protein residues, read from a contact file.

    Residues of the file are found by chain, number and insertion code.

    Parameters
    ----------
    topology
        All atoms of the system.
    path
        Contact file, made of the whole trajectory or of some of its frames.
    frames
        Number of frames of the trajectory.

    Returns
    -------
    (N, N, 9) float64, row = residue of atom 1, column = residue of atom 2.

    Raises
    ------
    InputError
        If the file lacks an interaction type, names a residue that the topology does not have or has twice, or its
        frames are not those of its header or not in the trajectory.
    """
    header = read_header(path)
    used = range(header.beg, header.end + 1, header.stride) if header.stride else range(0)
    if header.end >= frames:
        raise InputError(
            f"{path}: made of frames up to {header.end}, but the trajectory has {frames}; "
            "give the trajectory it was made of, or leave -i out"
        )
    if header.total_frames != len(used) or header.total_frames < 1:
        raise InputError(
            f"{path}: its header has {header.total_frames} frames from {header.beg} to {header.end} with stride "
            f"{header.stride}, which are {len(used)}; make the file again, or leave -i out"
        )
    asked = set(header.interaction_types)
    if "hb" in asked:
        asked |= set(HYDROGEN_BONDS)
    if missing := [name for name in TYPES if name not in asked]:
        raise InputError(f"{path}: made without the interaction types {', '.join(missing)}; make it again with all")
    protein = topology.protein
    row_of_residue: dict[str, int] = {}
    repeated = set()
    for row, label in enumerate(label_of_residue(protein)):
        if label in row_of_residue:
            repeated.add(label)
        row_of_residue[label] = row
    n = protein.num_residues
    counts = np.zeros((n, n, len(TYPES)), np.int64)
    channel = {name: index for index, name in enumerate(TYPES)}
    for frame, kind, *atoms in read_contacts(path):
        labels = [label.rsplit(":", 1)[0] for label in atoms]
        for label in labels:
            if label not in row_of_residue:
                raise InputError(f"{path}: residue {label} is not in the protein of {topology.path}; wrong topology?")
            if label in repeated:
                raise InputError(
                    f"{path}: residue {label} is there more than once in {topology.path}; number its residues uniquely "
                    "or leave -i out"
                )
        if frame not in used:
            raise InputError(
                f"{path}: frame {frame} is none of its header's, {header.beg} to {header.end} with stride "
                f"{header.stride}; make the file again, or leave -i out"
            )
        counts[row_of_residue[labels[0]], row_of_residue[labels[1]], channel[kind]] += 1
    return counts / header.total_frames


def md_features(
    topology: Topology,
    trajectory: str | Path | Iterable[Chunk],
    contact_file: str | Path | None = None,
    features: Sequence[str] = FEATURES,
) -> MDFeatures:
    """Features of one trajectory.

    Parameters
    ----------
    topology
        All atoms of the system.
    trajectory
        Trajectory file, or chunks of its frames.
    contact_file
        Contact file of the trajectory; without one contacts are found on the way.
    features
        Which of `properties.FEATURES` to compute. The columns and channels of the others are 0, or NaN for angles.
    """
    if isinstance(trajectory, str | Path):
        trajectory = read_chunks(topology, trajectory)
    to_find = [name for name in features if name != "contacts" or contact_file is None]
    accumulator = None
    for chunk in trajectory:
        if accumulator is None:
            accumulator = FeatureAccumulator(topology, chunk, to_find)
        accumulator.add(chunk)
    if accumulator is None:
        raise InputError(f"{topology.path}: its trajectory has no frames")
    result = accumulator.result()
    if contact_file is not None and "contacts" in features:
        frequencies = contact_frequencies(topology, contact_file, accumulator.frames)
        result.pair[..., : len(INTERACTIONS)] = frequencies
    return result


def residue_array(table: pd.DataFrame) -> NDArray[np.float64]:
    """Columns of a residue table in the order of the network: (N, 47), NaN where an angle does not exist."""
    order = {
        "sasa_mean": ("sasa_mean",),
        "sasa_std": ("sasa_std",),
        "rmsf_nor": ("rmsf",),
        "ss": DSSP_COLUMNS,
        **ANGLE_COLUMNS,
    }
    columns = [column for name in RESIDUE_COLUMNS if name in order for column in order[name]]
    if missing := [column for column in columns if column not in table]:
        raise InputError(f"residue table without column {', '.join(missing)}")
    assert len(columns) == MD_RESIDUE_WIDTH
    return table[columns].to_numpy(np.float64)
