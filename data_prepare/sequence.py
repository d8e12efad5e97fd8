"""Residue names -> one-letter sequence, and the text form of a complex."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

CHAIN_LINKER: Final = "<eos><cls>"

ONE_LETTER: Final[dict[str, str]] = {
    "ALA": "A",
    "ARG": "R",
    "ASN": "N",
    "ASP": "D",
    "CYS": "C",
    "GLN": "Q",
    "GLU": "E",
    "GLY": "G",
    "HIS": "H",
    "ILE": "I",
    "LEU": "L",
    "LYS": "K",
    "MET": "M",
    "PHE": "F",
    "PRO": "P",
    "SER": "S",
    "THR": "T",
    "TRP": "W",
    "TYR": "Y",
    "VAL": "V",
    # names that force fields give to protonation states and bonded cysteines
    "HSD": "H",
    "HSE": "H",
    "HSP": "H",
    "HID": "H",
    "HIE": "H",
    "HIP": "H",
    "CYX": "C",
    "CYM": "C",
    "ASH": "D",
    "GLH": "E",
    "LYN": "K",
    # modified residues that stand for their parent
    "MSE": "M",
    "SEP": "S",
    "TPO": "T",
    "PTR": "Y",
}
UNKNOWN: Final = "X"


def one_letter_sequence(residue_names: Iterable[str]) -> str:
    """One letter a residue; a name that is not in `ONE_LETTER` becomes X."""
    return "".join(ONE_LETTER.get(name, UNKNOWN) for name in residue_names)


def modify_seq(chains: Iterable[str]) -> str:
    """Text form of one or several chains, joined by `<eos><cls>` (column `modify_seq` of the training table)."""
    return CHAIN_LINKER.join(chains)
