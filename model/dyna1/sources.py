"""The source of embeddings that a classifier reads."""

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
    """Line of the embedder that a classifier was trained on.

    Raises
    ------
    InputError
        It is unknown, or is one with a path of its own.
    """
    kind, *words = (config.embedder or EMBEDDER_OF_WIDTH.get(config.width, "unknown")).split()
    require(
        kind in EMBEDDER_OF_WIDTH.values(),
        f"the classifier reads {config.embedder or f'embeddings of width {config.width}'}; give their source with "
        "--embedder (dance:PATH, af2:FOLDER, ...) or --cache",
    )
    return f"{kind}:{words[1]}" if words else kind  # "esm2 layer 12 DIGEST"; the digest is checked once it is loaded


def check_source(config: Dyna1Config, source: EmbeddingSource) -> None:
    """Check that a classifier was trained on embeddings like those of a source.

    Raises
    ------
    InputError
        The widths differ, one reads pairs and the other does not, or the classifier names another fingerprint.
    """
    wanted = config.pair_channels or config.width
    kinds = {False: "embeddings", True: "pair representations"}
    require(
        (wanted, bool(config.pair_channels)) == (source.width, source.reads_pairs),
        f"the classifier reads {kinds[bool(config.pair_channels)]} of width {wanted}, {source.fingerprint} gives "
        f"{kinds[source.reads_pairs]} of width {source.width}; choose the --embedder that it was trained on",
    )
    require(
        config.embedder in (None, source.fingerprint),
        f"the classifier was trained on {config.embedder}, these are embeddings of {source.fingerprint}; choose the "
        "--embedder that it was trained on",
    )


def open_embeddings(line: str, cache: Path, proteins: Sequence[AnnotatedProtein], process: Process) -> EmbeddingSource:
    """Source of the embeddings of a training.

    One-hot letters are made when they are read. Rank 0 computes embeddings of a language model once and keeps them in
    the file `cache`, which may already hold some.

    Raises
    ------
    InputError
        The source cannot be used, or a file of embeddings lacks a protein.
    """

    def kept() -> str:
        source = make_embedder(line, process.device)
        if not isinstance(source, Embedder) or isinstance(source, OneHot):
            return line
        write_cache(cache, source, [ChainInput(protein.name, protein.sequence) for protein in proteins])
        return f"cache:{cache}"

    source = make_embedder(process.first(kept), process.device)
    if isinstance(source, EmbeddingCache):
        missing = [protein.name for protein in proteins if protein.name not in source]
        require(not missing, f"{source.path}: lacks {first_names(missing)}; add them with seqdance dyna1 embed")
    return source
