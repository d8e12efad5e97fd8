"""The search behind contacts: neighbour lists, room, threads, and when its code is compiled again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from contact_systems import residue, two
from hypothesis import given, settings
from hypothesis import strategies as st

import data_prepare
from data_prepare.molecular_dynamics.contacts import kernels
from data_prepare.molecular_dynamics.contacts.search import ContactSearch
from data_prepare.molecular_dynamics.frames.cell_list import neighbour_lists
from data_prepare.molecular_dynamics.frames.trajectory import read_chunks
from data_prepare.properties import INTERACTIONS
from data_prepare.structure.readers import read_structure, read_topology


def test_more_contacts_than_expected_are_all_found(write_pdb):
    """A dense box of atoms exceeds the initial room of the search."""
    rng = np.random.default_rng(0)
    topology, _ = read_structure(write_pdb([a for i in range(40) for a in residue("SER", "A", 3 * i, (0, 0, 0))]))
    xyz = rng.uniform(0, 4, (topology.num_atoms, 3))
    found = ContactSearch(topology, xyz, ["vdw"]).contacts(xyz)
    radius = np.array([{"C": 1.7, "N": 1.55}[element] for element in topology.elements])
    touch = np.linalg.norm(xyz[:, None] - xyz, axis=-1) < radius + radius[:, None] + 0.5
    touch &= topology.residue_of_atom != topology.residue_of_atom[:, None]
    pairs = np.stack([found.atom_1, found.atom_2], axis=1)
    assert sorted(map(tuple, np.sort(pairs).tolist())) == list(map(tuple, np.argwhere(np.triu(touch)).tolist()))
    assert len(pairs) > 8 * topology.num_atoms


def test_threads_search_frames_at_the_same_time(examples):
    """Frames share no state of the search."""
    path = examples / "trajectories" / "5pti.pdb"
    topology = read_topology(path)
    frames = next(read_chunks(topology, path.with_suffix(".xtc"))).angstrom
    search = ContactSearch(topology, frames[0])
    alone = [search.contacts(frame) for frame in frames]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(search.contacts, np.tile(frames, (3, 1, 1))))
    for number, found in enumerate(together):
        np.testing.assert_array_equal(found, alone[number % len(frames)])


EDITED = """
import sys
import numpy as np
from data_prepare.molecular_dynamics.contacts.search import ContactSearch
from data_prepare.structure.readers import read_structure
topology, xyz = read_structure(sys.argv[1])
print(len(ContactSearch(topology, xyz, ["sb"]).contacts(xyz).channel))
"""


@pytest.mark.long
def test_an_edited_rule_is_compiled_again(write_pdb, tmp_path):
    """Numba checks only the file of the called function; the rule is in another one."""
    package = tmp_path / "data_prepare"
    shutil.copytree(Path(data_prepare.__file__).parent, package, ignore=shutil.ignore_patterns("examples"))
    command = [sys.executable, "-c", EDITED, str(write_pdb(two(("ASP", "OD1"), ("LYS", "NZ"), 3.5)))]

    def found():
        run = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, check=True)
        return int(run.stdout)

    assert found() == 1
    rule = package / "molecular_dynamics" / "contacts" / "salt_bridge.py"
    rule.write_text(rule.read_text().replace("distance <= limits", "distance + 1 <= limits"))
    assert found() == 0


def test_the_key_of_compiled_code_holds_all_rules(tmp_path, monkeypatch):
    folder = Path(kernels.__file__).parent
    (digest,) = [cell.cell_contents for cell in kernels.find_contacts.py_func.__closure__]
    copy = tmp_path / "contacts"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(kernels, "__file__", str(copy / "kernels.py"))
    assert kernels._digest_of_rules() == digest
    for file in sorted(copy.glob("*.py")):
        text = file.read_text()
        file.write_text(text + "# edited\n")
        assert kernels._digest_of_rules() != digest
        file.write_text(text)
    assert INTERACTIONS == ("vdw", "hbbb", "hbsb", "hbss", "hp", "sb", "pc", "ps", "ts")


def near_pairs(points, radii):
    """Pairs of `neighbour_lists`, in both orders, with the required and the allowed pairs."""
    found = neighbour_lists(points, radii)
    pairs = [(i, int(j)) for i in range(len(points)) for j in found.points[found.start[i] : found.stop[i]]]
    excess = np.linalg.norm(points[:, None] - points[None], axis=-1) - radii[:, None] - radii[None]
    np.fill_diagonal(excess, np.inf)
    rounding = 1e-5 * np.ptp(points, axis=0).max(initial=0.0) if len(points) else 0.0
    needed, allowed = (set(map(tuple, np.argwhere(excess <= slack).tolist())) for slack in (0.0, rounding))
    return pairs, needed, allowed


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 80), st.floats(0.5, 6.0), st.floats(0.1, 300.0), st.integers(0, 2**32 - 1))
def test_neighbour_lists_hold_all_near_pairs(number, widest, box, seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-box, box, (number, 3))
    pairs, needed, allowed = near_pairs(points, rng.uniform(0.2, widest / 2, number))
    assert len(pairs) == len(set(pairs))
    assert needed <= set(pairs) <= allowed


def test_neighbour_lists_of_a_crowd():
    """More neighbours than the initial room holds, far from the origin; an atom very far away."""
    points = np.random.default_rng(0).uniform(0, 2, (120, 3)) + 1e5
    pairs, needed, _ = near_pairs(points, np.full(120, 2.0))
    assert len(pairs) == len(needed) == 120 * 119
    points = np.array([[0.0, 0, 0], [1.0, 0, 0], [1e7, 1e7, 1e7]])
    assert near_pairs(points, np.full(3, 2.0))[0] == [(0, 1), (1, 0)]
