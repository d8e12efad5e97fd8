"""Embeddings of sequences, and what linear regression reads from them.

The paper predicts shapes of disordered regions by linear regression on mean embeddings, whole or on their first 200
principal components (Hou, Zhao, Shen, PNAS 2026, doi 10.1073/pnas.2530466123).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prepare.dataset.splits import split_by_cluster
from data_prepare.dataset.table import LABELS
from data_prepare.errors import InputError
from model.inference.predict import fixed_size, residue_rows, run_batches, sequence_list
from model.network.dance import DanceModel

Array = NDArray[np.float32]
Matrix = NDArray[np.float64]

MAX_TOKENS: Final = 2**14  # of a batch, padding included
SPLIT_PREFIX: Final = "split_"
TEST_SHARE: Final = 0.2  # of the splits by cluster


@overload
def embed(
    model: DanceModel,
    sequences: Sequence[str],
    per_residue: Literal[False] = False,
    batch_size: int | None = None,
) -> Array: ...


@overload
def embed(
    model: DanceModel, sequences: Sequence[str], per_residue: bool, batch_size: int | None = None
) -> Array | list[Array]: ...


def embed(
    model: DanceModel, sequences: Sequence[str], per_residue: bool = False, batch_size: int | None = None
) -> Array | list[Array]:
    """Last hidden state of the encoder.

    Parameters
    ----------
    model
        SeqDance or ESMDance, on any device. ESMDance keeps the encoder of ESM2-35M, and so its embeddings.
    sequences
        One sequence, or several in a list, array or Series (its index does not matter); chains of a complex are joined
        by `<eos><cls>`.
    per_residue
        The rows of the residues instead of the mean over all tokens.
    batch_size
        Sequences at a time. Default: as many as have about sixteen thousand tokens together. Changes no number.

    Returns
    -------
    ndarray or list of ndarray
        (n, hidden) float32, the means over the tokens, `<cls>` and `<eos>` included; or for each sequence (N, hidden)
        of its N residues. For a single sequence (hidden,) or (N, hidden).

    Raises
    ------
    InputError
        A sequence cannot be used, or the memory does not suffice.
    """
    if isinstance(sequences, str):
        return next(iterate_embeddings(model, [sequences], per_residue, batch_size))[1]
    sequences = sequence_list(sequences)
    found = dict(iterate_embeddings(model, sequences, per_residue, batch_size))
    rows = [found[place] for place in range(len(sequences))]
    if per_residue:
        return rows
    return np.stack(rows) if rows else np.empty((0, model.config.hidden), np.float32)  # (n, hidden)


def iterate_embeddings(
    model: DanceModel, sequences: Sequence[str], per_residue: bool = False, batch_size: int | None = None
) -> Iterator[tuple[int, Array]]:
    """The same one by one, as soon as a batch is done: place in `sequences` and embedding, shortest first."""
    sequences = sequence_list(sequences)
    size = fixed_size(batch_size) or (lambda tokens: MAX_TOKENS // tokens)
    for batch in run_batches(model, sequences, size, residue=False, pair=False, embedding=True):
        hidden = batch.outputs["res_emb"].float()  # (B, L, hidden)
        if per_residue:
            for place, values in zip(batch.places, hidden.cpu().numpy(), strict=True):  # values (L, hidden)
                yield place, values[residue_rows(sequences[place])[0]]
        else:
            mask = batch.mask[..., None]  # (B, L, 1)
            means = (hidden * mask).sum(1) / mask.sum(1)  # (B, hidden); rows of padding hold numbers, too
            yield from zip(batch.places, means.cpu().numpy(), strict=True)


class Regression(NamedTuple):
    """Linear regression: prediction = features @ coefficients + intercept."""

    coefficients: Matrix  # (d,)
    intercept: float

    def predict(self, features: NDArray[np.floating]) -> Matrix:
        """(n, d) -> (n,)."""
        return features @ self.coefficients + self.intercept


def fit_regressions(features: NDArray[np.floating], target: Matrix, components: Sequence[int]) -> list[Regression]:
    """Least squares with an intercept, on the first principal components of the features.

    With X = U S V^T the centred features, the coefficients on the first k components are V_k S_k^-1 U_k^T y: those of
    ordinary least squares where k is the rank, and of smallest norm where there are fewer rows than columns.

    Parameters
    ----------
    features
        (n, d).
    target
        (n,).
    components
        Numbers of principal components; 0 stands for all.
    """
    x = np.asarray(features, np.float64)
    centre, middle = x.mean(axis=0), float(target.mean())
    u, s, vt = np.linalg.svd(x - centre, full_matrices=False)  # (n, k), (k,), (k, d)
    # the last LayerNorm leaves one direction of an embedding constant: what is there is rounding of float32, not rank
    eps = np.finfo(np.float64 if features.dtype == np.float64 else np.float32).eps
    rank = int((s > s[:1] * max(x.shape) * eps).sum())
    fits = []
    for number in components:
        k = min(number, rank) if number else rank
        coefficients = vt[:k].T @ (u[:, :k].T @ (target - middle) / s[:k])  # (d,)
        fits.append(Regression(coefficients, middle - float(centre @ coefficients)))
    return fits


def read_splits(table: pd.DataFrame, repeats: int = 20, seed: int = 0) -> dict[str, NDArray[np.bool_]]:
    """Test rows of each repeat.

    Parameters
    ----------
    table
        With columns `split_0`, `split_1`, ... of train and test; else with a column `cluster`.
    repeats
        Number of splits of whole clusters, a fifth of the rows test, where the table has none.
    seed
        Of the first of them; the others count on.

    Returns
    -------
    Name of the split -> (n,) whether a row is test.

    Raises
    ------
    InputError
        There is no such column, another word in it, or a side without rows.
    """
    given = [str(column) for column in table if str(column).startswith(SPLIT_PREFIX)]
    if given:
        labels = {name: table[name].astype(str) for name in given}
    elif "cluster" in table:
        rows = [str(row) for row in range(len(table))]
        clusters = dict(zip(rows, table["cluster"].astype(str), strict=True))
        labels = {}
        for repeat in range(repeats):
            split = split_by_cluster(rows, clusters, dict.fromkeys(rows, "all"), TEST_SHARE, seed + repeat)
            labels[f"seed_{seed + repeat}"] = pd.Series([split[row] for row in rows])
    else:
        raise InputError(f"neither columns {SPLIT_PREFIX}0, {SPLIT_PREFIX}1, ... nor a column cluster; add them")
    for name, column in labels.items():
        if other := sorted(set(column).difference(LABELS)):
            raise InputError(f"column {name}: {other[0]!r} is neither {' nor '.join(LABELS)}")
    return {name: (column == "test").to_numpy() for name, column in labels.items()}


def regress(
    embeddings: Mapping[str, NDArray[np.floating]],
    targets: pd.DataFrame,
    splits: Mapping[str, NDArray[np.bool_]],
    components: int = 200,
) -> pd.DataFrame:
    """How well linear regression on embeddings predicts properties of proteins that it was not fitted on.

    Parameters
    ----------
    embeddings
        Name -> (n, d) mean embeddings.
    targets
        (n, properties) numbers; rows without one are left out for this property.
    splits
        As `read_splits` gives them.
    components
        Principal components of the second regression; they are those of the training rows.

    Returns
    -------
    DataFrame
        One row for each embedding, target, features (`all` or `pc200`) and split: `train` and `test` (numbers of rows),
        `pearson` and `r2` on the test rows; NaN where they do not exist.

    Raises
    ------
    InputError
        A split has fewer than two training or test rows with a number.
    """
    rows = []
    features = {"all": 0, f"pc{components}": components}
    for split, test in splits.items():
        for target in targets:
            y = targets[target].to_numpy(np.float64)
            fitted, held = ~test & np.isfinite(y), test & np.isfinite(y)
            if min(fitted.sum(), held.sum()) < 2:
                raise InputError(
                    f"{split}, {target}: {fitted.sum()} training and {held.sum()} test rows; needs two each"
                )
            for name, x in embeddings.items():
                for kind, fit in zip(
                    features, fit_regressions(x[fitted], y[fitted], list(features.values())), strict=True
                ):
                    quality = _quality(fit.predict(x[held]), y[held])
                    rows.append((name, target, kind, split, int(fitted.sum()), int(held.sum()), *quality))
    return pd.DataFrame(rows, columns=["embedding", "target", "features", "split", "train", "test", "pearson", "r2"])


def summarise(results: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over the splits of what `regress` gives."""
    groups = results.groupby(["embedding", "target", "features"], sort=False)
    return groups.agg(
        splits=("split", "size"),
        pearson_mean=("pearson", "mean"),
        pearson_sd=("pearson", "std"),
        r2_mean=("r2", "mean"),
        r2_sd=("r2", "std"),
    ).reset_index()


def _quality(predicted: Matrix, measured: Matrix) -> tuple[float, float]:
    """Pearson's correlation and R^2 = 1 - residual / total sum of squares; NaN where a side is constant."""
    p, m = predicted - predicted.mean(), measured - measured.mean()
    total = float(m @ m)
    norm = float(np.sqrt((p @ p) * total))
    pearson = float(p @ m) / norm if norm else np.nan
    r2 = 1 - float(((measured - predicted) ** 2).sum()) / total if total else np.nan
    return pearson, r2
