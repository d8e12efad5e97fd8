"""Covariances of displacements -> correlations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def correlation(covariance: NDArray) -> NDArray[np.float64]:
    """Covariances (N, N) divided by the roots of their diagonal; rows and columns without variance are 0."""
    scale = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    return covariance * inverse[:, None] * inverse[None, :]
