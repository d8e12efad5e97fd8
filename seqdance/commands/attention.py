"""Command `seqdance attention`: attention maps of sequences, or what they know of the dynamics in a feature store.

    seqdance attention --model ChaoHou/SeqDance --fasta proteins.fasta --output maps.h5 --plot
    seqdance attention --model ChaoHou/SeqDance --store features.h5 --table table.csv --output attention.csv

The first writes all maps of each sequence. The second compares the maps of each entry of a store with its pair features
(`model.inference.attention.attention_metrics`). Entries of molecular dynamics have co-movements and interactions; those
of normal modes have correlations of three groups of modes, which take the part of the co-movements in Spearman
correlations.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
import pandas as pd
import tyro
from numpy.typing import NDArray
from tqdm import tqdm

from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.table import read_table
from data_prepare.errors import InputError, run_command
from data_prepare.files import check_output, whole_file
from data_prepare.properties import GROUPS, MISSING, NMA_GROUPS, entry_pair_channel
from model.inference.attention import Form, attention_maps, attention_metrics, is_residue
from model.inference.inputs import Protein, file_name, file_names, proteins_of
from model.network.dance import DanceModel, load_model
from model.network.tokenizer import tokenize
from model.network.weights import weights_digest
from model.training.data import group_sequences, load_entry, require_files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage

RESULTS_VERSION: Final = 1  # raised when metrics change, so that entries are measured again
MAP_SUFFIXES: Final = (".npz", ".h5", ".hdf5")
TITLES: Final = {  # metric -> title of its heat map
    "co_move_topL_ratio": "co-movement:\ntop-L over the rest",
    "co_move_posi_spearman": "positive co-movement:\nSpearman",
    "co_move_neg_spearman": "negative co-movement:\nSpearman",
    "inter_topL_ratio": "interactions:\ntop-L over the rest",
    "inter_auroc": "interactions:\nAUROC",
    "inter_spearman": "interactions:\nSpearman",
    **{
        f"nma_pair{k}_{sign}_spearman": f"normal modes {k}, {word}:\nSpearman"
        for k in (1, 2, 3)
        for sign, word in (("posi", "positive"), ("neg", "negative"))
    },
}
EXAMPLE_METRICS: Final = ("co_move_posi_spearman", "nma_pair1_posi_spearman")  # of MD and NMA entries
LAYER_COLUMNS: Final = 4
CUT: Final = (0.005, 0.995)  # quantiles of a map that its darkest and brightest colours show
DARKEST: Final = 1e-3  # share of the brightest that the darkest colour shows at least
FAR: Final = 5  # |i - j| above which attention counts as long-range in the picture of a sequence


@dataclass(frozen=True)
class AttentionConfig:
    """Write the attention maps of sequences, or compare those of the entries of a store with their pair features.

    Entries of molecular dynamics (10 pair columns) are compared with co-movement and interactions, those of normal mode
    analysis (3 columns) with the correlations of the three groups of modes, by Spearman's correlation.
    """

    model: str
    """Folder with model.safetensors and config.json, weight file, or Hub id such as ChaoHou/SeqDance."""
    output: Path
    """Of sequences: .npz or .h5, an array (tokens, tokens, layers * heads) per protein, named by it, with _ for / and
    the like. With --store: CSV of the means over proteins per map; NAME_best.csv (best map of each protein) and
    NAME.png go beside it."""
    sequence: str | None = None
    """A sequence; chains of a complex are joined by <eos><cls>."""
    fasta: Path | None = None
    """Instead: FASTA file."""
    pdb: Path | None = None
    """Instead: PDB file, of which the sequence is used."""
    cif: Path | None = None
    """Instead: mmCIF file."""
    chain: str | None = None
    """Chain of the structure, or several joined by commas. Default: all."""
    precision: Literal["float32", "float16"] = "float32"
    """Of the numbers in the file of maps."""
    residues_only: bool = False
    """Leave the rows and columns of <cls> and <eos> out of the file of maps."""
    plot: bool = False
    """Draw the mean map, and of each layer the map with the most long-range attention, as PNG beside the output."""
    store: Path | None = None
    """Instead of sequences: feature store."""
    table: Path | None = None
    """Training table of the store: name, modify_seq, source, label."""
    label: Literal["test", "train"] = "test"
    """Entries of the table to use."""
    limit: int | None = None
    """Use only the first entries of each training group."""
    length: int = 1024
    """Longer entries are cut after this number of tokens."""
    form: Form = "notebook"
    """notebook: pairs with |i-j| > 2, five metrics. paper: |i-j| > 5, maps symmetrised, Spearman's correlations."""
    example: str | None = None
    """Entry whose best map is drawn. Default: the one whose best map is the median of all."""
    device: str = "auto"
    """auto takes a GPU if there is one."""
    debug: bool = False
    """Show the traceback of an error."""


