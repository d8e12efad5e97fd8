"""Lists of entries: folders of raw data and manifests; plain folders of structures and trajectories."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
from refusals import refused
from source_files import assert_pooled, failure, frames, only

from data_prepare.errors import InputWarning
from data_prepare.properties import GROUPS, group_of
from data_prepare.sources.entry import Selection
from data_prepare.sources.manifest import read_manifest
from data_prepare.sources.registry import SOURCES, list_source, unused_files
from data_prepare.structure.topology import Structure


@pytest.mark.parametrize("source", SOURCES)
def test_empty_and_missing_folders(tmp_path, source):
    (tmp_path / "notes.txt").write_text("nothing of use")
    for raw in (tmp_path, tmp_path / "none"):
        refused(lambda raw=raw: list_source(source, raw), f"{raw}: ", "expected ")


# source, entry and its files; those of "-" belong to no entry
FILES = """
mdcath 1a0aA00_348 mdcath_dataset_1a0aA00.h5
mdcath 2a0aA00_348 data/mdcath_dataset_2a0aA00.h5
atlas 16pk_A b/16pk_A.pdb b/16pk_A_prod_R1_fit.xtc b/16pk_A_R2.xtc
atlas 1a62_A 1a62_A_protein.zip
atlas 3abc_A 3abc_A_analysis.zip
atlas 4abc_A 4abc_A_analysis.zip
atlas - 1a62_A_analysis.zip 1a62_A_total.zip 1a62_A.pdb 16pk_A_analysis.zip b/16pk_A_prod_R2_fit.xtc 4abc_A.pdb
gpcrmd 67 10_dyn_67.pdb 11_trj_67.xtc 12_trj_67.dcd
gpcrmd 68 68_a.psf 68_b.dcd
gpcrmd b b/x.psf b/x.dcd b/y.dcd
gpcrmd - 9_dyn_67.psf notes_67.txt
ped PED00001e001 PED00001e001.cif
ped PED00001e002 PED00001e002.pdb.gz
ped - PED00001e0011.pdb other.pdb
idrome P0 P0/top_AA.pdb P0/traj_AA.xtc
idrome Q5_T7_541_1292 Q5/T7/541_1292/top.pdb Q5/T7/541_1292/traj.xtc
idrome - P0/top.pdb P0/traj.xtc Q5/T7/541_1292/top_AA.pdb
proteinflow a-1 sabdab/a-1.pkl
proteinflow b-1 b-1.pickle
proteinflow c c.cif.gz
proteinflow - splits_dict/train.pickle
structures a.1 a.1.ent.gz
structures b_x b/x.pdb
structures x x.cif
structures - .hidden.pdb .hidden/a.pdb
trajectories a a.pdb long-name.nc
trajectories b_x b/x.pdb b/x-b.xtc b/x.c.trr b/x.xtc
trajectories b_x_1 b/x_1.gro b/x_1.dcd b/x_1_a.xtc
trajectories - a.psf b/x.psf
ensembles a_b a/b/topology.pdb a/b/samples.xtc
ensembles a_c a/c/samples_md_equil.pdb a/c/samples_md_equil.xtc
ensembles a_d a/d/d_model_2.cif a/d/d_model_10.pdb
ensembles a_d_e a/d/e_model_0.cif.gz a/d/e_model_1.cif
ensembles a_x_samples a/x_samples.pdb
ensembles f f/seed-1_sample-0/model.cif f/seed-1_sample-10/model.cif f/seed-2_sample-1/model.cif
ensembles g g/pred.model_idx_0.cif g/pred.model_idx_1.cif
ensembles h h_relaxed_rank_001_x.pdb h_relaxed_rank_002_x.pdb
ensembles i i_unrelaxed_rank_001_x.pdb i_unrelaxed_rank_002_x.pdb
ensembles j j/seed-1_sample-0/j_seed-1_sample-0_model.cif
ensembles k_x k/x.pdb k/x.xtc
ensembles k_y k/y.pdb
ensembles - a/c/topology.pdb a/c/samples.xtc a/c/samples_sidechain_rec.pdb a/c/samples_sidechain_rec.xtc
ensembles - a/d/d_model_2.pdb f/f_model.cif j/j_model.cif h_unrelaxed_rank_001_x.pdb h_unrelaxed_rank_002_x.pdb
ensembles - i_relaxed_rank_001_x.pdb k/x.cif
"""


def touch(folder, names):
    for name in names.split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\0")


@pytest.mark.parametrize("source", SOURCES)
def test_listing_looks_at_names_alone(tmp_path, source):
    """Files with unreadable content are listed, sorted by name; entries can be pickled."""
    rows = [row.split() for row in FILES.splitlines() if row.startswith(f"{source} ")]
    touch(tmp_path, " ".join(name for row in rows for name in row[2:]))
    entries = list_source(source, tmp_path)
    found = [[source, entry.name, *(str(path.relative_to(tmp_path)) for path in entry.paths)] for entry in entries]
    assert found == [row for row in rows if row[1] != "-"]
    assert pickle.loads(pickle.dumps(entries)) == entries
    for entry in entries:
        assert group_of(entry.source, entry.group) in GROUPS
        assert entry.label == ""
        assert entry.size > 0
        failure(entry, tmp_path)


@pytest.mark.parametrize(
    ("source", "files", "named"),
    [
        ("atlas", "a/16pk_A.pdb", "entry 16pk_A has no 16pk_A_R1.xtc"),
        ("atlas", "a/16pk_A_R1.xtc", "entry 16pk_A has no 16pk_A.pdb"),
        ("gpcrmd", "69_top.pdb", "entry 69 has no .dcd or .xtc"),
        ("gpcrmd", "70_run.dcd", "entry 70 has no .psf or .pdb"),
        ("gpcrmd", "a/a.pdb a/b.pdb a/run.dcd", "entry a has several topologies (a.pdb, b.pdb)"),
        ("idrome", "a/top.pdb a/traj_AA.xtc", "entry a has only traj_AA.xtc, top.pdb"),
    ],
)
def test_incomplete_entries(tmp_path, source, files, named):
    """Listed, but fail with the folder and the missing file."""
    touch(tmp_path, files)
    failure(only(list_source(source, tmp_path)), (tmp_path / files.split()[0]).parent, named)


def test_links_are_followed_once(tmp_path):
    touch(tmp_path, "elsewhere/x.pdb raw/b/notes.txt")
    raw = tmp_path / "raw"
    os.symlink(tmp_path / "elsewhere", raw / "a")
    os.symlink(raw, raw / "b" / "circle")
    assert only(list_source("structures", raw)).name == "a_x"


def test_two_entries_of_one_name_fail(tmp_path):
    touch(tmp_path, "a.pdb b_c.pdb b/c.pdb b/c.cif")
    for twin in ("b_c.pdb", "b/c.pdb"):
        _, entry = list_source("structures", tmp_path)
        failure(entry, "entry b_c", tmp_path / "b/c.cif", tmp_path / twin)
        (tmp_path / twin).unlink()
    assert list_source("structures", tmp_path)[1].paths == (tmp_path / "b/c.cif",)


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


@pytest.mark.parametrize("suffix", [".xtc", ".trr", ".dcd", ".nc"])
def test_cut_replicas(tmp_path, helix, suffix):
    """The failure names the file and the range that can be read; a range beyond a shorter replica is noted."""
    (tmp_path / "x.pdb").write_text(helix.pdb)
    path = helix.save(tmp_path / f"x_1{suffix}", box=6.0)
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    entry = only(list_source("trajectories", tmp_path))
    failure(entry, path, "8 whole frames", "--end 7")
    np.testing.assert_allclose(frames(entry, Selection(end=7))[1], helix.angstrom[:8], atol=0.011)
    path.write_bytes(content)
    with pytest.warns(InputWarning, match=f"{path}: no frame 9; its last one is 8"):
        assert frames(entry, Selection(begin=7, end=9))[0] == [7, 8]


def test_trajectories_that_are_unclear(tmp_path):
    touch(tmp_path, "x.pdb y.pdb x.xtc xy.xtc alone/z.xtc b/topology.pdb b/x.pdb b/samples.xtc")
    touch(tmp_path, "c/x.pdb c/run1.xtc c/run2.xtc d/x.pdb d/x.xtc d/run.xtc")  # the only one, unless it has its own
    z, b, c, run, own, x, xy = list_source("trajectories", tmp_path)
    for entry, name in ((z, "alone_z"), (xy, "xy"), (run, "d_run")):  # no topology; x is not followed by a separator
        assert entry.name == name
        failure(entry, entry.path.parent, f"entry {name} has no topology", entry.path.name, "manifest")
    assert x.paths == (tmp_path / "x.pdb", tmp_path / "x.xtc")
    assert [len(entry.paths) for entry in (c, own)] == [3, 2]
    assert b.paths == (tmp_path / "b/topology.pdb", tmp_path / "b/samples.xtc")


def test_files_that_no_entry_uses(tmp_path):
    touch(tmp_path, "x.pdb x.xtc y.pdb b/run.log b/a.log b/c.LOG b/d.xtc.gz README .hidden.pdb")
    assert unused_files(tmp_path, list_source("trajectories", tmp_path)) == (
        "6 of 8 files are not used: 3 .log (b/a.log, b/c.LOG, ...), 1 without suffix (README), 1 .pdb (y.pdb), "
        "1 .xtc.gz (b/d.xtc.gz)"
    )
    assert unused_files(tmp_path / "b", ()).count(".log") == 2
    (tmp_path / "empty").mkdir()
    assert unused_files(tmp_path / "empty", ()) is None
    touch(tmp_path, " ".join(f"a.{k}" for k in range(9)))
    assert unused_files(tmp_path, ()).endswith("9 other kinds")


HEAD = "name,source,label,topology,trajectory\n"


def test_manifest(tmp_path, helix):
    """Several trajectories are replicas; a multi-model file is its own trajectory; a group outranks the source."""
    helix.save_replicas(tmp_path / "runs", "1.xtc", "2.xtc", "3.xtc")
    (tmp_path / "x.pdb").write_text(f"MODEL 1\n{helix.model(0)}ENDMDL\nMODEL 2\n{helix.model(1)}ENDMDL\n")
    path = tmp_path / "entries.csv"
    rows = "r,my lab,train,x.pdb,runs/1.xtc; runs/2.xtc;runs/3.xtc,IDRome\nm,PED,test,x.pdb,x.pdb,\n"
    path.write_text(f"{HEAD.strip()},group\n{rows}s,proteinflow_pdb,test,x.pdb,,")
    pooled, ensemble, structure = read_manifest(path)
    assert (pooled.name, pooled.source, pooled.label, structure.label) == ("r", "my lab", "train", "test")
    assert [entry.group for entry in (pooled, ensemble, structure)] == ["IDRome", GROUPS[0], "Proteinflow"]
    assert_pooled(pooled, helix)
    assert frames(ensemble)[0] == [0, 1]
    with structure.open(Selection()) as system:
        assert isinstance(system, Structure)
    path.write_text(HEAD + "s,proteinflow_pdb,,x.pdb,")
    assert only(read_manifest(path)).label == ""


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ("a,PED,train,x.pdb, ; ", ("line 2", "entry a")),
        ("a,proteinflow_pdb,train,x.pdb,a.xtc;b.xtc", ("line 2", "entry a")),
        ("a,PED,train,,x.xtc", ("line 2", "entry a", "topology")),
        ("r,PED,train,x.pdb,x.xtc\nr,PED,train,x.pdb,x.xtc", ("line 3", "entry r", "line 2")),
        (",PED,train,x.pdb,x.xtc", ("line 2",)),
        ("\n\na,XYZ,train,x.pdb,x.xtc", ("line 4",)),
        ("a/b,PED,train,x.pdb,x.xtc", ("line 2", "entry a/b")),
        ("a,XYZ,train,x.pdb,x.xtc", ("line 2", "XYZ", "mdCATH")),
        ("a,PED,valid,x.pdb,x.xtc", ("line 2", "valid", "train")),
        ("a,XYZ,train,x.pdb,x.xtc\n" * 4 + "b,PED,valid,x.pdb,x.xtc", ("line 2", "XYZ", "line 3", "line 4", "2 more")),
        ("a,PED,train,x.pdb,x.xtc\nb,PED,,x.pdb,x.xtc", ("label",)),
        ("", ()),
    ],
)
def test_manifest_refused(tmp_path, rows, named):
    path = tmp_path / "entries.csv"
    path.write_text(HEAD + rows)
    refused(lambda: read_manifest(path), path, *named)
    path.write_text("name,source,label,topology,trajectory,group\na,mine,train,x.pdb,,flow\n")
    refused(lambda: read_manifest(path), path, "group flow", "Proteinflow")
