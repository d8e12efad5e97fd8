"""Gaussian and anisotropic network models on C-alpha atoms, and their features in three groups of modes.

Springs between C-alpha atoms within 15 Angstrom, with a force constant that falls in steps with the squared distance.
All modes with an eigenvalue of at least 1e-6 count, each with the weight 1 / eigenvalue.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from data_prepare.correlation import correlation
from data_prepare.errors import InputError

# squared distance (Angstrom^2) up to which each force constant holds; beyond the last there is no spring
FORCE_CONSTANTS: Final = ((16.0, 10.0), (100.0, 2.0), (225.0, 1.0))
ZERO_EIGENVALUE: Final = 1e-6
NUM_MODE_GROUPS: Final = 3


class NMAFeatures(NamedTuple):
    """Features of N residues.

    Attributes
    ----------
    gnm_msf
        (3, N) mean square fluctuation from each group of GNM modes.
    anm_cor
        (3, N, N) correlation of displacements from each group of ANM modes.
    """

    gnm_msf: NDArray[np.float64]
    anm_cor: NDArray[np.float64]


def spring_constants(xyz: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Force constants (N, N), 0 on the diagonal, and difference vectors (N, N, 3) x_j - x_i of points (N, 3)."""
    difference = xyz[None, :, :] - xyz[:, None, :]
    squared = np.einsum("ijk,ijk->ij", difference, difference)
    constants = np.zeros_like(squared)
    for limit, constant in reversed(FORCE_CONSTANTS):
        constants[squared <= limit] = constant
    np.fill_diagonal(constants, 0.0)
    if (squared[~np.eye(len(xyz), dtype=bool)] == 0).any():
        raise InputError("two C-alpha atoms have the same position")
    return constants, difference


def kirchhoff(xyz: NDArray) -> NDArray[np.float64]:
    """Kirchhoff matrix (N, N) of the Gaussian network."""
    constants, _ = spring_constants(xyz)
    return np.diag(constants.sum(axis=1)) - constants


def hessian(xyz: NDArray) -> NDArray[np.float64]:
    """Hessian (3N, 3N) of the anisotropic network, rows x, y, z of residue 1, then of residue 2, ..."""
    n = len(xyz)
    constants, difference = spring_constants(xyz)
    squared = np.einsum("ijk,ijk->ij", difference, difference)
    np.fill_diagonal(squared, 1.0)
    scaled = constants / squared
    blocks = -np.einsum("ij,ija,ijb->iajb", scaled, difference, difference)  # (N, 3, N, 3)
    diagonal = -blocks.sum(axis=2)  # (N, 3, 3)
    index = np.arange(n)
    blocks[index, :, index, :] = diagonal
    return blocks.reshape(3 * n, 3 * n)


def modes(matrix: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenvalues (m,) ascending and eigenvectors (n, m) of the non-trivial modes of a symmetric matrix (n, n)."""
    values, vectors = scipy.linalg.eigh(matrix, driver="evd", overwrite_a=True, check_finite=False)
    keep = values >= ZERO_EIGENVALUE
    return values[keep], vectors[:, keep]


def mode_groups(eigenvalues: NDArray) -> list[slice]:
    """Low-, middle- and high-frequency modes by their cumulative share of sum(1 / eigenvalue).

    The first group ends at the mode whose share is closest to 1/3, the second at the one closest to the middle between
    the end of the first and 1, the third is the rest. A group can be empty.
    """
    if len(eigenvalues) == 0:
        return [slice(0, 0)] * NUM_MODE_GROUPS
    share = np.cumsum(1.0 / eigenvalues)
    share /= share[-1]
    first = int(np.abs(share - 1 / 3).argmin()) + 1
    second = max(first, int(np.abs(share - (1 + share[first - 1]) / 2).argmin()) + 1)
    return [slice(0, first), slice(first, second), slice(second, len(share))]


def nma_features(xyz: NDArray) -> NMAFeatures:
    """Features of C-alpha positions.

    Parameters
    ----------
    xyz
        (N, 3) Angstrom, all chains together.

    Raises
    ------
    InputError
        If a coordinate is not finite or two atoms have the same position.
    """
    xyz = np.asarray(xyz, np.float64)
    if not np.isfinite(xyz).all():
        raise InputError("C-alpha coordinates are not all finite numbers")
    n = len(xyz)
    gnm_msf = np.zeros((NUM_MODE_GROUPS, n))
    values, vectors = modes(kirchhoff(xyz))
    for k, group in enumerate(mode_groups(values)):
        gnm_msf[k] = vectors[:, group] ** 2 @ (1.0 / values[group])

    anm_cor = np.zeros((NUM_MODE_GROUPS, n, n))
    values, vectors = modes(hessian(xyz))
    by_axis = np.ascontiguousarray(vectors.reshape(n, 3, -1).transpose(1, 0, 2))  # (3, N, modes)
    for k, group in enumerate(mode_groups(values)):
        scaled = by_axis[:, :, group] / np.sqrt(values[group])
        covariance = sum((axis @ axis.T for axis in scaled), np.zeros((n, n)))
        anm_cor[k] = correlation(covariance)
    return NMAFeatures(gnm_msf, anm_cor)
