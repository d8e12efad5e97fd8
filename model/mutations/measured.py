"""Measured effects of mutations: the mega-scale stability set, ProteinGym, and tables of ddG beside structures.

Each form declares the sign of its measurement here, so that `loss` grows with the loss of stability or fitness in all.

Sources: Tsuboyama et al., Nature 2023 (doi 10.1038/s41586-023-06328-6); Notin et al., ProteinGym, NeurIPS 2023.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from data_prepare.errors import InputError, InputWarning
from data_prepare.files import csv_pieces
from model.inference.inputs import RESIDUE_LETTERS
from model.mutations.substitution import Mutants, apply_mutation
from model.network.tokenizer import AMINO_ACIDS

Form = Literal["auto", "megascale", "proteingym", "ddg"]

# columns that a table of each form has
COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "megascale": ("aa_seq", "mut_type", "WT_name", "ddG_ML"),
    "proteingym": ("mutant", "mutated_sequence", "DMS_score"),
    "ddg": ("pdb_id", "chain", "pre", "pos", "post"),
}
DDG_COLUMNS: Final = ("ddG", "ddG_experimental")  # of the form "ddg", one of these
# of measurement -> loss: ddG_ML is positive for a more stable mutant, DMS_score for a fitter, ddG for a less stable one
SIGN: Final = {"megascale": -1.0, "proteingym": -1.0, "ddg": 1.0}

NO_VALUE: Final = ("", "-", "nan", "NaN", "NA")
ROWS_PER_PIECE: Final = 100_000  # of a table read at once

_SUBSTITUTION: Final = re.compile(rf"([{AMINO_ACIDS}])([1-9]\d*)([{AMINO_ACIDS}])")


@dataclass(frozen=True)
class MeasuredProtein:
    """Measured mutants of one protein.

    Attributes
    ----------
    name
        Of the protein; differs between the proteins of a data set.
    wild_type
        Sequence of one chain.
    mutants
        Labels such as `A12G` or `A12G:K5R`, positions from 1 in `wild_type`; no sequence twice, no wild type.
    loss
        (mutants,) float64, in the units of the measurement; positive = less stable or less fit than the wild type
        (DMS scores are relative to nothing: only their order means something).
    """

    name: str
    wild_type: str
    mutants: list[str]
    loss: NDArray[np.float64]


class LeftOut(NamedTuple):
    """A row that cannot be used."""

    file: str
    line: int  # of the file, the header is line 1
    protein: str
    mutant: str  # as the file names it
    reason: str


class Substitution(NamedTuple):
    """One exchanged residue."""

    old: str
    position: int  # from 1
    new: str


def read_measured(
    path: str | os.PathLike[str],
    form: Form = "auto",
    structures: str | os.PathLike[str] | None = None,
    left_out: list[LeftOut] | None = None,
) -> Iterator[MeasuredProtein]:
    """Read measured mutations, one protein after the other.

    Forms of tables (CSV, also gzipped):

    - `megascale`: aa_seq, mut_type (`wt`, `A12G`, several joined by `:`), WT_name, ddG_ML. Rows without a value (`-`),
      insertions and deletions are passed over. Rows of a protein may stand anywhere in the file.
    - `proteingym`: mutant, mutated_sequence, DMS_score; one protein a file, named as the file.
    - `ddg`: pdb_id, chain, pre, pos (residue number of the structure file, with insertion code), post, and ddG or
      ddG_experimental (kcal/mol, positive = destabilising).

    Mutants of the same sequence are averaged.

    Parameters
    ----------
    path
        A table, or a folder of tables (`*.csv`, `*.csv.gz`).
    form
        "auto" tells the form of each table by its columns.
    structures
        Folder with `<pdb_id>_<chain>` or `<pdb_id>` (any case) as PDB or mmCIF, for the form `ddg`.
    left_out
        Takes the rows that cannot be used, with the reason. Without it, a warning counts them.

    Yields
    ------
    MeasuredProtein

    Raises
    ------
    InputError
        A file is missing, has other columns or no usable row, a value is not a number, or rows contradict each other.
    """
    if form != "auto" and form not in COLUMNS:
        raise InputError(f"form {form!r} is not known; use auto, {', '.join(COLUMNS)}")
    path = Path(path)
    file_of: dict[str, Path] = {}  # protein -> file
    for file in _tables(path):
        dropped: list[LeftOut] = []
        found = form if form != "auto" else _form(file)
        usable = 0
        if found == "megascale":
            proteins = _read_megascale(file, dropped)
        elif found == "proteingym":
            proteins = _read_proteingym(file, dropped)
        else:
            proteins = _read_ddg(file, dropped, structures)
        for protein in proteins:
            if protein.name in file_of:
                raise InputError(f"{file}: protein {protein.name} is also in {file_of[protein.name]}; rename one")
            file_of[protein.name] = file
            usable += 1
            yield protein
        if not usable:
            why = f" (line {dropped[0].line}: {dropped[0].reason})" if dropped else ""
            raise InputError(f"{file}: no measured mutation that can be used{why}; give a table of the form {found}")
        if left_out is not None:
            left_out += dropped
        elif dropped:
            warnings.warn(
                f"{file}: {len(dropped)} rows cannot be used and are left out; the first is line {dropped[0].line}, "
                f"{dropped[0].mutant}: {dropped[0].reason}",
                InputWarning,
                stacklevel=2,
            )


def substitutions(label: str) -> list[Substitution]:
    """Take a label such as `A12G:K5R` apart.

    Raises
    ------
    InputError
        It has another form, or is not between two of the 20 amino acids.
    """
    parts = []
    for part in label.split(":"):
        match = _SUBSTITUTION.fullmatch(part)
        if not match:
            raise InputError(f"mutation {label!r}: {part!r} is not of the form A12G, between two of the 20 amino acids")
        parts.append(Substitution(match[1], int(match[2]), match[3]))
    return parts


class _Collector:
    """Mutants of one protein; those of one sequence are averaged."""

    def __init__(self, name: str, wild_type: str) -> None:
        if unknown := set(wild_type) - RESIDUE_LETTERS:
            raise InputError(f"the wild type holds {' '.join(sorted(unknown))}, which is no residue")
        self.name, self.wild_type = name, wild_type
        self._mutants = Mutants(wild_type)
        self._rows: dict[str, tuple[str, list[float]]] = {}  # sequence -> first label, values

    def add(self, label: str, value: float, expected: str | None = None) -> None:
        """Take a mutant; InputError if it does not fit the wild type or `expected`, the sequence that the file has."""
        substitutions(label)
        self._mutants.add(label)
        sequence = self._mutants.sequence(len(self._mutants) - 1)
        if expected is not None and sequence != expected:
            raise InputError(f"its sequence is not the wild type with {label}")
        self._rows.setdefault(sequence, (label, []))[1].append(value)

    def protein(self) -> Iterator[MeasuredProtein]:
        """The protein, or nothing if it has no mutant."""
        if self._rows:
            labels, values = zip(*self._rows.values(), strict=True)
            yield MeasuredProtein(self.name, self.wild_type, list(labels), np.array([np.mean(v) for v in values]))


def _read_megascale(path: Path, left_out: list[LeftOut]) -> Iterator[MeasuredProtein]:
    wild_types: dict[str, str] = {}
    kept = []
    for piece in _pieces(path, COLUMNS["megascale"]):
        is_wild_type = piece["mut_type"] == "wt"
        for name, sequence in piece.loc[is_wild_type, ["WT_name", "aa_seq"]].itertuples(index=False):
            wild_types.setdefault(name, sequence)
        piece["loss"] = SIGN["megascale"] * _numbers(path, piece["ddG_ML"])
        substituted = ~piece["mut_type"].str.contains(r"(?:^|:)(?:ins|del)", regex=True)
        rows = piece[piece["loss"].notna() & substituted & ~is_wild_type]
        kept.append(rows.drop(columns="ddG_ML"))
    for key, rows in pd.concat(kept).groupby("WT_name", sort=False):
        name = str(key)
        columns = rows[["mut_type", "aa_seq", "loss"]].itertuples(name=None)
        protein = None
        for row, label, sequence, loss in columns:
            try:
                protein = protein or _Collector(name, wild_types.get(name) or _undo(sequence, label))
                protein.add(label, loss, sequence)
            except InputError as error:
                left_out.append(LeftOut(str(path), _line(row), name, label, str(error)))
        if protein:
            yield from protein.protein()


def _read_proteingym(path: Path, left_out: list[LeftOut]) -> Iterator[MeasuredProtein]:
    name = path.name.removesuffix(".gz").removesuffix(".csv")
    protein = None
    for piece in _pieces(path, COLUMNS["proteingym"]):
        losses = SIGN["proteingym"] * _numbers(path, piece["DMS_score"])
        rows = piece[["mutant", "mutated_sequence"]].itertuples(name=None)
        for (row, label, sequence), loss in zip(rows, losses, strict=True):
            try:
                protein = protein or _Collector(name, _undo(sequence, label))
                if np.isnan(loss):
                    left_out.append(LeftOut(str(path), _line(row), name, label, "no value"))
                else:
                    protein.add(label, loss, sequence)
            except InputError as error:
                raise InputError(
                    f"{path}, line {_line(row)}, mutant {label}: {error}; all rows must be mutants of one wild type"
                ) from None
    if protein:
        yield from protein.protein()


def _read_ddg(
    path: Path, left_out: list[LeftOut], structures: str | os.PathLike[str] | None
) -> Iterator[MeasuredProtein]:
    if structures is None:
        raise InputError(f"{path}: numbers its mutations as structure files do; name the folder of these (structures)")
    measurement = next((column for column in DDG_COLUMNS if column in _header(path)), DDG_COLUMNS[0])
    files = _structure_files(Path(structures))
    table = pd.concat(_pieces(path, (*COLUMNS["ddg"], measurement)))
    table["loss"] = SIGN["ddg"] * _numbers(path, table[measurement])
    for (pdb_id, chain), rows in table.groupby(["pdb_id", "chain"], sort=False):
        name = f"{pdb_id}_{chain}"
        protein, problem = None, ""
        positions: dict[str, int] = {}
        try:
            sequence, positions = _chain_positions(files, str(pdb_id), str(chain), Path(structures))
            protein = _Collector(name, sequence)
        except InputError as error:
            problem = str(error)
        for row, pre, number, post, loss in rows[["pre", "pos", "post", "loss"]].itertuples(name=None):
            try:
                if protein is None:
                    raise InputError(problem)
                if np.isnan(loss):
                    raise InputError("no value")
                position = positions.get(number.strip().upper())
                if position is None:
                    raise InputError(f"chain {chain} of the structure has no residue {number}")
                found = protein.wild_type[position - 1]
                if found != pre:
                    raise InputError(f"residue {number} of chain {chain} of the structure is {found}, not {pre}")
                protein.add(f"{pre}{position}{post}", loss)
            except InputError as error:
                left_out.append(LeftOut(str(path), _line(row), name, f"{pre}{number}{post}", str(error)))
        if protein:
            yield from protein.protein()


def _structure_files(folder: Path) -> dict[str, Path]:
    """Name in lower case, without suffixes -> structure file."""
    from data_prepare.structure.readers import is_structure_file

    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of structures")
    files = (path for path in sorted(folder.iterdir()) if is_structure_file(path))
    return {path.name.lower().removesuffix(".gz").rsplit(".", 1)[0]: path for path in files}


def _chain_positions(files: dict[str, Path], pdb_id: str, chain: str, folder: Path) -> tuple[str, dict[str, int]]:
    """Sequence of a chain, and residue number with insertion code -> position in it, from 1.

    Unresolved residues that the file declares are part of the sequence. Pieces of one chain id are joined. The number
    that a single residue has may also be written without its insertion code.
    """
    from data_prepare.structure.readers import read_topology

    names = (f"{pdb_id}_{chain}".lower(), pdb_id.lower())
    path = next((files[name] for name in names if name in files), None)
    if path is None:
        raise InputError(f"{folder} has no structure {pdb_id}_{chain} or {pdb_id}")
    topology = read_topology(path).protein.select_chains([chain])
    sequences, places = topology.full_sequences()
    positions: dict[str, int] = {}
    counts = Counter(topology.residue_numbers.tolist())
    for number, code, place in zip(topology.residue_numbers.tolist(), topology.insertion_codes, places, strict=True):
        positions.setdefault(f"{number}{code.upper()}", int(place) + 1)
        if counts[number] == 1:
            positions.setdefault(str(number), int(place) + 1)
    return "".join(sequences), positions


def _undo(sequence: str, label: str) -> str:
    """Wild type of a mutant."""
    return apply_mutation(sequence, ":".join(f"{new}{position}{old}" for old, position, new in substitutions(label)))


def _tables(path: Path) -> list[Path]:
    if not path.is_dir():
        if not path.is_file():
            raise InputError(f"{path}: no such file or folder of measured mutations")
        return [path]
    files = sorted(file for file in path.iterdir() if file.name.lower().endswith((".csv", ".csv.gz")))
    if not files:
        raise InputError(f"{path}: no .csv or .csv.gz in this folder")
    return files


def _form(path: Path) -> str:
    header = _header(path)
    for form, columns in COLUMNS.items():
        if set(columns) <= set(header):
            return form
    forms = "; ".join(f"{form} has {', '.join(columns)}" for form, columns in COLUMNS.items())
    raise InputError(f"{path}: columns {', '.join(header)} are of no known form ({forms})")


def _header(path: Path) -> list[str]:
    return [column for piece in csv_pieces(path, nrows=0) for column in piece.columns]


def _pieces(path: Path, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Columns of a table, as text, piece by piece; the index counts rows from 0."""
    header = _header(path)
    if absent := [column for column in columns if column not in header]:
        raise InputError(f"{path}: column {', '.join(absent)} is missing; expected {', '.join(columns)}")
    with tqdm(desc=path.name, unit="row", unit_scale=True, delay=2.0) as bar:
        for piece in csv_pieces(path, chunksize=ROWS_PER_PIECE, usecols=list(columns)):
            bar.update(len(piece))
            yield piece
    if not bar.n:
        raise InputError(f"{path}: has a header and no row")


def _numbers(path: Path, texts: pd.Series) -> NDArray[np.float64]:
    """Numbers of a column, NaN where there is no value."""
    texts = texts.str.strip()
    values = pd.to_numeric(texts, errors="coerce").to_numpy(np.float64)
    wrong = np.flatnonzero(~np.isfinite(values) & ~texts.isin(NO_VALUE).to_numpy())
    if wrong.size:
        row = int(texts.index[wrong[0]])
        raise InputError(f"{path}, line {_line(row)}: {texts.name} is {texts.loc[row]!r}, not a number; mend the row")
    return values


def _line(row: object) -> int:
    """Line of the file; rows count from 0 behind the header."""
    return int(str(row)) + 2
