"""ESM2's log-likelihood ratios of mutations, a baseline of zero-shot scores.

Source of the masked and unmasked forms: Meier et al., NeurIPS 2021 (doi 10.1101/2021.07.09.450648).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from data_prepare.errors import require
from model.config import MAX_TOKENS, Precision
from model.mutations.substitution import WildType, window_start
from model.network.device import choose_precision, device_of, inference
from model.network.language_model import LanguageModel
from model.network.tokenizer import MASK_ID, TOKEN_ID, tokenize

MAX_RESIDUES: Final = MAX_TOKENS - 2  # seen by ESM2 at once, between <cls> and <eos>


def log_probabilities(
    model: LanguageModel,
    sequence: str,
    positions: Iterable[int],
    masked: bool,
    batch_size: int = 16,
    precision: Precision = "auto",
) -> dict[int, NDArray[np.float32]]:
    """Log-probabilities of all tokens at positions (from 1) of a chain: position -> (33,) float32, in vocabulary order.

    With `masked`, each position has its own pass in which its residue is hidden; otherwise one pass of the unchanged
    sequence serves all. A chain of more than 1,022 residues is seen through a window of 1,022 around the position, see
    `window_start`. `batch_size` passes run at once; for `precision` see `choose_precision`. InputError for an unknown
    letter or several chains.
    """
    tokens = tokenize([sequence])["input_ids"][0]  # (L + 2,)
    residues = len(tokens) - 2
    require(residues == len(sequence), "the sequence contains special tokens; give one chain")
    width = min(residues, MAX_RESIDUES)
    seen: dict[int, list[int]] = {}  # first residue of a window, from 0 -> positions
    for position in sorted(set(positions)):
        seen.setdefault(window_start(position - 1, position - 1, residues, width), []).append(position)
    passes = list(seen.items())
    if masked:
        passes = [(start, [position]) for start, group in passes for position in group]

    device = device_of(model)
    found: dict[int, NDArray[np.float32]] = {}
    with inference(model, choose_precision(precision, device)):
        for first in range(0, len(passes), batch_size):
            batch = passes[first : first + batch_size]
            inner = torch.stack([tokens[1 + start : 1 + start + width] for start, _ in batch])  # (B, width)
            if masked:
                for row, (start, (position,)) in enumerate(batch):
                    inner[row, position - 1 - start] = MASK_ID
            ends = tokens[[0, -1]].expand(len(batch), 2)  # <cls>, <eos>
            input_ids = torch.cat([ends[:, :1], inner, ends[:, 1:]], dim=1)  # (B, width + 2)
            values = model(input_ids.to(device))[:, 1:-1].float().log_softmax(-1).cpu().numpy()  # (B, width, 33)
            for row, (start, group) in enumerate(batch):
                found |= {position: values[row, position - 1 - start] for position in group}
    return found


def log_likelihood_ratios(
    model: LanguageModel,
    wild_type: str,
    mutants: Sequence[str],
    masked: bool,
    batch_size: int = 16,
    precision: Precision = "auto",
) -> NDArray[np.float64]:
    """Sum over the substitutions of log p(new) - log p(old): (mutants,) float64, higher = more likely.

    Both come from passes of the wild type, see `log_probabilities`. Mutants are labels such as `A12G` or `A12G:K5R`,
    positions from 1; InputError if one does not fit the wild type.
    """
    protein = WildType(wild_type)
    changes = [protein.read(mutant) for mutant in mutants]  # position -> new residue: <cls> is token 0
    positions = {position for own in changes for position in own}
    log_p = log_probabilities(model, wild_type, positions, masked, batch_size, precision)
    ratios = np.zeros(len(mutants))
    for row, own in enumerate(changes):
        for position, new in own.items():
            values = log_p[position].astype(np.float64)  # (33,)
            ratios[row] += values[TOKEN_ID[new]] - values[TOKEN_ID[protein.tokens[position]]]
    return ratios
