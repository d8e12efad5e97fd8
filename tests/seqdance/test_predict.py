"""The command `seqdance predict`."""

from __future__ import annotations

import gzip
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from interruptions import kill_at_work
from refusals import command_refused

from data_prepare.properties import PROPERTIES, RESIDUE_PROPERTIES
from model.figures import prediction
from model.inference.predict import predict_properties
from model.inference.prediction_files import PART, read_prediction
from seqdance.commands.predict import main

FASTA = ">a one\nMKTAYIAKQRQ\n>b|x/y\nGGSLEEKL<eos><cls>MKV\n>c\nMKV\n"


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "in.fasta"
    path.write_text(FASTA)
    return path


@pytest.fixture
def run(tiny_model_folder: Path):
    """Run the command with the tiny network."""
    return lambda *options: main(["--model", str(tiny_model_folder), "--device", "cpu", *map(str, options)])


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list:
    """The figures that the command draws."""
    figures, draw = [], prediction.draw_prediction
    monkeypatch.setattr(prediction, "draw_prediction", lambda *own: figures.append(draw(*own)) or figures[-1])
    return figures


def test_one_npz_for_each_protein(run, tiny_model, fasta: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / ".a.0123456789abcdef.tmp.npz").touch()  # of a killed run
    run("--fasta", fasta, "--output", output)
    assert capsys.readouterr().out == f"{output}\n"
    assert sorted(path.name for path in output.iterdir()) == ["a.npz", "b_x_y.npz", "c.npz"]
    with np.load(output / "b_x_y.npz") as arrays:
        assert set(arrays) == {*PROPERTIES, "chain", "name", "sequence", "model", "digest"}
        assert (arrays["name"].item(), arrays["sequence"].item()) == ("b|x/y", "GGSLEEKL<eos><cls>MKV")
        np.testing.assert_array_equal(arrays["chain"], [0] * 8 + [1] * 3)
        for name, expected in predict_properties(tiny_model, "GGSLEEKL<eos><cls>MKV").items():
            assert arrays[name].dtype == np.float32
            np.testing.assert_allclose(arrays[name], expected, atol=1e-5, rtol=0)


def test_hdf5_grows_by_new_proteins(run, tiny_model, fasta: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.h5"
    run("--fasta", fasta, "--output", output, "--properties", "residue")
    fasta.write_text(FASTA + ">d\nMKL\n")
    (tmp_path / ".out.0123456789abcdef.tmp.h5").touch()  # of a killed run
    run("--fasta", fasta, "--output", output, "--properties", "residue")
    with h5py.File(output) as file:
        assert set(file) == {"a", "b_x_y", "c", "d"}
        assert set(file["c"]) == {*RESIDUE_PROPERTIES, "chain", "name", "sequence", "model", "digest"}
        assert file["c"].attrs["model"].decode() == file["c/model"][()].decode()
        assert file["c"].attrs["model"].decode().endswith(tiny_model.digest)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.fasta", "out.h5"]


@pytest.mark.slow
def test_a_killed_run_resumes(run, tiny_model_folder: Path, tmp_path: Path) -> None:
    """SIGKILL at any moment: each finished prediction is kept, no half of one is trusted."""
    random = np.random.default_rng(0)
    sequences = {f"p{k}": "".join(random.choice(list("ACDEFGHIKL"), 90)) for k in range(60)}
    fasta, output, parts = tmp_path / "in.fasta", tmp_path / "out.h5", tmp_path / ".out.h5.parts"
    fasta.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in sequences.items()))
    options = ["--fasta", str(fasta), "--output", str(output), "--batch-size", "1"]
    words = ["predict", "--model", str(tiny_model_folder), "--device", "cpu", *options]
    kept = {path: path.stat().st_mtime_ns for path in kill_at_work(words, parts, 3)}
    assert 3 <= len(kept) < 60
    assert not output.exists()
    names = {read_prediction(path, PART).name for path in kept}  # all are whole
    with h5py.File(min(kept), "r+") as file:
        file[PART]["rmsf_nor"][:] = 0.125  # a new prediction would not be this
    marked = read_prediction(min(kept), PART).name
    run(*options)
    assert not parts.exists()
    with h5py.File(output) as file:
        assert {name: file[name]["sequence"][()].decode() for name in file} == sequences
        resumed = {name for name in file if (file[name]["rmsf_nor"][:] == 0.125).all()}
    assert resumed == {marked} <= names


