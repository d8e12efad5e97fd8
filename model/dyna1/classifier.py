"""The classifier of Dyna-1, from residue embeddings to logits of micro- to millisecond exchange, and its weight files.

LayerNorm, a pre-norm transformer encoder, LayerNorm, one linear output. The baseline on AlphaFold2 pair representations
has a trainable front that gathers the pairs of each residue. Parameter names are the published ones.

Weights have their own terms of use, and those of the published Dyna-1 have changed between releases: check the terms
of the weights that you load.

Source: Wayment-Steele, El Nesr et al., Nature 2026 (doi 10.1038/s41586-026-10989-4).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_prepare.errors import InputError, named, require
from model.dyna1.config import ONE_HOT_WIDTH, PRESETS, Dyna1Config
from model.network.device import choose_device
from model.network.hub import HubModel
from model.network.tokenizer import PAD_ID
from model.network.weights import CONFIG_NAME, WEIGHTS_NAME, find_weights, load_entries, read_json, read_weights

LAYER_NORM_EPS: Final = 1e-12  # of the two around the encoder; those inside keep PyTorch's default
PRIOR_LOGIT: Final = math.log(0.05 / 0.95)  # 5 %: assumed fraction of exchanging residues
PADDED_RESIDUES: Final = 367  # of the published one-hot baseline, padding included
PADDED_PARTNERS: Final = 400  # of the published baseline on AlphaFold2 pairs
PUBLISHED_NAMES: Final = ("dyna1.pt", "dyna1-esm2.pt")


@contextmanager
def fused_attention() -> Iterator[None]:
    """Disable PyTorch's fast path for evaluation, which builds the (L, L) maps of all heads.

    At 1,500 residues the fast path takes up to twice the time and two to three times the memory (benchmarks/dyna1.py).
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


class Classifier(HubModel):
    """Logits of exchange from the embeddings of a frozen model.

    Initially the weights are random and the biases 0. All encoder layers start from the same weights, since
    `nn.TransformerEncoder` copies one layer.
    """

    def __init__(self, config: Dyna1Config) -> None:
        super().__init__()
        self.config = config
        self.classifier = Head(config)
        if config.pair_channels:
            self.layernorm = nn.LayerNorm(config.pair_channels)
            vectors = config.width // config.pair_channels
            self.sel_v = nn.Parameter(torch.randn(config.pair_channels, vectors) * 0.02)

    @classmethod
    def from_pretrained(cls, source: str | os.PathLike[str], device: str | torch.device = "auto") -> Classifier:
        """`load_dyna1` under the name that the libraries of Hugging Face give it."""
        return load_dyna1(source, device)

    @property
    def about(self) -> str:
        """See `HubModel`."""
        read = self.config.embedder or f"embeddings of width {self.config.width}"
        return f"Dyna-1 classifier: probability of micro- to millisecond exchange of each residue; reads {read}."

    def usage(self, source: str) -> str:
        """See `HubModel`."""
        return f'from model.dyna1.classifier import load_dyna1\n\nclassifier = load_dyna1("{source}")'

    def forward(self, embedding: Tensor, padding: Tensor) -> Tensor:
        """Logits (B, L) before the shift of the prior (`p_exchange`); those of padding are meaningless.

        `embedding` is (B, L, width), with pair channels (B, L, L, channels); `padding` is (B, L) bool, True at padding.
        Each row needs a residue.
        """
        if self.config.pair_channels:
            embedding = self.gather_pairs(embedding, padding)  # (B, L, width)
        elif self.config.published_padding:
            length = padding.shape[1]
            return self.classifier(*with_pad_tokens(embedding, padding))[:, :length]
        return self.classifier(embedding, padding)

    def gather_pairs(self, pairs: Tensor, padding: Tensor) -> Tensor:
        """Softmax attention of each residue over its partners, without padding, once per learned vector.

        (B, L, L, channels) and (B, L) -> (B, L, vectors * channels). With published padding the partners are those of
        a crop of 400 residues, of which those that a protein lacks are zeros.
        """
        if self.config.published_padding:
            absent = max(PADDED_PARTNERS - padding.shape[1], 0)
            pairs = F.pad(pairs, (0, 0, 0, absent))  # (B, L, partners, channels)
            padding = F.pad(padding, (0, absent), value=True)
            padding = padding & (torch.arange(padding.shape[1], device=padding.device) >= PADDED_PARTNERS)
        pairs = self.layernorm(pairs)
        weights = (pairs @ self.sel_v).masked_fill(padding[:, None, :, None], -torch.inf)  # (B, L, partners, vectors)
        return (weights.softmax(dim=2).mT @ pairs).flatten(2)  # (B, L, vectors, channels) -> (B, L, width)


