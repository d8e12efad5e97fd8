"""MD features against the published files, MDTraj's plain route, and invariances."""

from __future__ import annotations

import feature_oracle
import mdtraj
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from data_prepare.correlation import correlation
from data_prepare.errors import InputError
from data_prepare.molecular_dynamics.features.accumulators import (
    ANGLE_COLUMNS,
    BIN_EDGES,
    angle_atoms,
    angle_bins,
    contact_frequencies,
    md_features,
    residue_array,
)
from data_prepare.molecular_dynamics.frames.trajectory import Chunk, read_chunks
from data_prepare.properties import FEATURES, MD_PROPERTIES, PROPERTIES_OF_FEATURE
from data_prepare.structure.readers import read_topology


def angstrom_chunk(xyz, first=0):
    return Chunk(np.arange(first, first + len(xyz)), np.asarray(xyz, np.float32), "angstrom")


@pytest.fixture(scope="module")
def helix(examples):
    path = examples / "trajectories" / "helix_aeaaak.pdb"
    return path, path.with_suffix(".xtc")


@pytest.mark.parametrize("with_contact_file", [False, True])
def test_published_features(shared, with_contact_file):
    folder = shared / "golden" / "molecular_dynamics"
    contacts = folder / "3tvj_I_10frames_contact.tsv" if with_contact_file else None
    features = md_features(read_topology(folder / "3tvj_I.pdb"), folder / "3tvj_I_10frames.dcd", contacts)
    published = pd.read_csv(folder / "3tvj_I_res_feature.csv")
    assert list(features.residue.columns) == list(published.columns)
    for column in published:
        tolerance = 5e-3 if column.startswith("sasa") else 1e-6
        np.testing.assert_allclose(features.residue[column], published[column], atol=tolerance, err_msg=column)
    with np.load(folder / "3tvj_I_pair_feature.npz") as pair:
        np.testing.assert_allclose(features.pair, pair["array"], atol=1e-6)


@pytest.fixture(scope="module")
def features_of_helix(helix):
    return md_features(read_topology(helix[0]), helix[1])


@settings(max_examples=8, deadline=None)
@given(st.sets(st.integers(1, 39), max_size=4))
def test_chunks_change_nothing(helix, features_of_helix, cuts):
    """Frames in chunks of any sizes."""
    topology = read_topology(helix[0])
    whole = next(read_chunks(topology, helix[1]))
    parts = zip(np.split(whole.numbers, sorted(cuts)), np.split(whole.xyz, sorted(cuts)), strict=True)
    features = md_features(topology, [Chunk(*part, whole.unit) for part in parts])
    np.testing.assert_allclose(features.pair, features_of_helix.pair, atol=1e-6)
    pd.testing.assert_frame_equal(features.residue, features_of_helix.residue, rtol=0, atol=1e-6)


COLUMNS_OF_FEATURE = {
    "sasa": ("sasa_",),
    "rmsf": ("rmsf",),
    "ss": ("dssp_",),
    "dihedrals": ("chi_", "phi_", "psi_"),
    "contacts": (),
    "corr": (),
}


@settings(max_examples=12, deadline=None)
@given(st.sets(st.sampled_from(FEATURES)))
def test_chosen_features_are_as_with_all_others_or_zero(helix, features_of_helix, chosen):
    features = md_features(read_topology(helix[0]), helix[1], features=tuple(chosen))
    assert list(features.residue.columns) == list(features_of_helix.residue.columns)
    for feature, prefixes in COLUMNS_OF_FEATURE.items():
        for column in features.residue.filter(regex="|".join(f"^{prefix}" for prefix in prefixes) or "^$"):
            left_out = np.nan if feature == "dihedrals" else 0.0
            expected = features_of_helix.residue[column] if feature in chosen else left_out
            np.testing.assert_allclose(features.residue[column], expected, atol=1e-12, err_msg=column)
    contacts, corr = features.pair[..., :9], features.pair[..., 9]
    np.testing.assert_array_equal(contacts, features_of_helix.pair[..., :9] if "contacts" in chosen else 0)
    np.testing.assert_allclose(corr, features_of_helix.pair[..., 9] if "corr" in chosen else 0, atol=1e-12)