def test_a_table_of_residues(run, tiny_model, tmp_path: Path, examples: Path, capsys, drawn) -> None:
    """No folder is made; figures are beside it; a finished one is recognized, unless the structure changed.

    Table and figure have the numbers of the structure.
    """
    output, copy = tmp_path / "x.csv", tmp_path / "on.pdb"
    structure = tmp_path / "s.pdb.gz"
    structure.write_bytes((examples / "structures" / "2gu3_A.pdb.gz").read_bytes())
    options = ["--pdb", structure, "--output", output, "--write-pdb", copy, "--plot", "--properties", "rmsf_nor", "ss"]
    run(*options)
    scripts = [copy.with_suffix(".pml"), copy.with_suffix(".cxc")]
    assert capsys.readouterr().out.split() == [str(output), str(tmp_path / "x.png"), str(copy), *map(str, scripts)]
    table = pd.read_csv(output)
    expected = predict_properties(tiny_model, "".join(table["residue"]), ["rmsf_nor", "ss"])
    assert list(table.columns[:6]) == ["protein", "chain", "number", "position", "residue", "rmsf_nor"]
    assert len(table.columns) == 6 + 8 + 1
    np.testing.assert_allclose(table["rmsf_nor"], expected["rmsf_nor"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(table["ss_T"], expected["ss"][:, 6], atol=1e-5, rtol=0)
    assert table["number"].tolist() == list(range(34, 162))
    axes = next(axes for axes in drawn[0].axes if axes.get_xlabel() == "residue")
    ticks = {label.get_text(): label.get_position()[0] for label in axes.get_xticklabels()}
    assert ticks == {str(number): number - 33 for number in range(40, 161, 20)}
    assert table["model"].str.endswith(tiny_model.digest).all()
    made = {".x.csv.made_of", "s.pdb.gz", "x.csv", "x.png", "on.pdb", "on.pml", "on.cxc"}
    assert {path.name for path in tmp_path.iterdir()} == made
    before = output.stat().st_mtime_ns
    run(*options)
    assert output.stat().st_mtime_ns == before
    text = gzip.decompress(structure.read_bytes()).replace(b" A  34 ", b" A  33 ")
    structure.write_bytes(gzip.compress(text))
    run(*options)
    assert pd.read_csv(output)["number"][0] == 33


def test_tables_of_several_proteins(run, fasta: Path, tmp_path: Path) -> None:
    run("--fasta", fasta, "--output", tmp_path / "x.csv.gz", "--plot", "--properties", "rmsf_nor")
    table = pd.read_csv(tmp_path / "x.csv.gz")
    assert table["protein"].value_counts().to_dict() == {"a": 11, "b|x/y": 11, "c": 3}
    assert table["chain"].tolist() == [*"A" * 19, *"B" * 3, *"A" * 3]
    figures = {"x_a.png", "x_b_x_y.png", "x_c.png"}
    assert {path.name for path in tmp_path.iterdir()} == {".x.csv.gz.made_of", "x.csv.gz", "in.fasta", *figures}


@pytest.mark.slow
def test_the_figure_of_a_table_has_maps_of_pairs(run, tmp_path: Path, drawn: list) -> None:
    """The table has the same columns; without pair properties the page ends beside the profiles."""
    options = ["--sequence", "MKVLAAGG", "--output", tmp_path / "x.csv"]
    run(*options)
    table = pd.read_csv(tmp_path / "x.csv")
    run(*options, "--plot")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "x.csv"), table, rtol=0, atol=1e-5)
    run(*options, "--plot", "--properties", "residue")
    titles = [[axes.get_title() for axes in figure.axes if axes.get_title()] for figure in drawn]
    assert [len(own) for own in titles] == [5, 0]
    profile = drawn[1].axes[0].get_position()
    assert profile.width > 0.7


