from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from model.config import ModelConfig
from model.inference.embed import embed, read_splits, regress
from model.network.dance import DanceModel
from seqdance.commands.embed import main

DATA = Path(__file__).resolve().parents[1] / "data" / "model"
SEQUENCES = ["MKTAYIAKQRQ", "GGSLEEKL<eos><cls>MKV", "MKV"]


@pytest.fixture(scope="module")
def network() -> DanceModel:
    network = DanceModel(ModelConfig(hidden=32, layers=2, heads=4, feed_forward=64))
    network.load_state_dict(load_file(DATA / "tiny_weights.safetensors"))
    return network.eval()


@pytest.fixture(scope="module")
def model_folder(network: DanceModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    network.save_pretrained(folder)
    return folder


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "in.fasta"
    path.write_text("".join(f">p{k}\n{sequence}\n" for k, sequence in enumerate(SEQUENCES)))
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """40 short sequences in 20 clusters, two targets (one with a gap)."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "name": [f"p{k}" for k in range(40)],
            "sequence": ["".join(random.choice(list("ACDEFGHIKL"), random.integers(5, 30))) for _ in range(40)],
            "cluster": [f"c{k // 2}" for k in range(40)],
        }
    )
    frame["length"] = frame["sequence"].str.len()
    frame["other"] = random.normal(size=40).round(3).astype(str)
    frame.loc[3, "other"] = ""
    path = tmp_path / "table.csv"
    frame.to_csv(path, index=False)
    return path


def run(model: Path, *options: object) -> None:
    main(["--model", str(model), "--device", "cpu", *map(str, options)])


def expect_error(capsys: pytest.CaptureFixture[str], model: Path, *options: object) -> str:
    with pytest.raises(SystemExit) as left:
        run(model, *options)
    assert left.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_means(network: DanceModel, model_folder: Path, fasta: Path, tmp_path: Path, capsys) -> None:
    expected = embed(network, SEQUENCES)
    run(model_folder, "--fasta", fasta, "--output", tmp_path / "e.npy")
    assert capsys.readouterr().out.split() == [str(tmp_path / "e.npy"), str(tmp_path / "e.txt")]
    np.testing.assert_allclose(np.load(tmp_path / "e.npy"), expected, atol=1e-5, rtol=0)
    assert (tmp_path / "e.txt").read_text() == "p0\np1\np2\n"
    run(model_folder, "--fasta", fasta, "--output", tmp_path / "e.h5", "--batch-size", 1)
    with h5py.File(tmp_path / "e.h5") as file:
        assert file["embedding"].dtype == np.float32
        np.testing.assert_allclose(file["embedding"], expected, atol=1e-5, rtol=0)
        assert file["names"].asstr()[:].tolist() == ["p0", "p1", "p2"]


def test_rows_of_residues(network: DanceModel, model_folder: Path, fasta: Path, tmp_path: Path) -> None:
    run(model_folder, "--fasta", fasta, "--output", tmp_path / "e.h5", "--per-residue")
    with h5py.File(tmp_path / "e.h5") as file:
        assert set(file) == {"p0", "p1", "p2"}
        for name, expected in zip(("p0", "p1", "p2"), embed(network, SEQUENCES, per_residue=True), strict=True):
            np.testing.assert_allclose(file[name], expected, atol=1e-5, rtol=0)


def test_regression(network: DanceModel, model_folder: Path, table: Path, tmp_path: Path, capsys) -> None:
    """The numbers of the Python functions, beside another embedding from a file and from a model."""
    frame = pd.read_csv(table)
    other = np.random.default_rng(1).normal(size=(40, 3))
    np.save(tmp_path / "other.npy", other)
    output = tmp_path / "results.csv"
    options = ["--regress", table, "--target", "length", "other", "--components", 5, "--repeats", 4]
    compare = ["--compare", f"random={tmp_path / 'other.npy'}", f"again={model_folder}"]
    run(model_folder, *options, *compare, "--output", output)
    shown = capsys.readouterr().out
    assert shown.splitlines()[-2:] == [str(output), str(tmp_path / "results_summary.csv")]
    own = embed(network, frame["sequence"].tolist())
    expected = regress(
        {"model": own, "random": other, "again": own}, frame[["length", "other"]], read_splits(frame, 4), components=5
    )
    found = pd.read_csv(output)
    pd.testing.assert_frame_equal(found, expected, atol=1e-4, rtol=1e-3, check_dtype=False)
    assert found.query("target == 'other'")[["train", "test"]].sum(axis=1).eq(39).all()
    summary = pd.read_csv(tmp_path / "results_summary.csv")
    assert len(summary) == 3 * 2 * 2
    assert summary["splits"].eq(4).all()
    first = found.query("embedding == 'model' and target == 'length' and features == 'pc5'")
    assert summary["pearson_mean"][1] == pytest.approx(first["pearson"].mean(), rel=1e-4)


def test_splits_of_the_table(model_folder: Path, table: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(table)
    frame["split_0"] = ["test" if k % 5 == 0 else "train" for k in range(40)]
    frame.to_csv(table, index=False)
    run(model_folder, "--regress", table, "--target", "length", "--output", tmp_path / "r.csv")
    found = pd.read_csv(tmp_path / "r.csv")
    assert found["split"].tolist() == ["split_0", "split_0"]
    assert found["features"].tolist() == ["all", "pc200"]
    assert found["test"].tolist() == [8, 8]


def test_errors(model_folder: Path, fasta: Path, table: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "r.csv"

    def error(*options: object) -> str:
        return expect_error(capsys, model_folder, *options)

    assert "the ending .h5" in error("--fasta", fasta, "--output", tmp_path / "e.txt")
    assert "rows of residues go to an .h5 file" in error(
        "--fasta", fasta, "--output", tmp_path / "e.npy", "--per-residue"
    )
    assert "name them behind --target" in error("--regress", table, "--output", output)
    assert "name them behind --target" in error("--target", "length", "--output", output)
    regression = ["--regress", table, "--output", output, "--target"]
    assert "column size is missing" in error(*regression, "size")
    assert "line 2: name is 'p0', not a number" in error(*regression, "name")
    assert "ending .csv" in error("--regress", table, "--target", "length", "--output", tmp_path / "e.h5")
    assert "--fasta does not go with --regress" in error(*regression, "length", "--fasta", fasta)
    assert "--per-residue does not go" in error(*regression, "length", "--per-residue")
    assert "at least 1" in error(*regression, "length", "--components", 0)
    assert "--seed -1: it must be at least 0" in error(*regression, "length", "--seed", -1)
    assert "expected NAME=FILE.npy" in error(*regression, "length", "--compare", "x.npy")
    assert "expected NAME=FILE.npy" in error(*regression, "length", "--compare", "model=x.npy")
    np.save(tmp_path / "x.npy", np.zeros((3, 2)))
    assert "x.npy: shape (3, 2)" in error(*regression, "length", "--compare", f"x={tmp_path / 'x.npy'}")
    np.savez(tmp_path / "z.npz", a=np.zeros(3))
    (tmp_path / "z.npz").rename(tmp_path / "z.npy")
    assert "z.npy: not one array of numbers" in error(*regression, "length", "--compare", f"x={tmp_path / 'z.npy'}")
    (tmp_path / "bad.csv").write_text("sequence,y,cluster\nMKV,1,a\nM-V,2,b\n")
    bad = ["--regress", tmp_path / "bad.csv", "--output", output, "--target", "y"]
    assert "bad.csv, line 3: sequence, residue 2: '-' is not an amino acid" in error(*bad)
    (tmp_path / "bad.csv").write_text("sequence,y,cluster\nMKV,1,a\nMAV,inf,b\n")
    assert "bad.csv, line 3: y is 'inf', not a number" in error(*bad)
    (tmp_path / "folder.h5").mkdir()
    assert "folder.h5: this is a folder" in error("--fasta", fasta, "--output", tmp_path / "folder.h5")
    fasta.write_text(">a/b\nMKV\n")
    assert "a/b: not a name in HDF5" in error("--fasta", fasta, "--output", tmp_path / "e.h5", "--per-residue")
    given = {"in.fasta", "table.csv", "x.npy", "z.npy", "bad.csv", "folder.h5"}
    assert {path.name for path in tmp_path.iterdir()} == given  # nothing was written