def check_options(config: AttentionConfig) -> None:
    """Raise InputError if options do not go together.

    Not in `__post_init__`: there `tyro` would catch the error and print a box instead of one line.
    """
    if config.length < 1 or (config.limit is not None and config.limit < 1):
        raise InputError(f"--length {config.length}, --limit {config.limit}: both are at least 1")
    check_output(config.output)
    if config.store is None:
        if config.table is not None:
            raise InputError(f"--table {config.table} goes with --store")
        if config.output.suffix.lower() not in MAP_SUFFIXES:
            raise InputError(f"--output {config.output}: maps are written as {', '.join(MAP_SUFFIXES)}")
        return
    if any((config.sequence, config.fasta, config.pdb, config.cif, config.chain)):
        raise InputError("--store and a sequence are given; give one of them")
    if config.plot or config.residues_only or config.precision != "float32":
        raise InputError("--plot, --precision and --residues-only are for sequences; leave them out with --store")
    if config.table is None:
        raise InputError("--table is missing; give the training table of the store")
    if config.output.suffix.lower() != ".csv":
        raise InputError(f"--output {config.output}: the analysis is written as .csv")


def write_maps(config: AttentionConfig) -> list[Path]:
    """Write the maps of each sequence, and the pictures if wanted; returns the paths."""
    check_options(config)
    proteins = proteins_of(config.sequence, config.fasta, config.pdb, config.cif, config.chain)
    file_names([protein.name for protein in proteins])  # no two the same
    model = load_model(config.model, config.device)
    paths = [config.output]
    with map_writer(config.output) as write:
        for protein in tqdm(proteins, unit="sequence", disable=len(proteins) == 1):
            maps = attention_maps(model, protein.sequence, not config.residues_only, np.dtype(config.precision))
            write(protein, maps)
            if config.plot:
                suffix = "" if len(proteins) == 1 else "_" + file_name(protein.name)
                paths.append(config.output.with_name(f"{config.output.stem}{suffix}.png"))
                save(draw_maps(maps, protein, model.config.heads), paths[-1])
    return paths


@contextmanager
def map_writer(path: Path) -> Iterator[Callable[[Protein, NDArray], None]]:
    """Give a function that adds the maps of one protein to a file, which takes its name when all are in it.

    An npz file has an array per protein, an HDF5 file a dataset with the attribute `sequence`; both by the
    `file_name` of its name.
    """
    with whole_file(path) as temporary:
        if path.suffix.lower() == ".npz":
            with zipfile.ZipFile(temporary, "w") as archive:

                def write(protein: Protein, maps: NDArray) -> None:
                    with archive.open(f"{file_name(protein.name)}.npy", "w", force_zip64=True) as file:
                        np.lib.format.write_array(file, np.ascontiguousarray(maps))

                yield write
        else:
            import h5py

            with h5py.File(temporary, "w") as file:

                def write(protein: Protein, maps: NDArray) -> None:
                    dataset = file.create_dataset(file_name(protein.name), data=maps, track_times=False)
                    dataset.attrs["sequence"] = protein.sequence

                yield write


