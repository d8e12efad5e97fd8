"""PED and IDRome: ensembles of disordered proteins."""

from __future__ import annotations

import gzip

import gemmi
import mdtraj
import numpy as np
import pytest
from source_files import assert_same, failure, features, features_of_angstrom, frames, only, pdb_line

from data_prepare.sources.entry import Ensemble, Selection
from data_prepare.sources.registry import list_source


def two_chains(helix, frame):
    """PDB text of a frame in two copies, chains A and B."""
    lines = []
    for chain, shift in (("A", 0.0), ("B", 12.0)):
        for name, element, residue, number, xyz in helix.atoms(frame):
            lines.append(pdb_line(len(lines) + 1, name, residue, chain, number, xyz + np.float32(shift), element))
        lines.append("TER\n")
    return "".join(lines)


@pytest.mark.parametrize("form", ["pdb", "pdb.gz", "cif"])
def test_ped(tmp_path, helix, form):
    """Models are frames; all chains are read."""
    text = "".join(f"MODEL {n:8d}\n{two_chains(helix, n - 1)}ENDMDL\n" for n in range(1, 4)) + "END\n"
    path = tmp_path / f"PED00001e001.{form}"
    if form == "cif":
        text = gemmi.read_pdb_string(text).make_mmcif_document().as_string()
    path.write_bytes(gzip.compress(text.encode()) if form == "pdb.gz" else text.encode())
    entry = only(list_source("ped", tmp_path))
    assert (entry.name, entry.source) == ("PED00001e001", "PED")
    assert entry.paths == (path,)
    with entry.open(Selection()) as system:
        assert isinstance(system, Ensemble)
        assert system.topology.protein.chain_sequences() == ["AEAAAKEAAAKEAAAKA"] * 2
    numbers, xyz = frames(entry, Selection(begin=1))
    assert numbers == [1, 2]
    both = np.concatenate([helix.angstrom, helix.angstrom + np.float32(12)], axis=1)[1:3]
    np.testing.assert_allclose(xyz, both, atol=6e-4)
    second = features(entry, Selection(chains=("B",)))
    expected = features_of_angstrom(helix.topology, np.round(helix.angstrom[:3] + np.float32(12), 3))
    np.testing.assert_allclose(second.pair, expected.pair, atol=1e-4)
    assert features(entry).pair.shape[0] == 2 * len(second.residue)


def test_ped_refused(tmp_path, helix):
    """Contacts require hydrogens, never zeros; fluctuations require two frames."""
    path = tmp_path / "PED00001e001.pdb"
    path.write_text("".join(f"MODEL {n}\n{helix.without_hydrogens()}ENDMDL\n" for n in (1, 2)))
    failure(only(list_source("ped", tmp_path)), path, "hydrogens")
    path.write_text(helix.pdb)
    failure(only(list_source("ped", tmp_path)), path, "at least 2 frames")


def c_alpha(helix, folder):
    """A region as released: C-alpha beads in a periodic box."""
    folder.mkdir(parents=True, exist_ok=True)
    beads = [line for line in helix.pdb.splitlines(True) if line[12:16] == " CA "]
    (folder / "top.pdb").write_text("".join(beads) + "END\n")
    atoms = [i for i, name in enumerate(helix.topology.atom_names) if name == "CA"]
    mdtraj.Trajectory(helix.nm[:, atoms], mdtraj.load_topology(str(folder / "top.pdb"))).save(str(folder / "traj.xtc"))
    return folder


def test_idrome(tmp_path, helix):
    """C-alpha beads are refused with a hint; what was back-mapped beside them is read."""
    region = c_alpha(helix, tmp_path / "IDRome" / "Q5" / "T7" / "B8" / "541_1292")
    entry = only(list_source("idrome", tmp_path / "IDRome"))
    assert (entry.name, entry.source) == ("Q5_T7_B8_541_1292", "IDRome")
    failure(entry, f"{region}/top.pdb", "C-alpha", "cg2all", "top_AA.pdb")
    (region / "top_AA.pdb").write_text(helix.pdb)
    failure(only(list_source("idrome", tmp_path)), "C-alpha")  # its trajectory is missing
    helix.save(region / "traj_AA.xtc")
    entry = only(list_source("idrome", tmp_path / "IDRome"))
    assert_same(features(entry), helix.features)
    assert frames(entry, Selection(begin=2, end=6, stride=3))[0] == [2, 5]
    assert only(list_source("idrome", region)).name == "541_1292"


def test_idrome_all_atoms_as_released(tmp_path, helix):
    (tmp_path / "top.pdb").write_text(helix.pdb)
    failure(only(list_source("idrome", tmp_path)), tmp_path, "only top.pdb")
    helix.save(tmp_path / "traj.xtc")
    assert_same(features(only(list_source("idrome", tmp_path))), helix.features)
    (tmp_path / "top.pdb").write_text(helix.without_hydrogens())
    heavy = [i for i, element in enumerate(helix.topology.elements) if element != "H"]
    mdtraj.load(str(tmp_path / "traj.xtc"), top=str(helix.path)).atom_slice(heavy).save(str(tmp_path / "traj.xtc"))
    failure(only(list_source("idrome", tmp_path)), "hydrogens")
