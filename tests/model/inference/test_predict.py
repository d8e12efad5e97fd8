"""Predicted properties, batches, and the files that hold predictions."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused

from data_prepare.properties import PAIR_PROPERTIES, PROPERTIES, RESIDUE_PROPERTIES
from model.inference.attention import attention_maps, write_maps
from model.inference.batches import length_batches, residue_rows
from model.inference.embed import embed
from model.inference.inputs import Protein
from model.inference.predict import predict_missing, predict_properties
from model.inference.prediction_files import PredictionFile, PredictionFolder, read_prediction
from model.mutations.score import score_mutations
from model.network.dance import DanceModel
from model.network.tokenizer import VOCABULARY

DATA = Path(__file__).resolve().parents[2] / "data" / "model"
SEQUENCES = ["MKTAYIAKQRQISFVKSHFSRQ", "GGSLEEKL<eos><cls>MKV", "MKV", "XACDEFGHIKLMNPQRSTVWY", "M<mask>V"]
PROTEINS = [Protein(name, sequence) for name, sequence in zip(["a", "b", "/", "c"], SEQUENCES, strict=False)]
FORMS = pytest.mark.parametrize(("form", "name"), [(PredictionFolder, "out"), (PredictionFile, "out.h5")])


@pytest.mark.parametrize("batch_size", [None, 1])
def test_golden_values_of_the_residues(tiny_model: DanceModel, batch_size: int | None) -> None:
    """Without chain linkers, <cls>, <eos> and padding."""
    golden = np.load(DATA / "tiny_seqdance.npz")
    masked = zip(golden["in.input_ids"], golden["in.attention_mask"], strict=True)
    sequences = ["".join(VOCABULARY[i] for i in ids[mask == 1][1:-1]) for ids, mask in masked]
    for row, properties in enumerate(predict_properties(tiny_model, sequences, batch_size=batch_size)):
        assert tuple(properties) == PROPERTIES
        rows = np.flatnonzero(~np.isin(golden["in.input_ids"][row], (0, 1, 2)))
        for name, values in properties.items():
            expected = golden[f"out.{name}"][row][rows]
            expected = expected[:, rows] if name in PAIR_PROPERTIES else expected
            assert values.dtype == np.float32
            np.testing.assert_allclose(values, expected, atol=1e-5, rtol=0, err_msg=name)


def test_batches_single_sequences_and_series_agree(tiny_model: DanceModel) -> None:
    """The labels of a Series do not matter."""
    together = predict_properties(tiny_model, SEQUENCES)
    series = predict_properties(tiny_model, pd.Series(SEQUENCES, index=[2, 0, 1, 9, 7]))
    assert [array.tolist() for array in residue_rows("AC<eos><cls>D<mask>")] == [[1, 2, 5, 6], [0, 0, 1, 1]]
    for sequence, found, same in zip(SEQUENCES, together, series, strict=True):
        alone = predict_properties(tiny_model, sequence)
        for name in PROPERTIES:
            np.testing.assert_allclose(found[name], alone[name], atol=1e-5, rtol=0, err_msg=name)
            np.testing.assert_array_equal(found[name], same[name])
    shapes = together[1]["ss"].shape, together[1]["corr"].shape, together[4]["rmsf_nor"].shape
    assert shapes == ((11, 8), (11, 11), (3,))
    assert predict_properties(tiny_model, []) == []
    network = DanceModel(tiny_model.config).train()
    first, second = (predict_properties(network, "MKVLA", "ss")["ss"] for _ in range(2))
    np.testing.assert_array_equal(first, second)  # no dropout
    assert network.training


def test_names_and_lower_case(tiny_model: DanceModel) -> None:
    """As in files: lower case, blanks, chains joined by colons."""
    single = predict_properties(tiny_model, "MQIFVK<eos><cls>TLTG")
    by_name = predict_properties(tiny_model, {"x": "mqif vk:tltg", "y": "MQ"})
    assert list(by_name) == ["x", "y"]
    for name in PROPERTIES:
        np.testing.assert_allclose(by_name["x"][name], single[name], atol=1e-6)
    embedded = embed(tiny_model, {"y": "mq", "x": "MQIFVK/TLTG"})
    assert list(embedded) == ["y", "x"]
    np.testing.assert_allclose(embedded["x"], embed(tiny_model, "MQIFVK<eos><cls>TLTG"), atol=1e-6)
    maps = attention_maps(tiny_model, {"y": "mq"})
    np.testing.assert_array_equal(maps["y"], attention_maps(tiny_model, "MQ"))
    scores = [score_mutations(tiny_model, sequence, ["Q2A", "I3V"])["score"] for sequence in ("mqif", "MQIF")]
    np.testing.assert_array_equal(*scores)


def test_only_what_is_asked_for_is_computed(tiny_model: DanceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = DanceModel.forward

    def spy(self, *args, **kwargs):
        asked.append((kwargs["residue"], kwargs["pair"]))
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(DanceModel, "forward", spy)
    for properties, expected, parts in (
        ("residue", RESIDUE_PROPERTIES, (True, False)),
        (["corr", "vdw", "corr"], ("vdw", "corr"), (False, True)),
        (["corr", "residue"], (*RESIDUE_PROPERTIES, "corr"), (True, True)),
    ):
        asked: list[tuple[bool, bool]] = []
        assert tuple(predict_properties(tiny_model, "MKV", properties)) == expected
        assert asked == [parts]


@pytest.mark.parametrize(
    ("sequences", "options", "named"),
    [
        (["MKV", "MJV"], {}, ["sequence 2 of 2", "'J'"]),
        (["MKV", ""], {}, ["sequence 2 of 2"]),
        ("MKV", {"properties": "rmsf"}, ["rmsf", "rmsf_nor"]),
        ("MKV", {"properties": []}, ["rmsf_nor"]),
        ("MKV", {"batch_size": 0}, ["batch size 0"]),
    ],
)
def test_invalid_input(tiny_model: DanceModel, sequences, options: dict, named: list[str]) -> None:
    refused(lambda: predict_properties(tiny_model, sequences, **options), *named)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory: 4 bytes")]
)
def test_exhausted_memory(tiny_model: DanceModel, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def forward(*_, **__):
        raise error

    monkeypatch.setattr(DanceModel, "forward", forward)
    refused(lambda: predict_properties(tiny_model, ["MKV", "MKVL"]), "2 sequence", "6 tokens", "batch size")
    refused(lambda: predict_properties(tiny_model, "MKV"), "1 sequence", "5 tokens", "pairs")
    if type(error) is RuntimeError:  # any other is a fault of the program
        error.args = ("shapes",)
        with pytest.raises(RuntimeError, match="shapes"):
            predict_properties(tiny_model, "MKV")


def test_memory_is_planned_before_the_first_batch(tiny_model: DanceModel, tmp_path: Path, monkeypatch) -> None:
    """Both figures, and the residue-only way, which needs no memory for pairs."""
    for module in ("model.network.device", "data_prepare.memory"):
        monkeypatch.setattr(f"{module}.available_memory", lambda: 10**9)
    long = "A" * 3000
    refused(lambda: predict_properties(tiny_model, ["MKV", long]), "2.1 GB", "1.0 GB", "3002 tokens", "residue")
    refused(lambda: predict_properties(tiny_model, ["MKV" * 300] * 9, batch_size=9), "1.7 GB", "902 tokens")
    assert len(predict_properties(tiny_model, long, "residue")["rmsf_nor"]) == 3000
    proteins = [Protein("a", "A" * 10_000)]
    write = write_maps(tiny_model, proteins, ["a"], tmp_path / "x.npz", True, np.float16)
    refused(lambda: list(write), "6.4 GB", "1.0 GB", "10002 tokens")
    assert not list(tmp_path.iterdir())


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 400))
def test_batches_are_filled_to_their_capacity(lengths: list[int], budget: int) -> None:
    batches = list(length_batches(lengths, None, lambda longest: budget // longest))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert [lengths[index] for batch in batches for index in batch] == sorted(lengths)
    for batch, following in zip(batches, [*batches, []][1:], strict=True):
        longest = max(lengths[index] for index in batch)
        assert len(batch) == 1 or len(batch) * longest <= budget
        if following:  # one more would have been too many
            assert (len(batch) + 1) * lengths[following[0]] > budget
    fixed = list(length_batches(lengths, 4, lambda longest: 1))
    assert [len(batch) for batch in fixed] == [4] * (len(lengths) // 4) + [len(lengths) % 4] * (len(lengths) % 4 > 0)


def test_long_sequences_are_not_cut_and_default_batches_stay_small(
    tiny_model: DanceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most a million pairs or 16,384 tokens per batch, padding included."""
    shapes = []

    def forward(_, input_ids, *args, **kwargs):
        shapes.append(tuple(input_ids.shape))
        return {"rmsf_nor": torch.zeros(input_ids.shape), "res_emb": torch.zeros(*input_ids.shape, 1)}

    monkeypatch.setattr(DanceModel, "forward", forward)
    long, medium = ["ACDEFGHIKL" * 110] * 16, ["ACDEFGHIKL" * 30] * 13  # 1,102 and 302 tokens
    found = predict_properties(tiny_model, long[:2] + medium, "rmsf_nor")
    assert [len(properties["rmsf_nor"]) for properties in found] == [1100] * 2 + [300] * 13
    assert [len(rows) for rows in embed(tiny_model, long, per_residue=True)] == [1100] * 16
    assert shapes == [(11, 302), (2, 302), (1, 1102), (1, 1102), (14, 1102), (2, 1102)]


