"""Any folder of structures: each PDB or mmCIF file is an entry, named by its path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from data_prepare.sources.entry import Entry, FileEntry
from data_prepare.sources.walk import files_under, joined_name
from data_prepare.structure.readers import is_structure_file

GROUP: Final = "Proteinflow"  # training group with normal modes
WANTED: Final = "PDB or mmCIF files (.pdb, .ent, .cif, .mmcif, also .gz)"


def entries(raw: Path) -> Iterator[Entry]:
    """One entry per structure file."""
    for path in filter(is_structure_file, files_under(raw)):
        yield FileEntry(name=joined_name(raw, path), source="structures", group=GROUP, path=path)
