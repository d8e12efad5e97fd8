"""How well each attention map marks the residue pairs that move together or interact, in a protein or a store.

Source: Hou, Zhao, Shen, PNAS 2026 (doi 10.1073/pnas.2530466123), in the forms of the published notebook and the paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.table import read_table
from data_prepare.errors import require
from data_prepare.files import whole_file
from data_prepare.properties import (
    GROUPS,
    INTERACTIONS,
    MD_PAIR_WIDTH,
    MISSING,
    NMA_GROUPS,
    NMA_PAIR_WIDTH,
    PAIR_PROPERTIES,
    entry_pair_channel,
)
from data_prepare.resume import Results, digest
from model.choices import AttentionForm
from model.config import Precision
from model.evaluation.metrics import auroc_of_ranks, pearson
from model.inference.attention import attention_maps
from model.inference.batches import residue_rows
from model.network.dance import DanceModel
from model.network.device import choose_precision, device_of
from model.network.weights import network_digest
from model.training.data import group_sequences, load_entry

Values = NDArray[np.float64]

METRICS_VERSION: Final = 2  # increase it when metrics change; older results are then not used
SEPARATION_ABOVE: Final[dict[AttentionForm, int]] = {"notebook": 2, "paper": 5}  # pairs with a larger |i - j| are used
INTERACTING: Final = 0.01 * (1 - 1e-6)  # least summed frequency of an interacting pair; stored as float32 cube roots
RATIO_OFFSET: Final = 1e-8  # keeps the ratio of the notebook finite
ROUNDING: Final = 1e-12  # a smaller fraction of a sum is only rounding

_CO_MOVE: Final = ("co_move_posi_spearman", "co_move_neg_spearman")
_NMA: Final = tuple(f"{name}_{sign}_spearman" for name in PAIR_PROPERTIES[MD_PAIR_WIDTH:] for sign in ("posi", "neg"))
# columns of `attention_metrics` by form and number of pair features
METRICS: Final[dict[tuple[AttentionForm, int], tuple[str, ...]]] = {
    ("notebook", MD_PAIR_WIDTH): ("co_move_topL_ratio", *_CO_MOVE, "inter_topL_ratio", "inter_auroc"),
    ("paper", MD_PAIR_WIDTH): (*_CO_MOVE, "inter_spearman"),
    ("notebook", NMA_PAIR_WIDTH): _NMA,
    ("paper", NMA_PAIR_WIDTH): _NMA,
}
EXAMPLE_METRICS: Final = {"co_move_posi_spearman": "corr", "nma_pair1_posi_spearman": "nma_pair1"}  # metric -> property


class AscendingPairs(NamedTuple):
    """Pairs in ascending order of their attention, sorted once per map for the ranks in all subsets of pairs."""

    order: NDArray[np.intp]  # (n,) pairs
    values: NDArray  # (n,) their attention

    @classmethod
    def of(cls, values: NDArray) -> AscendingPairs:
        """Order (n,) values."""
        order = values.argsort()
        return cls(order, values[order])

    def ranks(self, members: NDArray[np.bool_]) -> tuple[NDArray[np.intp], Values]:
        """Indices of the members of the (n,) pairs, in ascending order, and their ranks from 1, mean ranks if tied."""
        inside = np.flatnonzero(members[self.order])  # (m,) positions in the order
        values = self.values[inside]
        ranks = np.arange(1.0, len(inside) + 1)
        same = np.flatnonzero(values[1:] == values[:-1])
        if same.size:
            tied = np.union1d(same, same + 1)
            first, last = (np.searchsorted(values, values[tied], side) for side in ("left", "right"))
            ranks[tied] = (first + 1 + last) / 2
        return self.order[inside], ranks


Metric = Callable[[AscendingPairs], float]


def attention_metrics(maps: NDArray, pair_feature: NDArray, form: AttentionForm = "notebook") -> pd.DataFrame:
    """Compare the attention maps of a protein with its pair features.

    Pairs without features (first channel -1: special tokens, unresolved residues) are left out. Both forms have
    Spearman's correlations of the attention with the positive (`posi`) and with the negative (`neg`) co-movements,
    signed: a negative `neg` means more attention to stronger opposite movement.

    - notebook: ordered pairs with |i - j| > 2, maps not symmetrised. In addition, the ratio of the mean |correlation|
      of the top-L pairs by attention (L = tokens) to that of all others, the same ratio for the frequency of
      interactions, and the AUROC of attention for pairs with a frequency of at least 0.01 against those with 0.
      Frequency = sum of the nine types, whose stored cube roots are cubed. Pairs tied at the end of the top-L count
      in equal parts.
    - paper: pairs with |i - j| > 5, maps symmetrised, Spearman's correlations only; `inter_spearman` is that with the
      frequency of interactions, symmetrised, too.

    `maps` (T, T, C) include special tokens and are not negative. `pair_feature` is (T, T, 10) of a molecular dynamics
    entry as in `FeatureStore.read`, or (T, T, 3) of a normal mode entry, whose three correlations replace the
    co-movements.

    Returns one row per map, columns `METRICS[form, channels]`, float64. NaN if undefined: fewer than 3 pairs or a
    constant for a correlation; no other pairs, or all of them 0, for a ratio; only one class for AUROC; a property that
    the protein lacks (NaN; those of interactions need all nine). InputError if the shapes do not match, the form is
    unknown, or attention is not a finite number.
    """
    tokens, channels = len(maps), pair_feature.shape[-1]
    require(
        maps.ndim == 3 and maps.shape[1] == tokens and pair_feature.shape == (tokens, tokens, channels),
        f"attention maps {maps.shape} and pair features {pair_feature.shape} have different sizes",
    )
    require(
        (form, channels) in METRICS,
        f"form {form!r} and {channels} pair channels; give notebook or paper, and 10 or 3 channels",
    )
    position = np.arange(tokens)
    used = (pair_feature[..., 0] != MISSING) & (np.abs(position[:, None] - position) > SEPARATION_ABOVE[form])  # (T, T)
    if form == "paper":
        used = np.triu(used & used.T)  # both directions of a pair are equal: each once gives the same correlation
    metrics = _metrics(pair_feature, used, form)

    rows = []
    for channel in range(maps.shape[2]):
        attention = maps[..., channel].astype(np.float32, copy=False)  # (T, T)
        if form == "paper":
            attention = attention + attention.T  # twice the mean: the same order
        values = attention[used]  # (n,)
        require(np.isfinite(values).all(), f"attention map {channel} has NaN or infinite values; check the weights")
        pairs = AscendingPairs.of(values)
        rows.append([metrics[name](pairs) for name in METRICS[form, channels]])
    return pd.DataFrame(rows, columns=list(METRICS[form, channels]), dtype=np.float64).rename_axis(index="map")


def _metrics(pair_feature: NDArray, used: NDArray[np.bool_], form: AttentionForm) -> dict[str, Metric]:
    """Functions of the ordered pairs by metric; what does not depend on the map is computed only once."""

    def channel(name: str) -> Values:
        return pair_feature[..., entry_pair_channel(name)][used].astype(np.float64)  # (n,)

    def both_signs(prefix: str, values: Values) -> dict[str, Metric]:
        return {
            f"{prefix}_posi_spearman": _spearman_with(values, values > 0),
            f"{prefix}_neg_spearman": _spearman_with(values, values < 0),
        }

    if pair_feature.shape[-1] == NMA_PAIR_WIDTH:
        names = PAIR_PROPERTIES[MD_PAIR_WIDTH:]
        return {metric: function for name in names for metric, function in both_signs(name, channel(name)).items()}

    correlation = channel("corr")
    frequencies = (pair_feature[..., : len(INTERACTIONS)].astype(np.float64) ** 3).sum(-1)  # (T, T)
    frequency = frequencies[used]
    metrics = both_signs("co_move", correlation)
    if form == "paper":
        either_way = (frequency + frequencies.T[used]) / 2
        return metrics | {"inter_spearman": _spearman_with(either_way, ~np.isnan(either_way))}
    frequent = frequency >= INTERACTING
    return metrics | {
        "co_move_topL_ratio": partial(_top_ratio, values=np.abs(correlation), top=len(used)),
        "inter_topL_ratio": partial(_top_ratio, values=frequency, top=len(used)),
        "inter_auroc": partial(_auroc, positive=frequent, members=frequent | (frequency == 0)),
    }


def _spearman_with(values: Values, members: NDArray[np.bool_]) -> Metric:
    """Function for Spearman's correlation of the attention with (n,) values, over the members."""
    member, ranks = AscendingPairs.of(values).ranks(members)
    value_ranks = np.zeros(len(values))
    value_ranks[member] = ranks

    def spearman(pairs: AscendingPairs) -> float:
        member, ranks = pairs.ranks(members)
        return pearson(ranks, value_ranks[member])

    return spearman


