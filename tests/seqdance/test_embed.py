"""The command `seqdance embed`."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from refusals import command_refused

from model.evaluation.regression import read_splits, regress, summarise_splits
from model.inference.embed import embed
from seqdance.commands.embed import main

SEQUENCES = ["MKTAYIAKQRQ", "GGSLEEKL<eos><cls>MKV", "MKV"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """in.fasta, and table.csv: 40 short sequences in 20 clusters, two targets (one with a gap)."""
    monkeypatch.chdir(tmp_path)
    Path("in.fasta").write_text("".join(f">p{k}\n{sequence}\n" for k, sequence in enumerate(SEQUENCES)))
    random = np.random.default_rng(0)
    sequences = ["".join(random.choice(list("ACDEFGHIKL"), random.integers(5, 30))) for _ in range(40)]
    table = pd.DataFrame({"name": [f"p{k}" for k in range(40)], "sequence": sequences})
    table["cluster"] = [f"c{k // 2}" for k in range(40)]
    table["length"] = table["sequence"].str.len()
    table["other"] = random.normal(size=40).round(3).astype(str)
    table.loc[3, "other"] = ""
    table.to_csv("table.csv", index=False)
    return tmp_path


@pytest.fixture
def run(tiny_model_folder: Path):
    """Run the command with the tiny network."""
    return lambda options: main(["--model", str(tiny_model_folder), "--device", "cpu", *options.split()])


@pytest.mark.parametrize("options", ["e.npy", "e.h5 --batch-size 1", "e.h5 --per-residue"])
def test_embeddings(run, tiny_model, folder: Path, capsys, options: str) -> None:
    expected = embed(tiny_model, SEQUENCES, "--per-residue" in options)
    run(f"--fasta in.fasta --output {options}")
    if options == "e.npy":
        assert capsys.readouterr().out.split() == ["e.npy", "e.txt"]
        np.testing.assert_allclose(np.load("e.npy"), expected, atol=1e-5, rtol=0)
        return
    with h5py.File("e.h5") as file:
        found = file["embedding"] if "embedding" in file else [file[name] for name in ("p0", "p1", "p2")]
        for one, values in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, values, atol=1e-5, rtol=0)


def test_properties_as_features(run, tiny_model, folder: Path, capsys) -> None:
    run("--fasta in.fasta --output f.npz --features both --mean residues")
    assert capsys.readouterr().out.split() == ["f.npz"]
    content = np.load("f.npz")
    expected = embed(tiny_model, SEQUENCES, features="both", mean="residues")
    np.testing.assert_allclose(content["features"], expected, atol=1e-5, rtol=0)
    assert content["columns"][-1] == "nma_res3"


def test_regression(run, tiny_model, tiny_model_folder: Path, folder: Path, capsys) -> None:
    """The numbers of the Python functions, also for other embeddings from a file and from a network."""
    table = pd.read_csv("table.csv")
    other = np.random.default_rng(1).normal(size=(40, 3))
    np.save("other.npy", other)
    options = "--regress table.csv --target length other --components 5 --repeats 4 --seed 3 --output results.csv"
    run(f"{options} --compare random=other.npy again={tiny_model_folder}")
    assert capsys.readouterr().out.splitlines()[-2:] == ["results.csv", "results_summary.csv"]
    own = embed(tiny_model, table["sequence"].tolist())
    embeddings = {"model": own, "random": other, "again": own}
    expected = regress(embeddings, table[["length", "other"]], read_splits(table, 4, 3), components=5)
    summary = summarise_splits(expected)
    for name, frame in (("results.csv", expected), ("results_summary.csv", summary)):
        found = pd.read_csv(name)
        assert found.pop("model").iloc[0]
        pd.testing.assert_frame_equal(found, frame, atol=1e-4, rtol=1e-3, check_dtype=False)
    table.rename(columns={"sequence": "seq"}).to_csv("published.csv", index=False)
    run(options.replace("table.csv", "published.csv").replace("results", "again"))
    own_rows = pd.read_csv("results.csv").query("embedding == 'model'").reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_csv("again.csv"), own_rows)
    assert expected.query("target == 'other'")[["train", "test"]].sum(axis=1).eq(39).all()
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--fasta in.fasta --output e.txt", ["--output e.txt", ".h5", ".npy"]),
        ("--fasta in.fasta --output e.npy --per-residue", ["--output e.npy", ".h5"]),
        ("--fasta in.fasta --output e.h5 --per-residue --mean tokens", ["--mean", "--per-residue"]),
        ("--fasta in.fasta --output e.h5 --features all", ["--features", "properties"]),
        ("REGRESS length --features both", ["--regress", "--features"]),
        ("REGRESS length --mean residues", ["--regress", "--mean"]),
        ("--fasta in.fasta --output folder.h5", ["folder.h5"]),
        ("--fasta slash.fasta --output e.h5 --per-residue", ["a/b"]),
        ("--fasta in.fasta --output e.h5 --batch-size 0", ["--batch-size 0"]),
        ("--regress table.csv --output r.csv", ["--regress", "--target"]),
        ("--target length --fasta in.fasta --output e.h5", ["--target", "--regress"]),
        ("--regress table.csv --target length --output e.h5", ["--output e.h5", ".csv"]),
        ("REGRESS size", ["table.csv", "size"]),
        ("--regress unnamed.csv --target y --output r.csv", ["unnamed.csv", "sequence or seq"]),
        ("REGRESS name", ["table.csv", "line 2", "name", "p0"]),
        ("REGRESS length --fasta in.fasta", ["--regress", "fasta"]),
        ("REGRESS length --per-residue", ["--regress", "per-residue"]),
        ("REGRESS length --components 0", ["--components 0"]),
        ("REGRESS length --compare x.npy", ["--compare x.npy"]),
        ("REGRESS length --compare model=x.npy", ["--compare", "model"]),
        ("REGRESS length --compare a=x.npy", ["x.npy", "(3, 2)"]),
        ("--regress bad.csv --target y --output r.csv", ["bad.csv, line 4", "residue 2", "'-'"]),
        ("--regress bad.csv --target z --output r.csv", ["bad.csv", "line 4", "z", "inf"]),
        ("--regress three.csv --target y --output r.csv", ["three.csv: sequence of line 3", "write MK"]),
        ("--regress none.csv --target y --output r.csv", ["none.csv"]),
        ("--regress split.csv --target y --output r.csv", ["split.csv", "split_0", "valid"]),
    ],
)
def test_options_that_cannot_be_used(tiny_model_folder: Path, folder: Path, capsys, options: str, named: list) -> None:
    np.save("x.npy", np.zeros((3, 2)))
    Path("bad.csv").write_text("sequence,y,z,cluster\nMKV,1,1,a\n\nM-V,2,inf,b\n")
    Path("three.csv").write_text("sequence,y,cluster\n\nMetLys,1,a\nMKV,2,b\n")
    Path("unnamed.csv").write_text("fasta,y,split_0\nMKV,1,train\n")
    Path("split.csv").write_text("sequence,y,split_0\nMKV,1,train\nMAV,2,valid\n")
    Path("slash.fasta").write_text(">a/b\nMKV\n")
    Path("folder.h5").mkdir()
    before = set(folder.iterdir())
    words = options.replace("REGRESS", "--regress table.csv --output r.csv --target").split()
    command_refused(main, ["--model", tiny_model_folder, *words], capsys, *named)
    assert set(folder.iterdir()) == before
