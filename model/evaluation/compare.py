"""Two measurements or predictions of one protein side by side: how well each property agrees.

Residues are matched by an alignment of the sequences, chain by chain. Pairs of residues are unordered, at least
`SEPARATION` apart in their chain or in different chains; both directions of an interaction are added, those of a
correlation averaged.

- Pearson's and Spearman's correlation and the root mean square error (RMSE, in the unit of the property) are over
  residues or pairs.
- The Jensen-Shannon divergence of two distributions p and q, of DSSP states or bins of an angle, is
  H((p + q) / 2) - (H(p) + H(q)) / 2 with the entropy H in bits, 0 (equal) to 1 (disjoint) (Lin, IEEE Trans. Inf. Theory
  37:145, 1991); the table has its mean over residues.
- Contacts are frequent with at least `FREQUENT` contacts per frame. The average precision is that of the frequent pairs
  of the first when all pairs are ranked by the second (`metrics.average_precision`); the overlap is the Jaccard index
  of the frequent pairs of both.
- Convergence: the same metrics between the replicas of one side or the two halves of its trajectory (mean over pairs of
  replicas), in the columns `within_a_` and `within_b_`. Where the sides agree as well as each does within itself,
  sampling limits the agreement (Grossfield and Zuckerman, Annu. Rep. Comput. Chem. 5:23, 2009). Halves have half of the
  frames and understate it.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon

from data_prepare.errors import InputWarning, require
from data_prepare.properties import DSSP_STATES, INTERACTIONS, PAIR_CHANNELS, RESIDUE_COLUMNS, UNITS
from model.choices import FREQUENT, SEPARATION
from model.evaluation.measurement import Measurement, read_measurement
from model.evaluation.metrics import average_precision, pearson, spearman
from model.inference.prediction_files import Properties

FEWEST_RESIDUES: Final = 3
SAME_PROTEIN: Final = 0.9  # identity of the matched residues, below which a warning names it
LEAST_IDENTITY: Final = 0.5
CONTACTS: Final = "contacts"  # sum of the interactions
SIGNIFICANT_DIGITS: Final = 5  # of contacts per frame
DISTRIBUTIONS: Final = ("ss", "chi", "phi", "psi")
SCALARS: Final = ("sasa_mean", "sasa_std", "rmsf", "rmsf_nor", "nma_res1", "nma_res2", "nma_res3")
ORDER: Final = (*SCALARS, *DISTRIBUTIONS, CONTACTS, *PAIR_CHANNELS)  # of the rows
METRICS: Final = ("pearson", "spearman", "rmse", "jensen_shannon", "average_precision", "overlap")


@dataclass(frozen=True)
class Comparison:
    """Two sides with the same M residues, and how they agree."""

    first: Measurement
    second: Measurement
    table: pd.DataFrame  # a row per property
    residues: pd.DataFrame  # a row per residue
    separation: int  # of the pairs in the table


def compare(
    first: str | Measurement, second: str | Measurement, separation: int = SEPARATION, frequent: float = FREQUENT
) -> pd.DataFrame:
    """Compare two measurements or predictions of one protein; returns one row per property.

    Each side is "TOPOLOGY:TRAJECTORY" (replicas: "TOPOLOGY:X1,X2"), a multi-model PDB or mmCIF file, an entry
    "STORE.h5:NAME" of a feature store, the prefix of the files of MD_features.py (or "TOPOLOGY:PREFIX"), or a
    prediction, "NAME.npz" or "FILE.h5:NAME". `separation` is the least distance of a pair in its chain, `frequent` the
    contacts per frame of a frequent one.

    Columns: `property`, `unit`, `n` residues or pairs; `pearson`, `spearman` and `rmse`; of DSSP states and angles
    `jensen_shannon` instead, the mean divergence in bits; of contacts also `average_precision`, `overlap`, `frequent_a`
    and `frequent_b` (frequent pairs of each side); and the same metrics between the replicas of a side, or the halves
    of its trajectory, as `within_a_pearson`, `within_b_pearson`, ... InputError if the proteins differ or have no
    property in common; InputWarning that names properties of only one side.
    """
    one, other = (side if isinstance(side, Measurement) else read_measurement(side) for side in (first, second))
    return compare_measurements(one, other, separation, frequent).table


def compare_measurements(
    first: Measurement, second: Measurement, separation: int = SEPARATION, frequent: float = FREQUENT
) -> Comparison:
    """As `compare`, with the matched residues and a table of them."""
    rows = match_residues(first, second)
    left_out = [
        name
        for name in (*RESIDUE_COLUMNS, *PAIR_CHANNELS)
        for one, other in ((first, second), (second, first))
        if name in one.missing and (name in other.missing or name in other.properties)
    ]
    if left_out:
        names = ", ".join(dict.fromkeys(left_out))
        message = f"{first.name} and {second.name}: left out, because one of them lacks them: {names}"
        warnings.warn(message, InputWarning, stacklevel=2)
    first, second = first.select(rows[0]), second.select(rows[1])
    n = len(first.residue)
    far = np.abs(first.residue[:, None] - first.residue) >= separation
    far |= first.chain[:, None] != first.chain  # (M, M)
    pairs = np.nonzero(np.triu(far, 1))
    table = []
    for name, values in _agreement(first.properties, second.properties, pairs, frequent).items():
        table.append({"property": name, "unit": UNITS.get(name, UNITS["vdw"]), **values})
    require(table, f"{first.name} and {second.name}: no property in common; compare measurements of one kind")
    frame = pd.DataFrame(table).reindex(columns=["property", "unit", "n", *METRICS, "frequent_a", "frequent_b"])
    frame = frame.astype({"frequent_a": "Int64", "frequent_b": "Int64"}).set_index("property")
    for side, measurement in (("a", first), ("b", second)):
        for metric, column in _convergence(measurement, pairs, frequent).items():
            frame[f"within_{side}_{metric}"] = column
    residues = _residue_table(first, second, far & ~np.eye(n, dtype=bool))
    return Comparison(first, second, frame.reset_index(), residues, separation)


def match_residues(first: Measurement, second: Measurement) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows (M,) of the same residues in both, by alignments of the most similar chains.

    If a sequence is unknown, all residues in their order. InputError unless at least 3 residues match and half of them
    are identical; InputWarning if fewer than 90 % are.
    """
    names = f"{first.name} and {second.name}"
    if not first.sequences or not second.sequences:
        unknown = first.name if not first.sequences else second.name
        sizes = (len(first.residue), len(second.residue))
        remedy = "give its training --table, or TOPOLOGY:PREFIX"
        require(
            sizes[0] == sizes[1],
            f"{names}: {sizes[0]} and {sizes[1]} residues, sequence of {unknown} unknown; {remedy}",
        )
        warnings.warn(f"{unknown}: sequence unknown; residues are matched in their order", InputWarning, stacklevel=3)
        return np.arange(sizes[0]), np.arange(sizes[1])
    aligned = [
        (identical, -abs(a - b), a, b, places)
        for a, one in enumerate(first.sequences)
        for b, other in enumerate(second.sequences)
        for identical, places in [_align(one, other)]
    ]
    starts = [np.cumsum([0, *map(len, side.sequences)]) for side in (first, second)]
    partner: dict[int, NDArray[np.intp]] = {}
    used: set[int] = set()
    for _, _, a, b, places in sorted(aligned, key=lambda each: each[:2], reverse=True):
        if a not in partner and b not in used:
            partner[a] = places + np.array([starts[0][a], starts[1][b]])
            used.add(b)
    matched = np.concatenate([partner[a] for a in sorted(partner)])  # (matches, 2)
    with_data = np.isin(matched[:, 0], first.residue) & np.isin(matched[:, 1], second.residue)
    matched = matched[with_data]
    whole = ["".join(side.sequences) for side in (first, second)]
    identity = np.mean([whole[0][a] == whole[1][b] for a, b in matched]) if len(matched) else 0.0
    found = f"{len(matched)} residues match, {identity:.0%} of them identical"
    same = len(matched) >= FEWEST_RESIDUES and identity >= LEAST_IDENTITY
    require(same, f"{names}: {found}; compare measurements of one protein")
    if identity < SAME_PROTEIN:
        warnings.warn(f"{names}: {found}", InputWarning, stacklevel=3)
    return _rows(first.residue, matched[:, 0]), _rows(second.residue, matched[:, 1])


