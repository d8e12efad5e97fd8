"""Labels of slow motions, one character per residue: what they mean as targets, and the table that holds them.

The characters are those of the published sets (Wayment-Steele, El Nesr et al., Nature 2026): `A` an assigned amide,
`.` a missing one, `p` a proline, `t` a disordered terminus, `x` no data, `v` a fast motion (low NOE), `^` a slow one
(R2 above that of a rigid body), `b` both. RelaxDB-CPMG has its own: `X` exchange, `Y` exchange that is seen only in R2
without suppression of exchange, `N` no data, `P` proline.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import numpy as np
import pandas as pd

from data_prepare.errors import InputError
from data_prepare.files import read_text_table, whole_file

Form = Literal["missing", "relaxdb", "cpmg"]
COLUMNS: Final = ("entry_ID", "sequence", "label", "source", "cluster")
DSSP: Final = "dssp"  # a column that may follow, for naive baselines; see `model.dyna1.baselines.read_dssp`
FORM_OF_SOURCE: Final[dict[str, Form]] = {"mbmrb": "missing", "refdb": "missing", "relaxdb": "relaxdb", "cpmg": "cpmg"}
NOT_EVALUATED: Final = -1
AMINO_ACIDS: Final = frozenset("ACDEFGHIKLMNPQRSTVWYX")  # X: any residue that is not one of the twenty

TARGETS: Final[dict[Form, dict[str, int]]] = {
    "missing": {".": 1, "A": 0, "p": 0, "t": -1, "x": -1, "v": 0, "b": 0, "^": 0},
    "relaxdb": {".": 1, "A": 0, "p": 0, "t": -1, "x": -1, "v": 0, "b": 1, "^": 1},
    "cpmg": {".": 1, "A": 0, "p": 0, "t": -1, "P": 0, "N": -1, "X": 1, "Y": 0},
}


def mask_termini(label: str) -> str:
    """Write a run of `.` and `p` at either end as `t`: a disordered terminus says nothing of exchange."""
    start = len(label) - len(label.lstrip(".p"))
    end = max(len(label.rstrip(".p")), start)
    return "t" * start + label[start:end] + "t" * (len(label) - end)


def targets(
    label: str,
    sequence: str,
    form: Form,
    *,
    missing_only: bool = False,
    rex_only: bool = False,
    unsuppressed: bool = False,
) -> np.ndarray:
    """Targets of one protein; termini are masked first.

    Parameters
    ----------
    label
        One character per residue.
    sequence
        One letter per residue; its prolines, which have no amide proton, are never evaluated.
    form
        How the characters are read: `missing` (only missing signals are positive), `relaxdb` (also exchange seen by
        relaxation) or `cpmg`.
    missing_only
        Only missing signals are positive; residues with exchange (`b`, `^`, `X`) are 0.
    rex_only
        Only exchange is positive; missing signals are not evaluated.
    unsuppressed
        Exchange that is seen only without its suppression (`Y` of RelaxDB-CPMG) is 1, not 0.

    Returns
    -------
    (L,) int8: 1 exchange, 0 none, -1 not evaluated.

    Raises
    ------
    InputError
        If the lengths differ, a character is unknown to the form, or `missing_only` meets one of the other options.
    """
    if missing_only and (rex_only or unsuppressed):
        raise InputError("missing-only leaves no exchange to evaluate: give it without rex-only and unsuppressed")
    if len(label) != len(sequence):
        raise InputError(f"label of {len(label)} characters for a sequence of {len(sequence)} residues")
    meaning = dict(TARGETS[form])
    if unknown := sorted(set(label) - set(meaning)):
        raise InputError(f"label has {''.join(unknown)!r}; characters of the form {form} are {' '.join(meaning)}")
    if missing_only:
        meaning |= dict.fromkeys("b^X", 0)
    if rex_only:
        meaning["."] = NOT_EVALUATED
    if unsuppressed:
        meaning["Y"] = 1
    target = np.array([meaning[character] for character in mask_termini(label)], dtype=np.int8)  # (L,)
    target[[residue == "P" for residue in sequence]] = NOT_EVALUATED
    return target


def read_label_table(path: str | Path) -> pd.DataFrame:
    """Read and check a table of labels.

    Parameters
    ----------
    path
        CSV with the columns entry_ID, sequence, label, source, cluster, and perhaps dssp; others are left out.
        `source` (mbmrb, refdb, relaxdb, cpmg) tells how the label is read (`FORM_OF_SOURCE`), `cluster` may be empty.

    Returns
    -------
    These columns as text.

    Raises
    ------
    InputError
        If the file or a column is missing, or a row cannot be used.
    """
    table = _known_columns(read_text_table(path, COLUMNS))
    check_label_table(table, str(path))
    return table


def check_label_table(table: pd.DataFrame, path: str) -> None:
    """Refuse rows without a name, with a name that was there before, an unknown source, residue or character.

    The column dssp, where there is one, is empty or has one letter per residue.

    Raises
    ------
    InputError
        Naming `path` and the first entry that is wrong.
    """
    if table.empty:
        raise InputError(f"{path}: no entry")
    if (table["entry_ID"] == "").any():
        raise InputError(f"{path}, line {int((table['entry_ID'] == '').to_numpy().argmax()) + 2}: entry_ID is empty")
    if (repeated := table["entry_ID"].duplicated()).any():
        raise InputError(f"{path}: entry {table['entry_ID'][repeated].iloc[0]} is there twice; rename or remove one")
    structures = table[DSSP].fillna("") if DSSP in table else [""] * len(table)
    for name, sequence, label, source, dssp in zip(*(table[column] for column in COLUMNS[:4]), structures, strict=True):
        if source not in FORM_OF_SOURCE:
            raise InputError(f"{path}: entry {name}: unknown source {source!r}; known are {', '.join(FORM_OF_SOURCE)}")
        if not sequence:
            raise InputError(f"{path}: entry {name}: the sequence is empty")
        if unknown := sorted(set(sequence) - AMINO_ACIDS):
            raise InputError(
                f"{path}: entry {name}: residue {''.join(unknown)!r}; write other residues than the 20 as X"
            )
        try:
            targets(label, sequence, FORM_OF_SOURCE[source])
        except InputError as error:
            raise InputError(f"{path}: entry {name}: {error}") from None
        if dssp and len(dssp) != len(sequence):
            raise InputError(
                f"{path}: entry {name}: dssp of {len(dssp)} letters for a sequence of {len(sequence)} residues; "
                "give one per residue or leave it empty"
            )


def write_label_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write the columns of a table of labels, checked; the file takes its name when it is complete."""
    check_label_table(table, str(path))
    with whole_file(path) as temporary:
        _known_columns(table).to_csv(temporary, index=False)


def _known_columns(table: pd.DataFrame) -> pd.DataFrame:
    return table[[*COLUMNS, DSSP] if DSSP in table else list(COLUMNS)]


def label_table(rows: list[tuple[str, str, str]], source: str) -> pd.DataFrame:
    """Table of labels of (entry_ID, sequence, label), without clusters."""
    table = pd.DataFrame(rows, columns=list(COLUMNS[:3]), dtype=str)
    return table.assign(source=source, cluster="")
