"""Trajectories as they occur: cut anywhere, with wrong frame counts in the header, with damaged headers."""

from __future__ import annotations

import contextlib
import struct
import warnings

import mdtraj
import numpy as np
import pytest
from backbones import backbone_atoms, backbone_frames
from refusals import refused
from scipy.io import netcdf_file

from data_prepare.errors import InputError, InputWarning
from data_prepare.molecular_dynamics.frames.frame_range import FrameRange
from data_prepare.molecular_dynamics.frames.trajectory import frame_numbers, read_chunks
from data_prepare.structure.readers import read_topology

FRAMES = 5
BINARY = ("xtc", "trr", "dcd", "nc")


SYSTEMS = {"8 atoms": (2, True), "16 atoms": (4, True), "16 atoms, no box": (4, False)}


@pytest.fixture(params=SYSTEMS)
def system(request, write_pdb):
    """Topology and frames (5, atoms, 3) in nm; XTC stores 8 atoms uncompressed."""
    residues, boxed = SYSTEMS[request.param]
    topology = read_topology(write_pdb(backbone_atoms(residues)))
    trajectory = mdtraj.Trajectory(backbone_frames(residues, FRAMES), topology.to_mdtraj())
    if boxed:
        trajectory.unitcell_lengths, trajectory.unitcell_angles = np.full((FRAMES, 3), 6.0), np.full((FRAMES, 3), 90.0)
    return topology, trajectory


def everything(topology, path, **frames):
    """Positions in a range, read in chunks of two frames."""
    return np.concatenate([chunk.xyz for chunk in read_chunks(topology, path, FrameRange(**frames), 2)])


def ends_of_frames(suffix, content, trajectory, tmp_path):
    """First byte of the first frame, and the byte after each frame: files of fewer frames are prefixes in length."""
    sizes = []
    for frames in range(1, FRAMES + 1):
        trajectory[:frames].save(str(tmp_path / f"short.{suffix}"))
        sizes.append((tmp_path / f"short.{suffix}").stat().st_size)
    assert sizes[-1] == len(content)
    first = 0 if suffix in ("xtc", "trr") else 2 * sizes[0] - sizes[1]
    return [first, *sizes]


@pytest.mark.parametrize("suffix", BINARY)
def test_cut_files(tmp_path, system, suffix):
    """Cut at any place: one line with the number of whole frames, and the range that it offers reads exactly these."""
    topology, trajectory = system
    path = tmp_path / f"t.{suffix}"
    trajectory.save(str(path))
    content, whole = path.read_bytes(), everything(topology, path)
    ends = ends_of_frames(suffix, content, trajectory, tmp_path)
    places = {end + shift for end in ends for shift in (-9, -4, -1, 0, 1, 3, 4, 8, 30, 60, 90)}
    for length in sorted(place for place in {*places, *range(0, ends[0], 7)} if 0 <= place < len(content)):
        path.write_bytes(content[:length])
        frames = sum(length >= end for end in ends[1:])
        if frames == 0:
            refused(lambda: everything(topology, path), path)
            continue
        if length == ends[frames] and suffix != "nc":  # its size is a whole number of frames
            with pytest.warns(InputWarning) if suffix == "dcd" else warnings.catch_warnings():
                np.testing.assert_array_equal(everything(topology, path), whole[:frames])
            continue
        for end in (None, frames):
            remedy = (path, f"frame {frames};", *([f"{frames} whole", f"--end {frames - 1}"] if frames > 1 else []))
            refused(lambda end=end: everything(topology, path, end=end), *remedy)
            refused(lambda end=end: frame_numbers(path, FrameRange(end=end)), *remedy)
        np.testing.assert_array_equal(everything(topology, path, end=frames - 1), whole[:frames])
        assert frame_numbers(path, FrameRange(end=frames - 1)) == range(frames)
        np.testing.assert_array_equal(everything(topology, path, end=frames - 1, stride=2), whole[:frames:2])


