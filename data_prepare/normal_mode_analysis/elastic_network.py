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
from data_prepare.memory import available_memory

# squared distance (Angstrom^2) up to which each force constant holds; beyond the last there is no spring
FORCE_CONSTANTS: Final = ((16.0, 10.0), (100.0, 2.0), (225.0, 1.0))
ZERO_EIGENVALUE: Final = 1e-6
SAME_POSITION: Final = 1e-12  # squared distance (Angstrom^2), below the digits of any file: no direction between them
LARGEST_COORDINATE: Final = 1e6  # Angstrom; more is a broken file, and squares stay finite
NUM_MODE_GROUPS: Final = 3
# LAPACK's divide and conquer solver counts its workspace of 1 + 6 n + 2 n^2 numbers in 32 bits
LARGEST_DIVIDE_AND_CONQUER: Final = 32766


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


def elastic_networks(xyz: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Matrices of the Gaussian and of the anisotropic network of points (N, 3).

    Returns
    -------
    kirchhoff
        (N, N).
    hessian
        (3N, 3N), rows and columns x of all points, then y, then z: modes are multiplied per axis as they lie in memory.

    Raises
    ------
    InputError
        If two points are in the same position.
    """
    n = len(xyz)
    difference = xyz.T[:, None, :] - xyz.T[:, :, None]  # (3, N, N), x_j - x_i
    squared = np.einsum("aij,aij->ij", difference, difference)
    np.fill_diagonal(squared, 1.0)
    if (same := squared <= SAME_POSITION).any():
        i, j = np.argwhere(same)[0] + 1
        raise InputError(f"C-alpha atoms {i} and {j} of {n} have the same position; keep one of them")
    constants = np.zeros((n, n))
    for limit, constant in reversed(FORCE_CONSTANTS):
        constants[squared <= limit] = constant
    np.fill_diagonal(constants, 0.0)

    kirchhoff = -constants
    np.fill_diagonal(kirchhoff, constants.sum(axis=1))

    blocks = np.einsum("ij,aij,bij->aibj", -constants / squared, difference, difference, order="C")  # (3, N, 3, N)
    index = np.arange(n)
    blocks[:, index, :, index] = -blocks.sum(axis=3).transpose(1, 0, 2)  # (N, 3, 3)
    return kirchhoff, blocks.reshape(3 * n, 3 * n)


def modes(matrix: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenvalues (m,) ascending and eigenvectors (n, m) of the non-trivial modes of a symmetric matrix (n, n).

    The eigenvectors take the place of the matrix if that is float64 in C order; it is lost.
    """
    # transposed, a symmetric matrix in C order is itself in Fortran order: LAPACK works in place
    driver = "evd" if len(matrix) <= LARGEST_DIVIDE_AND_CONQUER else "evr"
    values, vectors = scipy.linalg.eigh(matrix.T, driver=driver, overwrite_a=True, check_finite=False)
    first = np.searchsorted(values, ZERO_EIGENVALUE)
    return values[first:], vectors[:, first:]


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


def nma_features(xyz: NDArray, available: int | None = None) -> NMAFeatures:
    """Features of C-alpha positions.

    Parameters
    ----------
    xyz
        (N, 3) Angstrom, all chains together.
    available
        Bytes that may be used, by default what the machine and its control groups have free. 4 matrices of
        (3N, 3N) float64 are asked for; 3 are used at once, the Hessian and the workspace of LAPACK.

    Raises
    ------
    InputError
        If a coordinate is not a number in range, two atoms have the same position, or the memory does not suffice.
    """
    xyz = np.asarray(xyz, np.float64)
    if not (np.abs(xyz) < LARGEST_COORDINATE).all():
        raise InputError(f"C-alpha coordinates are not all numbers below {LARGEST_COORDINATE:.0f} Angstrom")
    n = len(xyz)
    needed = 4 * 8 * (3 * n) ** 2
    if available is None:
        available = available_memory()
    if needed > available:
        raise InputError(
            f"{n} residues need {needed / 1e9:.1f} GB for the normal modes, {available / 1e9:.1f} GB are available; "
            "give it more memory or fewer workers"
        )
    kirchhoff, hessian = elastic_networks(xyz)

    values, vectors = modes(kirchhoff)
    gnm_msf = np.empty((NUM_MODE_GROUPS, n))
    for k, group in enumerate(mode_groups(values)):
        gnm_msf[k] = vectors[:, group] ** 2 @ (1.0 / values[group])

    values, vectors = modes(hessian)
    vectors /= np.sqrt(values)
    anm_cor = np.empty((NUM_MODE_GROUPS, n, n))
    for k, group in enumerate(mode_groups(values)):
        by_axis = vectors[:, group].reshape(n, 3 * (group.stop - group.start), order="F")  # (N, 3 * modes), a view
        anm_cor[k] = correlation(by_axis @ by_axis.T)
    return NMAFeatures(gnm_msf, anm_cor)
