"""ESM2 with its language-model head.

Source: Lin et al., Science 2023 (doi 10.1126/science.ade2574).
"""

from __future__ import annotations

import os
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_prepare.errors import require
from model.config import ModelConfig
from model.network.device import choose_device
from model.network.encoder import LAYER_NORM_EPS, Esm2Encoder
from model.network.tokenizer import VOCABULARY
from model.network.weights import UNUSED_ESM2_ENTRIES, load_entries, read_esm2

# required in config.json: ESM-1, with absolute positions, would load and give wrong results
ESM2_SETTINGS: Final = {"position_embedding_type": "rotary", "token_dropout": True}


class LanguageHead(nn.Module):
    """Hidden state -> logits; the last map is that of the word embeddings."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, hidden)
        self.layer_norm = nn.LayerNorm(hidden, eps=LAYER_NORM_EPS)
        self.bias = nn.Parameter(torch.zeros(len(VOCABULARY)))

    def forward(self, x: Tensor, word_embeddings: Tensor) -> Tensor:
        """(B, L, hidden) and (33, hidden) -> (B, L, 33)."""
        return F.linear(self.layer_norm(F.gelu(self.dense(x))), word_embeddings, self.bias)


class LanguageModel(nn.Module):
    """ESM2 of any size with its language-model head, under the names of Hugging Face `EsmForMaskedLM`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.esm = Esm2Encoder(config)
        self.lm_head = LanguageHead(config.hidden)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """(B, L) int64 token ids and mask, 1 for tokens and 0 for padding -> logits (B, L, 33)."""
        hidden = self.esm(input_ids, attention_mask)  # (B, L, hidden)
        return self.lm_head(hidden, self.esm.embeddings.word_embeddings.weight)


def load_language_model(path_or_hub_id: str | os.PathLike[str], device: str | torch.device = "auto") -> LanguageModel:
    """Load ESM2 with its language-model head in evaluation mode, float32.

    `path_or_hub_id` is a folder written by Hugging Face `EsmForMaskedLM` (weights in one file or in several with an
    index, and config.json), a file of fair-esm such as esm2_t33_650M_UR50D.pt, or a Hub id such as
    `facebook/esm2_t33_650M_UR50D`; InputError for anything else.
    """
    state, sizes = read_esm2(path_or_hub_id)
    config = esm2_config(path_or_hub_id, sizes)
    head = {name: value for name, value in state.items() if name.startswith("lm_head.")}
    require(head, f"{path_or_hub_id}: no language-model head (lm_head); give weights of EsmForMaskedLM")
    embeddings = state.get("embeddings.word_embeddings.weight")
    decoder = head.pop("lm_head.decoder.weight", embeddings)
    require(
        decoder is None or embeddings is None or torch.equal(decoder, embeddings),
        f"{path_or_hub_id}: its decoder is not tied to the word embeddings as in ESM2; give weights of ESM2",
    )
    if "lm_head.decoder.bias" in head:  # some files use this name, or both
        head["lm_head.bias"] = head.pop("lm_head.decoder.bias")
    encoder = {f"esm.{name}": value for name, value in state.items() if not UNUSED_ESM2_ENTRIES.fullmatch(name)}
    weights = {name: value.float() for name, value in (encoder | head).items()}
    with torch.device("meta"):  # allocates no weights, which are replaced anyway
        model = LanguageModel(config)
    load_entries(model, weights, path_or_hub_id, assign=True)
    return model.to(choose_device(device)).eval()


def esm2_config(path: str | os.PathLike[str], sizes: dict[str, Any]) -> ModelConfig:
    """Sizes of an ESM2 from the content of its config.json; messages name `path`."""
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    absent = [name for name in names if name not in sizes]
    require(not absent, f"{path}: config.json is missing or lacks {', '.join(absent)}; give a folder of EsmForMaskedLM")
    check_esm2(path, sizes)
    hidden, layers, heads, feed_forward = (sizes[name] for name in names)
    return ModelConfig(hidden, layers, heads, feed_forward, encoder_dropout=0.0)


def check_esm2(path: str | os.PathLike[str], settings: dict[str, Any]) -> None:
    """InputError unless the content of a config.json is that of ESM2, not of ESM-1; messages name `path`."""
    for name, value in ESM2_SETTINGS.items():
        found = settings.get(name)
        require(found == value, f"{path}: config.json has {name} {found!r}, ESM2 has {value!r}; give ESM2")
