"""GPCRmd: systems in a membrane."""

from __future__ import annotations

import mdtraj
import numpy as np
import pytest
from source_files import BREAKS, FRAMES, assert_same, failure, features_of_angstrom, frames, only, pdb_line

from data_prepare.molecular_dynamics.features.md_features import md_features
from data_prepare.sources.entry import Selection
from data_prepare.sources.registry import list_source

MASSES = {"H": 1.008, "C": 12.011, "N": 14.007, "O": 15.999, "P": 31.0, "CA": 40.1}
# residue name, numbers, chain, segment, atoms; ion and ligand have names and numbers of protein
SURROUNDINGS = (
    ("LIG", [3], "A", "LIG", {"N": "N", "CA": "C", "O1": "O", "H1": "H"}),
    ("CAL", [5], "A", "ION", {"CA": "CA"}),
    ("POPC", range(1, 4), "L", "MEMB", {"N": "N", "P": "P", "C1": "C", "C11": "C", "C": "C"}),
    ("TIP3", range(1, 30), "W", "TIP3", {"OH2": "O", "H1": "H", "H2": "H"}),
)


def write(helix, folder, topology_names):
    """A system: PDB, PSF and three DCD replicas."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    atoms = [(residue, number, "A", "PROA", name, element) for name, element, residue, number, _ in helix.atoms(0)]
    atoms += [
        (residue, number, chain, segment, name, element)
        for residue, numbers, chain, segment, names in SURROUNDINGS
        for number in numbers
        for name, element in names.items()
    ]
    still = random.uniform(-2, 2, (len(atoms) - helix.nm.shape[1], 3))
    xyz = np.concatenate([helix.nm, still + random.normal(0, 0.1, (FRAMES, *still.shape))], axis=1).astype(np.float32)
    pdb, psf = [], []
    for serial, (residue, number, chain, segment, name, element) in enumerate(atoms, 1):
        pdb.append(pdb_line(serial, name, residue, chain, number, xyz[0, serial - 1] * 10, element))
        psf.append(f"{serial} {segment:<8} {number:<8} {residue:<8} {name:<8} X1 0.0 {MASSES[element]:10.4f} 0\n")
    for name in topology_names:
        form = "".join(pdb) + "END\n" if name.endswith(".pdb") else f"PSF EXT\n\n{len(psf)} !NATOM\n{''.join(psf)}\n"
        (folder / name).write_text(form)
    for number, first, last in zip("123", BREAKS[:-1], BREAKS[1:], strict=True):
        with mdtraj.formats.DCDTrajectoryFile(str(folder / f"run_{number}.dcd"), "w") as file:
            file.write(xyz[first:last] * 10)
    return folder


@pytest.mark.parametrize("topologies", [("system.pdb",), ("system.psf",), ("a.psf", "system.pdb")])
def test_surroundings_are_left_out(tmp_path, helix, topologies):
    """Lipids, water, ion and ligand have no features, whatever their atoms, numbers and chains are called."""
    write(helix, tmp_path / "67", topologies)
    entry = only(list_source("gpcrmd", tmp_path))
    assert (entry.name, entry.source) == ("67", "GPCRmd")
    assert entry.path.name == topologies[-1]  # PDB before PSF
    with entry.open(Selection()) as system:
        assert system.topology.num_atoms > helix.topology.num_atoms
        assert system.topology.protein.chain_sequences() == helix.topology.protein.chain_sequences()
        assert system.topology.protein.chain_ids == (("A",) if topologies[-1].endswith("pdb") else ("P",))
        assert "CA" in system.topology.elements
        made = md_features(system.topology, system.chunks)
    assert_same(made, features_of_angstrom(helix.topology, helix.nm * 10))
    assert frames(entry, Selection(stride=3))[0] == [0, 3, 0, 0]


def test_flat_and_unclear(tmp_path, helix):
    folder = write(helix, tmp_path / "system", ("system.pdb", "system.psf"))
    flat = tmp_path / "flat"
    flat.mkdir()
    for source, name in (
        ("system.pdb", "101_dyn_67.pdb"),
        ("system.psf", "102_dyn_67.psf"),
        ("run_1.dcd", "103_trj_67.dcd"),
        ("run_2.dcd", "104_trj_67.dcd"),
        ("system.psf", "68_top.psf"),
        ("run_3.dcd", "68_run.dcd"),
        ("system.pdb", "69_top.pdb"),
        ("run_3.dcd", "70_run.dcd"),
    ):
        (flat / name).write_bytes((folder / source).read_bytes())
    entries = {entry.name: entry for entry in list_source("gpcrmd", flat)}
    assert list(entries) == ["67", "68", "69", "70"]
    assert frames(entries["67"])[0] == [0, 1, 2, 3, 0, 1, 2]
    assert frames(entries["68"])[0] == [0, 1]
    failure(entries["69"], flat, "entry 69", ".dcd")
    failure(entries["70"], flat, "entry 70", ".psf")
    (folder / "crystal.pdb").write_text(helix.pdb)
    (entry,) = (entry for entry in list_source("gpcrmd", tmp_path) if entry.name == "system")
    failure(entry, folder, "entry system", "crystal.pdb, system.pdb")