@FORMS
def test_stored_predictions(tiny_model: DanceModel, tmp_path: Path, form: type, name: str) -> None:
    """What is read is what was predicted; a second run adds what the first one lacks and keeps the rest."""
    made = dict(zip(PROTEINS, predict_properties(tiny_model, SEQUENCES[:4]), strict=True))
    for chosen, expected in ((PROTEINS[:2], PROTEINS[:2]), (PROTEINS, PROTEINS[2:]), (PROTEINS, [])):
        store = form(tmp_path / name, "f00", PROPERTIES)
        assert predict_missing(tiny_model, chosen, store) == expected
    for protein in PROTEINS:
        found = store.read(protein)
        assert (found.name, found.sequence, found.digest) == (protein.name, protein.sequence, "f00")
        np.testing.assert_array_equal(found.chain, residue_rows(protein.sequence)[1])
        assert tuple(found.properties) == PROPERTIES
        for prop, values in found.properties.items():
            assert values.dtype == np.float32
            np.testing.assert_allclose(values, made[protein][prop], atol=1e-5, rtol=0)
    assert not list(tmp_path.glob(".*"))


@FORMS
def test_another_prediction_is_not_mixed_in(tiny_model: DanceModel, tmp_path: Path, form: type, name: str) -> None:
    output = tmp_path / name
    predict_missing(tiny_model, [Protein("a", "MKV")], form(output, "f00", ["ss", "rmsf_nor"]))
    assert form(output, "f00", ["ss"]).has(Protein("a", "MKV"))
    for sequence, network, properties, named in (
        ("MKL", "f00", ["ss"], "sequence"),
        ("MKV", "f01", ["ss"], "model"),
        ("MKV", "f00", ["ss", "corr"], "corr"),
    ):
        store, proteins = form(output, network, properties), [Protein("a", sequence)]
        refused(lambda p=proteins, s=store: predict_missing(tiny_model, p, s), output, "a", named)


