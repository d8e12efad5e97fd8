"""Protein sequences -> token ids of ESM2."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from data_prepare.errors import InputError, require

VOCABULARY: Final = (
    *("<cls>", "<pad>", "<eos>", "<unk>"),
    *"LAGVSERTIDPKQNFYMHWCXBUZO.-",
    *("<null_1>", "<mask>"),
)
TOKEN_ID: Final = {token: number for number, token in enumerate(VOCABULARY)}
CLS_ID: Final = TOKEN_ID["<cls>"]
PAD_ID: Final = TOKEN_ID["<pad>"]
EOS_ID: Final = TOKEN_ID["<eos>"]
MASK_ID: Final = TOKEN_ID["<mask>"]

SPECIAL_TOKENS: Final = ("<cls>", "<eos>", "<unk>", "<mask>")  # allowed in a sequence string
AMINO_ACIDS: Final = "ACDEFGHIKLMNPQRSTVWY"

_TOKEN: Final = re.compile("|".join(SPECIAL_TOKENS) + "|.", re.DOTALL)
_NO_LETTER: Final = 255
_ID_OF_BYTE: Final = bytes(TOKEN_ID.get(chr(code), _NO_LETTER) for code in range(256))
_IN_STRING: Final = frozenset(token for token in VOCABULARY if len(token) == 1) | frozenset(SPECIAL_TOKENS)


def split_tokens(sequence: str) -> list[str]:
    """Split a sequence string into letters and special tokens (`<mask>`, `<eos>`, `<cls>`, `<unk>`), unchecked."""
    return _TOKEN.findall(sequence)


def tokenize(sequences: Sequence[str], max_length: int | None = None) -> dict[str, Tensor]:
    """Token ids of a batch: `<cls>` + sequence + `<eos>`, of which `max_length` keeps the first, padded to the longest.

    Sequences have upper-case one-letter codes (the 20 amino acids, X B U Z O and the symbols . -); `<eos><cls>` joins
    the chains of a complex, `<mask>` hides a residue. Returns `input_ids` (B, L) int64 and `attention_mask` (B, L)
    int64, 1 for tokens and 0 for padding. InputError if a sequence is empty or has a letter outside the vocabulary.
    """
    require(not isinstance(sequences, str), "tokenize requires a list of sequences; pass [sequence]")
    require(len(sequences), "no sequence to tokenize; give at least one")
    require(max_length is None or max_length >= 1, f"max_length is {max_length}; it must be at least 1")
    names = (f"sequence {number} of {len(sequences)}" for number in range(1, len(sequences) + 1))
    rows = [token_ids(sequence, name)[:max_length] for sequence, name in zip(sequences, names, strict=True)]
    longest = max(map(len, rows))
    padded = b"".join(row.ljust(longest, bytes([PAD_ID])) for row in rows)
    input_ids = torch.from_numpy(np.frombuffer(padded, np.uint8).astype(np.int64)).view(-1, longest)  # (B, L)
    return {"input_ids": input_ids, "attention_mask": (input_ids != PAD_ID).long()}


def token_ids(sequence: str, name: str) -> bytes:
    """Ids of `<cls>` + sequence + `<eos>`, a byte for each; InputError, which begins with `name`, as of `tokenize`."""
    require(sequence, f"{name} is empty; remove it")
    ids = sequence.encode("ascii", "replace").translate(_ID_OF_BYTE)
    if _NO_LETTER not in ids:  # most sequences, without special tokens
        return bytes([CLS_ID]) + ids + bytes([EOS_ID])
    tokens = split_tokens(sequence)
    for position, token in enumerate(tokens, start=1):
        if token not in _IN_STRING:
            remedy = "use upper-case one-letter codes"
            if not token.isalpha():
                remedy = f"remove it (special tokens allowed in a sequence: {' '.join(SPECIAL_TOKENS)})"
            elif token.upper() not in _IN_STRING:
                remedy = "use X for an unknown residue"
            raise InputError(f"{name}, position {position}: {token!r} is not in the alphabet; {remedy}")
    return bytes([CLS_ID, *(TOKEN_ID[token] for token in tokens), EOS_ID])
