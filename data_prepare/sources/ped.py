"""PED: ensembles of disordered proteins, a multi-model file each (`PED00001e001.pdb` or .cif, also gzipped).

Many ensembles have no hydrogens and therefore no hydrogen bonds; some have only backbones or C-alpha atoms.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from data_prepare.files import stem
from data_prepare.sources.entry import Entry, FileEntry
from data_prepare.sources.walk import files_under
from data_prepare.structure.readers import is_structure_file

WANTED: Final = "ensembles PED00001e001.pdb, .cif, also .gz"
ENSEMBLE: Final = re.compile(r"(PED\d{5}e\d{3})(?![0-9A-Za-z]).*")


def entries(raw: Path) -> Iterator[Entry]:
    """One entry per ensemble, named `PED00001e001`."""
    for path in filter(is_structure_file, files_under(raw)):
        if match := ENSEMBLE.fullmatch(stem(path)):
            yield FileEntry(name=match[1], source="PED", path=path, trajectories=(path,))
