"""Naive baselines: how often an amino acid, a DSSP class, or both together exchange in the training labels."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prepare.errors import InputError
from data_prepare.files import read_text_table
from model.dyna1.data import AnnotatedProtein
from model.network.tokenizer import TOKEN_ID

# 0 strand, 1 coil, 2 helix, as in the published files; -1 unknown
CLASS_OF_DSSP: Final = {"E": 0, "B": 0, "H": 2, "G": 2, "I": 2, "?": -1} | dict.fromkeys("CTSP- ", 1)
# baseline -> columns of its published file, probs_<columns>.csv
BASELINES: Final = {"amino acid": ("token",), "DSSP": ("dssp",), "amino acid + DSSP": ("token", "dssp")}

Dssp = Mapping[str, NDArray[np.int64]]  # entry -> (L,) number of the class
Key = tuple[int, ...]  # of a residue: token id, class, or both


@dataclass(frozen=True)
class Baseline:
    """Probability of exchange of a kind of residue."""

    name: str
    columns: tuple[str, ...]  # what tells the kind: token, dssp or both
    probability: Mapping[Key, float]
    otherwise: float  # of kinds that the training labels lack
    of_amino_acid: Mapping[Key, float] = field(default_factory=dict)  # before that: of the amino acid of such a kind

    def scores(self, protein: AnnotatedProtein, dssp: Dssp) -> NDArray[np.float64]:
        """Probabilities (L,) of a protein; its class per residue is needed unless the name is amino acid."""
        kinds = keys(self.columns, protein, dssp)
        return np.array([self.probability.get(key, self.of_amino_acid.get(key[:1], self.otherwise)) for key in kinds])


def keys(columns: Sequence[str], protein: AnnotatedProtein, dssp: Dssp) -> list[Key]:
    """Kind of each residue."""
    numbers = {"token": lambda: [TOKEN_ID[residue] for residue in protein.sequence], "dssp": lambda: dssp[protein.name]}
    return [tuple(map(int, key)) for key in zip(*(numbers[column]() for column in columns), strict=True)]


def fit_baselines(proteins: Sequence[AnnotatedProtein], dssp: Dssp) -> list[Baseline]:
    """Share of positives among the evaluated residues of each kind.

    Baselines with DSSP classes are fitted on the proteins that have them, and left out where none has. A pair of amino
    acid and class that the labels lack has the share of its amino acid.

    Raises
    ------
    InputError
        There is no protein.
    """
    if not proteins:
        raise InputError("no protein to fit baselines on; give a training table")
    fitted: list[Baseline] = []
    for name, columns in BASELINES.items():
        used = [protein for protein in proteins if "dssp" not in columns or protein.name in dssp]
        if not used:
            continue
        count: Counter[Key] = Counter()
        positives: Counter[Key] = Counter()
        for protein in used:
            for key, target in zip(keys(columns, protein, dssp), protein.target.tolist(), strict=True):
                count[key] += target >= 0
                positives[key] += target == 1
        rates = {key: positives[key] / number for key, number in count.items() if number}
        # the first one fitted is that of amino acids
        fallback = fitted[0].probability if columns == ("token", "dssp") else {}
        fitted.append(Baseline(name, columns, rates, positives.total() / count.total(), fallback))
    return fitted


def read_baselines(folder: Path) -> list[Baseline]:
    """Read the published form: probs_aa.csv, probs_dssp.csv and probs_aa_dssp.csv, those that the folder has.

    Columns `token` (id of ESM2's alphabet), `dssp` (0 strand, 1 coil, 2 helix) and `target` (probability).

    Raises
    ------
    InputError
        There is none, or one cannot be read.
    """
    short = {"token": "aa", "dssp": "dssp"}
    found = []
    for name, columns in BASELINES.items():
        path = folder / f"probs_{'_'.join(short[column] for column in columns)}.csv"
        if not path.is_file():
            continue
        table = read_text_table(path, [*columns, "target"])
        try:
            kinds = [tuple(map(int, map(float, row))) for row in table[list(columns)].itertuples(index=False)]
            values = table["target"].astype(float).tolist()
        except (ValueError, OverflowError) as error:  # the latter: int of inf
            raise InputError(f"{path}: {error}; expected numbers") from None
        if not kinds or not all(0 <= value <= 1 for value in values):
            raise InputError(f"{path}: column target: expected probabilities between 0 and 1")
        found.append(Baseline(name, columns, dict(zip(kinds, values, strict=True)), float(np.mean(values))))
    if not found:
        raise InputError(f"{folder}: no probs_aa.csv, probs_dssp.csv or probs_aa_dssp.csv")
    return found


def read_dssp(path: Path, proteins: Sequence[AnnotatedProtein]) -> dict[str, NDArray[np.int64]]:
    """DSSP class of each residue of the proteins, from the column `dssp` of a CSV table or a column-oriented JSON.

    Parameters
    ----------
    path
        Has entry_ID and perhaps dssp: one letter per residue (E, B strand; H, G, I helix; C, T, S, P, - coil; ?
        unknown, a class of its own), empty, null or NaN where it is unknown of the whole entry.
    proteins
        Those that are asked for.

    Returns
    -------
    Entry -> (L,) classes, -1 where unknown; empty if the file has no such column.

    Raises
    ------
    InputError
        A value is no text, a letter is unknown, or the number of letters is not that of the residues.
    """
    if path.suffix == ".json":
        columns = json.loads(path.read_text())
        rows = columns.get("dssp") or {}
        names = columns.get("entry_ID")
        if not isinstance(rows, dict) or not isinstance(names, dict) or not set(rows) <= set(names):
            raise InputError(f"{path}: dssp does not have the rows of entry_ID; write both as columns of one table")
        letters = {str(names[row]): text for row, text in rows.items() if text not in (None, "") and text == text}
        for name, text in letters.items():  # without NaN, which is not equal to itself
            if not isinstance(text, str):
                raise InputError(f"{path}: entry {name}: dssp is {text!r}; expected one letter per residue or null")
    else:
        header = pd.read_csv(path, nrows=0).columns
        if "dssp" not in header:
            return {}
        table = read_text_table(path, ["entry_ID", "dssp"])
        letters = {name: text for name, text in zip(table["entry_ID"], table["dssp"], strict=True) if text}
    result = {}
    for protein in proteins:
        if (text := letters.get(protein.name)) is None:
            continue
        if unknown := sorted(set(text) - set(CLASS_OF_DSSP)):
            known = " ".join(CLASS_OF_DSSP)
            raise InputError(f"{path}: entry {protein.name}: DSSP letter {''.join(unknown)!r}; known are {known}")
        if len(text) != len(protein.sequence):
            raise InputError(
                f"{path}: entry {protein.name}: {len(text)} DSSP letters for {len(protein.sequence)} residues"
            )
        result[protein.name] = np.array([CLASS_OF_DSSP[letter] for letter in text])
    return result
