"""Frames: units, ranges, chunks, and what is refused."""

from __future__ import annotations

import mdtraj
import numpy as np
import pytest
from backbones import backbone_atoms, backbone_frames
from refusals import refused

from data_prepare.molecular_dynamics.frames.frame_range import FrameRange
from data_prepare.molecular_dynamics.frames.trajectory import first_frame, frame_numbers, read_chunks
from data_prepare.structure.readers import read_topology

FRAMES = 11
FORMATS = ("xtc", "trr", "dcd", "nc", "ncdf", "netcdf", "pdb")


@pytest.fixture
def system(write_pdb):
    return read_topology(write_pdb(backbone_atoms(3)))


@pytest.fixture
def xyz():
    return backbone_frames(3, FRAMES)


def save(path, xyz, topology):
    mdtraj.Trajectory(xyz, topology.to_mdtraj()).save(str(path))
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_formats(tmp_path, system, xyz, suffix):
    path = save(tmp_path / f"t.{suffix}", xyz, system)
    chunks = list(read_chunks(system, path, size=4))
    np.testing.assert_allclose(np.concatenate([chunk.nm for chunk in chunks]), xyz, atol=6e-4)
    np.testing.assert_allclose(np.concatenate([chunk.angstrom for chunk in chunks]), 10 * xyz, atol=6e-3)
    assert frame_numbers(path) == range(FRAMES)
    np.testing.assert_array_equal(first_frame(system, path), chunks[0].angstrom[0])


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(("begin", "end", "stride"), [(2, 8, 3), (10, 10, 1), (1, 99, 4), (3, None, 2)])
def test_ranges_are_those_of_all_frames(tmp_path, system, xyz, suffix, begin, end, stride):
    """`end` is inclusive, frames keep their numbers, and seeking gives the same bits as reading everything."""
    path = save(tmp_path / f"t.{suffix}", xyz, system)
    everything = np.concatenate([chunk.xyz for chunk in read_chunks(system, path)])
    wanted = list(range(FRAMES))[begin : None if end is None else end + 1 : stride]
    for size in (1, 2, 3, 100):
        chunks = list(read_chunks(system, path, FrameRange(begin=begin, end=end, stride=stride), size))
        assert max(len(chunk.numbers) for chunk in chunks) <= size
        assert np.concatenate([chunk.numbers for chunk in chunks]).tolist() == wanted
        np.testing.assert_array_equal(np.concatenate([chunk.xyz for chunk in chunks]), everything[wanted])


@pytest.mark.parametrize("suffix", ["xtc", "trr", "dcd"])
def test_other_frames_are_not_read(tmp_path, system, xyz, suffix, monkeypatch):
    """Counts the frames that the reader of MDTraj returns."""
    path = save(tmp_path / f"t.{suffix}", np.tile(xyz, (20, 1, 1)), system)
    reader = mdtraj.formats.registry.FormatRegistry.fileobjects[f".{suffix}"]
    returned = []

    class Counted(reader):
        def read(self, *args, **options):
            data = super().read(*args, **options)
            returned.append(len(data[0]))
            return data

    monkeypatch.setitem(mdtraj.formats.registry.FormatRegistry.fileobjects, f".{suffix}", Counted)
    (chunk,) = read_chunks(system, path, FrameRange(begin=20, end=200, stride=60), whole=True)
    assert chunk.numbers.tolist() == [20, 80, 140, 200]
    assert sum(returned) <= 5  # whole chains need the first frame, if there is a box


@pytest.mark.parametrize("suffix", ["xtc", "dcd"])
def test_the_unit_of_the_file_is_not_rounded(tmp_path, system, xyz, suffix):
    """Each unit is converted from the file's, at most once."""
    path = save(tmp_path / f"t.{suffix}", xyz, system)
    with mdtraj.open(str(path)) as file:
        stored = file.read()[0]
    (chunk,) = read_chunks(system, path)
    as_stored, factor = (chunk.nm, np.float32(10)) if suffix == "xtc" else (chunk.angstrom, np.float32(0.1))
    np.testing.assert_array_equal(as_stored, stored)
    np.testing.assert_array_equal(chunk.angstrom if suffix == "xtc" else chunk.nm, stored * factor)


def test_alternate_locations_are_dropped(write_pdb):
    atoms = [("N", "ALA", "A", 1, (0, 0, 0)), ("CA", "ALA", "A", 1, (1, 0, 0), {"altloc": "A"})]
    atoms += [("CA", "ALA", "A", 1, (2, 0, 0), {"altloc": "B"}), ("C", "ALA", "A", 1, (3, 0, 0))]
    path = write_pdb(atoms)
    chunk = next(read_chunks(read_topology(path), path))
    assert chunk.angstrom[0, :, 0].tolist() == [0, 1, 3]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("damage", ["empty", "cut", "text", "missing", "few atoms", "not finite"])
def test_files_that_cannot_be_used(tmp_path, system, xyz, suffix, damage):
    if damage == "not finite" and suffix in ("xtc", "pdb"):
        pytest.skip("the format has no NaN")
    if damage == "not finite":
        xyz[5, 3, 1] = np.nan
    atoms = system.subset(np.arange(11)) if damage == "few atoms" else system
    path = save(tmp_path / f"t.{suffix}", xyz[:, : atoms.num_atoms], atoms)
    content = path.read_bytes()
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(content[:-100] if suffix != "pdb" else content[: content.rindex(b"ATOM")])
    elif damage == "text":
        path.write_text("no trajectory\n" * 9)
    elif damage == "missing":
        path.unlink()
    named = {"few atoms": ("11 atoms", system.path), "not finite": ("frame 5",)}
    refused(lambda: list(read_chunks(system, path)), path, *named.get(damage, ()))


def test_ranges_and_names_that_are_refused(tmp_path, system, xyz):
    for suffix in FORMATS:
        path = save(tmp_path / f"t.{suffix}", xyz, system)
        refused(lambda path=path: list(read_chunks(system, path, FrameRange(begin=50))), path, "50")
    refused(lambda: list(read_chunks(system, tmp_path / "t.xyz")), "t.xyz", ".xtc")
    refused(lambda: FrameRange(begin=5, end=4), "5")
