"""How well embeddings predict measured losses after training on half of the mutants of a protein.

Features of a mutant are the difference of mean embeddings, mutant minus wild type. For each protein and each of several
random splits, ridge regression is fitted on one half of the mutants and tested on the other half. Scores without
training are tested on the same halves; for their mean absolute error, a line from score to loss is fitted.

Mutants of one position can be in both halves: the test asks for other mutants of a protein, not for other positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from data_prepare.errors import named, require
from data_prepare.files import whole_file
from data_prepare.resume import Results, digest
from model.config import Precision
from model.evaluation.metrics import bootstrap_interval, spearman
from model.inference.embed import embed
from model.mutations.benchmark import estimate, estimate_text
from model.mutations.measured import MeasuredProtein
from model.mutations.substitution import apply_mutation
from model.network.dance import DanceModel
from model.network.language_model import LanguageModel
from model.network.weights import network_digest

if TYPE_CHECKING:
    from sklearn.base import RegressorMixin

Matrix = NDArray[np.float64]
Errors = dict[str, NDArray[np.float64]]  # statistic -> (repeats,)

STATISTICS: Final = ("spearman", "mae")
EMBEDDING: Final = "embedding difference"  # name of the regression, after that of its network
CONSTANT: Final = "mean of training"
FEWEST: Final = 6  # mutants of a protein: three to train on, three to test
PENALTIES: Final = np.logspace(-1, 5, 13)  # of ridge on standardised features; the best on the training half


def splits(mutants: int, repeats: int, seed: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Indices of training (half, rounded down) and test mutants of each split; they depend on these numbers alone."""
    random = np.random.default_rng(seed)
    for _ in range(repeats):
        order = random.permutation(mutants)
        yield order[: mutants // 2], order[mutants // 2 :]


def errors_of_splits(features: Matrix, loss: Matrix, repeats: int, seed: int) -> Errors:
    """Spearman's correlation and mean absolute error on the test half of each split.

    `features` is (mutants, d): ridge regression, its penalty chosen by leaving out one training mutant at a time. With
    d = 1 it is a score: a line, but the correlation is that of the score itself. With d = 0 the prediction is the mean
    of the training half.
    """
    found: dict[str, list[float]] = {name: [] for name in STATISTICS}
    for train, test in splits(len(loss), repeats, seed):
        predicted = _regression(features.shape[1]).fit(features[train], loss[train]).predict(features[test])
        ranked = features[test, 0] if features.shape[1] == 1 else predicted
        found["spearman"].append(spearman(loss[test], ranked))
        found["mae"].append(float(np.abs(predicted - loss[test]).mean()))
    return {name: np.array(values) for name, values in found.items()}


def _regression(width: int) -> RegressorMixin:
    from sklearn.dummy import DummyRegressor
    from sklearn.linear_model import LinearRegression, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if width == 0:
        return DummyRegressor()
    return LinearRegression() if width == 1 else make_pipeline(StandardScaler(), RidgeCV(PENALTIES))


def embedding_differences(
    network: DanceModel | LanguageModel,
    protein: MeasuredProtein,
    batch_size: int | None = None,
    precision: Precision = "auto",
) -> NDArray[np.float32]:
    """(mutants, hidden) mean embeddings over the tokens, mutant minus wild type; proteins are not cut."""
    mutants = [apply_mutation(protein.wild_type, label) for label in protein.mutants]
    means = embed(_as_dance(network), [protein.wild_type, *mutants], False, batch_size, precision)
    return means[1:] - means[0]


def _as_dance(network: DanceModel | LanguageModel) -> DanceModel:
    """A network whose embedding is that of ESM2: its encoder under heads without numbers."""
    if isinstance(network, DanceModel):
        return network
    with torch.device("meta"):
        model = DanceModel(network.config)
    model.esm2 = network.esm
    return model.eval()


def regression_errors(
    name: str,
    network: DanceModel | LanguageModel,
    proteins: Sequence[MeasuredProtein],
    results: Results,
    repeats: int,
    seed: int,
    batch_size: int | None = None,
    precision: Precision = "auto",
) -> dict[tuple[str, str], Errors]:
    """`errors_of_splits` of the embeddings of a network, by protein and predictor.

    `results` keeps those of each protein. Proteins with fewer than `FEWEST` mutants are left out. InputError if an
    embedding is not finite.
    """
    made_of = network_digest(network, network.config.heads, precision)
    found = {}
    large = [protein for protein in proteins if len(protein.mutants) >= FEWEST]
    for protein in tqdm(large, unit="protein", desc=f"{name}, {EMBEDDING}"):
        key = digest(made_of, EMBEDDING, protein.wild_type, protein.mutants, protein.loss, repeats, seed)
        errors = results.read(key)
        if errors is None:
            with named(f"{name}, protein {protein.name}"):
                features = embedding_differences(network, protein, batch_size, precision)
                require(np.isfinite(features).all(), "embeddings are not finite; check the weights")
            errors = errors_of_splits(features.astype(np.float64), protein.loss, repeats, seed)
            results.write(key, **errors)
        found[protein.name, f"{name}.{EMBEDDING}"] = errors
    return found


def supervised_table(
    proteins: Sequence[MeasuredProtein],
    table: pd.DataFrame,
    regressions: Mapping[tuple[str, str], Errors],
    repeats: int,
    seed: int,
) -> pd.DataFrame:
    """A row per protein and predictor: mutants, train, test, and means over the splits of `STATISTICS`.

    Predictors are the `regressions` (of `regression_errors`), the scores of `benchmark.mutation_table`, and the mean of
    the training half. A statistic without a value in any split, as of a constant loss, is NaN.
    """
    by_protein = dict(iter(table.groupby("protein", sort=False)))
    rows = []
    for protein in proteins:
        n = len(protein.mutants)
        if n < FEWEST:
            continue
        own = by_protein[protein.name]
        scores = {name: own[[name]].to_numpy(np.float64) for name in own.columns[3:]}  # after protein, mutant, loss
        errors = {predictor: values for (name, predictor), values in regressions.items() if name == protein.name}
        for predictor, features in (scores | {CONSTANT: np.empty((n, 0))}).items():
            errors[predictor] = errors_of_splits(features, protein.loss, repeats, seed)
        for predictor, values in errors.items():
            means = {name: values[name][np.isfinite(values[name])] for name in STATISTICS}
            row = {"protein": protein.name, "predictor": predictor, "mutants": n, "train": n // 2, "test": n - n // 2}
            rows.append(row | {name: own.mean() if len(own) else np.nan for name, own in means.items()})
    columns = ["protein", "predictor", "mutants", "train", "test", *STATISTICS]
    return pd.DataFrame(rows, columns=columns)


def supervised_summary(supervised: pd.DataFrame, min_mutants: int, bootstrap: int, seed: int) -> dict[str, Any]:
    """Median over proteins of at least `min_mutants` mutants of each predictor's statistics, with 95 % intervals.

    Predictor -> `proteins`, and for `spearman` and `mae` {`value`, `low`, `high`}, None where there is none.
    """
    enough = supervised[supervised["mutants"] >= min_mutants]
    found: dict[str, Any] = {}
    for predictor, rows in enough.groupby("predictor", sort=False):
        found[str(predictor)] = {"proteins": len(rows)}
        for name in STATISTICS:
            values = rows[name].dropna().to_numpy()
            value = float(np.median(values)) if len(values) else np.nan
            found[str(predictor)][name] = estimate(value, bootstrap_interval(values, np.median, bootstrap, seed))
    return found


def write_supervised(
    folder: Path, supervised: pd.DataFrame, repeats: int, min_mutants: int, bootstrap: int, seed: int
) -> tuple[dict[str, Any], str]:
    """Write a `supervised_table` to supervised.csv; returns its `supervised_summary` and the lines to print."""
    with whole_file(folder / "supervised.csv") as temporary:
        supervised.to_csv(temporary, index=False, float_format="%.6f")
    summary = supervised_summary(supervised, min_mutants, bootstrap, seed)
    return summary, supervised_text(summary, repeats)


def supervised_text(summary: Mapping[str, Any], repeats: int) -> str:
    """A `supervised_summary` as lines of text, best correlation first."""
    rows = {
        name: [values["proteins"], *(estimate_text(**values[statistic]) for statistic in STATISTICS)]
        for name, values in sorted(summary.items(), key=lambda item: -(item[1]["spearman"]["value"] or -1))
    }
    title = f"Trained on half of the mutants of each protein, tested on the others; {repeats} random halves, medians"
    headings = ["proteins", "Spearman [95 %]", "mean absolute error [95 %]"]
    return f"{title}\n{pd.DataFrame.from_dict(rows, orient='index', columns=headings).to_string()}"
