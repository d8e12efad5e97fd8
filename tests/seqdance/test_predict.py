import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.torch import load_file

from data_prepare.properties import PROPERTIES, RESIDUE_PROPERTIES
from model.config import ModelConfig
from model.inference.inputs import key
from model.inference.predict import hdf5_groups, predict_properties, read_prediction, write_prediction
from model.network.dance import DanceModel
from seqdance.commands.predict import main

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data" / "model"
FASTA = ">a one\nMKTAYIAKQRQ\n>b|x/y\nGGSLEEKL<eos><cls>MKV\n>c\nMKV\n"


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = DanceModel(ModelConfig(hidden=32, layers=2, heads=4, feed_forward=64))
    network.load_state_dict(load_file(DATA / "tiny_weights.safetensors"))
    folder = tmp_path_factory.mktemp("model")
    network.save_pretrained(folder)
    return folder


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "in.fasta"
    path.write_text(FASTA)
    return path


def run(model: Path, *options: object) -> None:
    main(["--model", str(model), "--device", "cpu", *map(str, options)])


def expect_error(capsys: pytest.CaptureFixture[str], model: Path, *options: object) -> str:
    with pytest.raises(SystemExit) as left:
        run(model, *options)
    assert left.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_one_npz_for_each_protein(model_folder: Path, fasta: Path, tmp_path: Path, capsys) -> None:
    from model.network.dance import load_model

    output = tmp_path / "out"
    run(model_folder, "--fasta", fasta, "--output", output)
    assert capsys.readouterr().out == f"{output}\n"
    assert sorted(path.name for path in output.iterdir()) == ["a.npz", "b_x_y.npz", "c.npz"]
    with np.load(output / "b_x_y.npz") as arrays:
        assert set(arrays) == {*PROPERTIES, "chain", "name", "sequence", "model"}
        assert (arrays["name"].item(), arrays["sequence"].item()) == ("b|x/y", "GGSLEEKL<eos><cls>MKV")
        np.testing.assert_array_equal(arrays["chain"], [0] * 8 + [1] * 3)
        expected = predict_properties(load_model(model_folder, "cpu"), "GGSLEEKL<eos><cls>MKV")
        for name in PROPERTIES:
            assert arrays[name].dtype == np.float32
            np.testing.assert_allclose(arrays[name], expected[name], atol=1e-5, rtol=0)


