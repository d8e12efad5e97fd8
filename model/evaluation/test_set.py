"""Evaluate a network, baselines and elastic networks on the test entries of a training table."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from data_prepare.dataset.loss_weights import Weights
from data_prepare.dataset.store import FeatureStore
from data_prepare.errors import InputError, require, some_of
from data_prepare.properties import (
    ALL_GROUPS,
    GROUPS,
    MISSING,
    NMA_GROUPS,
    PROPERTIES,
    RESIDUE_COLUMNS,
    entry_pair_channel,
    entry_residue_columns,
    properties_of_group,
)
from model.config import MAX_TOKENS
from model.evaluation.baselines import MeanBaselines
from model.evaluation.elastic_networks import NETWORKS, structure_profiles
from model.evaluation.metrics import pearson, spearman
from model.inference.batches import length_batches
from model.network.dance import DanceModel
from model.network.device import autocast, require_finite
from model.training.data import Batch, Sequences, collate, group_sequences, load_entry
from model.training.loss import dance_loss, valid_counts
from model.training.processes import Process

LOGGER: Final = logging.getLogger("seqdance")
LEARNT: Final = ("model", "mean", "sequence")  # predictors of all properties
PREDICTORS: Final = (*LEARNT, *NETWORKS)
CORRELATED: Final = ("rmsf_nor", "sasa_mean", "corr")  # properties with correlations for each protein
OF_NETWORKS: Final = ("rmsf_nor", "corr")  # properties that elastic networks predict
KINDS: Final = ("pearson", "spearman")
NUMBERS: Final = ("loss", *KINDS, *(f"{kind}_resolved" for kind in KINDS))

Outputs = Mapping[str, Tensor]  # property -> prediction (B, L), (B, L, bins) or (B, L, L)


class PropertyMetrics(NamedTuple):
    """Metrics of one property of one test entry by one predictor; NaN if undefined.

    Correlations of pairs are over i != j; those with `_resolved` are over the positions resolved in the structure.
    """

    group: str
    entry: str
    property: str
    predictor: str
    loss: float  # RMSE over the valid positions, as in training; elastic networks have none
    pearson: float
    spearman: float
    pearson_resolved: float
    spearman_resolved: float


def protein_metrics(
    predictor: str, outputs: Outputs, batch: Batch, row: int, weights: Mapping[str, float], resolved: Tensor | None
) -> Iterator[PropertyMetrics]:
    """Metrics of each property of one protein of a batch; `resolved` (T,) bool: tokens that its structure resolves."""
    n, own = int(batch.attention_mask[row].sum()), slice(row, row + 1)
    residue, pair = batch.residue[own, :n], batch.pair[own, :n, :n]
    outputs = {name: v[own, :n] if name in RESIDUE_COLUMNS else v[own, :n, :n] for name, v in outputs.items()}
    losses = dict.fromkeys(outputs, math.nan)
    if predictor in LEARNT:
        names = properties_of_group(batch.group)
        present = None if batch.present is None else batch.present[own]
        found = dance_loss(outputs, residue, pair, batch.group, weights, present=present)
        counts = valid_counts(residue, pair, batch.group, present)  # 1, or 0 if missing or no position is valid
        values = torch.stack([found[name] for name in names]).masked_fill(counts == 0, math.nan)
        losses = dict(zip(names, values.tolist(), strict=True))
    for name, loss in losses.items():
        everywhere = where_resolved = (math.nan, math.nan)
        if name in CORRELATED:
            if name in RESIDUE_COLUMNS:
                target, valid = residue[0, :, entry_residue_columns(name).start], residue[0, :, 0] != MISSING  # (T,)
            else:
                target, valid = pair[0, ..., entry_pair_channel(name)], pair[0, ..., 0] != MISSING  # (T, T)
                valid = valid & ~torch.eye(n, dtype=torch.bool, device=valid.device)
            valid = valid & ~target.isnan()  # of a missing property
            prediction = outputs[name][0]
            if predictor in LEARNT:
                everywhere = _correlations(prediction[valid], target[valid])
            if resolved is not None and name in OF_NETWORKS:
                both = valid & (resolved if valid.ndim == 1 else resolved[:, None] & resolved)
                where_resolved = _correlations(prediction[both], target[both])
        yield PropertyMetrics(batch.group, batch.names[row], name, predictor, loss, *everywhere, *where_resolved)


def _correlations(first: Tensor, second: Tensor) -> tuple[float, float]:
    """Pearson's and Spearman's correlation; both NaN if the first is undefined."""
    linear = pearson(first, second)
    return linear, math.nan if math.isnan(linear) else spearman(first, second)


class Evaluation:
    """Test entries and the metrics of the baselines on them; measures one network after another.

    Baselines are fitted on the entries labelled train; all metrics are of those labelled test. Proteins are cut after
    `length` tokens. `structures` is a folder for `structure_profiles`; `precision` is that of the network's forward
    pass. Batches, and therefore metrics, do not depend on the number of processes that share them.
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
    ) -> None:
        test, train = process.first(lambda: usable_entries(table, store))
        self.store, self.weights, self.process = store, weights, process
        self.length, self.precision, self.structures = length, precision, structures
        self.groups = {group: [name for name, _ in entries] for group, entries in test.items()}
        self._sequences = dict(entry for entries in test.values() for entry in entries)
        # no batch has more pairs than one protein of the full length
        self._batches: dict[str, list[list[tuple[str, str]]]] = {}
        for group, entries in test.items():
            lengths = [min(store.length(name), length) for name, _ in entries]
            batches = list(length_batches(lengths, None, lambda tokens: min(batch_size, length**2 // tokens**2)))
            own = batches[process.rank :: process.processes]
            self._batches[group] = [[entries[index] for index in batch] for batch in own]
        self.without: dict[str, str] = {}  # entry -> reason why it has no structure
        self._resolved: dict[str, Tensor] = {}  # entry of this process -> (T,) bool, tokens that its structure resolves
        self.baselines = self._measure_baselines(train)

    def measure(self, model: DanceModel) -> list[PropertyMetrics]:
        """Metrics of a network on the entries of all processes; sets the network to evaluation mode."""
        model.eval()

        def predict(batch: Batch) -> dict[str, Outputs]:
            with autocast(batch.residue.device, self.precision):
                outputs = model(batch.input_ids, batch.attention_mask)
            require_finite(outputs, some_of(batch.names))
            return {"model": outputs}

        return self._gather(row for group in self.groups for row in self._measure(group, "model", predict))

    def _measure_baselines(self, train: Sequences) -> list[PropertyMetrics]:
        """Metrics of all baselines; fills `without` and the resolved tokens."""
        rows: list[PropertyMetrics] = []
        for group in self.groups:
            if self.structures is not None and group not in NMA_GROUPS:  # whose targets are these networks
                rows += self._measure(group, "elastic networks", self._elastic_networks)
            fitted = MeanBaselines.fit(group, self.store, train[group], self.process)
            rows += self._measure(group, "mean, sequence", fitted.predict)
        self.without = {entry: reason for found in self.process.gather(self.without) for entry, reason in found.items()}
        if self.without:
            reason = next(iter(self.without.values()))
            LOGGER.warning("warning: %d test entries without a structure; the first: %s", len(self.without), reason)
        return self._gather(rows)

    def _elastic_networks(self, batch: Batch) -> dict[str, Outputs]:
        """Predictions of the elastic networks, NaN without a structure."""
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
        """Metrics of the predictors in the result of `predict`, on the batches of this process."""
        total = sum(map(len, self._batches[group]))
        with tqdm(total=total, desc=f"{title}, {group}", unit="entry", disable=self.process.rank > 0) as bar:
            for names in self._batches[group]:
                entries = [load_entry(self.store, *entry, group, 0, self.length) for entry in names]
                batch = collate(group, entries).to(self.process.device)
                with torch.inference_mode():
                    predicted = predict(batch)
                for row, entry in enumerate(batch.names):
                    resolved = self._resolved.get(entry)
                    for predictor, outputs in predicted.items():
                        yield from protein_metrics(predictor, outputs, batch, row, self.weights[group], resolved)
                bar.update(len(entries))

    def _gather(self, own: Iterable[PropertyMetrics]) -> list[PropertyMetrics]:
        """Rows of all processes, in the order of the table, `PROPERTIES` and `PREDICTORS`."""
        order = {entry: number for number, entry in enumerate(self._sequences)}

        def key(row: PropertyMetrics) -> tuple[int, int, int]:
            return order[row.entry], PROPERTIES.index(row.property), PREDICTORS.index(row.predictor)

        return sorted((row for rows in self.process.gather(list(own)) for row in rows), key=key)

    def metrics(self, network: list[PropertyMetrics]) -> dict[str, Any]:
        """Means and medians over all proteins of the rows of `measure` and of the baselines; undefined ones are None.

        Group -> `entries` (number) and, for `model`, `mean` and `sequence` each, `loss` (weighted sum), `properties`
        (property -> loss as in training: mean over proteins of the RMSE) and, for MD groups, `correlations` (property
        -> medians `pearson` and `spearman`, and `proteins`, the number of proteins for which they are defined).

        With structures, MD groups also have `structures`: `entries` (number with a structure), `without` (entry ->
        reason) and `correlations` (predictor, also `gnm` and `anm` -> property -> as above) over resolved positions.
        """
        rows = pd.DataFrame(self.baselines + network).groupby(["group", "predictor", "property"])
        table = rows[[name for name in NUMBERS if name != "loss"]].median()
        table["loss"] = rows["loss"].mean()
        table[["proteins", "proteins_resolved"]] = rows[["pearson", "pearson_resolved"]].count()
        table = table.astype(object).where(table.notna(), None)

        def correlations(group: str, predictor: str, names: Sequence[str], suffix: str = "") -> dict[str, Any]:
            columns = (*KINDS, "proteins")
            return {name: {c: table.at[(group, predictor, name), f"{c}{suffix}"] for c in columns} for name in names}

        result: dict[str, Any] = {}
        for group, entries in self.groups.items():
            weights = self.weights[group]
            result[group] = {"entries": len(entries)}
            for predictor in LEARNT:
                losses = {name: table["loss"][group, predictor, name] for name in properties_of_group(group)}
                total = sum(weights[name] * (loss or 0.0) for name, loss in losses.items())
                result[group][predictor] = {"loss": total, "properties": losses}
                if group not in NMA_GROUPS:
                    result[group][predictor]["correlations"] = correlations(group, predictor, CORRELATED)
            if self.structures is not None and group not in NMA_GROUPS:
                without = {entry: self.without[entry] for entry in entries if entry in self.without}
                medians = {name: correlations(group, name, OF_NETWORKS, "_resolved") for name in PREDICTORS}
                resolved = {"entries": len(entries) - len(without), "without": without, "correlations": medians}
                result[group]["structures"] = resolved
        return result

    def per_protein(self, network: list[PropertyMetrics]) -> pd.DataFrame:
        """One row per entry and property; columns `loss_model`, `pearson_model`, ..., without empty ones."""
        keys, columns = ["group", "entry", "property"], [(kind, name) for kind in NUMBERS for name in PREDICTORS]
        rows = pd.DataFrame(network + self.baselines)
        wide = rows.pivot(index=keys, columns="predictor").reindex(columns=columns).dropna(axis="columns", how="all")
        wide.columns = pd.Index([f"{kind}_{name}" for kind, name in columns if (kind, name) in wide])
        return wide.loc[pd.MultiIndex.from_frame(rows[keys].drop_duplicates())].reset_index()


def usable_entries(table: pd.DataFrame, store: FeatureStore) -> tuple[Sequences, Sequences]:
    """Test and training entries of the groups that have test entries; each needs training entries, too."""
    test, train = (group_sequences(table, store, label) for label in ("test", "train"))
    groups = [group for group in ALL_GROUPS if test[group]]
    require(groups, f"{store.path}: no entry is labelled test in the table; nothing to evaluate")
    unfitted = ", ".join(group for group in groups if not train[group])
    require(not unfitted, f"{store.path}: no training entry of {unfitted} to fit the baselines on; add some")
    if absent := [group for group in GROUPS if group not in groups]:
        LOGGER.warning("warning: no test entry of %s", ", ".join(absent))
    return {group: test[group] for group in groups}, {group: train[group] for group in groups}
