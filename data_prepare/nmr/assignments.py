"""Labels of missing assignments: which residues of a protein have their backbone amide assigned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

DEFAULT_COVERAGE: Final = 0.8


def coverage(sequence: str, assigned: Sequence[bool] | np.ndarray) -> float:
    """Share of the residues that are no prolines whose amide is assigned; 0 if there are none."""
    amides = np.array([residue != "P" for residue in sequence], bool)
    return float(np.asarray(assigned, bool)[amides].mean()) if amides.any() else 0.0


def missing_label(sequence: str, assigned: Sequence[bool] | np.ndarray) -> str:
    """Label of one protein from its assignments.

    Parameters
    ----------
    sequence
        L letters; `X` is a residue that is not one of the twenty.
    assigned
        Whether 1H and 15N of the backbone amide are both assigned, (L,) bool.

    Returns
    -------
    L characters: `p` proline, `A` assigned, `x` a residue `X` without assignment (it may have no amide proton at all),
    `.` missing; all before the first and after the last `A` is `t`.
    """
    proline, other = (np.array([residue == letter for residue in sequence], bool) for letter in "PX")
    assigned = np.asarray(assigned, bool) & ~proline
    characters = np.select([proline, assigned, other], list("pAx"), default=".")  # (L,)
    places = np.flatnonzero(assigned)
    first, last = (places[0], places[-1]) if len(places) else (len(sequence), -1)
    characters[:first] = "t"
    characters[last + 1 :] = "t"
    return "".join(characters.tolist())
