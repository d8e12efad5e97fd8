"""The whole main job on a part of the example data, and the pipeline that it begins with."""

from __future__ import annotations

import json
import os

import numpy as np
import pandas as pd
import pytest

import seqdance.demo
from data_prepare.errors import InputError
from data_prepare.pipeline import PrepareConfig, entry_features, main, prepare
from data_prepare.properties import GROUPS
from data_prepare.sources import Entry, read_manifest
from data_prepare.store import FeatureStore
from data_prepare.table import read_table

NAMES = ("helix_aeaaak", "2juy", "histatin5", "p53_tad", "1ubi_A", "1hvr_AB")


@pytest.fixture
def small_examples(examples, tmp_path):
    """Two small entries of each group, one of them for the test."""
    table = pd.read_csv(examples / "examples.csv", keep_default_na=False).set_index("name").loc[list(NAMES)]
    table["label"] = ["train", "test"] * 3
    for folder in ("structures", "trajectories"):
        os.symlink(examples / folder, tmp_path / folder)
    table.reset_index().to_csv(tmp_path / "examples.csv", index=False)
    return tmp_path


@pytest.mark.slow
@pytest.mark.xdist_group("torchrun")
def test_demo(small_examples, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(seqdance.demo, "EXAMPLES", small_examples)
    monkeypatch.setattr(seqdance.demo, "UBIQUITIN", "MQIFVKTLTG")
    out = tmp_path / "demo"
    seqdance.demo.main(["--out", str(out), "--updates", "20"])
    shown = capsys.readouterr().out
    assert str(out / "ubiquitin_mutations.png") in shown
    metrics = json.loads((out / "metrics.json").read_text())["groups"]
    assert set(metrics) == set(GROUPS)
    for values in metrics.values():
        for name in ("model", "mean", "sequence"):
            assert np.isfinite(values[name]["loss"])
    assert len(pd.read_csv(out / "ubiquitin_mutations.csv")) == 190
    assert (out / "ubiquitin_mutations.png").stat().st_size > 10_000
    assert len((out / "training" / "log.jsonl").read_text().splitlines()) >= 1

    # a second run takes up what is there
    before = {path: path.stat().st_mtime_ns for path in (out / "data" / "entries").iterdir()}
    weights = (out / "training" / "checkpoints" / "update_20" / "model.safetensors").stat().st_mtime_ns
    seqdance.demo.main(["--out", str(out), "--updates", "20"])
    assert {path: path.stat().st_mtime_ns for path in (out / "data" / "entries").iterdir()} == before
    assert (out / "training" / "checkpoints" / "update_20" / "model.safetensors").stat().st_mtime_ns == weights


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


def test_prepare_goes_on_after_a_failure_and_resumes(small_examples, tmp_path, capsys):
    """A structure that cannot be read is recorded; mended, it is the only one made again."""
    good = "structures/1ubi_A.pdb.gz"
    (small_examples / "bad.pdb").write_text("nothing")
    manifest = pd.read_csv(small_examples / "examples.csv", keep_default_na=False)
    manifest = manifest[manifest["name"].isin(["helix_aeaaak", "histatin5", "1ubi_A"])].assign(label="train")
    extra = pd.DataFrame(
        [{"name": "x", "source": "Proteinflow", "label": "test", "topology": "bad.pdb", "trajectory": ""}]
    )
    path = small_examples / "m.csv"
    pd.concat([manifest, extra]).fillna("").to_csv(path, index=False)
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

    before = {p.name: p.stat().st_mtime_ns for p in (out / "entries").iterdir()}
    (small_examples / "bad.pdb").unlink()
    os.symlink(small_examples / good, small_examples / "bad.pdb.gz")
    path.write_text(path.read_text().replace("bad.pdb", "bad.pdb.gz"))
    assert prepare(PrepareConfig(path, out)) == 0
    assert not (out / "failures.csv").exists()
    assert "x" in FeatureStore(out / "features.h5")
    assert {name: (out / "entries" / name).stat().st_mtime_ns for name in before} == before


def test_a_changed_file_is_made_again(small_examples, tmp_path):
    from data_prepare.pipeline import _is_made, _make_entry

    source = small_examples / "s.pdb"
    atom = "ATOM  {0:5d}  CA  GLY A{0:4d}    {1:8.3f}   0.000   0.000  1.00  0.00           C\n"
    source.write_text("".join(atom.format(r, 3.8 * r) for r in range(1, 6)))
    entry = Entry("s", "Proteinflow", "train", source)
    assert _make_entry(entry, tmp_path / "o") is None
    assert _is_made(tmp_path / "o", entry)
    source.write_text(source.read_text().replace("GLY", "ALA"))
    os.utime(source, ns=(1, 1))
    assert not _is_made(tmp_path / "o", entry)
    (tmp_path / "o" / "entries" / "s.npz").write_bytes(b"half")
    assert not _is_made(tmp_path / "o", entry)


def test_nothing_could_be_made(small_examples, tmp_path):
    path = small_examples / "m.csv"
    header = "name,source,label,topology,trajectory"
    path.write_text(f"{header}\nx,Proteinflow,train,none.pdb,\n")
    with pytest.raises(InputError, match="no entry labelled train of ATLAS_GPCRmd_PED_mdCATH, IDRome"):
        prepare(PrepareConfig(path, tmp_path / "out"))
    rows = [f"{g},{g},train,none.pdb,{'' if g == 'Proteinflow' else 'none.xtc'}" for g in GROUPS]
    path.write_text("\n".join([header, *rows]) + "\n")
    with pytest.raises(InputError, match="no entry could be made"):
        prepare(PrepareConfig(path, tmp_path / "out"))
    assert "no such file" in (tmp_path / "out" / "failures.csv").read_text()
    with pytest.raises(InputError, match="--workers 0"):
        prepare(PrepareConfig(path, tmp_path / "out", 0))


def test_an_unexpected_exception_is_a_failure_of_its_entry(small_examples, tmp_path, monkeypatch):
    import data_prepare.pipeline

    def broken(entry):
        raise KeyError("Q")

    monkeypatch.setattr(data_prepare.pipeline, "entry_features", broken)
    entry = Entry("s", "Proteinflow", "train", small_examples / "structures" / "1ubi_A.pdb.gz")
    assert data_prepare.pipeline._make_entry(entry, tmp_path) == "KeyError: 'Q'"
