"""The classifier of Dyna-1: embeddings of residues -> logits of micro- to millisecond exchange.

LayerNorm, a pre-norm transformer encoder, LayerNorm, one linear output. The baseline on AlphaFold2 pair representations
has a trainable front that gathers a residue's pairs. Parameter names are the published ones.

Source: Wayment-Steele, El Nesr et al., Nature 2026 (doi 10.1038/s41586-026-10989-4).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, Final

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from data_prepare.command_line import Settings
from data_prepare.errors import require
from model.config import STRICT, Count, Fraction

LAYER_NORM_EPS: Final = 1e-12  # of the two around the encoder; those inside keep PyTorch's
PRIOR: Final = 0.05  # assumed share of exchanging residues
PRIOR_LOGIT: Final = math.log(PRIOR / (1 - PRIOR))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Dyna1Config(Settings):
    """Sizes and behaviour of a classifier."""

    width: Count
    """Width of the residue embeddings; with pair channels, of those that its front gathers from the pairs."""
    layers: Count = 12
    """Transformer layers."""
    heads: Count
    """Attention heads per layer; no tensor shows them."""
    feed_forward: Count = 2048
    """Width inside the feed-forward sublayers."""
    dropout: Fraction = 0.1
    """Dropout in the transformer layers while training."""
    pair_channels: Count | None = None
    """Channels of the pair representation, if it reads pairs (L, L, channels) instead of embeddings (L, width)."""
    embedder: str | None = None
    """Fingerprint of the embedder that it was trained on; None if unknown."""

    def __post_init__(self) -> None:
        for name, parts in (("heads", self.heads), ("pair channels", self.pair_channels or 1)):
            require(self.width % parts == 0, f"width {self.width} is not a multiple of {parts} {name}")

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary, as it is written to config.json."""
        return asdict(self)


# the published classifiers, and one on embeddings of SeqDance or ESMDance
PRESETS: Final[Mapping[str, Dyna1Config]] = MappingProxyType(
    {
        "esm3": Dyna1Config(width=1536, heads=6),
        "esm2": Dyna1Config(width=640, heads=8),
        "onehot": Dyna1Config(width=24, layers=10, heads=6),
        "seqdance": Dyna1Config(width=480, heads=8),
        "af2": Dyna1Config(width=32 * 128, heads=8, pair_channels=128),
    }
)


@contextmanager
def fused_attention() -> Iterator[None]:
    """Keep PyTorch from its fast path for evaluation, which forms the (L, L) maps of all heads.

    At 1,500 residues it takes up to twice the time and two to three times the memory (benchmarks/dyna1.py).
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class Head(nn.Module):
    """LayerNorm, transformer encoder, LayerNorm, linear output."""

    def __init__(self, config: Dyna1Config) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)
        self.norm2 = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, config.feed_forward, config.dropout, norm_first=True, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.output_layer = nn.Linear(config.width, 1)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, embedding: Tensor, padding: Tensor) -> Tensor:
        """(B, L, width) and (B, L) -> (B, L)."""
        with fused_attention():
            hidden = self.encoder(self.norm1(embedding), src_key_padding_mask=padding)  # (B, L, width)
        return self.output_layer(self.norm2(hidden)).squeeze(-1)  # (B, L)


class Classifier(nn.Module):
    """Logits of exchange from the embeddings of a frozen model.

    A new one holds random weights with biases at 0, the same in all layers of the encoder, as `nn.TransformerEncoder`
    copies one layer.
    """

    def __init__(self, config: Dyna1Config) -> None:
        super().__init__()
        self.config = config
        self.classifier = Head(config)
        if config.pair_channels:
            self.layernorm = nn.LayerNorm(config.pair_channels)
            vectors = config.width // config.pair_channels
            self.sel_v = nn.Parameter(torch.randn(config.pair_channels, vectors) * 0.02)

    def forward(self, embedding: Tensor, padding: Tensor) -> Tensor:
        """Logits of residues.

        Parameters
        ----------
        embedding
            (B, L, width) float; with pair channels (B, L, L, channels).
        padding
            (B, L) bool, True where there is no residue. Each row needs a residue.

        Returns
        -------
        Tensor
            (B, L) logits before the shift of the prior (`p_exchange`); those of padding hold numbers without meaning.
        """
        if self.config.pair_channels:
            embedding = self.gather_pairs(embedding, padding)  # (B, L, width)
        return self.classifier(embedding, padding)

    def gather_pairs(self, pairs: Tensor, padding: Tensor) -> Tensor:
        """Softmax attention of each residue over its partners, once for each learned vector.

        (B, L, L, channels) and (B, L) -> (B, L, vectors * channels). Padding is no partner.
        """
        pairs = self.layernorm(pairs)
        weights = (pairs @ self.sel_v).masked_fill(padding[:, None, :, None], -torch.inf)  # (B, L, partners, vectors)
        weights = weights.softmax(dim=2)
        return (weights.mT @ pairs).flatten(2)  # (B, L, vectors, channels) -> (B, L, width)


def p_exchange(logits: Tensor) -> Tensor:
    """Probability of exchange: sigmoid(logit - ln(0.05 / 0.95)), element by element."""
    return (logits - PRIOR_LOGIT).sigmoid()
