"""The ESM2 transformer encoder in plain PyTorch, under the parameter names of Hugging Face `EsmModel`.

Source: Lin et al., Science 2023 (doi 10.1126/science.ade2574). Omits what SeqDance and ESMDance do not use: pooler,
contact head, learned positions. Attention maps are handed over layer by layer and never all held in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import ModelConfig
from model.network.tokenizer import MASK_ID, PAD_ID, VOCABULARY

LAYER_NORM_EPS: Final = 1e-5
TRAINED_MASK_FRACTION: Final = 0.15 * 0.8  # fraction of <mask> tokens in the training of ESM2

# (scores (B, heads, L, L) of query i and key j, keys (B, 1, 1, L) or None, dropout) -> their attention maps
MapsOf = Callable[[Tensor, Tensor | None, float], Tensor]
AttentionSink = Callable[[int, Tensor, Tensor | None, float], Tensor]  # the same, with the number of the layer
Table = tuple[Tensor, Tensor]  # cosines and sines of the rotary positions
Rotary = tuple[Table, Table]  # for queries and for keys, see `rotary_tables`


class Embedding(nn.Embedding):
    """Draws no numbers on the meta device: PyTorch would import its compiler for that, which takes seconds."""

    def reset_parameters(self) -> None:
        """See `nn.Embedding`."""
        if not self.weight.is_meta:
            super().reset_parameters()


class Embeddings(nn.Module):
    """Word embeddings with ESM2's token dropout."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.word_embeddings = Embedding(len(VOCABULARY), config.hidden, padding_idx=PAD_ID)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, L) token ids and boolean mask -> (B, L, hidden).

        Embeddings of `<mask>` and padding are zero; the others are scaled by (1 - 0.12) / (1 - fraction of `<mask>`
        tokens), to the magnitude of their sum in the training of ESM2.
        """
        masked = input_ids == MASK_ID
        tokens = attention_mask.sum(-1).clamp(min=1)  # (B,)
        unmasked = (1 - masked.sum(-1) / tokens).clamp(min=torch.finfo(torch.float32).eps)  # (B,)
        scale = ((1 - TRAINED_MASK_FRACTION) / unmasked)[:, None] * (attention_mask & ~masked)  # (B, L)
        return self.word_embeddings(input_ids) * scale[..., None]


class SelfAttention(nn.Module):
    """Multi-head self-attention with rotary positions."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.dropout = config.encoder_dropout
        self.query = nn.Linear(config.hidden, config.hidden)
        self.key = nn.Linear(config.hidden, config.hidden)
        self.value = nn.Linear(config.hidden, config.hidden)

    def forward(self, x: Tensor, keys: Tensor | None, rotary: Rotary, maps_of: MapsOf | None) -> Tensor:
        """(B, L, hidden) -> (B, L, hidden); with `maps_of`, through the attention maps that it makes of the scores.

        `keys` (B, 1, 1, L) is True for keys to attend to, None for all; `rotary` is that of `rotary_tables`.
        """
        dropout = self.dropout if self.training else 0.0
        q = rotate(self._split(self.query(x)), rotary[0])  # (B, heads, L, head_dim)
        k = rotate(self._split(self.key(x)), rotary[1])  # (B, heads, L, head_dim)
        v = self._split(self.value(x))  # (B, heads, L, head_dim)
        if maps_of is None:
            context = F.scaled_dot_product_attention(q, k, v, attn_mask=keys, dropout_p=dropout, scale=1.0)
        else:
            # on a GPU autocast would keep all maps in float32; the sums inside the kernels are float32 anyway
            with torch.autocast(x.device.type, enabled=False):
                context = maps_of(q @ k.mT, keys, dropout) @ v  # (B, heads, L, head_dim)
        return context.transpose(1, 2).flatten(2)  # (B, L, hidden)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (B, L, hidden) -> (B, heads, L, head_dim)


def dense(inputs: int, outputs: int) -> nn.ModuleDict:
    """A linear map under the name `dense`."""
    return nn.ModuleDict({"dense": nn.Linear(inputs, outputs)})


