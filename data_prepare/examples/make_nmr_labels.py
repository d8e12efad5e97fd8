"""Choose entries of RefDB for the example labels and write them to `nmr/refdb_labels.csv`.

The shifts come with makeshift-nmr (MIT); entries that are or resemble proteins of RelaxDB and RelaxDB-CPMG are left
out, so that a network trained on the example can be tried on those. First make the tables (docs/how-to/nmr_labels.md):

    seqdance dyna1 labels refdb --output refdb.csv
    seqdance dyna1 labels split --table refdb.csv --against relaxdb.csv cpmg.csv --output split
    python make_nmr_labels.py split
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from data_prepare.nmr.assignments import read_assignments, write_assignments

ENTRIES = 200
LONGEST = 200  # residues: the example stays quick on a laptop

if __name__ == "__main__":
    table = pd.concat([read_assignments(Path(sys.argv[1], f"{part}.csv")) for part in ("train", "validation")])
    short = table[table["sequence"].str.len() <= LONGEST]
    chosen = short.sample(ENTRIES, random_state=0).sort_values("entry_ID", key=lambda names: names.astype(int))
    write_assignments(Path(__file__).resolve().parent / "nmr" / "refdb_labels.csv", chosen)
