"""Solvent-accessible surface against MDTraj, closed forms and brute force."""

from __future__ import annotations

import mdtraj
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prepare.molecular_dynamics.features.sasa import SurfaceAreas, sphere_points, surface_radii
from data_prepare.molecular_dynamics.frames.cell_list import neighbour_lists
from data_prepare.structure.readers import read_topology


def residue_sasa(frames, radii, residue_of_atom, points=None):
    surface = SurfaceAreas(radii, residue_of_atom, points)
    return np.array([surface.residues(frame, neighbour_lists(np.asarray(frame, float), radii)) for frame in frames])


@pytest.mark.parametrize("name", ["helix_aeaaak", "histatin5"])
def test_mdtraj_frame_by_frame(examples, name):
    path = examples / "trajectories" / f"{name}.pdb"
    topology = read_topology(path)
    frames = mdtraj.load(str(path.with_suffix(".xtc")), top=str(path))[::10]
    found = residue_sasa(frames.xyz, surface_radii(topology.elements), topology.residue_of_atom)
    expected = np.concatenate([mdtraj.shrake_rupley(frame, mode="residue") for frame in frames])
    assert abs(found - expected).mean() < 3e-4  # single points at a border, in float32 in both
    assert abs(found - expected).max() < 5e-3


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 60),
    st.sampled_from([0.2, 0.5, 1.0, 2.0]),
    st.sampled_from([1, 7, 100, 960]),
    st.integers(0, 2**32 - 1),
)
def test_every_point_by_itself(number, box, num_points, seed):
    """Atoms of any radii, crowded or apart."""
    rng = np.random.default_rng(seed)
    xyz = rng.uniform(0, box, (number, 3)).astype(np.float32)
    radii = rng.choice([0.1, 0.25, 0.31, 0.4], number)
    points = sphere_points(num_points)
    found = residue_sasa(xyz[None], radii, np.arange(number), points)[0]
    borders = np.zeros(number)
    expected = np.zeros(number)
    for i in range(number):
        surface = xyz[i].astype(float) + radii[i] * points
        outside = np.linalg.norm(surface[:, None] - xyz[None].astype(float), axis=-1) - radii  # (points, atoms)
        outside[:, i] = np.inf
        area = 4 * np.pi * radii[i] ** 2 / num_points
        expected[i] = area * (outside.min(axis=1) > 0).sum()
        borders[i] = area * (abs(outside).min(axis=1) < 1e-6).sum()
    assert (abs(found - expected) <= borders + 1e-6).all()


def test_radii():
    """A radius plus that of the probe; an unknown element has the radius of carbon."""
    np.testing.assert_allclose(surface_radii(("C", "X", "SE")), [0.31, 0.31, 0.33])


@pytest.mark.parametrize(("radius", "share"), [(0.3, 1), (0.2, 0)])
def test_atoms_with_the_same_position(radius, share):
    """A smaller sphere is inside; equal spheres are both free."""
    area = residue_sasa(np.zeros((1, 2, 3)), np.array([radius, 0.3]), np.arange(2))[0]
    np.testing.assert_allclose(area / (4 * np.pi * 0.3**2), [share, 1], rtol=1e-6)