def _rows(residue: NDArray[np.intp], wanted: NDArray[np.intp]) -> NDArray[np.intp]:
    order = residue.argsort()
    return order[np.searchsorted(residue, wanted, sorter=order)]


def _align(first: str, second: str) -> tuple[int, NDArray[np.intp]]:
    """Number of identical residues, and the indices (matches, 2) of aligned ones."""
    import gemmi  # missing on some training machines

    alignment = gemmi.align_string_sequences(list(first), list(second), [], gemmi.AlignmentScoring())
    places: list[tuple[int, int]] = []
    a = b = 0
    for length, kind in re.findall(r"(\d+)([MID])", alignment.cigar_str()):
        step = int(length)
        if kind == "M":
            places += zip(range(a, a + step), range(b, b + step), strict=True)
        a, b = a + step * (kind != "D"), b + step * (kind != "I")
    return alignment.match_count, np.array(places, np.intp).reshape(-1, 2)


def pair_values(properties: Properties, name: str) -> NDArray[np.float64]:
    """Symmetric values (N, N) of pairs: contacts per frame in both directions, or the mean correlation."""
    if name != CONTACTS and name not in INTERACTIONS:
        values = properties[name].astype(np.float64)
        return (values + values.T) / 2
    names = [each for each in INTERACTIONS if each in properties and name in (each, CONTACTS)]
    total = np.sum([properties[each] for each in names], axis=0, dtype=np.float64)
    total += total.T
    # equal frequencies differ in the last digits when they are cubes of stored cube roots: they would not be ties
    digits = np.floor(np.log10(total, where=total > 0, out=np.zeros_like(total)))
    scale = 10 ** (SIGNIFICANT_DIGITS - 1 - digits)
    return np.round(total * scale) / scale


