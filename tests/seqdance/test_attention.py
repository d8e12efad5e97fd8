"""`seqdance attention`: maps to files, analysis of a store, resumed work, pictures, wrong input."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import seqdance.commands.attention
from data_prepare.dataset.store import FeatureStore, StoreWriter
from data_prepare.dataset.table import write_table
from data_prepare.dataset.token_space import md_entry, nma_entry
from model.config import ModelConfig
from model.inference.attention import METRICS, attention_maps, attention_metrics
from model.inference.inputs import file_name
from model.network.dance import DanceModel, load_model
from seqdance.commands.attention import AttentionConfig, analyse, draw_analysis, main

SEQUENCES = {
    "one": ("MKTAYIAKQRQISFVKSHF", "ATLAS", "test"),
    "two": ("GDGTQDNLSGAEKAVQVKVK", "IDRome", "test"),
    "tiny": ("MK", "IDRome", "test"),  # no pair is far enough apart
    "modes": ("MKTAYIAKQRQ<eos><cls>FVKSHFSRQL", "proteinflow_sabdab", "test"),
    "other": ("MKTAYIAKQRQISF", "ATLAS", "train"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    DanceModel(ModelConfig(hidden=16, layers=3, heads=2, feed_forward=16)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with features.h5 and table.csv."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(2)
    rows = []
    with StoreWriter(folder / "features.h5") as store:
        for name, (sequence, source, label) in SEQUENCES.items():
            chains = [len(chain) for chain in sequence.split("<eos><cls>")]
            n = sum(chains)
            correlation = random.uniform(-1, 1, (3, n, n))
            correlation += correlation.swapaxes(1, 2)
            if source == "proteinflow_sabdab":
                store.add(name, *nma_entry(random.random((3, n)), correlation / 2, chains))
            else:
                contacts = random.random((n, n, 9)) * (random.random((n, n, 9)) < 0.05)
                pair = np.concatenate([contacts, correlation[0][..., None] / 2], axis=-1)
                store.add(name, *md_entry(random.random((n, 47)), pair, chains))
            rows.append((name, sequence, source, label))
    write_table(folder / "table.csv", pd.DataFrame(rows, columns=["name", "modify_seq", "source", "label"]))
    return folder


def options(model: Path, data: Path, output: Path) -> list[str]:
    return [
        *("--model", str(model), "--device", "cpu", "--output", str(output)),
        *("--store", str(data / "features.h5"), "--table", str(data / "table.csv")),
    ]


@pytest.fixture
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes most of the time of so small an analysis."""
    monkeypatch.setattr(seqdance.commands.attention, "draw_analysis", lambda *_: Figure())


# --- maps of sequences -------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_maps_of_a_fasta_file(model: Path, tmp_path: Path, capsys, suffix: str) -> None:
    fasta, output = tmp_path / "two.fasta", tmp_path / "out" / f"maps{suffix}"
    fasta.write_text(">first\nMKTAYIAK\n>second/1-4\nACDE<eos><cls>FGH\n")
    main(["--model", str(model), "--fasta", str(fasta), "--output", str(output), "--plot", "--device", "cpu"])
    pictures = [output.with_name(f"maps_{name}.png") for name in ("first", "second_1-4")]
    assert capsys.readouterr().out.split() == [str(output), *map(str, pictures)]
    assert sorted(output.parent.iterdir()) == sorted([output, *pictures])  # nothing temporary is left
    network = load_model(model, "cpu")
    with np.load(output) if suffix == ".npz" else h5py.File(output) as file:
        for name, sequence in (("first", "MKTAYIAK"), ("second/1-4", "ACDE<eos><cls>FGH")):
            np.testing.assert_array_equal(file[file_name(name)][:], attention_maps(network, sequence))
            if suffix == ".h5":
                assert file[file_name(name)].attrs["sequence"] == sequence
    for picture in pictures:
        assert len(np.unique(matplotlib.image.imread(picture)[..., 0])) > 50  # colours of maps


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_names_with_signs(model: Path, tmp_path: Path, suffix: str) -> None:
    """A name is neither a path nor a group in the output."""
    fasta, output = tmp_path / "p.fasta", tmp_path / f"maps{suffix}"
    fasta.write_text(">a\nMKT\n>a/b\nMKTA\n>.\nMK\n>..\nMKTAY\n")
    main(["--model", str(model), "--fasta", str(fasta), "--output", str(output), "--plot", "--device", "cpu"])
    with np.load(output) if suffix == ".npz" else h5py.File(output) as file:
        assert {name: len(file[name]) for name in file} == {"a": 5, "a_b": 6, "_": 4, "_.": 7}
    assert {path.name for path in tmp_path.glob("*.png")} == {f"maps_{name}.png" for name in ("a", "a_b", "_", "_.")}


