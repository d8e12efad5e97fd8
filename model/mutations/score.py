"""Effects of mutations without training on them: how much a mutant's predicted dynamics differ from the wild type's.

Source: Hou, Zhao, Shen, PNAS 2026 (doi 10.1073/pnas.2530466123). Scores grow with the damage, so they correlate
negatively with stability. The published score is `norm_geometric_mean`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from data_prepare.errors import InputError
from data_prepare.files import whole_file
from data_prepare.properties import PROPERTIES, RESIDUE_PROPERTIES
from model.config import ModelConfig
from model.inference.threads import side_by_side
from model.mutations.substitution import WINDOW, Mutants, mutants_of
from model.mutations.substitution import all_single_mutants as all_single_mutants
from model.mutations.substitution import apply_mutation as apply_mutation
from model.network.dance import DanceModel
from model.network.device import evaluating
from model.network.tokenizer import AMINO_ACIDS, split_tokens

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
PropertySet = Literal["all", "residue"]
Reference = dict[str, tuple[Tensor, Tensor]]  # property -> the wild type's values and their weights, each (1, ...)

PROPERTIES_OF: Final[dict[str, tuple[str, ...]]] = {"all": PROPERTIES, "residue": RESIDUE_PROPERTIES}
DENOMINATOR_OFFSET: Final = 0.01  # keeps the relative change of a property near 0 finite
SCORE_OFFSET: Final = 1e-8  # keeps weights and logarithms of unchanged properties finite
COMBINATIONS: Final = ("mean", "max", "weighted_mean", "geometric_mean")
SCORES: Final = tuple(f"{form}_{name}" for form in ("raw", "norm") for name in COMBINATIONS)
PUBLISHED_SCORE: Final = "norm_geometric_mean"
RESIDUES_PER_PANEL: Final = 80  # of the heat map
BATCH_BYTES: Final = {"cpu": 2**27, "cuda": 2**32}  # of a batch chosen by length, about
CPU_BYTES: Final = 2**28  # of the batches that are in work at the same time
MAX_BATCH: Final = {"cpu": 16, "cuda": 512}

_SUBSTITUTION: Final = re.compile(r"([A-Z])(-?\d+)([A-Z])")


def property_changes(
    model: DanceModel,
    wild_type: str,
    mutants: Sequence[str],
    batch_size: int | None = None,
    progress: bool = False,
    properties: PropertySet = "all",
) -> Matrix:
    """Relative change of every predicted property from the wild type to each mutant.

    change = mean over all elements of |mutant - wild type| / (|wild type| + 0.01); elements are tokens or pairs of
    tokens, <cls> and <eos> included, and bins. Of a protein of more than 1,024 tokens a window is compared: see
    `Mutants.window_starts`.

    Parameters
    ----------
    model
        SeqDance or ESMDance.
    wild_type, mutants
        Sequences of the same number of tokens. A mutant equal to the wild type has change 0.
    batch_size
        Mutants predicted at once; bounds the memory. Default: chosen by length.
    progress
        Show a progress bar.
    properties
        "residue" leaves the residue pairs out, which is faster.

    Returns
    -------
    ndarray
        (mutants, 23) float64, columns in the order of `properties.PROPERTIES`; (mutants, 10) without residue pairs.

    Raises
    ------
    InputError
        A sequence cannot be tokenised or has another length than the wild type.
    """
    collected = Mutants(wild_type)
    for number, mutant in enumerate(mutants, start=1):
        try:
            collected.add_sequence(mutant)
        except InputError as error:
            raise InputError(f"mutant {number}: {error}") from None
    return _all_changes(model, collected, batch_size, progress, properties)


def _all_changes(
    model: DanceModel, mutants: Mutants, batch_size: int | None, progress: bool, properties: PropertySet
) -> Matrix:
    """(mutants, properties) changes; zeros for the wild type."""
    changes = np.zeros((len(mutants), len(PROPERTIES_OF[properties])))
    plan = plan_batches(model, mutants, batch_size, properties)
    with evaluating(model), tqdm(total=len(plan.rows), unit="mutant", disable=not progress) as bar:
        for batch, part in zip(plan.batches, changes_of_batches(model, mutants, plan, properties), strict=True):
            changes[plan.rows[batch.first : batch.stop]] = part
            bar.update(len(part))
    return changes


@dataclass(frozen=True)
class Batch:
    """Mutants that are predicted together: `rows[first:stop]` of the plan, all in one window."""

    first: int
    stop: int
    start: int
    """First token of the window."""
    end: int
    """Behind its last token."""


@dataclass(frozen=True)
class Plan:
    """Order of work: by window, so that the wild type is predicted once in each.

    Attributes
    ----------
    rows
        Numbers of the mutants that differ from the wild type, in the order of work.
    batches
        One after the other, without gaps.
    """

    rows: npt.NDArray[np.int64]
    batches: list[Batch]


def plan_batches(
    model: DanceModel, mutants: Mutants, batch_size: int | None, properties: PropertySet, window: int = WINDOW
) -> Plan:
    """Lay mutants out in batches of one window each."""
    tokens = min(len(mutants.input_ids), window)
    device = next(model.parameters()).device.type
    size = automatic_batch_size(model.config, tokens, device, properties) if batch_size is None else batch_size
    if size < 1:
        raise InputError(f"batch_size is {size}; it must be at least 1")
    starts = mutants.window_starts(window)
    rows = np.flatnonzero(mutants.changed())
    rows = rows[starts[rows].argsort(kind="stable")]
    batches = []
    edges = [0, *(np.flatnonzero(np.diff(starts[rows])) + 1).tolist(), len(rows)]
    for first, stop in pairwise(edges):
        for at in range(first, stop, size):
            start = int(starts[rows[at]])
            batches.append(Batch(at, min(at + size, stop), start, start + tokens))
    return Plan(rows, batches)


def automatic_batch_size(config: ModelConfig, tokens: int, device: str, properties: PropertySet = "all") -> int:
    """Mutants of a length that are predicted at once in about `BATCH_BYTES`."""
    device = device if device in BATCH_BYTES else "cpu"
    return min(max(1, BATCH_BYTES[device] // _mutant_bytes(config, tokens, properties)), MAX_BATCH[device])


def _mutant_bytes(config: ModelConfig, tokens: int, properties: PropertySet) -> int:
    """What a mutant takes in a batch, about.

    Counted are per token two layers' widest tensors, and per pair the attention of one layer, three times, and four
    copies of the 13 pair outputs.
    """
    numbers = tokens * (3 * config.feed_forward + 10 * config.hidden)
    if properties == "all":
        numbers += tokens**2 * (3 * config.heads + 4 * 13)
    return 4 * numbers


def streams_of(config: ModelConfig, batches: Sequence[Batch], device: str, properties: PropertySet) -> int:
    """Batches in work at the same time: on a CPU as many as there are threads for and `CPU_BYTES` hold, at least 1."""
    if device != "cpu" or not batches:
        return 1
    largest = max(batch.stop - batch.first for batch in batches)
    tokens = batches[0].end - batches[0].start
    held = CPU_BYTES // (largest * _mutant_bytes(config, tokens, properties))
    return max(1, min(torch.get_num_threads(), held, len(batches)))


def changes_of_batches(
    model: DanceModel, mutants: Mutants, plan: Plan, properties: PropertySet, begin: int = 0
) -> Iterator[Matrix]:
    """Changes (B, properties) float64 of one batch of a plan after the other, from number `begin` on."""
    batches = plan.batches[begin:]
    streams = streams_of(model.config, batches, next(model.parameters()).device.type, properties)

    def with_wild_type() -> Iterator[tuple[Batch, Reference]]:
        reference: Reference = {}
        window = -1
        for batch in batches:
            if batch.start != window:
                reference = {}  # frees the last one before the next is made
                wild_type = torch.from_numpy(mutants.input_ids[None, batch.start : batch.end])  # (1, W)
                reference = _reference(_predict(model, wild_type, properties))
                window = batch.start
            yield batch, reference

    def changes(work: tuple[Batch, Reference]) -> Matrix:
        batch, reference = work
        tokens = mutants.tokens(plan.rows[batch.first : batch.stop], batch.start, batch.end)  # (B, W)
        return _changes(_predict(model, tokens, properties), reference)

    yield from side_by_side(changes, with_wild_type(), streams)


@torch.inference_mode()
def _predict(model: DanceModel, input_ids: Tensor, properties: PropertySet) -> dict[str, Tensor]:
    return model(input_ids=input_ids.to(next(model.parameters()).device), pair=properties == "all")


@torch.inference_mode()
def _reference(predicted: dict[str, Tensor]) -> Reference:
    """Property -> the wild type's values and 1 / (|values| + 0.01), each (1, ...)."""
    return {name: (values, 1 / (values.abs() + DENOMINATOR_OFFSET)) for name, values in predicted.items()}


