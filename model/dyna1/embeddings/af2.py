"""Pair representations of AlphaFold2, kept in files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from data_prepare.errors import reading, require
from model.dyna1.embeddings.source import EmbeddingSource

CHANNELS: Final = 128


class Af2Pairs(EmbeddingSource):
    """Pair representations of AlphaFold2.

    Parameters
    ----------
    folder
        Holds a file NAME.npy of (L, L, 128) floats for each protein.
    """

    width = CHANNELS
    reads_pairs = True
    fingerprint = "af2"

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        require(self.folder.is_dir(), f"{folder}: no such folder; give the folder of the pair representations")

    def read(self, name: str, sequence: str) -> Tensor:
        """(L, L, 128) float32; see `EmbeddingSource.read`."""
        path = self.folder / f"{name}.npy"
        shape = (len(sequence), len(sequence), CHANNELS)
        with reading(path, f"an array of {shape} floats", "write it with numpy.save"):
            pairs = np.load(path, allow_pickle=False)
            if pairs.shape != shape or pairs.dtype.kind not in "fiu":  # an npz has no shape
                raise ValueError(f"its shape is {pairs.shape}, of {pairs.dtype}")
            return torch.from_numpy(pairs.astype(np.float32))
