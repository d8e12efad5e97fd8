"""Predicted effects of mutations beside measured ones: Spearman's correlation for each protein and over all.

Every predictor gives scores that grow with the expected damage, so that a good one correlates positively with `loss`.
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from data_prepare.errors import InputError
from data_prepare.files import whole_file
from model.mutations.likelihood import log_likelihood_ratios
from model.mutations.measured import MeasuredProtein, substitutions
from model.mutations.score import PUBLISHED_SCORE, score_mutations
from model.network.dance import DanceModel
from model.network.language_model import LanguageModel
from model.network.tokenizer import AMINO_ACIDS
from model.network.weights import weights_digest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Scores = dict[str, NDArray[np.float64]]  # name of a score -> (mutants,), higher = more damage

DANCE_SCORES: Final = (PUBLISHED_SCORE, "sasa_mean", "psi")  # the paper: the last two do about as well
BASELINES: Final = ("blosum62", "hydrophobicity")
STATISTICS: Final = ("median", "mean", "pooled")
FEWEST: Final = 3  # mutants that a correlation needs
INTERVAL: Final = (2.5, 97.5)  # percentiles
QUIET_SECONDS: Final = 2.0  # before a progress bar shows

# Kyte and Doolittle, J Mol Biol 1982 (doi 10.1016/0022-2836(82)90515-0), order of AMINO_ACIDS; high = hydrophobic
_HYDROPATHY_VALUES: Final = (
    "1.8 2.5 -3.5 -3.5 2.8 -0.4 -3.2 4.5 -3.9 3.8 1.9 -3.5 -1.6 -3.5 -4.5 -0.8 -0.7 4.2 -0.9 -1.3"
)
HYDROPATHY: Final = dict(zip(AMINO_ACIDS, map(float, _HYDROPATHY_VALUES.split()), strict=True))

# Henikoff and Henikoff, PNAS 1992 (doi 10.1073/pnas.89.22.10915), half bits; lower triangle, order of AMINO_ACIDS
_BLOSUM62_ROWS: Final = """
 4
 0  9
-2 -3  6
-1 -4  2  5
-2 -2 -3 -3  6
 0 -3 -1 -2 -3  6
-2 -3 -1  0 -1 -2  8
-1 -1 -3 -3  0 -4 -3  4
-1 -3 -1  1 -3 -2 -1 -3  5
-1 -1 -4 -3  0 -4 -3  2 -2  4
-1 -1 -3 -2  0 -3 -2  1 -1  2  5
-2 -3  1  0 -3  0  1 -3  0 -3 -2  6
-1 -3 -1 -1 -4 -2 -2 -3 -1 -3 -2 -2  7
-1 -3  0  2 -3 -2  0 -3  1 -2  0  0 -1  5
-1 -3 -2  0 -3 -2  0 -3  2 -2 -1  0 -2  1  5
 1 -1  0  0 -2  0 -1 -2  0 -2 -1  1 -1  0 -1  4
 0 -1 -1 -1 -2 -2 -2 -1 -1 -1 -1  0 -1 -1 -1  1  5
 0 -1 -3 -2 -1 -3 -3  3 -2  1  1 -3 -2 -2 -3 -2  0  4
