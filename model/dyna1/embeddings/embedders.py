"""Sources of embeddings by name.

`make_embedder` reads one line:

    onehot               24 channels, one for each token id of ESM2 below 24 (X and other rare letters are all zeros)
    esm2[:PATH][:LAYER]  ESM2, by default facebook/esm2_t30_150M_UR50D and its last layer
    dance:PATH           last hidden state of SeqDance or ESMDance
    esm3[:LAYER]         esm3-sm-open-v1 of the package `esm`, by default layer 22; reads structures too
    af2:FOLDER           AlphaFold2 pair representations, NAME.npy of (L, L, 128) for each protein
    cache:FILE.h5        embeddings written by `seqdance dyna1 embed`

Source: Wayment-Steele, El Nesr et al., Nature 2026 (doi 10.1038/s41586-026-10989-4).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from data_prepare.errors import InputError, reading, require
from model.dyna1.embeddings.cache import EmbeddingCache
from model.dyna1.embeddings.esm3 import DEFAULT_LAYER, DEFAULT_MODEL, Esm3
from model.dyna1.embeddings.language_models import Dance, Esm2, OneHot
from model.dyna1.embeddings.source import EmbeddingSource

ESM2_DEFAULT: Final = "facebook/esm2_t30_150M_UR50D"
LINES: Final = "onehot, esm2[:PATH][:LAYER], dance:PATH, esm3[:LAYER], af2:FOLDER, cache:FILE.h5"


class Af2Pairs(EmbeddingSource):
    """Pair representations of AlphaFold2: a folder with a file NAME.npy of (L, L, 128) floats for each protein."""

    fingerprint, width, reads_pairs = "af2", 128, True

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        require(self.folder.is_dir(), f"{folder}: no such folder; give the folder of the pair representations")

    def read(self, name: str, sequence: str) -> Tensor:
        """(L, L, 128) float32; see `EmbeddingSource.read`."""
        path = self.folder / f"{name}.npy"
        shape = (len(sequence), len(sequence), self.width)
        with reading(path, f"an array of {shape} floats", "write it with numpy.save"):
            pairs = np.load(path, allow_pickle=False)
            if pairs.shape != shape or pairs.dtype.kind not in "fiu":  # an npz has no shape
                raise ValueError(f"its shape is {pairs.shape}, of {pairs.dtype}")
            return torch.from_numpy(pairs.astype(np.float32))


def make_embedder(line: str, device: str | torch.device = "auto") -> EmbeddingSource:
    """Source of embeddings from its line (see the top of this file); InputError if the line or its source is wrong."""
    kind, _, rest = line.partition(":")
    path, layer = rest, None
    if match := re.fullmatch(r"(?:(.*):)?(\d+)", rest):
        path, layer = match[1] or "", int(match[2])
    if kind == "onehot" and not rest:
        return OneHot()
    if kind == "esm2":
        return Esm2(path or ESM2_DEFAULT, layer, device)
    if kind == "dance" and rest:
        return Dance(rest, device)
    if kind == "esm3":
        return Esm3(path or DEFAULT_MODEL, DEFAULT_LAYER if layer is None else layer, device)
    if kind == "af2" and rest:
        return Af2Pairs(rest)
    if kind == "cache" and rest:
        return EmbeddingCache(rest)
    raise InputError(f"unknown embedder {line!r}; give one of {LINES}")
