"""NMR data -> tables of assignment codes for Dyna-1, and their split; each function returns lines for the user."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from data_prepare.dataset.splits import read_clusters
from data_prepare.errors import require
from data_prepare.files import check_output, whole_file, write_text
from data_prepare.nmr.assignments import (
    FIELD_STRENGTH,
    NOT_EVALUATED,
    read_assignments,
    table_targets,
    write_assignments,
)
from data_prepare.nmr.choices import MIN_COVERAGE
from data_prepare.nmr.nmr_star import STAR_SUFFIXES, read_star
from data_prepare.nmr.refdb import missing_rates, rates_text, read_refdb, refdb_codes
from data_prepare.nmr.relaxation import read_relaxation
from data_prepare.nmr.relaxdb import PICKLES, Source, add_dssp, read_relaxdb, read_split_list, select_entries
from data_prepare.nmr.splits import (
    MIN_IDENTITY,
    VALIDATION_FRACTION,
    join_tests,
    train_and_validation,
    with_clusters,
    without_tests,
)

FOLDER_SUFFIXES: Final = (*STAR_SUFFIXES, *PICKLES)  # of input files in a folder


def convert_refdb(output: Path, file: Path | None = None, min_coverage: float = MIN_COVERAGE) -> list[str]:
    """Write the codes of RefDB (default: the table of makeshift-nmr) and their rates."""
    rates_csv, rates_txt = (output.parent / f"{output.stem}_rates.{kind}" for kind in ("csv", "txt"))
    _check_outputs([output, rates_csv, rates_txt], [file])
    entries = read_refdb(file)
    table = refdb_codes(entries, min_coverage)
    rates = missing_rates(entries)
    with whole_file(rates_csv) as temporary:
        rates.to_csv(temporary, index=False, float_format="%.5f")
    write_text(rates_txt, rates_text(rates))
    write_assignments(output, table)
    return [*rates_text(rates).splitlines(), f"{output}: {summary(table)}"]


def convert_published(
    file: Path,
    output: Path,
    source: Source = "relaxdb",
    split_list: Path | None = None,
    dssp: Path | None = None,
    clusters: Path | None = None,
    field_strengths: Sequence[float] = (),
) -> list[str]:
    """Write the codes of RelaxDB, RelaxDB-CPMG or mBMRB, or of the entries that a split list names.

    `clusters` is a TSV of cluster and entry, which is taken as it is; entries that it lacks stay without cluster.
    """
    _check_outputs([output], [file, split_list, dssp, clusters])
    names = read_split_list(split_list) if split_list else None
    table, lines = read_relaxdb(file, source, names), []
    if names is not None:
        table, absent = select_entries(table, names)
        require(len(table), f"{split_list}: none of its entries is in {file}")
        if absent:
            lines.append(f"{split_list}: entries that {file} lacks: {', '.join(absent)}")
    if field_strengths:
        held = pd.to_numeric(table[FIELD_STRENGTH]) if FIELD_STRENGTH in table else pd.Series(dtype=float)
        chosen = held.isin(field_strengths)
        known = ", ".join(f"{value:g}" for value in sorted(held.dropna().unique())) or "none"
        require(chosen.any(), f"{file}: no entry at these field strengths; it has {known} (MHz)")
        table = table[chosen].reset_index(drop=True)
    if dssp:
        table = add_dssp(table, dssp)
    if clusters:
        members = read_clusters(clusters)
        table["cluster"] = table["entry_ID"].map(members).fillna("")
        require((table["cluster"] != "").any(), f"{clusters}: has none of the entries; name them as in {file}")
    write_assignments(output, table)
    return [*lines, f"{output}: {summary(table)}"]


def convert_star(file: Path, output: Path, min_coverage: float = MIN_COVERAGE) -> list[str]:
    """Write the codes of NMR-STAR files, and failures.csv: what was left out and why."""
    failures = output.parent / "failures.csv"
    _check_outputs([output, failures], [file])
    table, left_out = read_star(file, min_coverage)
    with whole_file(failures) as temporary:
        left_out.to_csv(temporary, index=False)
    counts = left_out["kind"].value_counts()
    summed = f"{counts.get('failed', 0)} failed, {counts.get('filtered', 0)} filtered (reasons in {failures})"
    why = left_out["reason"].iloc[0] if file.is_file() and len(left_out) == 1 else summed
    require(len(table), f"{file}: no usable protein: {why}")
    write_assignments(output, table)
    return [f"{output}: {summary(table)}; {summed}"]


def convert_relaxation(file: Path, output: Path) -> list[str]:
    """Write the codes of your own relaxation measurements."""
    _check_outputs([output], [file])
    table = read_relaxation(file)
    write_assignments(output, table)
    return [f"{output}: {summary(table)}"]


def split_tables(
    tables: Sequence[Path],
    output: Path,
    against: Sequence[Path] = (),
    min_identity: float = MIN_IDENTITY,
    clusters: Path | None = None,
    validation_fraction: float = VALIDATION_FRACTION,
    seed: int = 0,
) -> list[str]:
    """Split tables of codes into train.csv and validation.csv of the folder `output`.

    Entries in `against`, or similar to an entry there, go to removed.csv; see `data_prepare.nmr.splits`.
    """
    _check_outputs(
        [output / f"{name}.csv" for name in ("train", "validation", "removed")], [*tables, *against, clusters]
    )
    tests = join_tests({str(path): read_assignments(path) for path in against})
    table = pd.concat([read_assignments(path) for path in tables], ignore_index=True).fillna("")
    duplicate = table["entry_ID"][table["entry_ID"].duplicated()].head(1).to_list()
    files = ", ".join(map(str, tables))
    require(not duplicate, f"{files}: duplicate entry {''.join(duplicate)}; rename or remove one")
    removed = pd.DataFrame(columns=["entry_ID", "test_entry", "identity", "reason"])
    if against:
        table, removed = without_tests(table, tests, min_identity)
        names = ", ".join(map(str, tables))
        require(len(table), f"{names}: all entries are (similar to) test entries; give other tables")
    table = with_clusters(table, min_identity, clusters)
    train, validation = train_and_validation(table, validation_fraction, seed)
    with whole_file(output / "removed.csv") as temporary:
        removed.to_csv(temporary, index=False, float_format="%.3f")
    lines = [f"entries removed, {reason}: {len(rows)}" for reason, rows in removed.groupby("reason")]
    for name, part in (("train", train), ("validation", validation)):
        write_assignments(output / f"{name}.csv", part)
        lines.append(f"{output / name}.csv: {summary(part)}, clusters: {part['cluster'].nunique()}")
    return lines


def summary(table: pd.DataFrame) -> str:
    """Numbers of entries and residues, evaluated and positive, of a table of codes."""
    target = np.concatenate([np.empty(0, np.int8), *table_targets(table)])
    evaluated, positive = int((target != NOT_EVALUATED).sum()), int((target == 1).sum())
    rate = f" ({positive / evaluated:.2%})" if evaluated else ""
    return f"entries: {len(table)}, residues: {len(target)}, evaluated: {evaluated}, positive: {positive}{rate}"


def _check_outputs(outputs: Sequence[Path], inputs: Sequence[Path | None]) -> None:
    """Refuse, before any computation, outputs that cannot be written or would overwrite an input or each other."""
    files = {path.resolve() for path in inputs if path is not None}
    for output in outputs:
        check_output(output)
        path = output.resolve()
        # an input file, or a file of an input folder (but not a table of an earlier run)
        in_folder = path.name.lower().endswith(FOLDER_SUFFIXES) and path.exists() and not files.isdisjoint(path.parents)
        require(path not in files and not in_folder, f"{output}: would overwrite an input; give another --output")
    distinct = len({output.resolve() for output in outputs}) == len(outputs)
    require(distinct, f"{outputs[0]}: the command also writes another file of this name; give another --output")