-3 -2 -4 -3  1 -2 -2 -3 -3 -2 -1 -4 -4 -2 -3 -3 -2 -3 11
-2 -2 -3 -2  3 -3  2 -1 -2 -1 -1 -2 -3 -1 -2 -2 -2 -1  2  7
"""
BLOSUM62: Final = {
    pair: int(value)
    for first, row in zip(AMINO_ACIDS, _BLOSUM62_ROWS.strip().splitlines(), strict=True)
    for second, value in zip(AMINO_ACIDS, row.split(), strict=False)
    for pair in ((first, second), (second, first))
}


def baseline_scores(protein: MeasuredProtein) -> Scores:
    """Scores that need no network, summed over the substitutions of a mutant.

    `blosum62`: minus the BLOSUM62 score of the exchange. `hydrophobicity`: hydropathy of the old residue minus that of
    the new one, because folds are held together by hydrophobic cores: what is lost there is stability.
    """
    parts = [substitutions(label) for label in protein.mutants]
    return {
        "blosum62": np.array([-sum(BLOSUM62[old, new] for old, _, new in p) for p in parts], np.float64),
        "hydrophobicity": np.array([sum(HYDROPATHY[old] - HYDROPATHY[new] for old, _, new in p) for p in parts]),
    }


@dataclass(frozen=True)
class Predictor:
    """What scores the mutants of a protein.

    Attributes
    ----------
    name
        Of the network.
    fingerprint
        Differs between networks.
    score
        Protein -> its scores.
    """

    name: str
    fingerprint: str
    score: Callable[[MeasuredProtein], Scores]


def dance_predictor(name: str, model: DanceModel, batch_size: int | None = None) -> Predictor:
    """SeqDance or ESMDance: the published score, and the changes of `sasa_mean` and of `psi` alone."""

    def score(protein: MeasuredProtein) -> Scores:
        table = score_mutations(model, protein.wild_type, protein.mutants, batch_size)
        return {f"{name}.{column}": table[column].to_numpy(np.float64) for column in DANCE_SCORES}

    return Predictor(name, weights_digest(model, model.config.heads, *DANCE_SCORES), score)


def esm2_predictor(name: str, model: LanguageModel, batch_size: int = 16) -> Predictor:
    """ESM2: minus the log-likelihood ratios, from masked and unmasked passes of the wild type."""

    def score(protein: MeasuredProtein) -> Scores:
        return {
            f"{name}.{form}": -log_likelihood_ratios(
                model, protein.wild_type, protein.mutants, form == "masked", batch_size
            )
            for form in ("masked", "unmasked")
        }

    return Predictor(name, weights_digest(model, model.config.heads, "masked", "unmasked"), score)


def score_proteins(
    predictor: Predictor, proteins: Sequence[MeasuredProtein], work: Path, progress: bool = True
) -> list[Scores]:
    """Scores of all proteins; those of each are kept in the folder `work`, where a later run finds them.

    A file counts only for the same network, wild type and mutants.

    Raises
    ------
    InputError
        A score is not finite, or a protein cannot be predicted.
    """
    results = []
    total = sum(len(protein.mutants) for protein in proteins)
    with tqdm(total=total, unit="mutant", desc=predictor.name, disable=not progress) as bar:
        for protein in proteins:
            key = _key(predictor, protein)
            path = work / f"{_file_name(predictor.name)}-{predictor.fingerprint[:12]}" / f"{key[:24]}.npz"
            scores = _read_scores(path, key)
            if scores is None:
                try:
                    scores = predictor.score(protein)
                except InputError as error:
                    raise InputError(f"{predictor.name}, protein {protein.name}: {error}") from None
                for name, values in scores.items():
                    if not np.isfinite(values).all():
                        raise InputError(f"protein {protein.name}: {name} is not finite; check the weights")
                with whole_file(path) as temporary:
                    np.savez(temporary, allow_pickle=False, **{_KEY: np.array(key), **scores})
            results.append(scores)
            bar.update(len(protein.mutants))
    return results


_KEY: Final = "key"  # in a file of scores, whose other entries are named NAME.SCORE


def _key(predictor: Predictor, protein: MeasuredProtein) -> str:
    text = "\n".join((predictor.name, predictor.fingerprint, protein.wild_type, *protein.mutants))
    return hashlib.sha256(text.encode()).hexdigest()


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)


def _read_scores(path: Path, key: str) -> Scores | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files if name != _KEY} if str(file[_KEY]) == key else None
    except (FileNotFoundError, zipfile.BadZipFile, EOFError, ValueError, KeyError):
        return None  # is computed again


def mutation_table(proteins: Sequence[MeasuredProtein], scores: Sequence[Scores]) -> pd.DataFrame:
    """One row per mutant: protein, mutant, loss and the scores."""
    if not proteins:
        raise InputError("no measured protein; give a table with mutants")
    parts = [
        pd.DataFrame({"protein": protein.name, "mutant": protein.mutants, "loss": protein.loss, **own})
        for protein, own in zip(proteins, scores, strict=True)
    ]
    return pd.concat(parts, ignore_index=True)


def score_names(table: pd.DataFrame) -> list[str]:
    """Columns of a mutation table that hold scores."""
    return [str(name) for name in table if name not in ("protein", "mutant", "loss")]


def protein_table(proteins: Sequence[MeasuredProtein], table: pd.DataFrame) -> pd.DataFrame:
    """One row per protein: protein, residues, mutants, and Spearman's correlation of each score with the loss.

    NaN where it does not exist: fewer than three mutants, or one side is constant.
    """
    names = score_names(table)
    rows = []
    by_protein = dict(iter(table.groupby("protein", sort=False)))
    for protein in proteins:
        own = by_protein[protein.name]
        found = {name: spearman(own["loss"].to_numpy(), own[name].to_numpy()) for name in names}
        rows.append({"protein": protein.name, "residues": len(protein.wild_type), "mutants": len(own), **found})
    return pd.DataFrame(rows)


def spearman(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Spearman's correlation of (n,) values, ties with mean ranks; NaN for fewer than three or a constant side."""
    weights = np.ones(len(first))
    x, y = (_mean_ranks(np.unique(values, return_inverse=True)[1], weights) for values in (first, second))
    return _correlation(x, y, weights)


