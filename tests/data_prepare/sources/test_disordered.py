"""PED and IDRome: ensembles of disordered proteins."""

from __future__ import annotations

import gzip

import gemmi
import numpy as np
import pytest
from refusals import refused
from source_files import failure, frames, only

from data_prepare.molecular_dynamics.features.md_features import md_features
from data_prepare.sources.entry import Ensemble, Selection
from data_prepare.sources.registry import list_source


@pytest.mark.parametrize("form", ["pdb", "pdb.gz", "cif"])
def test_ped(tmp_path, helix, form):
    """Models are frames; all chains are read."""
    models = [f"MODEL {n:8d}\n{helix.model(n)}TER\n{helix.model(n, 'B', 12)}TER\nENDMDL\n" for n in range(3)]
    text = "".join(models) + "END\n"
    path = tmp_path / f"PED00001e001.{form}"
    if form == "cif":
        text = gemmi.read_pdb_string(text).make_mmcif_document().as_string()
    path.write_bytes(gzip.compress(text.encode()) if form == "pdb.gz" else text.encode())
    entry = only(list_source("ped", tmp_path))
    assert (entry.name, entry.source, entry.paths) == ("PED00001e001", "PED", (path,))
    with entry.open(Selection()) as system:
        assert isinstance(system, Ensemble)
        assert system.topology.protein.chain_sequences() == ["AEAAAKEAAAKEAAAKA"] * 2
    numbers, xyz = frames(entry, Selection(begin=1))
    assert numbers == [1, 2]
    both = np.concatenate([helix.angstrom, helix.angstrom + np.float32(12)], axis=1)[1:3]
    np.testing.assert_allclose(xyz, both, atol=6e-4)
    np.testing.assert_array_equal(frames(entry, Selection(chains=("B",)))[1][1:], xyz[:, len(helix.lines) :])


def test_without_hydrogens(tmp_path, helix):
    """Contacts require hydrogens: a failure, never zeros."""
    heavy = "".join(line for line in helix.lines if line[76:78].strip() != "H")
    path = tmp_path / "PED00001e001.pdb"
    path.write_text("".join(f"MODEL {n}\n{heavy}ENDMDL\n" for n in (1, 2)))
    with only(list_source("ped", tmp_path)).open(Selection()) as system:
        refused(lambda: md_features(system.topology, system.chunks), path, "hydrogens")


def test_idrome(tmp_path, helix):
    """C-alpha beads are refused with a hint; what was back-mapped beside them is read."""
    region = tmp_path / "IDRome" / "Q5" / "T7" / "B8" / "541_1292"
    helix.save(region / "traj.xtc")
    (region / "top.pdb").write_text("".join(line for line in helix.lines if line[12:16] == " CA "))
    entry = only(list_source("idrome", tmp_path / "IDRome"))
    assert (entry.name, entry.source) == ("Q5_T7_B8_541_1292", "IDRome")
    failure(entry, region / "top.pdb", "C-alpha", "cg2all", "top_AA.pdb")
    (region / "top_AA.pdb").write_text(helix.pdb)
    failure(only(list_source("idrome", tmp_path)), region / "top.pdb", "C-alpha")  # traj_AA.xtc is missing
    helix.save(region / "traj_AA.xtc")
    entry = only(list_source("idrome", region))
    assert entry.name == "541_1292"
    np.testing.assert_array_equal(frames(entry)[1], helix.angstrom)
    assert frames(entry, Selection(begin=2, end=6, stride=3))[0] == [2, 5]
    for name in ("top_AA.pdb", "traj.xtc", "traj_AA.xtc"):
        (region / name).unlink()
    failure(only(list_source("idrome", tmp_path)), region, "only top.pdb")
    (region / "top.pdb").write_text(helix.pdb)  # all atoms under the released names
    helix.save(region / "traj.xtc")
    assert frames(only(list_source("idrome", tmp_path)))[0] == list(range(9))
