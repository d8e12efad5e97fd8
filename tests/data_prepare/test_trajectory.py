"""Frames: units, ranges, chunks, and what is refused."""

from __future__ import annotations

import mdtraj
import numpy as np
import pytest

from data_prepare.errors import InputError
from data_prepare.molecular_dynamics.frames.trajectory import chunk_of_angstrom, count_frames, first_frame, read_chunks
from data_prepare.structure.readers import read_topology

FRAMES = 11


@pytest.fixture
def system(write_pdb):
    atoms = [(n, "ALA", "A", r, (r, i, 0)) for r in (1, 2) for i, n in enumerate(("N", "CA", "C", "O"))]
    return read_topology(write_pdb(atoms))


@pytest.fixture
def xyz():
    return np.random.default_rng(0).normal(0, 2, (FRAMES, 8, 3)).astype(np.float32)  # nm


def save(path, xyz, topology):
    mdtraj.Trajectory(xyz, topology.to_mdtraj()).save(str(path))
    return path


@pytest.mark.parametrize("suffix", ["xtc", "dcd", "trr", "nc", "pdb"])
def test_formats(tmp_path, system, xyz, suffix):
    path = save(tmp_path / f"t.{suffix}", xyz, system)
    chunks = list(read_chunks(system, path, size=4))
    assert [len(chunk.numbers) for chunk in chunks] == [4, 4, 3]
    np.testing.assert_array_equal(np.concatenate([chunk.numbers for chunk in chunks]), np.arange(FRAMES))
    np.testing.assert_allclose(np.concatenate([chunk.nm for chunk in chunks]), xyz, atol=6e-4)
    np.testing.assert_allclose(np.concatenate([chunk.angstrom for chunk in chunks]), 10 * xyz, atol=6e-3)
    assert count_frames(system, path) == FRAMES
    np.testing.assert_allclose(first_frame(system, path), 10 * xyz[0], atol=6e-3)


def test_stored_unit_is_not_rounded(tmp_path, system, xyz):
    """Angstrom of a DCD and nm of an XTC come as they are stored."""
    save(tmp_path / "t.dcd", xyz, system)
    with mdtraj.open(str(tmp_path / "t.dcd")) as file:
        np.testing.assert_array_equal(next(read_chunks(system, tmp_path / "t.dcd")).angstrom, file.read()[0])
    save(tmp_path / "t.xtc", xyz, system)
    np.testing.assert_array_equal(
        next(read_chunks(system, tmp_path / "t.xtc")).nm,
        mdtraj.load(str(tmp_path / "t.xtc"), top=system.to_mdtraj()).xyz,
    )


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize(("begin", "end", "stride"), [(0, None, 1), (2, 8, 3), (10, 10, 1), (1, 99, 4), (0, 0, 5)])
def test_ranges(tmp_path, system, xyz, size, begin, end, stride):
    """`end` is inclusive; frame numbers stay those of the file."""
    path = save(tmp_path / "t.xtc", xyz, system)
    numbers = np.concatenate([c.numbers for c in read_chunks(system, path, begin, end, stride, size)])
    last = FRAMES - 1 if end is None else min(end, FRAMES - 1)
    assert numbers.tolist() == list(range(begin, last + 1, stride))


def test_alternate_locations_are_taken_out(tmp_path, write_pdb, xyz):
    atoms = [("N", "ALA", "A", 1, (0, 0, 0)), ("CA", "ALA", "A", 1, (1, 0, 0), {"altloc": "A"})]
    atoms += [("CA", "ALA", "A", 1, (2, 0, 0), {"altloc": "B"}), ("C", "ALA", "A", 1, (3, 0, 0))]
    path = write_pdb(atoms)
    chunk = next(read_chunks(read_topology(path), path))
    assert chunk.angstrom[0, :, 0].tolist() == [0, 1, 3]


def test_wrong_number_of_atoms(tmp_path, system, xyz):
    path = tmp_path / "t.dcd"
    with mdtraj.formats.DCDTrajectoryFile(str(path), "w") as file:
        file.write(xyz[:, :7])
    with pytest.raises(InputError, match=r"t\.dcd: 7 atoms, but the topology .*system\.pdb has 8"):
        first_frame(system, path)


def test_not_finite(tmp_path, system, xyz):
    xyz[5, 3, 1] = np.nan
    path = save(tmp_path / "t.dcd", xyz, system)
    with pytest.raises(InputError, match=r"t\.dcd: frame 5 has coordinates that are not finite"):
        list(read_chunks(system, path))


@pytest.mark.parametrize("suffix", ["xtc", "dcd", "xyz_unknown"])
def test_empty_and_unreadable(tmp_path, system, suffix):
    path = tmp_path / f"t.{suffix}"
    path.write_bytes(b"")
    with pytest.raises(
        InputError,
        match=r"t\.(xtc|dcd|xyz_unknown): (no frames|not a readable trajectory|not a trajectory by its name)",
    ):
        list(read_chunks(system, path))


def test_truncated(tmp_path, system, xyz):
    path = save(tmp_path / "t.xtc", xyz, system)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"t\.xtc"):
        list(read_chunks(system, path))


def test_missing_and_bad_range(tmp_path, system, xyz):
    with pytest.raises(InputError, match="no such file"):
        first_frame(system, tmp_path / "none.xtc")
    path = save(tmp_path / "t.xtc", xyz, system)
    with pytest.raises(InputError, match="no frame from 50"):
        list(read_chunks(system, path, begin=50))
    for begin, end, stride in ((-1, None, 1), (0, None, 0), (5, 4, 1)):
        with pytest.raises(InputError, match="expected 0 <= begin <= end"):
            list(read_chunks(system, path, begin, end, stride))


def test_chunk_of_angstrom():
    chunk = chunk_of_angstrom(np.ones((2, 3, 3)), 7)
    assert chunk.numbers.tolist() == [7, 8]
    np.testing.assert_allclose(chunk.nm, 0.1)
