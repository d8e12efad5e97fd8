"""PED: ensembles of disordered proteins, one multi-model file each (`PED00001e001.pdb`, mmCIF too, also gzipped).

The models are the frames. Many ensembles have no hydrogens: these are failures, contacts cannot be told without.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from data_prepare.sources.entry import Entry, FileEntry
from data_prepare.sources.walk import files_under, in_order, stem
from data_prepare.structure.readers import is_structure_file

SOURCE: Final = "PED"
ENSEMBLE: Final = re.compile(r"(PED\d{5}e\d{3})(?![0-9A-Za-z]).*")


def list_entries(raw: Path) -> list[Entry]:
    """One entry an ensemble, named `PED00001e001`."""
    wanted = "ensembles PED00001e001.pdb, .cif, also .gz"
    return in_order(
        (
            FileEntry(name=match[1], source=SOURCE, topology=path, trajectories=(path,))
            for path in files_under(raw, wanted)
            if is_structure_file(path) and (match := ENSEMBLE.fullmatch(stem(path)))
        ),
        raw,
        wanted,
    )
