"""Linear regression of protein properties on embeddings.

The paper predicts shapes of disordered regions from mean embeddings or their first 200 principal components (Hou, Zhao,
Shen, PNAS 2026, doi 10.1073/pnas.2530466123).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prepare.dataset.splits import split_by_cluster
from data_prepare.dataset.table import LABELS
from data_prepare.errors import named, reading, require
from data_prepare.files import read_npy, read_numbers, read_text_table, whole_file
from data_prepare.resume import Results
from model.config import Precision
from model.evaluation.metrics import pearson
from model.inference.embed import mean_embeddings
from model.inference.inputs import check_sequence, sequence_list
from model.network.dance import load_model

Matrix = NDArray[np.float64]

SEQUENCE_COLUMNS: Final = ("sequence", "seq")  # the second in the published tables
SPLIT_PREFIX: Final = "split_"
TEST_FRACTION: Final = 0.2  # of the splits by cluster
STATISTICS: Final = ("pearson", "mse", "r2")


def regression_predictions(
    features: NDArray[np.floating], target: Matrix, new: NDArray[np.floating], components: Sequence[int]
) -> list[Matrix]:
    """Predict the (m,) targets of new rows (m, d) from (n, d) features and (n,) targets, for each number of components.

    Least squares with an intercept on the first principal components (0: all). With X = U S V^T the centred features,
    the scores of the components are X V and their slopes S^-1 U^T y; if rows are fewer than columns, this is the
    solution of smallest norm.
    """
    x = np.asarray(features, np.float64)
    centre, middle = x.mean(axis=0), target.mean()
    u, s, vt = np.linalg.svd(x - centre, full_matrices=False)  # (n, k), (k,), (k, d)
    # the last LayerNorm leaves one direction of an embedding constant up to float32 rounding: do not fit it
    eps = np.finfo(np.float64 if features.dtype == np.float64 else np.float32).eps
    rank = int((s > s[:1] * max(x.shape) * eps).sum())
    slopes = u[:, :rank].T @ (target - middle) / s[:rank]  # (rank,)
    scores = (new - centre) @ vt[:rank].T  # (m, rank)
    return [scores[:, : number or rank] @ slopes[: number or rank] + middle for number in components]


def read_splits(table: pd.DataFrame, repeats: int = 20, seed: int = 0) -> dict[str, NDArray[np.bool_]]:
    """Test rows (n,) of each split, from the columns `split_0`, `split_1`, ... of train and test.

    Without them, a fifth of the rows, in whole clusters of the column `cluster`, is drawn `repeats` times, with seeds
    `seed`, `seed + 1`, ...
    """
    labels = {str(name): column.astype(str) for name, column in table.items() if str(name).startswith(SPLIT_PREFIX)}
    if not labels:
        require("cluster" in table, f"no columns {SPLIT_PREFIX}0, {SPLIT_PREFIX}1, ... and no column cluster; add them")
        rows = [str(row) for row in range(len(table))]
        clusters = dict(zip(rows, table["cluster"].astype(str), strict=True))
        for number in range(seed, seed + repeats):
            split = split_by_cluster(rows, clusters, TEST_FRACTION, number)
            labels[f"seed_{number}"] = pd.Series([split[row] for row in rows])
    for name, column in labels.items():
        other = sorted(set(column).difference(LABELS))
        require(not other, f"column {name}: {other[:1]} is neither {' nor '.join(LABELS)}")
    return {name: (column == "test").to_numpy() for name, column in labels.items()}


def read_embeddings(path: Path, rows: int) -> NDArray[np.floating]:
    """Read (rows, d) finite numbers from an .npy file."""
    with reading(path, "a file written by numpy.save"):
        values = read_npy(path)
        fits = values.dtype.kind in "fiu" and values.shape[:-1] == (rows,) and np.isfinite(values).all()
    require(fits, f"{path}: shape {values.shape}; expected finite numbers, one row for each of the {rows} proteins")
    return values


def regress(
    embeddings: Mapping[str, NDArray[np.floating]],
    targets: pd.DataFrame,
    splits: Mapping[str, NDArray[np.bool_]],
    components: int = 200,
) -> pd.DataFrame:
    """Test how well linear regression on (n, d) embeddings predicts targets (n, properties) of unseen proteins.

    Rows without a target are ignored; each of the `read_splits` needs two training and two test rows with one. The
    second regression uses only the first principal components of the training rows.

    Returns one row for each embedding, target, features (`all` or `pc200`) and split: `train` and `test` (numbers of
    rows), `pearson`, `mse` (mean square error, in the squared unit of the target) and `r2` (1 - residual / total sum of
    squares) on the test rows; NaN if undefined.
    """
    rows = []
    features = {"all": 0, f"pc{components}": components}
    for split, test in splits.items():
        for target in targets:
            y = targets[target].to_numpy(np.float64)
            train, held = ~test & np.isfinite(y), test & np.isfinite(y)
            counts = int(train.sum()), int(held.sum())
            require(min(counts) > 1, f"{split}, {target}: {counts[0]} training, {counts[1]} test rows; needs two each")
            for name, x in embeddings.items():
                found = regression_predictions(x[train], y[train], x[held], list(features.values()))
                for kind, predicted in zip(features, found, strict=True):
                    residual, total = ((y[held] - other) ** 2 for other in (predicted, y[held].mean()))
                    r2 = 1 - residual.sum() / total.sum() if total.any() else np.nan
                    found_here = pearson(predicted, y[held]), residual.mean(), r2
                    rows.append((name, target, kind, split, *counts, *found_here))
    keys = ["embedding", "target", "features", "split", "train", "test"]
    return pd.DataFrame(rows, columns=[*keys, *STATISTICS])


def summarise_splits(results: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over the splits of the results of `regress`."""
    groups = results.groupby(["embedding", "target", "features"], sort=False)
    columns = {f"{name}_{sd}": (name, how) for name in STATISTICS for sd, how in (("mean", "mean"), ("sd", "std"))}
    return groups.agg(splits=("split", "size"), **columns).reset_index()


