"""Small systems of backbone atoms."""

from __future__ import annotations

import numpy as np
import pytest

BACKBONE = (("N", (0, 0, 0)), ("CA", (1.5, 0, 0)), ("C", (2, 1.4, 0)), ("O", (1.2, 2.3, 0)))


@pytest.fixture(scope="session")
def backbone():
    """Atoms of a residue for `write_pdb`, shifted along x (Angstrom); options are those of a line."""

    def atoms(name, chain, number, shift=0.0, ter_before=False, **options):
        first = {**options, "ter_before": True} if ter_before else options
        return [
            (atom, name, chain, number, np.add(xyz, (shift, 0, 0)), dict(options if index else first))
            for index, (atom, xyz) in enumerate(BACKBONE)
        ]

    return atoms
