"""Frames of an example helix, written in the forms of the raw sources, and what an entry of a source gives."""

from __future__ import annotations

from pathlib import Path

import mdtraj
import numpy as np
from refusals import refused

from data_prepare.sources.entry import Selection
from data_prepare.structure.readers import read_topology

FRAMES = 9
BREAKS = (0, 4, 7, 9)  # of the frames into three replicas
EVERYTHING = Selection()


class Helix:
    """PDB text (chain A), topology and frames (9, atoms, 3), float32, of a helix."""

    def __init__(self, folder: Path, examples: Path) -> None:
        source = examples / "trajectories" / "helix_aeaaak.pdb"
        trajectory = mdtraj.load(str(source.with_suffix(".xtc")), top=str(source))[:: 80 // FRAMES][:FRAMES]
        self.pdb = source.read_text()
        self.topology = read_topology(source)
        self.mdtraj = trajectory.topology
        self.nm = trajectory.xyz
        self.angstrom = self.nm * np.float32(10)
        self.lines = [line for line in self.pdb.splitlines(True) if line.startswith("ATOM")]

    def model(self, frame: int, chain: str = "A", shift: float = 0.0) -> str:
        """PDB lines of a frame, moved by `shift` Angstrom."""
        xyz = self.angstrom[frame] + np.float32(shift)
        return "".join(
            f"{line[:21]}{chain}{line[22:30]}{x:8.3f}{y:8.3f}{z:8.3f}{line[54:]}"
            for line, (x, y, z) in zip(self.lines, xyz, strict=True)
        )

    def save(self, path: Path, frames: slice = slice(None), box: float | None = None, xyz=None) -> Path:
        """Write frames, or other positions, in nm; with a cubic box if one is given."""
        path.parent.mkdir(parents=True, exist_ok=True)
        trajectory = mdtraj.Trajectory((self.nm if xyz is None else xyz)[frames], self.mdtraj)
        if box:
            trajectory.unitcell_lengths = np.full((len(trajectory), 3), box)
            trajectory.unitcell_angles = np.full((len(trajectory), 3), 90.0)
        trajectory.save(str(path))
        return path

    def save_replicas(self, folder: Path, *names: str) -> None:
        """Write three replicas."""
        for name, first, last in zip(names, BREAKS[:-1], BREAKS[1:], strict=True):
            self.save(folder / name, slice(first, last))


def only(entries):
    """The entry of a list of one."""
    (entry,) = entries
    return entry


def frames(entry, selection=EVERYTHING):
    """Numbers of the frames that are read of each replica, and the positions of the protein in Angstrom."""
    with entry.open(selection) as system:
        chunks = list(system.chunks)
        atoms = system.topology.protein_atoms
    return [number for chunk in chunks for number in chunk.numbers], np.concatenate(
        [chunk.angstrom[:, atoms] for chunk in chunks]
    )


def assert_pooled(entry, helix, atol=0.0):
    """The replicas of an entry are all frames of the helix."""
    numbers, xyz = frames(entry)
    assert numbers == [0, 1, 2, 3, 0, 1, 2, 0, 1]
    np.testing.assert_allclose(xyz, helix.angstrom, rtol=0, atol=atol)


def failure(entry, *named, selection=EVERYTHING):
    """Why an entry fails: one line with each of `named`."""
    return refused(lambda: frames(entry, selection), *named)
