"""Chains of alanine backbones for tests that need frames, but no protein in particular."""

from __future__ import annotations

import numpy as np

BACKBONE = {"N": (0, 0, 0), "CA": (1.45, 0, 0), "C": (2, 1.4, 0), "O": (1.2, 2.3, 0)}


def backbone_atoms(residues):
    """Atoms for `write_pdb`."""
    return [
        (name, "ALA", "A", number, np.add(place, (2.8 * number, 0, 0)))
        for number in range(1, residues + 1)
        for name, place in BACKBONE.items()
    ]


def backbone_frames(residues, frames, seed=0):
    """Frames (frames, atoms, 3), float32 in nm, that move as a whole and a little within."""
    rng = np.random.default_rng(seed)
    xyz = np.array([atom[-1] for atom in backbone_atoms(residues)]) / 10
    moved = xyz + rng.normal(0, 0.01, (frames, len(xyz), 3)) + rng.normal(0, 2, (frames, 1, 3))
    return moved.astype(np.float32)
