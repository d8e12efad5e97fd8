"""Losses and correlations of a trained network on the test entries, beside two baselines fitted on training entries.

    python model/evaluation.py --checkpoint RUN/checkpoints/update_200000 --table T.csv --store F.h5 --weights W.csv

The baselines know no structure and no evolution: `mean` predicts the mean of each column over all valid positions of
the group's training entries; `sequence` the mean of the amino acid for residue properties, and of the distance |i-j|
along the chain for pair properties. A network that has learnt something has lower losses than both.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import torch
import tyro
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor
from tqdm import tqdm

from data_prepare.errors import InputError, run_command
from data_prepare.files import write_text
from data_prepare.loss_weights import Weights, read_loss_weights
from data_prepare.properties import (
    GROUPS,
    MD_PAIR_WIDTH,
    MD_RESIDUE_WIDTH,
    MISSING,
    NMA_GROUPS,
    NMA_PAIR_WIDTH,
    NMA_RESIDUE_WIDTH,
    RESIDUE_COLUMNS,
    entry_pair_channel,
    entry_residue_columns,
    properties_of_group,
)
from data_prepare.store import FeatureStore
from data_prepare.table import read_table
from model.dance import DanceModel, load_model
from model.dataset import Batch, Entry, collate, group_sequences, load_entry, require_files
from model.loss import dance_loss, valid_counts
from model.tokenizer import CLS_ID, VOCABULARY

LOGGER: Final = logging.getLogger("seqdance")
CORRELATED: Final = ("rmsf_nor", "sasa_mean", "corr")  # properties compared protein by protein
FEWEST: Final = 3  # positions that a correlation needs

Array = NDArray[np.float64]
Predictor = Callable[[Batch], Mapping[str, Tensor]]


@dataclass(frozen=True)
class EvaluateConfig:
    """Evaluate a network on the test entries."""

    checkpoint: str
    """Folder with model.safetensors and config.json, weight file, or Hub id."""
    table: Path = Path("data/table.csv")
    """Training table: name, modify_seq, source, label."""
    store: Path = Path("data/features.h5")
    """Feature store of the entries of the table."""
    weights: Path = Path("data/loss_weights.csv")
    """Loss weights: rows properties, columns groups."""
    output: Path = Path("metrics.json")
    """Where the numbers are written."""
    length: int = 1024
    """Longer proteins are cut after this number of tokens."""
    batch_size: int = 16
    """Most proteins of similar length at a time; changes no number."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU if there is one."""
    debug: bool = False
    """Show the traceback of an error."""

    def __post_init__(self) -> None:
        if self.length < 1 or self.batch_size < 1:
            raise InputError(f"--length {self.length}, --batch-size {self.batch_size}: both are at least 1")


