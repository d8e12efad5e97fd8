"""Normal mode features against the published file, ProDy's route, and invariances."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import feature_oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from scipy.spatial.transform import Rotation

from data_prepare import memory
from data_prepare.correlation import correlation
from data_prepare.normal_mode_analysis import elastic_network
from data_prepare.normal_mode_analysis.elastic_network import elastic_networks, mode_groups, modes
from data_prepare.normal_mode_analysis.features import c_alpha_trace, nma_features, nma_features_of
from data_prepare.structure.readers import read_structure

GOLDEN = Path(__file__).resolve().parents[2] / "data" / "features"


def features_of_file(path, available=None):
    return nma_features_of(*read_structure(path), available)


def same_features(found, gnm_msf, anm_cor, atol=1e-9):
    np.testing.assert_allclose(found.gnm_msf, gnm_msf, atol=atol, rtol=0)
    np.testing.assert_allclose(found.anm_cor, anm_cor, atol=atol, rtol=0)


def test_published_features(shared):
    folder = shared / "golden" / "normal_mode_analysis"
    with np.load(folder / "nma_residue_pair_features_2g3r.npz") as published:
        same_features(features_of_file(folder / "2g3r.pdb")[1], **published)


def test_golden_features(examples):
    with np.load(GOLDEN / "1ubi_A_nma.npz") as golden:
        same_features(features_of_file(examples / "structures" / "1ubi_A.pdb.gz")[1], **golden)


@pytest.mark.parametrize("name", ["1ubi_A", pytest.param("1hvr_AB", marks=pytest.mark.slow)])
def test_prody_route(examples, name):
    path = examples / "structures" / f"{name}.pdb.gz"
    topology, features = features_of_file(path)
    same_features(features, *feature_oracle.nma(path))
    assert topology.chain_lengths == {"1ubi_A": [76], "1hvr_AB": [99, 99]}[name]


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
    # where two modes are nearly degenerate, rounding decides which group ends where
    np.testing.assert_allclose(first.gnm_msf.sum(0), second.gnm_msf.sum(0), atol=1e-8)
    same_features(first, *second, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(40)))
def test_features_follow_the_order_of_the_residues(order):
    xyz = compact(40, 0)  # no degenerate modes at the ends of the groups
    first, second = nma_features(xyz), nma_features(xyz[order])
    same_features(second, first.gnm_msf[:, order], first.anm_cor[:, order][:, :, order])


def test_matrices_by_their_definition():
    xyz = compact(12, 1)
    n = len(xyz)
    expected_kirchhoff, expected_hessian = np.zeros((n, n)), np.zeros((3, n, 3, n))
    for i in range(n):
        for j in range(n):
            d2 = float(((xyz[i] - xyz[j]) ** 2).sum())
            if i == j or d2 > 225:
                continue
            constant = 10 if d2 <= 16 else 2 if d2 <= 100 else 1
            expected_kirchhoff[i, j] -= constant
            expected_kirchhoff[i, i] += constant
            block = constant * np.outer(xyz[j] - xyz[i], xyz[j] - xyz[i]) / d2
            expected_hessian[:, i, :, j] -= block
            expected_hessian[:, i, :, i] += block
    kirchhoff, hessian = elastic_networks(xyz)
    np.testing.assert_allclose(kirchhoff, expected_kirchhoff, atol=1e-12)
    np.testing.assert_allclose(hessian, expected_hessian.reshape(3 * n, 3 * n), atol=1e-12)


def test_force_constants_at_their_limits():
    for distance, constant in ((4.0, 10), (4.0001, 2), (10.0, 2), (10.0001, 1), (15.0, 1), (15.0001, 0)):
        kirchhoff, hessian = elastic_networks(np.array([[0.0, 0, 0], [distance, 0, 0]]))
        assert kirchhoff.tolist() == [[constant, -constant], [-constant, constant]]
        np.testing.assert_allclose(hessian[:2, :2], kirchhoff, rtol=1e-15)  # the springs lie along x


@pytest.mark.parametrize(("n", "gnm_groups", "anm_groups"), [(1, 0, 0), (2, 1, 1), (3, 2, 3)])
def test_empty_groups_of_tiny_proteins_are_zeros(n, gnm_groups, anm_groups):
    features = nma_features(np.array([[0.0, 0, 0], [3.8, 0, 0], [3.8, 3.8, 0]])[:n])
    assert features.gnm_msf.any(axis=1).sum() == gnm_groups
    assert features.anm_cor.any(axis=(1, 2)).sum() == anm_groups
    for correlations in features.anm_cor:
        moves = correlations.any(axis=1)
        np.testing.assert_allclose(np.diag(correlations), moves, atol=1e-12)


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


def test_pieces_that_do_not_touch():
    """A piece that does not move in a group of modes has no correlation in it."""
    floppy, stiff = compact(12, 0), 0.6 * compact(60, 10) + 500
    features = nma_features(np.concatenate([floppy, stiff]))
    assert not features.anm_cor[0, 12:].any()
    assert features.anm_cor[0, :12, :12].all()
    assert features.anm_cor[2, 12:, 12:].all()
    np.testing.assert_allclose(features.anm_cor[:, :12, 12:], 0, atol=1e-9)


def test_correlation_without_variance():
    covariance = np.array([[4.0, -2.0, 1e-16], [-2.0, 4.0, 0.0], [1e-16, 0.0, 1e-32]])
    assert correlation(covariance).tolist() == [[1, -0.5, 0], [-0.5, 1, 0], [0, 0, 0]]
    assert not correlation(np.zeros((2, 2))).any()
    small = correlation(np.array([[1.0, 1e-9], [1e-9, 1e-16]]))  # small, but far from rounding
    np.testing.assert_allclose(small, [[1, 0.1], [0.1, 1]])


def test_first_alternate_location_and_no_calcium(write_pdb):
    atoms = [("CA", "GLY", "A", r, (3.8 * r, 0, 0)) for r in range(1, 4)]  # C-alpha only: names decide
    atoms += [("CA", "SER", "A", 4, (15, 1, 0), {"altloc": "A"}), ("CA", "SER", "A", 4, (15, 9, 0), {"altloc": "B"})]
    atoms.append(("CA", "CA", "A", 5, (15, 3, 0), {"record": "HETATM", "element": "CA"}))
    topology, xyz = c_alpha_trace(*read_structure(write_pdb(atoms)))
    assert topology.residue_names == ("GLY", "GLY", "GLY", "SER")
    assert xyz[3].tolist() == [15, 1, 0]


@pytest.mark.parametrize(
    ("atoms", "named"),
    [
        ([("O", "HOH", "A", 1, (0, 0, 0))], "no C-alpha"),
        ([("CA", "GLY", "A", r, (3.8 * (r == 2), 1, 1)) for r in (1, 2, 3)], "C-alpha atoms 1 and 3 of 3"),
        ([("CA", "GLY", "A", r, (38 * r, 1, 1)) for r in (1, 2, 3)], "ten times too large"),
        ([("CA", "GLY", "A", r, (1, 1, 1)) for r in (1, 2, 3)], "one point"),
    ],
)
def test_unusable_structures(write_pdb, atoms, named):
    path = write_pdb(atoms)
    refused(lambda: features_of_file(path), path, named)


@pytest.mark.parametrize(
    ("value", "named"),
    [(3 + 1e-160, "2 and 3"), (3 + 1e-9, "2 and 3"), *((value, "coordinate") for value in (np.nan, -np.inf, 1e200))],
)
def test_positions_that_cannot_be_used(value, named):
    """Positions must differ by more than rounding; 1e-5 Angstrom suffices."""
    xyz = np.array([[0, 0, 0], [1, 2, 3], [1, 2, value]])
    refused(lambda: nma_features(xyz), named)
    xyz[2, 2] = 3 + 1e-5
    nma_features(xyz)


def test_too_large_for_the_memory(examples, monkeypatch):
    """By default the free memory counts."""
    line = np.arange(36_000.0).reshape(-1, 3)
    refused(lambda: nma_features(line, available=8_000_000_000), "12000 residues", "41.5 GB", "8.0 GB")
    path = examples / "structures" / "1ubi_A.pdb.gz"
    enough = 4 * 8 * (3 * 76) ** 2
    features_of_file(path, enough)
    refused(lambda: features_of_file(path, enough - 1), path, "76 residues")
    monkeypatch.setattr(memory, "available_memory", lambda: 10)
    refused(lambda: features_of_file(path), path, "76 residues")


def test_memory_stays_below_the_requirement():
    n = 200
    xyz = compact(n, 0)
    nma_features(xyz[:10])  # one-time allocations
    tracemalloc.start()
    nma_features(xyz)
    assert tracemalloc.get_traced_memory()[1] < 3.3 * 8 * (3 * n) ** 2
    tracemalloc.stop()


def test_solver_of_matrices_whose_workspace_cannot_be_counted(monkeypatch):
    xyz = compact(30, 0)
    expected = nma_features(xyz)
    drivers = []
    eigh = elastic_network.scipy.linalg.eigh
    monkeypatch.setattr(
        elastic_network.scipy.linalg, "eigh", lambda *args, **kw: drivers.append(kw["driver"]) or eigh(*args, **kw)
    )
    monkeypatch.setattr(elastic_network, "LARGEST_DIVIDE_AND_CONQUER", 30)
    features = nma_features(xyz)
    assert drivers == ["evd", "evr"]  # 30 rows, 90 rows
    same_features(features, *expected, atol=1e-10)


def test_modes_below_1e_6_are_dropped():
    values, vectors = modes(np.diag([0.0, 9e-7, 1.1e-6, 1e-3, 2.0]))
    np.testing.assert_allclose(values, [1.1e-6, 1e-3, 2.0])
    np.testing.assert_allclose(abs(vectors), np.eye(5)[:, 2:])
