"""Chains broken by the periodic box are made whole."""

from __future__ import annotations

import mdtraj
import numpy as np
import pytest
from feature_oracle import capped
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prepare.molecular_dynamics.frames.trajectory import first_frame, read_chunks
from data_prepare.molecular_dynamics.frames.unwrap import WholeChains
from data_prepare.structure.readers import read_topology
from data_prepare.structure.topology import Topology

BOXES = {
    "cubic": np.diag([6.0, 6.0, 6.0]),
    "oblong": np.diag([4.0, 7.0, 5.0]),
    "dodecahedron": np.array([[6.0, 0, 0], [0, 6.0, 0], [3.0, 3.0, 6.0 * np.sqrt(0.5)]]),
}


@pytest.fixture(scope="module")
def complex_(examples, tmp_path_factory):
    """Two adjacent chains with caps and a water: topology and frames (3, atoms, 3) in nm."""
    path = examples / "trajectories" / "helix_aeaaak.pdb"
    first, atoms = capped(path.read_text())
    frames = mdtraj.load(str(path.with_suffix(".xtc")), top=str(path))[:3].atom_slice(atoms)
    second = [line[:21] + "B" + line[22:] for line in first]
    water = first[0][:12] + " O   HOH W   1 " + first[0][27:76] + " O"
    file = tmp_path_factory.mktemp("periodic") / "complex.pdb"
    file.write_text("\n".join([*first, "TER", *second, "TER", water, "END"]))
    xyz = np.concatenate([frames.xyz, frames.xyz + np.float32([0.1, 1.2, 0]), frames.xyz[:, :1] + 2], axis=1)
    return read_topology(file), xyz.astype(np.float32)


def broken(xyz: np.ndarray, box: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Every atom put into the box after a shift."""
    fraction = (xyz + shift) @ np.linalg.inv(box)
    return ((fraction - np.floor(fraction)) @ box).astype(np.float32)


def distances(topology: Topology, xyz: np.ndarray) -> np.ndarray:
    """All distances of the atoms of the protein and its caps in each frame."""
    molecule = xyz[:, topology.molecule_atoms].astype(np.float64)
    return np.linalg.norm(molecule[:, :, None] - molecule[:, None], axis=-1)


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
@given(shift=st.tuples(*[st.floats(-20, 20)] * 3))
@settings(max_examples=5, deadline=None)
def test_broken_chains_are_whole_again(complex_, box, shift):
    """The same distances within and between chains as before, another shift in each frame."""
    topology, xyz = complex_
    shifts = np.array(shift) * np.array([1, -2, 3])[:, None, None]  # (frames, 1, 3)
    cut = broken(xyz, box, shifts)
    boxes = np.repeat(box[None], len(xyz), axis=0)
    whole = WholeChains(topology, cut[0], box)(cut, boxes)
    np.testing.assert_allclose(distances(topology, whole), distances(topology, xyz), atol=2e-5)
    np.testing.assert_array_equal(whole[:, -1], cut[:, -1])  # water


def test_unchanged_frames(complex_):
    """Whole frames, and frames without a box."""
    topology, xyz = complex_
    box = BOXES["cubic"]
    assert WholeChains(topology, xyz[0], box)(xyz, np.stack([box] * 3)) is xyz
    cut = broken(xyz, box, np.array([1.3, 2.2, 0.4]))
    make_whole = WholeChains(topology, cut[0], box)
    some = make_whole(cut, np.stack([box, np.zeros((3, 3)), box]))
    np.testing.assert_array_equal(some[1], cut[1])
    np.testing.assert_array_equal(some[[0, 2]], make_whole(cut[[0, 2]], np.stack([box, box])))
    assert make_whole(cut, np.zeros((3, 3, 3))) is cut


@pytest.mark.parametrize("suffix", ["xtc", "trr", "dcd", "nc"])
def test_boxes_of_file_formats(complex_, tmp_path, suffix):
    """Box vectors, or lengths and angles, in the unit of the format; only on request."""
    topology, xyz = complex_
    box = BOXES["dodecahedron"]
    cut = broken(xyz, box, np.array([1.3, 2.2, 0.4]))
    path = tmp_path / f"t.{suffix}"
    frames = mdtraj.Trajectory(cut, topology.to_mdtraj())
    frames.unitcell_vectors = np.repeat(box[None], len(xyz), axis=0)
    frames.save(str(path))
    (as_stored,) = read_chunks(topology, path)
    np.testing.assert_allclose(as_stored.nm, cut, atol=1e-3)
    (whole,) = read_chunks(topology, path, whole=True)
    np.testing.assert_allclose(distances(topology, whole.nm), distances(topology, xyz), atol=3e-3)
    np.testing.assert_array_equal(first_frame(topology, path, whole=True), whole.angstrom[0])
    one_by_one = np.concatenate([chunk.nm for chunk in read_chunks(topology, path, size=1, whole=True)])
    np.testing.assert_array_equal(one_by_one, whole.nm)


@pytest.mark.parametrize("suffix", ["xtc", "dcd"])
def test_a_box_that_stands_for_none(complex_, tmp_path, suffix):
    """CRYST1 1 1 1 of an NMR structure, in Angstrom."""
    topology, xyz = complex_
    frames = mdtraj.Trajectory(xyz, topology.to_mdtraj())
    frames.unitcell_vectors = np.repeat(0.1 * np.eye(3)[None], len(xyz), axis=0)
    frames.save(str(tmp_path / f"t.{suffix}"))
    (whole,) = read_chunks(topology, tmp_path / f"t.{suffix}", whole=True)
    np.testing.assert_allclose(whole.nm, xyz, atol=1e-3)


def test_chains_are_joined_where_they_are_nearest(write_pdb):
    """Two chains end to end along x; their far ends are a little farther apart through the box than the near ones."""
    box, gap, step = 6.0, 0.4, 0.322  # nm
    x = 6.0 - gap / 2 + np.concatenate([-step * np.arange(8, -1, -1), gap + step * np.arange(9)])  # C-alpha atoms
    assert gap < box - np.ptp(x) < 1.2 * gap
    names = ("N", "CA", "C")
    atoms = [(n, "ALA", "AB"[k > 8], k, (0, 0, 0)) for k in range(18) for n in names]
    xyz = np.stack(np.broadcast_arrays(x[:, None], [[0.5, 0.4, 0.5]], [[0.6, 0.7, 0.8]]), axis=-1).reshape(-1, 3)
    topology = read_topology(write_pdb(atoms))
    cut = broken(xyz[None], box * np.eye(3), np.zeros(3))
    whole = WholeChains(topology, cut[0], box * np.eye(3))(cut, box * np.eye(3)[None])
    np.testing.assert_allclose(distances(topology, whole), distances(topology, xyz[None]), atol=1e-5)
