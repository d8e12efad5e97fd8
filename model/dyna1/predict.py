"""The embeddings that a classifier reads, and the probability of exchange of each residue of a chain."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from data_prepare.errors import require
from model.dyna1.classifier import Classifier, Dyna1Config, load_dyna1, p_exchange
from model.dyna1.embeddings.embedders import make_embedder
from model.dyna1.embeddings.source import ChainInput, EmbeddingSource
from model.network.device import enough_memory

# width of published weights -> embedder that they were trained on
EMBEDDER_OF_WIDTH: Final = {1536: "esm3", 640: "esm2", 960: "esmc", 24: "onehot"}


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


def load_with_embedder(
    weights: str, embedder: str | None = None, device: str = "auto", published_padding: bool = False
) -> tuple[Classifier, EmbeddingSource]:
    """`load_dyna1`, and `make_embedder` of what the classifier reads: by default what it was trained on.

    InputError if the weights or the embedder cannot be used, or do not belong together.
    """
    classifier = load_dyna1(weights, device, published_padding)
    source = make_embedder(embedder or default_embedder(classifier.config), device)
    check_source(classifier.config, source)
    return classifier, source


def predict_exchange(classifier: Classifier, source: EmbeddingSource, chain: ChainInput) -> NDArray[np.float32]:
    """Probability of exchange of each residue, (L,) float32 from 0 to 1.

    `classifier` is in evaluation mode, `source` as in its training (`check_source`). A source that reads no structures
    uses the sequence of the chain. InputError if the memory is too small or a result is not finite.
    """
    device = next(classifier.parameters()).device
    remedy = "use --device cpu or a machine with more memory, or write a --cache there"
    with enough_memory(f"{chain.name}, {len(chain.sequence)} residues", device, remedy), torch.inference_mode():
        embedding = source.read_chain(chain)  # (L, width), or (L, L, channels)
        finite = embedding.isfinite().all()
        require(finite, f"{chain.name}: embedding ({source.fingerprint}) is not finite; compute it again")
        padding = torch.zeros(1, len(chain.sequence), dtype=torch.bool, device=device)
        p = p_exchange(classifier(embedding[None].to(device), padding)[0]).float().cpu().numpy()  # (L,)
    require(np.isfinite(p).all(), f"{chain.name}: probabilities are not finite; download or train the weights again")
    return p


def exchange_table(chain: ChainInput, p: NDArray[np.float32]) -> pd.DataFrame:
    """Columns position (from 1), residue, p_exchange, and with a structure structure_residue, empty if unresolved."""
    columns = {"position": np.arange(1, len(p) + 1), "residue": list(chain.sequence), "p_exchange": p}
    if chain.structure_residues is not None:
        columns["structure_residue"] = list(chain.structure_residues)
    return pd.DataFrame(columns)
