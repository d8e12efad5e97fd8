"""Which embeddings a classifier reads, and those of a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from data_prepare.errors import require
from model.dyna1.classifier import Dyna1Config
from model.dyna1.data import AnnotatedProtein, first_names
from model.dyna1.embeddings.cache import EmbeddingCache, write_cache
from model.dyna1.embeddings.embedders import make_embedder
from model.dyna1.embeddings.language_models import OneHot
from model.dyna1.embeddings.source import ChainInput, Embedder, EmbeddingSource
from model.training.processes import Process

# width of published weights -> embedder that they were trained on
EMBEDDER_OF_WIDTH: Final = {1536: "esm3", 640: "esm2", 24: "onehot"}


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
