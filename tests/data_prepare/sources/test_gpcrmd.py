"""GPCRmd: systems in a membrane."""

from __future__ import annotations

import mdtraj
import numpy as np
import pytest
from source_files import BREAKS, FRAMES, assert_pooled, failure, frames, only

from data_prepare.sources.entry import Selection
from data_prepare.sources.registry import list_source

MASSES = {"H": 1.008, "C": 12.011, "N": 14.007, "O": 15.999, "P": 31.0, "CA": 40.1}
# residue name, numbers, chain, segment, atoms; ion and ligand have the names and numbers of protein
SURROUNDINGS = (
    ("LIG", [3], "A", "LIG", {"N": "N", "CA": "C", "O1": "O", "H1": "H"}),
    ("CAL", [5], "A", "ION", {"CA": "CA"}),
    ("POPC", range(1, 4), "L", "MEMB", {"N": "N", "P": "P", "C1": "C", "C11": "C", "C": "C"}),
    ("TIP3", range(1, 30), "W", "TIP3", {"OH2": "O", "H1": "H", "H2": "H"}),
)


def write(helix, folder, topology_names):
    """A system: PDB, PSF and three DCD replicas."""
    folder.mkdir()
    pdb, psf = [*helix.lines], []
    for line in helix.lines:
        psf.append(("PROA", line[22:26], line[17:21], line[12:16], MASSES[line[76:78].strip()]))
    for residue, numbers, chain, segment, names in SURROUNDINGS:
        for number in numbers:
            for name, element in names.items():
                line = f"ATOM  {len(pdb):5d} {name:>4} {residue:<4}{chain}{number:4d}    {'   1.000' * 3}"
                pdb.append(f"{line}  1.00  0.00          {element:>2}\n")
                psf.append((segment, number, residue, name, MASSES[element]))
    content = {
        ".pdb": "".join(pdb) + "END\n",
        ".psf": f"PSF EXT\n\n{len(psf)} !NATOM\n"
        + "".join("{} {} {} {} {} X1 0 {} 0\n".format(0, *atom) for atom in psf),
    }
    for name in topology_names:
        (folder / name).write_text(content[name[-4:]])
    others = np.random.default_rng(0).uniform(-20, 20, (FRAMES, len(pdb) - len(helix.lines), 3)).astype(np.float32)
    xyz = np.concatenate([helix.angstrom, others], axis=1)
    for number, first, last in zip("123", BREAKS[:-1], BREAKS[1:], strict=True):
        with mdtraj.formats.DCDTrajectoryFile(str(folder / f"run_{number}.dcd"), "w") as file:
            file.write(xyz[first:last])


@pytest.mark.parametrize("topologies", [("system.pdb",), ("system.psf",), ("a.psf", "system.pdb")])
def test_surroundings_are_left_out(tmp_path, helix, topologies):
    """Lipids, water, ion and ligand are not protein, whatever their atoms, numbers and chains are called."""
    write(helix, tmp_path / "67", topologies)
    entry = only(list_source("gpcrmd", tmp_path))
    assert (entry.name, entry.source) == ("67", "GPCRmd")
    assert entry.path.name == topologies[-1]  # PDB before PSF
    with entry.open(Selection()) as system:
        assert "CA" in system.topology.elements
        assert system.topology.protein.chain_sequences() == helix.topology.protein.chain_sequences()
        assert system.topology.protein.chain_ids == (("A",) if entry.path.suffix == ".pdb" else ("P",))
    assert_pooled(entry, helix)
    assert frames(entry, Selection(stride=3))[0] == [0, 3, 0, 0]


def test_flat_and_unclear(tmp_path):
    names = "101_dyn_67.pdb 102_dyn_67.psf 103_trj_67.dcd 104_trj_67.xtc 68_top.psf 68_run.dcd 69_top.pdb 70_run.dcd"
    for name in [*names.split(), "b/a.pdb", "b/c.pdb", "b/run.dcd"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    entries = {entry.name: entry for entry in list_source("gpcrmd", tmp_path)}
    assert [path.name for path in entries["67"].paths] == ["101_dyn_67.pdb", "103_trj_67.dcd", "104_trj_67.xtc"]
    assert [path.name for path in entries["68"].paths] == ["68_top.psf", "68_run.dcd"]
    for name, named in (("69", ".dcd"), ("70", ".psf"), ("b", "a.pdb, c.pdb")):
        failure(entries[name], tmp_path, f"entry {name}", named)