@torch.inference_mode()
def _changes(predicted: dict[str, Tensor], reference: Reference) -> Matrix:
    """(B, properties) from predictions (B, ...) and the wild type's (1, ...)."""
    columns = []
    for name, (wild_type, weight) in reference.items():
        change = (predicted[name] - wild_type).abs_().mul_(weight)
        columns.append(change.flatten(1).mean(1))  # (B,)
    return torch.stack(columns, dim=1).double().cpu().numpy()


def quantile_normalise(changes: npt.ArrayLike) -> Matrix:
    """Give every property the same distribution over the mutants.

    The n-th smallest value of each column becomes the mean over columns of their n-th smallest values; ties keep the
    order of the rows.

    Parameters
    ----------
    changes
        (mutants, properties).

    Returns
    -------
    ndarray
        (mutants, properties) float64.
    """
    values = np.asarray(changes, dtype=np.float64)
    return np.stack(list(normalised_columns(values.T.__getitem__, values.shape[1])), axis=1)


def normalised_columns(column: Callable[[int], Vector], columns: int) -> Iterator[Vector]:
    """Each column after quantile normalisation, from a function that gives a column; three are in memory at a time.

    That of a former column is not asked for again.
    """
    mean: Any = 0.0
    for number in range(columns):
        mean = mean + np.sort(column(number)) / columns
    for number in range(columns):
        normalised = np.empty_like(mean)
        normalised[column(number).argsort(kind="stable")] = mean
        yield normalised


