"""`seqdance attention`: maps to files, analysis of a store, resuming, figures, wrong input."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from refusals import command_refused

from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.store_writer import StoreWriter
from data_prepare.dataset.table import write_table
from data_prepare.dataset.token_space import md_entry, nma_entry
from model.config import ModelConfig
from model.evaluation import attention as evaluation
from model.evaluation.attention import METRICS, attention_metrics
from model.figures import attention as figures
from model.figures.attention import draw_analysis
from model.inference.attention import attention_maps
from model.inference.inputs import file_name
from model.network.dance import DanceModel, load_model
from seqdance.commands.attention import main

SEQUENCES = {
    "one": ("MKTAYIAKQRQISFVKSHF", "ATLAS", "test"),
    "two": ("GDGTQDNLSGAEKAVQVKVK", "IDRome", "test"),
    "tiny": ("MK", "IDRome", "test"),  # no pair is far enough apart
    "modes": ("MKTAYIAKQRQ<eos><cls>FVKSHFSRQL", "proteinflow_sabdab", "test"),
    "other": ("MKTAYIAKQRQISF", "ATLAS", "train"),
}
ROWS = [(name, *values) for name, values in SEQUENCES.items()]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with features.h5 and table.csv."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(2)
    with StoreWriter(folder / "features.h5") as store:
        for name, (sequence, source, _) in SEQUENCES.items():
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
    write_table(folder / "table.csv", pd.DataFrame(ROWS, columns=["name", "modify_seq", "source", "label"]))
    return folder


def words(model: Path, output: Path, *more: object) -> list[str]:
    return [str(word) for word in ("--model", model, "--device", "cpu", "--output", output, *more)]


def of_store(model: Path, data: Path, output: Path, *more: object) -> list[str]:
    return words(model, output, "--store", data / "features.h5", "--table", data / "table.csv", *more)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list:
    """Examples of the figures, which are not drawn: that takes most of the time of so small an analysis."""
    examples: list = []
    monkeypatch.setattr(figures, "draw_analysis", lambda *args: examples.append(args[2]) or Figure())
    return examples


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of the entries that are measured, not resumed."""
    sizes: list[int] = []

    def counted(maps, pair, form):
        sizes.append(len(maps))
        return attention_metrics(maps, pair, form)

    monkeypatch.setattr(evaluation, "attention_metrics", counted)
    return sizes


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_maps_of_a_fasta_file(tiny_model_folder: Path, tmp_path: Path, capsys, suffix: str) -> None:
    """A name is neither a path nor a group in the output."""
    proteins = {"first": "MKTAYIAK", "second/1-4": "ACDE<eos><cls>FGH", ".": "MK", "..": "MKTAY"}
    fasta, output = tmp_path / "two.fasta", tmp_path / "out" / f"maps{suffix}"
    fasta.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in proteins.items()))
    plot = ["--plot"] if suffix == ".npz" else []
    main(words(tiny_model_folder, output, "--fasta", fasta, *plot))
    pictures = [output.with_name(f"maps_{name}.png") for name in ("first", "second_1-4", "_", "_.") if plot]
    assert capsys.readouterr().out.split() == [str(output), *map(str, pictures)]
    assert sorted(output.parent.iterdir()) == sorted([output, *pictures])  # nothing temporary is left
    network = load_model(tiny_model_folder, "cpu")
    with np.load(output) if suffix == ".npz" else h5py.File(output) as file:
        assert set(file) == {file_name(name) for name in proteins}
        for name, sequence in proteins.items():
            np.testing.assert_array_equal(file[file_name(name)][:], attention_maps(network, sequence))
            if suffix == ".h5":
                assert file[file_name(name)].attrs["sequence"] == sequence
    for picture in pictures:
        assert len(np.unique(matplotlib.image.imread(picture)[..., 0])) > 20  # colours of maps


