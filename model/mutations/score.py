"""Zero-shot scores of mutations: how much a mutant's predicted dynamics differ from the wild type's.

Source: Hou, Zhao, Shen, PNAS 2026 (doi 10.1073/pnas.2530466123). Scores grow with the damage, so they correlate
negatively with stability. The published score is `norm_geometric_mean`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from data_prepare.errors import named, require
from data_prepare.resume import Results, digest
from model.choices import Numbering, PropertySet
from model.config import ModelConfig, Precision
from model.inference.batches import gpu_batch_size, sequence_bytes
from model.inference.inputs import Protein, parse_sequence, sequence_list
from model.inference.predict import property_names
from model.inference.threads import side_by_side
from model.mutations.substitution import WILD_TYPE_LABEL, Mutants
from model.network.dance import DanceModel
from model.network.device import autocast, choose_precision, device_of, evaluating, require_finite
from model.network.weights import network_digest

Matrix = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Reference = dict[str, tuple[Tensor, Tensor]]  # property -> the wild type's values and their weights, each (1, ...)

DENOMINATOR_OFFSET: Final = 0.01  # keeps the relative change of a property near 0 finite
SCORE_OFFSET: Final = 1e-8  # keeps weights and logarithms of unchanged properties finite
COMBINATIONS: Final = ("mean", "max", "weighted_mean", "geometric_mean")
SCORES: Final = tuple(f"{form}_{name}" for form in ("raw", "norm") for name in COMBINATIONS)
PUBLISHED_SCORE: Final = "norm_geometric_mean"
BATCH_BYTES: Final = 2**27  # approximate memory of a batch on a CPU whose size is chosen by length
CPU_BYTES: Final = 2**28  # of the batches computed at the same time
MAX_BATCH: Final = 16  # on a CPU
PART_TOKENS: Final = 2**17  # of the mutants that are saved together
BLOCK_ROWS: Final = 2**14  # combined at once


def score_mutations(
    model: DanceModel,
    wild_type: str | Protein,
    mutants: Sequence[str] | None = None,
    batch_size: int | None = None,
    progress: bool = False,
    properties: PropertySet = "all",
    precision: Precision = "auto",
    numbering: Numbering | None = None,
    sequences: bool = False,
) -> pd.DataFrame:
    """Score mutations of one protein; InputError if one does not fit or the predictions are not finite.

    Parameters
    ----------
    model
        SeqDance or ESMDance.
    wild_type
        Sequence, also in lower case; chains of a complex are joined by `<eos><cls>` and numbered consecutively. Or the
        protein of a structure, see `model.inference.inputs.protein_of_structure`.
    mutants
        Substitutions such as `A12G` or `A12G:K5R`, `wt`, or whole sequences. A duplicate counts twice in the
        normalisation. Default: all single mutants.
    batch_size
        Mutants predicted at once; limits the memory. Default: chosen by length.
    progress
        Show a progress bar.
    properties
        "residue" omits the residue pairs, which is faster.
    precision
        Of the forward pass: fp32, bf16, fp16, or "auto": fp32 on a CPU, else bf16 or fp16.
    numbering
        Of the mutants: by position from 1 ("sequence"), or as in the structure. Default: "structure" for its protein.
    sequences
        Add the column `sequence`.

    Returns
    -------
    DataFrame
        One row per mutant, in order, with the columns of `seqdance score`, see `score_table`.
    """
    require(not isinstance(mutants, str), "mutants must be a list; put the single mutant into a list")
    numbered = isinstance(wild_type, Protein) and wild_type.structure_ids is not None
    require(numbering != "structure" or numbered, "numbering by structure requires the protein of protein_of_structure")
    wild_type = sequence_list([wild_type])[0] if isinstance(wild_type, str) else wild_type
    collected = Mutants(wild_type, mutants, of_structure=numbering != "sequence")
    require(collected.labels, "no mutants to score; give at least one")
    with tqdm(total=len(collected.labels), unit="mutant", disable=not progress) as bar:
        changes = changes_of(model, collected, properties, batch_size, done=bar.update, precision=precision)
    return score_table(collected, changes, properties, sequences, model.label)


def property_changes(
    model: DanceModel,
    wild_type: str,
    mutants: Sequence[str],
    batch_size: int | None = None,
    progress: bool = False,
    properties: PropertySet = "all",
    precision: Precision = "auto",
) -> Matrix:
    """Relative change of every predicted property from the wild type to each mutant; parameters of `score_mutations`.

    change = mean over all elements of |mutant - wild type| / (|wild type| + 0.01); elements are tokens or pairs of
    tokens, `<cls>` and `<eos>` included, and bins. Proteins of more than 1,024 tokens are compared in a window around
    the mutation, see `substitution.window_start`.

    Returns (mutants, 23) float64, columns in the order of `properties.PROPERTIES`; (mutants, 10) without residue pairs.
    """
    with tqdm(total=len(mutants), unit="mutant", disable=not progress) as bar:
        collected = Mutants(parse_sequence(wild_type), mutants)
        return changes_of(model, collected, properties, batch_size, done=bar.update, precision=precision)


def changes_of(
    model: DanceModel,
    mutants: Mutants,
    properties: PropertySet = "all",
    batch_size: int | None = None,
    results: Results | None = None,
    done: Callable[[int], object] = lambda mutants: None,
    precision: Precision = "auto",
) -> Matrix:
    """`property_changes` of collected mutants; finished parts are read from and written to `results`.

    The work is ordered by window, so that the wild type is predicted once in each. `done` receives the number of
    mutants each time some are finished.
    """
    require(batch_size is None or batch_size >= 1, f"batch_size is {batch_size}; it must be at least 1")
    changes = np.zeros((len(mutants.labels), len(property_names(properties))))
    device = device_of(model).type
    precision = choose_precision(precision, device_of(model))
    size = batch_size or automatic_batch_size(model.config, mutants.window, device, properties)
    network = network_digest(model, model.config.heads, precision) if results else ""
    starts, tokens = np.array(mutants.starts), mutants.tokens
    rows = np.flatnonzero([label != WILD_TYPE_LABEL for label in mutants.labels])
    rows = rows[starts[rows].argsort(kind="stable")]
    missing: list[tuple[str, list[Rows]]] = []  # key and batches of each part that is computed
    done(len(changes) - len(rows))
    for part in _pieces(rows, max(1, PART_TOKENS // mutants.window)):
        key = ""
        if results:
            sequence, ids = mutants.wild_type.sequence, tokens[part].tobytes().hex()
            key = digest(network, properties, sequence, starts[part].tolist(), ids)
            if (finished := results.read(key)) is not None:
                changes[part] = finished["changes"]
                done(len(part))
                continue
        one_window = np.split(part, np.flatnonzero(np.diff(starts[part])) + 1)
        missing.append((key, [batch for group in one_window for batch in _pieces(group, size)]))
    batches = [batch for _, own in missing for batch in own]
    with evaluating(model), closing(_batch_changes(model, mutants, batches, properties, precision)) as computed:
        for key, own in missing:
            for batch in own:
                changes[batch] = next(computed)
                done(len(batch))
            part_changes = changes[np.concatenate(own)]
            require(np.isfinite(part_changes).all(), "the predictions are not finite; check the weights of the model")
            if results:
                results.write(key, changes=part_changes)
    return changes


def _pieces(rows: Rows, size: int) -> list[Rows]:
    return [rows[first : first + size] for first in range(0, len(rows), size)]


def _batch_changes(
    model: DanceModel, mutants: Mutants, batches: Sequence[Rows], properties: PropertySet, precision: str
) -> Generator[Matrix, None, None]:
    """Changes (B, properties) of one batch after the other; a batch lies in one window."""
    device = device_of(model)

    @torch.inference_mode()
    def predict(ids: npt.NDArray[np.uint8]) -> dict[str, Tensor]:
        with autocast(device, precision):
            return model(input_ids=torch.from_numpy(ids.astype(np.int64)).to(device), pair=properties == "all")

    @torch.inference_mode()
    def with_wild_type() -> Iterator[tuple[Rows, Reference]]:
        reference: Reference = {}
        window = -1
        for batch in batches:
            if mutants.starts[batch[0]] != window:
                window = mutants.starts[batch[0]]
                reference = {}  # frees the former one before the next is made
                predicted = predict(mutants.wild_type_tokens(window)[None])  # (1, W)
                reference = {name: (wt, 1 / (wt.abs() + DENOMINATOR_OFFSET)) for name, wt in predicted.items()}
            yield batch, reference

    @torch.inference_mode()
    def changes(work: tuple[Rows, Reference]) -> Matrix:
        batch, reference = work
        predicted = predict(mutants.tokens[batch])  # (B, W)
        columns = [
            (predicted[name] - wt).abs_().mul_(weight).flatten(1).mean(1)  # (B,)
            for name, (wt, weight) in reference.items()
        ]
        found = torch.stack(columns, dim=1)  # (B, properties)
        require_finite({"changes": found}, "mutants")
        return found.cpu().double().numpy()  # Apple GPUs have no float64

    streams = streams_of(model.config, batches, mutants.window, device.type, properties)
    yield from side_by_side(changes, with_wild_type(), streams)


def automatic_batch_size(config: ModelConfig, tokens: int, device: str, properties: PropertySet = "all") -> int:
    """Mutants of a length that are predicted at once: as many as fill a GPU, on a CPU in about `BATCH_BYTES`."""
    pair = properties == "all"
    if device == "cuda":
        return gpu_batch_size(config, tokens, pair, torch.device(device))
    return min(max(1, BATCH_BYTES // sequence_bytes(config, tokens, pair)), MAX_BATCH)


def streams_of(config: ModelConfig, batches: Sequence[Rows], tokens: int, device: str, properties: PropertySet) -> int:
    """Batches computed at the same time: on a CPU as many as there are threads and as fit into `CPU_BYTES`."""
    if device != "cpu" or not batches:
        return 1
    fitting = CPU_BYTES // (max(map(len, batches)) * sequence_bytes(config, tokens, properties == "all"))
    return max(1, min(torch.get_num_threads(), fitting, len(batches)))


def quantile_normalise(changes: npt.ArrayLike) -> Matrix:
    """Give every property the same distribution over the mutants: (mutants, properties) -> the same, float64.

    The n-th smallest value of each column becomes the mean over columns of their n-th smallest values; equal values
    keep the order of the rows.
    """
    values = np.array(changes, dtype=np.float64)
    _normalise(values)
    return values


def _normalise(values: Matrix) -> None:
    """`quantile_normalise` in place."""
    mean = sum(np.sort(column) / values.shape[1] for column in values.T)  # (mutants,)
    for column in values.T:
        column[column.argsort(kind="stable")] = mean


def combine_scores(changes: npt.ArrayLike, add_wild_type: bool = False) -> pd.DataFrame:
    """Combine the changes of the properties into one score, in eight ways; InputError if no change is given.

    `changes` (mutants, properties) are those of all mutants of one protein and the wild type, which `add_wild_type`
    inserts as a first row of zeros: the `norm_` scores depend on all rows.

    Returns one row per mutant, columns `SCORES`: mean, max, weighted mean (weights proportional to the changes) and
    geometric mean, of the changes (`raw_`) and of the changes after `quantile_normalise` (`norm_`).
    """
    shape = np.shape(changes)
    require(
        len(shape) == 2 and 0 not in shape, f"changes have shape {shape}; give at least one mutant and one property"
    )
    x = np.vstack([np.zeros((int(add_wild_type), shape[1])), changes])  # a copy, normalised in place
    scores = np.empty((len(x), len(SCORES)))
    _combine(x, scores[:, : len(COMBINATIONS)])
    _normalise(x)
    _combine(x, scores[:, len(COMBINATIONS) :])
    return pd.DataFrame(scores, columns=list(SCORES))


def _combine(changes: Matrix, scores: Matrix) -> None:
    """(n, properties) -> (n, 4), in the order of `COMBINATIONS`; in blocks, which bounds the memory."""
    for first in range(0, len(changes), BLOCK_ROWS):
        x = changes[first : first + BLOCK_ROWS]
        weights = x + SCORE_OFFSET
        weighted_mean = (weights * x).sum(axis=1) / weights.sum(axis=1)
        columns = (x.mean(axis=1), x.max(axis=1), weighted_mean, np.exp(np.log(weights).mean(axis=1)))
        scores[first : first + BLOCK_ROWS] = np.stack(columns, axis=1)


def score_table(
    mutants: Mutants, changes: Matrix, properties: PropertySet = "all", sequences: bool = False, model: str = ""
) -> pd.DataFrame:
    """Scores and changes of the mutants of one protein; the wild type takes part in the normalisation.

    Columns: `protein`; `mutant` (substitutions or `wt`); `chain` and `number` of the residue, those of the structure if
    there is one, and `position` in the sequence from 1, as text, joined by `:` for several substitutions; `sequence` if
    wanted; `score`, the published one; `damage`, the fraction of the protein's other mutants and wild type that score
    lower; `SCORES`; `property_changes`; `model`, the label of the network.
    """
    absent = WILD_TYPE_LABEL not in mutants.labels
    scores = combine_scores(changes, add_wild_type=absent)
    scores.insert(0, "score", scores[PUBLISHED_SCORE])
    scores.insert(1, "damage", (scores["score"].rank() - 1) / max(1, len(scores) - 1))
    chains, numbers = zip(*mutants.ids, strict=True)
    positions = [str(position) for position in range(1, len(chains) + 1)]
    names = pd.DataFrame({"protein": mutants.name, "mutant": mutants.labels})
    for column, values in (("chain", chains), ("number", numbers), ("position", positions)):
        names[column] = [":".join([values[residue] for residue in own]) for own in mutants.changed]
    if sequences:
        names["sequence"] = [mutants.sequence(row) for row in range(len(mutants.labels))]
    columns = pd.DataFrame(changes, columns=list(property_names(properties)), copy=False)
    table = pd.concat([names, scores[int(absent) :].reset_index(drop=True), columns], axis=1)
    return table.assign(model=model)


def mean_damage(table: pd.DataFrame, residues: int) -> npt.NDArray[np.float64]:
    """Mean `damage` of the single mutants of each residue (residues,) in a `score_table`; NaN where there is none."""
    single = table[table["position"].str.isdecimal()]
    means = single.groupby(single["position"].astype(int))["damage"].mean()
    return means.reindex(range(1, residues + 1)).to_numpy(np.float64)


def score_tables(
    model: DanceModel,
    chosen: Iterable[Mutants],
    results: Results,
    properties: PropertySet = "all",
    batch_size: int | None = None,
    sequences: bool = False,
    precision: Precision = "auto",
) -> Iterator[pd.DataFrame]:
    """`score_table` of each protein; `results` keeps finished parts."""
    total = sum(len(mutants.labels) for mutants in chosen) if isinstance(chosen, list) else None
    label = model.label
    with tqdm(total=total, unit="mutant") as bar:
        for mutants in chosen:
            with named(mutants.name):
                changes = changes_of(model, mutants, properties, batch_size, results, bar.update, precision)
            yield score_table(mutants, changes, properties, sequences, label)
