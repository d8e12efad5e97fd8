"""Embeddings, and the files that hold them."""

from __future__ import annotations

import weakref
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from refusals import refused

from data_prepare.properties import RESIDUE_PROPERTIES
from model.inference import embed as module
from model.inference.embed import EmbeddingForm, embed, write_embeddings
from model.inference.inputs import Protein
from model.inference.predict import predict_properties
from model.network.dance import DanceModel
from model.network.tokenizer import VOCABULARY, tokenize

DATA = Path(__file__).resolve().parents[2] / "data" / "model"
SEQUENCES = ["MKTAYIAKQRQISFVKSHFSRQ", "GGSLEEKL<eos><cls>MKV", "MKV", "XACDEFGHIKLMNPQRSTVWY"]
PROTEINS = [Protein(f"p{number}", sequence) for number, sequence in enumerate(SEQUENCES)]


@pytest.mark.parametrize("batch_size", [None, 1, 2])
def test_golden_values(tiny_model: DanceModel, batch_size: int | None) -> None:
    """Means over all tokens, and rows of residues, from the hidden states of an independent program."""
    golden = np.load(DATA / "tiny_seqdance.npz")
    sequences, means, rows = [], [], []
    arrays = (golden[name] for name in ("in.input_ids", "in.attention_mask", "out.res_emb"))
    for ids, mask, hidden in zip(*arrays, strict=True):
        sequences.append("".join(VOCABULARY[i] for i in ids[mask == 1][1:-1]))
        means.append(hidden[mask == 1].mean(axis=0))
        rows.append(hidden[~np.isin(ids, (0, 1, 2))])
    found = embed(tiny_model, sequences, batch_size=batch_size)
    assert (found.shape, found.dtype) == ((3, 32), np.float32)
    np.testing.assert_allclose(found, means, atol=1e-5, rtol=0)
    for one, expected in zip(embed(tiny_model, sequences, True, batch_size), rows, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("per_residue", [False, True])
def test_batches_single_sequences_and_series_agree(tiny_model: DanceModel, per_residue: bool) -> None:
    together = embed(tiny_model, SEQUENCES, per_residue)
    series = embed(tiny_model, pd.Series(SEQUENCES, index=[3, 2, 0, 7]), per_residue)
    for found, same, sequence in zip(together, series, SEQUENCES, strict=True):
        np.testing.assert_allclose(found, embed(tiny_model, sequence, per_residue), atol=1e-5, rtol=0)
        np.testing.assert_array_equal(found, same)
    assert [len(rows) for rows in embed(tiny_model, SEQUENCES, True)] == [22, 11, 3, 21]
    assert np.shape(embed(tiny_model, [], per_residue)) == ((0,) if per_residue else (0, 32))


def test_input_that_cannot_be_used(tiny_model: DanceModel, tmp_path: Path) -> None:
    refused(lambda: embed(tiny_model, ["MKV", "JKV"]), "sequence 2 of 2", "'J'")
    refused(lambda: embed(tiny_model, ["MKV"], batch_size=-1), "batch size -1")
    for name in ("a/b", ".", "..", "columns"):
        refused(lambda name=name: write_embeddings(tiny_model, [Protein(name, "MK")], tmp_path / "e.h5", True), name)
    assert not list(tmp_path.iterdir())


def test_properties_and_means(tiny_model: DanceModel) -> None:
    """By hand from `predict_properties` and the rows of residues; the second protein has a linker."""
    predicted = predict_properties(tiny_model, SEQUENCES, "residue")
    rows = [np.column_stack([*values.values()]) for values in predicted]  # (N, 50)
    hidden = embed(tiny_model, SEQUENCES, True)
    tokens = tokenize(SEQUENCES[1:2])
    with torch.no_grad():
        outputs = tiny_model(**tokens, pair=False)
    whole = np.column_stack([outputs[name][0] for name in RESIDUE_PROPERTIES])  # (L, 50)

    def near(found: object, expected: object) -> None:
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)

    means = [own.mean(axis=0) for own in rows]
    near(embed(tiny_model, SEQUENCES, features="properties"), means)
    near(embed(tiny_model, SEQUENCES[1], features="properties", mean="tokens"), whole.mean(axis=0))
    near(embed(tiny_model, SEQUENCES, mean="residues"), [own.mean(axis=0) for own in hidden])
    both = embed(tiny_model, SEQUENCES, features="both")
    near(both, np.column_stack([embed(tiny_model, SEQUENCES), means]))
    for found, *parts in zip(embed(tiny_model, SEQUENCES, True, features="both"), hidden, rows, strict=True):
        near(found, np.column_stack(parts))
    assert embed(tiny_model, [], features="both").shape == (0, 82)
    refused(lambda: embed(tiny_model, "MKV", features="all"), "'all'", "properties")
    refused(lambda: embed(tiny_model, "MKV", mean="cls"), "'cls'", "residues")