def test_half_precision_and_residues_only(tiny_model_folder: Path, tmp_path: Path) -> None:
    options = ("--dtype", "float16", "--residues-only", "--plot")
    main(words(tiny_model_folder, tmp_path / "maps.npz", "--sequence", "MKTAYIAK", *options))
    maps = np.load(tmp_path / "maps.npz")["sequence"]
    assert (maps.shape, maps.dtype) == ((8, 8, 8), np.float16)
    whole = attention_maps(load_model(tiny_model_folder, "cpu"), "MKTAYIAK")[1:-1, 1:-1]
    np.testing.assert_allclose(maps, whole, rtol=1e-3, atol=1e-6)
    assert (tmp_path / "maps.png").is_file()


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", ["notebook", "paper"])
def test_analysis_is_that_of_each_entry(
    tiny_model_folder: Path, data: Path, tmp_path: Path, capsys, form, request
) -> None:
    if form == "paper":
        request.getfixturevalue("drawn")
    output = tmp_path / "x" / "attention.csv"
    main(of_store(tiny_model_folder, data, output, "--form", form))
    written = [output, output.with_name("attention_best.csv"), output.with_suffix(".png")]
    shown = capsys.readouterr().out.splitlines()
    assert shown[-3:] == list(map(str, written))
    assert sorted(output.parent.iterdir()) == sorted([*written, output.with_name(".attention.csv.parts")])

    network, expected = load_model(tiny_model_folder, "cpu"), {}
    with FeatureStore(data / "features.h5") as store:
        for name, (sequence, _, label) in SEQUENCES.items():
            if label == "test":
                expected[name] = attention_metrics(attention_maps(network, sequence), store.read(name)[1], form)
    assert expected["tiny"].isna().all(axis=None)
    means = pd.read_csv(output)
    assert means["map"].tolist() == list(range(8))
    assert means["layer"].tolist() == [0] * 4 + [1] * 4
    assert means["head"].tolist() == [0, 1, 2, 3] * 2
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
        assert (row["layer"], row["head"]) == divmod(row["map"], 4)
    lowest = means["co_move_neg_spearman"].min()
    assert any(line.startswith("co_move_neg_spearman") and f"{lowest:.3f}" in line for line in shown)
    assert len(np.unique(matplotlib.image.imread(written[2])[..., 0])) > 100


def test_interrupted_run_resumes(
    tiny_model_folder: Path, data: Path, tmp_path: Path, monkeypatch, measured, drawn
) -> None:
    """Up to the last step; damaged results, and those of other settings or data, are made again."""
    output = tmp_path / "attention.csv"

    def interrupt(*_: object) -> Figure:
        raise KeyboardInterrupt

    def interrupted(*more: object) -> list[int]:
        measured.clear()
        with monkeypatch.context() as patch:
            patch.setattr(figures, "draw_analysis", interrupt)
            with pytest.raises(SystemExit, match="130"):
                main(of_store(tiny_model_folder, data, output, *more))
        return measured.copy()

    assert interrupted() == [21, 22, 4, 25]
    assert interrupted() == []
    for path, lost in zip(sorted((tmp_path / ".attention.csv.parts").iterdir()), (True, False), strict=False):
        path.unlink() if lost else path.write_bytes(path.read_bytes()[:100])
    assert len(interrupted()) == 2
    assert interrupted("--form", "paper") == [21, 22, 4, 25]
    assert interrupted("--length", 10) == [10, 10, 4, 10]
    other = tmp_path / "other"
    DanceModel(ModelConfig(hidden=16, layers=3, heads=2, feed_forward=16)).save_pretrained(other)
    assert interrupted("--model", other) == [21, 22, 4, 25]
    os.utime(data / "features.h5")
    assert interrupted() == [21, 22, 4, 25]

    measured.clear()
    main(of_store(tiny_model_folder, data, output))
    contents = output.read_bytes(), (tmp_path / "attention_best.csv").read_bytes()
    main(of_store(tiny_model_folder, data, output))  # a finished run measures nothing again
    assert measured == []
    main(of_store(tiny_model_folder, data, tmp_path / "new.csv"))
    assert measured == [21, 22, 4, 25]
    for rerun in (output, tmp_path / "new.csv"):
        assert contents == (rerun.read_bytes(), rerun.with_name(f"{rerun.stem}_best.csv").read_bytes())


