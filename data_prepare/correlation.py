"""Covariances of displacements -> correlations."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

# relative to the largest variance; smaller ones are rounded zeros, as of a chain in the modes of another one
ROUNDING: Final = 1e-20


def correlation(covariance: NDArray) -> NDArray[np.float64]:
    """Covariances (N, N) divided by the square roots of their diagonal; 0 in rows and columns without variance."""
    variance = np.diag(covariance)
    moves = variance > ROUNDING * variance.max(initial=0.0)
    inverse = np.zeros(len(variance))
    inverse[moves] = 1.0 / np.sqrt(variance[moves])
    result = covariance * inverse[:, None]
    result *= inverse
    return result
