"""Predicted properties of sequences as NumPy arrays: the rows of the residues, without `<cls>`, `<eos>` and padding."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, overload

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_prepare.errors import InputError
from data_prepare.files import whole_file
from data_prepare.properties import PAIR_CHANNELS, PROPERTIES, RESIDUE_COLUMNS, RESIDUE_PROPERTIES
from model.inference.inputs import key
from model.network.dance import DanceModel
from model.network.device import evaluating
from model.network.tokenizer import split_tokens, tokenize
from model.network.weights import weights_digest

Properties = dict[str, NDArray[np.float32]]
BatchSize = Callable[[int], int]  # tokens of the longest sequence -> sequences in a batch

# Of a batch: 13 maps take 54 MB then, the attention of one layer with 20 heads 84 MB (a few times, while it is formed)
MAX_PAIRS: Final = 2**20
SHORTHANDS: Final = {"all": PROPERTIES, "residue": RESIDUE_PROPERTIES}
HDF5_SUFFIXES: Final = (".h5", ".hdf5")
TEXTS: Final = ("name", "sequence", "model")  # of a stored prediction, beside chain and the properties
# What NumPy, zipfile and h5py raise on damaged or other files; NotImplementedError is a RuntimeError
UNREADABLE: Final = (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Prediction:
    """What a model says of one protein.

    Attributes
    ----------
    name, sequence
        Of the protein; chains are joined by `<eos><cls>`.
    model
        Fingerprint of the model.
    chain
        (N,) int32, index of the chain of each residue; the residues of all chains follow one another.
    properties
        Property -> (N,), (N, bins) or (N, N) float32.
    """

    name: str
    sequence: str
    model: str
    chain: NDArray[np.int32]
    properties: Properties


class Batch(NamedTuple):
    """Sequences that went through the model together."""

    places: list[int]  # of the sequences in the list they are from
    mask: Tensor  # (B, L), 1 for tokens and 0 for padding
    outputs: dict[str, Tensor]  # batch first, in token space


def property_names(properties: str | Sequence[str]) -> tuple[str, ...]:
    """Names of properties, in the order of `PROPERTIES`.

    Parameters
    ----------
    properties
        "all", "residue" (those that need no residue pairs: faster, and memory grows with the length only), a name, or
        several of these.

    Raises
    ------
    InputError
        A name is unknown, or there is none.
    """
    words = [properties] if isinstance(properties, str) else list(properties)
    names = {name for word in words for name in SHORTHANDS.get(word, (word,))}
    if unknown := sorted(names.difference(PROPERTIES)):
        raise InputError(
            f"no property {', '.join(unknown)}; there are {', '.join(PROPERTIES)}, and {' and '.join(SHORTHANDS)}"
        )
    if not names:
        raise InputError(f"no property is asked for; there are {', '.join(PROPERTIES)}, and {' and '.join(SHORTHANDS)}")
    return tuple(name for name in PROPERTIES if name in names)


def residue_rows(sequence: str) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Where the residues of a sequence stand among its tokens.

    Returns
    -------
    rows
        (N,) token index of each residue; `<cls>` is token 0.
    chain
        (N,) int32, index of its chain.
    """
    tokens = np.array(["", *split_tokens(sequence)])  # "" stands for the first <cls>
    rows = np.flatnonzero((tokens != "") & (tokens != "<cls>") & (tokens != "<eos>"))
    return rows, np.cumsum(tokens == "<cls>", dtype=np.int32)[rows]


@overload
def predict_properties(
    model: DanceModel, sequences: str, properties: str | Sequence[str] = "all", batch_size: int | None = None
) -> Properties: ...


@overload
def predict_properties(
    model: DanceModel,
    sequences: list[str] | tuple[str, ...],
    properties: str | Sequence[str] = "all",
    batch_size: int | None = None,
) -> list[Properties]: ...


def predict_properties(
    model: DanceModel,
    sequences: str | Sequence[str],
    properties: str | Sequence[str] = "all",
    batch_size: int | None = None,
) -> Properties | list[Properties]:
    """Predict the dynamics of proteins.

    Parameters
    ----------
    model
        SeqDance or ESMDance, on any device.
    sequences
        One sequence, or several in a list, array or Series (its index does not matter); chains of a complex are joined
        by `<eos><cls>`.
    properties
        "all", "residue", or names (see `data_prepare.properties`).
    batch_size
        Sequences at a time. Default: as many as have about a million residue pairs together. Changes no number.

    Returns
    -------
    dict or list of dict
        Property -> float32 array of the N residues of all chains: (N,), (N, bins) for ss, chi, phi and psi, (N, N) for
        residue pairs. sasa_mean and sasa_std in nm^2; rmsf_nor relative to the protein's largest; ss, chi, phi and psi
        as shares; interactions as cube roots of contacts per frame, as they are trained; correlations from -1 to 1.

    Raises
    ------
    InputError
        A sequence or property cannot be used, or the memory does not suffice.
    """
    if isinstance(sequences, str):
        return predict_properties(model, [sequences], properties, batch_size)[0]
    sequences = sequence_list(sequences)
    found = dict(iterate_predictions(model, sequences, properties, batch_size))
    return [found[place] for place in range(len(sequences))]


