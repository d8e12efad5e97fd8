"""Embeddings of single letters, of ESM2, and of SeqDance or ESMDance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from data_prepare.errors import require
from model.dyna1.embeddings.source import Backbone, Embedder, output_of, residue_tokens
from model.inference.embed import embed as embed_with_dance
from model.network.dance import load_model
from model.network.device import choose_device
from model.network.encoder import Esm2Encoder
from model.network.language_model import esm2_config
from model.network.weights import UNUSED_ESM2_ENTRIES, load_entries, read_esm2, weights_digest


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
        return [torch.from_numpy(rows) for rows in embed_with_dance(self.model, list(sequences), per_residue=True)]