@pytest.mark.parametrize("counted", [0, 2, 4, 6, 500])
def test_frames_that_a_dcd_header_does_not_count(tmp_path, system, counted):
    topology, trajectory = system
    path = tmp_path / "t.dcd"
    trajectory.save(str(path))
    content, whole = bytearray(path.read_bytes()), everything(topology, path)
    content[8:12] = struct.pack("<i", counted)
    path.write_bytes(content)
    with pytest.warns(InputWarning, match=rf"{path}: .*{counted}.*{FRAMES}"):
        np.testing.assert_array_equal(everything(topology, path), whole)


def test_a_netcdf_header_that_counts_fewer_frames(tmp_path, system):
    """Frames that the writer has not counted may be incomplete."""
    topology, trajectory = system
    path = tmp_path / "t.nc"
    trajectory.save(str(path))
    content, whole = bytearray(path.read_bytes()), everything(topology, path)
    content[4:8] = struct.pack(">i", 3)
    path.write_bytes(content)
    with pytest.warns(InputWarning, match=rf"{path}: .*3.*{FRAMES}"):
        np.testing.assert_array_equal(everything(topology, path), whole[:3])
    content[4:8] = b"\xff" * 4  # not counted
    path.write_bytes(content)
    np.testing.assert_array_equal(everything(topology, path), whole)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("unlimited", [True, False])
@pytest.mark.parametrize("double", [True, False])
def test_other_forms_of_netcdf(tmp_path, system, version, unlimited, double):
    """Both widths of offsets, a frame dimension of fixed length, more variables, some padded, positions in float64."""
    topology, trajectory = system
    path = tmp_path / "t.nc"
    positions, kind = trajectory.xyz * 10, "d" if double else "f"
    with netcdf_file(str(path), "w", version=version) as file:
        file.title = "odd"
        sizes = {"frame": None if unlimited else FRAMES, "atom": topology.num_atoms, "spatial": 3, "label": 5}
        for name, size in sizes.items():
            file.createDimension(name, size)
        velocities = file.createVariable("velocities", kind, ("frame", "atom", "spatial"))
        velocities.scale_factor = 20.455
        velocities[:] = -positions
        file.createVariable("label", "c", ("label",))[:] = list(b"abcde")
        file.createVariable("note", "h", ("frame", "spatial"))[:] = np.ones((FRAMES, 3))
        file.createVariable("coordinates", kind, ("frame", "atom", "spatial"))[:] = positions
        file.createVariable("cell_lengths", "d", ("frame", "spatial"))[:] = np.full((FRAMES, 3), 60.0)
        file.createVariable("cell_angles", "d", ("frame", "spatial"))[:] = np.full((FRAMES, 3), 90.0)
    np.testing.assert_array_equal(everything(topology, path), positions)
    np.testing.assert_array_equal(everything(topology, path, begin=1, stride=2), positions[1::2])
    with netcdf_file(str(path), mmap=False) as file:
        np.testing.assert_array_equal(file.variables["coordinates"][:], positions)  # the file is what it should be


def trr_frame(xyz, width, velocities=False):
    """A frame of GROMACS with positions or velocities (atoms, 3), in numbers of 4 or 8 bytes."""
    size = xyz.size * width
    number = f">f{width}"
    sizes = (0, 0, 9 * width, 0, 0, 0, 0, 0 if velocities else size, size if velocities else 0, 0)
    head = struct.pack(">3i12s13i", 1993, 13, 12, b"GMX_trn_file", *sizes, len(xyz), 0, 0)
    return head + b"".join(np.asarray(part, number).tobytes() for part in ([0, 0], 6 * np.eye(3), xyz))


@pytest.mark.parametrize("width", [4, 8])
def test_trr_frames_without_positions(tmp_path, system, width):
    """GROMACS may write velocities more often than positions; those frames have no number."""
    topology, trajectory = system
    path = tmp_path / "t.trr"
    xyz = trajectory.xyz
    written = [(0, False), (1, True), (1, False), (2, True), (2, True), (2, False)]
    content = b"".join(trr_frame(xyz[frame], width, velocities) for frame, velocities in written)
    path.write_bytes(content)
    np.testing.assert_array_equal(everything(topology, path), xyz[:3])
    np.testing.assert_array_equal(everything(topology, path, begin=1), xyz[1:3])
    path.write_bytes(trr_frame(xyz[0], width, True) * 2)
    refused(lambda: everything(topology, path), path, "positions")


