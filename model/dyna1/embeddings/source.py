"""What every source of embeddings offers, and what those that run a network share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from data_prepare.errors import require
from model.network.tokenizer import CLS_ID, EOS_ID, PAD_ID, tokenize

# (L, 3, 3) float32: N, CA and C of each residue in Angstrom, NaN where it has no coordinates
Backbone: TypeAlias = NDArray[np.float32]
HIDDEN_RESIDUE: Final = "<mask>"  # stands for a residue that is hidden from the language model


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


class Embedder(EmbeddingSource):
    """Computes embeddings of sequences, and of structures where it reads them."""

    @abstractmethod
    def embed(self, sequences: Sequence[str], structures: Sequence[Backbone | None] | None = None) -> list[Tensor]:
        """Embeddings of single chains.

        Parameters
        ----------
        sequences
            One-letter codes; `<mask>` hides a residue.
        structures
            Backbone of each, as long as its sequence; None for a chain without structure.

        Returns
        -------
        (L, width) float32 on the CPU, a row per residue, for each chain.

        Raises
        ------
        InputError
            A sequence cannot be used, or the embedder reads no structures.
        """

    def read(self, name: str, sequence: str) -> Tensor:
        """As `EmbeddingSource.read`; the name is not used."""
        return self.embed([sequence])[0]

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