def test_columns_of_features_are_those_of_their_properties():
    assert tuple(COLUMNS_OF_FEATURE) == FEATURES
    assert sorted(name for names in PROPERTIES_OF_FEATURE.values() for name in names) == sorted(MD_PROPERTIES)


def test_only_contacts_need_hydrogens(helix, write_pdb):
    topology = read_topology(helix[0])
    heavy = np.flatnonzero(np.array(topology.elements) != "H")
    xyz = next(read_chunks(topology, helix[1], size=3)).angstrom[:, heavy]
    bare = topology.subset(heavy)
    with pytest.raises(InputError, match="no hydrogens"):
        md_features(bare, [angstrom_chunk(xyz)])
    others = tuple(name for name in FEATURES if name != "contacts")
    assert (md_features(bare, [angstrom_chunk(xyz)], features=others).residue["sasa_mean"] > 0).any()
    with pytest.raises(InputError, match="unknown feature surface; known are sasa, rmsf"):
        md_features(topology, helix[1], features=("surface",))


def test_plain_route(helix, features_of_helix):
    """MDTraj's own functions and the definition of the correlation."""
    pdb, trajectory = helix
    features = features_of_helix
    table = feature_oracle.residue_table(pdb, trajectory)
    assert list(features.residue.columns) == list(table.columns)
    for column in table:
        tolerance = 3e-4 if column.startswith("sasa") else 1e-6 if column == "rmsf" else 1e-9
        np.testing.assert_allclose(features.residue[column], table[column], atol=tolerance, err_msg=column)
    expected = feature_oracle.displacement_correlation(pdb, trajectory)  # superposed in float32
    np.testing.assert_allclose(features.pair[..., 9], expected, atol=2e-6)


def test_rigid_motion_and_frame_order(helix):
    """Each frame moved as a rigid body, frames after the first in another order: the same features."""
    topology = read_topology(helix[0])
    xyz = np.concatenate([chunk.angstrom for chunk in read_chunks(topology, helix[1])])[:20]
    reference = md_features(topology, [angstrom_chunk(xyz)])
    rng = np.random.default_rng(0)
    order = np.r_[0, 1 + rng.permutation(len(xyz) - 1)]
    moved = np.stack(
        [
            Rotation.random(rng=rng).apply(frame - frame.mean(0)) + rng.uniform(-50, 50, 3)
            for frame in xyz[order].astype(float)
        ]
    )
    features = md_features(topology, [angstrom_chunk(moved[:5]), angstrom_chunk(moved[5:], 5)])
    np.testing.assert_allclose(features.pair[..., 9], reference.pair[..., 9], atol=1e-4)
    assert abs(features.pair[..., :9] - reference.pair[..., :9]).max() <= 1 / len(xyz)  # an atom at a limit
    assert (features.pair[..., :9] != reference.pair[..., :9]).mean() < 1e-3
    for column in reference.residue:
        tolerance = 0.02 if column.startswith("sasa") else 0.051 if column.startswith(("chi", "phi", "psi")) else 1e-4
        np.testing.assert_allclose(features.residue[column], reference.residue[column], atol=tolerance, err_msg=column)


def test_angles_that_do_not_exist(features_of_helix):
    table = features_of_helix.residue
    assert table.loc[0, list(ANGLE_COLUMNS["phi"])].isna().all()
    assert table.loc[len(table) - 1, list(ANGLE_COLUMNS["psi"])].isna().all()
    assert table.loc[0, list(ANGLE_COLUMNS["chi"])].isna().all()  # alanine
    sums = [table[list(columns)].sum(axis=1) for columns in ANGLE_COLUMNS.values()]
    for column in sums:
        assert np.isclose(column, 0).sum() + np.isclose(column, 1).sum() == len(table)
    dssp = table.filter(like="dssp_")
    np.testing.assert_allclose(dssp.sum(axis=1), 1)