def analyse(config: AttentionConfig) -> list[Path]:
    """Measure the entries of a store; write the means, the best maps and the picture; returns the paths.

    What is measured of an entry is kept in the folder NAME.entries beside the output: a run that was interrupted goes
    on there.
    """
    check_options(config)
    assert config.store is not None
    assert config.table is not None
    require_files(table=config.table, store=config.store)
    table = read_table(config.table)
    model = load_model(config.model, config.device)
    heads = model.config.heads
    with FeatureStore(config.store) as store:
        sequences = group_sequences(table, store, config.label)
        entries = [Used(group, *entry) for group in GROUPS for entry in sequences[group][: config.limit]]
        if not entries:
            raise InputError(f"{config.store}: no entry labelled {config.label} in {config.table} is in the store")
        if config.example is not None and config.example not in {entry.name for entry in entries}:
            raise InputError(f"--example {config.example}: not among the {len(entries)} entries that are used")
        measured = measure(config, model, store, entries)
        means, best = mean_metrics(measured, heads), best_maps(measured, heads)
        example = None
        if (chosen := typical(best) if config.example is None else config.example) is not None:
            entry = next(entry for entry in entries if entry.name == chosen)
            example = read_example(config, model, store, entry, best)

    output = config.output
    written = [output, output.with_name(f"{output.stem}_best.csv"), output.with_suffix(".png")]
    for path, content in zip(written, (means, best), strict=False):
        with whole_file(path) as temporary:
            content.to_csv(temporary, index=False)
    save(draw_analysis(means, heads, example), written[2])
    print(report(means, best))
    return written


class Used(NamedTuple):
    """An entry of the store that is measured."""

    group: str
    name: str
    modify_seq: str


def measure(
    config: AttentionConfig, model: DanceModel, store: FeatureStore, entries: Sequence[Used]
) -> dict[Used, pd.DataFrame]:
    """Entry -> its metrics, see `attention_metrics`; those that are in the work folder are taken from there."""
    folder = config.output.with_suffix(".entries")
    stat = store.path.stat()
    settings = (
        RESULTS_VERSION,
        config.form,
        config.length,
        weights_digest(model.esm2, model.config.heads),
        stat.st_size,
        stat.st_mtime_ns,
    )
    measured = {}
    for entry in tqdm(entries, desc="attention", unit="entry"):
        path = folder / f"{entry.name}.npz"
        fingerprint = hashlib.sha256(repr((settings, entry)).encode()).hexdigest()
        metrics = read_result(path, fingerprint)
        if metrics is None:
            pair = load_entry(store, entry.name, entry.modify_seq, entry.group, 0, config.length).pair.numpy()
            maps = attention_maps(model, entry.modify_seq, max_length=config.length)
            metrics = attention_metrics(maps, pair, config.form)
            with whole_file(path) as temporary:
                np.savez(temporary, fingerprint=fingerprint, names=np.array(metrics.columns, str), values=metrics)
        measured[entry] = metrics
    return measured


def read_result(path: Path, fingerprint: str) -> pd.DataFrame | None:
    """Metrics of an entry; None if they are not there or were made from something else."""
    try:
        with np.load(path) as result:
            if str(result["fingerprint"]) == fingerprint:
                return pd.DataFrame(result["values"], columns=result["names"].tolist()).rename_axis(index="map")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # not there, or not written by this program
        pass
    return None


