"""Chemical shifts of the wwPDB (`1abc_cs.str`): tables outside of any saveframe, possibly in several data blocks.

These files have no sequence. It is that of the structure `1abc.cif` in the same folder (`_entity_poly_seq`, .gz too).
Without a structure, residues that have no shift at all are unknown: `X` inside the sequence, which are not evaluated,
and none at its ends.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from data_prepare.errors import InputWarning, reading, require, shown
from data_prepare.structure.sequence import UNKNOWN

LONGEST: Final = 100_000  # residues from the first with a shift to the last; titin has 35,000
BARE_TABLE: Final = re.compile(r"\s*(loop_|_(Assigned_chem_shift_list|pdbx_nmr_assigned_chem_shift_list)\.)", re.I)


def stem_of(path: Path) -> str:
    """Name of a file without the endings of NMR-STAR and of the wwPDB: `2abc` of `2abc_cs.str.gz`."""
    return re.sub(r"\.(str|star|nmrstar)(\.gz)?$", "", path.name, flags=re.IGNORECASE).removesuffix("_cs")


def is_wwpdb(text: str) -> bool:
    """Whether a table, not a saveframe, follows the name of the data block."""
    lines = (line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    return next(lines, "").startswith("data_") and bool(BARE_TABLE.match(next(lines, "")))


def wwpdb_shifts(text: str, tags: Sequence[str]) -> list[list[list[str]]]:
    """Rows of these tags of `_Atom_chem_shift` in each data block; empty where missing.

    The first tag is the entity: that of the chain, or 1, where missing.
    """
    from gemmi import cif

    tables = []
    for block in cif.read_string(text):
        found = block.find("_Atom_chem_shift.", ["ID", *(f"?{tag}" for tag in tags)])  # the first must exist
        rows = [[cif.as_string(row[k]) if row.has(k) else "" for k in range(1, len(tags) + 1)] for row in found]
        tables.append([[row[0] or row[1] or "1", *row[1:]] for row in rows])
    return tables


def wwpdb_sequences(path: Path, tables: list[list[list[str]]]) -> dict[str, dict[str, str]]:
    """Entity -> number -> component, of the structure of `path`, or else of its tables (`wwpdb_shifts`)."""
    from gemmi import cif

    from data_prepare.structure.mmcif import read_document

    code = stem_of(path)
    structures = [
        path.with_name(f"{case}.cif{gz}") for case in (code, code.upper(), code.lower()) for gz in ("", ".gz")
    ]
    sequences: dict[str, dict[str, str]] = {}
    if structure := next((file for file in structures if file.is_file()), None):
        with reading(structure, "an mmCIF file"):
            block = read_document(structure).sole_block()
            for entity, number, name in block.find("_entity_poly_seq.", ["entity_id", "num", "mon_id"]):
                sequences.setdefault(cif.as_string(entity), {})[number] = name.upper()
            if not sequences:
                raise ValueError("no _entity_poly_seq")
        return sequences
    warning = f"{path}: has no sequence, residues without any shift are X; put the structure {code}.cif beside it"
    warnings.warn(warning, InputWarning, stacklevel=2)
    seen: dict[str, dict[int, str]] = {}
    for table in tables:
        for entity, _, component, sequence_number, name, *_ in table:
            seen.setdefault(entity, {})[int(component or sequence_number)] = name.upper()
    for entity, known in seen.items():
        first, last = min(known), max(known)
        span = f"{path}: entity {entity} has residues {shown(first)} and {shown(last)}, more than {LONGEST} apart"
        require(last - first <= LONGEST, f"{span}; correct the numbers")
        numbers = range(first, last + 1)
        sequences[entity] = {str(number): known.get(number, UNKNOWN) for number in numbers}
    return sequences