def test_damaged_predictions(tiny_model: DanceModel, tmp_path: Path) -> None:
    store = PredictionFolder(tmp_path, "f00", ["ss"])
    predict_missing(tiny_model, PROTEINS[:1], store)
    path = tmp_path / "a.npz"
    path.write_bytes(path.read_bytes()[:-100])
    refused(lambda: read_prediction(path), path, "a prediction")
    refused(lambda: store.has(PROTEINS[0]), path)
    np.savez(path, chain=np.zeros(3))
    refused(lambda: read_prediction(path), path, "a prediction")
    refused(lambda: read_prediction(tmp_path / "b.npz"), "b.npz", "no such file")
    (tmp_path / "a.h5").write_bytes(b"no HDF5")
    refused(lambda: PredictionFile(tmp_path / "a.h5", "f00", ["ss"]), "a.h5", "HDF5")
    refused(lambda: read_prediction(tmp_path / "a.h5", "a"), "a.h5, a")


def test_links_in_predictions_are_refused(tmp_path: Path) -> None:
    store = PredictionFile(tmp_path / "out.h5", "f00", ["rmsf_nor"])
    store.write(PROTEINS[0], np.zeros(3, np.int32), {"rmsf_nor": np.ones(3, np.float32)})
    store.finish(PROTEINS[:1])
    (tmp_path / "other.h5").write_bytes((tmp_path / "out.h5").read_bytes())
    _, group = store.location(PROTEINS[0])
    for name in (f"{group}/rmsf_nor", group):
        with h5py.File(tmp_path / "out.h5", "a") as file:
            del file[name]
            file[name] = h5py.ExternalLink("other.h5", name)
        refused(lambda: read_prediction(tmp_path / "out.h5", group), "out.h5", group)


