"""IDRome: a folder per disordered region with `top.pdb` and `traj.xtc`.

The release has C-alpha beads, whose features are not those of a protein: they are refused. Back-mapped to all atoms,
`top_AA.pdb` and `traj_AA.xtc` beside them are read instead; so is a `top.pdb` with all atoms.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from data_prepare.errors import InputError
from data_prepare.sources.entry import Ensemble, Entry, FileEntry, Selection, UnusableEntry
from data_prepare.sources.walk import in_order, walk
from data_prepare.structure.topology import Structure

SOURCE: Final = "IDRome"
PAIRS: Final = (("top_AA.pdb", "traj_AA.xtc"), ("top.pdb", "traj.xtc"))  # the first that is there


def list_entries(raw: Path) -> list[Entry]:
    """One entry a region, named by its path: `Q5/T7/B8/541_1292` is `Q5_T7_B8_541_1292`."""
    wanted = "a folder per region with top_AA.pdb and traj_AA.xtc, or top.pdb and traj.xtc"
    entries: list[Entry] = []
    for folder, files in walk(raw, wanted):
        there = {path.name for path in files}
        known = [name for pair in PAIRS for name in pair if name in there]
        if not known:
            continue
        name = "_".join(folder.relative_to(raw).parts) or raw.resolve().name
        pair = next((pair for pair in PAIRS if there.issuperset(pair)), None)
        if pair is None:
            files = [folder / file for file in known]
            reason = f"{folder}: entry {name} has only {', '.join(known)}; a topology and its trajectory are needed"
            entries.append(UnusableEntry(name=name, source=SOURCE, files=tuple(files), reason=reason))
        else:
            topology, trajectory = (folder / file for file in pair)
            entries.append(RegionEntry(name=name, source=SOURCE, topology=topology, trajectories=(trajectory,)))
    return in_order(entries, raw, wanted)


@dataclass(frozen=True, kw_only=True)
class RegionEntry(FileEntry):
    """A disordered region with all atoms."""

    @contextmanager
    def open(self, selection: Selection) -> Iterator[Ensemble | Structure]:
        """Frames, unless they are C-alpha beads."""
        with super().open(selection) as system:
            if not system.topology.is_protein.any():
                raise InputError(
                    f"{self.topology}: C-alpha beads, not all atoms; back-map it with cg2all to "
                    f"{' and '.join(PAIRS[0])} in its folder"
                )
            yield system
