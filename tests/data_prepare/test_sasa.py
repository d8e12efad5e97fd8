"""Solvent-accessible surface against MDTraj and against closed forms."""

from __future__ import annotations

import mdtraj
import numpy as np
import pytest

from data_prepare.molecular_dynamics.sasa import PROBE_RADIUS, residue_sasa, sphere_points, surface_radii
from data_prepare.structure import read_topology


@pytest.mark.parametrize("name", ["helix_aeaaak", "histatin5"])
def test_mdtraj_frame_by_frame(examples, name):
    path = examples / "trajectories" / f"{name}.pdb"
    topology = read_topology(path)
    frames = mdtraj.load(str(path.with_suffix(".xtc")), top=str(path))[::10]
    found = residue_sasa(frames.xyz, surface_radii(topology.elements), topology.residue_of_atom)
    expected = np.concatenate([mdtraj.shrake_rupley(frame, mode="residue") for frame in frames])
    assert abs(found - expected).mean() < 3e-4  # single points at a border, in float32 there
    assert abs(found - expected).max() < 5e-3


def test_one_atom_is_a_sphere():
    radii = surface_radii(("C",))
    assert radii[0] == pytest.approx(0.17 + PROBE_RADIUS)
    area = residue_sasa(np.zeros((1, 1, 3)), radii, np.zeros(1, np.int32))
    np.testing.assert_allclose(area, 4 * np.pi * 0.31**2)


@pytest.mark.parametrize("distance", [0.1, 0.3, 0.6, 0.7])
def test_two_atoms_lose_a_cap_each(distance):
    radii = surface_radii(("C", "O"))
    xyz = np.array([[[0.0, 0, 0], [0.3, 0.4, 0.5]]])
    xyz[0, 1] *= distance / np.linalg.norm(xyz[0, 1])
    area = residue_sasa(xyz, radii, np.array([0, 1], np.int32), sphere_points(20000))[0]
    for a, b in ((0, 1), (1, 0)):
        # the plane of the intersection cuts a cap of this height off sphere a
        cut = (distance**2 + radii[a] ** 2 - radii[b] ** 2) / (2 * distance)
        height = np.clip(radii[a] - cut, 0, 2 * radii[a])
        np.testing.assert_allclose(area[a], 2 * np.pi * radii[a] * (2 * radii[a] - height), rtol=2e-3)


def test_an_atom_within_others_has_none():
    directions = sphere_points(60) * 0.12
    xyz = np.concatenate([np.zeros((1, 3)), directions])[None]
    area = residue_sasa(xyz, surface_radii(("C",) * 61), np.array([0] + [1] * 60, np.int32))
    assert area[0, 0] == 0


def test_unknown_element_has_a_radius():
    assert surface_radii(("X", "SE"))[0] == pytest.approx(0.31)
