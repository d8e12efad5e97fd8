"""Effects of mutations without training on them: how much a mutant's predicted dynamics differ from the wild type's.

Source: Hou, Zhao, Shen, PNAS 2026 (doi 10.1073/pnas.2530466123). Scores grow with the damage, so they correlate
negatively with stability. The published score is `norm_geometric_mean`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from data_prepare.errors import InputError
from data_prepare.files import whole_file
from data_prepare.properties import PROPERTIES
from model.dance import DanceModel
from model.tokenizer import AMINO_ACIDS, TOKEN_ID, split_tokens, tokenize

Matrix = npt.NDArray[np.float64]

DENOMINATOR_OFFSET: Final = 0.01  # keeps the relative change of a property near 0 finite
SCORE_OFFSET: Final = 1e-8  # keeps weights and logarithms of unchanged properties finite
COMBINATIONS: Final = ("mean", "max", "weighted_mean", "geometric_mean")
SCORES: Final = tuple(f"{form}_{name}" for form in ("raw", "norm") for name in COMBINATIONS)
PUBLISHED_SCORE: Final = "norm_geometric_mean"
WILD_TYPE_LABEL: Final = "wt"
RESIDUES_PER_PANEL: Final = 80  # of the heat map

_SUBSTITUTION: Final = re.compile(r"([A-Za-z])(\d+)([A-Za-z])")


def property_changes(
    model: DanceModel, wild_type: str, mutants: Sequence[str], batch_size: int = 16, progress: bool = False
) -> Matrix:
    """Relative change of every predicted property from the wild type to each mutant.

    change = mean over all elements of |mutant - wild type| / (|wild type| + 0.01); elements are tokens or pairs of
    tokens, <cls> and <eos> included, and bins.

    Parameters
    ----------
    model
        SeqDance or ESMDance.
    wild_type, mutants
        Sequences of the same number of tokens. A mutant equal to the wild type has change 0.
    batch_size
        Mutants predicted at once; bounds the memory.
    progress
        Show a progress bar.

    Returns
    -------
    ndarray
        (mutants, 23) float64, columns in the order of `properties.PROPERTIES`.

    Raises
    ------
    InputError
        A sequence cannot be tokenised or has another length than the wild type.
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; it must be at least 1")
    length = len(split_tokens(wild_type))
    for number, mutant in enumerate(mutants, start=1):
        if len(split_tokens(mutant)) != length:
            raise InputError(
                f"mutant {number} has {len(split_tokens(mutant))} residues, the wild type has {length}; "
                "leave insertions and deletions out"
            )
    changes = np.zeros((len(mutants), len(PROPERTIES)))
    changed = [row for row, mutant in enumerate(mutants) if mutant != wild_type]
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), tqdm(total=len(changed), unit="mutant", disable=not progress) as bar:
            reference = _predict(model, [wild_type])
            for first in range(0, len(changed), batch_size):
                rows = changed[first : first + batch_size]
                predicted = _predict(model, [mutants[row] for row in rows])
                changes[rows] = _changes(predicted, reference)
                bar.update(len(rows))
    finally:
        model.train(was_training)
    return changes


def _predict(model: DanceModel, sequences: Sequence[str]) -> dict[str, Tensor]:
    device = next(model.parameters()).device
    return model(**{name: value.to(device) for name, value in tokenize(sequences).items()})


def _changes(predicted: dict[str, Tensor], reference: dict[str, Tensor]) -> Matrix:
    """(B, properties) from predictions (B, ...) and the wild type's (1, ...)."""
    columns = []
    for name in PROPERTIES:
        mutant, wild_type = _widen(predicted[name]), _widen(reference[name])
        change = (mutant - wild_type).abs() / (wild_type.abs() + DENOMINATOR_OFFSET)
        columns.append(change.flatten(1).mean(1))  # (B,)
    return torch.stack(columns, dim=1).cpu().numpy().astype(np.float64)


def _widen(values: Tensor) -> Tensor:
    return values.float() if values.device.type == "mps" else values.double()  # Apple GPUs have no float64


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
    ranks = values.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable")  # (mutants, properties)
    return np.sort(values, axis=0).mean(axis=1)[ranks]


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
    columns: dict[str, npt.NDArray[np.float64]] = {}
    for form, x in (("raw", values), ("norm", quantile_normalise(values))):
        weights = x + SCORE_OFFSET
        columns[f"{form}_mean"] = x.mean(axis=1)
        columns[f"{form}_max"] = x.max(axis=1)
        columns[f"{form}_weighted_mean"] = (weights * x).sum(axis=1) / weights.sum(axis=1)
        columns[f"{form}_geometric_mean"] = np.exp(np.log(x + SCORE_OFFSET).mean(axis=1))
    return pd.DataFrame(columns, columns=list(SCORES))


