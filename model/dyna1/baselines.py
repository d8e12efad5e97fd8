"""Naive baselines: how often an amino acid, a DSSP class, or both together exchange in the training annotations.

Also properties of residues that RelaxDB lists: conservation, pLDDT, SASA.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import reading, require, shown
from data_prepare.files import read_text_table
from data_prepare.nmr.relaxdb import dssp_of, has_columns, read_columns, read_dssp_strings, without_field_strength
from model.dyna1.data import AnnotatedProtein
from model.network.tokenizer import TOKEN_ID

# 0 strand, 1 coil, 2 helix, as in the published files; -1 unknown
CLASS_OF_DSSP: Final = {"E": 0, "B": 0, "H": 2, "G": 2, "I": 2, "?": -1} | dict.fromkeys("CTSP- ", 1)
# baseline -> (published file, its columns)
BASELINES: Final = {
    "amino acid": ("probs_aa.csv", ("token",)),
    "DSSP": ("probs_dssp.csv", ("dssp",)),
    "amino acid + DSSP": ("probs_aa_dssp.csv", ("token", "dssp")),
}

# baseline -> (column of RelaxDB_with_other_metrics, sign): which end of the column the baseline ranks first
PROPERTIES: Final = {
    "high conservation": ("cons_BLOSUM62", 1),
    "low pLDDT": ("pLDDT", -1),
    "low SASA": ("SASA", -1),
}

Dssp = Mapping[str, NDArray[np.int64]]  # entry -> (L,) class
Kind = tuple[int, ...]  # of a residue: token id, DSSP class, or both


@dataclass(frozen=True)
class ExchangeRates:
    """Probability of exchange by kind of residue."""

    name: str
    columns: tuple[str, ...]  # token, dssp or both
    of_kind: Mapping[Kind, float]
    overall: float  # for kinds that the training annotations lack
    of_amino_acid: Mapping[Kind, float] = field(default_factory=dict)  # preferred to `overall` for such a kind

    def scores(self, protein: AnnotatedProtein, dssp: Dssp) -> NDArray[np.float64]:
        """Probabilities (L,) of a protein; requires its DSSP classes if they are among `columns`."""
        kinds = residue_kinds(self.columns, protein, dssp)
        return np.array([self.of_kind.get(kind, self.of_amino_acid.get(kind[:1], self.overall)) for kind in kinds])


def residue_kinds(columns: Sequence[str], protein: AnnotatedProtein, dssp: Dssp) -> list[Kind]:
    """Kind of each residue."""
    values = {"token": [TOKEN_ID[residue] for residue in protein.sequence]}
    if "dssp" in columns:
        values["dssp"] = dssp[protein.name].tolist()
    return list(zip(*(values[column] for column in columns), strict=True))


def fit_baselines(proteins: Sequence[AnnotatedProtein], dssp: Dssp) -> list[ExchangeRates]:
    """Fraction of positives among the evaluated residues of each kind.

    Baselines with DSSP classes are fitted on the proteins that have them, if any. A pair of amino acid and class that
    the annotations lack gets the fraction of its amino acid.
    """
    fitted: list[ExchangeRates] = []
    for name, (_, columns) in BASELINES.items():
        used = [protein for protein in proteins if "dssp" not in columns or protein.name in dssp]
        residues = [
            (kind, target)
            for protein in used
            for kind, target in zip(residue_kinds(columns, protein, dssp), protein.target.tolist(), strict=True)
            if target >= 0
        ]
        if residues:
            count = Counter(kind for kind, _ in residues)
            positives = Counter(kind for kind, target in residues if target == 1)
            of_kind = {kind: positives[kind] / number for kind, number in count.items()}
            of_amino_acid = fitted[0].of_kind if columns == ("token", "dssp") else {}
            fitted.append(ExchangeRates(name, columns, of_kind, positives.total() / count.total(), of_amino_acid))
    return fitted


def read_baselines(folder: Path) -> list[ExchangeRates]:
    """Read the published probs_aa.csv, probs_dssp.csv and probs_aa_dssp.csv; InputError if the folder has none.

    Columns `token` (id of ESM2's alphabet), `dssp` (0 strand, 1 coil, 2 helix) and `target` (probability).
    """
    found = []
    for name, (file, columns) in BASELINES.items():
        path = folder / file
        if path.is_file():
            table = read_text_table(path, [*columns, "target"])
            with reading(path, "a table of numbers"):
                kinds = [tuple(map(int, map(float, row))) for row in table[list(columns)].itertuples(index=False)]
                values = table["target"].astype(float)
            valid = len(values) and values.between(0, 1).all()
            require(valid, f"{path}: column target: expected probabilities from 0 to 1")
            of_kind = dict(zip(kinds, values.tolist(), strict=True))
            found.append(ExchangeRates(name, columns, of_kind, float(values.mean())))
    files = ", ".join(file for file, _ in BASELINES.values())
    require(found, f"{folder}: contains none of {files}; give the folder that contains them")
    return found


def read_dssp(path: Path, proteins: Sequence[AnnotatedProtein]) -> dict[str, NDArray[np.int64]]:
    """DSSP class of each residue of the proteins, from the column `dssp` or `DSSP` of a file of `read_dssp_strings`.

    It has one letter per residue (E, B strand; H, G, I helix; C, T, S, P, - coil; ? unknown) and is empty, null or NaN
    if unknown for the whole entry; InputError otherwise. Of several rows of an entry the last one of its length counts.
    Returns entry -> (L,) classes, -1 where unknown; empty if the file has no such column.
    """
    texts, classes = read_dssp_strings(path), {}
    for protein in proteins:
        n = len(protein.sequence)
        text = dssp_of(texts, protein.name, n)
        if text is None:
            continue
        where = f"{path}: entry {protein.name}: DSSP is {shown(text)}"
        known = isinstance(text, str) and set(text) <= set(CLASS_OF_DSSP)
        require(known, f"{where}; expected one letter of {' '.join(CLASS_OF_DSSP)} per residue")
        require(len(text) == n, f"{where}, {len(text)} letters for {n} residues; write one letter per residue")
        classes[protein.name] = np.array([CLASS_OF_DSSP[letter] for letter in text])
    return classes


def read_properties(path: Path, proteins: Sequence[AnnotatedProtein]) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Baseline -> entry -> scores (L,) of the `PROPERTIES` that a JSON of columns has; empty for other files.

    A residue without a value gets the mean of its protein, which ranks it neither high nor low (0 without any value).
    """
    columns = read_columns(path) if has_columns(path) else {}
    scores: dict[str, dict[str, NDArray[np.float64]]] = {}
    for baseline, (column, sign) in PROPERTIES.items():
        if column not in columns:
            continue
        rows = {str(name): columns[column].get(row) for row, name in columns["entry_ID"].items()}
        scores[baseline] = {}
        for protein in proteins:
            where = f"{path}: entry {protein.name}: {column}"
            with reading(where, "a list of numbers"):
                found: Any = rows.get(protein.name, rows.get(without_field_strength(protein.name)))
                values = np.array([np.nan if value is None else value for value in found], np.float64)
            n = len(protein.sequence)
            require(values.shape == (n,), f"{where} has {len(values)} values for {n} residues; write one per residue")
            known = np.isfinite(values)
            values[~known] = values[known].mean() if known.any() else 0.0
            scores[baseline][protein.name] = sign * values
    return scores


def sampled(scores: Mapping[str, NDArray[np.float64]], seed: int) -> dict[str, NDArray[np.float64]]:
    """Entry -> (L,) of 0 and 1, drawn with these probabilities, as the published evaluation of the baselines does."""
    random = np.random.default_rng(seed)
    return {name: (random.random(len(p)) < p).astype(np.float64) for name, p in scores.items()}
