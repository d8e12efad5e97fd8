"""Command: NMR data -> tables of labels for Dyna-1, and their split into training and validation.

python -m data_prepare.nmr.make_labels refdb --output refdb.csv
python -m data_prepare.nmr.make_labels relaxdb --file RelaxDB.json --output relaxdb.csv
python -m data_prepare.nmr.make_labels cpmg --file RelaxDB_CPMG.json --output cpmg.csv
python -m data_prepare.nmr.make_labels star --file FOLDER --output mbmrb.csv
python -m data_prepare.nmr.make_labels relaxation --file MEASURED.csv --output own.csv
python -m data_prepare.nmr.make_labels split --table refdb.csv --against relaxdb.csv cpmg.csv --output FOLDER
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import pandas as pd
import tyro

from data_prepare.errors import InputError, run_command
from data_prepare.files import whole_file, write_text
from data_prepare.nmr.assignments import FORM_OF_SOURCE, MIN_COVERAGE, read_assignments, targets, write_assignments
from data_prepare.nmr.nmr_star import STAR_SUFFIXES, read_star
from data_prepare.nmr.refdb import missing_rates, rates_text, read_refdb, refdb_codes
from data_prepare.nmr.relaxation import read_relaxation
from data_prepare.nmr.relaxdb import PICKLES, read_relaxdb, read_split_list, select_entries
from data_prepare.nmr.splits import (
    MIN_IDENTITY,
    VALIDATION_FRACTION,
    check_identity,
    check_share_and_seed,
    join_tests,
    train_and_validation,
    with_clusters,
    without_tests,
)

FOLDER_SUFFIXES: Final = (*STAR_SUFFIXES, *PICKLES)  # files that are read from a folder


@dataclass(frozen=True)
class RefdbConfig:
    """Missing assignments from the RefDB table of makeshift-nmr; writes their rates beside the labels."""

    output: Path
    """CSV of labels to write; `<output>_rates.csv` and `.txt` go beside it."""
    file: Path | None = None
    """Table of backbone shifts. Default: the one of makeshift-nmr."""
    min_coverage: float = MIN_COVERAGE
    """Smallest share of assigned amides of an entry."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class RelaxdbConfig:
    """Labels of RelaxDB."""

    file: Path
    """JSON by columns, or folder with one pickle per protein."""
    output: Path
    """CSV of labels to write."""
    split_list: Path | None = None
    """Take only the entries that this file names, one per line; names that are absent are reported."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class CpmgConfig(RelaxdbConfig):
    """Labels of RelaxDB-CPMG."""


@dataclass(frozen=True)
class StarConfig:
    """Missing assignments from NMR-STAR files of BMRB; the rules are in data_prepare/nmr/README.md."""

    file: Path
    """NMR-STAR file, or folder of them."""
    output: Path
    """CSV of labels to write; failures.csv, what was left out and why, goes beside it."""
    min_coverage: float = MIN_COVERAGE
    """Smallest share of assigned amides of a protein."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class RelaxationConfig:
    """Labels of one's own R1, R2, NOE, assignments and predicted R2/R1, by the rule of RelaxDB."""

    file: Path
    """CSV, one row per residue: entry_ID, residue, assigned (1 or 0), R1, R2 (1/s), NOE, R2_R1_pred."""
    output: Path
    """CSV of labels to write."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class SplitConfig:
    """Split tables of labels into training and validation, apart from the test sets."""

    table: tuple[Path, ...]
    """Tables of labels."""
    output: Path
    """Folder for train.csv, validation.csv and removed.csv."""
    against: tuple[Path, ...] = ()
    """Tables of test entries (RelaxDB, RelaxDB-CPMG): entries with their BMRB ids or similar to them are removed."""
    min_identity: float = MIN_IDENTITY
    """Share of identical residues from which on entries are similar: to a test entry, and within a cluster."""
    clusters: Path | None = None
    """TSV of representative and entry instead of clusters by MMseqs2."""
    validation_share: float = VALIDATION_FRACTION
    """Share of the entries that validate."""
    seed: int = 0
    """Of the split."""
    threads: int = 1
    """Of MMseqs2."""
    debug: bool = False
    """Show the traceback of an error."""


Config = (
    Annotated[RefdbConfig, tyro.conf.subcommand("refdb")]
    | Annotated[RelaxdbConfig, tyro.conf.subcommand("relaxdb")]
    | Annotated[CpmgConfig, tyro.conf.subcommand("cpmg")]
    | Annotated[StarConfig, tyro.conf.subcommand("star")]
    | Annotated[RelaxationConfig, tyro.conf.subcommand("relaxation")]
    | Annotated[SplitConfig, tyro.conf.subcommand("split")]
)


def summary(table: pd.DataFrame) -> str:
    """One line on a table of labels: entries, residues, evaluated, positive."""
    forms = [FORM_OF_SOURCE[source] for source in table["source"]]
    found = [targets(*row) for row in zip(table["label"], table["sequence"], forms, strict=True)]
    residues, evaluated = sum(map(len, found)), sum(int((target >= 0).sum()) for target in found)
    positive = sum(int((target == 1).sum()) for target in found)
    share = f" ({positive / evaluated:.2%})" if evaluated else ""
    return f"{len(table)} entries, {residues} residues, {evaluated} evaluated, {positive} positive{share}"


def check_outputs(outputs: Sequence[Path], inputs: Sequence[Path | None]) -> None:
    """Refuse, before work begins, outputs that cannot be written or would overwrite an input or each other."""
    files = {path.resolve(): path for path in inputs if path is not None}
    written: set[Path] = set()
    for output in outputs:
        place = output.resolve()
        if output.is_dir():
            raise InputError(f"{output}: is a folder; give the name of a file as --output")
        parent = next(above for above in place.parents if above.exists())
        if not parent.is_dir():
            raise InputError(f"{output}: cannot be written, {parent} is a file; give another --output")
        if place in files:
            raise InputError(f"{output}: would overwrite the input {files[place]}; give another --output")
        # one of the files of an input folder; a table that lies there from the last run is none
        if place.suffix in FOLDER_SUFFIXES and place.exists() and files.keys() & set(place.parents):
            raise InputError(f"{output}: would overwrite a file of the input folder; give another --output")
        if place in written:
            raise InputError(f"{output}: another output of this command has this name; give another --output")
        written.add(place)


def make_refdb(config: RefdbConfig) -> None:
    """Write the labels of RefDB and their rates."""
    check_outputs([config.output], [config.file])
    rates_csv, rates_txt = (config.output.with_name(f"{config.output.stem}_rates.{kind}") for kind in ("csv", "txt"))
    check_outputs([config.output, rates_csv, rates_txt], [config.file])
    residues = read_refdb(config.file)
    table = refdb_codes(residues, config.min_coverage)
    rates = missing_rates(residues)
    write_assignments(config.output, table)
    with whole_file(rates_csv) as temporary:
        rates.to_csv(temporary, index=False, float_format="%.5f")
    write_text(rates_txt, rates_text(rates))
    print(rates_text(rates), end="")
    print(f"{config.output}: {summary(table)}")


def make_relaxdb(config: RelaxdbConfig) -> None:
    """Write the labels of RelaxDB or RelaxDB-CPMG."""
    check_outputs([config.output], [config.file, config.split_list])
    table = read_relaxdb(config.file, "cpmg" if isinstance(config, CpmgConfig) else "relaxdb")
    if config.split_list is not None:
        table, absent = select_entries(table, read_split_list(config.split_list))
        if table.empty:
            raise InputError(f"{config.split_list}: none of its entries is in {config.file}")
        if absent:
            print(f"{config.split_list}: {len(absent)} entries are not in {config.file}: {', '.join(absent)}")
    write_assignments(config.output, table)
    print(f"{config.output}: {summary(table)}")


def make_star(config: StarConfig) -> None:
    """Write the labels of NMR-STAR files and the list of what was left out."""
    check_outputs([config.output], [config.file])
    failures = config.output.with_name("failures.csv")
    check_outputs([config.output, failures], [config.file])
    table, left_out = read_star(config.file, config.min_coverage, progress=True)
    with whole_file(failures) as temporary:
        left_out.to_csv(temporary, index=False)
    counts = left_out["kind"].value_counts()
    told = f"{counts.get('failed', 0)} failed, {counts.get('filtered', 0)} filtered (reasons in {failures})"
    if table.empty:
        raise InputError(f"{config.file}: no labels; {told}")
    write_assignments(config.output, table)
    print(f"{config.output}: {summary(table)}; {told}")


def make_relaxation(config: RelaxationConfig) -> None:
    """Write the labels of relaxation measurements."""
    check_outputs([config.output], [config.file])
    table = read_relaxation(config.file)
    write_assignments(config.output, table)
    print(f"{config.output}: {summary(table)}")


def make_split(config: SplitConfig) -> None:
    """Write train.csv, validation.csv and removed.csv."""
    check_identity(config.min_identity)
    check_share_and_seed(config.validation_share, config.seed)
    outputs = [config.output / f"{name}.csv" for name in ("train", "validation", "removed")]
    check_outputs(outputs, [*config.table, *config.against, config.clusters])
    table = pd.concat([read_assignments(path) for path in config.table], ignore_index=True).fillna("")
    if (twice := table["entry_ID"].duplicated()).any():
        raise InputError(f"entry {table['entry_ID'][twice].iloc[0]} is in two tables; rename or remove one")
    removed = pd.DataFrame(columns=["entry_ID", "test_entry", "identity", "reason"])
    if config.against:
        tests = join_tests({str(path): read_assignments(path) for path in config.against})
        table, removed = without_tests(table, tests, config.min_identity, config.threads)
        if table.empty:
            names = ", ".join(map(str, config.table))
            raise InputError(f"{names}: all entries are test entries or similar to them; give other tables")
    table = with_clusters(table, config.min_identity, config.clusters, config.threads)
    train, validation = train_and_validation(table, config.validation_share, config.seed)
    with whole_file(config.output / "removed.csv") as temporary:
        removed.to_csv(temporary, index=False, float_format="%.3f")
    for reason, rows in removed.groupby("reason"):
        print(f"removed: {len(rows)} entries, {reason}")
    for name, part in (("train", train), ("validation", validation)):
        write_assignments(config.output / f"{name}.csv", part)
        print(f"{config.output / name}.csv: {summary(part)}, {part['cluster'].nunique()} clusters")


def make_labels(config: Config) -> None:
    """Run one of the sub-commands."""
    match config:
        case RefdbConfig():
            make_refdb(config)
        case RelaxdbConfig():
            make_relaxdb(config)
        case StarConfig():
            make_star(config)
        case RelaxationConfig():
            make_relaxation(config)
        case SplitConfig():
            make_split(config)


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    config: Config = tyro.cli(Config, args=args, description=(__doc__ or "").partition("\n")[0])
    run_command(lambda: make_labels(config), config.debug)


if __name__ == "__main__":
    main()
