"""A network, baselines and elastic networks on the test entries of a training table."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from data_prepare.dataset.loss_weights import Weights
from data_prepare.dataset.store import FeatureStore
from data_prepare.errors import InputError, require
from data_prepare.properties import GROUPS, NMA_GROUPS, PROPERTIES, properties_of_group
from model.config import MAX_TOKENS
from model.evaluation.baselines import MeanBaselines
from model.evaluation.elastic_networks import NETWORKS, structure_profiles
from model.evaluation.protein_metrics import (
    CORRELATED,
    LEARNT,
    NUMBERS,
    OF_NETWORKS,
    PREDICTORS,
    Outputs,
    PropertyMetrics,
    protein_metrics,
    protein_of,
    protein_outputs,
)
from model.network.dance import DanceModel
from model.training.data import Batch, Sequences, collate, group_sequences, load_entry
from model.training.processes import Process

LOGGER: Final = logging.getLogger("seqdance")


class Evaluation:
    """The test entries and the baselines' metrics on them; measures one network after another.

    Batches do not depend on the number of processes that share them, and so neither do the numbers.

    Parameters
    ----------
    table, store, weights
        As `read_table`, `FeatureStore` and `read_loss_weights` give them. Baselines are fitted on the entries labelled
        train; all numbers are of those labelled test.
    process
        This process among those that share the entries.
    length
        Longer proteins are cut after this number of tokens.
    batch_size
        Most proteins at a time.
    precision
        Of the network's forward pass: fp32 or bf16.
    structures
        Folder of structures for the elastic networks, see `structure_profiles`.
    progress
        Show progress bars.

    Raises
    ------
    InputError
        There is no test entry, or no training entry of a group that has test entries.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        store: FeatureStore,
        weights: Weights,
        process: Process,
        length: int = MAX_TOKENS,
        batch_size: int = 16,
        precision: str = "fp32",
        structures: Path | None = None,
        progress: bool = True,
    ) -> None:
        test, train = process.first(lambda: usable_entries(table, store))
        self.store, self.weights, self.process = store, weights, process
        self.length, self.precision, self.structures = length, precision, structures
        self.progress = progress and process.rank == 0
        self.groups = {group: [name for name, _ in entries] for group, entries in test.items()}
        self._sequences = dict(entry for entries in test.values() for entry in entries)
        self._batches = {
            group: length_batches(store, entries, length, batch_size)[process.rank :: process.processes]
            for group, entries in test.items()
        }
        self.without: dict[str, str] = {}  # entry -> why it has no structure
        self._resolved: dict[str, Tensor] = {}  # entry of this process -> (T,) bool, tokens that its structure has
        self.baselines = self._measure_baselines(train)

    def measure(self, model: DanceModel) -> list[PropertyMetrics]:
        """Metrics of a network, of the entries of all processes; the network is put into evaluation mode."""
        model.eval()

        def predict(batch: Batch) -> dict[str, Outputs]:
            with torch.autocast(batch.residue.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                return {"model": model(batch.input_ids, batch.attention_mask)}

        return self._gather(row for group in self.groups for row in self._measure(group, "model", predict))

    def _measure_baselines(self, train: Sequences) -> list[PropertyMetrics]:
        """Metrics of all baselines; finds which entries have a structure."""
        rows: list[PropertyMetrics] = []
        for group in self.groups:
            if self.structures is not None and group not in NMA_GROUPS:  # their target are the networks
                rows += self._measure(group, "elastic networks", self._elastic_networks)
            fitted = MeanBaselines.fit(group, self.store, train[group], self.process, self.progress)
            rows += self._measure(group, "mean, sequence", fitted.predict)
        self.without = {entry: reason for found in self.process.gather(self.without) for entry, reason in found.items()}
        if self.without:
            reason = next(iter(self.without.values()))
            LOGGER.warning("warning: %d test entries have no structure, the first: %s", len(self.without), reason)
        return self._gather(rows)

    def _elastic_networks(self, batch: Batch) -> dict[str, Outputs]:
        """Predictions of the elastic networks, NaN where there is no structure."""
        assert self.structures is not None
        size, longest = batch.input_ids.shape
        shapes = {"rmsf_nor": (size, longest), "corr": (size, longest, longest)}
        outputs = {
            network: {name: torch.full(shape, math.nan, dtype=torch.float64) for name, shape in shapes.items()}
            for network in NETWORKS
        }
        for row, entry in enumerate(batch.names):
            try:
                profiles = structure_profiles(self.structures, entry, self._sequences[entry])
            except InputError as error:
                self.without[entry] = str(error)
                continue
            n = int(batch.attention_mask[row].sum())
            for network, profile in profiles.items():
                outputs[network]["rmsf_nor"][row, :n] = torch.from_numpy(profile.fluctuation[:n])
                outputs[network]["corr"][row, :n, :n] = torch.from_numpy(profile.comovement[:n, :n])
                self._resolved[entry] = outputs[network]["rmsf_nor"][row, :n].isfinite().to(batch.residue.device)
        device = batch.residue.device
        return {network: {name: v.to(device) for name, v in found.items()} for network, found in outputs.items()}

    def _measure(
        self, group: str, title: str, predict: Callable[[Batch], Mapping[str, Outputs]]
    ) -> Iterator[PropertyMetrics]:
        """Metrics of the predictors whose outputs `predict` gives, on the batches of this process."""
        batches = self._batches[group]
        total = sum(map(len, batches))
        with tqdm(total=total, desc=f"{title}, {group}", unit="entry", disable=not self.progress) as bar:
            for names in batches:
                entries = [load_entry(self.store, *entry, group, 0, self.length) for entry in names]
                batch = collate(group, entries).to(self.process.device)
                with torch.inference_mode():
                    predicted = predict(batch)
                for row, entry in enumerate(batch.names):
                    protein = protein_of(batch, row)
                    for predictor, outputs in predicted.items():
                        own = protein_outputs(outputs, row, protein.input_ids.shape[1])
                        yield from protein_metrics(
                            predictor, own, protein, self.weights[group], self._resolved.get(entry)
                        )
                bar.update(len(entries))

    def _gather(self, own: Iterable[PropertyMetrics]) -> list[PropertyMetrics]:
        """Rows of all processes, in an order that does not depend on their number."""
        return self._ordered(row for rows in self.process.gather(list(own)) for row in rows)

    def _ordered(self, rows: Iterable[PropertyMetrics]) -> list[PropertyMetrics]:
        """Rows by group, entry as in the table, property and predictor."""
        order = {entry: number for number, entry in enumerate(self._sequences)}

        def key(row: PropertyMetrics) -> tuple[int, int, int]:
            return order[row.entry], PROPERTIES.index(row.property), PREDICTORS.index(row.predictor)

        return sorted(rows, key=key)

    def metrics(self, network: list[PropertyMetrics]) -> dict[str, Any]:
        """Metrics of a network and of the baselines over all proteins.

        Parameters
        ----------
        network
            As `measure` returns them.

        Returns
        -------
        dict
            group -> `entries` (number), and for `model`, `mean` and `sequence` each: `loss` (weighted sum),
            `properties` (property -> loss as in training: mean over proteins of the RMSE) and, for MD groups,
            `correlations` (property -> `pearson` and `spearman`, medians over proteins, and `proteins`, for how many
            they exist). What does not exist is None.

            With structures, MD groups also have `structures`: `entries` (how many have one), `without` (entry -> why
            not) and `correlations` (predictor -> property -> as above, `gnm` and `anm` too), of these entries and over
            the positions that the structure has.
        """
        found: dict[tuple[str, str, str], list[PropertyMetrics]] = defaultdict(list)
        for row in self.baselines + network:
            found[row.group, row.predictor, row.property].append(row)
        result: dict[str, Any] = {}
        for group, entries in self.groups.items():
            result[group] = {"entries": len(entries)}
            for predictor in LEARNT:
                losses = {
                    name: _mean(row.loss for row in found[group, predictor, name])
                    for name in properties_of_group(group)
                }
                total = sum(self.weights[group][name] * (loss or 0.0) for name, loss in losses.items())
                result[group][predictor] = {"loss": total, "properties": losses}
                if group not in NMA_GROUPS:
                    result[group][predictor]["correlations"] = {
                        name: _medians((row.pearson, row.spearman) for row in found[group, predictor, name])
                        for name in CORRELATED
                    }
            if self.structures is not None and group not in NMA_GROUPS:
                without = {entry: self.without[entry] for entry in entries if entry in self.without}
                correlations = {
                    predictor: {
                        name: _medians(
                            (row.pearson_resolved, row.spearman_resolved) for row in found[group, predictor, name]
                        )
                        for name in OF_NETWORKS
                    }
                    for predictor in PREDICTORS
                }
                result[group]["structures"] = {
                    "entries": len(entries) - len(without),
                    "without": without,
                    "correlations": correlations,
                }
        return result

    def per_protein(self, network: list[PropertyMetrics]) -> pd.DataFrame:
        """One row per entry and property; columns `loss_model`, `pearson_model`, ..., except those without numbers."""
        rows: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
        for row in self._ordered(self.baselines + network):
            for kind in NUMBERS:
                rows[row.group, row.entry, row.property][f"{kind}_{row.predictor}"] = getattr(row, kind)
        keys = pd.DataFrame(list(rows), columns=["group", "entry", "property"])
        columns = [f"{kind}_{predictor}" for kind in NUMBERS for predictor in PREDICTORS]
        return keys.join(pd.DataFrame(list(rows.values()), columns=columns).dropna(axis="columns", how="all"))


def usable_entries(table: pd.DataFrame, store: FeatureStore) -> tuple[Sequences, Sequences]:
    """Test and training entries of the groups that have test entries.

    Raises
    ------
    InputError
        There is no test entry, or no training entry of a group that has test entries.
    """
    test, train = (group_sequences(table, store, label) for label in ("test", "train"))
    groups = [group for group in GROUPS if test[group]]
    require(groups, f"{store.path}: it has no entry labelled test in the table; nothing to evaluate")
    unfitted = ", ".join(group for group in groups if not train[group])
    require(not unfitted, f"{store.path}: no training entry of {unfitted} to fit the baselines on; add some")
    if absent := [group for group in GROUPS if group not in groups]:
        LOGGER.warning("warning: no test entry of %s", ", ".join(absent))
    return {group: test[group] for group in groups}, {group: train[group] for group in groups}


def length_batches(
    store: FeatureStore, entries: Sequence[tuple[str, str]], length: int, batch_size: int
) -> list[list[tuple[str, str]]]:
    """Entries (name, modify_seq) in batches, shortest first; none has more pairs than one protein of `length`."""
    lengths = {name: min(store.length(name), length) for name, _ in entries}
    batches: list[list[tuple[str, str]]] = [[]]
    for entry in sorted(entries, key=lambda entry: lengths[entry[0]]):
        size = len(batches[-1]) + 1
        if size > batch_size or (size > 1 and size * lengths[entry[0]] ** 2 > length**2):
            batches.append([])
        batches[-1].append(entry)
    return batches


def _mean(values: Iterable[float]) -> float | None:
    """Mean of the numbers that exist."""
    kept = [value for value in values if not math.isnan(value)]
    return math.fsum(kept) / len(kept) if kept else None


def _medians(pairs: Iterable[tuple[float, float]]) -> dict[str, float | None]:
    kept = [pair for pair in pairs if not math.isnan(pair[0])]
    pearson, spearman = np.median(kept, axis=0).tolist() if kept else (None, None)
    return {"pearson": pearson, "spearman": spearman, "proteins": len(kept)}