def iterate_predictions(
    model: DanceModel,
    sequences: Sequence[str],
    properties: str | Sequence[str] = "all",
    batch_size: int | None = None,
) -> Iterator[tuple[int, Properties]]:
    """The same one by one, as soon as a batch is done: place in `sequences` and properties, shortest first."""
    sequences, names = sequence_list(sequences), property_names(properties)
    asked = {
        "residue": any(name in RESIDUE_COLUMNS for name in names),
        "pair": any(name in PAIR_CHANNELS for name in names),
    }
    pairs = fixed_size(batch_size) or (lambda tokens: MAX_PAIRS // tokens**2)
    for batch in run_batches(model, sequences, pairs, **asked):
        for row, place in enumerate(batch.places):
            rows = torch.from_numpy(residue_rows(sequences[place])[0]).to(batch.mask.device)
            found = {}
            for name in names:
                values = batch.outputs[name][row].float()  # (L,), (L, bins) or (L, L)
                values = values[rows[:, None], rows] if name in PAIR_CHANNELS else values[rows]
                found[name] = values.cpu().numpy()
            yield place, found


def sequence_list(sequences: str | Sequence[str]) -> list[str]:
    """A list, as a pandas Series looks up by its labels and not by places; a string is one sequence."""
    return [sequences] if isinstance(sequences, str) else list(sequences)


def fixed_size(batch_size: int | None) -> BatchSize | None:
    """Batches of this many sequences; None if the size is not given."""
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch size {batch_size}: it must be at least 1")
    return None if batch_size is None else lambda _: batch_size


def run_batches(model: DanceModel, sequences: Sequence[str], size: BatchSize, **asked: bool) -> Iterator[Batch]:
    """Run a model in evaluation mode over sequences of similar length, shortest first.

    Parameters
    ----------
    model
        On any device; its mode stays as it was.
    sequences
        Checked before the first one is run.
    size
        See `length_batches`.
    asked
        `residue`, `pair`, `embedding`, `attention` of `DanceModel.forward`.

    Raises
    ------
    InputError
        A sequence cannot be tokenised or has no residue, or the memory does not suffice.
    """
    sequences = sequence_list(sequences)
    if not sequences:
        return
    tokenize(sequences, max_length=1)  # names a letter that cannot be used
    for number, sequence in enumerate(sequences, start=1):
        if not len(residue_rows(sequence)[0]):
            raise InputError(f"sequence {number} of {len(sequences)}: no residue in it; remove it")
    device = next(model.parameters()).device
    for places in length_batches([len(split_tokens(sequence)) + 2 for sequence in sequences], size):
        tokens = tokenize([sequences[place] for place in places])
        longest = tokens["input_ids"].shape[1]
        with _memory_in_words(len(places), longest, device), evaluating(model), torch.inference_mode():
            mask = tokens["attention_mask"].to(device)
            outputs = model(tokens["input_ids"].to(device), mask, **asked)
        yield Batch(places, mask, outputs)


def length_batches(lengths: Sequence[int], size: BatchSize) -> Iterator[list[int]]:
    """Group places of sequences by length, shortest first.

    Parameters
    ----------
    lengths
        Of the sequences.
    size
        Longest length of a batch -> sequences it may have; one is always allowed.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and len(batch) + 1 > size(lengths[place]):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


@contextmanager
def _memory_in_words(sequences: int, tokens: int, device: torch.device) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        exhausted = isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
        if not exhausted:
            raise
        remedy = "take a smaller batch size" if sequences > 1 else "leave out residue pairs or take another device"
        what = f"{sequences} sequence{'s' * (sequences > 1)} of {'up to ' * (sequences > 1)}{tokens} tokens"
        raise InputError(f"the memory ({device}) does not suffice for {what}; {remedy}") from None


def model_fingerprint(model: DanceModel) -> str:
    """Hexadecimal digits that tell models of other sizes or weights apart."""
    return weights_digest(model, model.config.heads)  # the other sizes are those of the weights


def is_hdf5(path: str | os.PathLike[str]) -> bool:
    """Whether a file is HDF5 by its name."""
    return Path(path).suffix.lower() in HDF5_SUFFIXES


def write_prediction(path: str | os.PathLike[str], prediction: Prediction) -> None:
    """Write an npz: an array for each property, `chain`, and `name`, `sequence`, `model` as text; whole or absent."""
    texts = {"name": prediction.name, "sequence": prediction.sequence, "model": prediction.model}
    with whole_file(Path(path)) as temporary:
        np.savez(temporary, chain=prediction.chain, **prediction.properties, **texts)  # type: ignore[arg-type]


def hdf5_groups(path: str | os.PathLike[str]) -> frozenset[str]:
    """Names of the groups of an HDF5 file of predictions.

    Raises
    ------
    InputError
        It cannot be read, or holds anything else, which `merge_predictions` might lose.
    """
    try:
        with h5py.File(path) as file:
            groups = frozenset(file)
            other = bool(file.attrs) or not all(_is_prediction(file[name]) for name in groups)
    except UNREADABLE as error:
        raise InputError(f"{path}: cannot be read as HDF5 ({error}); remove it or choose another --output") from None
    if other:
        raise InputError(f"{path}: not predictions of seqdance predict; give another --output")
    return groups


def _is_prediction(entry: object) -> bool:
    return isinstance(entry, h5py.Group) and all(name in entry for name in (*TEXTS, "chain"))


def merge_predictions(parts: Sequence[Path], output: Path) -> None:
    """Write npz files into an HDF5 file, a group for each protein (`inputs.key`); those of an older file stay.

    Parameters
    ----------
    parts
        As `write_prediction` writes them.
    output
        The HDF5 file; whole or as it was.

    Raises
    ------
    InputError
        A part or the older file cannot be read.
    """
    with whole_file(output) as temporary, h5py.File(temporary, "w") as file:
        if output.exists():
            try:
                with h5py.File(output) as old:
                    for name in old:
                        file.copy(old[name], file, name=name)
            except UNREADABLE as error:  # HDF5 does not tell a full disk from a damaged file
                raise InputError(
                    f"{output}: cannot be copied ({error}); free disk space, or if it is damaged remove it"
                ) from None
        for part in parts:
            prediction = read_prediction(part)
            if key(prediction.name) in file:  # merged already by a run that was killed before it removed its parts
                continue
            group = file.create_group(key(prediction.name))
            for name in TEXTS:
                group[name] = getattr(prediction, name)
            for name, values in {"chain": prediction.chain, **prediction.properties}.items():
                group[name] = values


def read_prediction(path: str | os.PathLike[str], group: str | None = None) -> Prediction:
    """Read what `seqdance predict` has written: an npz file, or a group of an HDF5 file.

    Raises
    ------
    InputError
        There is no such file or group, or it is another one.
    """
    with _stored(path, group) as arrays:
        texts = {name: _text(arrays[name]) for name in TEXTS}
        values = {name: np.asarray(arrays[name]) for name in PROPERTIES if name in arrays}
        return Prediction(chain=np.asarray(arrays["chain"]), properties=values, **texts)


def check_prediction(
    path: str | os.PathLike[str], group: str | None, sequence: str, model: str, properties: Sequence[str]
) -> None:
    """See that a prediction is of this sequence and model (its fingerprint) and has these properties.

    Raises
    ------
    InputError
        It is not, or cannot be read.
    """
    with _stored(path, group) as arrays:
        same = {"sequence": _text(arrays["sequence"]) == sequence, "model": _text(arrays["model"]) == model}
        absent = [name for name in properties if name not in arrays]
    other = [f"of another {what}" for what, holds in same.items() if not holds]
    if absent:
        other.append(f"without {', '.join(absent)}")
    if other:
        where = f"{path}" if group is None else f"{path}, {group}"
        raise InputError(f"{where}: a prediction {' and '.join(other)} is there; remove it or choose another --output")


@contextmanager
def _stored(path: str | os.PathLike[str], group: str | None) -> Iterator[Mapping[str, Any]]:
    """Arrays by name; what goes wrong in reading them becomes one line."""
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file of predictions")
    try:
        with np.load(path) if group is None else h5py.File(path) as file:
            yield file if group is None else file[group]
    except UNREADABLE as error:
        if isinstance(error, InputError):
            raise
        where = f"{path}" if group is None else f"{path}, {group}"
        raise InputError(f"{where}: not a prediction ({error}); remove it and predict again") from None


def _text(array: Any) -> str:
    value = np.asarray(array).item()
    return value.decode() if isinstance(value, bytes) else str(value)
