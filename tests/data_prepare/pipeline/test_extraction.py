"""Features of an entry, reuse of results, memory and order of the tasks, Dask workers."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from threading import Barrier, Thread
from types import SimpleNamespace

import numpy as np
import pytest
from refusals import refused

from data_prepare.dataset.loss_weights import SPREAD, entry_spread
from data_prepare.dataset.store import FeatureStore
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


@pytest.mark.parametrize(
    ("name", "tokens", "widths"), [("1hvr_AB", 2 * 99 + 4, (3, 3)), ("helix_aeaaak", 17 + 2, (47, 10))]
)
def test_features_of_an_example(examples, name, tokens, widths):
    entry = next(entry for entry in read_manifest(examples / "examples.csv") if entry.name == name)
    residue, pair, modify_seq, *_ = entry_features(entry, Selection())
    assert residue.shape == (tokens, widths[0])
    assert pair.shape == (tokens, tokens, widths[1])
    assert np.isfinite(residue).all()
    chains = modify_seq.split("<eos><cls>")
    ends = np.cumsum([0, *(len(chain) + 2 for chain in chains)])
    assert np.flatnonzero((residue == -1).all(axis=1)).tolist() == sorted([*ends[:-1], *(ends[1:] - 1)])
    assert (pair[5, ends[-2] + 5] != -1).all()  # pairs between chains are data


def write_trace(path, residues, declared=""):
    """C-alpha atoms along x; number -> name of each residue, and a line of SEQRES."""
    atom = "ATOM  {0:5d}  CA  {1} A{0:4d}    {2:8.3f}   0.000   0.000  1.00  0.00           C\n"
    path.write_text(declared + "".join(atom.format(number, name, 3.8 * number) for number, name in residues.items()))


@pytest.fixture
def source(tmp_path):
    write_trace(tmp_path / "s.pdb", dict.fromkeys(range(1, 6), "GLY"))
    return tmp_path / "s.pdb"


def test_unresolved_residues_are_rows_of_minus_one(tmp_path):
    """The sequence keeps them; the residues that are there have the features that they have without SEQRES."""
    path = tmp_path / "gap.pdb"
    entry = FileEntry(name="x", source="Proteinflow", path=path)
    residues = {1: "ALA", 2: "GLY", 5: "TRP"}
    write_trace(path, residues)
    plain_residue, plain_pair, *_ = entry_features(entry, Selection())
    write_trace(path, residues, "SEQRES   1 A    6  SER ALA GLY GLY GLY TRP\n")
    residue, pair, modify_seq, *_ = entry_features(entry, Selection())
    assert modify_seq == "SAGGGW"
    resolved = [2, 3, 6]  # <cls> and SER come first
    missing = (residue == -1).all(axis=1)
    assert np.flatnonzero(~missing).tolist() == resolved
    assert ((pair == -1).all(axis=2) == (missing[:, None] | missing[None, :])).all()
    np.testing.assert_array_equal(residue[resolved], plain_residue[1:-1])
    np.testing.assert_array_equal(pair[np.ix_(resolved, resolved)], plain_pair[1:-1, 1:-1])


def test_stale_results_are_made_again(source, tmp_path):
    """Another file, options, or a damaged result; not another folder of the same file."""

    def task(path, **changed):
        values = {"selection": Selection(), "features": FEATURES, "dtype": "float32", "store": tmp_path / "o.h5"}
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
    ensemble = FileEntry(name="s", source="Proteinflow", path=source, trajectories=(source,))  # its models
    assert result_attributes(replace(task(source), entry=ensemble)) is None
    source.write_text(source.read_text().replace("GLY", "ALA"))
    os.utime(source, ns=(1, 1))
    assert result_attributes(task(source)) is None
    assert make_entry(task(source)) is None
    assert result_attributes(task(source))["modify_seq"] == "AAAAA"
    result = task(source).result
    result.write_bytes(result.read_bytes()[:100])
    assert result_attributes(task(source)) is None


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("name", "group"), [("1pdo_A", "Proteinflow"), ("helix_aeaaak", "IDRome")])
def test_a_result_has_the_spread_of_its_entry(examples, tmp_path, name, group, dtype):
    """Up to the rounding of the stored numbers."""
    entry = next(entry for entry in read_manifest(examples / "examples.csv") if entry.name == name)
    task = Task(entry, Selection(stride=5), FEATURES, dtype, tmp_path / "x.h5")
    assert make_entry(task) is None
    with FeatureStore(task.result) as store:
        kept = json.loads(store.attributes_of(name)[SPREAD])
        assert kept == pytest.approx(entry_spread(*store.read(name), group), rel=1e-3 if dtype == "float16" else 1e-6)


def make_with(monkeypatch, source, tmp_path, features_of):
    """`make_entry` with another `entry_features`."""
    monkeypatch.setattr(extraction, "entry_features", features_of)
    entry = FileEntry(name="s", source="Proteinflow", path=source)
    return make_entry(Task(entry, Selection(), FEATURES, "float32", tmp_path / "x.h5"))


def test_a_file_that_grows_while_it_is_read_is_read_again(source, tmp_path, monkeypatch):
    task = Task(
        FileEntry(name="s", source="Proteinflow", path=source), Selection(), FEATURES, "float32", tmp_path / "x"
    )
    features_of = extraction.entry_features

    def slowly(*arguments):
        found = features_of(*arguments)
        os.utime(source, ns=(1, 1))
        return found

    monkeypatch.setattr(extraction, "entry_features", slowly)
    assert make_entry(task) is None
    assert result_attributes(task) is None
    assert make_entry(task) is None
    assert result_attributes(task) is not None


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
    time.sleep(0.05)
    with open(os.environ[LOG], "a") as file:
        file.write(task.entry.name)
    task.result.parent.mkdir(exist_ok=True)
    task.result.touch()


@pytest.mark.parametrize("dask", [False, True])
def test_the_largest_entries_come_first(tmp_path, monkeypatch, dask):
    """Entries of equal size are sorted by name; one worker keeps the order of submission."""
    from distributed import LocalCluster

    tasks = []
    for name, size in {"a": 5, "d": 30, "c": 20, "b": 30, "e": 1, "f": 10}.items():
        (tmp_path / f"{name}.pdb").write_text("x" * size)
        entry = FileEntry(name=name, source="Proteinflow", path=tmp_path / f"{name}.pdb")
        tasks.append(Task(entry, Selection(), FEATURES, "float32", tmp_path / "x.h5"))
    monkeypatch.setenv(LOG, str(tmp_path / "log"))
    monkeypatch.setattr(extraction, "make_entry", note)
    if dask:
        with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster:
            assert run_tasks(tasks, 0, 1, cluster.scheduler_address) == {}
            assert len(cluster.scheduler.workers) == 1  # it stays
    else:
        assert run_tasks(tasks, 0, 1) == {}
    assert (tmp_path / "log").read_text() == "bdcfae"


def test_another_cluster_on_the_port_of_dask(monkeypatch, recwarn):
    """No warning about it: the port for HTTP is a free one of this machine."""
    from distributed import LocalCluster

    clusters = []

    def local(**options):
        clusters.append(LocalCluster(**options, processes=False))
        return clusters[-1]

    monkeypatch.setattr("distributed.LocalCluster", local)
    with socket.socket() as taken:
        with suppress(OSError):  # another program has it: as good
            taken.bind(("127.0.0.1", 8787))
            taken.listen()
        assert run_tasks([], 0, 2) == {}
    assert not [warning for warning in recwarn if "already in use" in str(warning.message)]
    services = clusters[0].scheduler.services
    assert services["dashboard"].address == "127.0.0.1"


def test_a_scheduler_without_workers_is_noted_beside_the_progress(capsys):
    from distributed import LocalCluster

    with LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster:
        assert run_tasks([], 1, 1, cluster.scheduler_address) == {}
    (note,) = (line for line in capsys.readouterr().err.splitlines() if "no worker" in line)
    assert note.startswith("note: ")


def other_folder(task):
    """Replaces `make_entry`: the result is where only the worker sees it."""


def test_workers_that_see_other_folders(source, tmp_path, monkeypatch):
    from distributed import LocalCluster

    task = Task(
        FileEntry(name="s", source="Proteinflow", path=source), Selection(), FEATURES, "float32", tmp_path / "x.h5"
    )
    monkeypatch.setattr(extraction, "make_entry", other_folder)
    monkeypatch.setattr(extraction, "LAG_SECONDS", 0.3)
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        refused(lambda: run_tasks([task], 0, 1, cluster.scheduler_address), task.result)


CLUSTER = """
from distributed import LocalCluster
options = {"protocol": "tcp://", "processes": False, "dashboard_address": None}
print(LocalCluster(n_workers=1, threads_per_worker=1, **options).scheduler_address, flush=True)
input()
"""


@pytest.mark.slow
def test_a_scheduler_that_dies(examples, tmp_path):
    """The run ends in one line; the next one goes on with what is left."""
    with ExitStack() as stack:

        def cluster():
            command = [sys.executable, "-c", CLUSTER]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
            process = stack.enter_context(subprocess.Popen(command, **pipes))
            stack.callback(process.kill)
            return process, process.stdout.readline().strip()

        structures = sorted((examples / "structures").glob("*.pdb.gz"))
        entries = [FileEntry(name=f"e{k}", source="Proteinflow", path=path) for k, path in enumerate(structures[:20])]
        tasks = [Task(entry, Selection(), FEATURES, "float32", tmp_path / "x.h5") for entry in entries]

        def made():
            return [task for task in tasks if task.result.exists()]

        scheduler, address = cluster()
        killer = Thread(target=lambda: (until(lambda: len(made()) > 4), scheduler.kill()))
        killer.start()
        refused(lambda: run_tasks(tasks, 0, 1, address), "scheduler", address)
        killer.join()
        rest = [task for task in tasks if task not in made()]
        assert 0 < len(rest) < 16
        assert run_tasks(rest, 20 - len(rest), 1, cluster()[1]) == {}
        assert len(made()) == 20


def test_a_lost_scheduler_is_one_line(monkeypatch):
    """The client of Dask would log a traceback beside it."""
    shown = logging.StreamHandler(io.StringIO())

    def client(*_, **__):
        logging.getLogger("distributed").error("traceback")
        raise OSError("lost")

    monkeypatch.setattr("distributed.Client", client)
    monkeypatch.setattr(logging.getLogger("distributed"), "handlers", [shown])
    refused(lambda: run_tasks([], 0, 1, "tcp://x:1"), "--scheduler tcp://x:1", "lost")
    assert shown.stream.getvalue() == ""


def until(holds):
    """Wait for a condition."""
    while not holds():
        time.sleep(0.02)


ALL_RUNS = Barrier(4)


def name_with_others(task):
    """Replaces `make_entry`: waits until the other runs have submitted their tasks."""
    ALL_RUNS.wait(20)
    return f"{task.store.name} {task.features} {task.selection.stride}"


def test_runs_on_one_scheduler_do_not_meet(source, tmp_path, monkeypatch):
    """Each gets its own results, though the entries have the same names."""
    from distributed import LocalCluster

    entry = FileEntry(name="s", source="Proteinflow", path=source)
    runs = [("a", 1, FEATURES), ("a", 2, FEATURES), ("a", 1, ("sasa",)), ("b", 1, FEATURES)]
    tasks = [Task(entry, Selection(stride=stride), kept, "float32", tmp_path / name) for name, stride, kept in runs]
    monkeypatch.setattr(extraction, "make_entry", name_with_others)
    with (
        LocalCluster(n_workers=1, threads_per_worker=4, processes=False, dashboard_address=":0") as cluster,
        ThreadPoolExecutor(len(tasks)) as threads,
    ):
        found = threads.map(lambda task: run_tasks([task], 0, 1, cluster.scheduler_address), tasks)
        assert list(found) == [{"s": f"{name} {kept} {stride}"} for name, stride, kept in runs]


@pytest.fixture
def usual_ctrl_c():
    """dask_jobqueue sets a handler of its own when it is imported, as another test may have done."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_while_the_workers_start_ends_them(monkeypatch, usual_ctrl_c):
    ended = []

    class Part:
        def __init__(self, *_, **__):
            os.kill(os.getpid(), signal.SIGINT)

        def register_plugin(self, _):
            pass

        def close(self):
            ended.append(type(self).__name__)

    for name in ("LocalCluster", "Client"):
        monkeypatch.setattr(f"distributed.{name}", type(name, (Part,), {}))
    with pytest.raises(KeyboardInterrupt), extraction._local_client(2):
        pytest.fail("the signal was lost")
    assert ended == ["Client", "LocalCluster"]
