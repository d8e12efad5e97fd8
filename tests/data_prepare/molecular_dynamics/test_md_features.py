"""MD features against published files, golden files of other programs and MDTraj's plain route; invariances."""

from __future__ import annotations

from pathlib import Path

import feature_oracle
import mdtraj
import numpy as np
import pandas as pd
import pytest
from contact_systems import angstrom_chunk
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from data_prepare import memory
from data_prepare.molecular_dynamics.contacts.file_format import contact_lines
from data_prepare.molecular_dynamics.contacts.search import ContactSearch, atom_labels
from data_prepare.molecular_dynamics.features.conformation import BIN_EDGES, angle_atoms, angle_bins
from data_prepare.molecular_dynamics.features.contacts import contacts_of_file
from data_prepare.molecular_dynamics.features.md_features import BYTES_PER_PAIR, md_features
from data_prepare.molecular_dynamics.frames.frame_range import FrameRange
from data_prepare.molecular_dynamics.frames.trajectory import Chunk, first_frame, read_chunks
from data_prepare.properties import FEATURES, MD_PROPERTIES, PROPERTIES_OF_FEATURE, entry_residue_columns
from data_prepare.structure.readers import read_topology

GOLDEN = Path(__file__).resolve().parents[2] / "data" / "features"
HEADER = "# total_frames:2 beg:0 end:1 stride:1 interaction_types:hb,sb,pc,ps,ts,hp,vdw\n"


@pytest.fixture(scope="module")
def helix(examples):
    path = examples / "trajectories" / "helix_aeaaak.pdb"
    return read_topology(path), path.with_suffix(".xtc")


@pytest.fixture(scope="module")
def features_of_helix(helix):
    return md_features(*helix)


def assert_table(found, expected, tolerance, areas):
    """The published residue table; `areas` is the tolerance of areas, nm^2."""
    assert list(found.columns) == list(expected.columns)
    for column in expected:
        atol = areas if column.startswith("sasa") else tolerance
        np.testing.assert_allclose(found[column], expected[column], rtol=1e-7, atol=atol, err_msg=column)


@pytest.mark.parametrize("with_contact_file", [False, True])
def test_published_features(shared, with_contact_file):
    folder = shared / "golden" / "molecular_dynamics"
    contacts = folder / "3tvj_I_10frames_contact.tsv" if with_contact_file else None
    features = md_features(read_topology(folder / "3tvj_I.pdb"), folder / "3tvj_I_10frames.dcd", contacts)
    assert_table(features.table(), pd.read_csv(folder / "3tvj_I_res_feature.csv"), 1e-6, 5e-3)
    with np.load(folder / "3tvj_I_pair_feature.npz") as pair:
        np.testing.assert_allclose(features.pair, pair["array"], atol=1e-6)


def test_golden_features(examples):
    path = examples / "trajectories" / "2juy.pdb"
    topology, trajectory = read_topology(path), path.with_suffix(".xtc")
    features = md_features(topology, trajectory)
    assert_table(features.table(), pd.read_csv(GOLDEN / "2juy_res_feature.csv"), 1e-6, 3e-4)
    np.testing.assert_allclose(features.pair[..., 9], np.load(GOLDEN / "2juy_corr.npy"), atol=1e-6)
    search, labels = ContactSearch(topology, first_frame(topology, trajectory)), atom_labels(topology)
    found = {
        line
        for chunk in read_chunks(topology, trajectory, FrameRange(stride=16))
        for number, frame in zip(chunk.numbers, chunk.angstrom, strict=True)
        for line in contact_lines(number, search.contacts(frame), labels)
    }
    assert found == set((GOLDEN / "2juy_contacts.tsv").read_text().splitlines(keepends=True))


def test_plain_route(examples, features_of_helix):
    """MDTraj's own functions and the definition of the correlation; it superposes in float32."""
    path = examples / "trajectories" / "helix_aeaaak.pdb"
    paths = path, path.with_suffix(".xtc")
    assert_table(features_of_helix.table(), feature_oracle.residue_table(*paths), 1e-6, 3e-4)
    np.testing.assert_allclose(
        features_of_helix.pair[..., 9], feature_oracle.displacement_correlation(*paths), atol=2e-6
    )


