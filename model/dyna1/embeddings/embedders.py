"""Sources of embeddings by name, and which of them a classifier reads.

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
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from data_prepare.errors import InputError, reading, require
from model.dyna1.classifier import Dyna1Config
from model.dyna1.data import AnnotatedProtein, first_names
from model.dyna1.embeddings.cache import EmbeddingCache, write_cache
from model.dyna1.embeddings.esm3 import DEFAULT_LAYER, DEFAULT_MODEL, Esm3
from model.dyna1.embeddings.language_models import Dance, Esm2, OneHot
from model.dyna1.embeddings.source import ChainInput, Embedder, EmbeddingSource
from model.training.processes import Process

ESM2_DEFAULT: Final = "facebook/esm2_t30_150M_UR50D"
LINES: Final = "onehot, esm2[:PATH][:LAYER], dance:PATH, esm3[:LAYER], af2:FOLDER, cache:FILE.h5"
# width of published weights -> embedder that they were trained on
EMBEDDER_OF_WIDTH: Final = {1536: "esm3", 640: "esm2", 24: "onehot"}


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


def default_embedder(config: Dyna1Config) -> str:
    """Line of the embedder that a classifier was trained on; InputError if it is unknown or has a path."""
    kind, *words = (config.embedder or EMBEDDER_OF_WIDTH.get(config.width, "unknown")).split()
    require(
        kind in EMBEDDER_OF_WIDTH.values(),
        f"the classifier reads {config.embedder or f'embeddings of width {config.width}'}; give their source with "
        "--embedder (dance:PATH, af2:FOLDER, ...) or --cache",
    )
    return f"{kind}:{words[1]}" if words else kind  # "esm2 layer 12 DIGEST"; `check_source` compares the digest


def check_source(config: Dyna1Config, source: EmbeddingSource) -> None:
    """Raise InputError unless the source has the shape and fingerprint that the classifier was trained on."""
    wanted = config.pair_channels or config.width
    kinds = {False: "embeddings", True: "pair representations"}
    require(
        (wanted, bool(config.pair_channels)) == (source.width, source.reads_pairs),
        f"the classifier reads {kinds[bool(config.pair_channels)]} of width {wanted}; {source.fingerprint} has "
        f"{kinds[source.reads_pairs]} of width {source.width}; choose another --embedder or classifier",
    )
    require(
        config.embedder in (None, source.fingerprint),
        f"the classifier was trained on {config.embedder}, not on {source.fingerprint}; choose its --embedder",
    )


def open_embeddings(line: str, cache: Path, proteins: Sequence[AnnotatedProtein], process: Process) -> EmbeddingSource:
    """Source of the embeddings of a training; InputError if it cannot be used or lacks a protein.

    One-hot letters are encoded when they are read. Rank 0 computes embeddings of a language model once and stores them
    in the file `cache`, which may already contain some of them.
    """

    def stored() -> str:
        source = make_embedder(line, process.device)
        if not isinstance(source, Embedder) or isinstance(source, OneHot):
            return line
        write_cache(cache, source, [ChainInput(protein.name, protein.sequence) for protein in proteins])
        return f"cache:{cache}"

    source = make_embedder(process.first(stored), process.device)
    if isinstance(source, EmbeddingCache):
        missing = [protein.name for protein in proteins if protein.name not in source]
        require(not missing, f"{source.path}: lacks {first_names(missing)}; add them with seqdance dyna1 embed")
    return source