class Attention(nn.Module):
    """Attention sublayer: LayerNorm, self-attention, output projection."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self = SelfAttention(config)
        self.output = dense(config.hidden, config.hidden)
        self.LayerNorm = nn.LayerNorm(config.hidden, eps=LAYER_NORM_EPS)

    def forward(self, x: Tensor, keys: Tensor | None, rotary: Rotary, maps_of: MapsOf | None) -> Tensor:
        """As `SelfAttention.forward`, before dropout and residual."""
        x = self.LayerNorm(x).to(compute_dtype(x))  # once: under autocast query, key and value would each do it
        return self.output["dense"](self.self(x, keys, rotary, maps_of))


class Layer(nn.Module):
    """One pre-LayerNorm transformer layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dropout = config.encoder_dropout
        self.attention = Attention(config)
        self.intermediate = dense(config.hidden, config.feed_forward)
        self.output = dense(config.feed_forward, config.hidden)
        self.LayerNorm = nn.LayerNorm(config.hidden, eps=LAYER_NORM_EPS)

    def forward(self, x: Tensor, keys: Tensor | None, rotary: Rotary, maps_of: MapsOf | None) -> Tensor:
        """(B, L, hidden) -> (B, L, hidden); see `SelfAttention.forward`."""
        dropout = self.dropout if self.training else 0.0
        x = x + drop(self.attention(x, keys, rotary, maps_of), dropout)
        update = self.output["dense"](gelu(self.intermediate["dense"](self.LayerNorm(x))))
        return x + drop(update, dropout)


class Stack(nn.Module):
    """The layers and the final LayerNorm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.emb_layer_norm_after = nn.LayerNorm(config.hidden, eps=LAYER_NORM_EPS)


class Esm2Encoder(nn.Module):
    """ESM2 encoder with the initial weights of SeqDance: Xavier-uniform (queries, keys and values with gain 1/sqrt(2)),
    biases at 0.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.embeddings = Embeddings(config)
        self.encoder = Stack(config)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                projection = name.endswith((".self.query", ".self.key", ".self.value"))
                nn.init.xavier_uniform_(module.weight, gain=2**-0.5 if projection else 1.0)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, sink: AttentionSink | None = None
    ) -> Tensor:
        """Last hidden state (B, L, hidden) of token ids (B, L) int64; rows of padding are meaningless.

        `attention_mask` (B, L) is 1 or True for tokens (default: all). `sink` makes the attention maps of the scores of
        each layer, by `attention_maps`; without it, attention runs in PyTorch's fused kernel, which never forms them.
        """
        mask = (torch.ones_like(input_ids) if attention_mask is None else attention_mask).bool()  # (B, L)
        keys = None
        if attention_mask is not None:
            keys = mask | ~mask.any(-1, keepdim=True)  # a row of only padding attends to all of it: no empty softmax
            keys = keys[:, None, None, :]  # (B, 1, 1, L)
        x = self.embeddings(input_ids, mask)  # (B, L, hidden)
        rotary = rotary_tables(input_ids.shape[1], self.head_dim, x.device, compute_dtype(x))
        for number, layer in enumerate(self.encoder.layer):
            x = layer(x, keys, rotary, None if sink is None else partial(sink, number))
        return self.encoder.emb_layer_norm_after(x)


def attention_maps(scores: Tensor, keys: Tensor | None, dropout: float) -> Tensor:
    """Attention maps (B, heads, L, L) after dropout of scores, which are changed; `keys` as in `SelfAttention`."""
    if keys is not None:  # outside of autograd: a probability of 0 has no gradient
        scores.detach().masked_fill_(~keys, -torch.inf)
    return drop(scores.softmax(-1), dropout)


def drop(x: Tensor, probability: float) -> Tensor:
    """Dropout that stores one byte per value for the backward pass; `F.dropout` stores up to eight on a CPU."""
    return torch.native_dropout(x, probability, True)[0] if probability else x


def gelu(x: Tensor) -> Tensor:
    """GELU of a tensor that is not used afterwards: in place unless a gradient is needed."""
    return F.gelu(x) if torch.is_grad_enabled() else torch.ops.aten.gelu_(x)


def compute_dtype(x: Tensor) -> torch.dtype:
    """Dtype of products with x, which autocast chooses."""
    device = x.device.type
    on = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)  # meta tensors have none
    return torch.get_autocast_dtype(device) if on else x.dtype


def rotary_tables(length: int, head_dim: int, device: torch.device, dtype: torch.dtype) -> Rotary:
    """Cosines and sines of the rotary positions for queries and for keys, each (length, head_dim).

    Those for queries include ESM2's scale 1 / sqrt(head_dim). The sines of the first half of the channels are negative.
    """
    frequency = 10000.0 ** (-torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim)
    angle = torch.arange(length, device=device, dtype=torch.float32)[:, None] * frequency  # (L, head_dim / 2)
    cos, sin = torch.cat([angle.cos()] * 2, dim=-1), torch.cat([-angle.sin(), angle.sin()], dim=-1)
    scale = head_dim**-0.5
    return ((cos * scale).to(dtype), (sin * scale).to(dtype)), (cos.to(dtype), sin.to(dtype))


def rotate(x: Tensor, table: Table) -> Tensor:
    """Rotate channel pairs (c, c + head_dim / 2) of x (B, heads, L, head_dim) by the angles of their positions."""
    cos, sin = table
    return torch.addcmul(x.roll(x.shape[-1] // 2, -1) * sin, x, cos)