@settings(max_examples=4, deadline=None)
@given(st.sets(st.integers(1, 39), max_size=4))
def test_chunks_change_nothing(helix, features_of_helix, cuts):
    whole = next(read_chunks(*helix))
    parts = zip(np.split(whole.numbers, sorted(cuts)), np.split(whole.xyz, sorted(cuts)), strict=True)
    features = md_features(helix[0], [Chunk(*part, whole.unit) for part in parts])
    np.testing.assert_allclose(features.pair, features_of_helix.pair, atol=1e-6)
    np.testing.assert_allclose(features.residue, features_of_helix.residue, atol=1e-6)


def test_atoms_of_a_residue_that_stand_apart(examples, helix, features_of_helix, tmp_path):
    """All heavy atoms before all hydrogens, as some programs write them."""
    topology, trajectory = helix
    lines = [line for line in topology.path.read_text().splitlines() if line.startswith("ATOM")]
    order = np.argsort(np.array(topology.elements) == "H", kind="stable")
    (tmp_path / "t.pdb").write_text("\n".join([*(lines[index] for index in order), "END"]))
    frames = mdtraj.load(str(trajectory), top=str(topology.path))
    mdtraj.Trajectory(frames.xyz[:, order], frames.topology).save_xtc(str(tmp_path / "t.xtc"))
    features = md_features(read_topology(tmp_path / "t.pdb"), tmp_path / "t.xtc")
    np.testing.assert_array_equal(order[features.ca_atom], features_of_helix.ca_atom)
    np.testing.assert_allclose(features.residue, features_of_helix.residue, atol=1e-6)
    np.testing.assert_allclose(features.pair, features_of_helix.pair, atol=1e-6)


def test_caps_belong_to_the_molecule(examples, tmp_path):
    """They shield, and phi of the first and psi of the last residue exist; no row and no contact is theirs."""
    path = examples / "trajectories" / "helix_aeaaak.pdb"
    lines, atoms = feature_oracle.capped(path.read_text())
    (tmp_path / "c.pdb").write_text("\n".join([*lines, "END"]))
    frames = mdtraj.load(str(path.with_suffix(".xtc")), top=str(path)).atom_slice(atoms)
    frames.save_xtc(str(tmp_path / "c.xtc"))
    topology = read_topology(tmp_path / "c.pdb")
    features = md_features(topology, tmp_path / "c.xtc")
    assert_table(features.table(), feature_oracle.residue_table(tmp_path / "c.pdb", tmp_path / "c.xtc"), 1e-6, 3e-4)
    assert np.isfinite(features.table()[["phi_0", "psi_0"]]).all(axis=None)
    bare = md_features(topology.protein, [angstrom_chunk(10 * frames.xyz[:, topology.protein_atoms])])
    np.testing.assert_allclose(features.pair, bare.pair, atol=1e-6)


@settings(max_examples=6, deadline=None)
@given(st.sets(st.sampled_from(FEATURES)))
def test_chosen_features_are_as_with_all_others(helix, features_of_helix, chosen):
    """Properties of the others are missing; together the features cover all properties."""
    features = md_features(*helix, features=chosen)
    missing = {name for feature in set(FEATURES) - chosen for name in PROPERTIES_OF_FEATURE[feature]}
    assert features.missing == tuple(name for name in MD_PROPERTIES if name in missing)
    for feature, names in PROPERTIES_OF_FEATURE.items():
        for columns in [entry_residue_columns(name) for name in names if feature not in ("contacts", "corr")]:
            expected = features_of_helix.residue[:, columns] if feature in chosen else np.nan
            np.testing.assert_allclose(features.residue[:, columns], expected, atol=1e-12, err_msg=feature)
    present = np.repeat(["contacts" in chosen, "corr" in chosen], [9, 1])
    expected = np.where(present, features_of_helix.pair, np.nan)
    np.testing.assert_allclose(features.pair, expected, atol=1e-7)
    assert sorted(name for names in PROPERTIES_OF_FEATURE.values() for name in names) == sorted(MD_PROPERTIES)


def test_angles_stop_at_chain_ends(write_pdb):
    names = ("N", "CA", "C", "O", "CB", "OG1")
    atoms = [(n, "THR", c, r, (3 * r, i, ord(c))) for c in "AB" for r in (1, 2) for i, n in enumerate(names)]
    none = [-1] * 4
    assert {angle: rows.tolist() for angle, rows in angle_atoms(read_topology(write_pdb(atoms))).items()} == {
        "chi": [[k, k + 1, k + 4, k + 5] for k in (0, 6, 12, 18)],
        "phi": [none, [2, 6, 7, 8], none, [14, 18, 19, 20]],
        "psi": [[0, 1, 2, 6], none, [12, 13, 14, 18], none],
    }