def test_half_precision_and_residues_only(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "maps.npz"
    words = ["--model", str(model), "--sequence", "MKTAYIAK", "--output", str(output), "--device", "cpu"]
    main([*words, "--precision", "float16", "--residues-only", "--plot"])
    maps = np.load(output)["sequence"]
    assert maps.shape == (8, 8, 6)
    assert maps.dtype == np.float16
    whole = attention_maps(load_model(model, "cpu"), "MKTAYIAK")[1:-1, 1:-1]
    np.testing.assert_allclose(maps, whole, rtol=1e-3, atol=1e-6)
    assert (tmp_path / "maps.png").is_file()


# --- analysis of a store -----------------------------------------------------------------------------------------


def test_picture_of_a_single_kind_without_an_example() -> None:
    """Normal modes only, no value at all: grey heat maps."""
    columns = {name: np.full(6, np.nan) for name in METRICS["paper", 3]}
    counts = {f"{name}_proteins": np.zeros(6, int) for name in METRICS["paper", 3]}
    figure = draw_analysis(pd.DataFrame(columns | counts), 2, None)
    assert sum(bool(axes.images) for axes in figure.axes) == len(METRICS["paper", 3])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", ["notebook", "paper"])
def test_analysis_is_that_of_each_entry(model: Path, data: Path, tmp_path: Path, capsys, form) -> None:
    output = tmp_path / "x" / "attention.csv"
    main([*options(model, data, output), "--form", form])
    written = [output, output.with_name("attention_best.csv"), output.with_suffix(".png")]
    shown = capsys.readouterr().out.splitlines()
    assert shown[-3:] == list(map(str, written))

    network, expected = load_model(model, "cpu"), {}
    with FeatureStore(data / "features.h5") as store:
        for name, (sequence, _, label) in SEQUENCES.items():
            if label == "test":
                expected[name] = attention_metrics(attention_maps(network, sequence), store.read(name)[1], form)
    assert expected["tiny"].isna().all(axis=None)
    means = pd.read_csv(output)
    assert means["map"].tolist() == list(range(6))
    assert means["layer"].tolist() == [0, 0, 1, 1, 2, 2]
    assert means["head"].tolist() == [0, 1] * 3
    for metric in METRICS[form, 10]:
        both = (expected["one"][metric] + expected["two"][metric]) / 2
        np.testing.assert_allclose(means[metric], both, rtol=1e-6, atol=1e-9)
        assert (means[f"{metric}_proteins"] == 2).all()
    for metric in METRICS[form, 3]:
        np.testing.assert_allclose(means[metric], expected["modes"][metric], rtol=1e-6, atol=1e-9)
        assert (means[f"{metric}_proteins"] == 1).all()

    best = pd.read_csv(written[1]).set_index(["name", "metric"])
    assert len(best) == 2 * len(METRICS[form, 10]) + 6
    for (name, metric), row in best.iterrows():
        values = expected[name][metric]
        assert row["value"] == pytest.approx(values.min() if "_neg_" in metric else values.max(), rel=1e-6)
        assert values[row["map"]] == pytest.approx(row["value"], rel=1e-6)
        assert (row["layer"], row["head"]) == divmod(row["map"], 2)
    lowest = means["co_move_neg_spearman"].min()
    assert any(line.startswith("co_move_neg_spearman") and f"{lowest:.3f}" in line for line in shown)
    picture = matplotlib.image.imread(written[2])
    assert len(np.unique(picture[..., 0])) > 100


@pytest.mark.usefixtures("no_picture")
def test_interrupted_work_goes_on(model: Path, data: Path, tmp_path: Path, monkeypatch) -> None:
    output = tmp_path / "attention.csv"
    main(options(model, data, output))
    results = sorted((tmp_path / "attention.entries").iterdir())
    assert [path.stem for path in results] == ["modes", "one", "tiny", "two"]
    contents = [path.read_bytes() for path in [output, tmp_path / "attention_best.csv"]]

    measured = []
    monkeypatch.setattr(
        seqdance.commands.attention,
        "attention_metrics",
        lambda maps, pair, form: measured.append(len(maps)) or attention_metrics(maps, pair, form),
    )
    main(options(model, data, output))
    assert measured == []
    results[0].unlink()  # was not made yet
    results[1].write_bytes(results[1].read_bytes()[:100])  # not written by this program
    main(options(model, data, output))
    assert measured == [21, 25]
    assert contents == [path.read_bytes() for path in [output, tmp_path / "attention_best.csv"]]


@pytest.mark.usefixtures("no_picture")
@pytest.mark.parametrize("change", ["form", "length", "model", "store"])
def test_other_settings_do_not_trust_old_results(model: Path, data: Path, tmp_path: Path, monkeypatch, change) -> None:
    output = tmp_path / "attention.csv"
    main(options(model, data, output))
    words = options(model, data, output)
    if change == "form":
        words += ["--form", "paper"]
    elif change == "length":
        words += ["--length", "10"]
    elif change == "model":
        DanceModel(ModelConfig(hidden=16, layers=3, heads=2, feed_forward=16)).save_pretrained(tmp_path / "other")
        words[1] = str(tmp_path / "other")
    else:
        os.utime(data / "features.h5")
    sizes = []
    monkeypatch.setattr(
        seqdance.commands.attention,
        "attention_metrics",
        lambda maps, pair, form: sizes.append(len(maps)) or attention_metrics(maps, pair, form),
    )
    main(words)
    assert sizes == ([10, 10, 4, 10] if change == "length" else [21, 22, 4, 25])


def test_limit_label_and_example(model: Path, data: Path, tmp_path: Path, monkeypatch) -> None:
    drawn = []
    monkeypatch.setattr(seqdance.commands.attention, "draw_analysis", lambda *words: drawn.append(words[2]) or Figure())
    config = {
        "model": str(model),
        "output": tmp_path / "a.csv",
        "store": data / "features.h5",
        "table": data / "table.csv",
        "device": "cpu",
    }
    analyse(AttentionConfig(**config, limit=1, example="modes"))
    assert drawn[-1].name == "modes"
    assert {path.stem for path in (tmp_path / "a.entries").iterdir()} == {"one", "two", "modes"}
    assert set(pd.read_csv(tmp_path / "a_best.csv")["name"]) == {"one", "two", "modes"}
    analyse(AttentionConfig(**config, label="train"))
    assert set(pd.read_csv(tmp_path / "a_best.csv")["name"]) == {"other"}
    assert drawn[-1].name == "other"
    analyse(AttentionConfig(**config, example="tiny"))  # has no map to draw
    assert drawn[-1] is None
    with pytest.raises(SystemExit):
        main([*options(model, data, tmp_path / "a.csv"), "--example", "other"])


# --- wrong input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--sequence", "MKT", "--output", "maps.txt"], "maps are written as .npz, .h5"),
        (["--sequence", "MJT", "--output", "maps.npz"], "'J' is not an amino acid"),
        (["--output", "maps.npz"], "exactly one of"),
        (["--sequence", "MKT", "--table", "t.csv", "--output", "maps.npz"], "goes with --store"),
        (["--sequence", "MKT", "--store", "f.h5", "--table", "t.csv", "--output", "a.csv"], "give one of them"),
        (["--fasta", "slash.fasta", "--output", "m.npz"], "a/b and a_b would both be written as a_b; rename one"),
        (["--store", "f.h5", "--output", "a.csv"], "--table is missing"),
        (["--store", "f.h5", "--table", "t.csv", "--output", "a.npz"], "written as .csv"),
        (["--store", "f.h5", "--table", "t.csv", "--output", "a.csv", "--plot"], "are for sequences"),
        (["--store", "f.h5", "--table", "t.csv", "--output", "a.csv", "--precision", "float16"], "are for sequences"),
        (["--store", "f.h5", "--table", "t.csv", "--output", "a.csv"], "no such file: --table t.csv, --store f.h5"),
        (["--store", "f.h5", "--table", "t.csv", "--output", "a.csv", "--limit", "0"], "at least 1"),
    ],
)
def test_wrong_input_is_one_line(tmp_path: Path, monkeypatch, capsys, words, reason) -> None:
    """Before the model is loaded, of which there is none here."""
    monkeypatch.chdir(tmp_path)
    Path("slash.fasta").write_text(">a/b\nMKT\n>a_b\nMKT\n")
    with pytest.raises(SystemExit) as left:
        main(["--model", "none", "--device", "cpu", *words])
    assert left.value.code == 2
    (shown,) = capsys.readouterr().err.splitlines()
    assert shown.startswith("error: ")
    assert reason in shown
    assert os.listdir() == ["slash.fasta"]
