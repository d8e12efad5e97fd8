"""Interface of the sources of embeddings, and the chains that they read."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from data_prepare.errors import require
from model.network.tokenizer import CLS_ID, EOS_ID, PAD_ID, tokenize

# (L, 3, 3) float32: N, CA and C of each residue in Angstrom, NaN for residues without coordinates
Backbone: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ChainInput:
    """A single chain: by sequence, by structure, or both."""

    name: str
    sequence: str
    """One-letter codes of all residues, including unresolved ones."""
    backbone: Backbone | None = None
    """None without a structure."""
    sequence_seen: bool = True
    """Whether the language model sees the sequence; False for predictions from the structure alone."""
    structure_residues: tuple[str, ...] | None = None
    """With a structure: its residue at each position, chain:name:number[code]; "" if unresolved."""
    chain: str | None = None
    """With a structure: the chosen chain; None if it has only one."""

    @property
    def visible_sequence(self) -> str:
        """The sequence as the language model sees it."""
        return self.sequence if self.sequence_seen else "<mask>" * len(self.sequence)

    @property
    def seen(self) -> tuple[str, str, str]:
        """Sequence; what the model sees of it (sequence, structure, sequence+structure); digest of the backbone."""
        inputs = {"sequence": self.sequence_seen, "structure": self.backbone is not None}
        digest = ""
        if self.backbone is not None:
            digest = hashlib.blake2b(np.ascontiguousarray(self.backbone, "<f4").tobytes(), digest_size=8).hexdigest()
        return self.sequence, "+".join(name for name, given in inputs.items() if given), digest


class EmbeddingSource(ABC):
    """Embeddings of proteins."""

    fingerprint: str  # one line, different for sources of different numbers
    width: int  # channels of an embedding; of a pair, for pair representations
    reads_pairs: bool = False  # whether `read` returns (L, L, width)
    reads_structure: bool = False  # whether structures change the embedding

    @abstractmethod
    def read(self, name: str, sequence: str) -> Tensor:
        """Embedding of a protein, (L, width) float32 on the CPU, or (L, L, width) for pair representations.

        InputError if the sequence is invalid, or its file is missing, damaged, or of another sequence.
        """

    def read_chain(self, chain: ChainInput) -> Tensor:
        """The same for a chain."""
        return self.read(chain.name, chain.sequence)

    def visible(self, chain: ChainInput) -> ChainInput:
        """What this source sees of a chain: the sequence alone if it reads no structures."""
        return chain if self.reads_structure else replace(chain, backbone=None, sequence_seen=True)


class Embedder(EmbeddingSource):
    """A source that computes embeddings of sequences, and of structures if it reads them."""

    @abstractmethod
    def embed(self, sequences: Sequence[str], structures: Sequence[Backbone | None] | None = None) -> list[Tensor]:
        """Embeddings (L, width) float32 on the CPU of single chains, in which `<mask>` hides a residue.

        Structures are as long as their sequences; an embedder that reads none ignores them.
        """

    def read(self, name: str, sequence: str) -> Tensor:
        """As `EmbeddingSource.read`; ignores the name."""
        return self.embed([sequence])[0]

    def read_chain(self, chain: ChainInput) -> Tensor:
        """As `EmbeddingSource.read_chain`."""
        return self.embed_chains([chain])[0]

    def embed_chains(self, chains: Sequence[ChainInput]) -> list[Tensor]:
        """(L, width) float32 of each chain, computed in one batch."""
        chains = [self.visible(chain) for chain in chains]
        return self.embed([chain.visible_sequence for chain in chains], [chain.backbone for chain in chains])


def residue_tokens(sequences: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Token ids (B, L) int64 of the residues without <cls> and <eos>, padded; mask (B, L) bool, True at residues."""
    batch = tokenize(sequences)
    ids = batch["input_ids"][:, 1:-1]  # (B, L)
    mask = batch["attention_mask"][:, 2:].bool()  # (B, L), as many as there are residues
    ids = ids.masked_fill(~mask, PAD_ID)
    for number, linked in enumerate(((ids == CLS_ID) | (ids == EOS_ID)).any(1).tolist(), start=1):
        require(not linked, f"sequence {number} of {len(sequences)} is a complex; Dyna-1 reads one chain at a time")
    return ids, mask


class _Reached(Exception):
    """Stops a forward pass and carries the output of the module of interest."""


def output_of(module: nn.Module, run: Callable[[], object]) -> Tensor:
    """Output of a part of a network (the first, if it has several); `run` stops there."""

    def stop(_module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        raise _Reached(output if isinstance(output, Tensor) else output[0])

    handle = module.register_forward_hook(stop)
    try:
        run()
    except _Reached as reached:
        return reached.args[0]
    finally:
        handle.remove()
    raise LookupError("the network does not run this part")