def score_mutations(
    model: DanceModel, wild_type: str, mutants: Sequence[str], batch_size: int = 16, progress: bool = False
) -> pd.DataFrame:
    """Score mutations of one protein.

    Parameters
    ----------
    model
        SeqDance or ESMDance.
    wild_type
        Sequence; chains of a complex are joined by `<eos><cls>` and numbered on.
    mutants
        Substitutions such as `A12G` or `A12G:K5R` (positions from 1), `wt`, or whole sequences.
    batch_size, progress
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
    tokenize([wild_type])  # names a letter that cannot be used
    labels, sequences = zip(*(_read_mutant(wild_type, mutant) for mutant in mutants), strict=True)
    changes = property_changes(model, wild_type, sequences, batch_size, progress)
    if wild_type in sequences:
        scores = combine_scores(changes)
    else:
        scores = combine_scores(np.vstack([np.zeros(len(PROPERTIES)), changes]))[1:].reset_index(drop=True)
    table = pd.DataFrame({"mutant": labels, "sequence": sequences})
    return pd.concat([table, scores, pd.DataFrame(changes, columns=list(PROPERTIES))], axis=1)


def all_single_mutants(sequence: str) -> list[str]:
    """All substitutions of single residues by the other amino acids (`M1A`, `M1C`, ...): 19 per residue."""
    tokens, places = _residues(sequence)
    return [
        f"{tokens[place]}{position}{letter}"
        for position, place in enumerate(places, start=1)
        if len(tokens[place]) == 1
        for letter in AMINO_ACIDS
        if letter != tokens[place]
    ]


def apply_mutation(wild_type: str, mutation: str) -> str:
    """Sequence of a mutant such as `A12G` or `A12G:K5R` (positions from 1 over the residues of all chains).

    Raises
    ------
    InputError
        The mutation has another form, names a position twice or does not fit the wild type.
    """
    tokens, places = _residues(wild_type)
    seen: set[int] = set()
    for part in mutation.split(":"):
        match = _SUBSTITUTION.fullmatch(part.strip())
        if not match:
            raise InputError(f"mutation {mutation!r}: {part!r} is not of the form A12G")
        old, position, new = match[1], int(match[2]), match[3]
        if not 1 <= position <= len(places):
            raise InputError(
                f"mutation {mutation!r}: there is no position {position}; the wild type has 1-{len(places)}"
            )
        if position in seen:
            raise InputError(f"mutation {mutation!r}: position {position} appears twice; name it once")
        if tokens[places[position - 1]] != old:
            found = tokens[places[position - 1]]
            raise InputError(f"mutation {mutation!r}: position {position} of the wild type is {found}, not {old}")
        if new not in TOKEN_ID:
            raise InputError(f"mutation {mutation!r}: {new!r} is not an amino acid; use upper-case one-letter codes")
        seen.add(position)
        tokens[places[position - 1]] = new
    return "".join(tokens)


def _residues(sequence: str) -> tuple[list[str], list[int]]:
    """Tokens of a sequence, and the indices of those that are residues (not <cls> or <eos>)."""
    tokens = split_tokens(sequence)
    return tokens, [place for place, token in enumerate(tokens) if token not in ("<cls>", "<eos>")]


def _read_mutant(wild_type: str, mutant: str) -> tuple[str, str]:
    """Label and sequence of a mutant that is given as a label or as a sequence."""
    if mutant.lower() == WILD_TYPE_LABEL:
        return WILD_TYPE_LABEL, wild_type
    if re.search(r"\d", mutant):
        return mutant, apply_mutation(wild_type, mutant)
    (old, places), (new, new_places) = _residues(wild_type), _residues(mutant)
    if len(new) != len(old) or new_places != places:
        raise InputError(
            f"mutant sequence {mutant[:20]}... has {len(new_places)} residues or other chains, the wild type has "
            f"{len(places)}; leave insertions and deletions out"
        )
    different = [(n, place) for n, place in enumerate(places, start=1) if old[place] != new[place]]
    return ":".join(f"{old[place]}{n}{new[place]}" for n, place in different) or WILD_TYPE_LABEL, mutant


def plot_mutation_map(
    table: pd.DataFrame, wild_type: str, path: str | os.PathLike[str], score: str = PUBLISHED_SCORE
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
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if score not in table:
        raise InputError(f"no column {score!r} in the table; it has {', '.join(map(str, table.columns))}")
    grid, letters = mutation_grid(table, wild_type, score)
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
        positions = range(start + 1, start + len(part) + 1)
        names = [f"{x}\n{n}" if n % 10 == 0 or n == 1 else x for x, n in zip(part, positions, strict=True)]
        panel.set_xticks(range(len(part)), names, fontsize=8)
        panel.tick_params(length=0)
        panel.set_ylabel("mutant residue")
    figure.text(left / width, 0.15 / height, "wild-type residue and position (dot: wild type, grey: no value)")
    bar = figure.add_axes(
        ((width - right + 0.2) / width, (height - gap / 2 - panel_height) / height, 0.18 / width, panel_height / height)
    )
    figure.colorbar(image, cax=bar, label=score)
    with whole_file(Path(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def mutation_grid(table: pd.DataFrame, wild_type: str, score: str = PUBLISHED_SCORE) -> tuple[Matrix, list[str]]:
    """Scores of single substitutions as a grid.

    Returns
    -------
    ndarray
        (20, residues) float64, rows in the order of `tokenizer.AMINO_ACIDS`; NaN where the table has no value.
    list
        Wild-type residues.
    """
    tokens, places = _residues(wild_type)
    letters = [tokens[place] if len(tokens[place]) == 1 else "?" for place in places]
    grid = np.full((len(AMINO_ACIDS), len(letters)), np.nan)
    for label, value in zip(table["mutant"], table[score], strict=True):
        match = _SUBSTITUTION.fullmatch(str(label))
        if not match or match[3] not in AMINO_ACIDS:
            continue
        position = int(match[2])
        if not 1 <= position <= len(letters) or letters[position - 1] != match[1]:
            raise InputError(
                f"mutation {label!r} of the table does not belong to this wild type; give the right sequence"
            )
        grid[AMINO_ACIDS.index(match[3]), position - 1] = value
    return grid, letters


def write_mutation_table(table: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a table of `score_mutations` as CSV, complete or not at all."""
    with whole_file(Path(path)) as temporary:
        table.to_csv(temporary, index=False)
