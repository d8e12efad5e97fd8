"""Gaussian (GNM) and anisotropic (ANM) network models on C-alpha atoms, and their normal modes in three groups.

Springs connect C-alpha atoms within 15 Angstrom; their force constants decrease stepwise with the distance. All modes
with an eigenvalue of at least 1e-6 are used.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from data_prepare.errors import InputError

# largest distance (Angstrom), force constant
FORCE_CONSTANTS: Final = ((4.0, 10.0), (10.0, 2.0), (15.0, 1.0))
ZERO_EIGENVALUE: Final = 1e-6
SAME_POSITION: Final = 1e-6  # Angstrom, below the precision of any file
# the workspace of LAPACK's divide-and-conquer solver, 1 + 6 n + 2 n^2 numbers, is counted in 32 bits
LARGEST_DIVIDE_AND_CONQUER: Final = 32766


def elastic_networks(xyz: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Kirchhoff matrix (N, N) and Hessian (3N, 3N) of points (N, 3), Angstrom; InputError if two points coincide.

    The Hessian has x of all points first, then y, then z.
    """
    n = len(xyz)
    difference = xyz.T[:, None, :] - xyz.T[:, :, None]  # (3, N, N), x_j - x_i
    squared = np.einsum("aij,aij->ij", difference, difference)
    np.fill_diagonal(squared, 1.0)
    if (same := squared <= SAME_POSITION**2).any():
        i, j = np.argwhere(same)[0] + 1
        raise InputError(f"C-alpha atoms {i} and {j} of {n} have the same position; keep one of them")
    constants = np.zeros((n, n))
    for distance, constant in reversed(FORCE_CONSTANTS):
        constants[squared <= distance**2] = constant
    np.fill_diagonal(constants, 0.0)

    kirchhoff = -constants
    np.fill_diagonal(kirchhoff, constants.sum(axis=1))

    blocks = np.einsum("ij,aij,bij->aibj", -constants / squared, difference, difference, order="C")  # (3, N, 3, N)
    index = np.arange(n)
    blocks[:, index, :, index] = -blocks.sum(axis=3).transpose(1, 0, 2)  # (N, 3, 3)
    return kirchhoff, blocks.reshape(3 * n, 3 * n)


def modes(matrix: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ascending eigenvalues (m,) and eigenvectors (n, m) of the non-trivial modes of a symmetric matrix (n, n).

    The eigenvectors overwrite a float64 matrix in C order.
    """
    # transposing a symmetric matrix yields Fortran order, so LAPACK works in place
    driver = "evd" if len(matrix) <= LARGEST_DIVIDE_AND_CONQUER else "evr"
    values, vectors = scipy.linalg.eigh(matrix.T, driver=driver, overwrite_a=True, check_finite=False)
    first = np.searchsorted(values, ZERO_EIGENVALUE)
    return values[first:], vectors[:, first:]


def mode_groups(eigenvalues: NDArray) -> list[slice]:
    """Low-, middle- and high-frequency modes, split by their cumulative fraction of sum(1 / eigenvalue).

    The first group ends at the mode closest to 1/3, the second at the one closest to halfway between the end of the
    first and 1. A group can be empty.
    """
    if len(eigenvalues) == 0:
        return [slice(0, 0)] * 3
    fraction = np.cumsum(1.0 / eigenvalues)
    fraction /= fraction[-1]
    first = int(np.abs(fraction - 1 / 3).argmin()) + 1
    second = max(first, int(np.abs(fraction - (1 + fraction[first - 1]) / 2).argmin()) + 1)
    return [slice(0, first), slice(first, second), slice(second, len(fraction))]