def test_figures(run, tmp_path: Path, capsys) -> None:
    output = tmp_path / "out"
    options = ["--sequence", "MKV", "--properties", "rmsf_nor", "--plot", "--output"]
    run(*options, output)
    figure = output / "sequence.png"
    assert capsys.readouterr().out.split() == [str(output), str(figure)]
    before = figure.stat().st_mtime_ns
    run(*options, output)
    assert figure.stat().st_mtime_ns == before
    figure.unlink()
    run(*options, output)
    assert figure.exists()
    (output / "sequence.npz").unlink()
    figure.write_bytes(b"of an older prediction")
    run(*options, output)
    assert figure.stat().st_size > 1000
    run(*options, tmp_path / "x.h5")
    assert (tmp_path / "x" / "sequence.png").exists()


def test_figures_have_the_numbers_of_the_last_structure(run, examples: Path, tmp_path: Path, drawn: list) -> None:
    """Also where the prediction of the same sequence is kept."""
    structure = tmp_path / "s.pdb"
    lines = gzip.decompress((examples / "structures" / "2gu3_A.pdb.gz").read_bytes()).decode().splitlines()
    atoms = [line for line in lines if line.startswith("ATOM")]
    for added in (0, 500):
        renumbered = [f"{line[:22]}{int(line[22:26]) + added:4d}{line[26:]}\n" for line in atoms]
        structure.write_text("".join(renumbered))
        run("--pdb", structure, "--output", tmp_path / "x.h5", "--plot", "--properties", "rmsf_nor")
    labels = [[label.get_text() for label in figure.axes[0].get_xticklabels()] for figure in drawn]
    assert ["40" in labels[0], "540" in labels[1]] == [True, True]


def test_b_factors_of_a_structure(run, examples: Path, tmp_path: Path) -> None:
    """Two chains; every C-alpha has the RMSF of its residue."""
    structure, copy = examples / "structures" / "1hvr_AB.pdb.gz", tmp_path / "copy.pdb"
    options = ["--pdb", structure, "--output", tmp_path / "out", "--properties", "residue", "--write-pdb", copy]

    def b_factors() -> list[str]:
        return [line[60:66] for line in copy.read_text().splitlines() if line[:6] + line[12:16] == "ATOM   CA "]

    run(*options)
    found = read_prediction(tmp_path / "out" / "1hvr_AB.npz")
    assert found.chain.tolist() == [0] * 99 + [1] * 99
    assert b_factors() == [f"{value:6.2f}" for value in found.properties["rmsf_nor"]]
    assert len(set(b_factors())) > 10
    run(*options, "--chain", "B")  # another protein, another name
    assert set(b_factors()[:99]) == {"  0.00"}
    assert "  0.00" not in b_factors()[99:]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--sequence MKV --output a.npz", ["--output", "a.npz", ".h5"]),
        ("--sequence MKV --output a.csv --properties ss corr", ["corr", "table", ".h5"]),
        ("--sequence MKV --output in.fasta", ["--output", "in.fasta"]),
        ("--sequence MKV --output in.fasta/out", ["--output", "in.fasta"]),
        ("--sequence MKV --output out --properties rmsf", ["rmsf"]),
        ("--sequence MKV --output out --batch-size 0", ["--batch-size 0"]),
        ("--sequence MKV --output out --write-pdb a.pdb", ["--write-pdb", "--pdb", "--cif"]),
        ("--pdb in.pdb --output out --write-pdb a.pdb --properties ss", ["--write-pdb", "rmsf_nor"]),
        ("--pdb in.pdb --output out --write-pdb a.cif", ["a.cif", "in.pdb"]),
        ("--fasta twice.fasta --output out", ["a|b", "a/b", "a_b"]),
    ],
)
def test_options_that_cannot_be_used(
    tiny_model_folder: Path, fasta: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch, options: str, named
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("twice.fasta").write_text(">a|b\nMKV\n>a/b\nMKV\n")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    command_refused(main, ["--model", tiny_model_folder, *options.split()], capsys, *named)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