def combine_scores(changes: npt.ArrayLike) -> pd.DataFrame:
    """Combine the changes of the properties into one score, in eight ways.

    Parameters
    ----------
    changes
        (mutants, properties), all mutants of one protein and the wild type: the `norm_` scores depend on all rows.

    Returns
    -------
    DataFrame
        One row per mutant, columns `SCORES`: mean, max, weighted mean (weights proportional to the changes) and
        geometric mean, of the changes as they are (`raw_`) and after `quantile_normalise` (`norm_`).
    """
    values = np.asarray(changes, dtype=np.float64)
    if values.ndim != 2 or 0 in values.shape:
        raise InputError(
            f"changes have shape {values.shape}; (mutants, properties) with at least one of each is needed"
        )
    return combine_rows(values, quantile_normalise(values))


def combine_rows(changes: Matrix, normalised: Matrix) -> pd.DataFrame:
    """As `combine_scores`, for some rows of the changes and of what `quantile_normalise` makes of all."""
    scores: dict[str, Vector] = {}
    for form, x in (("raw", changes), ("norm", normalised)):
        weights = x + SCORE_OFFSET
        scores[f"{form}_mean"] = x.mean(axis=1)
        scores[f"{form}_max"] = x.max(axis=1)
        scores[f"{form}_weighted_mean"] = (weights * x).sum(axis=1) / weights.sum(axis=1)
        scores[f"{form}_geometric_mean"] = geometric_mean(x)
    return pd.DataFrame(scores, columns=list(SCORES))


def geometric_mean(values: Matrix) -> Vector:
    """(rows, columns) -> (rows,), of changes that may be 0; after normalisation it is the published score."""
    return np.exp(np.log(values + SCORE_OFFSET).mean(axis=1))


def score_mutations(
    model: DanceModel,
    wild_type: str,
    mutants: Sequence[str],
    batch_size: int | None = None,
    progress: bool = False,
    properties: PropertySet = "all",
) -> pd.DataFrame:
    """Score mutations of one protein.

    Parameters
    ----------
    model
        SeqDance or ESMDance.
    wild_type
        Sequence; chains of a complex are joined by `<eos><cls>` and numbered on.
    mutants
        Substitutions such as `A12G` or `A12G:K5R` (positions from 1), `wt`, or whole sequences. One that is given
        twice counts twice in the normalisation.
    batch_size, progress, properties
        As in `property_changes`.

    Returns
    -------
    DataFrame
        One row per mutant, in order: `mutant` (substitutions, `wt` if there are none), `sequence`, the scores
        (`SCORES`; the wild type takes part in the normalisation) and the changes of the 23 properties.

    Raises
    ------
    InputError
        A mutation does not fit the wild type.
    """
    if isinstance(mutants, str):
        raise InputError("mutants must be a list; put the single mutant into a list")
    if not len(mutants):
        raise InputError("no mutants to score; give at least one")
    collected = mutants_of(wild_type, mutants)
    changes = _all_changes(model, collected, batch_size, progress, properties)
    if collected.changed().all():
        scores = combine_scores(np.vstack([np.zeros(changes.shape[1]), changes]))[1:].reset_index(drop=True)
    else:
        scores = combine_scores(changes)
    rows = range(len(collected))
    table = pd.DataFrame({"mutant": map(collected.label, rows), "sequence": map(collected.sequence, rows)})
    return pd.concat([table, scores, pd.DataFrame(changes, columns=list(PROPERTIES_OF[properties]))], axis=1)