def divergence(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Jensen-Shannon divergence (N,) in bits of distributions (N, bins); NaN where one is NaN."""
    return jensenshannon(first.astype(np.float64), second.astype(np.float64), base=2, axis=1) ** 2


def _agreement(
    first: Properties, second: Properties, pairs: tuple[NDArray[np.intp], ...], frequent: float
) -> dict[str, dict[str, float]]:
    """Property -> metric -> value, of the properties that both have."""
    common = first.keys() & second.keys()
    first, second = ({name: side[name] for name in common} for side in (first, second))
    if common & {*INTERACTIONS}:
        common |= {CONTACTS}
    result: dict[str, dict[str, float]] = {}
    for name in (name for name in ORDER if name in common):
        if name in DISTRIBUTIONS:
            bits = divergence(first[name], second[name])
            bits = bits[np.isfinite(bits)]
            result[name] = {"n": len(bits), "jensen_shannon": float(bits.mean()) if len(bits) else np.nan}
            continue
        if name in SCALARS:
            a, b = first[name].astype(np.float64), second[name].astype(np.float64)
        else:
            a, b = pair_values(first, name)[pairs], pair_values(second, name)[pairs]
        values: dict[str, float] = {"n": len(a), "pearson": pearson(a, b), "spearman": spearman(a, b)}
        values["rmse"] = float(np.sqrt(np.mean((a - b) ** 2))) if len(a) else np.nan
        if name == CONTACTS or name in INTERACTIONS:
            often_a, often_b = a >= frequent, b >= frequent
            either = int((often_a | often_b).sum())
            values |= {"frequent_a": int(often_a.sum()), "frequent_b": int(often_b.sum())}
            values["average_precision"] = average_precision(often_a, b)
            values["overlap"] = int((often_a & often_b).sum()) / either if either else np.nan
        result[name] = values
    return result


def _convergence(
    measurement: Measurement, pairs: tuple[NDArray[np.intp], ...], frequent: float
) -> dict[str, pd.Series]:
    """Metric -> its mean over pairs of the parts, by property."""
    several = [
        pd.DataFrame.from_dict(_agreement(one, other, pairs, frequent), orient="index")
        for one, other in combinations(measurement.parts, 2)
    ]
    if not several:
        return {}
    means = pd.concat(several).groupby(level=0).mean()
    return {metric: means[metric] for metric in METRICS if metric in means}


def _residue_table(first: Measurement, second: Measurement, far: NDArray[np.bool_]) -> pd.DataFrame:
    """Names of the residues on both sides, values of scalars, divergences, and sums and correlations over pairs."""
    columns: dict[str, object] = {}
    for side, of in (("a", first), ("b", second)):
        columns |= {f"chain_{side}": of.chain_ids, f"number_{side}": of.numbers, f"residue_{side}": list(of.letters)}
    a, b = first.properties, second.properties
    states = [state if state != " " else "-" for state in DSSP_STATES]
    for name in (name for name in ORDER if name in a and name in b):
        if name in SCALARS:
            columns |= {f"{name}_a": a[name], f"{name}_b": b[name]}
        elif name in DISTRIBUTIONS:
            if name == "ss":
                columns |= {f"ss_{side}": [states[k] for k in of["ss"].argmax(1)] for side, of in (("a", a), ("b", b))}
            columns[f"{name}_jensen_shannon"] = divergence(a[name], b[name])
        elif name not in INTERACTIONS:
            sides = (pair_values(a, name), pair_values(b, name))
            rows = zip(*sides, far, strict=True)
            columns[f"{name}_pearson"] = [pearson(one[row], other[row]) for one, other, row in rows]
    if any(name in a and name in b for name in INTERACTIONS):
        of_both = ({name: side[name] for name in INTERACTIONS if name in a and name in b} for side in (a, b))
        for side, interactions in zip("ab", of_both, strict=True):
            columns[f"{CONTACTS}_{side}"] = np.where(far, pair_values(interactions, CONTACTS), 0).sum(axis=1)
    return pd.DataFrame(columns)
