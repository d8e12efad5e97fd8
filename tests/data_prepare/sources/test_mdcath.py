"""mdCATH: HDF5 files of domains."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from refusals import refused
from source_files import assert_pooled, failure, frames, only

from data_prepare.sources.entry import Ensemble, Selection
from data_prepare.sources.registry import list_source


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mdcath_dataset_1a0aA00.h5"


def write(helix, path, layout="{}", text=bytes, box=None):
    """File of a domain: replicas 0, 2 and 10 at 348 K with three parts of the frames, replica 0 at 450 K with all."""
    replicas = [("348", "0", 0, 4), ("348", "2", 4, 7), ("348", "10", 7, 9), ("450", "0", 0, 9)]
    with h5py.File(path, "w") as file:
        group = file.create_group("1a0aA00")
        content = "".join(["MODEL        1\n", *helix.lines])
        group["pdbProteinAtoms"] = content.encode() if text is bytes else content
        for temperature, replica, first, last in replicas:
            target = group.create_group(f"{layout.format(temperature)}/{replica}")
            target["coords"] = helix.angstrom[first:last]
            target["box"] = np.zeros((3, 3)) if box is None else box
    return path


@pytest.mark.parametrize(("layout", "text"), [("{}", bytes), ("sims{}K", str)])
def test_layouts(tmp_path, helix, path, layout, text):
    """Both layouts; replicas by number, pooled; one entry per temperature."""
    write(helix, path, layout, text)
    assert_pooled(only(list_source("mdcath", tmp_path)), helix)
    entries = list_source("mdcath", tmp_path, (450, 348, 320))
    assert [entry.name for entry in entries] == ["1a0aA00_320", "1a0aA00_348", "1a0aA00_450"]
    assert {entry.source for entry in entries} == {"mdCATH"}
    np.testing.assert_array_equal(frames(entries[2])[1], helix.angstrom)
    failure(entries[0], path, "320 K", "348, 450")
    refused(lambda: list_source("mdcath", tmp_path, ()), "temperature")


def test_selection(tmp_path, helix, path, monkeypatch):
    """The range counts for each replica; frames are read in chunks; names are those of the file."""
    entry = only(list_source("mdcath", write(helix, path).parent))
    for selection, numbers, which in (
        (Selection(begin=1, end=2), [1, 2, 1, 2, 1], [1, 2, 5, 6, 8]),
        (Selection(stride=2), [0, 2, 0, 2, 0], [0, 2, 4, 6, 7]),
    ):
        found, xyz = frames(entry, selection)
        assert found == numbers
        np.testing.assert_array_equal(xyz, helix.angstrom[which])
    failure(entry, path, "348/2/coords", "begin", selection=Selection(begin=3))
    failure(entry, path, "chain B", "A", selection=Selection(chains=("B",)))
    with entry.open(Selection(chains=("A",))) as system:
        assert isinstance(system, Ensemble)
        assert system.topology.atom_names == helix.topology.atom_names
    monkeypatch.setattr("data_prepare.molecular_dynamics.frames.trajectory.CHUNK_FRAMES", 2)
    with list_source("mdcath", tmp_path, [450])[0].open(Selection(begin=1, stride=3)) as system:
        assert [chunk.numbers.tolist() for chunk in system.chunks] == [[1, 4], [7]]


def test_broken_chain(tmp_path, helix, path):
    """A residue that left the box comes back; the box is in nm, the coordinates in Angstrom."""
    write(helix, path, box=np.diag([6.0, 6.0, 6.0]))
    with h5py.File(path, "r+") as file:
        coords = file["1a0aA00/348/2/coords"]
        xyz = coords[()]
        xyz[1, helix.topology.residue_of_atom == 9, 0] += 60.0
        coords[...] = xyz
    assert_pooled(only(list_source("mdcath", tmp_path)), helix, atol=1e-4)


def replace(group, name, array):
    del group[name]
    group[name] = array


def test_damaged_and_foreign_files(tmp_path, helix, path):
    whole = write(helix, path).read_bytes()
    entry = only(list_source("mdcath", tmp_path))
    for length in (0, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        failure(entry, path)
    nan = np.full((3, *helix.nm.shape[1:]), np.nan)
    for change, named in (
        (lambda group: group["348/2/coords"].write_direct(nan), "frame 0"),
        (lambda group: group.pop("348/2/coords"), "coords"),
        (lambda group: group.pop("pdbProteinAtoms"), "pdbProteinAtoms"),
        (lambda group: [group.pop(f"348/{number}") for number in ("0", "2", "10")], "348 K"),
        (lambda group: replace(group["348/2"], "coords", helix.angstrom[:, :-1]), "(frames, 224, 3)"),
        (lambda group: replace(group, "348/2/coords", helix.angstrom[0]), "(frames, 224, 3)"),
    ):
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            change(file["1a0aA00"])
        failure(entry, path, named)
    path.unlink()
    failure(entry, path)
    other = tmp_path / "mdcath_dataset_9xyzA00.h5"
    other.write_bytes(whole)
    failure(only(list_source("mdcath", tmp_path)), other, "9xyzA00", "1a0aA00")