def mean_metrics(measured: Mapping[Used, pd.DataFrame], heads: int) -> pd.DataFrame:
    """Mean of each metric over the proteins where it exists.

    Returns
    -------
    DataFrame
        One row per map: map, layer, head (from 0), and for each metric its mean and `<metric>_proteins`, their number.
    """
    number = np.arange(len(next(iter(measured.values()))))
    columns: dict[str, NDArray] = {"map": number, "layer": number // heads, "head": number % heads}
    for metric in TITLES:
        held = [metrics[metric] for metrics in measured.values() if metric in metrics]
        if held:
            values = np.stack(held)  # (proteins, maps)
            proteins = np.isfinite(values).sum(axis=0)
            mean = np.nansum(values, axis=0) / np.maximum(proteins, 1)
            columns |= {metric: np.where(proteins > 0, mean, np.nan), f"{metric}_proteins": proteins}
    return pd.DataFrame(columns)


def best_maps(measured: Mapping[Used, pd.DataFrame], heads: int) -> pd.DataFrame:
    """Best map of each protein by each metric, see `best_map`.

    Returns
    -------
    DataFrame
        One row per protein and metric that exists: group, name, metric, map, layer, head, value.
    """
    rows = []
    for entry, metrics in measured.items():
        for metric, values in metrics.items():
            if (best := best_map(str(metric), values.to_numpy())) is not None:
                rows.append((entry.group, entry.name, metric, best, *divmod(best, heads), values[best]))
    return pd.DataFrame(rows, columns=["group", "name", "metric", "map", "layer", "head", "value"])


def best_map(metric: str, values: NDArray[np.float64]) -> int | None:
    """Map with the best of (maps,) values: the highest, of negative correlations the lowest; None if all are NaN."""
    if not np.isfinite(values).any():
        return None
    return int(np.nanargmin(values) if metric.endswith("_neg_spearman") else np.nanargmax(values))


def typical(best: pd.DataFrame) -> str | None:
    """Protein whose best map by the first of `EXAMPLE_METRICS` that exists is the median; None if none exists."""
    for metric in EXAMPLE_METRICS:
        found = best[best["metric"] == metric].sort_values("value", kind="stable")
        if len(found):
            return str(found["name"].iloc[len(found) // 2])
    return None


class Example(NamedTuple):
    """The best map of a protein and the correlations that it is to mark."""

    name: str
    map: str  # which it is
    attention: NDArray[np.float32]  # (n, n) residues
    correlation: NDArray[np.float32]  # (n, n), NaN where the entry has none
    breaks: Sequence[float]  # places between chains


def read_example(
    config: AttentionConfig, model: DanceModel, store: FeatureStore, entry: Used, best: pd.DataFrame
) -> Example | None:
    """Best map of an entry, as it was compared; None if it has none."""
    nma = entry.group in NMA_GROUPS
    metric, channel = (EXAMPLE_METRICS[1], "nma_pair1") if nma else (EXAMPLE_METRICS[0], "corr")
    rows = best[(best["name"] == entry.name) & (best["metric"] == metric)]
    if rows.empty:
        return None
    row = rows.iloc[0]
    pair = load_entry(store, entry.name, entry.modify_seq, entry.group, 0, config.length).pair.numpy()
    attention = attention_maps(model, entry.modify_seq, max_length=config.length)[..., row["map"]]  # (T, T)
    if config.form == "paper":
        attention = (attention + attention.T) / 2
    correlation = np.where(pair[..., 0] == MISSING, np.nan, pair[..., entry_pair_channel(channel)])
    tokens = residue_tokens(entry.modify_seq, config.length)
    inside = np.ix_(tokens, tokens)
    title = f"its best map: layer {row['layer']}, head {row['head']}, Spearman {row['value']:.2f}"
    return Example(entry.name, title, attention[inside], correlation[inside], chain_breaks(tokens))


def residue_tokens(sequence: str, max_length: int | None = None) -> NDArray[np.intp]:
    """Tokens of a sequence that are residues."""
    return np.flatnonzero(is_residue(tokenize([sequence], max_length)["input_ids"][0]))


def chain_breaks(tokens: NDArray[np.intp]) -> list[float]:
    """Places between chains, which other tokens keep apart, on an axis of residues numbered from 1."""
    return [place + 1.5 for place in np.flatnonzero(np.diff(tokens) > 1)]


def report(means: pd.DataFrame, best: pd.DataFrame) -> str:
    """For each metric the map that is best on average, and the median over proteins of their own best maps."""
    width = max(map(len, TITLES))
    lines = [f"{'metric':<{width}}  proteins  best map on average         median of best maps"]
    for metric in (metric for metric in TITLES if metric in means):
        place = best_map(metric, means[metric].to_numpy())
        if place is not None:
            row, own = means.iloc[place], best.loc[best["metric"] == metric, "value"]
            name = f"layer {row['layer']:.0f}, head {row['head']:.0f}:"
            lines.append(f"{metric:<{width}}{len(own):10d}  {name:<18}{row[metric]:8.3f}  {own.median():19.3f}")
    return "\n".join(lines)


def draw_maps(maps: NDArray, protein: Protein, heads: int) -> Figure:
    """Draw the mean map, and of each layer the map with the largest share of long-range attention.

    Parameters
    ----------
    maps
        (T, T, layers * heads), of all tokens or of the residues only.
    protein
        The protein of the maps.
    heads
        Heads of a layer.
    """
    from matplotlib.figure import Figure

    tokens = residue_tokens(protein.sequence)
    if len(maps) > len(tokens):
        maps = maps[np.ix_(tokens, tokens)]
    residue = np.arange(len(tokens))
    far = np.abs(residue[:, None] - residue) > FAR
    share = np.array([attention[far].sum() / attention.sum() for attention in np.moveaxis(maps, -1, 0).astype(float)])
    chosen = share.reshape(-1, heads).argmax(axis=1)  # (layers,)

    rows = -(-len(chosen) // LAYER_COLUMNS)
    figure = Figure(figsize=(5 + 2.3 * LAYER_COLUMNS, max(4.6, 2.5 * rows + 0.5)), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[5, 2.3 * LAYER_COLUMNS], squeeze=False).flat
    mean = maps.mean(axis=-1, dtype=np.float32)
    axes = left.subplots()
    image = show_attention(axes, mean, chain_breaks(tokens), f"{protein.name}: mean of {maps.shape[-1]} maps")
    axes.set(xlabel="key residue", ylabel="query residue")
    add_bar(left, image, axes, location="bottom", shrink=0.8)
    panels = right.subplots(rows, LAYER_COLUMNS, sharex=True, sharey=True, squeeze=False).flat
    for layer, (axes, head) in enumerate(zip(panels, chosen, strict=False)):  # the last row may have room left
        number = layer * heads + head
        title = f"layer {layer}, head {head}: {share[number]:.0%}"
        show_attention(axes, maps[..., number], chain_breaks(tokens), title, 9)
    for axes in right.axes[len(chosen) :]:
        axes.set_axis_off()
    right.suptitle(f"of each layer the map with most attention beyond |i-j| = {FAR}, and its share", fontsize=11)
    return figure


def show_attention(axes: Axes, attention: NDArray, breaks: Sequence[float], title: str, size: int = 11) -> AxesImage:
    """Image of one map, in a logarithmic scale: neighbours take most of the attention of many maps."""
    from matplotlib.colors import LogNorm

    values = attention.astype(np.float32)
    low, high = np.quantile(values, CUT).tolist()
    low = max(low, high * DARKEST)
    axes.set_title(title, fontsize=size)
    return show_matrix(axes, np.maximum(values, low), breaks, "magma", LogNorm(low, high))


def add_bar(figure: SubFigure, image: AxesImage, axes: Axes, **options: Any) -> None:
    """Colour bar of a map, with five labels on its logarithmic scale."""
    low, high = image.get_clim()
    ticks = np.geomspace(low or 1.0, high or 1.0, 5)
    bar = figure.colorbar(image, ax=axes, label="attention", extend="both", **options)
    bar.set_ticks(ticks.tolist(), labels=[f"{tick:.2g}" for tick in ticks])
    bar.minorticks_off()


def show_matrix(axes: Axes, values: NDArray, breaks: Sequence[float], colours: str, scale: Normalize) -> AxesImage:
    """Image of (n, n) values over residues numbered from 1, grey where there is none, with lines between chains."""
    edges = (0.5, len(values) + 0.5)
    axes.set_facecolor("lightgrey")
    axes.tick_params(labelsize=8)
    axes.locator_params(nbins=4, integer=True)
    for place in breaks:
        axes.axhline(place, color="grey", linewidth=0.7)
        axes.axvline(place, color="grey", linewidth=0.7)
    return axes.imshow(
        values,
        cmap=colours,
        norm=scale,
        extent=(*edges, *edges[::-1]),
        interpolation="nearest",
    )


def draw_analysis(means: pd.DataFrame, heads: int, example: Example | None) -> Figure:
    """Draw heat maps, layers x heads, of the mean of each metric, and the example.

    Parameters
    ----------
    means
        As `mean_metrics` gives them.
    heads
        Heads of a layer.
    example
        A protein to show below, or None.
    """
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    shown = [metric for metric in TITLES if metric in means]
    rows = [row for nma in (False, True) if (row := [m for m in shown if m.startswith("nma_") == nma])]
    columns = max(map(len, rows))
    heights = [2.9 * len(rows), *([4.6] if example else [])]
    figure = Figure(figsize=(2.9 * columns + 0.5, sum(heights) + 0.4), layout="constrained")
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False).flat
    top = next(parts)
    for panels, row in zip(top.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        for axes, metric in zip(panels, row, strict=False):
            show_metric(axes, means, metric, heads)
        for axes in panels[len(row) :]:
            axes.set_axis_off()
    top.suptitle("mean over proteins of each attention map (square: best map)", fontsize=13)
    if example:
        below = next(parts)
        left, right = below.subplots(1, 2)
        image = show_matrix(left, example.correlation, example.breaks, "RdBu_r", Normalize(-1, 1))
        left.set(xlabel="residue", ylabel="residue")
        left.set_title("co-movement", fontsize=11)
        below.colorbar(image, ax=left, label="correlation of displacements")
        image = show_attention(right, example.attention, example.breaks, example.map)
        right.set(xlabel="key residue", ylabel="query residue")
        add_bar(below, image, right)
        below.suptitle(example.name, fontsize=13)
    return figure


def show_metric(axes: Axes, means: pd.DataFrame, metric: str, heads: int) -> None:
    """Heat map of one metric; white is what attention without knowledge would have."""
    from matplotlib.colors import TwoSlopeNorm
    from matplotlib.patches import Rectangle

    values = means[metric].to_numpy().reshape(-1, heads)  # (layers, heads)
    proteins = int(means[f"{metric}_proteins"].max())
    axes.set_title(f"{TITLES[metric]} (n = {proteins})", fontsize=10)
    axes.set_facecolor("lightgrey")
    chance = 1.0 if metric.endswith("_ratio") else 0.5 if metric.endswith("_auroc") else 0.0
    finite = values[np.isfinite(values)]
    reach = float(np.abs(finite - chance).max(initial=1e-6))
    # a ratio reaches further above 1 than below it
    low = min(float(finite.min(initial=chance)), chance - 1e-6) if metric.endswith("_ratio") else chance - reach
    image = axes.imshow(values, cmap="RdBu_r", norm=TwoSlopeNorm(chance, low, chance + reach), aspect="auto")
    axes.figure.colorbar(image, ax=axes).ax.tick_params(labelsize=8)
    if (best := best_map(metric, means[metric].to_numpy())) is not None:
        layer, head = divmod(best, heads)
        axes.add_patch(Rectangle((head - 0.5, layer - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=1.5))
    axes.set(xlabel="head", ylabel="layer")
    axes.locator_params(nbins=6, integer=True)
    axes.tick_params(labelsize=8)


def save(figure: Figure, path: Path) -> None:
    """Write a picture, complete or not at all."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=100)


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    config = tyro.cli(AttentionConfig, args=args)
    for path in run_command(lambda: analyse(config) if config.store else write_maps(config), config.debug):
        print(path)