def test_damaged_texts_of_predictions_are_refused(tmp_path: Path) -> None:
    """Texts of a fixed length, and those of variable length of earlier versions, which HDF5 may read without end."""
    store = PredictionFile(tmp_path / "out.h5", "", ["rmsf_nor"])
    store.write(PROTEINS[0], np.zeros(3, np.int32), {"rmsf_nor": np.ones(3, np.float32)})
    store.finish(PROTEINS[:1])
    _, group = store.location(PROTEINS[0])
    written = read_prediction(tmp_path / "out.h5", group)
    assert (written.name, written.sequence, written.digest) == (PROTEINS[0].name, PROTEINS[0].sequence, "")
    assert b"GCOL" not in (tmp_path / "out.h5").read_bytes()  # the heap of texts of variable length
    with h5py.File(tmp_path / "out.h5", "a") as file:
        del file[group]["sequence"]
        file[group]["sequence"] = written.sequence
    assert read_prediction(tmp_path / "out.h5", group).sequence == written.sequence
    content = bytearray((tmp_path / "out.h5").read_bytes())
    heap = content.index(b"GCOL")
    content[heap + 16 : heap + 4096] = bytes(4080)
    (tmp_path / "out.h5").write_bytes(content)
    refused(lambda: read_prediction(tmp_path / "out.h5", group), "out.h5", group, "texts are damaged")


def test_hdf5_files_of_other_things_stay(tmp_path: Path) -> None:
    for number, content in enumerate(("embedding", "b/embedding", None)):
        path = tmp_path / f"{number}.h5"
        with h5py.File(path, "w") as file:
            if content:
                file[content] = np.zeros((2, 3))
            else:
                file.attrs["model"] = "f00"
        refused(lambda path=path: PredictionFile(path, "f00", ["ss"]), path, "--output")


def killed(output: Path, proteins: list[Protein]) -> PredictionFile:
    """Parts as a killed run leaves them, marked by a number that no network predicts."""
    store = PredictionFile(output, "f00", ["ss"])
    for protein in proteins:
        chain = residue_rows(protein.sequence)[1]
        store.write(protein, chain, {"ss": np.full((len(chain), 8), 7, np.float32)})
    return store


def test_parts_of_a_killed_run_are_used(tiny_model: DanceModel, tmp_path: Path) -> None:
    """Also by a later run, if one of other proteins comes between, and if they are in the file already."""
    output = tmp_path / "out.h5"
    killed(output, PROTEINS[:2])
    predict_missing(tiny_model, PROTEINS[2:3], PredictionFile(output, "f00", ["ss"]))
    store = PredictionFile(output, "f00", ["ss"])
    assert predict_missing(tiny_model, PROTEINS, store) == PROTEINS[3:]
    assert [bool((store.read(protein).properties["ss"] == 7).all()) for protein in PROTEINS] == [1, 1, 0, 0]
    assert not store.parts.folder.exists()
    before = output.stat().st_mtime_ns
    assert predict_missing(tiny_model, PROTEINS, killed(output, PROTEINS[1:])) == []
    assert output.stat().st_mtime_ns == before
    assert not store.parts.folder.exists()


@pytest.mark.parametrize("change", ["model", "properties", "sequence"])
def test_parts_of_something_else_are_not_used(tiny_model: DanceModel, tmp_path: Path, change: str) -> None:
    killed(tmp_path / "out.h5", PROTEINS[:1])
    network, properties = "f01" if change == "model" else "f00", ["ss", "psi"][: 1 + (change == "properties")]
    protein = Protein("a", "MKV") if change == "sequence" else PROTEINS[0]
    store = PredictionFile(tmp_path / "out.h5", network, properties)
    assert predict_missing(tiny_model, [protein], store) == [protein]
    assert store.read(protein).properties["ss"].max() < 1
