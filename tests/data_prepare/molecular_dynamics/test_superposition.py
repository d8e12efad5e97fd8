"""Superposition undoes rigid motions, half turns included, and never reflects."""

from __future__ import annotations

import mdtraj
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from data_prepare.molecular_dynamics.frames.superpose import superposed

FIT = np.array([0, 2, 3, 5, 7])


@pytest.fixture(scope="module")
def points():
    return np.random.default_rng(0).normal(0, 1, (9, 3))


@given(seed=st.integers(0, 2**32 - 1), shift=st.tuples(*[st.floats(-10, 10)] * 3))
@settings(max_examples=40, deadline=None)
def test_a_rigid_motion_is_undone(points, seed, shift):
    moved = Rotation.random(rng=np.random.default_rng(seed)).apply(points) + shift
    back = superposed(moved[None], FIT, points[FIT])
    assert back.dtype == np.float32
    np.testing.assert_allclose(back[0], points, atol=1e-6)


@pytest.mark.parametrize("axis", np.eye(3))
def test_half_turns(points, axis):
    for angle in (180, 179.9999, 180.0001):
        turned = Rotation.from_rotvec(angle * axis, degrees=True).apply(points)
        np.testing.assert_allclose(superposed(turned[None], FIT, points[FIT])[0], points, atol=1e-6)


def test_no_reflection(points):
    """The best rotation of a mirror image is still a mirror image."""
    mirrored = points * [1, 1, -1]
    best = superposed(mirrored[None], FIT, points[FIT])[0]
    found = np.sqrt(((best[FIT] - points[FIT]) ** 2).sum(axis=1).mean())
    expected = mdtraj.rmsd(
        mdtraj.Trajectory(mirrored[None].astype(np.float32), None),
        mdtraj.Trajectory(points[None].astype(np.float32), None),
        atom_indices=FIT,
    )
    np.testing.assert_allclose(found, expected[0], atol=1e-5)
    handedness = np.linalg.det((best[[1, 2, 3]] - best[0]).astype(np.float64))
    assert np.sign(handedness) == -np.sign(np.linalg.det(points[[1, 2, 3]] - points[0]))


def test_flat_and_straight_sets(points):
    """Atoms in a plane or on a line cause neither a reflection nor NaN."""
    for flat in (points * [1, 1, 0], points * [1, 0, 0]):
        turned = Rotation.random(rng=np.random.default_rng(5)).apply(flat)
        np.testing.assert_allclose(superposed(turned[None], FIT, flat[FIT])[0], flat, atol=1e-6)
