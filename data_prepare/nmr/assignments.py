"""Assignment codes, one character per residue: their targets and their table.

The characters are those of the published sets (Wayment-Steele, El Nesr et al., Nature 2026): `A` an assigned amide,
`.` a missing one, `p` proline, `t` disordered terminus, `x` no data, `v` fast motion (low NOE), `^` slow motion (R2
above that of a rigid body), `b` both. RelaxDB-CPMG also has `X` exchange, `Y` exchange seen only in R2 without
suppression of exchange, `N` no data, `P` proline.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from data_prepare.errors import require, shown
from data_prepare.files import read_numbers, read_text_table, whole_file

CodeForm = Literal["missing", "relaxdb", "cpmg"]
COLUMNS: Final = ("entry_ID", "sequence", "label", "source", "cluster")
DSSP: Final = "dssp"  # optional column, for naive baselines
FIELD_STRENGTH: Final = "field_strength"  # optional column: 1H frequency of the relaxation measurement, MHz
FORM_OF_SOURCE: Final[dict[str, CodeForm]] = {
    "mbmrb": "missing",
    "refdb": "missing",
    "relaxdb": "relaxdb",
    "cpmg": "cpmg",
}
NOT_EVALUATED: Final = -1
AMINO_ACIDS: Final = frozenset("ACDEFGHIKLMNPQRSTVWYX")  # X: any other residue

TARGETS: Final[dict[CodeForm, dict[str, int]]] = {
    "missing": {".": 1, "A": 0, "p": 0, "t": NOT_EVALUATED, "x": NOT_EVALUATED, "v": 0, "b": 0, "^": 0},
    "relaxdb": {".": 1, "A": 0, "p": 0, "t": NOT_EVALUATED, "x": NOT_EVALUATED, "v": 0, "b": 1, "^": 1},
    "cpmg": {".": 1, "A": 0, "p": 0, "t": NOT_EVALUATED, "P": 0, "N": NOT_EVALUATED, "X": 1, "Y": 0},
}


def mask_termini(codes: str) -> str:
    """Write a run of `.` and `p` at either end as `t`: a disordered terminus says nothing about exchange."""
    start = len(codes) - len(codes.lstrip(".p"))
    end = max(len(codes.rstrip(".p")), start)
    return "t" * start + codes[start:end] + "t" * (len(codes) - end)


def coverage(sequence: str, assigned: ArrayLike) -> float:
    """Fraction of assigned amides among the residues other than proline; 0 without such residues."""
    amides = np.array([residue != "P" for residue in sequence], bool)
    return float(np.asarray(assigned, bool)[amides].mean()) if amides.any() else 0.0


def missing_codes(sequence: str, assigned: Sequence[bool] | NDArray[np.bool_]) -> str:
    """Codes of one protein from whether 1H and 15N of each backbone amide are assigned, (L,) bool.

    Returns L characters: `p` proline, `A` assigned, `.` missing, `x` an unassigned residue `X` (which may have no amide
    proton); `t` before the first and after the last `A`.
    """
    pairs = list(zip(sequence, assigned, strict=True))
    codes = mask_termini("".join("p" if residue == "P" else "A" if known else "." for residue, known in pairs))
    return "".join(
        "x" if (code, residue) == (".", "X") else code for code, residue in zip(codes, sequence, strict=True)
    )


def targets(
    codes: str,
    sequence: str,
    form: CodeForm,
    *,
    missing_only: bool = False,
    rex_only: bool = False,
    unsuppressed: bool = False,
) -> NDArray[np.int8]:
    """Targets (L,) int8 of the codes of one protein (L letters): 1 exchange, 0 none, -1 not evaluated.

    Termini are masked first, and prolines, which have no amide proton, are not evaluated. The form `missing` counts
    missing signals only, `relaxdb` also exchange seen by relaxation; InputError if `missing_only` is combined.

    Parameters
    ----------
    missing_only
        Only missing signals are positive; residues with exchange (`b`, `^`, `X`) are 0.
    rex_only
        Only exchange is positive; missing signals are not evaluated.
    unsuppressed
        Exchange seen only without its suppression (`Y` of RelaxDB-CPMG) is 1, not 0.
    """
    require(not (missing_only and (rex_only or unsuppressed)), "missing-only excludes rex-only and unsuppressed")
    meaning = dict(TARGETS[form])
    if missing_only:
        meaning |= dict.fromkeys("b^X", 0)
    if rex_only:
        meaning["."] = NOT_EVALUATED
    if unsuppressed:
        meaning["Y"] = 1
    target = np.array([meaning[code] for code in mask_termini(codes)], dtype=np.int8)  # (L,)
    target[[residue == "P" for residue in sequence]] = NOT_EVALUATED
    return target


def table_targets(table: pd.DataFrame, **options: bool) -> list[NDArray[np.int8]]:
    """`targets` (L,) of each entry of a table."""
    rows = zip(table["label"], table["sequence"], table["source"], strict=True)
    return [targets(codes, sequence, FORM_OF_SOURCE[source], **options) for codes, sequence, source in rows]


def assignment_table(rows: Sequence[tuple[str, str, str]], source: str) -> pd.DataFrame:
    """Table (`COLUMNS`) of rows of entry_ID, sequence and codes, without clusters."""
    table = pd.DataFrame(rows, columns=list(COLUMNS[:3]), dtype=str)
    return table.assign(source=source, cluster="")


def read_assignments(path: str | Path) -> pd.DataFrame:
    """Read and check a table of assignment codes (CSV).

    Columns: entry_ID, sequence, label (the codes), source (mbmrb, refdb, relaxdb or cpmg, which defines the form of the
    codes), cluster (may be empty) and optionally dssp and field_strength; others are dropped. InputError if the file or
    a column is missing, or a row is invalid.
    """
    table = _known_columns(read_text_table(path, COLUMNS))
    if FIELD_STRENGTH in table:
        read_numbers(path, table[FIELD_STRENGTH])
    check_assignments(table, path)
    return table


def write_assignments(path: str | Path, table: pd.DataFrame) -> None:
    """Write the columns of a valid table atomically."""
    with whole_file(path) as temporary:
        _known_columns(table).to_csv(temporary, index=False)


def check_assignments(table: pd.DataFrame, path: str | Path) -> None:
    """Raise InputError at the first entry with an invalid name, source, sequence, codes or dssp."""
    require(len(table), f"{path}: no entries; add some")
    seen: set[str] = set()
    structures = table[DSSP] if DSSP in table else [""] * len(table)
    columns = (table[column] for column in COLUMNS[:4])
    for line, name, sequence, codes, source, dssp in zip(table.index + 2, *columns, structures, strict=True):
        require(name, f"{path}, line {line}: entry_ID is empty")
        where = f"{path}: entry {name}:"
        require(name not in seen, f"{where} duplicate; rename or remove one")
        seen.add(name)
        require(
            source in FORM_OF_SOURCE, f"{where} unknown source {shown(source)}; known are {', '.join(FORM_OF_SOURCE)}"
        )
        require(sequence, f"{where} the sequence is empty")
        unknown = "".join(sorted(set(sequence) - AMINO_ACIDS))
        remedy = (
            "write capital letters" if set(unknown.upper()) <= AMINO_ACIDS else "write other residues than the 20 as X"
        )
        require(not unknown, f"{where} residue {shown(unknown)}; {remedy}")
        expected = f"expected {len(sequence)} (one per residue)"
        require(len(codes) == len(sequence), f"{where} label of {len(codes)} characters, {expected}")
        meaning = TARGETS[FORM_OF_SOURCE[source]]
        unknown = "".join(sorted(set(codes) - meaning.keys()))
        known = f"characters of {source} are {' '.join(meaning)}"
        require(not unknown, f"{where} label has {shown(unknown)}; {known}; correct it or choose the set that it is of")
        require(len(dssp) in (0, len(sequence)), f"{where} dssp of {len(dssp)} letters, {expected} or none")


def _known_columns(table: pd.DataFrame) -> pd.DataFrame:
    return table[[*COLUMNS, *(column for column in (DSSP, FIELD_STRENGTH) if column in table)]]
