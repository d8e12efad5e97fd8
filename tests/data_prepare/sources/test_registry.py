"""Lists of entries: folders of raw data and manifests; plain folders of structures and trajectories."""

from __future__ import annotations

import gzip
import os
import pickle

import numpy as np
import pytest
from refusals import refused
from source_files import assert_pooled, failure, frames, only

from data_prepare.errors import InputWarning
from data_prepare.properties import GROUPS, group_of
from data_prepare.sources.entry import FileEntry, Selection
from data_prepare.sources.manifest import read_manifest
from data_prepare.sources.registry import SOURCES, list_source
from data_prepare.structure.readers import read_structure
from data_prepare.structure.topology import Structure


@pytest.mark.parametrize("source", SOURCES)
def test_empty_and_missing_folders(tmp_path, source):
    (tmp_path / "notes.txt").write_text("nothing of use")
    for raw in (tmp_path, tmp_path / "none"):
        refused(lambda raw=raw: list_source(source, raw), f"{raw}: ", "expected ")
    refused(lambda: list_source("cath", tmp_path), "cath", source)


FILES = {
    "mdcath": ["data/mdcath_dataset_2a0aA00.h5", "mdcath_dataset_1a0aA00.h5"],
    "atlas": ["b/16pk_A.pdb", "b/16pk_A_R1.xtc", "1a62_A_protein.zip", "2cvi_B_R1.xtc", "3abc_A_analysis.zip"],
    "gpcrmd": ["b/x.psf", "b/x.dcd", "10_dyn_67.pdb", "11_trj_67.xtc", "12_trj_67.xtc", "68_a.pdb", "68_b.dcd"],
    "ped": ["PED00001e002.pdb.gz", "PED00001e001.cif", "PED00001e0011.pdb", "other.pdb"],
    "idrome": ["Q5/T7/B8/541_1292/top.pdb", "Q5/T7/B8/541_1292/traj.xtc", "P0/top_AA.pdb"],
    "proteinflow": ["b-1.pickle", "sabdab/a-1.pkl", "c.cif.gz", "splits_dict/train.pickle"],
    "structures": ["b/x.pdb", "a.1.ent.gz", "x.cif", ".hidden.pdb", ".hidden/a.pdb"],
    "trajectories": ["b/x.pdb", "b/x.xtc", "b/x_2.dcd", "a.psf", "a.pdb", "long-name.nc"],
}
NAMES = {
    "mdcath": ["1a0aA00_348", "2a0aA00_348"],
    "atlas": ["16pk_A", "1a62_A", "2cvi_B"],
    "gpcrmd": ["67", "68", "b"],
    "ped": ["PED00001e001", "PED00001e002"],
    "idrome": ["P0", "Q5_T7_B8_541_1292"],
    "proteinflow": ["a-1", "b-1", "c"],
    "structures": ["a.1", "b_x", "x"],
    "trajectories": ["a", "b_x"],
}


@pytest.mark.parametrize("source", SOURCES)
def test_listing_looks_at_names_alone(tmp_path, source):
    """Files with unreadable content are listed, sorted by name; entries can be pickled."""
    for name in FILES[source]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\0")
    entries = list_source(source, tmp_path)
    assert [entry.name for entry in entries] == NAMES[source]
    assert pickle.loads(pickle.dumps(entries)) == entries
    for entry in entries:
        assert group_of(entry.source, entry.group) in GROUPS
        assert entry.label == ""
        assert entry.size > 0
        assert all(path.is_file() for path in entry.paths)
        failure(entry, tmp_path)


def test_links_are_followed_once(tmp_path, helix):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.pdb").write_text(helix.pdb)
    raw = tmp_path / "raw"
    (raw / "b").mkdir(parents=True)
    os.symlink(tmp_path / "elsewhere", raw / "a")
    for name in ("circle", "another"):
        os.symlink(raw, raw / "b" / name)
    assert only(list_source("structures", raw)).name == "a_x"