def test_embeddings_of_residues_are_written_one_by_one(tmp_path: Path) -> None:
    alive: list[weakref.ref[np.ndarray]] = []

    def arrays():
        for number in range(4):
            assert sum(array() is not None for array in alive) <= 1  # the one just written
            values = np.full(3, number, np.float32)
            alive.append(weakref.ref(values))
            yield str(number), values
            del values

    module._write_npz(tmp_path / "e.npz", arrays(), {"names": ["x"]}, "model")
    assert list(np.load(tmp_path / "e.npz")) == ["0", "1", "2", "3", "names", "model"]


@pytest.mark.parametrize("per_residue", [False, True])
@pytest.mark.parametrize("features", ["embedding", "properties", "both"])
def test_all_files_hold_the_same(tiny_model: DanceModel, tmp_path: Path, features, per_residue: bool) -> None:
    expected = embed(tiny_model, SEQUENCES, per_residue, features=features)
    key = "embedding" if features == "embedding" else "features"
    columns = [] if features == "embedding" else EmbeddingForm(features=features).columns(32)
    for suffix in (".h5", ".npz", *([] if per_residue else [".npy"])):
        path = tmp_path / f"e{suffix}"
        write_embeddings(tiny_model, PROTEINS, path, per_residue, features=features)
        if suffix == ".h5":
            with h5py.File(path) as file:
                content = {
                    name: file[name].asstr()[:] if file[name].dtype == object else file[name][:] for name in file
                }
        elif suffix == ".npz":
            content = dict(np.load(path))
            assert content.pop("model") == tiny_model.label
        else:
            content = {key: np.load(path), "names": (tmp_path / "e.txt").read_text().split()}
            if columns:
                content["columns"] = (tmp_path / "e_columns.txt").read_text().splitlines()
        found = [content.pop(protein.name) for protein in PROTEINS] if per_residue else content.pop(key)
        for one, values in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, values, atol=1e-5, rtol=0)
        assert list(content.pop("columns", [])) == columns
        assert list(content.pop("names", [])) == ([] if per_residue else [protein.name for protein in PROTEINS])
        assert not content


def test_columns_name_the_properties(tiny_model: DanceModel) -> None:
    columns = EmbeddingForm(features="both").columns(32)
    assert (len(columns), len(set(columns))) == (82, 82)
    found = dict(zip(columns, embed(tiny_model, "MKVAYI", features="both"), strict=True))
    predicted = predict_properties(tiny_model, "MKVAYI", "residue")
    assert found["rmsf_nor"] == pytest.approx(predicted["rmsf_nor"].mean(), abs=1e-6)
    assert found["ss_none"] == pytest.approx(predicted["ss"][:, 7].mean(), abs=1e-6)


@pytest.mark.parametrize("form", ["e.npy", "e.h5", "per residue"])
def test_an_interrupted_run_resumes(tiny_model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """Finished batches are not computed again, except for another network; nothing is left beside the output."""
    output, per_residue = tmp_path / form.replace("per residue", "e.h5"), form == "per residue"
    computed: list[str] = []
    stop: list[str] = []

    def spy(network, sequences, *options, **more):
        if sequences == stop:
            raise KeyboardInterrupt
        computed.extend(sequences)
        return embed(network, sequences, *options, **more)

    monkeypatch.setattr(module, "embed", spy)
    stop = [SEQUENCES[3]]
    with pytest.raises(KeyboardInterrupt):
        write_embeddings(tiny_model, PROTEINS, output, per_residue, batch_size=1)
    assert not output.exists()
    other = DanceModel(tiny_model.config).eval()
    with pytest.raises(KeyboardInterrupt):
        write_embeddings(other, PROTEINS, output, per_residue, batch_size=1)
    assert computed == [SEQUENCES[2], SEQUENCES[1]] * 2
    stop = []
    paths = write_embeddings(tiny_model, PROTEINS, output, per_residue, batch_size=1)
    assert computed[4:] == [SEQUENCES[3], SEQUENCES[0]]
    assert set(tmp_path.iterdir()) == set(paths)

    expected = embed(tiny_model, SEQUENCES, per_residue)
    names = ["p0", "p1", "p2", "p3"]
    if form == "e.npy":
        assert output.with_suffix(".txt").read_text().split() == names
        found = np.load(output)
    else:
        with h5py.File(output) as file:
            assert file.attrs["model"].decode() == tiny_model.label
            assert per_residue or file["names"].asstr()[:].tolist() == names
            found = [file[name][:] for name in names] if per_residue else file["embedding"][:]
    for one, values in zip(found, expected, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, values, atol=1e-5, rtol=0)