def test_hdf5_grows_by_what_is_not_in_it(model_folder: Path, fasta: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.h5"
    run(model_folder, "--fasta", fasta, "--output", output)
    with h5py.File(output) as file:
        assert set(file) == {"a", "b_x_y", "c"}
        assert file["c"]["corr"].shape == (3, 3)
    first = read_prediction(output, "a")
    before = output.stat().st_mtime_ns
    run(model_folder, "--fasta", fasta, "--output", output)
    assert output.stat().st_mtime_ns == before  # all is there
    fasta.write_text(FASTA + ">d\nMKL\n")
    run(model_folder, "--fasta", fasta, "--output", output)
    with h5py.File(output) as file:
        assert set(file) == {"a", "b_x_y", "c", "d"}
    np.testing.assert_array_equal(read_prediction(output, "a").properties["corr"], first.properties["corr"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.fasta", "out.h5"]


def test_only_what_is_missing_is_predicted(model_folder: Path, fasta: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(model_folder, "--fasta", fasta, "--output", output, "--properties", "residue")
    times = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
    (output / "a.npz").unlink()
    run(model_folder, "--fasta", fasta, "--output", output, "--properties", "residue")
    after = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
    assert set(after) == set(times)
    assert {name for name in times if after[name] != times[name]} == {"a.npz"}
    assert tuple(read_prediction(output / "a.npz").properties) == RESIDUE_PROPERTIES


def test_a_killed_run_is_taken_up(model_folder: Path, tmp_path: Path) -> None:
    """Killed while it writes the parts of an HDF5 file; the next run keeps them, predicts the rest and tidies up."""
    random = np.random.default_rng(0)
    sequences = {f"p{k}": "".join(random.choice(list("ACDEFGHIKL"), 90)) for k in range(60)}
    fasta, output, parts = tmp_path / "in.fasta", tmp_path / "out.h5", tmp_path / ".out.h5.parts"
    fasta.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in sequences.items()))
    options = ["--fasta", str(fasta), "--output", str(output), "--batch-size", "1"]
    command = [
        "from seqdance.commands.predict import main; main()",
        "--model",
        str(model_folder),
        *options,
        "--device",
        "cpu",
    ]
    process = subprocess.Popen([sys.executable, "-c", *command], cwd=ROOT, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 300
    while len(list(parts.glob("p*.npz"))) < 3 and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = {path.stem for path in parts.glob("p*.npz")}
    assert 3 <= len(kept) < 60
    assert not output.exists()
    marked = read_prediction(parts / f"{min(kept)}.npz")
    marked.properties["rmsf_nor"][:] = 0.125  # a number that tells it from a new one
    write_prediction(parts / f"{marked.name}.npz", marked)

    run(model_folder, *options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.fasta", "out.h5"]
    assert hdf5_groups(output) == set(sequences)
    for name, sequence in sequences.items():
        found = read_prediction(output, name)
        assert found.sequence == sequence
        assert (found.properties["rmsf_nor"] == 0.125).all() == (name == marked.name)


def test_a_run_killed_while_it_tidies_up_is_taken_up(model_folder: Path, fasta: Path, tmp_path: Path) -> None:
    """Its parts are in the file, and all or some of them still in their folder."""
    output, parts = tmp_path / "out.h5", tmp_path / ".out.h5.parts"
    run(model_folder, "--fasta", fasta, "--output", tmp_path / "npz")
    shutil.copytree(tmp_path / "npz", parts)
    run(model_folder, "--fasta", fasta, "--output", output)
    assert not parts.exists()
    before = output.stat().st_mtime_ns

    shutil.copytree(tmp_path / "npz", parts)
    (parts / "a.npz").unlink()
    run(model_folder, "--fasta", fasta, "--output", output)
    assert not parts.exists()
    assert output.stat().st_mtime_ns == before

    shutil.copytree(tmp_path / "npz", parts)
    run(model_folder, "--sequence", "MKL", "--output", output)
    assert not parts.exists()
    assert hdf5_groups(output) == {"a", "b_x_y", "c", "sequence"}


def test_parts_of_other_proteins_are_refused(model_folder: Path, fasta: Path, tmp_path: Path, capsys) -> None:
    """Nothing checks whether they are of this model."""
    output, parts = tmp_path / "out.h5", tmp_path / ".out.h5.parts"
    run(model_folder, "--fasta", fasta, "--output", parts)
    line = expect_error(capsys, model_folder, "--sequence", "MKV", "--output", output)
    assert line.startswith(f"error: {parts}: an unfinished run with other proteins left a.npz, b_x_y.npz, c.npz;")
    assert len(list(parts.iterdir())) == 3
    assert not output.exists()
    run(model_folder, "--fasta", fasta, "--output", output)  # the remedy
    run(model_folder, "--sequence", "MKV", "--output", output)
    assert hdf5_groups(output) == {"a", "b_x_y", "c", "sequence"}


def test_hdf5_files_of_other_things_stay(model_folder: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "emb.h5"
    with h5py.File(output, "w") as file:
        file["embedding"] = np.zeros((2, 3))
        file.attrs["model"] = "ESM2"
    before = output.read_bytes()
    line = expect_error(capsys, model_folder, "--sequence", "MKV", "--output", output)
    assert line == f"error: {output}: not predictions of seqdance predict; give another --output"
    assert output.read_bytes() == before


def test_pictures(model_folder: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "out"
    options = ["--sequence", "MKV", "--output", output, "--properties", "rmsf_nor", "--plot"]
    run(model_folder, *options)
    assert capsys.readouterr().out.split() == [str(output), str(output / "sequence.png")]
    picture = output / "sequence.png"
    before = picture.stat().st_mtime_ns
    run(model_folder, *options)
    assert picture.stat().st_mtime_ns == before
    picture.unlink()
    run(model_folder, *options)
    assert picture.exists()
    run(model_folder, *options[:2], "--output", tmp_path / "x.h5", *options[4:])
    assert (tmp_path / "x" / "sequence.png").exists()


def test_b_factors_of_a_structure(model_folder: Path, examples: Path, tmp_path: Path) -> None:
    """Two chains; every C-alpha has the RMSF of its residue."""
    structure = examples / "structures" / "1hvr_AB.pdb.gz"
    copy = tmp_path / "copy.pdb"
    options = ["--pdb", structure, "--output", tmp_path / "out", "--properties", "residue", "--write-pdb", copy]
    run(model_folder, *options)
    found = read_prediction(tmp_path / "out" / "1hvr_AB.npz")
    assert found.chain.tolist() == [0] * 99 + [1] * 99
    lines = [line for line in copy.read_text().splitlines() if line[:6] == "ATOM  " and line[12:16] == " CA "]
    assert [line[60:66] for line in lines] == [f"{value:6.2f}" for value in found.properties["rmsf_nor"]]
    assert len({line[60:66] for line in lines}) > 10

    run(model_folder, *options, "--chain", "B")  # another protein, another name
    lines = [line for line in copy.read_text().splitlines() if line[:6] == "ATOM  " and line[12:16] == " CA "]
    assert {line[60:66] for line in lines[:99]} == {"  0.00"}
    assert "  0.00" not in {line[60:66] for line in lines[99:]}


def test_errors(model_folder: Path, fasta: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "out"
    sequence = ["--sequence", "MKV", "--output", output]
    assert "give one of" in expect_error(capsys, model_folder, "--output", output)
    assert "or a file ending in .h5" in expect_error(
        capsys, model_folder, "--sequence", "MKV", "--output", tmp_path / "a.npz"
    )
    assert "or a file ending in .h5" in expect_error(capsys, model_folder, "--sequence", "MKV", "--output", fasta)
    assert "no property rmsf;" in expect_error(capsys, model_folder, *sequence, "--properties", "rmsf")
    assert "give --pdb or --cif" in expect_error(capsys, model_folder, *sequence, "--write-pdb", "a.pdb")
    assert not output.exists()
    fasta.write_text(">a|b\nMKV\n>a/b\nMKV\n")
    assert "a|b and a/b would both be a_b" in expect_error(capsys, model_folder, "--fasta", fasta, "--output", output)
    run(model_folder, *sequence)
    capsys.readouterr()
    line = expect_error(capsys, model_folder, "--sequence", "MKL", "--output", output)
    assert line.startswith(f"error: {output / 'sequence.npz'}: a prediction of another sequence is there")


def test_write_pdb_needs_the_rmsf_and_another_name(model_folder: Path, examples: Path, tmp_path: Path, capsys) -> None:
    options = ["--pdb", examples / "structures" / "1ubi_A.pdb.gz", "--output", tmp_path / "out"]
    copy = ["--write-pdb", tmp_path / "a.pdb"]
    assert "add rmsf_nor" in expect_error(capsys, model_folder, *options, *copy, "--properties", "ss")
    assert "keeps its form" in expect_error(capsys, model_folder, *options, "--write-pdb", tmp_path / "a.cif")


@pytest.mark.parametrize(("name", "expected"), [("sp|P1|A_B", "sp_P1_A_B"), (".hidden", "_hidden"), ("a b.1", "a_b.1")])
def test_keys(name: str, expected: str) -> None:
    assert key(name) == expected
