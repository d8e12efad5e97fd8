"""Features do not depend on rigid motions or on the order of the frames after the first.

A rigid motion rounds coordinates differently. So contacts within 1e-3 Angstrom or 1e-4 radians of a limit are bounded
from both sides by the brute-force oracle, and frames with an undecided dihedral angle (within 1e-4 radians of an edge)
or DSSP (a backbone hydrogen bond within 1e-3 kcal/mol of -0.5, a bend within 0.05 degrees of 70) are skipped.
"""

from __future__ import annotations

import contact_oracle
import mdtraj
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from data_prepare.molecular_dynamics.features.md_features import md_features
from data_prepare.structure.readers import read_topology

DISTANCE_MARGIN = 1e-3  # Angstrom
ANGLE_MARGIN = 1e-4  # radians
ENERGY_MARGIN = 1e-3  # kcal/mol


# ---- what is decided, by definitions in float64 ---------------------------------------------------------------------


def dssp_is_decided(atoms, xyz):
    """Whether no backbone hydrogen bond energy and no bend of a frame (atoms, 3) in Angstrom is at its limit."""
    residues = [{atoms[i].name: i for i in group} for group in contact_oracle.residues_of(atoms)]
    n, ca, c, o = (xyz[[residue[name] for residue in residues]] for name in ("N", "CA", "C", "O"))
    carbonyl = (c - o) / np.linalg.norm(c - o, axis=1, keepdims=True)
    h = n[1:] + carbonyl[:-1]  # one Angstrom from N, against C=O of the residue before

    def inverse(a, b):
        return 1 / np.linalg.norm(a[:, None] - b[None], axis=-1)

    # (donors, acceptors), Kabsch and Sander 1983
    energy = 27.888 * (inverse(n[1:], o) + inverse(h, c) - inverse(h, o) - inverse(n[1:], c))
    before, after = ca[2:-2] - ca[:-4], ca[4:] - ca[2:-2]
    cosine = (before * after).sum(1) / np.linalg.norm(before, axis=1) / np.linalg.norm(after, axis=1)
    bend = np.degrees(np.arccos(cosine))
    return abs(energy + 0.5).min() > ENERGY_MARGIN and abs(bend - 70).min() > 0.05


def angles_are_decided(frame):
    """Whether no dihedral angle of a frame, as a trajectory, is at the edge of a bin."""
    compute = mdtraj.compute_chi1, mdtraj.compute_phi, mdtraj.compute_psi
    angles = np.concatenate([of(frame, periodic=False)[1] for of in compute], axis=1)
    return abs(angles[..., None] - np.linspace(-np.pi, np.pi, 13)).min() > ANGLE_MARGIN


# ---- the trajectories -----------------------------------------------------------------------------------------------


class System:
    """A trajectory and its reference; not a tuple, which Hypothesis would print."""

    def __init__(self, topology, frames, features, contacts):
        self.topology = topology
        self.frames = frames  # (frames, atoms, 3) Angstrom float32
        self.features = features
        self.contacts = contacts  # lower and upper bound (N, N, 9) over all frames


def features_of(topology, frames, folder):
    """Features of frames written to a DCD file, which keeps every bit of float32 Angstrom."""
    path = folder / "t.dcd"
    with mdtraj.formats.DCDTrajectoryFile(str(path), "w", force_overwrite=True) as file:
        file.write(frames)
    return md_features(topology, path)