def evaluate(
    model: DanceModel,
    table: pd.DataFrame,
    store: FeatureStore,
    weights: Weights,
    length: int = 1024,
    batch_size: int = 16,
    progress: bool = True,
) -> dict[str, Any]:
    """Losses and correlations of a network and of the two baselines on the test entries.

    Parameters
    ----------
    model
        The network; it is put into evaluation mode.
    table, store, weights
        As `read_table`, `FeatureStore` and `read_loss_weights` give them. Baselines are fitted on the entries labelled
        train, everything else is about those labelled test.
    length
        Tokens of a protein that are used, from its first.
    batch_size
        Most proteins at a time.
    progress
        Show progress bars.

    Returns
    -------
    dict
        group -> `entries` (number), and for `model`, `mean` and `sequence` each: `loss` (weighted sum), `properties`
        (property -> loss as in training: mean over proteins of the RMSE) and, for MD groups, `correlations`
        (property -> `pearson` and `spearman`, medians over proteins, and `proteins`, for how many they exist).
        Correlations of `corr` are over the valid pairs i != j. What does not exist is None.

    Raises
    ------
    InputError
        There is no test entry, or no training entry of a group that has test entries.
    """
    test, train = (group_sequences(table, store, label) for label in ("test", "train"))
    groups = [group for group in GROUPS if test[group]]
    if not groups:
        raise InputError(f"{store.path}: no entry labelled test in the table is in the store; nothing to evaluate")
    if left := [group for group in GROUPS if group not in groups]:
        LOGGER.warning("warning: no test entry of %s", ", ".join(left))
    model.eval()
    metrics: dict[str, Any] = {}
    for group in groups:
        if not train[group]:
            raise InputError(f"{store.path}: no training entry of {group} to fit the baselines on")
        shown = tqdm(train[group], desc=f"baselines, {group}", unit="entry", disable=not progress)
        baselines = Baselines(group, (load_entry(store, *entry, group) for entry in shown))
        predictors: dict[str, Predictor] = {
            "model": lambda batch: model(batch.input_ids, batch.attention_mask),
            "mean": baselines.mean,
            "sequence": baselines.sequence,
        }
        scores = {name: Score(group, weights[group]) for name in predictors}
        device = next(model.parameters()).device
        with (
            torch.inference_mode(),
            tqdm(total=len(test[group]), desc=group, unit="entry", disable=not progress) as bar,
        ):
            for batch in length_batches(store, group, test[group], length, batch_size):
                batch = batch.to(device)
                for name, predict in predictors.items():
                    scores[name].add(predict(batch), batch)
                bar.update(len(batch.names))
        metrics[group] = {"entries": len(test[group])} | {name: score.result() for name, score in scores.items()}
    return metrics


def length_batches(
    store: FeatureStore, group: str, entries: Sequence[tuple[str, str]], length: int, batch_size: int
) -> Iterator[Batch]:
    """First `length` tokens of each entry, shortest first; a batch has no more pairs than one protein of `length`."""
    lengths = {name: min(store.length(name), length) for name, _ in entries}
    held: list[Entry] = []
    for name, sequence in sorted(entries, key=lambda entry: lengths[entry[0]]):
        if held and (len(held) == batch_size or (len(held) + 1) * lengths[name] ** 2 > length**2):
            yield collate(group, held)
            held = []
        held.append(load_entry(store, name, sequence, group, 0, length))
    if held:
        yield collate(group, held)


class Score:
    """Losses and correlations of one predictor on one group, as sums over proteins."""

    def __init__(self, group: str, weights: Mapping[str, float]) -> None:
        self.group, self.weights = group, weights
        self.names = properties_of_group(group)
        self.sums = torch.zeros(len(self.names), dtype=torch.float64)
        self.counts = torch.zeros(len(self.names), dtype=torch.float64)
        self.correlations: dict[str, list[tuple[float, float]]] = {
            name: [] for name in CORRELATED if name in self.names
        }

    def add(self, outputs: Mapping[str, Tensor], batch: Batch) -> None:
        """Add the proteins of a batch."""
        losses = dance_loss(outputs, batch.residue, batch.pair, self.group, self.weights)
        counts = valid_counts(batch.residue, batch.pair, self.group).cpu().double()
        self.sums += torch.stack([losses[name] for name in self.names]).cpu().double() * counts
        self.counts += counts
        for name, found in self.correlations.items():
            for prediction, target in valid_values(name, outputs[name], batch):
                if (pair := correlations(prediction, target)) is not None:
                    found.append(pair)

    def result(self) -> dict[str, Any]:
        """Numbers of all proteins added so far."""
        losses = {
            name: total / count if count else None
            for name, total, count in zip(self.names, self.sums.tolist(), self.counts.tolist(), strict=True)
        }
        result: dict[str, Any] = {
            "loss": sum(self.weights[name] * (loss or 0.0) for name, loss in losses.items()),
            "properties": losses,
        }
        if self.correlations:
            result["correlations"] = {name: _medians(found) for name, found in self.correlations.items()}
        return result


def _medians(found: Sequence[tuple[float, float]]) -> dict[str, float | None]:
    pearson, spearman = np.median(found, axis=0).tolist() if found else (None, None)
    return {"pearson": pearson, "spearman": spearman, "proteins": len(found)}