def _auroc(pairs: AscendingPairs, positive: NDArray[np.bool_], members: NDArray[np.bool_]) -> float:
    """AUROC of the attention for the positive members."""
    member, ranks = pairs.ranks(members)
    return auroc_of_ranks(positive[member], ranks)


def _top_ratio(pairs: AscendingPairs, values: Values, top: int) -> float:
    """Ratio of the mean of (n,) values >= 0 of the `top` pairs by attention to that of all others."""
    order, attention = pairs
    others = len(order) - top
    if others < 1:
        return math.nan
    start, stop = (int(np.searchsorted(attention, attention[others], side)) for side in ("left", "right"))
    tied = values[order[start:stop]].mean()  # of the pairs tied at the end of the top
    highest = values[order[stop:]].sum() + (stop - others) * tied
    rest = values.sum() - highest
    return math.nan if rest <= ROUNDING * highest else float(highest / top / (rest / others + RATIO_OFFSET))


class StoreEntry(NamedTuple):
    """A protein of a feature store."""

    group: str
    name: str
    modify_seq: str


class Example(NamedTuple):
    """Best map of a protein and its co-movements."""

    name: str
    title: str  # which map it is
    attention: NDArray[np.float32]  # (N, N) residues
    comovement: NDArray[np.float32]  # (N, N), NaN if missing
    chain: NDArray[np.int32]  # (N,)


