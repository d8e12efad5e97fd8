"""Run a network over many sequences: batches of similar length, in evaluation mode, without gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_prepare.errors import require
from data_prepare.properties import NUM_PAIR_OUTPUTS
from model.config import ModelConfig, Precision
from model.network.dance import DanceModel
from model.network.device import choose_precision, device_of, enough_memory, inference, memory_of, require_finite
from model.network.tokenizer import split_tokens, tokenize

GPU_TOKENS: Final = 2**17  # most tokens of a batch on a GPU: more are not faster, and finished batches are results


class BatchOutput(NamedTuple):
    """Output of the network for a batch."""

    indices: list[int]  # of the sequences in the whole list
    mask: Tensor  # (B, L), 1 for tokens and 0 for padding
    outputs: dict[str, Tensor]  # batch first, one row per token


def residue_rows(sequence: str) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Token index of each residue (N,), where `<cls>` is token 0, and index of its chain (N,) int32."""
    tokens = np.array(["", *split_tokens(sequence)])  # "" stands for the first <cls>
    rows = np.flatnonzero((tokens != "") & (tokens != "<cls>") & (tokens != "<eos>"))
    return rows, np.cumsum(tokens == "<cls>", dtype=np.int32)[rows]


def sequence_bytes(config: ModelConfig, tokens: int, pair: bool) -> int:
    """Approximate memory of a sequence in a batch, without gradients, in fp32; `pair`: with the residue pairs."""
    per_token = 3 * config.feed_forward + 10 * config.hidden  # the widest tensors of two layers
    per_pair = 3 * config.heads + 4 * NUM_PAIR_OUTPUTS if pair else 0  # attention of a layer, copies of the outputs
    return 4 * (tokens * per_token + tokens**2 * per_pair)


def gpu_batch_size(config: ModelConfig, tokens: int, pair: bool, device: torch.device) -> int:
    """Sequences of a length that fill a GPU: as many as fit into a quarter to half of its free memory.

    That share is a power of two bytes, so that a resumed run on the same card makes the same batches.
    """
    share = 2 ** max(0, (memory_of(device) // 2).bit_length() - 1)
    return max(1, min(share // sequence_bytes(config, tokens, pair), GPU_TOKENS // tokens))


def length_batches(
    lengths: Sequence[int], batch_size: int | None, capacity: Callable[[int], int]
) -> Iterator[list[int]]:
    """Group the indices of sequences by length, shortest first.

    A batch has `batch_size` sequences; if None, as many as `capacity` returns for its longest length, at least one.
    """
    require(batch_size is None or batch_size >= 1, f"batch size {batch_size}: it must be at least 1")
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and len(batch) + 1 > (batch_size or capacity(lengths[index])):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def run_batches(
    model: DanceModel,
    sequences: Sequence[str],
    batch_size: int | None,
    capacity: Callable[[int], int],
    precision: Precision = "auto",
    **outputs: bool,
) -> Iterator[BatchOutput]:
    """Run a network over sequences in `length_batches`, on its device; its mode is restored.

    All sequences are checked before the first one runs: InputError if one cannot be tokenised or has no residue.
    `precision` is that of the forward pass, see `choose_precision`.
    `outputs` are `residue`, `pair`, `embedding` and `attention` of `DanceModel.forward`.
    """
    if not sequences:
        return
    tokenize(sequences, max_length=1)  # names a letter that is not in the alphabet
    for number, sequence in enumerate(sequences, start=1):
        require(len(residue_rows(sequence)[0]), f"sequence {number} of {len(sequences)}: no residues; remove it")
    device = device_of(model)
    precision = choose_precision(precision, device)
    lengths = [len(split_tokens(sequence)) + 2 for sequence in sequences]  # with <cls> and <eos>
    for indices in length_batches(lengths, batch_size, capacity):
        tokens = tokenize([sequences[index] for index in indices])
        mask = tokens["attention_mask"].to(device)
        what = f"{mask.shape[0]} sequence(s) of up to {mask.shape[1]} tokens"
        remedy = "use a smaller batch size" if len(mask) > 1 else "predict no residue pairs or use another device"
        with enough_memory(what, device, remedy), inference(model, precision):
            found = model(tokens["input_ids"].to(device), mask, **outputs)
            require_finite(found, what)
        yield BatchOutput(indices, mask, found)
