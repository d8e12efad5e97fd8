"""ESM2's log-likelihood ratios of mutations, a baseline of zero-shot scores.

Source of the masked and unmasked forms: Meier et al., NeurIPS 2021 (doi 10.1101/2021.07.09.450648).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from data_prepare.errors import InputError
from model.config import MAX_TOKENS
from model.mutations.measured import substitutions
from model.network.language_model import LanguageModel
from model.network.tokenizer import MASK_ID, TOKEN_ID, tokenize

WINDOW: Final = MAX_TOKENS - 2  # residues beside <cls> and <eos>
STEP: Final = 256  # between the first residues of windows


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
