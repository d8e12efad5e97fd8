"""Labels of missing assignments from RefDB, as the table of backbone shifts that comes with makeshift-nmr.

One row per residue: bmrb_id, seq_id, aa (one letter), ss (`B` strand, `C` coil, `H` helix), H and N (ppm).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from data_prepare.errors import InputError
from data_prepare.nmr.assignments import (
    AMINO_ACIDS,
    DSSP,
    MIN_COVERAGE,
    assignment_table,
    coverage,
    missing_codes,
    targets,
)

COLUMNS: Final = ("bmrb_id", "seq_id", "aa", "ss", "H", "N")
STRUCTURES: Final = {"B": "strand", "C": "coil", "H": "helix"}  # all else is unknown
DSSP_LETTERS: Final = {"strand": "E", "coil": "C", "helix": "H", "unknown": "?"}
THRESHOLDS: Final = (0.5, 0.7, 0.8, 0.9)
# share of missing residues in the training set of Dyna-1
PUBLISHED: Final = {"strand": 0.030, "coil": 0.060, "helix": 0.042, "H": 0.113}


def bundled_table() -> Path:
    """Path of the table of makeshift-nmr, found without importing the package.

    Raises
    ------
    InputError
        If the package is not installed or has no such table.
    """
    found = find_spec("makeshift")
    if found is None or found.origin is None:
        raise InputError("makeshift-nmr is not installed: pip install makeshift-nmr, or give the table with --file")
    path = Path(found.origin).parent / "data" / "refdb" / "refdb_backbone.csv"
    if not path.is_file():
        raise InputError(f"{path}: this version of makeshift-nmr has no table of RefDB; give it with --file")
    return path


def read_refdb(path: str | Path | None = None) -> pd.DataFrame:
    """Read the backbone table, one row per residue.

    Parameters
    ----------
    path
        CSV; None takes the one of makeshift-nmr.

    Returns
    -------
    entry_ID (text), residue (one of the twenty letters or X), structure (strand, coil, helix, unknown), assigned (both
    shifts are there), in the order of the file.

    Raises
    ------
    InputError
        If the file or a column is missing, or the residues of an entry are not in order.
    """
    path = bundled_table() if path is None else Path(path)
    try:
        table = pd.read_csv(path, usecols=list(COLUMNS), dtype={"bmrb_id": str, "aa": str, "ss": str})
        shifts = table[["H", "N"]].apply(pd.to_numeric)
        numbers = pd.to_numeric(table["seq_id"])
    except FileNotFoundError:
        raise InputError(f"{path}: no such table; expected a CSV with columns {', '.join(COLUMNS)}") from None
    except (ValueError, pd.errors.ParserError) as error:  # a column that is missing, or is no number
        raise InputError(f"{path}: not a table of backbone shifts ({error})") from None
    if table[["bmrb_id", "aa"]].isna().to_numpy().any() or table.empty:
        raise InputError(f"{path}: rows without bmrb_id or aa, or none at all")
    begins = table["bmrb_id"] != table["bmrb_id"].shift()
    again = begins & table["bmrb_id"].where(begins).duplicated()
    if (wrong := again | (~begins & (numbers.diff() != 1))).any():
        name = table["bmrb_id"][wrong].iloc[0]
        raise InputError(f"{path}: entry {name}: residues are not numbered one by one; sort by bmrb_id and seq_id")
    known = table["aa"].isin(sorted(AMINO_ACIDS))
    return pd.DataFrame(
        {
            "entry_ID": table["bmrb_id"],
            "residue": table["aa"].where(known, "X"),
            "structure": table["ss"].map(STRUCTURES).fillna("unknown"),
            "assigned": shifts.notna().all(axis=1),
        }
    )


def _entries(residues: pd.DataFrame) -> pd.DataFrame:
    """One row per entry: entry_ID, sequence, label, structure (list), coverage."""
    columns = ("entry_ID", "residue", "structure", "assigned")
    names, letters, structures, assigned = (residues[column].to_numpy(object) for column in columns)
    borders = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1), len(names)]
    rows = []
    for entry in (slice(*border) for border in pairwise(borders)):
        sequence = "".join(letters[entry])
        label, share = missing_codes(sequence, assigned[entry]), coverage(sequence, assigned[entry])
        rows.append((names[entry.start], sequence, label, list(structures[entry]), share))
    return pd.DataFrame(rows, columns=["entry_ID", "sequence", "label", "structure", "coverage"])


def refdb_codes(residues: pd.DataFrame, min_coverage: float = MIN_COVERAGE) -> pd.DataFrame:
    """Labels of the entries whose amides are mostly assigned.

    Parameters
    ----------
    residues
        As `read_refdb` gives it.
    min_coverage
        Smallest share of the residues that are no prolines (termini and unknown residues count) with H and N. An entry
        below it is no sign of exchange: its nitrogens were not measured, or the work was not finished.

    Returns
    -------
    Table of labels (`labels.COLUMNS`, and `labels.DSSP`) of the source refdb; the names are BMRB ids.

    Raises
    ------
    InputError
        If no entry is left.
    """
    if not 0 < min_coverage <= 1:
        raise InputError(f"coverage {min_coverage}: expected a number above 0, at most 1")
    entries = _entries(residues)
    kept = entries[entries["coverage"] >= min_coverage]
    if kept.empty:
        raise InputError(f"none of {len(entries)} entries has {min_coverage:.0%} of its amides assigned")
    rows = list(kept[["entry_ID", "sequence", "label"]].itertuples(index=False, name=None))
    dssp = ["".join(map(DSSP_LETTERS.__getitem__, structure)) for structure in kept["structure"]]
    return assignment_table(rows, "refdb").assign(**{DSSP: dssp})


def missing_rates(residues: pd.DataFrame, thresholds: Sequence[float] = THRESHOLDS) -> pd.DataFrame:
    """Share of missing residues at several coverages: over all, by secondary structure, by amino acid.

    Parameters
    ----------
    residues
        As `read_refdb` gives it.
    thresholds
        Coverages, see `refdb_codes`.

    Returns
    -------
    min_coverage, entries, kind (all, structure, residue), group, residues (evaluated), missing, rate, published (share
    in the training set of Dyna-1, NaN where unknown).
    """
    entries = _entries(residues)
    found = [targets(*pair, "missing") for pair in zip(entries["label"], entries["sequence"], strict=True)]
    entries = entries.assign(target=pd.Series(found, dtype=object))
    rows = []
    for threshold in thresholds:
        kept = entries[entries["coverage"] >= threshold]
        flat = pd.DataFrame(
            {
                "target": np.concatenate([*kept["target"], np.empty(0, np.int8)]),
                "structure": [letter for letters in kept["structure"] for letter in letters],
                "residue": list("".join(kept["sequence"])),
            }
        )
        flat = flat[flat["target"] >= 0].assign(all="all")
        for kind in ("all", "structure", "residue"):
            for group, target in flat.groupby(kind)["target"]:
                rows.append((threshold, len(kept), kind, group, len(target), int(target.sum()), target.mean()))
    columns = ["min_coverage", "entries", "kind", "group", "residues", "missing", "rate"]
    return pd.DataFrame(rows, columns=columns).assign(published=lambda table: table["group"].map(PUBLISHED))


def rates_text(rates: pd.DataFrame) -> str:
    """Table of `missing_rates` for reading: one line per group, one column per coverage, in per cent."""
    thresholds = sorted(rates["min_coverage"].unique())
    wide = rates.pivot(index=["kind", "group"], columns="min_coverage", values="rate")
    whole = rates[rates["kind"] == "all"].set_index("min_coverage")
    lines = [
        "missing amides (% of the evaluated residues) in RefDB entries by smallest coverage; published: training set",
        f"{'coverage':<12}" + "".join(f"{threshold:>10.0%}" for threshold in thresholds) + " published",
    ]
    for name in ("entries", "residues"):
        lines.append(f"{name:<12}" + "".join(f"{int(whole[name][threshold]):>10}" for threshold in thresholds))
    order = [("all", "all"), *[key for kind in ("structure", "residue") for key in wide.index if key[0] == kind]]
    for kind, group in order:
        values = "".join(f"{100 * wide.loc[(kind, group), threshold]:>10.2f}" for threshold in thresholds)
        lines.append(f"{group:<12}{values}" + (f"{100 * PUBLISHED[group]:>10.1f}" if group in PUBLISHED else ""))
    return "\n".join(lines) + "\n"