def test_limit_label_and_example(tiny_model_folder: Path, data: Path, tmp_path: Path, drawn, capsys) -> None:
    output = tmp_path / "a.csv"
    main(of_store(tiny_model_folder, data, output, "--limit", 1, "--example", "modes"))
    assert drawn[-1].name == "modes"
    assert drawn[-1].chain.tolist() == [0] * 11 + [1] * 10
    assert set(pd.read_csv(tmp_path / "a_best.csv")["name"]) == {"one", "two", "modes"}
    main(of_store(tiny_model_folder, data, output, "--label", "train", "--length", 8))
    assert set(pd.read_csv(tmp_path / "a_best.csv")["name"]) == {"other"}
    assert (drawn[-1].name, drawn[-1].attention.shape) == ("other", (7, 7))
    main(of_store(tiny_model_folder, data, output, "--example", "tiny"))  # has no map to draw
    assert drawn[-1] is None
    command_refused(main, of_store(tiny_model_folder, data, output, "--example", "other"), capsys, "--example other")


def test_example_shows_its_best_map(tiny_model_folder: Path, data: Path, tmp_path: Path, drawn) -> None:
    output = tmp_path / "a.csv"
    main(of_store(tiny_model_folder, data, output, "--form", "paper"))
    best = pd.read_csv(tmp_path / "a_best.csv")
    best = best[best["metric"] == "co_move_posi_spearman"].sort_values("value")
    example = drawn[-1]
    row = best.iloc[len(best) // 2]
    assert example.name == row["name"]
    assert f"layer {row['layer']}, head {row['head']}, Spearman {row['value']:.2f}" in example.title
    whole = attention_maps(load_model(tiny_model_folder, "cpu"), SEQUENCES[row["name"]][0])[1:-1, 1:-1, row["map"]]
    np.testing.assert_allclose(example.attention, (whole + whole.T) / 2, atol=1e-7)
    with FeatureStore(data / "features.h5") as store:
        np.testing.assert_array_equal(example.comovement, store.read(row["name"])[1][1:-1, 1:-1, 9])


def test_figure_of_normal_modes_alone_without_an_example() -> None:
    """No value at all: grey heat maps."""
    columns = {name: np.full(6, np.nan) for name in METRICS["paper", 3]}
    counts = {f"{name}_proteins": np.zeros(6, int) for name in METRICS["paper", 3]}
    figure = draw_analysis(pd.DataFrame(columns | counts), 2, None)
    assert sum(bool(axes.images) for axes in figure.axes) == len(METRICS["paper", 3])


STORE = ("--store", "f.h5", "--table", "t.csv")


@pytest.mark.parametrize(
    ("output", "options", "named"),
    [
        ("maps.txt", ("--sequence", "MKT"), ["maps.txt", ".npz", ".h5"]),
        ("maps.npz", ("--sequence", "MKT", "--table", "t.csv"), ["--table", "--store"]),
        ("maps.npz", ("--fasta", "slash.fasta"), ["a/b", "a_b"]),
        ("a.csv", ("--sequence", "MKT", *STORE), ["--store", "--sequence"]),
        ("a.csv", ("--store", "f.h5"), ["--table"]),
        ("a.npz", STORE, ["a.npz", ".csv"]),
        ("a.csv", (*STORE, "--dtype", "float16"), ["--dtype"]),
        ("a.csv", STORE, ["--table t.csv", "--store f.h5"]),
        ("a.csv", (*STORE, "--limit", "0"), ["--limit 0"]),
    ],
)
def test_wrong_input_is_refused_at_once(tmp_path, monkeypatch, capsys, output, options, named) -> None:
    monkeypatch.chdir(tmp_path)
    Path("slash.fasta").write_text(">a/b\nMKT\n>a_b\nMKT\n")
    command_refused(main, words(Path("none"), Path(output), *options), capsys, *named)
    assert os.listdir() == ["slash.fasta"]