class Analysis(NamedTuple):
    """Metrics of attention maps over the entries of a store."""

    means: pd.DataFrame  # see `mean_metrics`
    best: pd.DataFrame  # see `best_maps`
    example: Example | None


def analyse_store(
    model: DanceModel,
    store_path: Path,
    table: Path,
    output: Path,
    label: str,
    limit: int | None,
    length: int,
    form: AttentionForm,
    example: str | None,
    precision: Precision = "auto",
) -> tuple[Analysis, Path]:
    """Compare the attention maps of the entries with this label in the table with their pair features.

    Entries are cut after `length` tokens; `limit` is their number in each group. Writes the means to the CSV `output`
    and the best maps to NAME_best.csv, whose path is the second result. The metrics of finished entries are kept, so
    that a later run measures only the others. `example` names the entry to draw; default: the one whose best map is the
    median of all. `precision` is that of the forward pass.
    """
    precision = choose_precision(precision, device_of(model))
    with FeatureStore(store_path) as store:
        sequences = group_sequences(read_table(table), store, label)
        entries = [StoreEntry(group, *entry) for group in GROUPS for entry in sequences[group][:limit]]
        require(entries, f"{store_path}: no entry labelled {label} in {table} is in the store")
        names = (None, *(entry.name for entry in entries))
        require(example in names, f"--example {example}: not one of the {len(entries)} entries")
        tables = entry_metrics(model, store, entries, Results(output), length, form, precision)
        best = best_maps(entries, tables, model.config.heads)
        chosen = next((entry for entry in entries if entry.name == (example or typical_entry(best))), None)
        shown = read_example(model, store, chosen, best, length, form, precision) if chosen else None
    means, best_path = mean_metrics(tables, model.config.heads), output.with_name(f"{output.stem}_best.csv")
    network = model.label
    for path, content in ((output, means), (best_path, best)):
        with whole_file(path) as temporary:
            content.assign(model=network).to_csv(temporary, index=False)
    return Analysis(means, best, shown), best_path


def entry_metrics(
    model: DanceModel,
    store: FeatureStore,
    entries: Sequence[StoreEntry],
    results: Results,
    length: int,
    form: AttentionForm,
    precision: Precision,
) -> list[pd.DataFrame]:
    """`attention_metrics` of each entry, with a progress bar; `results` keeps those of finished entries."""
    stat = store.path.stat()
    made_from = (str(store.path.resolve()), stat.st_size, stat.st_mtime_ns, METRICS_VERSION, form, length)
    network = network_digest(model.esm2, model.config.heads, precision)
    tables = []
    for entry in tqdm(entries, desc="attention", unit="entry"):
        key = digest("attention", made_from, network, entry)
        columns = results.read(key)
        if columns is None:
            pair = load_entry(store, entry.name, entry.modify_seq, entry.group, 0, length).pair.numpy()
            maps = attention_maps(model, entry.modify_seq, max_length=length, precision=precision)
            metrics = attention_metrics(maps, pair, form)
            columns = {str(name): metrics[name].to_numpy() for name in metrics}
            results.write(key, **columns)
        tables.append(pd.DataFrame(columns))
    return tables