def plot_mutation_map(
    table: pd.DataFrame,
    wild_type: str,
    path: str | os.PathLike[str],
    score: str = PUBLISHED_SCORE,
    offset: int = 0,
) -> None:
    """Heat map of single substitutions: wild type along x, amino acids along y, colour = score, written as PNG.

    Wild-type cells carry a dot, cells without a value are grey. Long proteins go on in further panels.

    Parameters
    ----------
    table
        From `score_mutations`; rows with several substitutions are passed over.
    wild_type
        The sequence that the table belongs to.
    path
        Where to write the PNG.
    score
        Column to draw.
    offset
        Number of a residue = its position + offset.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if score not in table:
        raise InputError(f"no column {score!r} in the table; it has {', '.join(map(str, table.columns))}")
    grid, letters = mutation_grid(table, wild_type, score, offset)
    values = grid[np.isfinite(grid)]
    low, high = (values.min(), values.max()) if values.size else (0.0, 1.0)
    starts = range(0, len(letters), RESIDUES_PER_PANEL)
    columns = min(len(letters), RESIDUES_PER_PANEL)

    # fixed places in inches: an automatic layout of so many labels takes half a minute
    cell, left, right, bottom, gap = 0.19, 0.6, 1.2, 0.4, 0.55
    panel_height = cell * len(AMINO_ACIDS)
    width = max(left + cell * columns + right, 5.0)
    height = bottom + len(starts) * (panel_height + gap)
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    image: Any = None
    for number, start in enumerate(starts):
        part = letters[start : start + RESIDUES_PER_PANEL]
        floor = height - (number + 1) * (panel_height + gap) + gap / 2
        panel = figure.add_axes(
            (left / width, floor / height, cell * len(part) / width, panel_height / height), facecolor="lightgrey"
        )
        shown = np.ma.masked_invalid(grid[:, start : start + len(part)])
        image = panel.imshow(shown, cmap="viridis", vmin=low, vmax=high, aspect="auto")
        wild = [(x, AMINO_ACIDS.index(letter)) for x, letter in enumerate(part) if letter in AMINO_ACIDS]
        panel.scatter([x for x, _ in wild], [y for _, y in wild], s=12, color="black")
        panel.set_yticks(range(len(AMINO_ACIDS)), list(AMINO_ACIDS), fontsize=8)
        numbers = range(start + 1 + offset, start + len(part) + 1 + offset)
        names = [f"{x}\n{n}" if n % 10 == 0 or n == 1 + offset else x for x, n in zip(part, numbers, strict=True)]
        panel.set_xticks(range(len(part)), names, fontsize=8)
        panel.tick_params(length=0)
        panel.set_ylabel("mutant residue")
    figure.text(left / width, 0.15 / height, "wild-type residue and its number (dot: wild type, grey: no value)")
    bar = figure.add_axes(
        ((width - right + 0.2) / width, (height - gap / 2 - panel_height) / height, 0.18 / width, panel_height / height)
    )
    figure.colorbar(image, cax=bar, label=score)
    with whole_file(Path(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def mutation_grid(
    table: pd.DataFrame, wild_type: str, score: str = PUBLISHED_SCORE, offset: int = 0
) -> tuple[Matrix, list[str]]:
    """Scores of single substitutions as a grid.

    Returns
    -------
    ndarray
        (20, residues) float64, rows in the order of `tokenizer.AMINO_ACIDS`; NaN where the table has no value.
    list
        Wild-type residues.
    """
    tokens = [token for token in split_tokens(wild_type) if token not in ("<cls>", "<eos>")]
    letters = [token if len(token) == 1 else "?" for token in tokens]
    grid = np.full((len(AMINO_ACIDS), len(letters)), np.nan)
    for label, value in zip(table["mutant"], table[score], strict=True):
        match = _SUBSTITUTION.fullmatch(str(label))
        if not match or match[3] not in AMINO_ACIDS:
            continue
        position = int(match[2]) - offset
        if not 1 <= position <= len(letters) or letters[position - 1] != match[1]:
            raise InputError(
                f"mutation {label!r} of the table does not belong to this wild type; give the right sequence"
            )
        grid[AMINO_ACIDS.index(match[3]), position - 1] = value
    return grid, letters
