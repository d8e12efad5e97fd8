"""Normal mode features of a structure: C-alpha positions -> elastic networks -> three groups of modes."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prepare.correlation import correlation
from data_prepare.errors import named, require
from data_prepare.memory import require_memory
from data_prepare.normal_mode_analysis.elastic_network import elastic_networks, mode_groups, modes
from data_prepare.structure.covalent import require_covalent_geometry
from data_prepare.structure.topology import Topology

LARGEST_COORDINATE: Final = 1e6  # Angstrom; keeps squares finite


class NMAFeatures(NamedTuple):
    """Features of N residues for each group of modes."""

    gnm_msf: NDArray[np.float64]  # (3, N) mean square fluctuation, GNM
    anm_cor: NDArray[np.float64]  # (3, N, N) correlation of displacements, ANM


def c_alpha_trace(topology: Topology, xyz: NDArray) -> tuple[Topology, NDArray[np.float64]]:
    """Topology and positions (N, 3), Angstrom, of the C-alpha atoms of all amino acids."""
    residues = zip(topology.atoms_by_name, topology.is_amino_acid, strict=True)
    atoms = [atoms["CA"] for atoms, amino_acid in residues if amino_acid and "CA" in atoms]
    require(atoms, f"{topology.path}: no C-alpha atoms of a protein; give a protein structure")
    return topology.subset(np.array(atoms)), np.asarray(xyz, np.float64)[atoms]


def nma_features(xyz: NDArray, available: int | None = None) -> NMAFeatures:
    """Features of C-alpha positions (N, 3), Angstrom, all chains together.

    InputError if memory (see `require_memory`) does not suffice for four float64 matrices (3N, 3N): the Hessian, twice
    that for LAPACK and a margin; if a coordinate is out of range; or if two atoms have the same position.
    """
    xyz = np.asarray(xyz, np.float64)
    in_range = (np.abs(xyz) < LARGEST_COORDINATE).all()
    require(in_range, f"a C-alpha coordinate is not a number below {LARGEST_COORDINATE:.0f} Angstrom; repair the file")
    n = len(xyz)
    require_memory(4 * 8 * (3 * n) ** 2, f"{n} residues: the normal modes", available)
    kirchhoff, hessian = elastic_networks(xyz)

    values, vectors = modes(kirchhoff)
    gnm_msf = np.stack([vectors[:, group] ** 2 @ (1.0 / values[group]) for group in mode_groups(values)])

    values, vectors = modes(hessian)
    vectors /= np.sqrt(values)
    anm_cor = np.empty((3, n, n))
    for k, group in enumerate(mode_groups(values)):
        by_axis = vectors[:, group].reshape(n, 3 * (group.stop - group.start), order="F")  # (N, 3 * modes), a view
        anm_cor[k] = correlation(by_axis @ by_axis.T)
    return NMAFeatures(gnm_msf, anm_cor)


def nma_features_of(topology: Topology, xyz: NDArray, available: int | None = None) -> tuple[Topology, NMAFeatures]:
    """C-alpha topology and features of a structure with positions (atoms, 3) in Angstrom; errors name its file.

    InputError as in `nma_features`, or if the structure lacks the covalent geometry of a protein.
    """
    require_covalent_geometry(topology, xyz)
    trace, positions = c_alpha_trace(topology, xyz)
    with named(topology.path):
        return trace, nma_features(positions, available)
