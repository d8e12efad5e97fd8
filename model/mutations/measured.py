"""Measured effects of mutations: the mega-scale stability set, ProteinGym, and ddG tables with structures.

`loss` grows with the loss of stability or fitness in all of them; `SIGN` holds the sign of each measurement.

Sources: Tsuboyama et al., Nature 2023 (doi 10.1038/s41586-023-06328-6); Notin et al., ProteinGym, NeurIPS 2023.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from data_prepare.errors import InputError, InputWarning, require
from data_prepare.files import csv_pieces, read_numbers, stem
from model.choices import MeasuredForm
from model.mutations.substitution import WildType, apply_mutation, parse_mutation
from model.network.tokenizer import AMINO_ACIDS

# required columns of a table of each form; "ddg" also has one of DDG_COLUMNS
COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "megascale": ("aa_seq", "mut_type", "WT_name", "ddG_ML"),
    "proteingym": ("mutant", "mutated_sequence"),  # and DMS_score, which clinical files lack
    "ddg": ("pdb_id", "chain", "pre", "pos", "post"),
}
DDG_COLUMNS: Final = ("ddG", "ddG_experimental")
# measurement -> loss: ddG_ML is positive for a more stable mutant, DMS_score for a fitter, ddG for a less stable one
SIGN: Final = {"megascale": -1.0, "proteingym": -1.0, "ddg": 1.0}
ROWS_PER_PIECE: Final = 100_000  # of a table read at once
ROWS_OF_FORM: Final = 100  # that tell sequences from labels

# index of `csv_pieces`, mutant as named in the file, its label with positions in the wild type, sequence, loss
Row = tuple[int, str, str, str | None, float]


@dataclass(frozen=True)
class MeasuredProtein:
    """Measured mutants of one protein."""

    name: str  # unique in a data set
    wild_type: str  # sequence of one chain
    mutants: list[str]  # labels such as `A12G` or `A12G:K5R`, positions from 1 in `wild_type`; all sequences differ
    loss: NDArray[np.float64]  # (mutants,) in the unit of the measurement; positive = less stable or less fit


class LeftOut(NamedTuple):
    """A row that cannot be used."""

    file: str
    line: int  # the header is line 1
    protein: str
    mutant: str  # as named in the file
    reason: str


def read_measured(
    path: str | os.PathLike[str],
    form: MeasuredForm = "auto",
    structures: str | os.PathLike[str] | None = None,
    left_out: list[LeftOut] | None = None,
    values: bool = True,
) -> Iterator[MeasuredProtein]:
    """Read measured mutations, one protein after the other; mutants of the same sequence are averaged.

    Forms of tables (CSV, also gzipped):

    - `megascale`: aa_seq, mut_type (`wt`, `A12G`, several joined by `:`), WT_name, ddG_ML. Rows without a value (`-`),
      insertions and deletions are ignored. Rows may be in any order.
    - `proteingym`: mutant, mutated_sequence, DMS_score; one protein per file, named after the file. Files of insertions
      and deletions, whose mutants are sequences, are passed over with a warning.
    - `ddg`: pdb_id, chain, pre, pos (residue number of the structure file, with insertion code), post, and ddG or
      ddG_experimental (kcal/mol, positive = destabilising).

    `path` is a table or a folder of tables (`*.csv`, `*.csv.gz`); "auto" recognises the form of each by its columns.
    `structures` is a folder with `<pdb_id>_<chain>` or `<pdb_id>` (any case) as PDB or mmCIF, for the form `ddg`.
    `left_out` receives the rows that cannot be used, with the reason; without it, a warning counts them. Without
    `values`, ProteinGym's clinical files, which have no DMS_score, are read too; their loss is NaN. InputError if a
    file is missing, has other columns or no usable row, a value is not a number, or rows contradict each other.
    """
    file_of: dict[str, Path] = {}  # protein -> file
    files = _tables(Path(path))
    for file in files:
        dropped: list[LeftOut] = []
        found = _form(file) if form == "auto" else form
        if found == "proteingym" and _has_sequences(file):
            why = "its mutants are sequences, as in ProteinGym's files of insertions and deletions, which have no score"
            require(len(files) > 1, f"{file}: {why}; give a file of substitutions")
            warnings.warn(f"{file} is passed over: {why}", InputWarning, stacklevel=2)
            continue
        if found == "ddg":
            proteins = _read_ddg(file, dropped, structures)
        elif found == "megascale":
            proteins = _read_megascale(file, dropped)
        else:
            proteins = _read_proteingym(file, dropped, values)
        for protein in proteins:
            former = file_of.setdefault(protein.name, file)
            require(former == file, f"{file}: protein {protein.name} is also in {former}; rename one")
            yield protein
        why = f" (line {dropped[0].line}: {dropped[0].reason})" if dropped else ""
        require(file in file_of.values(), f"{file}: no usable mutation of the form {found}{why}; give another table")
        if left_out is not None:
            left_out += dropped
        elif dropped:
            warnings.warn(
                f"{file}: rows left out: {len(dropped)}; the first is line {dropped[0].line}, {dropped[0].mutant}: "
                f"{dropped[0].reason}",
                InputWarning,
                stacklevel=2,
            )
    require(file_of, f"{path}: no table of substitutions; give another folder")


def _read_megascale(path: Path, left_out: list[LeftOut]) -> Iterator[MeasuredProtein]:
    wild_types: dict[str, str] = {}
    kept = []
    for piece in _pieces(path, "megascale", "ddG_ML"):
        is_wild_type = piece["mut_type"] == "wt"
        for name, sequence in piece.loc[is_wild_type, ["WT_name", "aa_seq"]].itertuples(index=False):
            wild_types.setdefault(name, sequence)
        substituted = ~piece["mut_type"].str.contains(r"(?:^|:)(?:ins|del)", regex=True)
        kept.append(piece[piece["loss"].notna() & substituted & ~is_wild_type])
    for key, table in pd.concat(kept).groupby("WT_name", sort=False):
        rows = table[["mut_type", "mut_type", "aa_seq", "loss"]].itertuples(name=None)
        yield from _average(path, str(key), wild_types.get(str(key)), rows, left_out)


def _read_proteingym(path: Path, left_out: list[LeftOut], values: bool) -> Iterator[MeasuredProtein]:
    name = path.name.removesuffix(".gz").removesuffix(".csv")
    columns = ["mutant", "mutant", "mutated_sequence", "loss"]
    values = values or "DMS_score" in _header(path)
    pieces = _pieces(path, "proteingym", "DMS_score" if values else None)
    rows = chain.from_iterable(piece[columns].itertuples(name=None) for piece in pieces)
    yield from _average(path, name, None, rows, left_out, strict=True, values=values)


def _has_sequences(path: Path) -> bool:
    """Whether the mutants of a ProteinGym file are whole sequences."""
    rows = next(csv_pieces(path, nrows=ROWS_OF_FORM))
    return "mutant" in rows and len(rows) > 0 and not rows["mutant"].str.contains(r"\d").any()


def _read_ddg(
    path: Path, left_out: list[LeftOut], structures: str | os.PathLike[str] | None
) -> Iterator[MeasuredProtein]:
    from data_prepare.structure.readers import is_structure_file

    if structures is None:
        raise InputError(f"{path}: its residue numbers are those of structure files; give their folder (--structures)")
    folder = Path(structures)
    require(folder.is_dir(), f"{folder}: no such folder of structures")
    files = {stem(file).lower(): file for file in sorted(folder.iterdir()) if is_structure_file(file)}
    measurement = next((column for column in _header(path) if column in DDG_COLUMNS), DDG_COLUMNS[0])
    table = pd.concat(_pieces(path, "ddg", measurement))
    for (pdb_id, chain_id), own in table.groupby(["pdb_id", "chain"], sort=False):
        name, sequence, problem = f"{pdb_id}_{chain_id}", "", ""
        positions: dict[str, int] = {}
        try:
            sequence, positions = _chain_positions(files, str(pdb_id), str(chain_id))
        except InputError as error:
            problem = str(error)
        rows: list[Row] = []
        for index, old, number, new, loss in own[["pre", "pos", "post", "loss"]].itertuples(name=None):
            mutant = f"{old}{number}{new}"
            position = positions.get(number.strip().upper(), 0)
            found = sequence[position - 1] if position else "absent"
            if found == old:
                rows.append((index, mutant, f"{old}{position}{new}", None, loss))
            else:
                reason = problem or f"residue {number} of chain {chain_id} of the structure is {found}, not {old}"
                left_out.append(LeftOut(str(path), index + 2, name, mutant, reason))
        yield from _average(path, name, sequence, rows, left_out)


def _average(
    path: Path,
    name: str,
    wild_type: str | None,
    rows: Iterable[Row],
    left_out: list[LeftOut],
    strict: bool = False,
    values: bool = True,
) -> Iterator[MeasuredProtein]:
    """The protein of some rows, mutants of one sequence averaged; nothing if no row can be used.

    Without a wild type, it follows from the first mutant. With `strict`, a mutant that does not fit raises InputError.
    With `values`, a row without a loss is left out.
    """
    protein = None
    losses: dict[str, tuple[str, list[float]]] = {}  # sequence -> first label, values
    for index, mutant, label, expected, loss in rows:
        reason = "no value" if values and np.isnan(loss) else ""
        try:
            if protein is None:
                undo = ":".join(f"{new}{number}{old}" for old, number, new in parse_mutation(label))
                protein = WildType(wild_type or apply_mutation(str(expected), undo))
            changes = protein.read(label)
            letters = {*changes.values(), *(protein.tokens[token] for token in changes)}
            require(changes and letters <= set(AMINO_ACIDS), f"{label} does not exchange some of the 20 amino acids")
            sequence = protein.mutated(changes)
            require(expected in (None, sequence), f"its sequence is not the wild type with {label}")
        except InputError as error:
            if strict:
                where = f"{path}, line {index + 2}, mutant {mutant}"
                raise InputError(f"{where}: {error}; all rows must be mutants of one wild type") from None
            reason = str(error)
        if reason:
            left_out.append(LeftOut(str(path), index + 2, name, mutant, reason))
        else:
            losses.setdefault(sequence, (label, []))[1].append(loss)
    if protein and losses:
        labels, of_each = zip(*losses.values(), strict=True)
        yield MeasuredProtein(name, protein.sequence, list(labels), np.array([np.mean(own) for own in of_each]))


def _chain_positions(files: dict[str, Path], pdb_id: str, chain_id: str) -> tuple[str, dict[str, int]]:
    """Sequence of a chain, and residue number with insertion code -> position in it, from 1.

    The sequence includes declared unresolved residues and joins segments with the same chain id. A residue number used
    only once may be given without its insertion code.
    """
    from data_prepare.structure.readers import read_topology

    path = files.get(f"{pdb_id}_{chain_id}".lower()) or files.get(pdb_id.lower())
    if path is None:
        raise InputError(f"no structure {pdb_id}_{chain_id} or {pdb_id} in the folder")
    topology = read_topology(path).protein.select_chains([chain_id])
    sequences, indices = topology.full_sequences()
    positions: dict[str, int] = {}
    counts = Counter(topology.residue_numbers.tolist())
    for number, code, index in zip(topology.residue_numbers.tolist(), topology.insertion_codes, indices, strict=True):
        positions.setdefault(f"{number}{code.upper()}", int(index) + 1)
        if counts[number] == 1:
            positions.setdefault(str(number), int(index) + 1)
    return "".join(sequences), positions


def _tables(path: Path) -> list[Path]:
    """The file itself, or the tables of a folder."""
    require(path.exists(), f"{path}: no such file or folder of measured mutations")
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.name.lower().endswith((".csv", ".csv.gz")))
    require(files, f"{path}: no .csv or .csv.gz in this folder")
    return files


def _form(path: Path) -> str:
    header = _header(path)
    for form, columns in COLUMNS.items():
        if set(columns) <= set(header):
            return form
    forms = "; ".join(f"{form} has {', '.join(columns)}" for form, columns in COLUMNS.items())
    raise InputError(f"{path}: columns {', '.join(header)} fit no known form ({forms})")


def _header(path: Path) -> list[str]:
    return [column for piece in csv_pieces(path, nrows=0) for column in piece.columns]


def _pieces(path: Path, form: str, measurement: str | None) -> Iterator[pd.DataFrame]:
    """Columns of a table as text, and `loss`, NaN for no value; the index is that of `csv_pieces`."""
    columns = list(dict.fromkeys([*COLUMNS[form], *filter(None, [measurement])]))
    absent = sorted(set(columns) - set(_header(path)))
    require(not absent, f"{path}: missing columns: {', '.join(absent)}; expected {', '.join(columns)}")
    with tqdm(desc=path.name, unit="row", unit_scale=True, delay=2.0) as bar:
        for piece in csv_pieces(path, chunksize=ROWS_PER_PIECE, usecols=columns):
            piece["loss"] = SIGN[form] * read_numbers(path, piece[measurement]) if measurement else np.nan
            bar.update(len(piece))
            yield piece
    require(bar.n, f"{path}: contains no rows")
