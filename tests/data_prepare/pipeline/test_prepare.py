"""From raw data to store, table and loss weights: what is made, what fails, what a killed run leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import psutil
import pytest

import data_prepare.pipeline.extraction
from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.table import read_table
from data_prepare.errors import InputError
from data_prepare.pipeline.extraction import Task, entry_features, make_entry, result_attributes
from data_prepare.pipeline.prepare import PrepareConfig, main, merge, prepare
from data_prepare.properties import FEATURES, GROUPS
from data_prepare.sources.entry import FileEntry, Selection
from data_prepare.sources.manifest import read_manifest
from data_prepare.structure.readers import read_topology

GOOD = "structures/1ubi_A.pdb.gz"
EVERYTHING = Selection()


@pytest.fixture
def raw(examples, tmp_path):
    """Example data under a folder in which tests may write."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for name in ("structures", "trajectories"):
        os.symlink(examples / name, folder / name)
    return folder


@pytest.fixture
def manifest(examples, raw):
    """Write a manifest of some examples, all of them for training, and more rows."""

    def write(names, *rows, label="train"):
        table = pd.read_csv(examples / "examples.csv", keep_default_na=False)
        table = table[table["name"].isin(names)].assign(label=label)
        more = pd.DataFrame(rows, columns=["name", "source", "label", "topology", "trajectory"])
        path = raw / "entries.csv"
        pd.concat([table, more]).to_csv(path, index=False)
        return path

    return write


def raw_chunks(path: Path) -> dict[str, list[bytes]]:
    """Bytes of every dataset of a store, as they lie in the file."""
    with h5py.File(path) as file:
        return {
            name: [
                dataset.id.read_direct_chunk(dataset.id.get_chunk_info(n).chunk_offset)[1]
                for n in range(dataset.id.get_num_chunks())
            ]
            for name, dataset in file.items()
        }


def test_entry_features_of_two_chains(examples):
    entry = next(e for e in read_manifest(examples / "examples.csv") if e.name == "1hvr_AB")
    residue, pair, modify_seq = entry_features(entry)
    first, second = modify_seq.split("<eos><cls>")
    assert len(first) == len(second) == 99
    assert residue.shape == (202, 3)
    assert (residue[[0, 100, 101, 201]] == -1).all()
    assert (pair[5, 110] != -1).all()  # pairs between chains are data


def test_entry_features_of_a_trajectory(examples):
    entry = next(e for e in read_manifest(examples / "examples.csv") if e.name == "helix_aeaaak")
    residue, pair, modify_seq = entry_features(entry)
    assert modify_seq == "AEAAAKEAAAKEAAAKA"
    assert residue.shape == (19, 47)
    assert pair.shape == (19, 19, 10)
    assert np.isfinite(residue).all()


def with_gap(path: Path, target: Path, declared: list[str], lost: range) -> Path:
    """A PDB file with SEQRES, and without the atoms of some residues."""
    seqres = [
        f"SEQRES {i // 13 + 1:3d} A {len(declared):4d}  {' '.join(declared[i : i + 13])}"
        for i in range(0, len(declared), 13)
    ]
    atoms = [line for line in path.read_text().splitlines() if line.startswith("ATOM") and int(line[22:26]) not in lost]
    target.write_text("\n".join([*seqres, *(line[:21] + "A" + line[22:] for line in atoms), "END"]))
    return target


def test_unresolved_residues_are_rows_of_minus_one(examples, tmp_path):
    """The sequence keeps them; the residues that are there have the features that they have without SEQRES."""
    helix = examples / "trajectories" / "helix_aeaaak.pdb"
    declared = ["GLY", "SER", *read_topology(helix).protein.residue_names, "HIS"]
    path = with_gap(helix, tmp_path / "gap.pdb", declared, range(7, 9))
    residue, pair, modify_seq = entry_features(FileEntry(name="x", source="Proteinflow", topology=path))
    assert modify_seq == "GSAEAAAKEAAAKEAAAKAH"
    missing = (residue == -1).all(axis=1)
    there = [number + 2 for number in range(1, 18) if number not in (7, 8)]  # <cls>, GLY and SER come first
    assert np.flatnonzero(~missing).tolist() == there
    assert ((pair == -1).all(axis=2) == (missing[:, None] | missing[None, :])).all()
    path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.startswith("SEQRES")))
    plain_residue, plain_pair, plain = entry_features(FileEntry(name="x", source="Proteinflow", topology=path))
    assert len(plain) == len(there)
    np.testing.assert_array_equal(residue[there], plain_residue[1:-1])
    np.testing.assert_array_equal(pair[np.ix_(there, there)], plain_pair[1:-1, 1:-1])


