"""Embeddings of sequences: the last hidden state of the encoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Literal, overload

import h5py
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data_prepare.errors import require
from data_prepare.files import new_hdf5, whole_file, write_attributes, write_text
from data_prepare.resume import Results, digest
from model.config import Precision
from model.inference.batches import gpu_batch_size, length_batches, residue_rows, run_batches
from model.inference.inputs import Protein, sequence_list
from model.network.dance import DanceModel
from model.network.device import choose_precision, device_of
from model.network.tokenizer import split_tokens
from model.network.weights import network_digest

Array = NDArray[np.float32]

BATCH_TOKENS: Final = 2**14  # of a batch on a CPU, padding included


@overload
def embed(
    model: DanceModel,
    sequences: str | Sequence[str],
    per_residue: Literal[False] = False,
    batch_size: int | None = None,
    precision: Precision = "auto",
) -> Array: ...


@overload
def embed(
    model: DanceModel,
    sequences: Mapping[str, str],
    per_residue: bool = False,
    batch_size: int | None = None,
    precision: Precision = "auto",
) -> dict[str, Array]: ...


@overload
def embed(
    model: DanceModel,
    sequences: str | Sequence[str],
    per_residue: bool,
    batch_size: int | None = None,
    precision: Precision = "auto",
) -> Array | list[Array]: ...


def embed(
    model: DanceModel,
    sequences: str | Sequence[str] | Mapping[str, str],
    per_residue: bool = False,
    batch_size: int | None = None,
    precision: Precision = "auto",
) -> Array | list[Array] | dict[str, Array]:
    """Last hidden state of the encoder of SeqDance or ESMDance (ESM2-35M, frozen).

    `sequences` is one sequence, or several in a list, array or Series, or by name in a dictionary; lower case is read.
    Join the chains of a complex with `<eos><cls>`.
    `batch_size` does not change the results; default: 16,384 tokens on a CPU, as many sequences as fill a GPU.
    `precision` of the forward pass: fp32, bf16, fp16, or "auto": fp32 on a CPU, else bf16 or fp16.

    Returns (n, hidden) float32, the means over the tokens, `<cls>` and `<eos>` included; or, if `per_residue`, for each
    sequence (N, hidden) of its N residues. For a single sequence, or each name of a dictionary, (hidden,) or (N,
    hidden). InputError if a sequence cannot be used, or there is not enough memory.
    """
    if isinstance(sequences, str):
        return embed(model, [sequences], per_residue, batch_size, precision)[0]
    if isinstance(sequences, Mapping):
        rows = embed(model, list(sequences.values()), per_residue, batch_size, precision)
        return dict(zip(sequences, rows, strict=True))
    sequences = sequence_list(sequences)
    found: dict[int, Array] = {}
    outputs = {"residue": False, "pair": False, "embedding": True}
    for batch in run_batches(model, sequences, batch_size, partial(_batch_size, model), precision, **outputs):
        hidden = batch.outputs["res_emb"].float()  # (B, L, hidden)
        if per_residue:
            for index, values in zip(batch.indices, hidden.cpu().numpy(), strict=True):  # values (L, hidden)
                found[index] = values[residue_rows(sequences[index])[0]]
        else:
            mask = batch.mask[..., None]  # (B, L, 1)
            means = (hidden * mask).sum(1) / mask.sum(1)  # (B, hidden); rows of padding are not 0
            found |= zip(batch.indices, means.cpu().numpy(), strict=True)
    rows = [found[index] for index in range(len(sequences))]
    if per_residue:
        return rows
    return np.stack(rows) if rows else np.empty((0, model.config.hidden), np.float32)  # (n, hidden)


def write_embeddings(
    model: DanceModel,
    proteins: Sequence[Protein],
    output: Path,
    per_residue: bool = False,
    batch_size: int | None = None,
    precision: Precision = "auto",
) -> list[Path]:
    """Write embeddings with a progress bar and return the paths of the files; an interrupted run resumes.

    An .npy file holds (n, hidden) float32 means; the names are in a .txt file of the same name. An HDF5 file holds
    `embedding` (n, hidden) and `names` (n,), or one dataset (N, hidden) per protein; its attribute `model` names the
    network, see `DanceModel.label`.
    """
    names, sequences = [protein.name for protein in proteins], [protein.sequence for protein in proteins]
    odd = [name for name in names if per_residue and ("/" in name or set(name) == {"."})]
    require(not odd, f"{', '.join(odd[:1])}: not a valid name of an HDF5 dataset; remove slashes")
    results, written = Results(output), [output]
    precision = choose_precision(precision, device_of(model))
    with whole_file(output) as temporary:
        if output.suffix.lower() == ".npy":
            np.save(temporary, mean_embeddings(model, sequences, results, batch_size, precision))
            written.append(output.with_suffix(".txt"))
            write_text(written[1], "".join(f"{name}\n" for name in names))
        else:
            with new_hdf5(temporary) as (file, check):
                write_attributes(file, {"model": model.label})
                if per_residue:
                    for index, rows in _resumed_embeddings(model, sequences, results, True, batch_size, precision):
                        file[names[index]] = rows
                        check()
                else:
                    file["embedding"] = mean_embeddings(model, sequences, results, batch_size, precision)
                    file.create_dataset("names", data=names, dtype=h5py.string_dtype())
    results.remove()
    return written


def mean_embeddings(
    model: DanceModel,
    sequences: Sequence[str],
    results: Results,
    batch_size: int | None = None,
    precision: Precision = "auto",
) -> Array:
    """(n, hidden) means over the tokens; finished batches are kept in `results`, from which a later run resumes."""
    means = np.empty((len(sequences), model.config.hidden), np.float32)
    for index, mean in _resumed_embeddings(model, sequences, results, False, batch_size, precision):
        means[index] = mean
    return means


def _resumed_embeddings(
    model: DanceModel,
    sequences: Sequence[str],
    results: Results,
    per_residue: bool,
    batch_size: int | None,
    precision: Precision,
) -> Iterator[tuple[int, Array]]:
    """Yield index in `sequences` and embedding, shortest first."""
    lengths = [len(split_tokens(sequence)) + 2 for sequence in sequences]  # with <cls> and <eos>
    precision = choose_precision(precision, device_of(model))
    network = network_digest(model, model.config.heads, precision)
    with tqdm(total=len(sequences), unit="protein") as bar:
        for indices in length_batches(lengths, batch_size, partial(_batch_size, model)):
            batch = [sequences[index] for index in indices]
            key = digest(network, per_residue, batch)
            found = results.read(key)
            if found is None:
                rows = embed(model, batch, per_residue, len(batch), precision)
                found = {str(number): row for number, row in enumerate(rows)}
                results.write(key, **found)
            yield from zip(indices, found.values(), strict=True)
            bar.update(len(batch))


def _batch_size(model: DanceModel, tokens: int) -> int:
    """Sequences of a length per batch: on a GPU as many as fill it, otherwise `BATCH_TOKENS`."""
    device = device_of(model)
    return gpu_batch_size(model.config, tokens, False, device) if device.type == "cuda" else BATCH_TOKENS // tokens
