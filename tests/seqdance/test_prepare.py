"""`seqdance prepare`, `merge` and `check`: what is made, what fails, what a rerun does, what a killed run leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import h5py
import mdtraj
import numpy as np
import pandas as pd
import psutil
import pytest
from refusals import command_refused
from stores import stored_bytes

from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.table import read_table
from data_prepare.pipeline import extraction
from data_prepare.properties import (
    CONFORMATIONS,
    FLUCTUATIONS,
    GROUPS,
    INTERACTIONS,
    RESIDUE_PROPERTIES,
    entry_columns,
)
from seqdance.commands import check, merge, prepare

GOOD = "structures/1ubi_A.pdb.gz"
COLUMNS = ["name", "source", "label", "topology", "trajectory"]


def run(command, *words):
    try:
        command.main([str(word) for word in words])
    except SystemExit as left:
        return left.code
    return 0


def times(folder):
    """Time of the last change of every file, hidden ones too."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


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
        more = pd.DataFrame(rows, columns=COLUMNS).assign(group="")
        pd.concat([table, more]).to_csv(raw / "entries.csv", index=False)
        return raw / "entries.csv"

    return write


def test_prepare_continues_after_a_failure_and_resumes(manifest, raw, tmp_path, capsys):
    """A structure that cannot be read is recorded; mended, it is the only one made again."""
    (raw / "bad.pdb").write_text("nothing")
    path = manifest(["helix_aeaaak", "histatin5", "1ubi_A"], ("x", "Proteinflow", "test", "bad.pdb", ""))
    store = tmp_path / "out" / "features.h5"
    words = ("--manifest", path, "--out", store)
    assert run(prepare, *words) == 1
    assert "failed entries: 1," in capsys.readouterr().err
    failures = pd.read_csv(store.with_name("failures.csv"))
    assert failures["name"].tolist() == ["x"]
    assert "bad.pdb: no atoms" in failures["reason"][0]
    table = read_table(store.with_name("table.csv"))
    assert sorted(table["name"]) == FeatureStore(store).names() == ["1ubi_A", "helix_aeaaak", "histatin5"]
    assert store.with_name("loss_weights.csv").is_file()
    before = times(tmp_path / "out")
    assert run(prepare, *words) == 1  # tried again; what is made of the same stays
    after = times(tmp_path / "out")
    assert {file.name for file in after if after[file] != before[file]} == {"failures.csv"}

    (raw / "bad.pdb").unlink()
    os.symlink(raw / GOOD, raw / "bad.pdb.gz")
    path.write_text(path.read_text().replace("bad.pdb", "bad.pdb.gz"))
    assert run(prepare, *words) == 0
    assert not store.with_name("failures.csv").exists()
    assert "x" in FeatureStore(store)
    results = {file: changed for file, changed in before.items() if file.parent.name == "features.entries"}
    assert len(results) == 3
    assert results.items() <= times(tmp_path / "out").items()


def test_a_rerun_does_nothing_unless_something_changed(manifest, raw, tmp_path, monkeypatch, capsys):
    names = ["helix_aeaaak", "helix_eeeekkkk", "histatin5", "p53_tad", "1ubi_A", "1pdo_A"]
    clusters, store = tmp_path / "clusters.tsv", tmp_path / "out" / "s.h5"
    clusters.write_text("".join(f"{name}\t{name}\n" for name in names))
    words = ["--manifest", manifest(names, label=""), "--out", store, "--clusters", clusters, "--test-share", "0.4"]

    def changed_by(*more):
        before = times(store.parent)
        assert run(prepare, *words, *more) == 0
        after = times(store.parent)
        return {file.name for file in after if after[file] != before.get(file)} - {".s.h5.made_of"}

    assert changed_by() >= {"s.h5", "table.csv", "loss_weights.csv"}
    monkeypatch.setattr(extraction, "make_entry", lambda task: pytest.fail("made again"))
    labels = read_table(store.with_name("table.csv"))["label"]
    assert changed_by() == set()
    assert changed_by("--seed", "3") == {"table.csv", "loss_weights.csv"}
    assert read_table(store.with_name("table.csv"))["label"].tolist() == labels.tolist()
    assert changed_by("--new-split", "--seed", "3") == {"table.csv", "loss_weights.csv"}
    assert read_table(store.with_name("table.csv"))["label"].tolist() != labels.tolist()
    assert changed_by("--new-split", "--seed", "3") == set()
    table, weights = store.with_name("table.csv"), store.with_name("loss_weights.csv")
    weights.write_text(weights.read_text()[:-30])  # not as the run left it
    assert "loss_weights.csv" in changed_by()
    table.write_text(table.read_text()[:-30])  # its labels are not known any more
    command_refused(prepare.main, words, capsys, table, "--new-split")
    assert "table.csv" in changed_by("--new-split")
    assert read_table(table)["label"].tolist() == labels.tolist()
    clusters.write_text("".join(f"{names[0]}\t{name}\n" for name in names))
    assert "table.csv" in changed_by()
    store.write_bytes(store.read_bytes()[:-100])
    assert changed_by() == {"s.h5"}
    assert changed_by() == set()