def _mean_ranks(groups: NDArray[np.intp], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean ranks, less 1/2, of (n,) values that occur `weights` times; `groups` numbers equal values in order."""
    counts = np.bincount(groups, weights)
    return (counts.cumsum() - counts / 2)[groups]


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Pearson's correlation of (n,) values that occur `weights` times."""
    total = weights.sum()
    if total < FEWEST:
        return np.nan
    x, y = first - weights @ first / total, second - weights @ second / total
    spread = np.sqrt((weights @ (x * x)) * (weights @ (y * y)))
    return (
        float(weights @ (x * y) / spread) if spread > 1e-9 else np.nan
    )  # ranks of unequal values differ by 1/2 at least


def summarise(
    table: pd.DataFrame, per_protein: pd.DataFrame, min_mutants: int = 10, bootstrap: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Median and mean over proteins and pooled correlation of each score, with 95 % intervals.

    Intervals are percentiles over data sets of as many proteins drawn with replacement. Median and mean are over the
    proteins with at least `min_mutants` mutants that have a correlation; pooled is Spearman's correlation over all
    mutants of all proteins, also in each drawn data set.

    Parameters
    ----------
    table, per_protein
        As `mutation_table` and `protein_table` give them.
    min_mutants
        Proteins with fewer count only in the pooled correlation.
    bootstrap
        Data sets drawn; 0 for no intervals.
    seed
        Of the draws.

    Returns
    -------
    dict
        `proteins`, `mutants`, `min_mutants`, `proteins_below_min_mutants`, `bootstrap`, `seed`, and `scores`:
        name -> `proteins` (with a correlation) and `median`, `mean`, `pooled`, each with `value`, `low`, `high`; None
        where a number does not exist.
    """
    names = score_names(table)
    enough = per_protein[per_protein["mutants"] >= min_mutants]
    correlations = enough[names].to_numpy(np.float64)  # (proteins, scores)
    pooled, pooled_draws = _pooled(table, names, bootstrap, seed)
    scores = {}
    for column, name in enumerate(names):
        own = correlations[np.isfinite(correlations[:, column]), column]  # (proteins,)
        random = np.random.default_rng(seed)  # a score's interval does not depend on the other scores
        drawn = own[random.integers(len(own), size=(bootstrap, len(own)))] if len(own) > 1 else np.empty((0, 1))
        scores[name] = {
            "proteins": len(own),
            "median": _estimate(np.median(own) if len(own) else np.nan, np.median(drawn, axis=1)),
            "mean": _estimate(own.mean() if len(own) else np.nan, drawn.mean(axis=1)),
            "pooled": _estimate(pooled[column], pooled_draws[:, column]),
        }
    return {
        "proteins": len(per_protein),
        "mutants": len(table),
        "min_mutants": min_mutants,
        "proteins_below_min_mutants": len(per_protein) - len(enough),
        "bootstrap": bootstrap,
        "seed": seed,
        "scores": scores,
    }


def _pooled(
    table: pd.DataFrame, names: Sequence[str], bootstrap: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Correlation over all mutants (scores,), and in drawn data sets (draws, scores).

    Nothing is sorted again for a draw: a protein that is drawn twice gives its mutants the weight 2.
    """
    loss, *groups = (np.unique(table[name], return_inverse=True)[1] for name in ("loss", *names))
    protein, _ = pd.factorize(table["protein"])  # (mutants,)
    proteins = int(protein.max()) + 1
    random = np.random.default_rng(seed)

    def correlations(weights: NDArray[np.float64]) -> list[float]:
        ranks = _mean_ranks(loss, weights)
        return [_correlation(ranks, _mean_ranks(group, weights), weights) for group in groups]

    value = np.array(correlations(np.ones(len(table))))
    draws = np.empty((bootstrap if proteins > 1 else 0, len(names)))
    for draw in tqdm(draws, desc="bootstrap", unit="draw", delay=QUIET_SECONDS):
        times = np.bincount(random.integers(proteins, size=proteins), minlength=proteins)
        draw[:] = correlations(times[protein].astype(np.float64))
    return value, draws


def _estimate(value: float, draws: NDArray[np.float64]) -> dict[str, float | None]:
    """Value and 95 % interval; None instead of NaN."""
    draws = draws[np.isfinite(draws)]
    low, high = np.percentile(draws, INTERVAL) if len(draws) else (np.nan, np.nan)
    numbers = {"value": value, "low": low, "high": high}
    return {name: round(float(number), 6) if np.isfinite(number) else None for name, number in numbers.items()}


def report(summary: Mapping[str, Any]) -> str:
    """The summary as text."""
    rows = {
        name: [values["proteins"], *(_cell(values[statistic]) for statistic in STATISTICS)]
        for name, values in summary["scores"].items()
    }
    headings = ["proteins", *(f"{name} [95 %]" for name in STATISTICS)]
    frame = pd.DataFrame(list(rows.values()), index=list(rows), columns=headings)
    lines = [
        "Spearman's correlation with the measured loss of stability or fitness (higher is better)",
        f"{summary['mutants']} mutants of {summary['proteins']} proteins",
    ]
    if summary["proteins_below_min_mutants"]:
        lines.append(
            f"{summary['proteins_below_min_mutants']} proteins with fewer than {summary['min_mutants']} mutants count "
            "only in the pooled correlation"
        )
    return "\n".join([*lines, "", frame.to_string()])


def _cell(estimate: Mapping[str, float | None]) -> str:
    value, low, high = (estimate[name] for name in ("value", "low", "high"))
    if value is None:
        return "-"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def draw(per_protein: pd.DataFrame, summary: Mapping[str, Any]) -> Figure:
    """Distribution over proteins of each score: a dot each, box of the quartiles, median."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    names = list(summary["scores"])
    enough = per_protein[per_protein["mutants"] >= summary["min_mutants"]]
    figure = Figure(figsize=(8, 1.2 + 0.55 * len(names)), layout="constrained")
    axes = figure.subplots()
    random = np.random.default_rng(0)
    for row, name in enumerate(names):
        values = enough[name].dropna().to_numpy()
        colour = "#777777" if name in BASELINES else "#0072B2"
        height = row + random.uniform(-0.2, 0.2, len(values))
        axes.scatter(
            values, height, s=9, color=colour, alpha=max(0.15, min(0.7, 40 / max(len(values), 1))), linewidths=0
        )
        if len(values):
            low, middle, high = np.percentile(values, (25, 50, 75))
            axes.add_patch(Rectangle((low, row - 0.3), high - low, 0.6, fill=False, edgecolor=colour, linewidth=1.2))
            axes.plot([middle, middle], [row - 0.3, row + 0.3], color="#D55E00", linewidth=2.5)
        median = summary["scores"][name]["median"]["value"]
        label = "-" if median is None else f"{median:.2f}"
        axes.text(1.02, row, label, transform=axes.get_yaxis_transform(), va="center", color="#D55E00")
    axes.text(1.02, 1.0, "median", transform=axes.transAxes, va="center", color="#D55E00")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(-1.02, 1.02)
    axes.axvline(0, color="#AAAAAA", linewidth=1, zorder=0)
    axes.set_xlabel(f"Spearman's correlation with the measured loss\ndots: {len(enough)} proteins, boxes: quartiles")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def write_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as PNG, complete or not at all."""
    with whole_file(Path(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