def test_angles_stop_at_gaps_of_a_chain(helix, features_of_helix):
    """phi and psi need a peptide bond, whatever the numbers of the residues are."""
    topology, trajectory = helix
    xyz = next(read_chunks(topology, trajectory)).angstrom
    kept = np.flatnonzero(~np.isin(topology.residue_of_atom, (6, 7, 8)))
    features = md_features(topology.subset(kept), [angstrom_chunk(xyz[:, kept])], features=("dihedrals",))
    expected = np.delete(features_of_helix.residue, (6, 7, 8), axis=0)
    expected[5, entry_residue_columns("psi")] = expected[6, entry_residue_columns("phi")] = np.nan
    for angle in ("chi", "phi", "psi"):
        columns = entry_residue_columns(angle)
        np.testing.assert_array_equal(features.residue[:, columns], expected[:, columns])


def test_secondary_structure_is_that_of_the_backbone_alone(helix):
    """A residue without an oxygen, and another last atom: it is no neighbour of the residue after."""
    topology, trajectory = helix
    xyz = next(read_chunks(topology, trajectory)).angstrom
    carbon, oxygen = (topology.atoms_by_name[8][name] for name in ("C", "O"))
    kept = np.setdiff1d(np.arange(topology.num_atoms), oxygen)
    assert topology.atom_names[kept[-1]] == "OXT"
    found = []
    for toward in (1, -1):
        moved = xyz.copy()
        moved[:, kept[-1]] = xyz[:, carbon] + toward * (xyz[:, oxygen] - xyz[:, carbon])
        features = md_features(topology.subset(kept), [angstrom_chunk(moved[:, kept])], features=("ss",))
        found.append(features.residue[:, entry_residue_columns("ss")])
    np.testing.assert_array_equal(*found)
    assert found[0][8, -1] == 1  # blank
    assert (found[0][2:8, 0:7].sum(axis=1) > 0.5).all()


@settings(max_examples=50, deadline=None)
@given(st.floats(-3.140625, 3.140625, width=32))
def test_bins_are_those_of_a_histogram(angle):
    assert angle_bins(np.array([angle]))[0] == np.histogram([np.float64(angle)], BIN_EDGES)[0].argmax()


def test_edges_and_ends_of_the_bins():
    assert angle_bins(BIN_EDGES).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 11]
    above = np.nextafter(np.float32(np.pi), np.float32(4))
    assert angle_bins(np.float32([np.pi, -np.pi, above, -above])).tolist() == [11, 0, 11, 0]


def test_water_is_ignored(examples, helix, tmp_path):
    """After or before the protein; C-alpha indices are those in the file."""
    topology, trajectory = helix
    xyz = next(read_chunks(topology, trajectory, size=5)).angstrom
    dry = md_features(topology, [angstrom_chunk(xyz)])
    text = (examples / "trajectories" / "helix_aeaaak.pdb").read_text().split("TER")[0]
    water = "".join(
        f"HETATM{9000 + i:5d}  {name:<3} HOH W{1:4d}    {60 + i:8.3f}{0:8.3f}{0:8.3f}  1.00  0.00           {name[0]}\n"
        for i, name in enumerate(("O", "H1", "H2"))
    )
    wet_xyz = np.concatenate([xyz, np.full((5, 3, 3), 60.0) + np.arange(3)[:, None]], axis=1)
    path = tmp_path / "wet.pdb"
    for parts, shift in (((text, water), 0), ((water, text), 3)):
        path.write_text("TER\n".join(parts) + "END\n")
        wet = md_features(read_topology(path), [angstrom_chunk(np.roll(wet_xyz, shift, axis=1))])
        np.testing.assert_array_equal(wet.ca_atom, dry.ca_atom + shift)
        np.testing.assert_array_equal(wet.residue, dry.residue)
        np.testing.assert_array_equal(wet.pair, dry.pair)


def test_input_that_has_no_features(helix, write_pdb):
    """Too few frames, no protein."""
    topology, trajectory = helix
    chunk = next(read_chunks(topology, trajectory, size=3))
    one = Chunk(chunk.numbers[:1], chunk.xyz[:1], chunk.unit)
    refused(lambda: md_features(topology, [one]), topology.path, "2 frames")
    refused(lambda: md_features(topology, []), topology.path, "2 frames")
    beads = read_topology(write_pdb([("BB", "ALA", "A", r, (3.8 * r, 0, 0)) for r in range(1, 4)]))
    refused(lambda: md_features(beads, [angstrom_chunk(np.zeros((2, 3, 3)))]), beads.path, "0 residues")


