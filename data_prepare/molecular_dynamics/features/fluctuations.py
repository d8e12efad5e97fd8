"""Fluctuations of the C-alpha atoms and the correlations of their displacements, after superposition."""

from __future__ import annotations

import mdtraj
import numpy as np
from numpy.typing import NDArray

from data_prepare.correlation import correlation


class Fluctuations:
    """RMSF and displacement correlation of N C-alpha atoms `ca`, whose positions in the first frame are (N, 3), nm.

    With the displacement d_i of an atom from its mean position, the RMSF is sqrt(<d_i d_i>) and the correlation
    <d_i d_j> / sqrt(<d_i d_i> <d_j d_j>).
    """

    def __init__(self, ca: NDArray, reference: NDArray) -> None:
        self._ca = ca
        self._reference = reference
        # displacements are from the first frame; the mean, not known yet, is subtracted in the end
        self._shift = np.zeros((len(ca), 3))  # sum of the displacements, nm
        self._product = np.zeros((len(ca), len(ca)))  # sum of their scalar products, nm^2

    def add(self, trajectory: mdtraj.Trajectory) -> None:
        """Add superposed frames of the protein."""
        moved = trajectory.xyz[:, self._ca].astype(np.float64) - self._reference  # (frames, N, 3)
        self._shift += moved.sum(axis=0)
        flat = moved.transpose(0, 2, 1).reshape(-1, moved.shape[1])  # (frames * 3, N)
        self._product += flat.T @ flat

    def result(self, frames: int) -> dict[str, NDArray]:
        """`rmsf_nor` (N,) float32, the RMSF in nm, and `corr` (N, N), 0 for a C-alpha atom that never moves."""
        mean = self._shift / frames
        covariance = self._product / frames
        covariance -= mean @ mean.T  # (N, N) nm^2
        rmsf = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        return {"rmsf_nor": rmsf.astype(np.float32), "corr": correlation(covariance)}
