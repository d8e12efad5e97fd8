"""Loss weights that balance the properties, computed from the training entries of a store.

The baseline of a property in a group is the loss of a predictor that knows the mean of each protein: the square root of
the variance over the valid positions of a protein (averaged over bins), averaged over proteins. The weighted baselines
obey

- pair : residue = 3 : 1, for normal modes separately in each frequency range;
- SASA, RMSF, secondary structure and dihedrals equal, and equal within them (SASA mean and SD; chi, phi, psi);
- the nine interactions equal, their sum : co-movement = 3 : 1; the three frequency ranges equal;
- 1 for each group: a group loss below 1 beats that predictor.

Conformations have no fluctuations: the shares of these go to the other residue properties and to the interactions.
A property with a baseline of 0 (an interaction that no training protein of the group has) gets the weight 0.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.store_layout import REMEDY, PairArray, row_blocks, shape_problem
from data_prepare.errors import reading, require
from data_prepare.files import read_numbers, read_text_table, whole_file
from data_prepare.properties import (
    ALL_GROUPS,
    CONFORMATIONS,
    FLUCTUATIONS,
    GROUPS,
    INTERACTIONS,
    MISSING,
    NMA_GROUPS,
    PAIR_CHANNELS,
    PROPERTIES,
    PROPERTIES_OF_FEATURE,
    entry_pair_channel,
    entry_residue_columns,
    properties_of_group,
)

Weights = dict[str, dict[str, float]]  # group -> property -> number

PAIR_SHARE = 3 / 4  # pair : residue = 3 : 1
INTERACTION_SHARE = 3 / 4  # of the pair share; the rest is co-movement
SPREAD: Final = "spread"  # attribute of an entry: its `entry_spread` as JSON, so that its arrays are not read again


def _shares(group: str) -> dict[str, float]:
    """Share of each property in the weighted baseline of a group; the sum is 1."""
    residue, pair = 1 - PAIR_SHARE, PAIR_SHARE
    if group in NMA_GROUPS:
        return {f"nma_res{k}": residue / 3 for k in (1, 2, 3)} | {f"nma_pair{k}": pair / 3 for k in (1, 2, 3)}
    features = [PROPERTIES_OF_FEATURE[feature] for feature in ("sasa", "rmsf", "ss", "dihedrals")]
    interactions = INTERACTION_SHARE
    if group == CONFORMATIONS:
        features = [names for own in features if (names := tuple(name for name in own if name not in FLUCTUATIONS))]
        interactions = 1.0
    shares = {name: residue / len(features) / len(names) for names in features for name in names}
    shares |= {name: pair * interactions / len(INTERACTIONS) for name in INTERACTIONS}
    return shares | {"corr": pair * (1 - interactions)}


def entry_spread(residue: NDArray, pair: PairArray, group: str, missing: Collection[str] = ()) -> dict[str, float]:
    """Standard deviation of each property of a group over the valid positions of an entry, if it has any.

    The features are (L, 47 or 3) and (L, L, 10 or 3) in token space, RMSF in nm; `missing` properties are left out. The
    pairs may be an array of a file: they are read in blocks of rows.
    """
    names = [name for name in properties_of_group(group) if name not in missing]
    residue = residue[(residue != MISSING).any(axis=1)].astype(np.float64)  # (N, 47 or 3)
    spread = {}
    for name in (name for name in names if name not in PAIR_CHANNELS and len(residue)):
        values = residue[:, entry_residue_columns(name)]
        if name == "rmsf_nor":
            values = values / max(values.max(), np.finfo(np.float32).tiny)
        spread[name] = float(np.sqrt(values.var(axis=0).mean()))
    pairs = [name for name in names if name in PAIR_CHANNELS]
    if pairs:
        spread |= zip(pairs, _pair_spread(pair, [entry_pair_channel(name) for name in pairs]).tolist(), strict=True)
    return {name: value for name, value in spread.items() if not np.isnan(value)}


def _pair_spread(pair: PairArray, channels: Sequence[int]) -> NDArray[np.float64]:
    """Standard deviation (K,) of channels over the valid pairs of (L, L, 10 or 3); NaN if none is valid.

    Moments of blocks are added as in Chan, Golub and LeVeque (1983), Am. Stat. 37, 242.
    """
    count, mean, squares = 0, np.zeros(len(channels)), np.zeros(len(channels))
    for rows in row_blocks(pair.shape):
        block = pair[rows]  # (B, L, 10 or 3)
        valid = (block != MISSING).any(axis=-1)
        if not (number := int(valid.sum())):
            continue
        values = np.stack([block[..., channel][valid] for channel in channels]).astype(np.float64)  # (K, number)
        step = values.mean(axis=1) - mean
        squares += number * values.var(axis=1) + step**2 * count * number / (count + number)
        mean += step * number / (count + number)
        count += number
    return np.sqrt(squares / count) if count else np.full(len(channels), np.nan)


def _spread_of(store: FeatureStore, name: str, group: str) -> dict[str, float]:
    """`entry_spread` of a stored entry: its attribute, or computed if it has none."""
    known = store.attributes_of(name).get(SPREAD)
    if not known:
        with store.reading(name):
            residue, pair = store.datasets(name)
            problem = shape_problem(residue.shape, pair.shape)
            require(problem is None, f"{store.path}: entry {name}: {problem}; {REMEDY}")
            return entry_spread(residue[:], pair, group, store.missing(name))
    with reading(f"{store.path}: entry {name}: {SPREAD}", "JSON of properties and numbers", "recreate the entry"):
        return {key: float(value) for key, value in json.loads(str(known)).items()}


def baselines(store: FeatureStore, table: pd.DataFrame) -> Weights:
    """Mean of `entry_spread` over the training entries of each group that has some."""
    result: Weights = {}
    train = table[table["label"] == "train"]
    for group in ALL_GROUPS:
        names = list(train.loc[train["group"] == group, "name"])
        if not names:
            continue
        spreads = [_spread_of(store, name, group) for name in tqdm(names, desc=f"loss weights, {group}", unit="entry")]
        means = pd.DataFrame(spreads).mean()  # an entry may lack some properties
        result[group] = {name: float(means.get(name, 0.0)) for name in properties_of_group(group)}
    return result


def loss_weights(baseline: Mapping[str, Mapping[str, float]]) -> Weights:
    """Weights of all 23 properties in each group; 0 for properties that the group lacks."""
    weights: Weights = {}
    for group, values in baseline.items():
        shares = _shares(group)
        weights[group] = dict.fromkeys(PROPERTIES, 0.0)
        for name, value in values.items():
            weights[group][name] = shares.get(name, 0.0) / value if value > 0 else 0.0
    return weights


def write_loss_weights(path: str | Path, weights: Mapping[str, Mapping[str, float]]) -> None:
    """Write a CSV with a row per property and a column per group of `weights`."""
    with whole_file(path) as temporary:
        pd.DataFrame(weights, index=list(PROPERTIES)).to_csv(temporary)


def read_loss_weights(path: str | Path, groups: Sequence[str] = GROUPS) -> Weights:
    """Read the CSV; InputError unless each of `groups` and each property has one finite weight >= 0.

    Cells of properties that a group does not have may be empty, as in published tables.
    """
    table = read_text_table(path, groups)
    numbers = {group: read_numbers(path, table[group]).to_numpy() for group in groups}
    table = pd.DataFrame(numbers, index=table[table.columns[0]].str.strip())
    absent = [name for name in PROPERTIES if name not in table.index]
    require(not absent, f"{path}: no weights for {', '.join(absent)}; rows are properties, columns are groups")
    require(not table.index.has_duplicates, f"{path}: two rows of one property; remove one")
    weights: Weights = {}
    for group in groups:
        weights[group] = {name: float(table[group][name]) for name in PROPERTIES}
        for name, weight in weights[group].items():
            if np.isnan(weight) and name not in properties_of_group(group):
                weights[group][name] = 0.0
            require(
                weights[group][name] >= 0, f"{path}: the weight of {name} in {group} is missing or below 0; correct it"
            )
    return weights
