"""Embeddings of letters, language models and AlphaFold2, and all sources of embeddings by name.

`make_embedder` reads one line:

    onehot               24 channels, one for each token id of ESM2 below 24 (X and other rare letters are all zeros)
    esm2[:PATH][:LAYER]  ESM2, by default facebook/esm2_t30_150M_UR50D and its last layer
    dance:PATH           last hidden state of SeqDance or ESMDance
    esm3[:LAYER]         esm3-sm-open-v1 of the package `esm`, by default layer 22; reads structures too
    esmc[:NAME][:LAYER]  ESM C of the package `esm`, by default esmc_300m and the output of its last block
    af2:FOLDER           AlphaFold2 pair representations, NAME.npy of (L, L, 128) for each protein
    cache:FILE.h5        embeddings written by `seqdance dyna1 embed`

Source: Wayment-Steele, El Nesr et al., Nature 2026 (doi 10.1038/s41586-026-10989-4).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from data_prepare.errors import InputError, reading, require
from data_prepare.files import read_npy
from model.dyna1.embeddings.cache import EmbeddingCache
from model.dyna1.embeddings.esm3 import DEFAULT_ESMC, DEFAULT_LAYER, DEFAULT_MODEL, Esm3, EsmC
from model.dyna1.embeddings.source import Backbone, Embedder, EmbeddingSource, output_of, residue_tokens
from model.inference.embed import embed as embed_with_dance
from model.network.dance import load_model
from model.network.device import choose_device
from model.network.encoder import Esm2Encoder
from model.network.language_model import esm2_config
from model.network.weights import UNUSED_ESM2_ENTRIES, load_entries, read_esm2, weights_digest

ESM2_DEFAULT: Final = "facebook/esm2_t30_150M_UR50D"
LINES: Final = "onehot, esm2[:PATH][:LAYER], dance:PATH, esm3[:LAYER], esmc[:NAME][:LAYER], af2:FOLDER, cache:FILE.h5"


class OneHot(Embedder):
    """One channel for each token id below 24; X, B, U, Z, O and `<mask>` are all zeros."""

    fingerprint, width = "onehot", 24

    def embed(self, sequences: Sequence[str], structures: Sequence[Backbone | None] | None = None) -> list[Tensor]:
        """See `Embedder.embed`."""
        ids, mask = residue_tokens(sequences)
        channels = F.one_hot(ids.clamp(max=self.width), self.width + 1)[..., : self.width].float()
        return [rows[real] for rows, real in zip(channels, mask, strict=True)]


class Esm2(Embedder):
    """ESM2 of any size: a hidden state of the sequence without <cls> and <eos>.

    Hidden state 0 is the output of the embedding layer; the last one, the default, follows the final LayerNorm.
    """

    def __init__(self, path_or_hub_id: str, layer: int | None = None, device: str | torch.device = "auto") -> None:
        state, sizes = read_esm2(path_or_hub_id)
        config = esm2_config(path_or_hub_id, sizes)
        self.layer = config.layers if layer is None else layer
        known = 0 <= self.layer <= config.layers
        require(known, f"{path_or_hub_id}: no hidden state {self.layer}; it has 0 to {config.layers}")
        state = {name: value.float() for name, value in state.items() if not UNUSED_ESM2_ENTRIES.fullmatch(name)}
        self.encoder = Esm2Encoder(config).eval()
        load_entries(self.encoder, state, path_or_hub_id)
        self.width = config.hidden
        self.fingerprint = f"esm2 layer {self.layer} {weights_digest(self.encoder)}"
        self.device = choose_device(device)
        self.encoder.to(self.device)

    def embed(self, sequences: Sequence[str], structures: Sequence[Backbone | None] | None = None) -> list[Tensor]:
        """See `Embedder.embed`. All sequences are one batch."""
        ids, mask = residue_tokens(sequences)
        ids, mask = ids.to(self.device), mask.to(self.device)
        with torch.no_grad():  # not inference_mode: the classifier may be trained on these
            if self.layer == len(self.encoder.encoder.layer):
                hidden = self.encoder(ids, mask)  # (B, L, width)
            else:
                blocks = [self.encoder.embeddings, *self.encoder.encoder.layer]
                hidden = output_of(blocks[self.layer], lambda: self.encoder(ids, mask))  # (B, L, width)
        return [rows[real].float().cpu() for rows, real in zip(hidden, mask, strict=True)]


class Dance(Embedder):
    """Last hidden state of SeqDance or ESMDance, without the rows of <cls> and <eos>, which these models also read."""

    def __init__(self, path_or_hub_id: str, device: str | torch.device = "auto") -> None:
        self.model = load_model(path_or_hub_id, device)
        self.width = self.model.config.hidden
        self.fingerprint = f"dance {weights_digest(self.model.esm2, self.model.config.heads)}"

    def embed(self, sequences: Sequence[str], structures: Sequence[Backbone | None] | None = None) -> list[Tensor]:
        """See `Embedder.embed`."""
        residue_tokens(sequences)  # refuses complexes
        found = embed_with_dance(self.model, list(sequences), per_residue=True, precision="fp32")
        return [torch.from_numpy(rows) for rows in found]


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
            pairs = read_npy(path)
            if pairs.shape != shape or pairs.dtype.kind not in "fiu":
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
    if kind == "esmc":
        return EsmC(path or DEFAULT_ESMC, layer, device)
    if kind == "af2" and rest:
        return Af2Pairs(rest)
    if kind == "cache" and rest:
        return EmbeddingCache(rest)
    raise InputError(f"unknown embedder {line!r}; give one of {LINES}")
