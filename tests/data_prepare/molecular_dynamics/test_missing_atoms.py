"""Models without hydrogens, side chains or all but C-alpha atoms: what they carry is as with all atoms or MDTraj's."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import feature_oracle
import mdtraj
import numpy as np
import pandas as pd
import pytest
from refusals import command_refused, refused

from data_prepare.errors import InputWarning
from data_prepare.molecular_dynamics import MD_features, get_dynamic_contacts
from data_prepare.molecular_dynamics.features.carried import HYDROGEN_BONDS, OF_SIDE_CHAINS, missing_properties
from data_prepare.molecular_dynamics.features.md_features import MDFeatures, md_features
from data_prepare.molecular_dynamics.frames.trajectory import Chunk, read_chunks
from data_prepare.properties import FEATURES, MD_PROPERTIES, entry_columns
from data_prepare.structure.readers import read_topology
from data_prepare.structure.topology import Topology

BACKBONE = {"N", "CA", "C", "O", "OXT"}
# kind -> atom names (None: those of heavy atoms), missing properties
KINDS = {
    "heavy": (None, {*HYDROGEN_BONDS}),
    "C-beta": (BACKBONE | {"CB"}, {"chi", *OF_SIDE_CHAINS}),
    "backbone": (BACKBONE, {"chi", *OF_SIDE_CHAINS}),
    "no oxygen": ({"N", "CA", "C"}, {"ss", "chi", *OF_SIDE_CHAINS}),
    "C-alpha": ({"CA"}, {*MD_PROPERTIES} - {"rmsf_nor", "corr"}),
}


@pytest.fixture(scope="module")
def helix(examples):
    path = examples / "trajectories" / "helix_aeaaak.pdb"
    topology = read_topology(path)
    return topology, next(read_chunks(topology, path.with_suffix(".xtc")))


@pytest.fixture(scope="module")
def features_of_helix(helix):
    return md_features(helix[0], [helix[1]])


def atoms_of(topology: Topology, kind: str) -> np.ndarray:
    names = KINDS[kind][0]
    heavy = np.array(topology.elements) != "H"
    return np.flatnonzero(heavy if names is None else np.isin(topology.atom_names, list(names)))


def assert_missing(features: MDFeatures, missing: set[str]) -> None:
    """NaN in the columns of missing properties, and of the others only in angles that do not exist."""
    assert features.missing == tuple(name for name in MD_PROPERTIES if name in missing)
    columns, channels = entry_columns(missing)
    assert np.isnan(features.residue[:, columns]).all()
    assert np.isnan(features.pair[..., channels]).all()
    assert not np.isnan(np.delete(features.residue, columns, axis=1)).all(axis=0).any()
    assert not np.isnan(np.delete(features.pair, channels, axis=2)).any()


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_atoms_carry_is_as_with_all_atoms(helix, features_of_helix, tmp_path, kind):
    topology, chunk = helix
    atoms, missing = atoms_of(topology, kind), KINDS[kind][1]
    mdtraj.load(str(topology.path)).atom_slice(atoms).save(str(tmp_path / "part.pdb"))
    part, chunks = read_topology(tmp_path / "part.pdb"), [Chunk(chunk.numbers, chunk.xyz[:, atoms], chunk.unit)]
    with pytest.warns(InputWarning, match=str(part.path)) as noticed:
        features = md_features(part, chunks)
    assert len(noticed) == 1
    assert all(name in str(noticed[0].message) for name in missing)
    assert_missing(features, missing)
    np.testing.assert_array_equal(atoms[features.ca_atom], features_of_helix.ca_atom)
    # hydrogens shield
    columns, channels = entry_columns(set(MD_PROPERTIES) - missing - {"sasa_mean", "sasa_std"})
    np.testing.assert_array_equal(features.residue[:, columns], features_of_helix.residue[:, columns])
    np.testing.assert_array_equal(features.pair[..., channels], features_of_helix.pair[..., channels])


@pytest.mark.parametrize(
    ("kind", "missing"),
    [("heavy", KINDS["heavy"][1]), ("backbone", KINDS["C-beta"][1]), ("ca_only", KINDS["C-alpha"][1])],
)
def test_files(shared, tmp_path, kind, missing):
    """The command; values are those of MDTraj."""
    folder = shared / "cases" / "backbone_ensemble"
    pdb, xtc = folder / f"{kind}.pdb", folder / f"{kind}.xtc"
    with pytest.warns(InputWarning, match=f"{kind}.pdb"):
        MD_features.main(["-p", str(pdb), "-t", str(xtc), "-o", str(tmp_path / "x")])
    table, pair = pd.read_csv(tmp_path / "x_res_feature.csv"), np.load(tmp_path / "x_pair_feature.npz")["array"]
    np.testing.assert_allclose(pair[..., 9], feature_oracle.displacement_correlation(pdb, xtc), atol=1e-5)
    empty = table.columns[table.isna().all()]
    assert {name.split("_")[0] for name in empty} == {name.split("_")[0].replace("ss", "dssp") for name in missing} & {
        "sasa",
        "dssp",
        "chi",
        "phi",
        "psi",
    }
    if kind == "ca_only":
        frames = mdtraj.load(str(xtc), top=str(pdb))
        expected = pd.DataFrame({"rmsf": mdtraj.rmsf(frames, frames, 0)})
        tolerance = 1e-5  # it superposes in float32
    else:
        expected, tolerance = feature_oracle.residue_table(pdb, xtc).drop(columns=empty), 1e-6
    for column in expected:
        atol = 1e-3 if column.startswith("sasa") else tolerance  # rounding decides on single points
        np.testing.assert_allclose(table[column], expected[column], atol=atol, err_msg=column)


def test_some_residues_may_lack_atoms(helix, write_pdb):
    """Up to a tenth; hydrogens of one residue are not enough, polar ones are; glycine has no side chain to lack."""
    topology, _ = helix
    residue, element = topology.residue_of_atom, np.array(topology.elements)
    is_hydrogen, in_backbone = element == "H", np.isin(topology.atom_names, [*BACKBONE, "H"])
    polar = is_hydrogen & np.isin(topology.atom_names, ["H", "H1", "H2", "H3"])
    for kept, missing in (
        (~is_hydrogen | polar, set()),
        (~is_hydrogen | (residue == 3), {*HYDROGEN_BONDS}),
        (~is_hydrogen | (residue != 3), set()),
        (in_backbone | (residue > 0), set()),
        (in_backbone | (residue > 1), {*OF_SIDE_CHAINS}),  # two of 17
    ):
        assert missing_properties(topology.subset(np.flatnonzero(kept))).keys() == missing
    glycines = [
        (name, "GLY", "A", r, (3.8 * r + x, y, 0)) for r in (1, 2, 3)
        for name, x, y in (("N", -1.2, 0.5), ("CA", 0, 0), ("C", 1.2, 0.5), ("O", 1.2, 1.7))
    ]  # fmt: skip
    assert missing_properties(read_topology(write_pdb(glycines))).keys() == {*HYDROGEN_BONDS}


def test_chosen_features_that_no_atom_carries(helix):
    topology, chunk = helix
    atoms = atoms_of(topology, "backbone")
    part, chunks = topology.subset(atoms), [Chunk(chunk.numbers, chunk.xyz[:, atoms], chunk.unit)]
    refused(lambda: md_features(part, chunks, features=("sasa", "contacts")), part.path, "side chains", "sasa_mean")
    assert md_features(part, chunks, features=("ss", "corr")).missing == tuple(
        name for name in MD_PROPERTIES if name not in ("ss", "corr")
    )


@pytest.fixture
def heavy_files(helix, tmp_path, monkeypatch):
    """heavy.pdb and heavy.xtc in the current folder."""
    monkeypatch.chdir(tmp_path)
    topology, _ = helix
    frames = mdtraj.load(str(topology.path.with_suffix(".xtc")), top=str(topology.path))[:4]
    frames = frames.atom_slice(atoms_of(topology, "heavy"))
    frames.save("heavy.xtc")
    frames[0].save("heavy.pdb")
    return "heavy.pdb", "heavy.xtc"


def test_contact_files_without_hydrogen_bonds(heavy_files, capsys):
    """The remedy that get_dynamic_contacts names works; MD_features accepts the file, since no atoms carry more."""
    pdb, xtc = heavy_files
    command = ["--topology", pdb, "--trajectory", xtc, "--output", "c.tsv"]
    line = command_refused(get_dynamic_contacts.main, command, capsys, pdb, "hydrogens", "--itypes")
    types = line.partition("--itypes ")[2].split()
    get_dynamic_contacts.main([*command, "--itypes", *types])
    arrays = []
    for more in ([], ["-i", "c.tsv"]):
        with pytest.warns(InputWarning, match="hbbb, hbsb, hbss"):
            MD_features.main(["-p", pdb, "-t", xtc, "-o", "x", *more])
        arrays.append(np.load("x_pair_feature.npz")["array"])
    np.testing.assert_array_equal(*arrays)
    get_dynamic_contacts.main([*command, "--itypes", *types[1:]])
    command_refused(MD_features.main, ["-p", pdb, "-t", xtc, "-o", "y", "-i", "c.tsv"], capsys, "c.tsv", types[0])


@pytest.mark.parametrize("chosen", [("rmsf", "corr"), ("contacts",), FEATURES])
def test_properties_of_the_command(heavy_files, capsys, chosen):
    pdb, xtc = heavy_files
    with pytest.warns(InputWarning) if "contacts" in chosen else nullcontext():
        MD_features.main(["-p", pdb, "-t", xtc, "-o", "x", "--properties", *chosen])
    table = pd.read_csv("x_res_feature.csv")
    pair = np.load("x_pair_feature.npz")["array"]
    assert table["rmsf"].notna().all() == ("rmsf" in chosen)
    assert np.isfinite(pair[..., 0]).all() == ("contacts" in chosen)
    assert np.isfinite(pair[..., 9]).all() == ("corr" in chosen)
    Path("c.tsv").touch()
    words = ["-p", pdb, "-t", xtc, "-o", "y", "-i", "c.tsv", "--properties", "ss"]
    command_refused(MD_features.main, words, capsys, "--interactions", "contacts")
