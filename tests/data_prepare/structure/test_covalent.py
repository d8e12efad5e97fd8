"""Frames that do not fit their topology: which are refused, and which are not although they look odd."""

from __future__ import annotations

import mdtraj
import numpy as np
import pytest
from backbones import backbone_atoms, backbone_frames
from refusals import command_refused, refused

from data_prepare.errors import InputWarning
from data_prepare.molecular_dynamics import MD_features, get_dynamic_contacts
from data_prepare.molecular_dynamics.contacts.file_format import read_header
from data_prepare.molecular_dynamics.features.md_features import md_features
from data_prepare.molecular_dynamics.frames.trajectory import read_chunks
from data_prepare.structure.covalent import CovalentGeometry
from data_prepare.structure.readers import read_topology

RESIDUES = 60  # 120 bonds within residues, 59 peptide bonds


@pytest.fixture
def chain(write_pdb):
    """Topology and one frame (1, atoms, 3) in Angstrom."""
    return read_topology(write_pdb(backbone_atoms(RESIDUES))), 10 * backbone_frames(RESIDUES, 1).astype(np.float64)


def problem(topology, xyz, box=None):
    return CovalentGeometry(topology).problems(xyz, 1.0, box)[0]


@pytest.mark.parametrize(("pulled", "distance", "sound"), [(2, 4.0, True), (3, 4.0, False), (30, 1.0, True)])
def test_bonds_within_residues(chain, pulled, distance, sound):
    """2 of 100 may be broken; all may be strained."""
    topology, xyz = chain
    xyz[:, : 4 * pulled : 4, 2] += distance  # atoms N
    assert (problem(topology, xyz) is None) == sound


@pytest.mark.parametrize(("gaps", "sound"), [(10, True), (13, False)])
def test_gaps(chain, gaps, sound):
    """Peptide bonds of consecutive residue numbers may be missing."""
    topology, xyz = chain
    xyz[:, :, 2] += 5.0 * np.repeat(np.minimum(np.arange(RESIDUES), gaps), 4)
    assert (problem(topology, xyz) is None) == sound


@pytest.mark.parametrize(
    ("scale", "words"), [(10, "unit"), (0.1, "unit"), (1.89, ""), (0.53, ""), (4, ""), (30, ""), (0, "one point")]
)
def test_scales(chain, scale, words):
    """nm as Angstrom and the reverse, Bohr, and zeros."""
    topology, xyz = chain
    found = problem(topology, scale * xyz)
    assert words in found
    assert ("unit" in found) == (words == "unit")


@pytest.mark.parametrize(("distance", "sound"), [(0.1, False), (0.5, True)])
def test_atoms_at_one_point(chain, distance, sound):
    topology, xyz = chain
    xyz[:, 41] = xyz[:, 40] + [distance, 0, 0]
    assert (problem(topology, xyz) is None) == sound


@pytest.mark.parametrize(("shift", "sound"), [(5e4, True), (5e5, False), (np.nan, False), (np.inf, False)])
def test_far_away(chain, shift, sound):
    topology, xyz = chain
    xyz[:, :, 1] += shift
    assert (problem(topology, xyz.astype(np.float32)) is None) == sound
    xyz[:, :, 1] -= shift if np.isfinite(shift) else 0
    xyz[:, 3, 2] = shift  # an oxygen, which no bond looks at
    assert (problem(topology, xyz) is None) == (sound or np.isfinite(shift))


@pytest.mark.parametrize(("step", "sound"), [(1.5, False), (2.5, True), (3.8, True), (5.0, True), (7.0, False)])
def test_c_alpha_models(write_pdb, step, sound):
    topology = read_topology(write_pdb([("CA", "GLY", "A", k, (step * k, 0, 0)) for k in range(1, 21)]))
    assert (problem(topology, step * np.eye(1, 3) * np.arange(20)[None, :, None]) is None) == sound


@pytest.fixture(scope="module")
def helix(examples):
    path = examples / "trajectories" / "helix_aeaaak.pdb"
    frames = mdtraj.load(str(path.with_suffix(".xtc")), top=str(path))[:6]
    return read_topology(path), frames


def save(path, frames, xyz, box=None):
    copy = mdtraj.Trajectory(xyz, frames.topology)
    if box:
        copy.unitcell_lengths, copy.unitcell_angles = np.full((len(xyz), 3), box), np.full((len(xyz), 3), 90.0)
    copy.save(str(path))
    return path


@pytest.mark.parametrize(("carbons", "sound"), [(1, True), (8, False)])
def test_badly_built_side_chains(helix, carbons, sound):
    topology, frames = helix
    xyz = 10 * frames.xyz[:1]
    xyz[:, [atoms["CB"] for atoms in topology.atoms_by_name if "CB" in atoms][:carbons]] += 4
    assert (CovalentGeometry(topology).problem_of_sample(xyz, 1.0, None) is None) == sound


