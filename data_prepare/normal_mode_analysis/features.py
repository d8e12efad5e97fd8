"""Normal mode features: structure -> C-alpha positions -> both networks -> features of three groups of modes."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prepare.correlation import correlation
from data_prepare.errors import InputError, require
from data_prepare.memory import require_memory
from data_prepare.normal_mode_analysis.elastic_network import elastic_networks, mode_groups, modes
from data_prepare.structure.topology import Topology

LARGEST_COORDINATE: Final = 1e6  # Angstrom; a file with more is broken, and squares stay finite


class NMAFeatures(NamedTuple):
    """Features of N residues."""

    gnm_msf: NDArray[np.float64]  # (3, N) mean square fluctuation from each group of GNM modes
    anm_cor: NDArray[np.float64]  # (3, N, N) correlation of displacements from each group of ANM modes


def c_alpha_trace(topology: Topology, xyz: NDArray) -> tuple[Topology, NDArray[np.float64]]:
    """Topology and positions (N, 3), Angstrom, of the C-alpha atoms of all residues that are amino acids."""
    residues = zip(topology.atoms_by_name, topology.is_amino_acid, strict=True)
    atoms = [atoms["CA"] for atoms, amino_acid in residues if amino_acid and "CA" in atoms]
    require(atoms, f"{topology.path}: no C-alpha atoms of a protein; give a protein structure")
    return topology.subset(np.array(atoms)), np.asarray(xyz, np.float64)[atoms]


def nma_features(xyz: NDArray, available: int | None = None) -> NMAFeatures:
    """Features of C-alpha positions (N, 3), Angstrom, all chains together.

    Four matrices of (3N, 3N) float64 must fit in the available bytes, see `require_memory`; three are in use at the
    same time: the Hessian and the workspace of LAPACK.

    Raises
    ------
    InputError
        A coordinate is not a number in range, two atoms have the same position, or there is not enough memory.
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
    """C-alpha topology and features of a structure: its atoms and their positions (atoms, 3) in Angstrom.

    Errors are those of `c_alpha_trace` and `nma_features`, with the name of the file.
    """
    trace, positions = c_alpha_trace(topology, xyz)
    try:
        return trace, nma_features(positions, available)
    except InputError as error:
        raise InputError(f"{topology.path}: {error}") from None