def mean_metrics(tables: Sequence[pd.DataFrame], heads: int) -> pd.DataFrame:
    """Mean of each metric over the proteins for which it is defined.

    One row per map: map, layer, head (from 0), and for each metric its mean and `<metric>_proteins`, their number.
    """
    by_map = pd.concat(tables).groupby(level=0)
    means, proteins = by_map.mean(), by_map.count()
    number = np.arange(len(means))
    columns: dict[str, Any] = {"map": number, "layer": number // heads, "head": number % heads}
    for metric in dict.fromkeys(name for names in METRICS.values() for name in names):
        if metric in means:
            columns |= {metric: means[metric], f"{metric}_proteins": proteins[metric]}
    return pd.DataFrame(columns)


def best_maps(entries: Sequence[StoreEntry], tables: Sequence[pd.DataFrame], heads: int) -> pd.DataFrame:
    """Best map of each protein by each defined metric: group, name, metric, map, layer, head, value."""
    rows = [
        (entry.group, entry.name, metric, best, *divmod(best, heads), table[metric][best])
        for entry, table in zip(entries, tables, strict=True)
        for metric in table
        if (best := best_map(str(metric), table[metric].to_numpy())) is not None
    ]
    return pd.DataFrame(rows, columns=["group", "name", "metric", "map", "layer", "head", "value"])


def best_map(metric: str, values: NDArray[np.float64]) -> int | None:
    """Map with the highest of (maps,) values, or the lowest for negative correlations; None if all are NaN."""
    if not np.isfinite(values).any():
        return None
    return int(np.nanargmin(values) if metric.endswith("_neg_spearman") else np.nanargmax(values))


def typical_entry(best: pd.DataFrame) -> str | None:
    """Protein whose best map by the first defined one of `EXAMPLE_METRICS` is the median; None if all are undefined."""
    for metric in EXAMPLE_METRICS:
        found = best[best["metric"] == metric].sort_values("value", kind="stable")
        if len(found):
            return str(found["name"].iloc[len(found) // 2])
    return None


def read_example(
    model: DanceModel,
    store: FeatureStore,
    entry: StoreEntry,
    best: pd.DataFrame,
    length: int,
    form: AttentionForm,
    precision: Precision,
) -> Example | None:
    """Best map of an entry in the form of its comparison; None if no map has a value."""
    metric, name = list(EXAMPLE_METRICS.items())[entry.group in NMA_GROUPS]
    rows = best[(best["name"] == entry.name) & (best["metric"] == metric)]
    if rows.empty:
        return None
    number, layer, head, value = rows[["map", "layer", "head", "value"]].iloc[0]
    pair = load_entry(store, entry.name, entry.modify_seq, entry.group, 0, length).pair.numpy()
    maps = attention_maps(model, entry.modify_seq, max_length=length, precision=precision)
    attention = maps[..., int(number)]  # (T, T)
    if form == "paper":
        attention = (attention + attention.T) / 2
    comovement = np.where(pair[..., 0] == MISSING, np.nan, pair[..., entry_pair_channel(name)])
    residues, chain = residue_rows(entry.modify_seq)
    residues, chain = residues[residues < length], chain[residues < length]
    inside = np.ix_(residues, residues)
    title = f"best map: layer {layer:.0f}, head {head:.0f}, Spearman {value:.2f}"
    return Example(entry.name, title, attention[inside], comovement[inside], chain)


def summary_text(means: pd.DataFrame, best: pd.DataFrame) -> str:
    """Best map on average by each metric, and the median over proteins of their own best maps."""
    rows = {}
    for metric, own in best.groupby("metric", sort=False)["value"]:
        row = means.iloc[best_map(str(metric), means[metric].to_numpy())]  # type: ignore[index]
        rows[metric] = len(own), f"layer {row['layer']:.0f}, head {row['head']:.0f}", row[metric], own.median()
    columns = ["proteins", "best map on average", "its value", "median of best maps"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).to_string(float_format="{:.3f}".format)
