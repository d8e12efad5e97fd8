"""Normal mode features against the published file, ProDy's route, and invariances."""

from __future__ import annotations

import feature_oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from data_prepare.errors import InputError
from data_prepare.normal_mode_analysis.elastic_network import hessian, kirchhoff, mode_groups, modes, nma_features
from data_prepare.normal_mode_analysis.NMA_features import c_alpha_trace, structure_features
from data_prepare.structure import read_structure


def test_published_features(shared):
    folder = shared / "golden" / "normal_mode_analysis"
    _, features = structure_features(folder / "2g3r.pdb")
    with np.load(folder / "nma_residue_pair_features_2g3r.npz") as published:
        np.testing.assert_allclose(features.gnm_msf, published["gnm_msf"], atol=1e-9, rtol=0)
        np.testing.assert_allclose(features.anm_cor, published["anm_cor"], atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", ["1ubi_A", "1hvr_AB"])
def test_prody_route(examples, name):
    path = examples / "structures" / f"{name}.pdb.gz"
    topology, features = structure_features(path)
    msf, cor = feature_oracle.nma(path)
    np.testing.assert_allclose(features.gnm_msf, msf, atol=1e-9)
    np.testing.assert_allclose(features.anm_cor, cor, atol=1e-9)
    assert len(topology.chain_ids) == (2 if name == "1hvr_AB" else 1)


def compact(n, seed):
    """A random compact chain: no two points closer than 2 Angstrom."""
    rng = np.random.default_rng(seed)
    points = [np.zeros(3)]
    while len(points) < n:
        step = rng.normal(size=3)
        new = points[-1] + 3.8 * step / np.linalg.norm(step)
        if min(np.linalg.norm(new - p) for p in points) > 2 and np.linalg.norm(new) < 20:
            points.append(new)
    return np.array(points)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(0, 1000))
def test_rigid_motion_changes_nothing(n, seed):
    xyz = compact(n, seed)
    rotation = Rotation.random(rng=np.random.default_rng(seed))
    first, second = nma_features(xyz), nma_features(rotation.apply(xyz) + np.array([10, -20, 30]))
    assert np.isfinite(first.gnm_msf).all()
    assert np.isfinite(first.anm_cor).all()
    # where two modes are nearly degenerate, rounding decides which group ends where
    np.testing.assert_allclose(first.gnm_msf.sum(0), second.gnm_msf.sum(0), atol=1e-8)
    np.testing.assert_allclose(first.gnm_msf, second.gnm_msf, atol=1e-6)


def test_matrices_by_their_definition():
    xyz = compact(12, 1)
    n = len(xyz)
    expected_kirchhoff, expected_hessian = np.zeros((n, n)), np.zeros((3 * n, 3 * n))
    for i in range(n):
        for j in range(n):
            d2 = float(((xyz[i] - xyz[j]) ** 2).sum())
            if i == j or d2 > 225:
                continue
            constant = 10 if d2 <= 16 else 2 if d2 <= 100 else 1
            expected_kirchhoff[i, j] -= constant
            expected_kirchhoff[i, i] += constant
            block = constant * np.outer(xyz[j] - xyz[i], xyz[j] - xyz[i]) / d2
            expected_hessian[3 * i : 3 * i + 3, 3 * j : 3 * j + 3] -= block
            expected_hessian[3 * i : 3 * i + 3, 3 * i : 3 * i + 3] += block
    np.testing.assert_allclose(kirchhoff(xyz), expected_kirchhoff, atol=1e-12)
    np.testing.assert_allclose(hessian(xyz), expected_hessian, atol=1e-12)


def test_force_constants_at_their_limits():
    for distance, constant in ((4.0, 10), (4.0001, 2), (10.0, 2), (10.0001, 1), (15.0, 1), (15.0001, 0)):
        assert kirchhoff(np.array([[0.0, 0, 0], [distance, 0, 0]]))[0, 0] == constant


@pytest.mark.parametrize("n", [1, 2, 3])
def test_tiny_proteins_have_no_division_by_zero(n):
    features = nma_features(np.array([[0.0, 0, 0], [3.8, 0, 0], [3.8, 3.8, 0]])[:n])
    assert np.isfinite(features.gnm_msf).all()
    assert np.isfinite(features.anm_cor).all()
    if n == 1:
        assert not features.gnm_msf.any()
        assert not features.anm_cor.any()


def test_mode_groups_cover_all_modes_in_order():
    values = np.sort(np.random.default_rng(0).uniform(0.01, 5, 50))
    first, second, third = mode_groups(values)
    assert (first.start, first.stop, second.stop, third.stop) == (0, second.start, third.start, 50)
    share = np.cumsum(1 / values) / (1 / values).sum()
    assert abs(share[first.stop - 1] - 1 / 3) == abs(share - 1 / 3).min()
    middle = (1 + share[first.stop - 1]) / 2
    assert abs(share[second.stop - 1] - middle) == abs(share - middle).min()
    assert [group.stop - group.start for group in mode_groups(np.array([0.5]))] == [1, 0, 0]
    assert [group.stop - group.start for group in mode_groups(np.array([]))] == [0, 0, 0]


def test_pieces_that_are_not_connected_stay_finite():
    xyz = np.concatenate([compact(10, 0), compact(10, 1) + 500])
    features = nma_features(xyz)
    assert np.isfinite(features.anm_cor).all()
    np.testing.assert_allclose(features.anm_cor[:, :10, 10:], 0, atol=1e-9)


def test_first_alternate_location_and_no_calcium(write_pdb):
    atoms = [("CA", "GLY", "A", r, (3.8 * r, 0, 0)) for r in range(1, 4)]  # C-alpha only: names decide
    atoms += [("CA", "SER", "A", 4, (15, 1, 0), {"altloc": "A"}), ("CA", "SER", "A", 4, (15, 9, 0), {"altloc": "B"})]
    atoms.append(("CA", "CA", "A", 5, (15, 3, 0), {"record": "HETATM", "element": "CA"}))
    topology, xyz = c_alpha_trace(*read_structure(write_pdb(atoms)))
    assert topology.residue_names == ("GLY", "GLY", "GLY", "SER")
    assert xyz[3].tolist() == [15, 1, 0]


def test_unusable_structures(write_pdb):
    path = write_pdb([("O", "HOH", "A", 1, (0, 0, 0))])
    with pytest.raises(InputError, match=r"system\.pdb: no C-alpha"):
        structure_features(path)
    path = write_pdb([("CA", "GLY", "A", r, (1, 1, 1)) for r in (1, 2)])
    with pytest.raises(InputError, match=r"system\.pdb: two C-alpha atoms have the same position"):
        structure_features(path)


def test_modes_below_1e_6_are_dropped():
    values, vectors = modes(np.diag([0.0, 9e-7, 1.1e-6, 1e-3, 2.0]))
    np.testing.assert_allclose(values, [1.1e-6, 1e-3, 2.0])
    np.testing.assert_allclose(abs(vectors), np.eye(5)[:, 2:])
