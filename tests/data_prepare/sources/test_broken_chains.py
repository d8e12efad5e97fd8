"""A trajectory that its periodic box has broken, through every command, source and function."""

from __future__ import annotations

import zipfile
from functools import partial

import h5py
import numpy as np
import pandas as pd
import pytest
from source_files import only

from data_prepare.dataset.token_space import md_entry
from data_prepare.molecular_dynamics import MD_features, get_dynamic_contacts
from data_prepare.molecular_dynamics.features.md_features import md_features
from data_prepare.molecular_dynamics.frames.trajectory import Chunk
from data_prepare.pipeline.extraction import entry_features
from data_prepare.sources.entry import Selection, read_replicas
from data_prepare.sources.manifest import read_manifest
from data_prepare.sources.registry import list_source

BOX = 6.0  # nm
SUFFIXES = ("xtc", "trr", "dcd", "nc")


@pytest.fixture(scope="module")
def wrapped(helix):
    """Frames (9, atoms, 3) in nm in another place of the box each, and all atoms put into the box."""
    steps = np.linspace(0, 1, len(helix.nm))[:, None, None] * np.float32([9, 1, -7])
    whole = (helix.nm - helix.nm.mean(axis=(1, 2), keepdims=True) + steps).astype(np.float32)
    broken = (whole % BOX).astype(np.float32)
    assert (np.abs(np.diff(broken, axis=1)).max(axis=(1, 2)) > BOX / 2).sum() >= 4  # also the first frame
    return whole, broken


@pytest.fixture(scope="module")
def expected(helix, wrapped):
    """Features of the whole frames."""
    return md_features(helix.topology, [Chunk(np.arange(len(wrapped[0])), wrapped[0], "nm")])


def write_trajectories(helix, xyz, folder, suffix="xtc"):
    helix.save(folder / f"x.{suffix}", xyz=xyz, box=BOX)
    (folder / "x.pdb").write_text(helix.pdb)


def write_atlas(helix, xyz, folder):
    helix.save(folder / "16pk_A_R1.xtc", xyz=xyz, box=BOX)
    (folder / "16pk_A.pdb").write_text(helix.pdb)


def write_atlas_zip(helix, xyz, folder):
    write_atlas(helix, xyz, folder / ".unpacked")
    with zipfile.ZipFile(folder / "16pk_A_analysis.zip", "w") as archive:
        for file in (folder / ".unpacked").iterdir():
            archive.write(file, file.name)


def write_gpcrmd(helix, xyz, folder):
    helix.save(folder / "67" / "run.dcd", xyz=xyz, box=BOX)
    (folder / "67" / "system.pdb").write_text(helix.pdb)


def write_idrome(helix, xyz, folder):
    helix.save(folder / "P0" / "traj_AA.xtc", xyz=xyz, box=BOX)
    (folder / "P0" / "top_AA.pdb").write_text(helix.pdb)


def write_mdcath(helix, xyz, folder):
    with h5py.File(folder / "mdcath_dataset_1a0aA00.h5", "w") as file:
        file["1a0aA00/pdbProteinAtoms"] = helix.pdb
        file["1a0aA00/348/0/coords"] = 10 * xyz
        file["1a0aA00/348/0/box"] = BOX * np.eye(3)


SOURCES = [
    ("atlas", write_atlas),
    ("atlas", write_atlas_zip),
    ("gpcrmd", write_gpcrmd),
    ("idrome", write_idrome),
    ("mdcath", write_mdcath),
    *(("trajectories", partial(write_trajectories, suffix=suffix)) for suffix in SUFFIXES),
    ("manifest", write_trajectories),
]


def assert_same(residue, pair, expected):
    """Up to the 0.001 nm of an XTC."""
    np.testing.assert_allclose(residue, expected.residue, atol=2e-3)
    np.testing.assert_allclose(pair, expected.pair, atol=2e-3)


@pytest.mark.parametrize(("source", "write"), SOURCES)
def test_sources(tmp_path, helix, wrapped, expected, source, write):
    write(helix, wrapped[1], tmp_path)
    if source == "manifest":
        (tmp_path / "m.csv").write_text("name,source,label,topology,trajectory\nx,ATLAS,,x.pdb,x.xtc\n")
    entries = read_manifest(tmp_path / "m.csv") if source == "manifest" else list_source(source, tmp_path)
    features = entry_features(only(entries), Selection())
    length = [len(expected.ca_atom)]
    residue, pair = md_entry(expected.residue, expected.pair, length, np.arange(length[0]))
    np.testing.assert_allclose(features.residue, residue, atol=2e-3)
    np.testing.assert_allclose(features.pair, pair, atol=2e-3)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_functions_and_commands(tmp_path, helix, wrapped, expected, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    path = f"x.{suffix}"
    write_trajectories(helix, wrapped[1], tmp_path, suffix)
    for trajectory in (path, read_replicas(helix.topology, (tmp_path / path,), Selection(), [])):
        features = md_features(helix.topology, trajectory)
        assert_same(features.residue, features.pair, expected)
    get_dynamic_contacts.main(["--topology", "x.pdb", "--trajectory", path, "--output", "c.tsv", "--whole"])
    for options in ([], ["-i", "c.tsv"]):
        MD_features.main(["-p", "x.pdb", "-t", path, "-o", "x", *options])
        with np.load("x_pair_feature.npz") as arrays:
            np.testing.assert_allclose(arrays["array"], expected.pair, atol=2e-3)
        table, whole = pd.read_csv("x_res_feature.csv"), expected.table()
        np.testing.assert_allclose(table, whole, atol=2e-3)