def test_prepare_goes_on_after_a_failure_and_resumes(manifest, raw, tmp_path, capsys):
    """A structure that cannot be read is recorded; mended, it is the only one made again."""
    (raw / "bad.pdb").write_text("nothing")
    path = manifest(["helix_aeaaak", "histatin5", "1ubi_A"], ("x", "Proteinflow", "test", "bad.pdb", ""))
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as left:
        main(["--manifest", str(path), "--out", str(out), "--workers", "2"])
    assert left.value.code == 1
    assert "1 entries failed" in capsys.readouterr().err
    failures = pd.read_csv(out / "failures.csv")
    assert failures["name"].tolist() == ["x"]
    assert "bad.pdb: no atoms" in failures["reason"][0]
    table = read_table(out / "table.csv")
    assert sorted(table["name"]) == FeatureStore(out / "features.h5").names() == ["1ubi_A", "helix_aeaaak", "histatin5"]
    assert (out / "loss_weights.csv").is_file()

    before = {p.name: p.stat().st_mtime_ns for p in (out / "features.entries").iterdir()}
    (raw / "bad.pdb").unlink()
    os.symlink(raw / GOOD, raw / "bad.pdb.gz")
    path.write_text(path.read_text().replace("bad.pdb", "bad.pdb.gz"))
    config = PrepareConfig(manifest=path, out=out)
    assert prepare(config) == 0
    assert not (out / "failures.csv").exists()
    assert "x" in FeatureStore(out / "features.h5")
    assert {name: (out / "features.entries" / name).stat().st_mtime_ns for name in before} == before
    # nothing new: the store is not joined again
    written = (out / "features.h5").stat().st_mtime_ns
    assert prepare(config) == 0
    assert (out / "features.h5").stat().st_mtime_ns == written


def test_what_makes_a_result_anew(examples, tmp_path):
    """Another file, options, or a damaged result; not another folder of the same file."""
    source = tmp_path / "s.pdb"
    atom = "ATOM  {0:5d}  CA  GLY A{0:4d}    {1:8.3f}   0.000   0.000  1.00  0.00           C\n"
    source.write_text("".join(atom.format(r, 3.8 * r) for r in range(1, 6)))

    def task(path=source, reading=EVERYTHING, families=FEATURES, dtype="float32"):
        return Task(FileEntry(name="s", source="Proteinflow", topology=path), reading, families, dtype, tmp_path / "o")

    assert result_attributes(task()) is None
    assert make_entry(task()) is None
    assert result_attributes(task())["modify_seq"] == "GGGGG"
    (tmp_path / "moved").mkdir()
    source.rename(tmp_path / "moved" / "s.pdb")
    source = tmp_path / "moved" / "s.pdb"
    assert result_attributes(task(source)) is not None
    assert result_attributes(task(source, reading=Selection(stride=2))) is None
    assert result_attributes(task(source, families=("sasa",))) is None
    assert result_attributes(task(source, dtype="float16")) is None
    assert result_attributes(task(source, families=tuple(reversed(FEATURES)))) is not None
    source.write_text(source.read_text().replace("GLY", "ALA"))
    os.utime(source, ns=(1, 1))
    assert result_attributes(task(source)) is None
    assert make_entry(task(source)) is None
    assert result_attributes(task(source))["modify_seq"] == "AAAAA"
    result = task(source).result
    result.write_bytes(result.read_bytes()[:100])
    assert result_attributes(task(source)) is None


def test_nothing_could_be_made(manifest, tmp_path):
    path = manifest([], *[(g, g, "train", "none.pdb", "" if g == "Proteinflow" else "none.xtc") for g in GROUPS])
    with pytest.raises(InputError, match="no entry could be made"):
        prepare(PrepareConfig(manifest=path, out=tmp_path / "out"))
    assert "no such file" in (tmp_path / "out" / "failures.csv").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "--workers 0"),
        ({"limit": 0}, "--limit 0"),
        ({"stride": 0}, "--stride"),
        ({"begin": 5, "end": 4}, "begin <= end"),
        ({"test_share": 1.0}, "--test-share"),
        ({"properties": ()}, "--properties"),
        ({"out": None}, "--out is missing"),
        ({"source": "atlas"}, "give --source and --raw"),
        ({"manifest": None}, "give --source and --raw"),
        ({"manifest": None, "source": "atlas"}, "give --source and --raw"),
        ({"scheduler": "tcp://127.0.0.1:9"}, "--scheduler tcp://127.0.0.1:9: cannot be reached"),
    ],
)
def test_wrong_options(manifest, tmp_path, options, message, monkeypatch):
    monkeypatch.setattr(data_prepare.pipeline.extraction, "CONNECT_SECONDS", 1)
    config = {"manifest": manifest(["1ubi_A"]), "out": tmp_path / "out"} | options
    with pytest.raises(InputError, match=message):
        prepare(PrepareConfig(**config))


