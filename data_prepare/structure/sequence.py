"""Residue names -> one-letter sequences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

CHAIN_LINKER: Final = "<eos><cls>"  # between the chains in the column `modify_seq` of the training table

NAMES: Final = "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL".split()
STANDARD: Final[dict[str, str]] = dict(zip(NAMES, "ARNDCQEGHILKMFPSTWYV", strict=True))
THREE_LETTERS: Final = {letter: name for name, letter in STANDARD.items()}
ONE_LETTER: Final[dict[str, str]] = {
    **STANDARD,
    # names that force fields give to protonation states and bonded cysteines
    **dict.fromkeys(("HSD", "HSE", "HSP", "HID", "HIE", "HIP"), "H"),
    **dict.fromkeys(("HISA", "HISB", "HISD", "HISE", "HISH", "HISP", "HIST", "HIS1", "HIS2"), "H"),
    **dict.fromkeys(("CYX", "CYM", "CYN", "CYSH", "CYSS", "CYS1", "CYS2"), "C"),
    **dict.fromkeys(("ASH", "ASPH", "ASPP"), "D"),
    **dict.fromkeys(("GLH", "GLUH", "GLUP"), "E"),
    **dict.fromkeys(("LYN", "LYP", "LSN", "LYSH", "LYSN"), "K"),
    **{"ARN": "R", "ARGN": "R", "TYM": "Y"},
    # terminal residues of AMBER in GROMACS
    **{f"{end}{name}": letter for end in "NC" for name, letter in STANDARD.items()},
    **{f"{end}{name}": "H" for end in "NC" for name in ("HID", "HIE", "HIP")},
    **{"NCYX": "C", "CCYX": "C", "NLYP": "K", "CLYP": "K"},
    # modified residues
    **{"MSE": "M", "SEP": "S", "TPO": "T", "PTR": "Y", "S1P": "S", "T1P": "T", "Y1P": "Y"},
}
UNKNOWN: Final = "X"
# groups at the ends of chains: part of the molecule, but no letter of its sequence
CAPS_OF_START: Final = frozenset(("ACE", "FOR"))
CAPS_OF_END: Final = frozenset(("NME", "NMA", "NHE", "NH2"))
CAPS: Final = CAPS_OF_START | CAPS_OF_END


def one_letter_sequence(residue_names: Iterable[str]) -> str:
    """One letter per residue; X for names outside `ONE_LETTER`."""
    return "".join(ONE_LETTER.get(name, UNKNOWN) for name in residue_names)


def align_to_sequence(names: Sequence[str], numbers: Sequence[int], declared: Sequence[str]) -> list[int]:
    """Ascending index of each residue of a chain in its declared sequence, which may include unresolved residues.

    Gaps are free at the ends and where residue numbers are not consecutive. All indices are -1 if a residue has no
    match, or if more than a tenth of the matches have different names.
    """
    import gemmi  # missing on some training machines

    query = [ONE_LETTER.get(name, name) for name in declared]
    target = [ONE_LETTER.get(name, name) for name in names]
    scoring = gemmi.AlignmentScoring()
    follows = [after - before in (0, 1) for before, after in pairwise(numbers)]
    gap_open = [0, *(scoring.bad_gapo if known else 0 for known in follows), 0]
    alignment = gemmi.align_string_sequences(query, target, gap_open, scoring)
    indices: list[int] = []
    end = 0
    for length, kind in re.findall(r"(\d+)([MID])", alignment.cigar_str()):
        if kind == "D":  # a residue missing from the declared sequence
            return [-1] * len(names)
        start, end = end, end + int(length)
        if kind == "M":
            indices += range(start, end)
    same = sum(query[index] == letter for index, letter in zip(indices, target, strict=True))
    return indices if 10 * same >= 9 * len(target) else [-1] * len(names)
