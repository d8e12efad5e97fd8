"""What a source of embeddings is asked and what it gives."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from data_prepare.errors import require
from model.network.tokenizer import CLS_ID, EOS_ID, PAD_ID, tokenize

# (L, 3, 3) float32: N, CA and C of each residue in Angstrom, NaN where it has no coordinates
Backbone: TypeAlias = NDArray[np.float32]
HIDDEN_RESIDUE: Final = "<mask>"  # stands for a residue that is hidden from the language model


@dataclass(frozen=True, eq=False)
class ChainInput:
    """A single chain: by sequence, by structure, or both.

    Attributes
    ----------
    name
        Name of the protein.
    sequence
        One-letter codes of all its residues, unresolved ones included.
    backbone
        (L, 3, 3) float32, see `Backbone`; None without a structure.
    sequence_seen
        Whether the language model sees the sequence; False for predictions from the structure alone.
    structure_residues
        Residue of the structure at each position, chain:name:number[code]; "" where it has no coordinates. None without
        a structure.
    """

    name: str
    sequence: str
    backbone: Backbone | None = None
    sequence_seen: bool = True
    structure_residues: tuple[str, ...] | None = None

    @property
    def visible_sequence(self) -> str:
        """The sequence as the language model sees it."""
        return self.sequence if self.sequence_seen else HIDDEN_RESIDUE * len(self.sequence)

    @property
    def seen(self) -> tuple[str, str, str]:
        """Sequence; what the model sees of it (sequence, structure, sequence+structure); digest of the backbone."""
        inputs = {"sequence": self.sequence_seen, "structure": self.backbone is not None}
        digest = ""
        if self.backbone is not None:
            digest = hashlib.blake2b(np.ascontiguousarray(self.backbone, "<f4").tobytes(), digest_size=8).hexdigest()
        return self.sequence, "+".join(name for name, given in inputs.items() if given), digest

    def sequence_alone(self) -> ChainInput:
        """The same without its backbone, for embedders that read no structures."""
        return replace(self, backbone=None, sequence_seen=True)


class EmbeddingSource(ABC):
    """Gives the embedding of a protein.

    Attributes
    ----------
    fingerprint
        One line that differs between sources of different numbers.
    width
        Channels of an embedding (of a pair, for pair representations).
    reads_pairs
        Whether `read` returns (L, L, width).
    reads_structure
        Whether structures change the embedding.
    """

    fingerprint: str
    width: int
    reads_pairs: bool = False
    reads_structure: bool = False

    @abstractmethod
    def read(self, name: str, sequence: str) -> Tensor:
        """Embedding of a protein, (L, width) float32 on the CPU, or (L, L, width) for pair representations.

        Raises
        ------
        InputError
            The sequence cannot be used, or its file is missing, damaged, or of another sequence.
        """

    def read_chain(self, chain: ChainInput) -> Tensor:
        """The same for a chain; a source that reads no structures ignores its backbone."""
        return self.read(chain.name, chain.sequence)


class Embedder(EmbeddingSource):
    """Computes embeddings of sequences, and of structures where it reads them."""

    @abstractmethod
    def embed(self, sequences: Sequence[str], structures: Sequence[Backbone | None] | None = None) -> list[Tensor]:
        """Embeddings of single chains, (L, width) float32 on the CPU, a row per residue.

        Parameters
        ----------
        sequences
            One-letter codes; `<mask>` hides a residue.
        structures
            Backbone of each, as long as its sequence; None for a chain without structure.
        """

    def read(self, name: str, sequence: str) -> Tensor:
        """As `EmbeddingSource.read`; the name is not used."""
        return self.embed([sequence])[0]

    def read_chain(self, chain: ChainInput) -> Tensor:
        """As `EmbeddingSource.read_chain`."""
        return self.embed_chains([chain if self.reads_structure else chain.sequence_alone()])[0]

    def embed_chains(self, chains: Sequence[ChainInput]) -> list[Tensor]:
        """(L, width) float32 of each chain; all go through the embedder together."""
        return self.embed([chain.visible_sequence for chain in chains], [chain.backbone for chain in chains])

    def _refuse_structures(self, structures: Sequence[Backbone | None] | None) -> None:
        given = any(structure is not None for structure in structures or ())
        require(not given, f"{self.fingerprint.split()[0]} reads no structure; give the sequence alone")


def residue_tokens(sequences: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Token ids of the residues alone, without <cls> and <eos>.

    Returns
    -------
    ids
        (B, L) int64, padded.
    mask
        (B, L) bool, True at residues.
    """
    batch = tokenize(sequences)
    ids = batch["input_ids"][:, 1:-1]  # (B, L)
    mask = batch["attention_mask"][:, 2:].bool()  # (B, L), as many as there are residues
    ids = ids.masked_fill(~mask, PAD_ID)
    linked = ((ids == CLS_ID) | (ids == EOS_ID)).any(1).tolist()
    place = linked.index(True) + 1 if True in linked else 0
    require(not place, f"sequence {place} of {len(sequences)} is a complex; Dyna-1 reads one chain at a time")
    return ids, mask


class _Reached(Exception):
    """The output is there; nothing after it is computed."""


def output_of(module: nn.Module, run: Callable[[], object]) -> Tensor:
    """Output of a part of a network (the first, if it has several); the run ends there."""
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        outputs.append(output if isinstance(output, Tensor) else output[0])
        raise _Reached

    handle = module.register_forward_hook(keep)
    try:
        run()
    except _Reached:
        pass
    finally:
        handle.remove()
    return outputs[0]
