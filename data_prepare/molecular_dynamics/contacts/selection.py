"""Selections of atoms, written with the most used words of VMD:

    chain A and resid 10 to 20 25 and not name N CA C O
    (protein and chain B) or resname LIG

    selection = term {"or" term};  term = factor {"and" factor}
    factor = "not" factor | "(" selection ")" | WORD | KEY value {value}

A number value may be a range `10 to 20`. Words and keys are in `WORDS` and `KEYS`; anything else of VMD is refused.
`protein` are the protein residues of the topology; the numbers of `index` count from 0 in the order of the file.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import InputError, InputWarning, require
from data_prepare.structure.topology import Topology

Mask = NDArray[np.bool_]  # (atoms,)

SOLVENT_NAMES: Final = "H2O HH0 OHH HOH OH2 SOL WAT TIP TIP2 TIP3 TIP4 T3P IP3".split()
LIPID_NAMES: Final = "DLPE DMPC DPPC GPC LPPC PALM PC PGCL POPC POPE".split()
NUCLEIC_NAMES: Final = "A C G U T DA DC DG DT DU ADE CYT GUA THY URA".split()
BACKBONE_NAMES: Final = ("N", "CA", "C", "O")
WORDS: Final = tuple("all none protein nucleic solv water lipid ligand backbone sidechain hydrogen noh".split())
NUMBER_KEYS: Final = ("resid", "index")
KEYS: Final = ("chain", "resname", "name", "element", *NUMBER_KEYS)
TOKEN: Final = re.compile(r'"[^"]*"|[()]|[^\s()"]+')
SHOWN: Final = 20  # names in a message


class Selections(NamedTuple):
    """The atoms between which contacts are searched: masks (atoms,)."""

    sele: Mask
    sele2: Mask | None = None  # by default those of `sele`
    ligand: Mask | None = None
    solvent: Mask | None = None  # has no hydrogen bonds of its own, but mediates bridges

    @property
    def members(self) -> Mask:
        """Atoms of both selections."""
        return self.sides[0] | self.sides[1]

    @property
    def sides(self) -> tuple[Mask, Mask]:
        """The atoms at the two sides of a contact, in any order."""
        return self.sele, self.sele if self.sele2 is None else self.sele2


def selections_of(
    topology: Topology,
    sele: str | None = None,
    sele2: str | None = None,
    ligand: str | None = None,
    solv: str | None = None,
    lipid: str | None = None,
) -> Selections | None:
    """Masks of the selections of a command, None if there are none: then contacts are those of the protein.

    InputError if one cannot be read or selects no atom.
    """
    if all(text is None for text in (sele, sele2, ligand, solv, lipid)):
        return None
    words = _words_of(topology)
    for name, text in (("solv", solv), ("lipid", lipid), ("ligand", ligand)):
        if text is not None:
            words[name] = select(topology, text, f"--{name}", words)
        if name == "lipid" and ligand is None:
            others = words["protein"] | words["nucleic"] | words["solv"] | words["lipid"]
            words["ligand"] = ~(others | topology.is_cap[topology.residue_of_atom])
    first = select(topology, "protein" if sele is None else sele, "--sele", words)
    second = None if sele2 is None or sele2 == sele else select(topology, sele2, "--sele2", words)
    result = Selections(first, second, words["ligand"], words["solv"])
    if ligand is not None and not (result.members & words["ligand"]).any():
        problem = f"--ligand {ligand}: not in --sele or --sele2; add --sele2 ligand to find its contacts"
        warnings.warn(problem, InputWarning, stacklevel=2)
    return result


def _words_of(topology: Topology) -> dict[str, Mask]:
    """Atoms of each of `WORDS`, with the default solvent and lipids; the ligand follows from the others."""
    of = topology.residue_of_atom

    def named(names: Iterable[str]) -> Mask:
        return np.isin(topology.residue_names, list(names))[of]

    protein = topology.is_protein[of]
    backbone = protein & np.isin(topology.atom_names, BACKBONE_NAMES)
    hydrogen = np.array(topology.elements) == "H"
    solvent = named(SOLVENT_NAMES)
    return {
        "all": np.ones(topology.num_atoms, np.bool_),
        "none": np.zeros(topology.num_atoms, np.bool_),
        "protein": protein,
        "nucleic": named(NUCLEIC_NAMES),
        "solv": solvent,
        "water": solvent,
        "lipid": named(LIPID_NAMES),
        "backbone": backbone,
        "sidechain": protein & ~backbone,
        "hydrogen": hydrogen,
        "noh": ~hydrogen,
    }


def select(topology: Topology, text: str, option: str, words: dict[str, Mask] | None = None) -> Mask:
    """Mask (atoms,) of a selection; InputError, naming the option, if it cannot be read or selects no atom."""
    return _Parser(topology, text, option, words or _words_of(topology)).parse()


class _Parser:
    """Recursive descent over the words of a selection."""

    def __init__(self, topology: Topology, text: str, option: str, words: dict[str, Mask]) -> None:
        self._topology = topology
        self._where = f"{option} {text}"
        self._words = words
        self._tokens = TOKEN.findall(text)
        self._at = 0

    def parse(self) -> Mask:
        result = self._either()
        if (token := self._next()) is not None:
            self._refuse(token)
        require(result.any(), f"{self._where}: selects no atom of {self._topology.path}, which has {self._content()}")
        return result

    def _content(self) -> str:
        topology = self._topology
        names = list(dict.fromkeys(topology.residue_names))
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        chains = " ".join(dict.fromkeys(chain_id or "X" for chain_id in topology.chain_ids))
        numbers = topology.residue_numbers
        return f"chain {chains}, resname {' '.join(names[:SHOWN])}{more}, resid {numbers.min()} to {numbers.max()}"

    def _refuse(self, token: str | None) -> None:
        problem = "ends too early" if token is None else f"{token!r} cannot stand here"
        known = f"and, or, not, ( ), {', '.join(WORDS)}, or a value after {', '.join(KEYS)}"
        raise InputError(f"{self._where}: {problem}; expected {known}")

    def _peek(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _next(self) -> str | None:
        token = self._peek()
        self._at += token is not None
        return token

    def _either(self) -> Mask:
        result = self._both()
        while self._peek() == "or":
            self._next()
            result = result | self._both()
        return result

    def _both(self) -> Mask:
        result = self._factor()
        while self._peek() == "and":
            self._next()
            result = result & self._factor()
        return result

    def _factor(self) -> Mask:
        token = self._next()
        if token == "not":
            return ~self._factor()
        if token == "(":
            result = self._either()
            if (end := self._next()) != ")":
                self._refuse(end)
            return result
        if token in KEYS:
            return self._matching(token, self._values())
        if token not in self._words:
            self._refuse(token)
        return self._words[str(token)]

    def _values(self) -> list[str]:
        values: list[str] = []
        while (token := self._peek()) is not None and token not in ("and", "or", "not", "(", ")", *KEYS, *WORDS):
            self._next()
            quoted = len(token) > 1 and token[0] == token[-1] and token[0] in "\"'"
            values.append(token[1:-1] if quoted else token)
        if not values:
            self._refuse(self._peek())
        return values

    def _matching(self, key: str, values: list[str]) -> Mask:
        topology, of = self._topology, self._topology.residue_of_atom
        if key == "chain":  # a blank chain is X in VMD and in labels
            letters = np.array([chain_id or "X" for chain_id in topology.chain_ids])
            return np.isin(letters, values)[topology.chain_of_residue][of]
        if key == "resname":
            return np.isin(topology.residue_names, values)[of]
        if key == "name":
            return np.isin(topology.atom_names, values)
        if key == "element":
            return np.isin(topology.elements, [value.upper() for value in values])
        numbers = topology.residue_numbers[of] if key == "resid" else topology.file_index
        result = np.zeros(topology.num_atoms, np.bool_)
        ranges = re.sub(r"(?<=\d) to (?=-?\d)", ":", " ".join(values)).split(" ")
        for part in ranges:
            match = re.fullmatch(r"(-?\d+)(?::(-?\d+))?", part)
            if match is None:
                raise InputError(f"{self._where}: {part!r} after {key}; expected numbers, or ranges such as 10 to 20")
            result |= (numbers >= int(match[1])) & (numbers <= int(match[2] or match[1]))
        return result
