"""Mutants of one wild type: read from labels such as `A12G:K5R` or whole sequences, kept in a few bytes each.

Positions count the residues of all chains from 1. Beyond `WINDOW` tokens a mutant is seen through a window of the token
row `<cls> residues <eos>`, cut as in training, without new `<cls>` and `<eos>`.
"""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_prepare.errors import InputError
from data_prepare.files import csv_pieces
from model.inference.inputs import RESIDUE_LETTERS, Protein
from model.network.tokenizer import AMINO_ACIDS, TOKEN_ID, VOCABULARY, split_tokens, tokenize

WILD_TYPE_LABEL: Final = "wt"
WINDOW: Final = 1024  # tokens seen at once, as in training
WINDOW_STEP: Final = 256  # windows start at multiples of it, so that nearby mutants share one

MUTANT_COLUMNS: Final = ("mutant", "mut_type", "mutated_sequence", "aa_seq")  # of a table, the first one counts
PROTEIN_COLUMN: Final = "protein"
ROWS_PER_PIECE: Final = 5_000  # of a table read at once

_CHAIN_ENDS: Final = ("<cls>", "<eos>")
_SUBSTITUTION: Final = re.compile(r"(.)(-?\d+)(.)")
_REMEDY: Final = {
    "*": "a stop ends the protein; leave it out",
    "-": "a deletion changes the length; leave it out",
    "J": "use X for an unknown residue",
}


