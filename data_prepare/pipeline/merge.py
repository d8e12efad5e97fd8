"""Several stores with their tables -> one store, training table and loss weights."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from data_prepare.dataset.store import StoreDtype, merge_stores
from data_prepare.dataset.table import join_tables
from data_prepare.errors import reading, require
from data_prepare.pipeline.training_set import MADE_OF, TABLE, Split, TrainingSet
from data_prepare.resume import digest


def merge(paths: Sequence[Path], out: Path, split: Split | None, dtype: StoreDtype | None = None) -> None:
    """Merge stores to `out`, and their tables if each has one, unless this was done before; see `merge_stores`.

    `split` None keeps the labels of the tables. Otherwise they are dropped, also if no new split can be made: a test
    entry may resemble a training entry of another table.
    """
    folders = {path.parent.resolve() for path in paths}
    require(
        out.parent.resolve() not in folders,
        f"{out.parent} contains a store to merge; give the merged store another folder",
    )
    stats = []
    for path in paths:
        with reading(path, "a feature store (HDF5)"):
            stats.append((path.name, path.stat().st_size, path.stat().st_mtime_ns))
    tables = [path.with_name(TABLE) for path in paths]
    without = [str(table) for table in tables if not table.is_file()]
    texts = [] if without else [table.read_text() for table in tables]
    result = TrainingSet(out, digest(stats, dtype), digest(stats, dtype, texts, split and ("anew", split.digest())))
    if result.is_finished():
        return
    table = None if without else join_tables(tables)
    if not result.has_store():
        merge_stores(paths, out, dtype, {MADE_OF: result.store_of})
    if table is None:
        print(f"note: no table and no loss weights: no {', '.join(without)}", file=sys.stderr)
    elif split is not None:
        labelled = (table["label"] != "").any()
        table = split.label(table.assign(label=""), threads=1)
        if labelled and (table["label"] == "").all():
            print("note: the labels of the tables are left out; --keep-labels keeps them", file=sys.stderr)
    result.write(table)
