"""Mutations such as `A12G` or `A12G:K5R`: the one parser, and the token rows of mutants.

The number of a residue is its position over all chains, from 1, plus an offset. The network sees a protein of more than
`MAX_TOKENS` tokens through a window of its token row `<cls> residues <eos>`, cut as in training, without new ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import InputError, require, shown
from data_prepare.structure.sequence import STANDARD
from model.config import MAX_TOKENS
from model.inference.inputs import RESIDUE_LETTERS
from model.network.tokenizer import AMINO_ACIDS, TOKEN_ID, VOCABULARY, split_tokens, tokenize

WILD_TYPE_LABEL: Final = "wt"
WINDOW_STEP: Final = 256  # windows start at multiples of it, so that nearby mutants share one

# one letter, or three as in HGVS
_LETTERS_OF: Final = STANDARD | {"SEC": "U", "PYL": "O", "ASX": "B", "GLX": "Z", "XAA": "X"}
_RESIDUE: Final = f"[{''.join(sorted(RESIDUE_LETTERS))}]|{'|'.join(f'{name}|{name.title()}' for name in _LETTERS_OF)}"
_SUBSTITUTION: Final = re.compile(rf"\s*(?:p\.)?(\()?({_RESIDUE})(-?\d+)({_RESIDUE})(?(1)\))\s*")
_ALLELE: Final = re.compile(r"\s*p\.\[(.*)\]\s*")  # p.[Met1Ala;Lys2Arg]
_CHAIN_ENDS: Final = frozenset(("<cls>", "<eos>"))


def parse_mutation(label: str) -> list[tuple[str, int, str]]:
    """(old residue, number, new residue) of each substitution of a label such as `A12G` or `A12G:K5R`.

    Substitutions are joined by `:`, `;` or `,`. Those of HGVS are read too: `p.Ala12Gly`, `p.(Ala12Gly)`. InputError
    for any other form, an unknown letter, an unchanged residue or a duplicate number.
    """
    found = {}
    allele = _ALLELE.fullmatch(label)
    parts = re.split("[:;,]", allele[1] if allele else label)
    for part in parts:
        match = _SUBSTITUTION.fullmatch(part)
        old, new = (_LETTERS_OF.get(match[k].upper(), match[k]) for k in (2, 4)) if match else ("", "")
        if match is None or old == new:
            raise InputError(
                f"mutation {shown(label)}: {shown(part)} is not a substitution such as A12G; use upper-case one-letter "
                "codes, remove stops, insertions, deletions and unchanged residues"
            )
        found[int(match[3])] = (old, int(match[3]), new)
    if len(found) < len(parts):
        raise InputError(f"mutation {shown(label)}: duplicate position; name each position once")
    return list(found.values())


class WildType:
    """A wild-type sequence, with the chains of a complex joined by `<eos><cls>`.

    InputError if it is empty or contains an unknown letter.
    """

    def __init__(self, sequence: str, offset: int = 0) -> None:
        tokenize([sequence])  # checks the letters
        self.sequence, self.offset = sequence, offset
        self.tokens = ["<cls>", *split_tokens(sequence), "<eos>"]
        self.residues = [index for index, token in enumerate(self.tokens) if token not in _CHAIN_ENDS]  # token indices
        self.numbers = {index: number for number, index in enumerate(self.residues, start=1 + offset)}

    def read(self, mutant: str) -> dict[int, str]:
        """Token index -> new token of a mutant: `wt`, substitutions in any order, or a whole sequence.

        InputError if the mutant does not fit the wild type.
        """
        text = mutant.strip()
        if text.lower() == WILD_TYPE_LABEL:
            return {}
        if not re.search(r"\d", text):
            return self._read_sequence(text)
        changes = {}
        for old, number, new in parse_mutation(text):
            position = number - self.offset
            index = self.residues[position - 1] if 1 <= position <= len(self.residues) else 0
            if self.tokens[index] != old:
                found = f"is {self.tokens[index]}" if index else "does not exist"
                raise InputError(
                    f"mutation {shown(text)}: position {number} of the wild type {found}, not {old} (it has positions "
                    f"{1 + self.offset} to {len(self.residues) + self.offset}); check the sequence and the offset"
                )
            changes[index] = new
        return changes

    def _read_sequence(self, sequence: str) -> dict[int, str]:
        require(sequence, "a mutant is empty; give a label such as A12G, a sequence, or wt")
        tokens = ["<cls>", *split_tokens(sequence), "<eos>"]
        changes = {index: new for index, (old, new) in enumerate(zip(self.tokens, tokens, strict=False)) if old != new}
        if not TOKEN_ID.keys() >= set(changes.values()):
            tokenize([sequence])  # names the letter
        ends = any(_CHAIN_ENDS & {self.tokens[index], new} for index, new in changes.items())
        if len(tokens) != len(self.tokens) or ends:
            raise InputError(
                f"mutant sequence {sequence[:20]}{'...' * (len(sequence) > 20)} differs from the wild type in length "
                f"or chains ({len(tokens) - 2} and {len(self.tokens) - 2} tokens); remove insertions and deletions"
            )
        return changes

    def label(self, changes: dict[int, str]) -> str:
        """Substitutions joined by `:`, or `wt`."""
        parts = (f"{self.tokens[index]}{self.numbers[index]}{new}" for index, new in changes.items())
        return ":".join(parts) or WILD_TYPE_LABEL

    def mutated(self, changes: dict[int, str]) -> str:
        """Sequence of a mutant."""
        return "".join([changes.get(index, token) for index, token in enumerate(self.tokens)][1:-1])


class Mutants:
    """Mutants of one wild type, in order: labels, and the token ids that the network sees, one byte each.

    Mutants are labels or sequences, see `WildType.read`. InputError if one does not fit the wild type or a window.
    """

    def __init__(self, wild_type: str, mutants: Iterable[str] = (), offset: int = 0) -> None:
        self.wild_type = WildType(wild_type, offset)
        self.labels: list[str] = []  # `A12G`, `A12G:K5R` or `wt`
        self.starts: list[int] = []  # first token of each window; 0 for the wild type
        self.window = min(len(self.wild_type.tokens), MAX_TOKENS)  # tokens that the network sees
        self._wild_type_ids = bytes(TOKEN_ID[token] for token in self.wild_type.tokens)
        self._ids = bytearray()
        for mutant in mutants:
            self.add(mutant)

    def add(self, mutant: str) -> None:
        """Append a mutant."""
        changes = self.wild_type.read(mutant)
        label, start = self.wild_type.label(changes), 0
        if changes and self.window < len(self._wild_type_ids):
            first, last = min(changes), max(changes)
            if last - first >= self.window:
                raise InputError(
                    f"mutation {shown(label)}: its substitutions span {last - first + 1} tokens, the network sees "
                    f"{self.window}; remove it or score its parts"
                )
            start = window_start(first, last, len(self._wild_type_ids), self.window)
        ids = bytearray(self._wild_type_ids[start : start + self.window])
        for index, token in changes.items():
            ids[index - start] = TOKEN_ID[token]
        self.labels.append(label)
        self.starts.append(start)
        self._ids += ids

    @property
    def tokens(self) -> NDArray[np.uint8]:
        """(mutants, window) token ids; add no mutant while the array is in use."""
        return np.frombuffer(self._ids, np.uint8).reshape(len(self.labels), self.window)

    def wild_type_tokens(self, start: int) -> NDArray[np.uint8]:
        """(window,) token ids of the wild type, from token `start`."""
        return np.frombuffer(self._wild_type_ids, np.uint8)[start : start + self.window]

    def sequence(self, row: int) -> str:
        """Whole sequence of a mutant."""
        ids = bytearray(self._wild_type_ids)
        ids[self.starts[row] : self.starts[row] + self.window] = self.tokens[row].tobytes()
        return "".join(VOCABULARY[number] for number in ids[1:-1])


def window_start(first: int, last: int, length: int, window: int) -> int:
    """First token of the window through which tokens `first` to `last` of `length` are seen.

    The window is centred on them, then moved to the next multiple of `WINDOW_STEP`, but no further than they and the
    ends of the protein allow.
    """
    centred = round(((first + last) / 2 - window / 2) / WINDOW_STEP) * WINDOW_STEP
    inside = min(max(centred, 0), max(length - window, 0))
    return min(max(inside, last - window + 1), first)


def all_single_mutants(sequence: str, offset: int = 0) -> list[str]:
    """Labels of all substitutions of single residues by the other amino acids (`M1A`, `M1C`, ...): 19 per residue."""
    wild_type = WildType(sequence, offset)
    return [
        f"{old}{number}{new}"
        for index, number in wild_type.numbers.items()
        if len(old := wild_type.tokens[index]) == 1  # not <mask> or <unk>
        for new in AMINO_ACIDS
        if new != old
    ]


def apply_mutation(wild_type: str, mutation: str) -> str:
    """Sequence of a mutant such as `A12G` or `A12G:K5R`; InputError if the mutation does not fit the wild type."""
    protein = WildType(wild_type)
    return protein.mutated(protein.read(mutation))