def valid_values(name: str, prediction: Tensor, batch: Batch) -> Iterator[tuple[Array, Array]]:
    """Prediction and target (n,) of a property at the valid positions of each protein; pairs without i = j."""
    if name in RESIDUE_COLUMNS:
        valid = batch.residue[..., 0] != MISSING  # (B, L)
        target = batch.residue[..., entry_residue_columns(name).start]
    else:
        diagonal = torch.eye(batch.pair.shape[1], dtype=torch.bool, device=batch.pair.device)
        valid = (batch.pair[..., 0] != MISSING) & ~diagonal  # (B, L, L)
        target = batch.pair[..., entry_pair_channel(name)]
    for row, mask in enumerate(valid):
        yield prediction[row][mask].double().cpu().numpy(), target[row][mask].double().cpu().numpy()


def correlations(first: Array, second: Array) -> tuple[float, float] | None:
    """Pearson's and Spearman's correlation; None for fewer than three values or where one side is constant."""
    if len(first) < FEWEST or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    spearman = np.corrcoef(rankdata(first), rankdata(second))[0, 1]
    return float(np.corrcoef(first, second)[0, 1]), float(spearman)


class Baselines:
    """Means over the valid positions of a group's training entries; entries are read one after the other and not kept.

    Parameters
    ----------
    group
        Training group.
    entries
        Whole proteins.
    """

    def __init__(self, group: str, entries: Iterable[Entry]) -> None:
        self.group = group
        nma = group in NMA_GROUPS
        residue = Means(NMA_RESIDUE_WIDTH if nma else MD_RESIDUE_WIDTH)
        pair = Means(NMA_PAIR_WIDTH if nma else MD_PAIR_WIDTH)
        for entry in entries:
            valid = entry.residue[:, 0].numpy() != MISSING
            residue.add(entry.input_ids.numpy()[valid], entry.residue.numpy()[valid])
            valid = entry.pair[..., 0].numpy() != MISSING
            pair.add(pair_classes(entry.input_ids.numpy())[valid], entry.pair.numpy()[valid])
        self._residue, self._residue_mean = residue.table(len(VOCABULARY), nearest=False)
        self._pair, self._pair_mean = pair.table(pair.classes, nearest=True)

    def mean(self, batch: Batch) -> dict[str, Tensor]:
        """Predict the mean of each column everywhere."""
        residue = torch.from_numpy(self._residue_mean).float().to(batch.residue.device)
        pair = torch.from_numpy(self._pair_mean).float().to(batch.pair.device)
        return self._outputs(residue.expand_as(batch.residue), pair.expand_as(batch.pair))

    def sequence(self, batch: Batch) -> dict[str, Tensor]:
        """Predict the mean of the amino acid, and of the distance along the chain."""
        ids = batch.input_ids.cpu().numpy()
        classes = np.stack([pair_classes(row) for row in ids]).clip(max=len(self._pair) - 1)  # (B, L, L)
        residue = torch.from_numpy(self._residue.astype(np.float32)[ids])  # (B, L, C)
        pair = torch.from_numpy(self._pair.astype(np.float32)[classes])  # (B, L, L, K)
        return self._outputs(residue.to(batch.residue.device), pair.to(batch.pair.device))

    def _outputs(self, residue: Tensor, pair: Tensor) -> dict[str, Tensor]:
        """(B, L, C) and (B, L, L, K) in an entry's own columns -> property -> (B, L), (B, L, bins) or (B, L, L)."""
        outputs = {}
        for name in properties_of_group(self.group):
            if name in RESIDUE_COLUMNS:
                columns = residue[..., entry_residue_columns(name)]
                outputs[name] = columns.squeeze(-1) if columns.shape[-1] == 1 else columns
            else:
                outputs[name] = pair[..., entry_pair_channel(name)]
        return outputs


