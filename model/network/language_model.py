"""ESM2 as a language model: how likely each residue is at its place, a baseline of mutation effects.

Sources: Lin et al., Science 2023 (doi 10.1126/science.ade2574); for the ratios of masked and unmasked wild types,
Meier et al., NeurIPS 2021 (doi 10.1101/2021.07.09.450648).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from data_prepare.errors import InputError
from model.config import ModelConfig
from model.mutations.measured import substitutions
from model.network.dance import UNUSED_ESM2_ENTRIES, check_entries, choose_device, read_esm2
from model.network.encoder import LAYER_NORM_EPS, Esm2Encoder
from model.network.tokenizer import MASK_ID, TOKEN_ID, VOCABULARY, tokenize

WINDOW: Final = 1022  # residues that ESM2 saw at most in its training, beside <cls> and <eos>
STEP: Final = 256  # between the first residues of windows

# what config.json has to say: with absolute positions, ESM-1 would load and be wrong
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

    Parameters
    ----------
    path_or_hub_id
        A folder written by Hugging Face `EsmForMaskedLM` (weights in one file or in several with an index, and
        config.json), or a Hub id such as `facebook/esm2_t33_650M_UR50D`.
    device
        "auto" takes a GPU if there is one.

    Raises
    ------
    InputError
        There is no such folder or repository, or it does not hold ESM2 with its head.
    """
    state, sizes = read_esm2(path_or_hub_id)
    config = esm2_config(path_or_hub_id, sizes)
    head = {name: value for name, value in state.items() if name.startswith("lm_head.")}
    if not head:
        raise InputError(f"{path_or_hub_id}: no language-model head (lm_head); give weights of EsmForMaskedLM")
    embeddings = state.get("embeddings.word_embeddings.weight")
    decoder = head.pop("lm_head.decoder.weight", embeddings)
    if decoder is not None and embeddings is not None and not torch.equal(decoder, embeddings):
        raise InputError(f"{path_or_hub_id}: its decoder is not tied to the word embeddings, as that of ESM2 is")
    if "lm_head.decoder.bias" in head:  # some files name the bias so, or twice
        head["lm_head.bias"] = head.pop("lm_head.decoder.bias")
    encoder = {f"esm.{name}": value for name, value in state.items() if not UNUSED_ESM2_ENTRIES.fullmatch(name)}
    weights = {name: value.float() for name, value in (encoder | head).items()}
    with torch.device("meta"):  # no time and no memory for weights that are replaced
        model = LanguageModel(config)
    check_entries(model, weights, str(path_or_hub_id))
    model.load_state_dict(weights, assign=True)
    return model.to(choose_device(device)).eval()


def esm2_config(path: str | os.PathLike[str], sizes: dict[str, Any]) -> ModelConfig:
    """Sizes of an ESM2 from the content of its config.json (`path` is named in messages)."""
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    if absent := [name for name in names if name not in sizes]:
        raise InputError(f"{path}: config.json of EsmForMaskedLM is missing, or {', '.join(absent)} in it")
    for name, value in ESM2_SETTINGS.items():
        if sizes.get(name) != value:
            raise InputError(f"{path}: config.json has {name} {sizes.get(name)!r}, ESM2 has {value!r}; give ESM2")
    hidden, layers, heads, feed_forward = (sizes[name] for name in names)
    return ModelConfig(hidden, layers, heads, feed_forward, encoder_dropout=0.0)


def log_probabilities(
    model: LanguageModel, sequence: str, positions: Iterable[int], masked: bool, batch_size: int = 16
) -> dict[int, NDArray[np.float32]]:
    """Log-probabilities of all tokens at positions of a sequence.

    Of a sequence of more than 1,022 residues, the model sees 1,022 around the position (those that begin at a multiple
    of 256, so that neighbours share them, or the first or last 1,022).

    Parameters
    ----------
    model
        ESM2.
    sequence
        One chain.
    positions
        From 1.
    masked
        Hide the residue at each position, in a pass of its own; else one pass of the sequence as it is.
    batch_size
        Passes at once; changes no number.

    Returns
    -------
    dict
        Position -> (33,) float32, in the order of `tokenizer.VOCABULARY`.

    Raises
    ------
    InputError
        The sequence cannot be tokenised or has several chains.
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; it must be at least 1")
    tokens = tokenize([sequence])["input_ids"][0]  # (L + 2,)
    residues = len(tokens) - 2
    if residues != len(sequence):
        raise InputError("the sequence holds special tokens; give one chain")
    width = min(residues, WINDOW)
    seen: dict[int, list[int]] = {}  # first residue of a window, from 0 -> positions
    for position in sorted(set(positions)):
        seen.setdefault(window_start(position, residues), []).append(position)
    passes = list(seen.items())
    if masked:
        passes = [(start, [position]) for start, group in passes for position in group]

    device = next(model.parameters()).device
    found: dict[int, NDArray[np.float32]] = {}
    with torch.inference_mode():
        for first in range(0, len(passes), batch_size):
            batch = passes[first : first + batch_size]
            inner = torch.stack([tokens[1 + start : 1 + start + width] for start, _ in batch])  # (B, width)
            if masked:
                for row, (start, (position,)) in enumerate(batch):
                    inner[row, position - 1 - start] = MASK_ID
            ends = tokens[[0, -1]].expand(len(batch), 2)  # <cls>, <eos>
            input_ids = torch.cat([ends[:, :1], inner, ends[:, 1:]], dim=1)  # (B, width + 2)
            values = model(input_ids.to(device))[:, 1:-1].log_softmax(-1).float().cpu().numpy()  # (B, width, 33)
            for row, (start, group) in enumerate(batch):
                found |= {position: values[row, position - 1 - start] for position in group}
    return found


def window_start(position: int, residues: int) -> int:
    """First residue, from 0, of the window that the model sees for a position (from 1)."""
    nearest = round((position - 1 - WINDOW // 2) / STEP) * STEP
    return min(max(nearest, 0), max(residues - WINDOW, 0))


def log_likelihood_ratios(
    model: LanguageModel, wild_type: str, mutants: Sequence[str], masked: bool, batch_size: int = 16
) -> NDArray[np.float64]:
    """Log-likelihood of mutants over that of the wild type: sum over substitutions of log p(new) - log p(old).

    Both are read from passes of the wild type, `log_probabilities`. Higher = more likely.

    Parameters
    ----------
    model, masked, batch_size
        As in `log_probabilities`.
    wild_type
        One chain.
    mutants
        Labels such as `A12G` or `A12G:K5R`, positions from 1.

    Returns
    -------
    ndarray
        (mutants,) float64.

    Raises
    ------
    InputError
        A mutation does not fit the wild type.
    """
    parts = [substitutions(mutant) for mutant in mutants]
    for mutant, group in zip(mutants, parts, strict=True):
        for old, position, new in group:
            if wild_type[position - 1 : position] != old or new not in TOKEN_ID:
                raise InputError(f"mutation {mutant!r} does not fit the wild type; give labels of this protein")
    positions = {part.position for group in parts for part in group}
    log_p = log_probabilities(model, wild_type, positions, masked, batch_size)
    return np.array(
        [sum(float(log_p[at][TOKEN_ID[new]]) - float(log_p[at][TOKEN_ID[old]]) for old, at, new in g) for g in parts],
        dtype=np.float64,
    )
