"""Assignment codes of slow and fast motions from 15N relaxation: R1, R2, NOE and the R2/R1 of a rigid body.

The rule is that of RelaxDB (Wayment-Steele, El Nesr et al., Nature 2026). Arrays are (L,), a value per residue, NaN if
unknown; rates are in 1/s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prepare.errors import require
from data_prepare.files import read_numbers, read_text_table
from data_prepare.nmr.assignments import assignment_table, check_assignments

FAST_NOE: Final = 0.65  # up to this NOE an amide moves in picoseconds to nanoseconds
SMALLEST_EXCESS: Final = 1.0  # 1/s; a smaller excess of R2 is never exchange
COLUMNS: Final = ("entry_ID", "residue", "assigned", "R1", "R2", "NOE", "R2_R1_pred")
POSITIVE: Final = ("R1", "R2", "R2_R1_pred")  # a NOE may be negative


def scale_to_rigid(predicted: NDArray, r1: NDArray, r2: NDArray, noe: NDArray) -> NDArray[np.float64]:
    """Scale a predicted R2/R1 (NaN outside the structure model) to a median ratio of measured to predicted of 1.

    Predictions for a rigid body are correct up to a factor, because its tumbling depends on solvent and temperature.
    The median is over residues with a NOE above `FAST_NOE`, or over all if there are none. The result is NaN if no
    residue has rates and a prediction.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = r2 / r1 / predicted  # (L,)
    known = np.isfinite(ratio)
    rigid = known & (noe > FAST_NOE)
    chosen = ratio[rigid if rigid.any() else known]
    return predicted * (np.median(chosen) if len(chosen) else np.nan)


def excess_r2(r1: NDArray, r2: NDArray, scaled: NDArray) -> NDArray[np.float64]:
    """R2 above that of the rigid body, 1/s: dR2 = R2 - R1 * scaled prediction of R2/R1; (L,) float64."""
    return r2 - r1 * scaled


def relaxation_codes(
    sequence: str,
    assigned: NDArray,
    r1: NDArray,
    r2: NDArray,
    noe: NDArray,
    scaled: NDArray,
    predicted: NDArray,
) -> str:
    """Codes of one protein. The first matching rule applies to a residue:

    1. proline: `p`
    2. unassigned: `.`
    3. outside the structure model: `v` if NOE <= 0.65, else `t`
    4. without dR2: `v` if NOE <= 0.65, else `x`
    5. fast is NOE <= 0.65, slow is dR2 > max(1.0 1/s, SD of dR2 over the protein): `b` both, `^` slow, `v` fast,
       `A` neither

    `assigned` (bool) is about the amide, `noe` the heteronuclear NOE, `scaled` the R2/R1 of the rigid body from
    `scale_to_rigid`, `predicted` the same before scaling.
    """
    excess = excess_r2(r1, r2, scaled)
    known = np.isfinite(excess)
    slow = excess > max(SMALLEST_EXCESS, excess[known].std() if known.any() else 0.0)  # NaN is not slow
    fast = noe <= FAST_NOE
    conditions = [
        np.array([residue == "P" for residue in sequence], bool),
        ~assigned,
        np.isnan(predicted) & ~fast,
        ~known & ~fast,
        fast & slow,
        slow,
        fast,
    ]
    return "".join(np.select(conditions, list("p.txb^v"), default="A").tolist())


def read_relaxation(path: str | Path) -> pd.DataFrame:
    """Table of assignment codes (source relaxdb) of your own measurements.

    The CSV has one row per residue, in the order of the sequence: entry_ID, residue (one letter), assigned (1 or 0),
    R1, R2 (1/s), NOE, R2_R1_pred (of the rigid body, not scaled); the last four may be empty. InputError if the file or
    a column is missing, a value is invalid, or the rows of an entry are not together.
    """
    text = read_text_table(path, COLUMNS)
    names = text["entry_ID"]
    begins = names != names.shift()
    numbers = pd.DataFrame({column: read_numbers(path, text[column]) for column in COLUMNS[2:]})
    problems = {
        "entry_ID is empty; name the protein": names == "",
        "residue is not one letter; write X for a modified one": text["residue"].str.len() != 1,
        # probably two proteins with one name
        "an earlier entry has this name; rename one, or put its rows together": begins
        & names.where(begins).duplicated(),
        "assigned is neither 1 nor 0; write 1 if the amide is assigned": ~numbers["assigned"].isin((0, 1)),
    }
    problems |= {f"{column} is not above 0; leave it empty if unknown": numbers[column] <= 0 for column in POSITIVE}
    for problem, wrong in problems.items():
        lines = text.index[wrong] + 2
        require(lines.empty, f"{path}, line {lines.min()}: {problem}")
    rows = []
    for name, residues in numbers.groupby(names, sort=False):
        sequence = "".join(text.loc[residues.index, "residue"])
        r1, r2, noe, predicted = (residues[column].to_numpy() for column in COLUMNS[3:])
        scaled = scale_to_rigid(predicted, r1, r2, noe)
        codes = relaxation_codes(sequence, residues["assigned"].to_numpy() == 1, r1, r2, noe, scaled, predicted)
        rows.append((str(name), sequence, codes))
    table = assignment_table(rows, "relaxdb")
    check_assignments(table, path)
    return table
