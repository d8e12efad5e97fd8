"""Embeddings, and the files that hold them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from refusals import refused

from model.inference import embed as module
from model.inference.embed import embed, write_embeddings
from model.inference.inputs import Protein
from model.network.dance import DanceModel
from model.network.tokenizer import VOCABULARY

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
    for name in ("a/b", ".", ".."):
        refused(lambda name=name: write_embeddings(tiny_model, [Protein(name, "MK")], tmp_path / "e.h5", True), name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["e.npy", "e.h5", "per residue"])
def test_an_interrupted_run_resumes(tiny_model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """Finished batches are not computed again, except for another network; nothing is left beside the output."""
    output, per_residue = tmp_path / form.replace("per residue", "e.h5"), form == "per residue"
    computed: list[str] = []
    stop: list[str] = []

    def spy(network, sequences, *options):
        if sequences == stop:
            raise KeyboardInterrupt
        computed.extend(sequences)
        return embed(network, sequences, *options)

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
            assert len(file.attrs["model"]) == 32
            assert per_residue or file["names"].asstr()[:].tolist() == names
            found = [file[name][:] for name in names] if per_residue else file["embedding"][:]
    for one, values in zip(found, expected, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, values, atol=1e-5, rtol=0)
