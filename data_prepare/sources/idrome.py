"""IDRome: a folder per disordered region with `top.pdb` and `traj.xtc`.

The release has C-alpha beads, which lack the atoms that features need and are refused. Back-mapped files `top_AA.pdb`
and `traj_AA.xtc` in the same folder take precedence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from data_prepare.errors import require
from data_prepare.sources.entry import Ensemble, Entry, FileEntry, Selection, UnusableEntry
from data_prepare.sources.walk import walk
from data_prepare.structure.topology import Structure

SOURCE: Final = "IDRome"
WANTED: Final = "a folder per region with top_AA.pdb and traj_AA.xtc, or top.pdb and traj.xtc"
PAIRS: Final = (("top_AA.pdb", "traj_AA.xtc"), ("top.pdb", "traj.xtc"))  # the first complete pair is read


def entries(raw: Path) -> Iterator[Entry]:
    """One entry per region, named by its path: `Q5/T7/B8/541_1292` is `Q5_T7_B8_541_1292`."""
    for folder, files in walk(raw):
        pairs = [[folder / name for name in pair if folder / name in files] for pair in PAIRS]
        name = "_".join(folder.relative_to(raw).parts) or raw.resolve().name
        if pair := next((pair for pair in pairs if len(pair) == 2), None):
            yield RegionEntry(name=name, source=SOURCE, path=pair[0], trajectories=(pair[1],))
        elif found := [path for pair in pairs for path in pair]:
            reason = f"has only {', '.join(path.name for path in found)}; add its topology or trajectory"
            yield UnusableEntry(name=name, source=SOURCE, path=found[0], reason=reason)


@dataclass(frozen=True, kw_only=True)
class RegionEntry(FileEntry):
    """A disordered region with all atoms."""

    @contextmanager
    def open(self, selection: Selection) -> Iterator[Ensemble | Structure]:
        """Frames; InputError if they are C-alpha beads."""
        with super().open(selection) as system:
            hint = f"back-map it with cg2all to {' and '.join(PAIRS[0])} in its folder"
            require(system.topology.is_protein.any(), f"{self.path}: C-alpha beads, not all atoms; {hint}")
            yield system
