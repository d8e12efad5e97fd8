"""Mutations such as `A12G` or `A12G:K5R`: the one parser, and the token rows of mutants.

Numbers count the residues of all chains from 1, plus an offset. A protein of more than `MAX_TOKENS` tokens is seen
through a window of its token row `<cls> residues <eos>`, cut as in training, without new `<cls>` and `<eos>`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prepare.errors import InputError
from model.config import MAX_TOKENS
from model.inference.inputs import RESIDUE_LETTERS
from model.network.tokenizer import AMINO_ACIDS, TOKEN_ID, VOCABULARY, split_tokens, tokenize

WILD_TYPE_LABEL: Final = "wt"
WINDOW_STEP: Final = 256  # windows start at multiples of it, so that nearby mutants share one

_LETTER: Final = f"[{''.join(sorted(RESIDUE_LETTERS))}]"
_SUBSTITUTION: Final = re.compile(rf"\s*({_LETTER})(-?\d+)({_LETTER})\s*")
_CHAIN_ENDS: Final = frozenset(("<cls>", "<eos>"))


class Substitution(NamedTuple):
    """One exchanged residue."""

    old: str
    number: int
    new: str


def parse_mutation(label: str) -> list[Substitution]:
    """Substitutions of a label such as `A12G` or `A12G:K5R`.

    InputError if it has another form, names a letter that is no residue, exchanges nothing, or repeats a position.
    """
    found = {}
    for part in label.split(":"):
        match = _SUBSTITUTION.fullmatch(part)
        if match is None or match[1] == match[3]:
            raise InputError(
                f"mutation {label!r}: {part!r} is not an exchange of residues such as A12G; use upper-case one-letter "
                "codes, remove stops, insertions, deletions and exchanges for the same residue"
            )
        found[int(match[2])] = Substitution(match[1], int(match[2]), match[3])
    if len(found) <= label.count(":"):
        raise InputError(f"mutation {label!r}: duplicate position; name each position once")
    return list(found.values())


class WildType:
    """A wild-type sequence whose residues mutations name by number.

    Parameters
    ----------
    sequence
        Chains of a complex are joined by `<eos><cls>`. InputError if it is empty or a letter is not in the alphabet.
    offset
        Number of a residue = its position + offset.
    """

    def __init__(self, sequence: str, offset: int = 0) -> None:
        tokenize([sequence])  # checks the letters
        self.sequence, self.offset = sequence, offset
        self.tokens = ["<cls>", *split_tokens(sequence), "<eos>"]
        self.places = [place for place, token in enumerate(self.tokens) if token not in _CHAIN_ENDS]  # of residues
        self.numbers = {place: number for number, place in enumerate(self.places, start=1 + offset)}

    def read(self, mutant: str) -> dict[int, str]:
        """Index in `tokens` -> new token, of a mutant: `wt`, substitutions in any order, or a whole sequence.

        InputError if the mutant does not fit the wild type.
        """
        text = mutant.strip()
        if text.lower() == WILD_TYPE_LABEL:
            return {}
        if not re.search(r"\d", text):
            return self.read_sequence(text)
        changes = {}
        for old, number, new in parse_mutation(text):
            position = number - self.offset
            place = self.places[position - 1] if 1 <= position <= len(self.places) else 0
            if self.tokens[place] != old:
                there = f"is {self.tokens[place]}" if place else "does not exist"
                raise InputError(
                    f"mutation {text!r}: position {number} of the wild type {there}, not {old} (it has positions "
                    f"{1 + self.offset} to {len(self.places) + self.offset}); check the sequence and the offset"
                )
            changes[place] = new
        return changes

    def read_sequence(self, sequence: str) -> dict[int, str]:
        """As `read`, of a mutant given as a sequence of as many residues in the same chains."""
        tokens = ["<cls>", *split_tokens(sequence), "<eos>"]
        changes = {place: new for place, (old, new) in enumerate(zip(self.tokens, tokens, strict=False)) if old != new}
        if not sequence or not TOKEN_ID.keys() >= set(changes.values()):
            tokenize([sequence])  # names the letter
        ends = _CHAIN_ENDS.intersection(changes.values()) or any(self.tokens[place] in _CHAIN_ENDS for place in changes)
        if len(tokens) != len(self.tokens) or ends:
            raise InputError(
                f"mutant sequence {sequence[:20]}{'...' * (len(sequence) > 20)} has another length or chains than the "
                f"wild type ({len(tokens) - 2} and {len(self.tokens) - 2} tokens); remove insertions and deletions"
            )
        return changes

    def label(self, changes: dict[int, str]) -> str:
        """Substitutions joined by `:`, or `wt`."""
        parts = (f"{self.tokens[place]}{self.numbers[place]}{new}" for place, new in changes.items())
        return ":".join(parts) or WILD_TYPE_LABEL

    def mutated(self, changes: dict[int, str]) -> str:
        """Sequence of a mutant."""
        return "".join(changes.get(place, token) for place, token in enumerate(self.tokens))[
            len("<cls>") : -len("<eos>")
        ]


class Mutants:
    """Mutants of one wild type, in order: a label, and the token ids seen by the network, a byte each.

    Parameters as in `WildType`.
    """

    def __init__(self, wild_type: str, offset: int = 0) -> None:
        self.wild_type = WildType(wild_type, offset)
        self.labels: list[str] = []  # `A12G`, `A12G:K5R` or `wt`
        self.window = min(len(self.wild_type.tokens), MAX_TOKENS)  # tokens that the network sees
        self._ids = bytes(TOKEN_ID[token] for token in self.wild_type.tokens)
        self._starts: list[int] = []
        self._tokens = bytearray()

    def __len__(self) -> int:
        return len(self.labels)

    def add(self, mutant: str) -> None:
        """Append a mutant as `WildType.read` takes it; InputError if it does not fit the wild type or a window."""
        self._append(self.wild_type.read(mutant))

    def add_sequence(self, sequence: str) -> None:
        """Append a mutant given as a sequence; errors as `add`."""
        self._append(self.wild_type.read_sequence(sequence))

    def _append(self, changes: dict[int, str]) -> None:
        start = 0
        label = self.wild_type.label(changes)
        if changes and self.window < len(self._ids):
            first, last = min(changes), max(changes)
            if last - first >= self.window:
                raise InputError(
                    f"mutation {label!r}: its substitutions span {last - first + 1} tokens, the network sees "
                    f"{self.window}; remove it or score its parts"
                )
            start = window_start(first, last, len(self._ids), self.window)
        row = bytearray(self._ids[start : start + self.window])
        for place, token in changes.items():
            row[place - start] = TOKEN_ID[token]
        self.labels.append(label)
        self._starts.append(start)
        self._tokens += row

    @property
    def starts(self) -> NDArray[np.int64]:
        """(mutants,) first token of the window of each; 0 if the whole protein fits and for the wild type."""
        return np.array(self._starts, np.int64)

    @property
    def tokens(self) -> NDArray[np.uint8]:
        """(mutants, window) token ids."""
        return np.frombuffer(bytes(0) if not self else self._tokens, np.uint8).reshape(len(self), self.window)

    @property
    def changed(self) -> NDArray[np.bool_]:
        """(mutants,) whether a mutant differs from the wild type."""
        return np.array([label != WILD_TYPE_LABEL for label in self.labels], bool)

    def wild_type_tokens(self, start: int) -> NDArray[np.uint8]:
        """(window,) token ids of the wild type in the window from `start` on."""
        return np.frombuffer(self._ids, np.uint8)[start : start + self.window]

    def sequence(self, row: int) -> str:
        """Whole sequence of a mutant."""
        start, stop = self._starts[row], self._starts[row] + self.window
        ids = self._ids[:start] + self._tokens[row * self.window : (row + 1) * self.window] + self._ids[stop:]
        return "".join(VOCABULARY[number] for number in ids[1:-1])

    def check_unique(self) -> None:
        """Raise InputError for a duplicate mutant, which would count twice in the normalisation."""
        keys = pd.Index([":".join(sorted(label.split(":"))) for label in self.labels])
        repeated = np.flatnonzero(keys.duplicated())
        if repeated.size:
            later = repeated[0]
            first = np.flatnonzero(keys == keys[later])[0]
            raise InputError(
                f"duplicate mutant {self.labels[later]} (numbers {first + 1} and {later + 1}); keep one of them"
            )


def mutants_of(wild_type: str, mutants: Iterable[str], offset: int = 0) -> Mutants:
    """Mutants given as labels or sequences."""
    found = Mutants(wild_type, offset)
    for mutant in mutants:
        found.add(mutant)
    return found


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
        for place, number in wild_type.numbers.items()
        if len(old := wild_type.tokens[place]) == 1  # not <mask> or <unk>
        for new in AMINO_ACIDS
        if new != old
    ]


def apply_mutation(wild_type: str, mutation: str) -> str:
    """Sequence of a mutant such as `A12G` or `A12G:K5R`; InputError if the mutation does not fit the wild type."""
    protein = WildType(wild_type)
    return protein.mutated(protein.read(mutation))