class Mutants:
    """Mutants of a wild type, in order. One with a single substitution takes 13 bytes.

    Parameters
    ----------
    wild_type
        Sequence; chains of a complex are joined by `<eos><cls>`.
    offset
        Number of a residue in labels = its position + offset.

    Attributes
    ----------
    input_ids
        (T,) int64, token ids of `<cls>` wild type `<eos>`.
    residues
        Number of residues, of all chains.

    Raises
    ------
    InputError
        The wild type is empty or holds a letter that is not in the alphabet.
    """

    def __init__(self, wild_type: str, offset: int = 0) -> None:
        self.input_ids: NDArray[np.int64] = tokenize([wild_type])["input_ids"][0].numpy()  # (T,)
        self.wild_type = wild_type
        self.offset = offset
        self._wild = ["<cls>", *split_tokens(wild_type), "<eos>"]  # the token row
        self._position = [0]  # of each place in the token row
        for token in self._wild[1:]:
            self._position.append(self._position[-1] + (token not in _CHAIN_ENDS))
        self._place = {n: place for place, n in reversed(list(enumerate(self._position)))}  # of each position
        self.residues = self._position[-1]
        self._ends = array("q")  # behind the last substitution of each mutant
        self._places = array("i")  # of all substitutions, in the token row
        self._ids = array("B")  # tokens they put there

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, mutant: str) -> None:
        """Append a mutant: `wt`, substitutions joined by `:` in any order, or a whole sequence.

        Raises
        ------
        InputError
            It does not fit the wild type, or has another number of residues.
        """
        text = mutant.strip()
        if text.lower() == WILD_TYPE_LABEL:
            self._append({})
        elif re.search(r"\d", text):
            self._append(self._substitutions(text))
        else:
            self.add_sequence(text)

    def add_all_single(self) -> None:
        """Append all substitutions of single residues by the other amino acids: 19 per residue."""
        for place, old in enumerate(self._wild):
            if len(old) == 1:  # not <cls>, <eos>, <mask> or <unk>
                for letter in AMINO_ACIDS:
                    if letter != old:
                        self._append({place: TOKEN_ID[letter]})

    def add_sequence(self, sequence: str) -> None:
        """Append a mutant given as a sequence of as many residues in the same chains; errors as `add`."""
        shown = sequence if len(sequence) <= 20 else f"{sequence[:20]}..."
        if not sequence:
            raise InputError("an empty mutant; write a substitution such as A12G, wt or a sequence")
        tokens = ["<cls>", *split_tokens(sequence), "<eos>"]
        found = {place: new for place, (old, new) in enumerate(zip(self._wild, tokens, strict=False)) if old != new}
        if not TOKEN_ID.keys() >= set(found.values()):
            try:
                tokenize([sequence])
            except InputError as error:
                raise InputError(f"mutant sequence {shown}: {str(error).partition(', ')[2]}") from None
        chain_moves = any(token in _CHAIN_ENDS for place, new in found.items() for token in (self._wild[place], new))
        if len(tokens) != len(self._wild) or chain_moves:
            residues = sum(token not in _CHAIN_ENDS for token in tokens)
            raise InputError(
                f"mutant sequence {shown} has {residues} residues or other chains, the wild type has {self.residues}; "
                "leave insertions and deletions out"
            )
        self._append({place: TOKEN_ID[new] for place, new in found.items()})

    def _append(self, substitutions: dict[int, int]) -> None:
        self._places.extend(substitutions)
        self._ids.extend(substitutions.values())
        self._ends.append(len(self._places))

    def _substitutions(self, mutation: str) -> dict[int, int]:
        """Place in the token row -> new token id, in the order of the label."""
        found: dict[int, int] = {}
        for part in mutation.split(":"):
            match = _SUBSTITUTION.fullmatch(part.strip())
            if not match:
                raise InputError(f"mutation {mutation!r}: {part!r} is not of the form A12G")
            old, number, new = match[1], int(match[2]), match[3]
            position = number - self.offset
            if not 1 <= position <= self.residues:
                raise InputError(
                    f"mutation {mutation!r}: there is no position {number}; the wild type has "
                    f"{1 + self.offset}-{self.residues + self.offset}"
                )
            for letter in (old, new):
                if letter not in RESIDUE_LETTERS:
                    remedy = _REMEDY.get(letter, "use upper-case one-letter codes")
                    raise InputError(f"mutation {mutation!r}: {letter!r} is not an amino acid; {remedy}")
            place = self._place[position]
            there = self._wild[place]
            if there != old:
                raise InputError(f"mutation {mutation!r}: position {number} of the wild type is {there}, not {old}")
            if new == old:
                raise InputError(f"mutation {mutation!r}: {part.strip()} changes nothing; leave it out or write wt")
            if place in found:
                raise InputError(f"mutation {mutation!r}: position {number} appears twice; name it once")
            found[place] = TOKEN_ID[new]
        return found

    def _of(self, row: int) -> Iterator[tuple[int, int]]:
        """(place in the token row, new token id) of each substitution of a mutant."""
        part = slice(self._ends[row - 1] if row else 0, self._ends[row])
        return zip(self._places[part], self._ids[part], strict=True)

    def label(self, row: int) -> str:
        """Substitutions of a mutant joined by `:`, or `wt`."""
        words = [f"{self._wild[at]}{self._position[at] + self.offset}{VOCABULARY[new]}" for at, new in self._of(row)]
        return ":".join(words) or WILD_TYPE_LABEL

    def sequence(self, row: int) -> str:
        """Whole sequence of a mutant."""
        tokens = self._wild.copy()
        for place, new in self._of(row):
            tokens[place] = VOCABULARY[new]
        return "".join(tokens[1:-1])

    def tokens(self, rows: Sequence[int] | NDArray[np.int64], start: int, stop: int) -> Tensor:
        """Token ids of some mutants within a window: (rows, stop - start) int64."""
        ids = np.tile(self.input_ids[start:stop], (len(rows), 1))  # (B, W)
        for line, row in enumerate(rows):
            for place, new in self._of(int(row)):
                ids[line, place - start] = new
        return torch.from_numpy(ids)

    def changed(self) -> NDArray[np.bool_]:
        """(mutants,) whether a mutant differs from the wild type."""
        return np.diff(np.asarray(self._ends), prepend=0) > 0

    def window_starts(self, window: int = WINDOW, step: int = WINDOW_STEP) -> NDArray[np.int64]:
        """First token of the window through which each mutant is seen.

        The window is centred on the middle of its substitutions, then moved to the next multiple of `step`, but no
        further than its substitutions and the ends of the protein allow.

        Returns
        -------
        ndarray
            (mutants,) int64, all 0 if the whole protein fits.

        Raises
        ------
        InputError
            The substitutions of a mutant lie further apart than a window.
        """
        starts = np.zeros(len(self), np.int64)
        length = len(self.input_ids)
        changed = np.flatnonzero(self.changed())
        if length <= window or not len(changed):
            return starts
        ends = np.asarray(self._ends)
        places = np.asarray(self._places).astype(np.int64)
        firsts = np.where(changed > 0, ends[changed - 1], 0)  # first substitution of each
        low, high = np.minimum.reduceat(places, firsts), np.maximum.reduceat(places, firsts)
        if (wide := np.flatnonzero(high - low >= window)).size:
            row = int(changed[wide[0]])
            raise InputError(
                f"mutation {self.label(row)!r}: its substitutions lie {high[wide[0]] - low[wide[0]] + 1} tokens apart, "
                f"a window has {window}; leave it out or score its parts"
            )
        centred = np.rint(((low + high) / 2 - window / 2) / step).astype(np.int64) * step
        starts[changed] = np.clip(centred, 0, length - window).clip(high - window + 1, low)
        return starts

    def duplicate(self) -> tuple[int, int] | None:
        """Rows of the first mutant that was there before, and of that one; the order of substitutions is no matter."""
        ends, places, ids = (np.asarray(part) for part in (self._ends, self._places, self._ids))
        keys = np.zeros(len(self), np.uint64)
        # a mutant's key is the sum of a random number for each of its substitutions: equal mutants have equal keys
        random = np.random.default_rng(0).integers(2**64, size=(len(self.input_ids), len(VOCABULARY)), dtype=np.uint64)
        for row in range(0, len(self), ROWS_PER_PIECE):
            begin = ends[row - 1] if row else 0
            stops = ends[row : row + ROWS_PER_PIECE] - begin
            part = slice(begin, begin + stops[-1])
            sums = np.zeros(stops[-1] + 1, np.uint64)
            random[places[part], ids[part]].cumsum(out=sums[1:])  # modulo 2^64
            keys[row : row + ROWS_PER_PIECE] = np.diff(sums[stops], prepend=np.uint64(0))
        order = keys.argsort(kind="stable")
        again = order[1:][keys[order[1:]] == keys[order[:-1]]]  # ascending within equal keys
        if not len(again):
            return None
        later = int(again.min())
        return later, int(np.flatnonzero(keys == keys[later])[0])

    def check_unique(self) -> None:
        """Raise InputError if a mutant is there twice: it would count twice in the normalisation."""
        if (rows := self.duplicate()) is not None:
            later, former = rows
            raise InputError(
                f"mutant {self.label(later)} is given twice (numbers {former + 1} and {later + 1}); keep one of them"
            )

    def content(self) -> Iterator[bytes]:
        """Bytes that tell these mutants from others."""
        yield f"{self.wild_type}\n{len(self)} {len(self._places)}\n".encode()
        for values in (self._ends, self._places, self._ids):
            yield values.tobytes()


