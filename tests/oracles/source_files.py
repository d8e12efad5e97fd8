"""Some frames of an example helix, written in the forms of the raw sources, and what an entry of a source gives."""

from __future__ import annotations

from pathlib import Path

import mdtraj
import numpy as np
from refusals import refused

from data_prepare.molecular_dynamics.features.md_features import md_features
from data_prepare.molecular_dynamics.frames.trajectory import Chunk
from data_prepare.sources.entry import Selection
from data_prepare.structure.readers import read_topology

FRAMES = 9
BREAKS = (0, 4, 7, 9)  # of the frames into three replicas
EVERYTHING = Selection()


def pdb_line(serial, name, residue, chain, number, xyz, element):
    """Line of a PDB file; residue names of four letters reach into the blank column after them."""
    padded = name if len(name) == 4 else f" {name:<3}"
    x, y, z = xyz
    return (
        f"ATOM  {serial:5d} {padded} {residue:<4}{chain}{number:4d}    "
        f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {element:>2}\n"
    )


class Helix:
    """The helix.

    Attributes
    ----------
    pdb, path
        Text of its PDB file, chain A, and the file.
    topology
        Of that file.
    nm
        (frames, atoms, 3).
    """

    def __init__(self, folder: Path, examples: Path) -> None:
        source = examples / "trajectories" / "helix_aeaaak.pdb"
        trajectory = mdtraj.load(str(source.with_suffix(".xtc")), top=str(source))[:: 80 // FRAMES][:FRAMES]
        self.pdb = source.read_text()
        self.path = folder / "helix.pdb"
        self.path.write_text(self.pdb)
        self.topology = read_topology(self.path)
        self.mdtraj = trajectory.topology
        self.nm = trajectory.xyz
        self.features = md_features(self.topology, self.save(folder / "long.xtc"))

    @property
    def angstrom(self) -> np.ndarray:
        """(frames, atoms, 3)."""
        return self.nm * np.float32(10)

    def atoms(self, frame: int) -> list[tuple]:
        """Name, element, residue name, residue number and position (Angstrom) of each atom."""
        top = self.topology
        residues = [(top.residue_names[row], int(top.residue_numbers[row])) for row in top.residue_of_atom]
        return [
            (name, element, *residue, xyz)
            for name, element, residue, xyz in zip(
                top.atom_names, top.elements, residues, self.angstrom[frame], strict=True
            )
        ]

    def save(self, path: Path, first: int = 0, last: int = FRAMES, box: float | None = None, xyz=None) -> Path:
        """Write frames, or other positions, in nm; with a cubic box if one is given."""
        path.parent.mkdir(parents=True, exist_ok=True)
        trajectory = mdtraj.Trajectory(self.nm[first:last] if xyz is None else xyz, self.mdtraj)
        if box:
            trajectory.unitcell_lengths = np.full((len(trajectory), 3), box)
            trajectory.unitcell_angles = np.full((len(trajectory), 3), 90.0)
        trajectory.save(str(path))
        return path

    def save_replicas(self, folder: Path, *names: str) -> None:
        """Write three replicas."""
        for name, first, last in zip(names, BREAKS[:-1], BREAKS[1:], strict=True):
            self.save(folder / name, first, last)

    def without_hydrogens(self) -> str:
        """PDB text of the heavy atoms."""
        return "".join(line for line in self.pdb.splitlines(True) if line[76:78].strip() != "H")


def only(entries):
    """The entry of a list of one."""
    (entry,) = entries
    return entry


def features(entry, selection=EVERYTHING):
    """Features of dynamics of an entry."""
    with entry.open(selection) as system:
        return md_features(system.topology, system.chunks)


def frames(entry, selection=EVERYTHING):
    """Numbers of the frames that are read of each replica, and all coordinates in Angstrom."""
    with entry.open(selection) as system:
        chunks = list(system.chunks)
    return [number for chunk in chunks for number in chunk.numbers], np.concatenate([c.angstrom for c in chunks])


def features_of_angstrom(topology, xyz):
    """Features of positions (frames, atoms, 3) in Angstrom."""
    return md_features(topology, [Chunk(np.arange(len(xyz)), np.asarray(xyz, np.float32), "angstrom")])


def assert_same(some, others):
    """Equal but for the order in which float64 sums over chunks are taken."""
    np.testing.assert_allclose(some.residue, others.residue, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(some.pair, others.pair, rtol=0, atol=1e-12)


def failure(entry, *named, selection=EVERYTHING):
    """Why an entry fails: one line with each of `named`."""
    return refused(lambda: features(entry, selection), *named)