def test_an_unexpected_exception_is_a_failure_of_its_entry(raw, tmp_path, monkeypatch):
    def broken(*_):
        raise KeyError("Q")

    monkeypatch.setattr(data_prepare.pipeline.extraction, "entry_features", broken)
    entry = FileEntry(name="s", source="Proteinflow", topology=raw / GOOD)
    assert make_entry(Task(entry, Selection(), FEATURES, "float32", tmp_path)) == "KeyError: 'Q'"


def test_one_store_a_folder(manifest, tmp_path):
    path = manifest(["1ubi_A"])
    prepare(PrepareConfig(manifest=path, out=tmp_path / "a.h5"))
    with pytest.raises(InputError, match=r"holds the results of a already; give b\.h5 its own folder"):
        prepare(PrepareConfig(manifest=path, out=tmp_path / "b.h5"))


def test_labels_for_all_or_none(manifest, tmp_path):
    path = manifest(["1ubi_A"], ("x", "Proteinflow", "", GOOD, ""))
    with pytest.raises(InputError, match="some entries have a label, some have none"):
        prepare(PrepareConfig(manifest=path, out=tmp_path / "out"))


def test_dry_run_and_limit(manifest, tmp_path, capsys):
    path = manifest(["1ubi_A", "1pdo_A", "2cvi_A"])
    out = tmp_path / "out"
    assert prepare(PrepareConfig(manifest=path, out=out, limit=2, dry_run=True)) == 0
    assert not out.exists()
    shown = capsys.readouterr().out
    assert "2 entries, 0 made already, 2 to make" in shown
    assert "2cvi_A" not in shown
    assert prepare(PrepareConfig(manifest=path, out=out, limit=1)) == 0
    assert FeatureStore(out / "features.h5").names() == ["1pdo_A"]
    capsys.readouterr()
    prepare(PrepareConfig(manifest=path, out=out, dry_run=True))
    assert "3 entries, 1 made already, 2 to make" in capsys.readouterr().out


def test_frames_chains_families_and_dtype(manifest, tmp_path):
    path = manifest(["helix_aeaaak", "1hvr_AB"])
    config = {"manifest": path, "stride": 20, "properties": ("contacts", "corr"), "dtype": "float16"}
    assert prepare(PrepareConfig(out=tmp_path / "some", **config)) == 0
    with FeatureStore(tmp_path / "some" / "features.h5") as store:
        residue, pair = store.read("helix_aeaaak")
    assert not residue[1:-1].any()
    assert pair[1:-1, 1:-1, 0].any()
    assert pair[1:-1, 1:-1, 9].any()
    with h5py.File(tmp_path / "some" / "features.h5") as file:
        assert {dataset.dtype for dataset in file.values()} == {np.dtype("float16")}
    assert prepare(PrepareConfig(manifest=path, out=tmp_path / "b", select=("B",))) == 1
    assert FeatureStore(tmp_path / "b" / "features.h5").length("1hvr_AB") == 101
    assert "no chain B; it has" in (tmp_path / "b" / "failures.csv").read_text()


def test_split_and_merge(manifest, tmp_path, monkeypatch, capsys):
    """Stores of the groups without labels, merged, split by clusters and weighed."""
    monkeypatch.setenv("PATH", str(tmp_path))  # no mmseqs there
    groups = {
        "md": ["helix_aeaaak", "helix_eeeekkkk", "2juy"],
        "idr": ["histatin5", "p53_tad"],
        "nma": ["1ubi_A", "1pdo_A", "2cvi_A"],
    }
    for folder, names in groups.items():
        assert prepare(PrepareConfig(manifest=manifest(names, label=""), out=tmp_path / folder)) == 0
        assert "no split into train and test: mmseqs is not on the PATH" in capsys.readouterr().err
        assert not (tmp_path / folder / "loss_weights.csv").exists()
        with pytest.raises(InputError, match="label"):
            read_table(tmp_path / folder / "table.csv")
    clusters = tmp_path / "clusters.tsv"
    clusters.write_text("".join(f"{name}\t{name}\n" for names in groups.values() for name in names))
    stores = tuple(tmp_path / folder / "features.h5" for folder in groups)
    merge(PrepareConfig(merge=stores, out=tmp_path / "all.h5", clusters=clusters, test_share=0.4))
    table = read_table(tmp_path / "table.csv")
    assert sorted(table["name"]) == sorted(name for names in groups.values() for name in names)
    assert set(table[table["label"] == "test"]["group"]) == set(GROUPS)
    assert (tmp_path / "loss_weights.csv").is_file()
    joined = raw_chunks(tmp_path / "all.h5")
    for store in stores:
        assert all(joined[name] == chunks for name, chunks in raw_chunks(store).items())
    with pytest.raises(InputError, match="give the merged store a folder of its own"):
        merge(PrepareConfig(merge=stores, out=tmp_path / "md" / "all.h5"))

    with pytest.raises(SystemExit) as left:
        main(["--check", str(tmp_path / "all.h5")])
    assert left.value.code == 0
    assert "8 entries, no problems" in capsys.readouterr().out
    with h5py.File(tmp_path / "all.h5", "r+") as file:
        file["1ubi_A_res_feature"][3, 1] = np.nan
    with pytest.raises(SystemExit) as left:
        main(["--check", str(tmp_path / "all.h5")])
    assert left.value.code == 1
    assert "1ubi_A" in capsys.readouterr().out