def mutants_of(wild_type: str, mutants: Sequence[str], offset: int = 0) -> Mutants:
    """Mutants given as labels or sequences."""
    result = Mutants(wild_type, offset)
    for mutant in mutants:
        result.add(mutant)
    return result


def all_single_mutants(sequence: str) -> list[str]:
    """All substitutions of single residues by the other amino acids (`M1A`, `M1C`, ...): 19 per residue."""
    mutants = Mutants(sequence)
    mutants.add_all_single()
    return [mutants.label(row) for row in range(len(mutants))]


def apply_mutation(wild_type: str, mutation: str) -> str:
    """Sequence of a mutant such as `A12G` or `A12G:K5R` (positions from 1 over the residues of all chains).

    Raises
    ------
    InputError
        The mutation has another form, names a position twice or does not fit the wild type.
    """
    mutants = Mutants(wild_type)
    mutants.add(mutation)
    return mutants.sequence(0)


def read_mutants(path: str | os.PathLike[str], proteins: Sequence[Protein], offset: int = 0) -> list[Mutants]:
    """Read mutants from a CSV, gzipped if its name ends in .gz.

    The first of these columns that is there counts: `mutant` or `mut_type` (labels such as `A12G:K5R`),
    `mutated_sequence` or `aa_seq` (whole sequences). With several proteins the column `protein` names them.

    Parameters
    ----------
    path
        The table; read piece by piece.
    proteins
        Wild types.
    offset
        As in `Mutants`.

    Returns
    -------
    list
        Mutants of each protein, possibly none.

    Raises
    ------
    InputError
        The table cannot be read, or a row does not fit.
    """
    mutants = {protein.name: Mutants(protein.sequence, offset) for protein in proteins}
    several, only = len(proteins) > 1, proteins[0].name
    try:
        for piece in csv_pieces(path, chunksize=ROWS_PER_PIECE):
            column = next((name for name in MUTANT_COLUMNS if name in piece), None)
            if column is None or (several and PROTEIN_COLUMN not in piece):
                needed = f"{PROTEIN_COLUMN}, which names one of the {len(proteins)} proteins" if column else ""
                raise InputError(f"{path}: no column {needed or ' or '.join(MUTANT_COLUMNS)}; add it")
            names = piece[PROTEIN_COLUMN] if several else [only] * len(piece)
            for line, name, mutant in zip(piece.index + 2, names, piece[column], strict=True):
                try:
                    if name not in mutants:
                        raise InputError(f"protein {name!r} is not among the {len(proteins)} that are given")
                    mutants[name].add(mutant)
                except InputError as error:
                    raise InputError(f"{path}, line {line}: {error}") from None
    except FileNotFoundError:
        raise InputError(f"{path}: no such table; give a CSV with a column {' or '.join(MUTANT_COLUMNS)}") from None
    if not any(map(len, mutants.values())):
        raise InputError(f"{path}: holds no mutant; give at least one row")
    return [mutants[protein.name] for protein in proteins]