def test_two_entries_of_one_name(tmp_path, helix):
    for name in ("b_c.pdb", "b/c.pdb", "b/c.cif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(helix.pdb)
    for twin in ("b_c.pdb", "b/c.pdb"):
        refused(lambda: list_source("structures", tmp_path), "b_c ", tmp_path / "b/c.cif")
        (tmp_path / twin).unlink()
    assert only(list_source("structures", tmp_path)).name == "b_c"


def test_structures(tmp_path, examples):
    (tmp_path / "a").mkdir()
    source = examples / "structures" / "1ubi_A.pdb.gz"
    (tmp_path / "a" / "1ubi.pdb.gz").write_bytes(source.read_bytes())
    (tmp_path / "two.pdb").write_bytes(gzip.decompress((examples / "structures" / "1hvr_AB.pdb.gz").read_bytes()))
    first, second = list_source("structures", tmp_path)
    assert first.name == "a_1ubi"
    topology, xyz = read_structure(source)
    with first.open(Selection()) as system:
        assert isinstance(system, Structure)
        assert system.topology.atom_names == topology.atom_names
        np.testing.assert_array_equal(system.xyz, xyz)
    with second.open(Selection(chains=("B",))) as system:
        assert system.topology.chain_ids == ("B",)
        assert len(system.xyz) == system.topology.num_atoms


def test_trajectories(tmp_path, helix):
    """Trajectories go to the topology with the longest name with which theirs begins, and are pooled."""
    sub = tmp_path / "runs"
    for name in ("x.pdb", "x.psf", "x_1.pdb", "only/top.pdb"):
        (sub / name).parent.mkdir(parents=True, exist_ok=True)
        (sub / name).write_text(helix.pdb)
    helix.save_replicas(sub, "x.xtc", "x-b.xtc", "x.c.xtc")
    helix.save(sub / "x_1_a.xtc", slice(2))
    helix.save(sub / "x_1.dcd", slice(3))
    helix.save(sub / "only" / "anything.xtc")
    entries = list_source("trajectories", tmp_path)
    assert [entry.name for entry in entries] == ["runs_only_top", "runs_x", "runs_x_1"]
    assert entries[1].path.suffix == ".pdb"
    assert [path.name for path in entries[1].trajectories] == ["x-b.xtc", "x.c.xtc", "x.xtc"]
    assert [path.name for path in entries[2].trajectories] == ["x_1.dcd", "x_1_a.xtc"]
    np.testing.assert_array_equal(frames(entries[0])[1], helix.angstrom)
    assert frames(entries[1], Selection(stride=2))[0] == [0, 2, 0, 0, 2]


@pytest.mark.parametrize("suffix", [".xtc", ".dcd"])
def test_chains_are_made_whole(tmp_path, helix, suffix):
    """Residues that left a box of 6 nm come back."""
    (tmp_path / "x.pdb").write_text(helix.pdb)
    broken = helix.nm.copy()
    broken[1:, helix.topology.residue_of_atom >= 9, 0] += 6.0
    helix.save(tmp_path / f"x_1{suffix}", box=6.0)
    helix.save(tmp_path / f"x_2{suffix}", xyz=broken, box=6.0)
    _, xyz = frames(only(list_source("trajectories", tmp_path)))
    np.testing.assert_allclose(xyz, np.concatenate([helix.angstrom, helix.angstrom]), atol=0.011)


def test_trajectories_that_are_unclear(tmp_path, helix):
    for name in ("x.pdb", "y.pdb"):
        (tmp_path / name).write_text(helix.pdb)
    helix.save(tmp_path / "x.xtc", slice(2))
    with pytest.warns(InputWarning, match=rf"{tmp_path}: .*: y\.pdb$"):
        assert only(list_source("trajectories", tmp_path)).name == "x"
    for name in ("xy.xtc", "alone/z.xtc"):  # x is not followed by a separator; no topology
        path = helix.save(tmp_path / name, slice(2))
        refused(lambda: list_source("trajectories", tmp_path), path, "manifest")
        path.unlink()


HEAD = "name,source,label,topology,trajectory\n"


def test_manifest(tmp_path, helix):
    """Several trajectories are replicas; a multi-model file is its own trajectory."""
    helix.save_replicas(tmp_path / "runs", "1.xtc", "2.xtc", "3.xtc")
    (tmp_path / "x.pdb").write_text(helix.pdb)
    (tmp_path / "m.pdb").write_text("".join(f"MODEL {n}\n{helix.pdb.replace('END', '')}ENDMDL\n" for n in (0, 1)))
    path = tmp_path / "entries.csv"
    rows = "r,mdCATH,train,x.pdb,runs/1.xtc; runs/2.xtc;runs/3.xtc\nm,PED,test,m.pdb,m.pdb\ns,Proteinflow,test,x.pdb,"
    path.write_text(HEAD + rows.replace("Proteinflow", "proteinflow_pdb"))
    pooled, ensemble, structure = read_manifest(path)
    assert all(isinstance(entry, FileEntry) for entry in (pooled, ensemble, structure))
    assert (pooled.name, pooled.source, pooled.label) == ("r", "mdCATH", "train")
    assert (ensemble.label, structure.label) == ("test", "test")
    assert_pooled(pooled, helix)
    assert frames(ensemble)[0] == [0, 1]
    with structure.open(Selection()) as system:
        assert isinstance(system, Structure)
    path.write_text(HEAD + "s,proteinflow_pdb,,x.pdb,")
    assert [entry.label for entry in read_manifest(path)] == [""]


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ("a,PED,train,x.pdb, ; ", ("line 2", "entry a")),
        ("a,proteinflow_pdb,train,x.pdb,a.xtc;b.xtc", ("line 2", "entry a")),
        ("a,PED,train,,x.xtc", ("line 2", "entry a", "topology")),
        ("r,PED,train,x.pdb,x.xtc\nr,PED,train,x.pdb,x.xtc", ("line 3", "entry r")),
        (",PED,train,x.pdb,x.xtc", ("line 2",)),
        ("a/b,PED,train,x.pdb,x.xtc", ("line 2", "entry a/b")),
        ("a,XYZ,train,x.pdb,x.xtc", ("line 2", "XYZ", "mdCATH")),
        ("a,PED,valid,x.pdb,x.xtc", ("line 2", "valid", "train")),
        ("a,PED,train,x.pdb,x.xtc\nb,PED,,x.pdb,x.xtc", ("label",)),
        ("", ()),
    ],
)
def test_manifest_refused(tmp_path, rows, named):
    path = tmp_path / "entries.csv"
    path.write_text(HEAD + rows)
    refused(lambda: read_manifest(path), path, *named)
