"""Features of sequences: the last hidden state of the encoder, the predicted residue properties, or both."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, get_args, overload

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from data_prepare.errors import require, shown
from data_prepare.files import new_hdf5, whole_file, write_attributes, write_text
from data_prepare.properties import RESIDUE_PROPERTIES, table_columns
from data_prepare.resume import Results, digest
from model.choices import Features, Mean
from model.config import Precision
from model.inference.batches import BatchOutput, gpu_batch_size, length_batches, residue_rows, run_batches
from model.inference.inputs import Protein, sequence_list
from model.network.dance import DanceModel
from model.network.device import choose_precision, device_of
from model.network.tokenizer import split_tokens
from model.network.weights import network_digest

Array = NDArray[np.float32]

RESERVED: Final = ("columns", "model")  # names in files of rows per residue
BATCH_TOKENS: Final = 2**14  # of a batch on a CPU, padding included


class EmbeddingForm(NamedTuple):
    """Features of a sequence: a row per residue, or a mean over what `mean` says; see `embed`."""

    per_residue: bool = False
    features: Features = "embedding"
    mean: Mean | None = None

    @property
    def parts(self) -> tuple[tuple[bool, Mean], ...]:
        """(whether it is the embedding, over what its mean is taken) of each part."""
        kinds = {"embedding": (True,), "properties": (False,), "both": (True, False)}[self.features]
        return tuple((kind, self.mean or ("tokens" if kind else "residues")) for kind in kinds)

    def columns(self, hidden: int) -> list[str]:
        """Names of the features of a network of this width."""
        embedding = [f"embedding_{channel}" for channel in range(hidden)]
        properties = [column for name in RESIDUE_PROPERTIES for column in table_columns(name)]
        return [column for kind, _ in self.parts for column in (embedding if kind else properties)]


@overload
def embed(model: DanceModel, sequences: Mapping[str, str], *options: Any, **named: Any) -> dict[str, Array]: ...


@overload
def embed(
    model: DanceModel, sequences: str | Sequence[str], per_residue: Literal[False] = False, *options: Any, **named: Any
) -> Array: ...


@overload
def embed(
    model: DanceModel, sequences: str | Sequence[str], per_residue: bool, *options: Any, **named: Any
) -> Array | list[Array]: ...


def embed(
    model: DanceModel,
    sequences: str | Sequence[str] | Mapping[str, str],
    per_residue: bool = False,
    batch_size: int | None = None,
    precision: Precision = "auto",
    *,
    features: Features = "embedding",
    mean: Mean | None = None,
) -> Array | list[Array] | dict[str, Array]:
    """Embedding: the last hidden state of the encoder of SeqDance or ESMDance (ESM2-35M, frozen).

    `sequences` is one sequence, or several in a list, array or Series, or by name in a dictionary; lower case is read.
    Join the chains of a complex with `<eos><cls>`.
    `features`: "embedding"; "properties", the 50 predicted residue properties (`properties.table_columns` names them);
    or "both", the embedding first. `mean` is over "tokens", with `<cls>`, `<eos>` and linkers, or over "residues".
    Default: tokens for the embedding, as in the paper, and residues for properties, since no data train those of the
    other tokens.
    `batch_size` does not change the results; default: 16,384 tokens on a CPU, as many sequences as fill a GPU.
    `precision` of the forward pass: fp32, bf16, fp16, or "auto": fp32 on a CPU, else bf16 or fp16.

    Returns (n, features) float32, the means; or, if `per_residue`, for each sequence (N, features) of its N residues.
    For a single sequence, or each name of a dictionary, (features,) or (N, features). InputError if a sequence cannot
    be used, or there is not enough memory.
    """
    form = EmbeddingForm(per_residue, features, mean)
    for name, value, known in (("features", features, get_args(Features)), ("mean", mean, (None, *get_args(Mean)))):
        require(value in known, f"{name} {shown(value)}: unknown; use {', '.join(filter(None, known))}")
    if isinstance(sequences, str):
        return embed(model, [sequences], per_residue, batch_size, precision, features=features, mean=mean)[0]
    if isinstance(sequences, Mapping):
        named = embed(model, list(sequences.values()), per_residue, batch_size, precision, features=features, mean=mean)
        return dict(zip(sequences, named, strict=True))
    sequences = sequence_list(sequences)
    found: dict[int, Array] = {}
    kinds = [kind for kind, _ in form.parts]
    outputs = {"residue": False in kinds, "pair": False, "embedding": True in kinds}
    for batch in run_batches(model, sequences, batch_size, partial(_batch_size, model), precision, **outputs):
        parts = [_of_tokens(batch, kind) for kind in kinds]  # each (B, L, features)
        rows = [residue_rows(sequences[index])[0] for index in batch.indices]
        if per_residue:
            values = torch.cat(parts, dim=-1).cpu().numpy()  # (B, L, features)
            found |= {index: own[row] for index, own, row in zip(batch.indices, values, rows, strict=True)}
            continue
        residues = torch.zeros(batch.mask.shape)  # (B, L), 1 for residues
        for row, own in enumerate(rows):
            residues[row, own] = 1
        masks = {"tokens": batch.mask[..., None], "residues": residues[..., None].to(batch.mask.device)}  # (B, L, 1)
        overs = [masks[over] for _, over in form.parts]
        means = [(part * mask).sum(1) / mask.sum(1) for part, mask in zip(parts, overs, strict=True)]
        found |= zip(batch.indices, torch.cat(means, dim=-1).cpu().numpy(), strict=True)
    ordered = [found[index] for index in range(len(sequences))]
    if per_residue:
        return ordered
    return np.stack(ordered) if ordered else np.empty((0, len(form.columns(model.config.hidden))), np.float32)


def _of_tokens(batch: BatchOutput, embedding: bool) -> torch.Tensor:
    """Embedding (B, L, hidden) or properties (B, L, 50) of all tokens, float32."""
    if embedding:
        return batch.outputs["res_emb"].float()
    values = [batch.outputs[name].float() for name in RESIDUE_PROPERTIES]
    return torch.cat([value if value.ndim == 3 else value[..., None] for value in values], dim=-1)


def write_embeddings(
    model: DanceModel,
    proteins: Sequence[Protein],
    output: Path,
    per_residue: bool = False,
    batch_size: int | None = None,
    precision: Precision = "auto",
    *,
    features: Features = "embedding",
    mean: Mean | None = None,
) -> list[Path]:
    """Write embeddings or other features with a progress bar and return the paths; an interrupted run resumes.

    An HDF5 or npz file holds `embedding` (n, hidden) and `names` (n,), or one array (N, hidden) per protein. With other
    `features` the array of the means is `features`, and `columns` names them. `model` names the network, see
    `DanceModel.label`: an attribute in HDF5. An .npy file holds the means; the names are in a .txt file of the same
    name, those of other features in NAME_columns.txt.
    """
    form = EmbeddingForm(per_residue, features, mean)
    names, sequences = [protein.name for protein in proteins], [protein.sequence for protein in proteins]
    odd = [name for name in names if per_residue and ("/" in name or set(name) == {"."} or name in RESERVED)]
    require(not odd, f"{', '.join(odd[:1])}: not a valid name of a dataset; rename the protein, without slashes")
    results, written = Results(output), [output]
    columns = form.columns(model.config.hidden)
    extra = {} if features == "embedding" else {"columns": columns}
    rows = _resumed(model, sequences, results, form, batch_size, choose_precision(precision, device_of(model)))
    with whole_file(output) as temporary:
        if output.suffix.lower() == ".npy":
            np.save(temporary, _stacked(rows, len(sequences), len(columns)))
            texts = {"": names} | {f"_{name}": lines for name, lines in extra.items()}
            for ending, lines in texts.items():
                written.append(output.with_name(f"{output.stem}{ending}.txt"))
                write_text(written[-1], "".join(f"{line}\n" for line in lines))
        else:
            write = _write_npz if output.suffix.lower() == ".npz" else _write_hdf5
            arrays: Iterator[tuple[str, NDArray]] = ((names[index], values) for index, values in rows)
            key = "embedding" if features == "embedding" else "features"
            if not per_residue:
                arrays = iter([(key, _stacked(rows, len(sequences), len(columns)))])
                extra = {"names": names} | extra
            write(temporary, arrays, extra, model.label)
    results.remove()
    return written


def _stacked(rows: Iterator[tuple[int, Array]], number: int, width: int) -> Array:
    """(number, width) from indices and rows."""
    found = np.empty((number, width), np.float32)
    for index, row in rows:
        found[index] = row
    return found


def _write_hdf5(path: Path, arrays: Iterator[tuple[str, Array]], texts: dict[str, list[str]], model: str) -> None:
    with new_hdf5(path) as (file, check):
        write_attributes(file, {"model": model})
        for name, values in arrays:
            file[name] = values
            check()
        for name, lines in texts.items():
            file.create_dataset(name, data=lines, dtype=h5py.string_dtype())


def _write_npz(path: Path, arrays: Iterator[tuple[str, Array]], texts: dict[str, list[str]], model: str) -> None:
    """As numpy.savez, one array in memory at a time."""
    others = {name: np.array(lines) for name, lines in texts.items()} | {"model": np.array(model)}
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        for name, values in chain(arrays, others.items()):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values, allow_pickle=False)


def mean_embeddings(
    model: DanceModel,
    sequences: Sequence[str],
    results: Results,
    batch_size: int | None = None,
    precision: Precision = "auto",
) -> Array:
    """(n, hidden) means over the tokens; finished batches are kept in `results`, from which a later run resumes."""
    chosen = choose_precision(precision, device_of(model))
    rows = _resumed(model, sequences, results, EmbeddingForm(), batch_size, chosen)
    return _stacked(rows, len(sequences), model.config.hidden)


def _resumed(
    model: DanceModel,
    sequences: Sequence[str],
    results: Results,
    form: EmbeddingForm,
    batch_size: int | None,
    precision: Precision,
) -> Iterator[tuple[int, Array]]:
    """Yield index in `sequences` and features, shortest first."""
    lengths = [len(split_tokens(sequence)) + 2 for sequence in sequences]  # with <cls> and <eos>
    network = network_digest(model, model.config.heads, precision)
    with tqdm(total=len(sequences), unit="protein") as bar:
        for indices in length_batches(lengths, batch_size, partial(_batch_size, model)):
            batch = [sequences[index] for index in indices]
            key = digest(network, form, batch)
            found = results.read(key)
            if found is None:
                rows = embed(
                    model, batch, form.per_residue, len(batch), precision, features=form.features, mean=form.mean
                )
                found = {str(number): row for number, row in enumerate(rows)}
                results.write(key, **found)
            yield from zip(indices, found.values(), strict=True)
            bar.update(len(batch))


def _batch_size(model: DanceModel, tokens: int) -> int:
    """Sequences of a length per batch: on a GPU as many as fill it, otherwise `BATCH_TOKENS`."""
    device = device_of(model)
    return gpu_batch_size(model.config, tokens, False, device) if device.type == "cuda" else BATCH_TOKENS // tokens
