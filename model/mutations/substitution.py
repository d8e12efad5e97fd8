"""Mutations such as `A12G` or `A12G:K5R`: the one parser, and the token rows of mutants.

The number of a residue is its position over all chains, from 1, plus an offset; or that of a structure, with its
insertion code (`A27bG`) and, where chains share numbers, their letter as in SKEMPI and FoldX (`AH27bG`: chain H). `[5]`
is position 5 of the sequence, for residues that a structure does not number. The network sees a protein of more than
`MAX_TOKENS` tokens through a window of its token row `<cls> residues <eos>`, cut as in training, without new ends.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import InputError, require, shown
from model.config import MAX_TOKENS
from model.inference.inputs import LETTERS_OF, RESIDUE_LETTERS, Protein, ResidueId, numbered_ids
from model.network.tokenizer import AMINO_ACIDS, TOKEN_ID, VOCABULARY, split_tokens, tokenize

WILD_TYPE_LABEL: Final = "wt"
WINDOW_STEP: Final = 256  # windows start at multiples of it, so that nearby mutants share one

# one letter, or three as in HGVS
_RESIDUE: Final = f"[{''.join(sorted(RESIDUE_LETTERS))}]|{'|'.join(f'{name}|{name.title()}' for name in LETTERS_OF)}"
_SITE: Final = r"[A-Za-z]?-?\d+[A-Za-z]?|\[\d+\]"
_SUBSTITUTION: Final = re.compile(rf"\s*(?:p\.)?(\()?({_RESIDUE})({_SITE})({_RESIDUE})(?(1)\))\s*")
_NO_NEW: Final = re.compile(rf"(?:p\.)?\(?(?:{_RESIDUE})[A-Za-z]?-?\d+")  # A12, p.(Ala12
_LOWER: Final = re.compile(r"\s*[a-z]-?\d+[a-z]\s*")  # k25a: neither chain nor insertion code, which have a case
_ALLELE: Final = re.compile(r"\s*p\.\[(.*)\]\s*")  # p.[Met1Ala;Lys2Arg]
BY_POSITION: Final = ", or count positions with --numbering sequence"
_CHAIN_ENDS: Final = frozenset(("<cls>", "<eos>"))


def parse_mutation(label: str) -> list[tuple[str, str, str]]:
    """(old residue, number, new residue) of each substitution of a label such as `A12G` or `A12G:K5R`.

    The number may have a chain and an insertion code. Substitutions are joined by `:`, `;` or `,`. Those of HGVS are
    read too: `p.Ala12Gly`, `p.(Ala12Gly)`. InputError for any other form, an unknown letter, an unchanged residue or a
    duplicate number. `a12g` is read as `A12G`.
    """
    found = {}
    allele = _ALLELE.fullmatch(label)
    parts = re.split("[:;,]", allele[1] if allele else label)
    for part in parts:
        require(part.strip(), f"mutation {shown(label)}: a substitution is empty; remove the extra separator")
        part = part.upper() if _LOWER.fullmatch(part) else part
        match = _SUBSTITUTION.fullmatch(part)
        old, new = (LETTERS_OF.get(match[k].upper(), match[k]) for k in (2, 4)) if match else ("", "")
        if match is None or old == new:
            raise InputError(f"mutation {shown(label)}: {shown(part)} {_fault(part, match is not None)}")
        site = re.sub(r"\d+", lambda digits: str(int(digits[0])), match[3])
        found[site] = (old, site, new)
    if len(found) < len(parts):
        raise InputError(f"mutation {shown(label)}: duplicate position; name each position once")
    return list(found.values())


def _fault(part: str, unchanged: bool) -> str:
    """Why a part of a label is no substitution, and the remedy."""
    text = part.strip().rstrip(")")
    if unchanged or text.endswith("="):
        return "leaves the amino acid unchanged; remove it"
    if text.upper().endswith(("*", "TER")):
        return "is a stop, which is not scored; remove it"
    if _NO_NEW.fullmatch(text):
        return "names no new amino acid; write it as A12G"
    return "is not a substitution such as A12G; use upper-case one-letter codes, remove insertions and deletions"


def site_names(ids: Sequence[ResidueId]) -> list[str]:
    """Number of each residue as labels have it: different for all, and with chains only where they share numbers."""
    numbers = [number.lower() for _, number in ids]
    if any(number and count > 1 for number, count in Counter(numbers).items()):
        numbers = [f"{chain}{number}" for (chain, _), number in zip(ids, numbers, strict=True)]
    counts = Counter(numbers)
    readable = re.compile("[A-Za-z]?-?[0-9]+[a-z]?")  # chains may have several letters
    return [
        name if number and counts[name] == 1 and readable.fullmatch(name) else f"[{position}]"
        for position, (name, (_, number)) in enumerate(zip(numbers, ids, strict=True), start=1)
    ]


class WildType:
    """A wild-type sequence, with the chains of a complex joined by `<eos><cls>`.

    Residues are numbered from 1 + `offset`, or as `ids` (N,) of a structure say. InputError if it is empty or contains
    an unknown letter.
    """

    def __init__(self, sequence: str, offset: int = 0, ids: Sequence[ResidueId] | None = None) -> None:
        tokenize([sequence])  # checks the letters
        self.sequence = sequence
        self.tokens = ["<cls>", *split_tokens(sequence), "<eos>"]
        self.residues = [index for index, token in enumerate(self.tokens) if token not in _CHAIN_ENDS]  # token indices
        self.of_structure = ids is not None
        ids = numbered_ids(sequence, offset) if ids is None else ids
        self.names = dict(zip(self.residues, site_names(ids), strict=True))  # of token indices
        self.chains = {index: chain for index, (chain, _) in zip(self.residues, ids, strict=True)}
        self.sites: dict[str, list[int]] = {}  # number, with or without chain -> token indices
        for position, (index, (chain, number)) in enumerate(zip(self.residues, ids, strict=True), start=1):
            keys = {f"[{position}]", *((number.lower(), f"{chain}{number.lower()}") if number else ())}
            for key in keys:
                self.sites.setdefault(key, []).append(index)

    def read(self, mutant: str) -> dict[int, str]:
        """Token index -> new token of a mutant: `wt`, substitutions in any order, or a whole sequence.

        InputError if the mutant does not fit the wild type.
        """
        text = mutant.strip()
        if text.lower() == WILD_TYPE_LABEL:
            return {}
        if not re.search(r"\d", text):
            return self._read_sequence(text)
        changes: dict[int, str] = {}
        for old, site, new in parse_mutation(text):
            index = self._find(old, site, new, text)
            require(index not in changes, f"mutation {shown(text)}: duplicate position; name each position once")
            changes[index] = new
        return changes

    def _find(self, old: str, site: str, new: str, text: str) -> int:
        """Token index of a residue; InputError if it is not there, another one, or several."""
        chain, number = (site[:1], site[1:]) if site[:1].isalpha() else ("", site)
        found = self.sites.get(chain + number.lower(), [])
        if len(found) > 1:
            fitting = [index for index in found if self.tokens[index] == old] or found
            labels = " or ".join(f"{self.tokens[index]}{self.names[index]}{new}" for index in fitting[:2])
            chains = " or ".join(self.chains[index] for index in fitting[:2])
            raise InputError(
                f"mutation {shown(text)}: {site} is the number of several residues; write the chain after the first "
                f"letter: {labels}, or choose --chain {chains}"
            )
        if not found or self.tokens[found[0]] != old:
            absent = "is not in the structure, or not resolved" if self.of_structure else "does not exist"
            what = f"is {self.tokens[found[0]]}, not {old}" if found else absent
            names = [name for name in self.names.values() if not name.startswith("[")] or ["none"]
            kind, remedy = "position", "the sequence and the offset"
            if self.of_structure:
                kind, remedy = "residue", f"the structure{BY_POSITION}"
            raise InputError(
                f"mutation {shown(text)}: {kind} {site} of the wild type {what} ({kind}s: {names[0]} to "
                f"{names[-1]}); check {remedy}"
            )
        return found[0]

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
        parts = (f"{self.tokens[index]}{self.names[index]}{new}" for index, new in changes.items())
        return ":".join(parts) or WILD_TYPE_LABEL

    def single_changes(self) -> Iterator[dict[int, str]]:
        """`read` of all substitutions of single residues by the other amino acids; not of <mask> and <unk>."""
        for index in self.residues:
            if len(old := self.tokens[index]) == 1:
                yield from ({index: new} for new in AMINO_ACIDS if new != old)

    def mutated(self, changes: dict[int, str]) -> str:
        """Sequence of a mutant."""
        return "".join([changes.get(index, token) for index, token in enumerate(self.tokens)][1:-1])


def fitting_offset(sequence: str, mutants: Iterable[str]) -> int | None:
    """The only offset at which all substitutions of a chain fit; None without one, or for fewer than two residues."""
    try:
        parsed = [part for mutant in mutants for part in parse_mutation(mutant)]
        sites = {int(site): old for old, site, _ in parsed}
    except (InputError, ValueError):  # a chain, an insertion code, or no substitution
        return None
    letters = dict(enumerate(split_tokens(sequence), start=1))
    if len(sites) < 2 or "<eos>" in letters.values():
        return None
    offsets = range(min(sites) - len(letters), min(sites))
    fitting = [k for k in offsets if all(letters.get(int(site) - k) == old for old, site, _ in parsed)]
    return fitting[0] if len(fitting) == 1 else None


class Mutants:
    """Mutants of one wild type, in order: labels, and the token ids that the network sees, one byte each.

    Mutants are labels or sequences, see `WildType.read`; None stands for all single mutants. Labels have the numbers of
    the structure if the wild type comes from one and `of_structure`. InputError if a mutant does not fit the wild type
    or a window.
    """

    def __init__(
        self,
        wild_type: str | Protein,
        mutants: Iterable[str] | None = (),
        offset: int = 0,
        of_structure: bool = False,
    ) -> None:
        protein = wild_type if isinstance(wild_type, Protein) else Protein("sequence", wild_type)
        self.name = protein.name
        self.ids = protein.structure_ids or numbered_ids(protein.sequence, offset)  # of each residue (N,)
        self.wild_type = WildType(protein.sequence, offset, protein.structure_ids if of_structure else None)
        self.labels: list[str] = []  # `A12G`, `A12G:K5R` or `wt`
        self.changed: list[tuple[int, ...]] = []  # indices of the residues that differ, in the order of the label
        self.starts: list[int] = []  # first token of each window; 0 for the wild type
        self.window = min(len(self.wild_type.tokens), MAX_TOKENS)  # tokens that the network sees
        self._wild_type_ids = bytes(TOKEN_ID[token] for token in self.wild_type.tokens)
        self._ids = bytearray()
        self._single = {index: (residue,) for residue, index in enumerate(self.wild_type.residues)}
        for changes in self.wild_type.single_changes() if mutants is None else map(self.wild_type.read, mutants):
            self._append(changes)

    def add(self, mutant: str) -> None:
        """Append a mutant."""
        self._append(self.wild_type.read(mutant))

    def _append(self, changes: dict[int, str]) -> None:
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
        parts = [self._single[index] for index in changes]
        self.changed.append(parts[0] if len(parts) == 1 else tuple(index for part in parts for index in part))
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
    return [wild_type.label(changes) for changes in wild_type.single_changes()]


def apply_mutation(wild_type: str, mutation: str) -> str:
    """Sequence of a mutant such as `A12G` or `A12G:K5R`; InputError if the mutation does not fit the wild type."""
    protein = WildType(wild_type)
    return protein.mutated(protein.read(mutation))