def test_angles_stop_at_chain_ends(write_pdb):
    names = ("N", "CA", "C", "O", "CB", "OG1")
    atoms = [(n, "THR", c, r, (3 * r, i, ord(c))) for c in "AB" for r in (1, 2) for i, n in enumerate(names)]
    found = angle_atoms(read_topology(write_pdb(atoms)))
    assert (found["phi"][:, 0] >= 0).tolist() == [False, True, False, True]
    assert (found["psi"][:, 0] >= 0).tolist() == [True, False, True, False]
    assert found["chi"][3].tolist() == [18, 19, 22, 23]
    assert found["phi"][1].tolist() == [2, 6, 7, 8]
    assert found["psi"][2].tolist() == [12, 13, 14, 18]


@settings(max_examples=50, deadline=None)
@given(st.floats(-3.140625, 3.140625, width=32))
def test_bins_are_those_of_a_histogram(angle):
    assert angle_bins(np.array([angle]))[0] == np.histogram([np.float64(angle)], BIN_EDGES)[0].argmax()


def test_edges_and_ends_of_the_bins():
    assert angle_bins(BIN_EDGES).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 11]
    above = np.nextafter(np.float32(np.pi), np.float32(4))
    assert angle_bins(np.float32([np.pi, -np.pi, above, -above])).tolist() == [11, 0, 11, 0]


def test_residue_array_has_the_order_of_the_network(features_of_helix):
    table = features_of_helix.residue
    array = residue_array(table)
    assert array.shape == (len(table), 47)
    np.testing.assert_array_equal(array[:, 2], table["rmsf"])
    np.testing.assert_array_equal(array[:, 10], table["dssp_ "])
    np.testing.assert_array_equal(array[:, 46], table["psi_11"])
    with pytest.raises(InputError, match="rmsf"):
        residue_array(table.drop(columns="rmsf"))


def test_correlation_of_an_atom_that_never_moves():
    result = correlation(np.array([[4.0, 0.0, 2.0], [0.0, 0.0, 0.0], [2.0, 0.0, 4.0]]))
    np.testing.assert_allclose(result, [[1, 0, 0.5], [0, 0, 0], [0.5, 0, 1]])


def test_water_and_ions_take_no_part(helix, write_pdb, tmp_path):
    """The same protein in water gives the same features."""
    topology = read_topology(helix[0])
    xyz = np.concatenate([chunk.angstrom for chunk in read_chunks(topology, helix[1])])[:5]
    text = helix[0].read_text().split("TER")[0]
    water = "".join(
        f"HETATM{9000 + i:5d}  {name:<3} HOH W{1:4d}    {60 + i:8.3f}{0:8.3f}{0:8.3f}  1.00  0.00           {name[0]}\n"
        for i, name in enumerate(("O", "H1", "H2"))
    )
    path = tmp_path / "wet.pdb"
    path.write_text(text + "TER\n" + water + "END\n")
    wet_xyz = np.concatenate([xyz, np.full((5, 3, 3), 60.0) + np.arange(3)[:, None]], axis=1)
    dry = md_features(topology, [angstrom_chunk(xyz)])
    wet = md_features(read_topology(path), [angstrom_chunk(wet_xyz)])
    pd.testing.assert_frame_equal(wet.residue, dry.residue)
    np.testing.assert_array_equal(wet.pair, dry.pair)

    # water before the protein: the index of the C-alpha is that in the file
    path.write_text(water + "TER\n" + text + "END\n")
    first = md_features(read_topology(path), [angstrom_chunk(np.roll(wet_xyz, 3, axis=1))])
    np.testing.assert_array_equal(first.residue["ca_atom"], dry.residue["ca_atom"] + 3)
    pd.testing.assert_frame_equal(first.residue.drop(columns="ca_atom"), dry.residue.drop(columns="ca_atom"))