def regress_table(
    path: Path,
    targets: Sequence[str],
    sources: Mapping[str, str],
    output: Path,
    *,
    components: int = 200,
    repeats: int = 20,
    seed: int = 0,
    batch_size: int | None = None,
    device: str = "auto",
    precision: Precision = "auto",
) -> tuple[pd.DataFrame, list[Path]]:
    """Write the results of `regress` for a table of sequences and their summary; an interrupted run resumes.

    The table is a CSV with the columns sequence (or seq), `targets`, and split_0, split_1, ... or cluster. `sources`
    maps the name of an embedding to a network as in `load_model` or an .npy file with a row per row of the table. The
    other options are those of `regress`, `read_splits` and `embed`. Returns the summary and both paths.
    """
    table = read_text_table(path, targets)
    column = next((name for name in SEQUENCE_COLUMNS if name in table), "")
    require(column, f"{path}: missing column: {' or '.join(SEQUENCE_COLUMNS)}; add the sequences")
    values = pd.DataFrame({name: read_numbers(path, table[name]) for name in targets})
    with named(path):
        splits = read_splits(table, repeats, seed)
        sequences = sequence_list(
            {f"of line {line}": text for line, text in zip(table.index + 2, table[column], strict=True)}
        )
    for line, sequence in zip(table.index + 2, sequences, strict=True):
        check_sequence(sequence, f"{path}, line {line}: {column}")
    kept, rows = Results(output), len(table)
    given = {name: read_embeddings(Path(source), rows) for name, source in sources.items() if source.endswith(".npy")}
    embeddings, labels = dict(given), {name: sources[name] for name in given}
    for name in (name for name in sources if name not in given):
        model = load_model(sources[name], device)
        embeddings[name] = mean_embeddings(model, sequences, kept, batch_size, precision)
        labels[name] = model.label
    results = regress({name: embeddings[name] for name in sources}, values, splits, components)
    summary = summarise_splits(results)
    paths = [output, output.with_name(f"{output.stem}_summary.csv")]
    for file, frame in zip(paths, (results, summary), strict=True):
        with whole_file(file) as temporary:
            named_frame = frame.assign(model=frame["embedding"].map(labels))
            named_frame.to_csv(temporary, index=False, float_format="%.6g")
    kept.remove()
    return summary, paths