@pytest.fixture(scope="module", params=[("helix_aeaaak", 1, 24), ("5pti", 1, 5)], ids=lambda param: param[0])
def system(request, examples, tmp_path_factory):
    name, stride, number = request.param
    path = examples / "trajectories" / f"{name}.pdb"
    topology = read_topology(path)
    atoms, _ = contact_oracle.read_pdb_atoms(path.read_text())
    loaded = mdtraj.load(str(path.with_suffix(".xtc")), top=str(path), stride=stride)
    frames = loaded.xyz * np.float32(10)
    decided = [
        xyz
        for xyz, frame in zip(frames, loaded, strict=True)
        if dssp_is_decided(atoms, xyz.astype(float)) and angles_are_decided(frame)
    ]
    assert len(decided) > 0.6 * len(frames)
    frames = np.stack(decided[:number])
    assert len(frames) == number
    margin = np.array([DISTANCE_MARGIN, np.degrees(ANGLE_MARGIN)])
    least, most = (contact_oracle.contact_counts(atoms, frames, slack=tuple(s * margin)) for s in (-1, 1))
    assert (least <= most).all()
    assert (most - least).sum() < 0.01 * least.sum()
    features = features_of(topology, frames, tmp_path_factory.mktemp("reference"))
    return System(topology, frames, features, (least, most))


def moved(system, seed, reach=100.0):
    """All frames turned at random, each in its own way, and each moved by up to 10 nm."""
    rng = np.random.default_rng(seed)
    return np.array(
        [
            Rotation.random(rng=rng).apply(frame - frame.mean(axis=0)) + rng.uniform(-reach, reach, 3)
            for frame in system.frames.astype(np.float64)
        ],
        np.float32,
    )


def equal(found, expected, atol):
    """All features within atol, shares of frames and contacts exactly."""
    np.testing.assert_array_equal(found.pair[..., :9], expected.pair[..., :9])
    np.testing.assert_allclose(found.pair[..., 9], expected.pair[..., 9], rtol=0, atol=atol)
    continuous = ["sasa_mean", "sasa_std", "rmsf"]
    pd.testing.assert_frame_equal(found.table().drop(columns=continuous), expected.table().drop(columns=continuous))
    for column in continuous:
        np.testing.assert_allclose(found.table()[column], expected.table()[column], rtol=0, atol=atol, err_msg=column)


# ---- tests ----------------------------------------------------------------------------------------------------------


def check_counts(system, features):
    """Contacts between the bounds, angles and DSSP as in the reference."""
    least, most = system.contacts
    counts = features.pair[..., :9] * len(system.frames)
    np.testing.assert_allclose(counts, counts.round(), atol=1e-4)
    assert (counts.round() >= least).all()
    assert (counts.round() <= most).all()
    shares = [column for column in features.table() if column.startswith(("chi", "phi", "psi", "dssp"))]
    np.testing.assert_array_equal(features.table()[shares], system.features.table()[shares])


def test_where_the_file_has_it(system):
    check_counts(system, system.features)
    assert system.features.table().filter(like="dssp_").to_numpy().std(axis=0).max() > 0.1  # not all of one kind


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_rigid_motion(system, tmp_path, seed):
    features = features_of(system.topology, moved(system, seed), tmp_path)
    check_counts(system, features)
    reference = system.features
    np.testing.assert_allclose(features.pair[..., 9], reference.pair[..., 9], atol=1e-4)
    np.testing.assert_allclose(features.table()["rmsf"], reference.table()["rmsf"], atol=1e-5)  # nm
    np.testing.assert_array_equal(features.table()["ca_atom"], reference.table()["ca_atom"])
    for column in ("sasa_mean", "sasa_std"):
        difference = abs(features.table()[column] - reference.table()[column])
        assert difference.max() < 0.05  # nm^2
        assert difference.mean() < 0.01


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_order_of_the_frames_after_the_first(system, tmp_path, data):
    order = data.draw(st.permutations(range(1, len(system.frames))))
    equal(features_of(system.topology, system.frames[[0, *order]], tmp_path), system.features, 1e-6)


def test_the_first_frame_is_the_reference(system, tmp_path):
    """Features of superposed frames change with the first frame, others do not."""
    turned = features_of(system.topology, np.roll(system.frames, -1, axis=0), tmp_path)
    assert abs(turned.pair[..., 9] - system.features.pair[..., 9]).max() > 1e-3
    np.testing.assert_array_equal(turned.table().filter(like="dssp_"), system.features.table().filter(like="dssp_"))
