"""Superposition in float64; MDTraj's float32 is off by up to 0.004 nm after rotations of almost 180 degrees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def superposed(xyz: NDArray, fit: NDArray, reference: NDArray) -> NDArray[np.float32]:
    """Frames (frames, atoms, 3) superposed with their atoms `fit` (n,) on a reference (n, 3), float32.

    Source: Kabsch (Acta Cryst. A 1976), with a singular value decomposition of the covariance.
    """
    moving = xyz.astype(np.float64)
    centre = moving[:, fit].mean(axis=1, keepdims=True)  # (frames, 1, 3)
    target_centre = reference.mean(axis=0, dtype=np.float64)
    target = reference - target_centre  # (n, 3)
    covariance = (moving[:, fit] - centre).mT @ target  # (frames, 3, 3)
    left, _, right = np.linalg.svd(covariance)
    mirrored = np.linalg.det(left @ right) < 0
    left[mirrored, :, 2] *= -1  # a rotation, not a reflection
    return ((moving - centre) @ (left @ right) + target_centre).astype(np.float32)
