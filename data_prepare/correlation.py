"""Covariances of displacements -> correlations."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

# share of the largest variance below which a variance is the rounding of a zero, and its correlations are noise: the
# displacements of a chain in modes of another that it does not touch
ROUNDING: Final = 1e-20


def correlation(covariance: NDArray) -> NDArray[np.float64]:
    """Covariances (N, N) divided by the roots of their diagonal; rows and columns without variance are 0."""
    variance = np.diag(covariance)
    moves = variance > ROUNDING * variance.max(initial=0.0)
    inverse = np.zeros(len(variance))
    inverse[moves] = 1.0 / np.sqrt(variance[moves])
    result = covariance * inverse[:, None]
    result *= inverse
    return result