# -- killed in the middle -------------------------------------------------------------------------------------------


def start(manifest: Path, out: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "data_prepare.pipeline.prepare", "--manifest", str(manifest), "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--workers", "2"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for_results(process: subprocess.Popen, out: Path, number: int) -> None:
    deadline = time.monotonic() + 120
    while len(list((out / "features.entries").glob("[!.]*.h5"))) < number:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def finish(process: subprocess.Popen) -> None:
    """Wait for a run that has to end well."""
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output


def workers_of(process: subprocess.Popen) -> list[psutil.Process]:
    """Processes of Dask workers: those that do the work of a nanny."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if any("spawn_main" in part for part in child.cmdline())]


@pytest.fixture(scope="module")
def undisturbed(examples, tmp_path_factory):
    """Manifest of all example structures and the store that one process makes of them."""
    folder = tmp_path_factory.mktemp("undisturbed")
    table = pd.read_csv(examples / "examples.csv", keep_default_na=False)
    table = table[table["trajectory"] == ""]
    table["topology"] = [str(examples / path) for path in table["topology"]]
    table.to_csv(folder / "entries.csv", index=False)
    assert prepare(PrepareConfig(manifest=folder / "entries.csv", out=folder)) == 0
    return folder / "entries.csv", raw_chunks(folder / "features.h5")


@pytest.mark.slow
@pytest.mark.xdist_group("dask")
def test_workers_of_a_running_scheduler(manifest, raw, tmp_path):
    """Entries go to workers that were there before, which stay; failures come back with their reason."""
    from distributed import Client, LocalCluster

    (raw / "bad.pdb").write_text("nothing")
    path = manifest(["1ubi_A", "1pdo_A"], ("x", "Proteinflow", "train", "bad.pdb", ""))
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:
        config = PrepareConfig(manifest=path, out=tmp_path / "out", scheduler=cluster.scheduler_address)
        assert prepare(config) == 1
        with Client(cluster) as client:
            assert len(client.scheduler_info()["workers"]) == 1
    assert "bad.pdb: no atoms" in (tmp_path / "out" / "failures.csv").read_text()
    assert FeatureStore(tmp_path / "out" / "features.h5").names() == ["1pdo_A", "1ubi_A"]


@pytest.mark.slow
@pytest.mark.xdist_group("dask")
def test_a_killed_worker_costs_nothing(undisturbed, tmp_path):
    manifest, expected = undisturbed
    process = start(manifest, tmp_path)
    wait_for_results(process, tmp_path, 3)
    workers = workers_of(process)
    assert len(workers) == 2
    workers[0].send_signal(signal.SIGKILL)
    finish(process)
    assert raw_chunks(tmp_path / "features.h5") == expected


@pytest.mark.slow
@pytest.mark.xdist_group("dask")
def test_a_killed_command_goes_on(undisturbed, tmp_path):
    manifest, expected = undisturbed
    process = start(manifest, tmp_path)
    wait_for_results(process, tmp_path, 4)
    workers = workers_of(process)
    process.kill()
    process.wait()
    psutil.wait_procs(workers, timeout=30)
    assert not any(worker.is_running() for worker in workers)  # they do not outlive it
    assert not (tmp_path / "features.h5").exists()
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "features.entries").glob("[!.]*.h5")}
    assert 4 <= len(made) < len(expected) // 2
    finish(start(manifest, tmp_path))
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert not list((tmp_path / "features.entries").glob(".*"))
    assert raw_chunks(tmp_path / "features.h5") == expected