def test_one_frame_is_an_error(helix):
    topology = read_topology(helix[0])
    chunk = next(read_chunks(topology, helix[1], size=1))
    with pytest.raises(InputError, match="1 frame; fluctuations need at least 2"):
        md_features(topology, [chunk])
    with pytest.raises(InputError, match="no frames"):
        md_features(topology, [])


def test_c_alpha_only_is_refused(write_pdb):
    path = write_pdb([("CA", "ALA", "A", r, (3.8 * r, 0, 0)) for r in range(1, 4)])
    with pytest.raises(InputError, match="features need an all-atom protein"):
        md_features(read_topology(path), [angstrom_chunk(np.zeros((2, 3, 3)))])


HEADER = "# total_frames:2 beg:0 end:1 stride:1 interaction_types:hb,sb,pc,ps,ts,hp,vdw\n"


def contact_system(write_pdb, numbers=((1, " "), (2, " "))):
    atoms = [
        (n, "ALA", "A", r, (i, r, 0), {"icode": code}) for r, code in numbers for i, n in enumerate(("N", "CA", "C"))
    ]
    return read_topology(write_pdb(atoms))


def test_contact_frequencies_are_one_sided(write_pdb, tmp_path):
    path = tmp_path / "c.tsv"
    lines = ("0\tvdw\tA:ALA:1:CA\tA:ALA:1A:CA", "1\tvdw\tA:ALA:1:C\tA:ALA:1A:CA", "1\thbbb\tA:ALA:1A:N\tA:ALA:1:N")
    path.write_text(HEADER + "\n".join(lines) + "\n")
    frequency = contact_frequencies(contact_system(write_pdb, ((1, " "), (1, "A"))), path, 2)
    expected = np.zeros((2, 2, 9))
    expected[0, 1, 0] = 1.0
    expected[1, 0, 1] = 0.5
    np.testing.assert_array_equal(frequency, expected)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (HEADER + "0\tvdw\tA:ALA:1:CA\tA:ALA:7:CA\n", "A:ALA:7 is not in the protein"),
        (HEADER + "2\tvdw\tA:ALA:1:CA\tA:ALA:2:CA\n", "frame 2 is none of its header's, 0 to 1 with stride 1; make"),
        (HEADER.replace("end:1 stride:1", "end:2 stride:2") + "1\tvdw\tA:ALA:1:CA\tA:ALA:2:CA\n", "frame 1 is none"),
        (HEADER.replace("hb,sb,", ""), "without the interaction types hbbb, hbsb, hbss, sb"),
        (HEADER.replace("frames:2", "frames:0"), "its header has 0 frames from 0 to 1 with stride 1, which are 2"),
        (HEADER.replace("frames:2", "frames:3"), "its header has 3 frames from 0 to 1 with stride 1, which are 2"),
        (HEADER.replace("stride:1", "stride:2"), "its header has 2 frames from 0 to 1 with stride 2, which are 1"),
        (HEADER.replace("stride:1", "stride:0"), "its header has 2 frames from 0 to 1 with stride 0"),
        (HEADER.replace("end:1", "end:3"), "frames up to 3, but the trajectory has 3; give the trajectory"),
    ],
)
def test_contact_files_that_would_be_misread(write_pdb, tmp_path, text, reason):
    path = tmp_path / "c.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=reason):
        contact_frequencies(contact_system(write_pdb), path, 3)


def test_contact_file_of_repeated_residues_is_refused(write_pdb, tmp_path):
    path = tmp_path / "c.tsv"
    path.write_text(HEADER + "0\tvdw\tA:ALA:1:CA\tA:ALA:2:CA\n")
    topology = contact_system(write_pdb, ((1, " "), (2, " "), (1, " ")))
    with pytest.raises(InputError, match="A:ALA:1 is there more than once"):
        contact_frequencies(topology, path, 2)


def test_mdtraj_reads_the_examples_as_we_do(helix):
    topology = read_topology(helix[0])
    loaded = mdtraj.load(str(helix[1]), top=str(helix[0]))
    ours = np.concatenate([chunk.nm for chunk in read_chunks(topology, helix[1])])
    np.testing.assert_array_equal(ours, loaded.xyz)