def with_pad_tokens(letters: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
    """Letters (B, L, 24) of proteins that are filled to 367 residues with the letter of padding, and their padding.

    The published one-hot baseline masks token 0, while padding is token 1. Its length here depends on the protein
    alone: longer proteins have none.
    """
    length = max(PADDED_RESIDUES, padding.shape[1])
    absent = length - padding.shape[1]
    pad_letter = F.one_hot(torch.tensor(PAD_ID), ONE_HOT_WIDTH).to(letters)
    padding = F.pad(padding, (0, absent), value=True)  # (B, length)
    letters = torch.where(padding[..., None], pad_letter, F.pad(letters, (0, 0, 0, absent)))
    return letters, padding & (torch.arange(length, device=padding.device) >= PADDED_RESIDUES)


def p_exchange(logits: Tensor) -> Tensor:
    """Probability of exchange: sigmoid(logit - ln(0.05 / 0.95)), element by element."""
    return (logits - PRIOR_LOGIT).sigmoid()


def is_dyna1(folder: Path) -> bool:
    """Whether the config.json of a folder is that of a classifier."""
    path = folder / CONFIG_NAME
    return path.is_file() and "width" in read_json(path)


def load_dyna1(
    path_or_hub_id: str | os.PathLike[str], device: str | torch.device = "auto", published_padding: bool = False
) -> Classifier:
    """Load a classifier in evaluation mode; `device` "auto" uses a GPU if one is available. Check the weights' terms.

    `path_or_hub_id` is a folder with model.safetensors and config.json, a weight file (.safetensors, .pt), a Hub id
    such as `gelnesr/Dyna-1`, or a file of a Hub repository such as `gelnesr/Dyna-1/dyna1-esm2.pt`. Sizes are read from
    config.json beside the weights. Without it, and for a .pt file beside that of another program, they are read from
    the tensors, and the number of heads is that of the preset of this width. Entries of the language model (`model.`)
    are ignored. `published_padding` turns this field of the configuration on. InputError if the file or repository does
    not exist, names are missing or unknown, or shapes differ.
    """
    both = all((Path(path_or_hub_id) / name).is_file() for name in PUBLISHED_NAMES)
    require(not both, f"{path_or_hub_id}: contains {' and '.join(PUBLISHED_NAMES)}; give the path of one of them")
    weights, config = find_weights(path_or_hub_id, (WEIGHTS_NAME, *PUBLISHED_NAMES))
    state = {name: value.float() for name, value in read_weights(weights).items() if not name.startswith("model.")}
    fields = read_json(config) if config else {}
    if weights.suffix != ".safetensors" and not fields.keys() >= {"width", "heads"}:
        config = None  # of another program
    with named(f"{weights} with its {CONFIG_NAME}" if config else weights):
        sizes = Dyna1Config(**fields) if config else infer_config(state)
        sizes = replace(sizes, published_padding=True) if published_padding else sizes
        with torch.device("meta"):  # sizes that are not those of the weights need no memory
            load_entries(Classifier(sizes), state, "weights of Dyna-1", assign=True)
        model = Classifier(sizes)
        load_entries(model, state, "weights of Dyna-1")
    return model.to(choose_device(device)).eval()


def infer_config(state: Mapping[str, Tensor]) -> Dyna1Config:
    """Sizes from the tensors; heads and dropout from the preset of the same width."""
    try:
        width = state["classifier.norm1.weight"].shape[0]
        feed_forward = state["classifier.encoder.layers.0.linear1.weight"].shape[0]
    except (KeyError, IndexError):
        raise InputError("not weights of Dyna-1 (no classifier.norm1 and encoder); give another file") from None
    layers = len({name.split(".")[3] for name in state if name.startswith("classifier.encoder.layers.")})
    pair_channels = state["sel_v"].shape[0] if "sel_v" in state else None
    for preset in PRESETS.values():
        if (preset.width, preset.pair_channels) == (width, pair_channels):
            return replace(preset, layers=layers, feed_forward=feed_forward)
    raise InputError(
        f"no preset has width {width}, so the number of heads is unknown; add {CONFIG_NAME} with width, layers, heads "
        "and feed_forward to the folder"
    )
