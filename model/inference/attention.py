"""Attention maps of a network, and the files that hold them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray
from torch import Tensor
from tqdm import tqdm

from data_prepare.files import new_hdf5, whole_file, write_attributes
from data_prepare.memory import require_memory
from model.config import Precision
from model.inference.batches import residue_rows
from model.inference.inputs import Protein, sequence_list
from model.network.dance import DanceModel
from model.network.device import choose_precision, device_of, inference, require_finite
from model.network.encoder import attention_maps as maps_of_scores
from model.network.tokenizer import split_tokens, tokenize


@overload
def attention_maps(model: DanceModel, sequences: str, *options: Any, **named: Any) -> NDArray: ...


@overload
def attention_maps(
    model: DanceModel, sequences: Mapping[str, str], *options: Any, **named: Any
) -> dict[str, NDArray]: ...


@overload
def attention_maps(model: DanceModel, sequences: Sequence[str], *options: Any, **named: Any) -> list[NDArray]: ...


def attention_maps(
    model: DanceModel,
    sequences: str | Sequence[str] | Mapping[str, str],
    special_tokens: bool = True,
    dtype: DTypeLike = np.float32,
    max_length: int | None = None,
    precision: Precision = "auto",
) -> NDArray | list[NDArray] | dict[str, NDArray]:
    """Attention of all heads of all layers.

    Only the encoder runs, one sequence at a time; 240 maps of 1,000 residues take 1 GB as float32. Chains of a complex
    are joined by `<eos><cls>`. `special_tokens` keeps the rows and columns of `<cls>` and `<eos>`, without which the
    rows no longer sum to 1. Of longer sequences, only the first `max_length` tokens are seen (`<cls>` counted). `dtype`
    is that of the result, `precision` that of the forward pass: fp32, bf16, fp16, or "auto": fp32 on a CPU, else bf16
    or fp16.

    Returns (T, T, layers * heads) for T tokens or, without the special tokens, residues: channel = layer * heads +
    head, value at (i, j) = attention of query i on key j; a list of them for several sequences, by name for a
    dictionary. Each map is contiguous in memory. InputError if a sequence cannot be tokenised.
    """
    texts = sequence_list([sequences] if isinstance(sequences, str) else sequences)
    found = [_maps_of(model, text, special_tokens, dtype, max_length, precision) for text in texts]
    if isinstance(sequences, str):
        return found[0]
    return dict(zip(sequences, found, strict=True)) if isinstance(sequences, Mapping) else found


def _maps_of(
    model: DanceModel,
    sequence: str,
    special_tokens: bool,
    dtype: DTypeLike,
    max_length: int | None,
    precision: Precision,
) -> NDArray:
    """`attention_maps` of one parsed sequence."""
    device = device_of(model)
    input_ids = tokenize([sequence], max_length)["input_ids"]  # (1, T)
    tokens = input_ids.shape[1]
    kept = np.arange(tokens) if special_tokens else np.intersect1d(np.arange(tokens), residue_rows(sequence)[0])
    maps = np.empty((model.config.maps, len(kept), len(kept)), dtype)

    def store_layer(layer: int, scores: Tensor, keys: Tensor | None, dropout: float) -> Tensor:
        attention = maps_of_scores(scores, keys, dropout)
        first = layer * model.config.heads
        require_finite({"maps": attention}, "attention maps")
        heads = attention[0] if special_tokens else attention[0][:, kept][..., kept]  # (heads, T, T)
        maps[first : first + model.config.heads] = heads.float().cpu().numpy()
        return attention

    with inference(model, choose_precision(precision, device)):
        model.esm2(input_ids.to(device), sink=store_layer)
    return np.moveaxis(maps, 0, -1)  # (T, T, layers * heads)


def write_maps(
    model: DanceModel,
    proteins: Sequence[Protein],
    names: Sequence[str],
    path: Path,
    special_tokens: bool,
    dtype: DTypeLike,
    precision: Precision = "auto",
) -> Iterator[tuple[str, Protein, NDArray]]:
    """Write the `attention_maps` of proteins to a file under names; yields name, protein and maps.

    An npz file has one array per protein, an HDF5 file one dataset with the attribute `sequence`. The label of the
    network is the attribute `model` of the HDF5 file, and the comment of the zip archive that an npz file is.
    """
    tokens = max(len(split_tokens(protein.sequence)) + 2 for protein in proteins)
    size = tokens**2 * np.dtype(dtype).itemsize * model.config.maps
    needed = size + max(size, 12 * model.config.heads * tokens**2)  # maps, and their copy in the order of the file
    what = f"attention maps of {tokens} tokens"
    require_memory(needed, what, remedy="use --dtype float16, embed for values per residue, or provide more memory")
    npz = path.suffix.lower() == ".npz"
    opened: Any = partial(zipfile.ZipFile, mode="w") if npz else new_hdf5
    with whole_file(path) as temporary, opened(temporary) as file:
        if npz:
            file.comment = model.label.encode()
        else:
            write_attributes(file[0], {"model": model.label})
        for name, protein in zip(tqdm(names, unit="sequence", disable=len(names) == 1), proteins, strict=True):
            maps = _maps_of(model, protein.sequence, special_tokens, dtype, None, precision)
            if npz:
                with file.open(f"{name}.npy", "w", force_zip64=True) as array:
                    np.lib.format.write_array(array, np.ascontiguousarray(maps))
            else:
                hdf5, check = file
                hdf5.create_dataset(name, data=maps, track_times=False).attrs["sequence"] = protein.sequence
                check()
            yield name, protein, maps


def residue_maps(maps: NDArray, sequence: str) -> tuple[NDArray, NDArray[np.int32]]:
    """Maps (N, N, maps) between residues, whether or not these have special tokens; and the chain of each residue."""
    rows, chain = residue_rows(sequence)
    return (maps if len(maps) == len(rows) else maps[rows[:, None], rows]), chain