def pair_classes(input_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Class of each token pair: 0 between two chains, 1 + |i-j| within one. (T,) token ids -> (T, T)."""
    chain = (input_ids == CLS_ID).cumsum()
    place = np.arange(len(input_ids))
    return np.where(chain[:, None] == chain, 1 + np.abs(place[:, None] - place), 0)


class Means:
    """Running sums of rows by class."""

    def __init__(self, columns: int) -> None:
        self.sums: Array = np.zeros((0, columns))  # (classes, columns)
        self.counts: Array = np.zeros(0)

    @property
    def classes(self) -> int:
        """One more than the highest class seen."""
        return len(self.counts)

    def add(self, classes: NDArray[np.int64], rows: NDArray[np.float32]) -> None:
        """Add rows (n, columns) of the given classes (n,)."""
        size = max(self.classes, int(classes.max(initial=-1)) + 1)
        more = size - self.classes
        self.counts = np.pad(self.counts, (0, more)) + np.bincount(classes, minlength=size)
        added = [np.bincount(classes, column, minlength=size) for column in rows.T]
        self.sums = np.pad(self.sums, ((0, more), (0, 0))) + np.stack(added, axis=1)  # (size, columns)

    def table(self, classes: int, nearest: bool) -> tuple[Array, Array]:
        """Means by class (classes, columns) and over all rows (columns,).

        A class without rows has the mean of the nearest class > 0 that has some (`nearest`; class 0 stands for itself),
        or the mean over all rows.
        """
        overall = self.sums.sum(0) / max(self.counts.sum(), 1.0)
        means = np.tile(overall, (max(classes, 1), 1))
        seen = np.flatnonzero(self.counts)
        means[seen] = self.sums[seen] / self.counts[seen, None]
        if nearest and len(filled := seen[seen > 0]):
            for empty in np.setdiff1d(np.arange(1, classes), seen):
                means[empty] = means[filled[np.abs(filled - empty).argmin()]]
        return means, overall


def report(metrics: Mapping[str, Any]) -> str:
    """Metrics as two tables of text: losses, and correlations."""
    losses, correlated = [], []
    predictors = ("model", "mean", "sequence")
    for group, values in metrics.items():
        for name in properties_of_group(group):
            losses.append([group, name, *(values[p]["properties"][name] for p in predictors)])
        losses.append([group, "loss", *(values[p]["loss"] for p in predictors)])
        for name, found in values["model"].get("correlations", {}).items():
            numbers = [
                values[p]["correlations"][name][kind] for kind in ("pearson", "spearman") for p in ("model", "sequence")
            ]
            correlated.append([group, name, found["proteins"], *numbers])
    first = pd.DataFrame(losses, columns=["group", "property", *predictors])
    headings = ["group", "property", "proteins", "pearson", "(sequence)", "spearman", "(sequence)"]
    second = pd.DataFrame(correlated, columns=headings)
    texts = [frame.to_string(index=False, na_rep="-", float_format="{:.4f}".format) for frame in (first, second)]
    return f"losses\n{texts[0]}\n\ncorrelations, medians over proteins\n{texts[1]}"


def run(config: EvaluateConfig) -> None:
    """Evaluate, write the metrics and print them."""
    require_files(table=config.table, store=config.store, weights=config.weights)
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch sees no GPU here; use --device cpu")
    weights = read_loss_weights(config.weights)
    model = load_model(config.checkpoint, config.device)
    with FeatureStore(config.store) as store:
        metrics = evaluate(model, read_table(config.table), store, weights, config.length, config.batch_size)
    config.output.parent.mkdir(parents=True, exist_ok=True)
    content = {"checkpoint": config.checkpoint, "length": config.length, "groups": metrics}
    write_text(config.output, json.dumps(content, indent=2, allow_nan=False) + "\n")
    print(report(metrics))


def main(args: Sequence[str] | None = None) -> None:
    """Command line."""
    config = tyro.cli(EvaluateConfig, args=args)
    run_command(lambda: run(config), config.debug)


if __name__ == "__main__":
    main(sys.argv[1:])
