"""The classifier of Dyna-1: embeddings of residues -> logits of micro- to millisecond exchange.

LayerNorm, a pre-norm transformer encoder, LayerNorm, one linear output. The baseline on AlphaFold2 pair representations
has a trainable front that gathers a residue's pairs. Parameter names are the published ones.

Source: Wayment-Steele, El Nesr et al., Nature 2026 (doi 10.1038/s41586-026-10989-4).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Self

import torch
from torch import Tensor, nn

from data_prepare.errors import InputError

LAYER_NORM_EPS: Final = 1e-12  # of the two around the encoder; those inside keep PyTorch's
PRIOR: Final = 0.05  # assumed share of exchanging residues
PRIOR_LOGIT: Final = math.log(PRIOR / (1 - PRIOR))


@dataclass(frozen=True, kw_only=True)
class Dyna1Config:
    """Sizes and behaviour of a classifier."""

    width: int
    """Width of the residue embeddings it reads; with pair channels, of what its front makes of them."""
    layers: int = 12
    """Transformer layers."""
    heads: int
    """Attention heads per layer; no tensor shows them."""
    feed_forward: int = 2048
    """Width inside the feed-forward sublayers."""
    dropout: float = 0.1
    """Dropout in the transformer layers while training."""
    pair_channels: int | None = None
    """Channels of the pair representation, if it reads pairs (L, L, channels) instead of embeddings (L, width)."""
    embedder: str | None = None
    """Fingerprint of the embedder that it was trained on; None if unknown."""

    def check(self) -> None:
        """See that the values go together; InputError if they do not. A classifier calls it when it is made."""
        for name in ("width", "layers", "heads", "feed_forward", *(("pair_channels",) if self.pair_channels else ())):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"Dyna-1 configuration: {name} is {value!r}, it must be a whole number of at least 1")
        if self.width % self.heads:
            raise InputError(f"Dyna-1 configuration: width {self.width} is no multiple of {self.heads} heads")
        if isinstance(self.dropout, bool) or not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise InputError(f"Dyna-1 configuration: dropout is {self.dropout!r}, it must be at least 0 and below 1")
        if self.pair_channels and self.width % self.pair_channels:
            raise InputError(
                f"Dyna-1 configuration: width {self.width} is no multiple of {self.pair_channels} pair channels"
            )
        if self.embedder is not None and not isinstance(self.embedder, str):
            raise InputError(f"Dyna-1 configuration: embedder is {self.embedder!r}, it must be a text or null")

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary, as it is written to config.json."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Configuration from the content of a config.json.

        Raises
        ------
        InputError
            A name is unknown or missing, or a value cannot be used.
        """
        fields = {field.name: field.default for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - set(fields)):
            raise InputError(f"Dyna-1 configuration: unknown entries {', '.join(unknown)}; remove them")
        needed = [name for name, default in fields.items() if default is dataclasses.MISSING]
        if missing := [name for name in needed if name not in values]:
            raise InputError(f"Dyna-1 configuration: {', '.join(missing)} is missing; add it")
        config = cls(**values)
        config.check()
        return config


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
        config.check()
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