def swapped(topology):
    """Order of atoms in which each side chain is reversed; the backbone keeps its place."""
    order = np.arange(topology.num_atoms)
    for atoms in topology.atoms_by_name:
        side = [index for name, index in atoms.items() if name not in ("N", "CA", "C")]
        order[side] = side[::-1]
    return order


@pytest.mark.parametrize("kind", ["heavy first", "side chains", "hydrogens", "other units"])
def test_trajectories_of_something_else(helix, tmp_path, capsys, kind):
    """In one line, before anything is written, also with --skip-broken-frames."""
    topology, frames = helix
    hydrogen = np.array(topology.elements) == "H"
    xyz = {
        "heavy first": frames.xyz[:, np.argsort(hydrogen, kind="stable")],
        "side chains": frames.xyz[:, swapped(topology)],
        "hydrogens": frames.xyz + 0.2 * hydrogen[:, None] * np.float32([0, 0, 1]),
        "other units": 10 * frames.xyz,
    }[kind]
    path = save(tmp_path / "t.xtc", frames, xyz)
    for more in ([], ["--skip-broken-frames"]):
        command_refused(MD_features.main, ["-p", topology.path, "-t", path, "-o", tmp_path / "x", *more], capsys, path)
        arguments = ["--topology", topology.path, "--trajectory", path, "--output", tmp_path / "c.tsv", *more]
        command_refused(get_dynamic_contacts.main, arguments, capsys, path)
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("places", [[3], [0, 4], [5]])
@pytest.mark.parametrize("damage", [0.0, np.nan, 2e6])
def test_broken_frames_are_named_or_left_out(helix, tmp_path, capsys, places, damage):
    """The features are those of the sound frames alone; a contact file says how many there are."""
    topology, frames = helix
    sound = np.delete(np.arange(6), places)
    xyz = frames.xyz.copy()
    xyz[places, :, 0] = damage
    if damage == 0:
        xyz[places] = 0
    path = save(tmp_path / "t.dcd", frames, xyz)
    expected = md_features(topology, save(tmp_path / "s.dcd", frames, frames.xyz[sound]))
    refused(lambda: md_features(topology, path), path, f"frame {places[0]}")
    with pytest.warns(InputWarning, match=f"frame {places[0]} .* left out {len(places)} of 6"):
        features = md_features(topology, path, skip_broken_frames=True)
    np.testing.assert_array_equal(features.residue, expected.residue)
    np.testing.assert_array_equal(features.pair, expected.pair)
    contacts = tmp_path / "c.tsv"
    arguments = ["--topology", topology.path, "--trajectory", path, "--output", contacts, "--skip-broken-frames"]
    get_dynamic_contacts.main([str(argument) for argument in arguments])
    assert read_header(contacts).total_frames == 6 - len(places)
    with pytest.warns(InputWarning):
        features = md_features(topology, path, contacts, skip_broken_frames=True)
    np.testing.assert_array_equal(features.pair, expected.pair)


def test_a_jump_across_an_unknown_box(helix, tmp_path):
    """The first frame shows which bonds are none: gaps may be long in every frame."""
    topology, frames = helix[0], helix[1][:]
    frames.xyz[3:, np.searchsorted(topology.residue_of_atom, 9) :] += np.float32([6, 0, 0])
    frames.save(str(tmp_path / "t.dcd"))
    refused(lambda: list(read_chunks(topology, tmp_path / "t.dcd")), "t.dcd: frame 3", "jumps across the periodic box")
    frames[3:].save(str(tmp_path / "gap.dcd"))
    assert sum(len(chunk.numbers) for chunk in read_chunks(topology, tmp_path / "gap.dcd")) == 3


def test_chains_that_the_box_breaks_are_sound(helix, tmp_path):
    """Also where they are read as they are; without a record of the box they are not."""
    topology, frames = helix
    wrapped = np.mod(frames.xyz - frames.xyz.mean(axis=1, keepdims=True), 6.0)
    path = save(tmp_path / "t.xtc", frames, wrapped, 6.0)
    for whole in (False, True):
        assert sum(len(chunk.numbers) for chunk in read_chunks(topology, path, whole=whole)) == 6
    save(path, frames, wrapped)
    refused(lambda: list(read_chunks(topology, path)), path)


@pytest.mark.parametrize(
    "name", ["collapsed.xtc", "heavy_first.xtc", "ten_times.xtc", "zero_frame.xtc", "overflow_tail.dcd"]
)
def test_trajectories_of_users(shared, name):
    folder = shared / "cases" / "mismatch"
    topology = read_topology(folder / "top.pdb")
    refused(lambda: md_features(topology, folder / name), folder / name, "frame")
    if name in ("zero_frame.xtc", "overflow_tail.dcd"):
        with pytest.warns(InputWarning):
            rmsf = md_features(topology, folder / name, features=("rmsf",), skip_broken_frames=True).table()["rmsf"]
        right = md_features(topology, folder / "right.xtc", features=("rmsf",)).table()["rmsf"]
        np.testing.assert_allclose(rmsf, right, atol=0.02)
