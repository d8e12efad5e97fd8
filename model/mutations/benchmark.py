"""Spearman's correlation of mutation scores with measured losses, for each protein and over all.

All scores grow with the expected damage: a good one correlates positively with `loss`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from data_prepare.errors import named, require
from data_prepare.files import whole_file, write_text
from data_prepare.resume import Results, digest
from model.config import Precision
from model.evaluation.metrics import bootstrap_interval, bootstrap_spearman, spearman
from model.mutations.likelihood import log_likelihood_ratios
from model.mutations.measured import LeftOut, MeasuredProtein
from model.mutations.score import PUBLISHED_SCORE, changes_of, score_table
from model.mutations.substitution import Mutants, parse_mutation
from model.network.dance import DanceModel, load_model
from model.network.language_model import LanguageModel, load_language_model
from model.network.names import short_name
from model.network.tokenizer import AMINO_ACIDS
from model.network.weights import network_digest

Scores = dict[str, NDArray[np.float64]]  # name of a score -> (mutants,), higher = more damage
Network = TypeVar("Network", DanceModel, LanguageModel)
AnyNetwork = DanceModel | LanguageModel

DANCE_SCORES: Final = (PUBLISHED_SCORE, "sasa_mean", "psi")  # the paper: the last two perform about as well
BASELINES: Final = ("blosum62", "hydrophobicity")
STATISTICS: Final = ("median", "mean", "pooled")

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
    """Scores without a network, summed over the substitutions of a mutant.

    `blosum62`: minus the BLOSUM62 score. `hydrophobicity`: hydropathy of the old residue minus that of the new one,
    because hydrophobic cores stabilise folds.
    """
    mutants = [parse_mutation(label) for label in protein.mutants]
    return {
        "blosum62": np.array([-sum(BLOSUM62[old, new] for old, _, new in own) for own in mutants], np.float64),
        "hydrophobicity": np.array([sum(HYDROPATHY[old] - HYDROPATHY[new] for old, _, new in own) for own in mutants]),
    }


def dance_scores(
    model: DanceModel, protein: MeasuredProtein, batch_size: int | None, precision: Precision = "auto"
) -> Scores:
    """SeqDance or ESMDance: the published score, and the changes of `sasa_mean` and of `psi` alone."""
    mutants = Mutants(protein.wild_type, protein.mutants)
    table = score_table(mutants, changes_of(model, mutants, batch_size=batch_size, precision=precision))
    return {name: table[name].to_numpy(np.float64) for name in DANCE_SCORES}


def esm2_scores(
    model: LanguageModel, protein: MeasuredProtein, batch_size: int | None, precision: Precision = "auto"
) -> Scores:
    """ESM2: minus the log-likelihood ratios, from masked and unmasked passes of the wild type."""
    size, mutants = batch_size or 16, protein.mutants
    return {
        form: -log_likelihood_ratios(model, protein.wild_type, mutants, form == "masked", size, precision)
        for form in ("masked", "unmasked")
    }


def score_measured(
    name: str,
    model: Network,
    scores_of: Callable[[Network, MeasuredProtein, int | None, Precision], Scores],
    proteins: Sequence[MeasuredProtein],
    results: Results,
    batch_size: int | None = None,
    precision: Precision = "auto",
) -> list[Scores]:
    """Scores of all proteins by one network, named `NAME.SCORE`; `results` keeps those of each protein.

    `scores_of` is `dance_scores` or `esm2_scores`. InputError if a score is not finite or a mutant does not fit.
    """
    network = network_digest(model, model.config.heads, precision)
    found = []
    with tqdm(total=sum(len(protein.mutants) for protein in proteins), unit="mutant", desc=name) as bar:
        for protein in proteins:
            key = digest(network, scores_of.__name__, protein.wild_type, protein.mutants)
            scores = results.read(key)
            if scores is None:
                with named(f"{name}, protein {protein.name}"):
                    scores = scores_of(model, protein, batch_size, precision)
                    require(np.isfinite(list(scores.values())).all(), "scores are not finite; check the weights")
                results.write(key, **scores)
            found.append({f"{name}.{score}": values for score, values in scores.items()})
            bar.update(len(protein.mutants))
    return found


def score_all(
    proteins: Sequence[MeasuredProtein],
    models: Sequence[str],
    esm2: Sequence[str],
    results: Results,
    device: str,
    batch_size: int | None,
    precision: Precision,
    visit: Callable[[str, AnyNetwork], None],
) -> tuple[list[Scores], dict[str, str]]:
    """Scores of all proteins by the baselines and by each network, and the label of each network by its name.

    `models` are SeqDance or ESMDance, `esm2` language models; see `load_model` and `load_language_model`. One is in
    memory at a time; `visit` gets its name and the network meanwhile. For the others see `score_measured`.
    """
    scores, labels = [baseline_scores(protein) for protein in proteins], {}
    networks: tuple[tuple[Any, Any, Sequence[str]], ...] = (
        (load_model, dance_scores, models),
        (load_language_model, esm2_scores, esm2),
    )
    for load, scores_of, paths in networks:
        for path in paths:
            name, network = short_name(path), load(path, device)
            labels[name] = getattr(network, "label", path)
            found = score_measured(name, network, scores_of, proteins, results, batch_size, precision)
            scores = [own | more for own, more in zip(scores, found, strict=True)]
            visit(name, network)
    return scores, labels


def mutation_table(proteins: Sequence[MeasuredProtein], scores: Sequence[Scores]) -> pd.DataFrame:
    """One row per mutant: protein, mutant, loss and the scores."""
    parts = (
        pd.DataFrame({"protein": protein.name, "mutant": protein.mutants, "loss": protein.loss, **own})
        for protein, own in zip(proteins, scores, strict=True)
    )
    return pd.concat(parts, ignore_index=True)


def protein_table(proteins: Sequence[MeasuredProtein], table: pd.DataFrame) -> pd.DataFrame:
    """One row per protein: protein, residues, mutants, and Spearman's correlation of each score with the loss.

    NaN for fewer than three mutants, or if the loss or the score is constant.
    """
    by_protein = dict(iter(table.groupby("protein", sort=False)))
    rows = []
    for protein in proteins:
        own = by_protein[protein.name]
        scores = own.columns[3:]  # after protein, mutant and loss
        found = {name: spearman(protein.loss, own[name].to_numpy()) for name in scores}
        rows.append({"protein": protein.name, "residues": len(protein.wild_type), "mutants": len(own), **found})
    return pd.DataFrame(rows)


def correlation_summary(
    table: pd.DataFrame, per_protein: pd.DataFrame, min_mutants: int = 10, bootstrap: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Median and mean over proteins and pooled correlation of each score, with 95 % intervals.

    Intervals are percentiles over data sets of as many proteins drawn with replacement. Median and mean are over the
    proteins with at least `min_mutants` mutants that have a correlation; pooled is Spearman's correlation over all
    mutants of all proteins, also in each drawn data set.

    `table` and `per_protein` come from `mutation_table` and `protein_table`. Returns counts, options, and `scores`:
    name -> `proteins` (with a correlation) and `median`, `mean`, `pooled`, each with `value`, `low`, `high` or None.
    """
    enough = per_protein[per_protein["mutants"] >= min_mutants]
    protein, _ = pd.factorize(table["protein"])  # (mutants,)
    names = list(table.columns[3:])  # after protein, mutant and loss
    pooled, draws = bootstrap_spearman(table["loss"].to_numpy(), table[names].to_numpy(), protein, bootstrap, seed)
    scores = {}
    for column, name in enumerate(names):
        own = enough[name].dropna().to_numpy()  # (proteins,)
        drawn = draws[np.isfinite(draws[:, column]), column]
        scores[name] = {
            "proteins": len(own),
            **{
                of.__name__: estimate(of(own) if len(own) else math.nan, bootstrap_interval(own, of, bootstrap, seed))
                for of in (np.median, np.mean)
            },
            "pooled": estimate(pooled[column], np.percentile(drawn, (2.5, 97.5)) if len(drawn) else (math.nan,) * 2),
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


def estimate(value: float, interval: Sequence[float]) -> dict[str, float | None]:
    """`value`, and `low` and `high` of its interval, for a summary; None instead of NaN."""
    numbers = zip(("value", "low", "high"), (value, *interval), strict=True)
    return {name: round(float(number), 6) if math.isfinite(number) else None for name, number in numbers}


def write_results(
    folder: Path, table: pd.DataFrame, per_protein: pd.DataFrame, left_out: Sequence[LeftOut], summary: dict[str, Any]
) -> None:
    """Write mutations.csv, proteins.csv, left_out.csv and summary.json."""
    unused = pd.DataFrame(left_out, columns=list(LeftOut._fields))
    tables = (("mutations", table, "%.7g"), ("proteins", per_protein, "%.6f"), ("left_out", unused, None))
    for name, rows, float_format in tables:
        with whole_file(folder / f"{name}.csv") as temporary:
            rows.to_csv(temporary, index=False, float_format=float_format)
    write_text(folder / "summary.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")


def summary_text(summary: Mapping[str, Any]) -> str:
    """A `correlation_summary` as lines of text."""
    rows = {
        name: [values["proteins"], *(estimate_text(**values[statistic]) for statistic in STATISTICS)]
        for name, values in summary["scores"].items()
    }
    headings = ["proteins", *(f"{name} [95 %]" for name in STATISTICS)]
    text = (
        "Spearman's correlation with the measured loss of stability or fitness (higher is better)\n"
        f"{summary['mutants']} mutants of {summary['proteins']} proteins\n"
    )
    if few := summary["proteins_below_min_mutants"]:
        text += f"{few} proteins with fewer than {summary['min_mutants']} mutants: only in the pooled correlation\n"
    return f"{text}\n{pd.DataFrame.from_dict(rows, orient='index', columns=headings).to_string()}"


def estimate_text(value: float | None, low: float | None, high: float | None) -> str:
    """An `estimate` for a table, such as `0.460 [0.441, 0.478]`."""
    if value is None:
        return "-"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"
