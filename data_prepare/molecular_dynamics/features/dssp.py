"""Secondary structure: fraction of frames in each of the eight DSSP states (Kabsch and Sander, Biopolymers 1983)."""

from __future__ import annotations

import mdtraj
import numpy as np
from numpy.typing import NDArray

from data_prepare.properties import DSSP_STATES


class SecondaryStructure:
    """DSSP states of N residues; a residue without a carbonyl oxygen counts as blank."""

    def __init__(self, residues: int) -> None:
        self._counts = np.zeros((residues, len(DSSP_STATES)), np.int64)

    def add(self, trajectory: mdtraj.Trajectory) -> None:
        """Add frames of the protein."""
        states = mdtraj.compute_dssp(trajectory, simplified=False)  # (frames, N)
        for column, state in enumerate(DSSP_STATES[:-1]):
            self._counts[:, column] += (states == state).sum(axis=0)

    def result(self, frames: int) -> dict[str, NDArray]:
        """`ss` (N, 8)."""
        self._counts[:, -1] = frames - self._counts[:, :-1].sum(axis=1)
        return {"ss": self._counts / frames}
