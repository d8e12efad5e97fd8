"""Predicted properties of sequences as NumPy arrays of the residues, without `<cls>`, `<eos>` and padding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, overload

import torch
from tqdm import tqdm

from data_prepare.errors import require
from data_prepare.memory import require_memory
from data_prepare.properties import PAIR_CHANNELS, PROPERTIES, RESIDUE_COLUMNS, RESIDUE_PROPERTIES
from model.config import Precision
from model.inference.batches import gpu_batch_size, residue_rows, run_batches
from model.inference.inputs import Protein, sequence_list
from model.inference.prediction_files import PredictionFolder, Properties
from model.network.dance import DanceModel
from model.network.device import device_of, memory_of
from model.network.tokenizer import split_tokens

Names = str | Sequence[str]

# per batch on a CPU; its 13 maps take 54 MB, the attention of a layer with 20 heads 84 MB, while computed several times
MAX_PAIRS: Final = 2**20
SHORTHANDS: Final = {"all": PROPERTIES, "residue": RESIDUE_PROPERTIES}


def property_names(properties: Names) -> tuple[str, ...]:
    """Names of properties in the order of `PROPERTIES`; InputError if one is unknown or none is given.

    "all" and "residue" stand for several. "residue" needs no residue pairs: it is faster, and its memory is linear in
    the length.
    """
    words = [properties] if isinstance(properties, str) else list(properties)
    names = {name for word in words for name in SHORTHANDS.get(word, (word,))}
    unknown = sorted(names.difference(PROPERTIES))
    problem = f"unknown property {', '.join(unknown)}" if unknown else "no property given"
    require(names and not unknown, f"{problem}; choose from {', '.join([*SHORTHANDS, *PROPERTIES])}")
    return tuple(name for name in PROPERTIES if name in names)


def table_names(properties: Names) -> tuple[str, ...]:
    """`property_names` for a table of residues, in which "all" stands for theirs; InputError for those of pairs."""
    words = [properties] if isinstance(properties, str) else list(properties)
    names = property_names(["residue" if word == "all" else word for word in words])
    pairs = [name for name in names if name in PAIR_CHANNELS]
    require(not pairs, f"{', '.join(pairs)}: residue pairs do not fit into a table of residues; write .h5 or a folder")
    return names


@overload
def predict_properties(model: DanceModel, sequences: str, *options: Any, **named: Any) -> Properties: ...


@overload
def predict_properties(
    model: DanceModel, sequences: Mapping[str, str], *options: Any, **named: Any
) -> dict[str, Properties]: ...


@overload
def predict_properties(
    model: DanceModel, sequences: Sequence[str], *options: Any, **named: Any
) -> list[Properties]: ...


def predict_properties(
    model: DanceModel,
    sequences: str | Sequence[str] | Mapping[str, str],
    properties: Names = "all",
    batch_size: int | None = None,
    precision: Precision = "auto",
) -> Properties | list[Properties] | dict[str, Properties]:
    """Predict the dynamics of one protein, or of several in a list, array or Series, or by name in a dictionary.

    Sequences may be in lower case. Join the chains of a complex with `<eos><cls>`. `properties` is "all", "residue", or
    names (see `data_prepare.properties`). `batch_size` does not change the results; default: a million token pairs on a
    CPU, as many sequences as fill a GPU. `precision` of the forward pass: fp32, bf16, fp16, or "auto": fp32 on a CPU,
    else bf16 or fp16.

    Returns, for each protein (in a list, or by name), property -> float32 array of the N residues of all chains: (N,),
    (N, bins) for ss, chi, phi and psi, (N, N) for residue pairs. sasa_mean and sasa_std in nm^2; rmsf_nor relative to
    the maximum of the protein; ss, chi, phi and psi as fractions; interactions as cube roots of contacts per frame;
    correlations from -1 to 1. InputError if a sequence or property cannot be used, or there is not enough memory.
    """
    if isinstance(sequences, str):
        return predict_properties(model, [sequences], properties, batch_size, precision)[0]
    texts = sequence_list(sequences)
    found = dict(iterate_predictions(model, texts, properties, batch_size, precision))
    rows = [found[index] for index in range(len(texts))]
    return dict(zip(sequences, rows, strict=True)) if isinstance(sequences, Mapping) else rows


def iterate_predictions(
    model: DanceModel,
    sequences: Sequence[str],
    properties: Names = "all",
    batch_size: int | None = None,
    precision: Precision = "auto",
) -> Iterator[tuple[int, Properties]]:
    """Yield index in `sequences` and properties as soon as a batch is done, shortest sequences first."""
    names = property_names(properties)
    if any(name in PAIR_CHANNELS for name in names):
        _require_pair_memory(model, sequences, batch_size)
    residue, pair = (any(name in group for name in names) for group in (RESIDUE_COLUMNS, PAIR_CHANNELS))
    capacity = partial(_batch_size, model, pair)
    for batch in run_batches(model, sequences, batch_size, capacity, precision, residue=residue, pair=pair):
        for row, index in enumerate(batch.indices):
            rows = torch.from_numpy(residue_rows(sequences[index])[0]).to(batch.mask.device)
            found = {}
            for name in names:
                values = batch.outputs[name][row].float()  # (L,), (L, bins) or (L, L)
                values = values[rows[:, None], rows] if name in PAIR_CHANNELS else values[rows]
                found[name] = values.cpu().numpy()
            yield index, found


def _batch_size(model: DanceModel, pair: bool, tokens: int) -> int:
    """Sequences of a length per batch: on a GPU as many as fill it, otherwise `MAX_PAIRS`."""
    device = device_of(model)
    return gpu_batch_size(model.config, tokens, pair, device) if device.type == "cuda" else MAX_PAIRS // tokens**2


def _require_pair_memory(model: DanceModel, sequences: Sequence[str], batch_size: int | None) -> None:
    """InputError if the largest batch needs more memory than its device has."""
    device = device_of(model)
    tokens = max((len(split_tokens(sequence)) + 2 for sequence in sequences), default=0)
    batch = min(batch_size or _batch_size(model, True, max(tokens, 1)) or 1, len(sequences))
    maps = max(58, 2 * model.config.heads + 39)  # float32 (L, L), measured: attention of a layer, logits, results
    what = f"residue pairs of a batch of {batch} sequence(s) of up to {tokens} tokens"
    remedy = "predict residue properties only (--properties residue), or provide more memory"
    require_memory(4 * maps * batch * tokens**2, what, memory_of(device), remedy)


def predict_missing(
    model: DanceModel,
    proteins: Sequence[Protein],
    store: PredictionFolder,
    batch_size: int | None = None,
    precision: Precision = "auto",
) -> list[Protein]:
    """Predict and return the proteins that a store lacks, with a progress bar."""
    missing = [protein for protein in proteins if not store.has(protein)]
    chains = [residue_rows(protein.sequence)[1] for protein in missing]
    sequences = [protein.sequence for protein in missing]
    with tqdm(total=sum(map(len, chains)), unit="residue", unit_scale=True, disable=not missing) as bar:
        for index, found in iterate_predictions(model, sequences, store.properties, batch_size, precision):
            store.write(missing[index], chains[index], found)
            bar.update(len(chains[index]))
    store.finish(proteins)
    return missing
