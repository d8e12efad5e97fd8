"""Several stores with their tables -> one store, training table and loss weights."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from data_prepare.dataset.store_layout import Compression, StoreDtype
from data_prepare.dataset.store_writer import OnDuplicate, merge_stores, store_of_each
from data_prepare.dataset.table import join_tables
from data_prepare.errors import reading, require, some_of
from data_prepare.pipeline.split import TABLE, Split
from data_prepare.pipeline.training_set import MADE_OF, TrainingSet
from data_prepare.resume import digest


def merge(
    paths: Sequence[Path],
    out: Path,
    split: Split,
    dtype: StoreDtype | None = None,
    keep_labels: bool = False,
    on_duplicate: OnDuplicate = "error",
    compression: Compression = "blosc2",
) -> None:
    """Merge stores to `out`, and their tables if each has one, unless this was done before; see `merge_stores`.

    Labels in a table beside `out` are kept unless `split.new_split`, and after these, with `keep_labels`, those of the
    tables. Otherwise the labels of the tables are dropped, also if no new split can be made: a test entry may resemble
    a training entry of another table.
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
    texts = [] if without else [table.read_text(encoding="utf-8") for table in tables]
    others = [choice for choice, usual in ((on_duplicate, "error"), (compression, "blosc2")) if choice != usual]
    made_of = digest(stats, dtype, *others)
    result = TrainingSet(out, made_of, digest(made_of, texts, keep_labels, split.digest()), split.new_split)
    if result.is_finished():
        return
    known = result.labels()
    origin = store_of_each(paths, on_duplicate)
    table = None if without else join_tables(tables, origin)
    if not result.has_store():
        merge_stores(paths, out, dtype, {MADE_OF: result.store_of}, origin, compression)
    if table is None:
        print(f"note: no table and no loss weights: no {', '.join(without)}", file=sys.stderr)
        result.write(None)
        return
    given = {name: label for name, label in zip(table["name"], table["label"], strict=True) if label}
    if keep_labels:
        other = [name for name, label in given.items() if known.setdefault(name, label) != label]
        if other:
            problem = f"{len(other)} labels of the merged tables differ from those beside {out}, which are kept"
            print(f"warning: {problem}: {some_of(other)}; --new-split takes those of the tables", file=sys.stderr)
    table, moved = split.label(table, known)
    if given and (table["label"] == "").all():
        print("note: the labels of the tables are left out; --keep-labels keeps them", file=sys.stderr)
    result.write(table, moved)