def test_a_folder_of_strangers(examples, tmp_path, monkeypatch, capsys):
    """A trajectory without a topology and two files of one name fail alone; unused files are named at the end."""
    monkeypatch.setenv("PATH", "")  # no mmseqs, which takes seconds
    folder, store = tmp_path / "raw", tmp_path / "out" / "s.h5"
    for place in "a/good.pdb a/good.xtc a/zzz_notopology.xtc b.c/x.pdb b.c/x.xtc b.c_x.pdb b.c_x.xtc".split():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        os.symlink((examples / "trajectories" / "helix_aeaaak").with_suffix(place[-4:]), folder / place)
    os.symlink(examples / "trajectories" / "2juy.pdb", folder / "a" / "good_2.pdb")
    (folder / "a" / "md.log").write_text("a log")
    words = ("--source", "trajectories", "--raw", folder, "--out", store, "--stride", "20")
    assert run(prepare, *words) == 1
    assert f"{folder}: 2 of 9 files are not used: 1 .pdb (a/good_2.pdb), 1 .log (a/md.log)" in capsys.readouterr().err
    assert FeatureStore(store).names() == ["a_good"]
    failures = pd.read_csv(store.with_name("failures.csv"), index_col="name")["reason"]
    assert sorted(failures.index) == ["a_zzz_notopology", "b.c_x"]
    assert "zzz_notopology.xtc" in failures["a_zzz_notopology"]
    assert str(folder / "b.c_x.pdb") in failures["b.c_x"]
    assert run(prepare, *words, "--dry-run") == 2
    shown = capsys.readouterr()
    assert "a/md.log" in shown.err
    assert f"{folder}: entries that would fail: a_zzz_notopology, b.c_x" in shown.err
    assert any(
        line.startswith("a_zzz_notopology\t") and "zzz_notopology.xtc" in line for line in shown.out.splitlines()
    )