def test_memory_is_checked_before_a_frame_is_read(helix, monkeypatch):
    topology, trajectory = helix
    needed = BYTES_PER_PAIR * 17**2
    md_features(topology, trajectory, available=needed)
    refused(lambda: md_features(topology, iter(int, 1), available=needed - 1), topology.path, "17 residues")
    monkeypatch.setattr(memory, "available_memory", lambda: 10)
    refused(lambda: md_features(topology, iter(int, 1)), topology.path, "17 residues")


# ---- contact files --------------------------------------------------------------------------------------------------


def contact_system(write_pdb, residues, others=()):
    atoms = [(n, "ALA", "A", r, (i, r, 0), {"icode": c}) for r, c in residues for i, n in enumerate(("N", "CA", "C"))]
    return read_topology(write_pdb([*atoms, *others]))


def test_contacts_of_a_file_are_one_sided(write_pdb, tmp_path):
    path = tmp_path / "c.tsv"
    others = (  # ligands and water, and interactions of other programs
        "1\twb\tA:ALA:1:N\tA:ALA:1A:N\tW:HOH:9:O",
        "1\tlwb2\tA:ALA:1:N\tA:LIG:7:O1\tW:HOH:9:O\tW:HOH:8:O\t3.021",
        *(f"0\t{kind}\tA:ALA:1:CB\tA:LIG:7:C1" for kind in ("hblb", "hbls", "sbpl", "hplp", "water", "vdw", "sb")),
        *(f"0\t{kind}\tA:LIG:7:C2\tA:LIG:7:C1" for kind in ("hbll", "sblp", "hpll", "vdw")),
        "0\tvdw\tA:ALA:1:CB\tX:GLY:500:N",  # a free amino acid
    )
    lines = ("0\tvdw\tA:ALA:1:CA\tA:ALA:1A:CA", "1\tvdw\tA:ALA:1:C\tA:ALA:1A:CA", "1\thbbb\tA:ALA:1A:N\tA:ALA:1:N")
    path.write_text(HEADER + "# Columns\n" + "\n".join(others + lines) + "\n")
    expected = np.zeros((2, 2, 10))
    expected[0, 1, 0] = 1.0
    expected[1, 0, 1] = 0.5
    topology = contact_system(write_pdb, ((1, " "), (1, "A")), [("N", "GLY", " ", 500, (0, 50, 0))])
    np.testing.assert_array_equal(contacts_of_file(topology, path, range(2)), expected)


LINE = "0\tvdw\tA:ALA:1:CA\tA:ALA:2:CA\n"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "total_frames"),
        (LINE, "total_frames"),
        (HEADER.replace("frames:2", "frames:x"), "total_frames"),
        (HEADER.replace("end:1", f"end:{10**400}"), "total_frames"),
        (HEADER.replace("hb,sb,", ""), "hbbb, hbsb, hbss, sb"),
        (HEADER.replace("frames:2", "frames:0"), "0 frames from 0 to 1"),
        (HEADER.replace("frames:2", "frames:3"), "3 frames from 0 to 1"),
        (HEADER.replace("stride:1", "stride:2"), "2 frames from 0 to 1 with stride 2"),
        (HEADER.replace("stride:1", "stride:0"), "stride 0"),
        (HEADER.replace("end:1", "end:3").replace("frames:2", "frames:4"), "3"),
        (HEADER + LINE.replace("A:ALA:2", "A:ALA:7"), "A:ALA:7"),
        (HEADER + LINE.replace("A:ALA:2", "A:ALA:3"), "A:ALA:3"),  # twice in the topology
        (HEADER + LINE.replace("0\t", "2\t"), "frame 2"),
        (HEADER.replace("end:1 stride:1", "end:2 stride:2") + LINE.replace("0\t", "1\t"), "frame 1"),
        *((HEADER + line, "line 2") for line in ("0\tsb\ta", "x\tsb\ta\tb", "0\t\ta\tb", "\u00b2\tsb\ta\tb", "0 sb")),
    ],
)
def test_contact_files_that_would_be_misread(write_pdb, tmp_path, text, named):
    path = tmp_path / "c.tsv"
    path.write_text(text)
    topology = contact_system(write_pdb, ((1, " "), (2, " "), (3, " "), (1, "B"), (3, " ")))
    refused(lambda: contacts_of_file(topology, path, range(3)), path, named)
