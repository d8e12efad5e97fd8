"""Missing assignments from RefDB: the table of backbone shifts in makeshift-nmr.

One row per residue: bmrb_id, seq_id, aa (one letter), ss (`B` strand, `C` coil, `H` helix), H and N (ppm).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from data_prepare.errors import reading, require
from data_prepare.nmr.assignments import (
    AMINO_ACIDS,
    DSSP,
    NOT_EVALUATED,
    coverage,
    missing_codes,
    targets,
)
from data_prepare.nmr.choices import MIN_COVERAGE

COLUMNS: Final = ("bmrb_id", "seq_id", "aa", "ss", "H", "N")
DSSP_LETTERS: Final = {"B": "E", "C": "C", "H": "H"}  # of the column ss; others are unknown
UNKNOWN_DSSP: Final = "?"
STRUCTURES: Final = {"E": "strand", "C": "coil", "H": "helix", UNKNOWN_DSSP: "unknown"}
THRESHOLDS: Final = (0.5, 0.7, 0.8, 0.9)
# fraction of missing amides in the training set of Dyna-1
PUBLISHED: Final = {"strand": 0.030, "coil": 0.060, "helix": 0.042, "H": 0.113}


def bundled_table() -> Path:
    """Path of the table in makeshift-nmr, which is not imported; InputError if it is absent."""
    found = find_spec("makeshift")
    path = Path((found and found.origin) or "").parent / "data" / "refdb" / "refdb_backbone.csv"
    require(path.is_file(), "the table of RefDB is part of makeshift-nmr; pip install 'seqdance[nmr]', or give --file")
    return path


def read_refdb(path: str | Path | None = None) -> pd.DataFrame:
    """Read the backbone table (CSV; default: that of makeshift-nmr).

    Returns one row per entry, in the order of the file: entry_ID (BMRB id), sequence (twenty letters or X), label
    (codes), dssp (E, C, H, ? for each residue), coverage. InputError if the file or a column is missing, or the
    residues of an entry are not in order.
    """
    path = bundled_table() if path is None else Path(path)
    with reading(path, f"a table of backbone shifts (CSV with {', '.join(COLUMNS)})"):
        table = pd.read_csv(path, usecols=list(COLUMNS), dtype={"bmrb_id": str, "aa": str, "ss": str})
        table["assigned"] = table[["H", "N"]].apply(pd.to_numeric).notna().all(axis=1)
        steps = pd.to_numeric(table["seq_id"]).diff()
    names = table["bmrb_id"]
    complete = len(table) and table[["bmrb_id", "aa"]].notna().to_numpy().all()
    require(complete, f"{path}: no rows, or rows without bmrb_id or aa; download it again")
    begins = names != names.shift()
    wrong = np.where(begins, names.where(begins).duplicated(), steps != 1)
    where = names[wrong.argmax()]
    require(not wrong.any(), f"{path}: entry {where}: residues are not numbered one by one; sort by bmrb_id and seq_id")
    table["aa"] = table["aa"].where(table["aa"].isin(sorted(AMINO_ACIDS)), "X")
    table["ss"] = table["ss"].map(DSSP_LETTERS).fillna(UNKNOWN_DSSP)
    rows = []
    for name, residues in table.groupby("bmrb_id", sort=False):
        sequence, assigned = "".join(residues["aa"]), residues["assigned"].to_numpy()
        codes, covered = missing_codes(sequence, assigned), coverage(sequence, assigned)
        rows.append((name, sequence, codes, "".join(residues["ss"]), covered))
    return pd.DataFrame(rows, columns=["entry_ID", "sequence", "label", DSSP, "coverage"])


def refdb_codes(entries: pd.DataFrame, min_coverage: float = MIN_COVERAGE) -> pd.DataFrame:
    """Table of codes of the entries of `read_refdb` with at least `min_coverage`; InputError if none has it.

    In the others nitrogens were not measured, or the assignment is incomplete: missing amides are no sign of exchange.
    """
    kept = entries[entries["coverage"] >= min_coverage]
    require(
        len(kept), f"none of {len(entries)} entries has {min_coverage:.0%} of its amides assigned; lower --min-coverage"
    )
    table = kept[["entry_ID", "sequence", "label"]].assign(source="refdb", cluster="", **{DSSP: kept[DSSP]})
    return table.reset_index(drop=True)


def missing_rates(entries: pd.DataFrame) -> pd.DataFrame:
    """Fraction of missing amides in the entries of `read_refdb` for the values `THRESHOLDS` of `min_coverage`.

    Columns: min_coverage, entries, kind (all, structure, residue), group, residues (evaluated), missing, rate,
    published (rate in the training set of Dyna-1, NaN if unknown).
    """
    target = [targets(*pair, "missing") for pair in zip(entries["label"], entries["sequence"], strict=True)]
    flat = pd.DataFrame(
        {
            "coverage": np.repeat(entries["coverage"], entries["sequence"].str.len()),
            "target": np.concatenate(target),
            "all": "all",
            "structure": [STRUCTURES[letter] for letter in "".join(entries[DSSP])],
            "residue": list("".join(entries["sequence"])),
        }
    )
    flat = flat[flat["target"] != NOT_EVALUATED]
    parts = []
    for threshold in THRESHOLDS:
        kept = flat[flat["coverage"] >= threshold]
        number = int((entries["coverage"] >= threshold).sum())
        for kind in ("all", "structure", "residue"):
            counts = kept.groupby(kind)["target"].agg(residues="size", missing="sum", rate="mean")
            head = counts.rename_axis("group").reset_index()
            parts.append(head.assign(min_coverage=threshold, entries=number, kind=kind))
    columns = ["min_coverage", "entries", "kind", "group", "residues", "missing", "rate"]
    rates = pd.concat(parts, ignore_index=True)[columns]
    return rates.assign(published=rates["group"].map(PUBLISHED))


def rates_text(rates: pd.DataFrame) -> str:
    """`missing_rates` in per cent as text: one line per group, one column per coverage."""
    whole = rates[rates["kind"] == "all"].set_index("min_coverage")[["entries", "residues"]].T
    per_cent = (100 * rates.pivot(index=["kind", "group"], columns="min_coverage", values="rate")).map("{:.2f}".format)
    rows = pd.concat([whole, *(per_cent.loc[kind] for kind in ("all", "structure", "residue"))])
    rows.columns = [f"{threshold:.0%}" for threshold in rows.columns]
    rows["published"] = [f"{100 * PUBLISHED[group]:.1f}" if group in PUBLISHED else "" for group in rows.index]
    title = "missing amides (% of evaluated residues) in RefDB entries by smallest coverage; published: training set"
    return f"{title}\n{rows.rename_axis(columns='coverage').to_string()}\n"