def test_entries_that_cannot_be_made_at_all(manifest, tmp_path, capsys):
    path = manifest([], ("a", "IDRome", "train", "none.pdb", "none.xtc"), ("b", "Proteinflow", "train", "none.pdb", ""))
    store = tmp_path / "out" / "s.h5"
    command_refused(prepare.main, ["--manifest", path, "--out", store], capsys, store, "failures.csv")
    assert "no such file" in store.with_name("failures.csv").read_text()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--workers", "0"], "--workers 0"),
        (["--stride", "0"], "--stride 0"),
        (["--begin", "5", "--end", "4"], "5 to 4"),
        (["--test-share", "1.0"], "--test-share 1.0"),
        (["--identity", "50"], "--identity 50"),
        (["--seed", "-1"], "--seed -1"),
        (["--clusters", "none.tsv"], "none.tsv"),
        (["--clusters", "others.tsv"], "member"),
        (["--properties"], "--properties"),
        (["--properties", "surface"], "surface"),
        (["--temperatures", "320"], "--source mdcath"),
        (["--temperatures"], "--temperatures"),
        (["--out", "folder"], "--out folder"),
        (["--source", "atlas"], "--source"),
        (["--merge", "a.h5"], "--merge"),
        (["--scheduler", "tcp://127.0.0.1:9"], "--scheduler tcp://127.0.0.1:9"),
    ],
)
def test_wrong_options_of_prepare(manifest, tmp_path, words, named, monkeypatch, capsys):
    """Refused before any entry is made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(extraction, "CONNECT_SECONDS", 0.1)
    monkeypatch.setattr(extraction, "make_entry", lambda task: pytest.fail("made"))
    (tmp_path / "others.tsv").write_text("a\ta\n")
    path = manifest(["1ubi_A"], label="")
    command_refused(prepare.main, ["--manifest", path, "--out", "out/s.h5", *words], capsys, named)
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("given", ["", "--source atlas", "--raw .", "--manifest none.csv"])
def test_wrong_sources(tmp_path, given, capsys):
    named = ("none.csv: no such file",) if "none.csv" in given else ("--source and --raw", "--manifest")
    command_refused(prepare.main, ["--out", tmp_path / "s.h5", *given.split()], capsys, *named)


def test_one_store_a_folder(manifest, tmp_path, capsys):
    path = manifest(["1ubi_A"])
    assert run(prepare, "--manifest", path, "--out", tmp_path / "a.h5") == 0
    assert pd.read_csv(tmp_path / "loss_weights.csv", index_col=0).columns.tolist() == ["Proteinflow"]
    assert "no loss weights of ATLAS_GPCRmd_PED_mdCATH, IDRome" in capsys.readouterr().err
    command_refused(prepare.main, ["--manifest", path, "--out", tmp_path / "b.h5"], capsys, "a", "b.h5")


def test_dry_run_and_limit(manifest, tmp_path, capsys):
    path = manifest(["1ubi_A", "1pdo_A", "2cvi_A"])
    words = ("--manifest", path, "--out", tmp_path / "out" / "s.h5")
    assert run(prepare, *words, "--limit", "2", "--dry-run") == 0
    assert not (tmp_path / "out").exists()
    shown = capsys.readouterr().out
    assert "entries: 2, made already: 0, to make: 2" in shown
    assert "2cvi_A" not in shown
    assert run(prepare, *words, "--limit", "1") == 0
    assert FeatureStore(tmp_path / "out" / "s.h5").names() == ["1pdo_A"]
    capsys.readouterr()
    assert run(prepare, *words, "--dry-run") == 0
    assert "entries: 3, made already: 1, to make: 2" in capsys.readouterr().out


def test_dry_run_names_missing_files(manifest, tmp_path, capsys):
    row = ("a", "IDRome", "train", GOOD, "none.xtc")
    path = manifest(["1ubi_A"], row)
    words = ["--manifest", path, "--out", tmp_path / "s.h5", "--dry-run"]
    with pytest.raises(SystemExit, match="2"):
        prepare.main([str(word) for word in words])
    shown = capsys.readouterr()
    good, bad = shown.out.splitlines()[:2]
    assert good.endswith(" MB")
    assert bad == f"a\tIDRome\tno such file: {path.parent / 'none.xtc'}"
    assert shown.err == f"error: {path}: entries that would fail: a; the lines above say why\n"


def test_frames_chains_features_and_dtype(manifest, tmp_path):
    path = manifest(["helix_aeaaak", "1hvr_AB"])
    store = tmp_path / "some" / "s.h5"
    words = ("--stride", "20", "--properties", "contacts", "corr", "--dtype", "float16")
    assert run(prepare, "--manifest", path, "--out", store, *words) == 0
    with FeatureStore(store) as opened:
        residue, pair = opened.read("helix_aeaaak")
        assert opened.missing("helix_aeaaak") == RESIDUE_PROPERTIES[:7]
    assert (residue == -1).all()
    assert pair[1:-1, 1:-1, 0].any()
    assert pair[1:-1, 1:-1, 9].any()
    with h5py.File(store) as file:
        stored = {dataset.dtype for key, dataset in file.items() if not key.endswith("_interactions")}
    assert stored == {np.dtype("float16")}
    store = tmp_path / "chain" / "s.h5"
    assert run(prepare, "--manifest", path, "--out", store, "--select", "B") == 1
    assert FeatureStore(store).length("1hvr_AB") == 101
    assert "no chain B; it has" in store.with_name("failures.csv").read_text()


def test_a_store_of_links_to_its_results(manifest, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")  # no mmseqs, which takes seconds
    names, one, two = ["helix_aeaaak", "1ubi_A"], tmp_path / "one" / "s.h5", tmp_path / "two" / "s.h5"
    path = manifest(names)
    assert run(prepare, "--manifest", path, "--out", one) == 0
    assert run(prepare, "--manifest", path, "--out", two, "--compression", "link") == 0
    assert stored_bytes(two) == stored_bytes(one)
    assert two.stat().st_size < 10_000 < one.stat().st_size
    results = two.with_suffix(".entries")
    before = times(results)
    assert run(prepare, "--manifest", manifest([*names, "1pdo_A"]), "--out", two, "--compression", "link") == 0
    assert before.items() <= times(results).items()
    moved = (tmp_path / "two").rename(tmp_path / "moved") / "s.h5"
    with FeatureStore(moved) as store:
        assert store.names() == ["1pdo_A", *sorted(names)]
        np.testing.assert_array_equal(store.read("1ubi_A")[1], FeatureStore(one).read("1ubi_A")[1])
    assert run(check, moved) == 0
    assert run(merge, moved, "--out", tmp_path / "merged" / "s.h5") == 0
    assert stored_bytes(tmp_path / "merged" / "s.h5").items() >= stored_bytes(one).items()
    gone = moved.with_suffix(".entries") / "1ubi_A.h5"
    gone.unlink()
    command_refused(merge.main, [str(moved), "--out", str(tmp_path / "again" / "s.h5")], capsys, gone)


def test_split_merge_and_check(manifest, tmp_path, monkeypatch, capsys):
    """Stores of the groups without labels, merged, split by clusters and weighted."""
    monkeypatch.setenv("PATH", str(tmp_path))  # no mmseqs there
    groups = {
        "md": ["helix_aeaaak", "helix_eeeekkkk", "2juy"],
        "idr": ["histatin5", "p53_tad"],
        "nma": ["1ubi_A", "1pdo_A", "2cvi_A"],
    }
    stores = [tmp_path / folder / "features.h5" for folder in groups]
    for store, names in zip(stores, groups.values(), strict=True):
        assert run(prepare, "--manifest", manifest(names, label=""), "--out", store) == 0
        assert "no split into train and test: mmseqs is not on the PATH" in capsys.readouterr().err
        assert not store.with_name("loss_weights.csv").exists()
        assert (pd.read_csv(store.with_name("table.csv"), keep_default_na=False)["label"] == "").all()
    clusters, out = tmp_path / "clusters.tsv", tmp_path / "all" / "all.h5"
    clusters.write_text("".join(f"{name}\t{name}\n" for names in groups.values() for name in names))
    words = [*stores, "--out", out, "--clusters", clusters, "--test-share", "0.4", "--seed", "3"]
    for wrong, named in (
        (["--out", tmp_path / "md" / "all.h5"], "md"),
        (["--stride", "10"], "--stride"),
        (["--seed", "-1"], "--seed -1"),
        (["--on-duplicate", "both"], "--on-duplicate"),
    ):
        command_refused(merge.main, [*words, *wrong], capsys, named)
    assert not out.parent.exists()
    assert run(merge, *words) == 0
    table = read_table(out.with_name("table.csv"))
    assert sorted(table["name"]) == sorted(name for names in groups.values() for name in names)
    assert set(table[table["label"] == "test"]["group"]) == set(GROUPS)
    assert out.with_name("loss_weights.csv").is_file()
    assert stored_bytes(out) == {name: data for store in stores for name, data in stored_bytes(store).items()}
    before = times(out.parent)
    assert run(merge, *words) == 0
    assert times(out.parent) == before  # a rerun does nothing
    assert run(merge, *words, "--seed", "1") == 0
    assert times(out.parent)[out] == before[out]
    assert run(merge, out, "--out", tmp_path / "kept" / "k.h5", "--keep-labels") == 0
    assert (tmp_path / "kept" / "table.csv").read_text() == out.with_name("table.csv").read_text()

    capsys.readouterr()
    parts = tmp_path / "parts" / "p.h5"  # labels of the tables are not kept without being asked for
    assert run(merge, out, "--out", parts) == 0
    assert "--keep-labels" in capsys.readouterr().err
    assert (pd.read_csv(parts.with_name("table.csv"), keep_default_na=False)["label"] == "").all()
    assert not parts.with_name("loss_weights.csv").exists()
    assert run(check, parts) == 1  # nothing to train on
    assert run(check, out) == 0
    assert "entries: 8, problems: none" in capsys.readouterr().out
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["names"] = [1, 2]
    for path in (tmp_path / "other.h5", clusters, tmp_path):
        command_refused(check.main, [path], capsys, path)
    with h5py.File(out, "r+") as file:
        file["1ubi_A_res_feature"][3, 1] = np.nan
    assert run(check, out) == 1
    assert "1ubi_A" in capsys.readouterr().out
    command_refused(check.main, [tmp_path / "none.h5"], capsys, "none.h5")
    command_refused(merge.main, [tmp_path / "none.h5", "--out", tmp_path / "n" / "n.h5"], capsys, "none.h5")
    command_refused(merge.main, ["--out", tmp_path / "n" / "n.h5"], capsys, "stores")


@pytest.fixture(scope="module")
def undisturbed(examples, tmp_path_factory):
    """Manifest of all example structures and the store that one process makes of them."""
    folder = tmp_path_factory.mktemp("undisturbed")
    table = pd.read_csv(examples / "examples.csv", keep_default_na=False)
    table = table[table["trajectory"] == ""]
    table["topology"] = [str(examples / path) for path in table["topology"]]
    table.to_csv(folder / "entries.csv", index=False)
    assert run(prepare, "--manifest", folder / "entries.csv", "--out", folder / "s.h5") == 0
    return folder / "entries.csv", stored_bytes(folder / "s.h5")


def workers_after(process, out, number):
    """Processes of the Dask workers, those that do the work of a nanny, once there are some results."""
    deadline = time.monotonic() + 120
    while len(list(out.with_suffix(".entries").glob("[!.]*.h5"))) < number:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if any("spawn_main" in part for part in child.cmdline())]


@pytest.mark.slow
@pytest.mark.xdist_group("dask")
def test_a_killed_worker_and_a_killed_command_cost_nothing(undisturbed, tmp_path):
    """Another worker makes the entry, the next run the rest; the store has the same bytes."""
    manifest, expected = undisturbed
    store, results = tmp_path / "s.h5", tmp_path / "s.entries"
    words = "-m seqdance.cli prepare --workers 2".split()
    command = [sys.executable, *words, "--manifest", manifest, "--out", store]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    workers = workers_after(process, store, 2)
    assert len(workers) == 2
    workers[0].send_signal(signal.SIGKILL)
    workers = workers_after(process, store, 5)
    process.kill()
    process.wait()
    assert psutil.wait_procs(workers, timeout=30)[1] == []  # they do not outlive it
    assert not store.exists()
    made = {path: changed for path, changed in times(results).items() if not path.name.startswith(".")}
    assert 5 <= len(made) < len(expected) // 2
    assert run(prepare, "--manifest", manifest, "--out", store) == 0
    assert made.items() <= times(results).items()
    assert not list(results.glob(".*"))
    assert stored_bytes(store) == expected


def test_models_without_side_chains(examples, tmp_path, capsys):
    """A backbone beside a complete entry: a note names what is missing, the check counts it."""
    path = examples / "trajectories" / "helix_aeaaak.pdb"
    frames = mdtraj.load(str(path.with_suffix(".xtc")), top=str(path))[:5]
    (tmp_path / "raw").mkdir()
    for name, atoms in (("whole", "all"), ("backbone", "name N CA C O CB")):
        part = frames.atom_slice(frames.topology.select(atoms))
        part[0].save(str(tmp_path / "raw" / f"{name}.pdb"))
        part.save(str(tmp_path / "raw" / f"{name}.xtc"))
    clusters, store = tmp_path / "clusters.tsv", tmp_path / "out" / "s.h5"
    clusters.write_text("whole\twhole\nbackbone\tbackbone\n")
    words = ["--source", "trajectories", "--raw", tmp_path / "raw", "--out", store, "--clusters", clusters]
    assert run(prepare, *words) == 0
    assert "note: backbone: " in capsys.readouterr().err
    with FeatureStore(store) as opened:
        assert opened.missing("whole") == ()
        missing = opened.missing("backbone")
        assert missing == ("sasa_mean", "sasa_std", "chi", *INTERACTIONS)
        (residue, pair), (expected_residue, expected_pair) = (opened.read(name) for name in ("backbone", "whole"))
    columns, channels = entry_columns(missing)
    assert np.isnan(residue[1:-1, columns]).all()
    assert np.isnan(pair[1:-1, 1:-1, channels]).all()
    np.testing.assert_array_equal(np.delete(residue, columns, 1), np.delete(expected_residue, columns, 1))
    np.testing.assert_array_equal(np.delete(pair, channels, 2), np.delete(expected_pair, channels, 2))
    assert run(check, store) == 0
    assert f"1 of 2 entries lack {', '.join(missing)}" in capsys.readouterr().out


def test_structures_as_conformations(manifest, raw, examples, tmp_path, capsys):
    """Each structure is two entries of one label; an entry that changes its group is made anew."""
    folder = tmp_path / "pdb"
    folder.mkdir()
    for name in ("1ubi_A", "2cvi_A"):
        (folder / f"{name}.pdb.gz").symlink_to(examples / "structures" / f"{name}.pdb.gz")
    store = tmp_path / "out" / "s.h5"
    words = ("--source", "structures", "--raw", folder, "--out", store, "--conformations")
    clusters = tmp_path / "clusters.tsv"
    clusters.write_text("1ubi_A\t1ubi_A\n2cvi_A\t2cvi_A\n")
    assert run(prepare, *words, "--clusters", clusters, "--test-share", "0.5") == 0
    assert "lack" not in capsys.readouterr().err
    table = read_table(store.with_name("table.csv")).set_index("name")
    assert set(table.index) == {"1ubi_A", "2cvi_A", "1ubi_A_conformation", "2cvi_A_conformation"}
    for name in ("1ubi_A", "2cvi_A"):
        both = table.loc[[name, f"{name}_conformation"]]
        assert both["label"].nunique() == both["modify_seq"].nunique() == 1
        assert both["group"].tolist() == ["Proteinflow", CONFORMATIONS]
    with FeatureStore(store) as opened:
        assert {*FLUCTUATIONS} < {*opened.missing("1ubi_A_conformation")}
        expected = opened.read("1ubi_A_conformation")[0]
    assert run(check, store) == 0

    store = tmp_path / "own" / "s.h5"
    for group in ("Proteinflow", CONFORMATIONS):
        path = manifest([], ["x", "mine", "train", GOOD, ""])
        path.write_text(pd.read_csv(path).assign(group=group).to_csv(index=False))
        assert run(prepare, "--manifest", path, "--out", store) == 0
    with FeatureStore(store) as opened:
        np.testing.assert_array_equal(opened.read("x")[0], expected)
    path.write_text(pd.read_csv(path).assign(trajectory="x.xtc").to_csv(index=False))
    assert run(prepare, "--manifest", path, "--out", store) == 2
    assert CONFORMATIONS in capsys.readouterr().err
    assert (
        run(prepare, "--source", "trajectories", "--raw", raw / "trajectories", "--out", store, "--conformations") == 2
    )
