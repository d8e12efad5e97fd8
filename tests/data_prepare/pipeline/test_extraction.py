"""Features of an entry, reuse of results, memory and order of the tasks, Dask workers."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import numpy as np
import pytest

from data_prepare.pipeline import extraction
from data_prepare.pipeline.extraction import (
    EntryFeatures,
    Task,
    entry_features,
    make_entry,
    result_attributes,
    run_tasks,
)
from data_prepare.properties import FEATURES
from data_prepare.sources.entry import FileEntry, Selection
from data_prepare.sources.manifest import read_manifest
from data_prepare.structure.readers import read_topology


@pytest.mark.parametrize(
    ("name", "tokens", "widths"), [("1hvr_AB", 2 * 99 + 4, (3, 3)), ("helix_aeaaak", 17 + 2, (47, 10))]
)
def test_features_of_an_example(examples, name, tokens, widths):
    entry = next(entry for entry in read_manifest(examples / "examples.csv") if entry.name == name)
    residue, pair, modify_seq = entry_features(entry, Selection())
    assert residue.shape == (tokens, widths[0])
    assert pair.shape == (tokens, tokens, widths[1])
    assert np.isfinite(residue).all()
    chains = modify_seq.split("<eos><cls>")
    ends = np.cumsum([0, *(len(chain) + 2 for chain in chains)])
    assert np.flatnonzero((residue == -1).all(axis=1)).tolist() == sorted([*ends[:-1], *(ends[1:] - 1)])
    assert (pair[5, ends[-2] + 5] != -1).all()  # pairs between chains are data


def test_unresolved_residues_are_rows_of_minus_one(examples, tmp_path):
    """The sequence keeps them; the residues that are there have the features that they have without SEQRES."""
    helix = examples / "trajectories" / "helix_aeaaak.pdb"
    declared = ["GLY", "SER", *read_topology(helix).protein.residue_names, "HIS"]
    lines = helix.read_text().splitlines()
    atoms = [
        line[:21] + "A" + line[22:] for line in lines if line.startswith("ATOM") and int(line[22:26]) not in (7, 8)
    ]
    seqres = [
        f"SEQRES {i // 13 + 1:3d} A {len(declared):4d}  {' '.join(declared[i : i + 13])}"
        for i in range(0, len(declared), 13)
    ]
    path = tmp_path / "gap.pdb"
    entry = FileEntry(name="x", source="Proteinflow", path=path)
    path.write_text("\n".join([*seqres, *atoms, "END"]))
    residue, pair, modify_seq = entry_features(entry, Selection())
    assert modify_seq == "GSAEAAAKEAAAKEAAAKAH"
    missing = (residue == -1).all(axis=1)
    resolved = [number + 2 for number in range(1, 18) if number not in (7, 8)]  # <cls>, GLY and SER come first
    assert np.flatnonzero(~missing).tolist() == resolved
    assert ((pair == -1).all(axis=2) == (missing[:, None] | missing[None, :])).all()
    path.write_text("\n".join([*atoms, "END"]))
    plain_residue, plain_pair, plain = entry_features(entry, Selection())
    assert len(plain) == len(resolved)
    np.testing.assert_array_equal(residue[resolved], plain_residue[1:-1])
    np.testing.assert_array_equal(pair[np.ix_(resolved, resolved)], plain_pair[1:-1, 1:-1])


@pytest.fixture
def source(tmp_path):
    """Structure of five glycines."""
    atom = "ATOM  {0:5d}  CA  GLY A{0:4d}    {1:8.3f}   0.000   0.000  1.00  0.00           C\n"
    path = tmp_path / "s.pdb"
    path.write_text("".join(atom.format(r, 3.8 * r) for r in range(1, 6)))
    return path


def test_stale_results_are_made_again(source, tmp_path):
    """Another file, options, or a damaged result; not another folder of the same file."""

    def task(path, **changed):
        values = {"selection": Selection(), "features": FEATURES, "dtype": "float32", "folder": tmp_path / "o"}
        return Task(FileEntry(name="s", source="Proteinflow", path=path), **values | changed)

    assert result_attributes(task(source)) is None
    assert make_entry(task(source)) is None
    assert result_attributes(task(source))["modify_seq"] == "GGGGG"
    (tmp_path / "moved").mkdir()
    source = source.rename(tmp_path / "moved" / "s.pdb")
    assert result_attributes(task(source)) is not None
    assert result_attributes(task(source, selection=Selection(stride=2))) is None
    assert result_attributes(task(source, features=("sasa",))) is None
    assert result_attributes(task(source, dtype="float16")) is None
    assert result_attributes(task(source, features=tuple(reversed(FEATURES)))) is not None
    source.write_text(source.read_text().replace("GLY", "ALA"))
    os.utime(source, ns=(1, 1))
    assert result_attributes(task(source)) is None
    assert make_entry(task(source)) is None
    assert result_attributes(task(source))["modify_seq"] == "AAAAA"
    result = task(source).result
    result.write_bytes(result.read_bytes()[:100])
    assert result_attributes(task(source)) is None


def make_with(monkeypatch, source, tmp_path, features_of):
    """`make_entry` with another `entry_features`."""
    monkeypatch.setattr(extraction, "entry_features", features_of)
    entry = FileEntry(name="s", source="Proteinflow", path=source)
    return make_entry(Task(entry, Selection(), FEATURES, "float32", tmp_path))


def test_an_unexpected_exception_is_a_failure_of_its_entry(source, tmp_path, monkeypatch):
    def broken(*_):
        raise KeyError("Q")

    assert make_with(monkeypatch, source, tmp_path, broken) == "KeyError: 'Q'"


@pytest.mark.parametrize(("limit", "available"), [(1000, 800), (0, None), (None, None)])
def test_an_entry_may_use_four_fifths_of_its_worker(source, tmp_path, monkeypatch, limit, available):
    """Without a limit of the worker, or without a worker, the memory of the machine counts."""
    seen = []

    def features(entry, selection, features, memory):
        seen.append(memory)
        return EntryFeatures(np.zeros((4, 3)), np.zeros((4, 4, 3)), "GG")

    if limit is not None:
        worker = SimpleNamespace(memory_manager=SimpleNamespace(memory_limit=limit))
        monkeypatch.setattr("distributed.get_worker", lambda: worker)
    assert make_with(monkeypatch, source, tmp_path, features) is None
    assert seen == [available]


LOG = "LOG_OF_THE_TASKS"


def note(task):
    """Replaces `make_entry`: record the name, and wait until other tasks have arrived."""
    time.sleep(0.1)
    with open(os.environ[LOG], "a") as file:
        file.write(task.entry.name)


@pytest.mark.parametrize("dask", [False, True])
def test_the_largest_entries_come_first(tmp_path, monkeypatch, dask):
    """Entries of equal size are sorted by name; one worker keeps the order of submission."""
    from distributed import LocalCluster

    tasks = []
    for name, size in {"a": 5, "d": 30, "c": 20, "b": 30, "e": 1, "f": 10}.items():
        (tmp_path / f"{name}.pdb").write_text("x" * size)
        entry = FileEntry(name=name, source="Proteinflow", path=tmp_path / f"{name}.pdb")
        tasks.append(Task(entry, Selection(), FEATURES, "float32", tmp_path))
    monkeypatch.setenv(LOG, str(tmp_path / "log"))
    monkeypatch.setattr(extraction, "make_entry", note)
    if dask:
        with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster:
            assert run_tasks(tasks, 0, 1, cluster.scheduler_address) == {}
            assert len(cluster.scheduler.workers) == 1  # it stays
    else:
        assert run_tasks(tasks, 0, 1) == {}
    assert (tmp_path / "log").read_text() == "bdcfae"