def dcd(xyz, order="<", marker="i", fixed=0):
    """A CHARMM file without boxes; the first `fixed` atoms are only in the first frame."""

    def record(data):
        length = struct.pack(order + marker, len(data))
        return length + data + length

    flags = [len(xyz), 0, 1, len(xyz), 0, 0, 0, 0, fixed, 0, *[0] * 9, 24]
    atoms = xyz.shape[1]
    content = record(b"CORD" + struct.pack(f"{order}20i", *flags)) + record(struct.pack(f"{order}i", 1) + b" " * 80)
    content += record(struct.pack(f"{order}i", atoms))
    if fixed:
        content += record(np.arange(fixed + 1, atoms + 1).astype(f"{order}i4").tobytes())
    for frame, positions in enumerate(xyz):
        for axis in positions[fixed if frame else 0 :].T:
            content += record(axis.astype(f"{order}f4").tobytes())
    return content


@pytest.mark.parametrize(("order", "marker", "fixed"), [(">", "i", 0), ("<", "q", 0), ("<", "i", 5), (">", "i", 3)])
def test_other_forms_of_dcd(tmp_path, system, order, marker, fixed):
    topology, trajectory = system
    path = tmp_path / "t.dcd"
    xyz = 10 * (trajectory.xyz - trajectory.xyz.mean(axis=1, keepdims=True))
    xyz[:, :fixed] = xyz[0, :fixed]
    content = dcd(xyz, order, marker, fixed)
    path.write_bytes(content)
    np.testing.assert_array_equal(everything(topology, path), xyz)
    np.testing.assert_array_equal(everything(topology, path, begin=2, stride=2), xyz[2::2])
    path.write_bytes(content[:-1])
    refused(lambda: everything(topology, path), path, "--end 3")
    np.testing.assert_array_equal(everything(topology, path, end=3), xyz[:4])


@pytest.mark.parametrize("suffix", BINARY)
def test_damaged_headers(tmp_path, system, suffix):
    """Any byte of the first two headers changed: the process survives, and every error is an InputError."""
    topology, trajectory = system
    path = tmp_path / f"t.{suffix}"
    trajectory.save(str(path))
    content = path.read_bytes()
    second = ends_of_frames(suffix, content, trajectory, tmp_path)[1]
    for start in (0, second) if suffix in ("xtc", "trr") else (0,):
        for place in range(start, start + 92):
            for value in (0, 0x7F, 0xFF):
                path.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
                with warnings.catch_warnings(), contextlib.suppress(InputError):
                    warnings.simplefilter("ignore", InputWarning)
                    everything(topology, path)


@pytest.mark.parametrize("system", ["8 atoms", "16 atoms"], indirect=True)
def test_damaged_content_of_xtc(tmp_path, system):
    """Any bit of the compressed positions of a frame changed: the process survives, which xdrfile alone does not."""
    topology, trajectory = system
    path = tmp_path / "t.xtc"
    trajectory.save(str(path))
    content = bytearray(path.read_bytes())
    start, end = ends_of_frames("xtc", content, trajectory, tmp_path)[1:3]
    ends = set()
    for bit in range(8 * (start + 56), 8 * end):
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            everything(topology, path)
            ends.add("read")
        except InputError as error:
            ends.add("frame 1" if "damaged at frame 1;" in str(error) else "refused")
        content[bit // 8] ^= 1 << bit % 8
    assert ("frame 1" in ends) == (trajectory.n_atoms > 9)


@pytest.mark.parametrize("suffix", ["xtc", "trr"])
def test_cut_files_of_users(shared, suffix):
    folder = shared / "cases" / "truncated_traj"
    topology, path = read_topology(folder / "top.pdb"), folder / f"cut.{suffix}"
    line = refused(lambda: everything(topology, path), path, "--end")
    end = int(line.split("--end ")[1].split()[0])
    assert len(everything(topology, path, end=end)) == end + 1


def test_dcd_of_users(shared):
    folder = shared / "cases" / "adk_psf_dcd"
    topology, path = read_topology(folder / "adk.psf"), folder / "adk_2frames_header500.dcd"
    with pytest.warns(InputWarning, match=r"500.* 2"):
        assert everything(topology, path).shape == (2, 3341, 3)
