"""Labels of slow and fast motions from 15N relaxation: R1, R2, heteronuclear NOE and the R2/R1 of a rigid body.

The rule is that of RelaxDB (Wayment-Steele, El Nesr et al., Nature 2026). All arrays are (L,), one value per residue,
NaN where there is none; rates are in 1/s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from data_prepare.errors import InputError
from data_prepare.files import read_text_table
from data_prepare.nmr.assignments import assignment_table, check_assignments

FAST_NOE: Final = 0.65  # an amide with this NOE or less moves in picoseconds to nanoseconds
SMALLEST_EXCESS: Final = 1.0  # 1/s; less excess of R2 than this is not called exchange in any protein
COLUMNS: Final = ("entry_ID", "residue", "assigned", "R1", "R2", "NOE", "R2_R1_pred")
POSITIVE: Final = ("R1", "R2", "R2_R1_pred")  # a NOE may be negative


def scale_to_rigid(predicted: ArrayLike, r1: ArrayLike, r2: ArrayLike, noe: ArrayLike) -> np.ndarray:
    """Scale a predicted R2/R1 to the rigid residues of the protein: the median of measured over predicted is 1.

    A prediction for a rigid body is right up to a factor, because its overall tumbling depends on solvent and
    temperature. Rigid are the residues whose NOE is above `FAST_NOE`, or all if none is. The median leaves the few
    with exchange out of account.

    Parameters
    ----------
    predicted
        R2/R1 of the rigid body; NaN outside the structure model.
    r1, r2
        Measured rates, 1/s.
    noe
        Heteronuclear NOE.

    Returns
    -------
    (L,) float64; all NaN if no residue has both.
    """
    predicted, r1, r2, noe = (np.asarray(values, float) for values in (predicted, r1, r2, noe))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = r2 / r1 / predicted  # (L,)
    known = np.isfinite(share)
    rigid = known & (noe > FAST_NOE)
    chosen = share[rigid if rigid.any() else known]
    return predicted * (np.median(chosen) if len(chosen) else np.nan)


def excess_r2(r1: ArrayLike, r2: ArrayLike, scaled: ArrayLike) -> np.ndarray:
    """R2 above that of the rigid body, 1/s: dR2 = R2 - R1 * scaled prediction of R2/R1; (L,) float64."""
    return np.asarray(r2, float) - np.asarray(r1, float) * np.asarray(scaled, float)


def relaxation_codes(
    sequence: str,
    assigned: ArrayLike,
    r1: ArrayLike,
    r2: ArrayLike,
    noe: ArrayLike,
    scaled: ArrayLike,
    predicted: ArrayLike | None = None,
) -> str:
    """Label of one protein; the first of these that holds names the residue.

    1. proline: `p`
    2. without assignment: `.`
    3. outside the structure model: `v` if NOE <= 0.65, else `t`
    4. without dR2: `v` if NOE <= 0.65, else `x`
    5. fast is NOE <= 0.65, slow is dR2 > max(1.0 1/s, SD of dR2 over the protein): `b` both, `^` slow, `v` fast,
       `A` neither

    Parameters
    ----------
    sequence
        L letters.
    assigned
        Whether the amide has an assignment, (L,) bool.
    r1, r2
        Rates, 1/s.
    noe
        Heteronuclear NOE.
    scaled
        R2/R1 of the rigid body, scaled to the protein (`scale_to_rigid`).
    predicted
        The same before scaling; NaN outside the structure model. Default: `scaled`, which is also NaN where there was
        nothing to scale by.

    Returns
    -------
    L characters.

    Raises
    ------
    InputError
        If an array has not one value per residue.
    """
    arrays = {"assigned": np.asarray(assigned, bool)}
    given = {"R1": r1, "R2": r2, "NOE": noe, "prediction": scaled}
    given["unscaled prediction"] = scaled if predicted is None else predicted
    arrays |= {name: np.asarray(values, float) for name, values in given.items()}
    for name, values in arrays.items():
        if values.shape != (len(sequence),):
            raise InputError(f"{name} of shape {values.shape} for a sequence of {len(sequence)} residues")
    excess = excess_r2(arrays["R1"], arrays["R2"], arrays["prediction"])
    known = np.isfinite(excess)
    slow = excess > max(SMALLEST_EXCESS, excess[known].std() if known.any() else 0.0)  # NaN is not slow
    fast = arrays["NOE"] <= FAST_NOE
    conditions = [
        np.array([residue == "P" for residue in sequence], bool),
        ~arrays["assigned"],
        np.isnan(arrays["unscaled prediction"]) & ~fast,
        ~known & ~fast,
        fast & slow,
        slow,
        fast,
    ]
    return "".join(np.select(conditions, list("p.txb^v"), default="A").tolist())


def read_relaxation(path: str | Path) -> pd.DataFrame:
    """Labels of one's own measurements.

    Parameters
    ----------
    path
        CSV with one row per residue, in the order of the sequence: entry_ID, residue (one letter), assigned (1 or 0),
        R1, R2 (1/s), NOE, R2_R1_pred (of the rigid body, not scaled); the last four may be empty.

    Returns
    -------
    Table of labels (`labels.COLUMNS`) of the source relaxdb.

    Raises
    ------
    InputError
        If the file or a column is missing, a value is not a number or cannot be one of its kind, the rows of an entry
        are apart, or the table of labels is refused (`check_assignments`).
    """
    table = read_text_table(path, COLUMNS)
    _check_entries(table, path)
    numbers = table[list(COLUMNS[2:])].apply(pd.to_numeric, errors="coerce").astype(float)
    wrong = numbers.isna() & (table[list(COLUMNS[2:])] != "")
    wrong["assigned"] = ~numbers["assigned"].isin((0, 1))
    if wrong.to_numpy().any():
        line, column = np.argwhere(wrong.to_numpy())[0]
        text = table[COLUMNS[2 + column]].iloc[line]
        raise InputError(
            f"{path}, line {line + 2}: {COLUMNS[2 + column]} is {text!r}; expected a number or nothing "
            "(assigned: 1 or 0)"
        )
    finite = numbers.isna() | np.isfinite(numbers)
    positive = numbers[list(POSITIVE)].isna() | (numbers[list(POSITIVE)] > 0)
    for allowed, expected in ((finite, "a finite number"), (positive, "a number above 0")):
        if not allowed.to_numpy().all():
            line, column = np.argwhere(~allowed.to_numpy())[0]
            name = allowed.columns[column]
            raise InputError(
                f"{path}, line {line + 2}: {name} is {table[name].iloc[line]!r}; expected {expected} or nothing"
            )
    rows = []
    for name, residues in numbers.groupby(table["entry_ID"], sort=False):
        sequence = "".join(table.loc[residues.index, "residue"])
        r1, r2, noe, predicted = (residues[column].to_numpy(float) for column in COLUMNS[3:])
        scaled = scale_to_rigid(predicted, r1, r2, noe)
        label = relaxation_codes(sequence, residues["assigned"] == 1, r1, r2, noe, scaled, predicted)
        rows.append((str(name), sequence, label))
    labels = assignment_table(rows, "relaxdb")
    check_assignments(labels, str(path))  # here, where the message can name the input
    return labels


def _check_entries(table: pd.DataFrame, path: str | Path) -> None:
    """Refuse rows without entry_ID, residues that are not one letter, and entries whose rows are apart."""
    names = table["entry_ID"]
    begins = names != names.shift()
    again = begins & names.where(begins).duplicated()  # most likely two proteins of one name, not one sequence
    checks = (
        (names == "", "entry_ID is empty"),
        (table["residue"].str.len() != 1, "entry {}: a residue is not one letter"),
        (again, "entry {} was there before, apart from this row; rename one, or put its rows together"),
    )
    for wrong, reason in checks:
        if wrong.any():
            line = int(wrong.to_numpy().argmax())
            raise InputError(f"{path}, line {line + 2}: {reason.format(names.iloc[line])}")
