import zlib
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from data_prepare.errors import InputError
from data_prepare.properties import PAIR_PROPERTIES, PROPERTIES, RESIDUE_PROPERTIES
from model.config import ModelConfig
from model.inference.predict import (
    Prediction,
    check_prediction,
    hdf5_groups,
    iterate_predictions,
    length_batches,
    merge_predictions,
    model_fingerprint,
    predict_properties,
    property_names,
    read_prediction,
    residue_rows,
    write_prediction,
)
from model.network.dance import DanceModel

DATA = Path(__file__).resolve().parents[1] / "data" / "model"
CONFIG = ModelConfig(hidden=32, layers=2, heads=4, feed_forward=64)
SEQUENCES = ["MKTAYIAKQRQISFVKSHFSRQ", "GGSLEEKL<eos><cls>MKV", "MKV", "XACDEFGHIKLMNPQRSTVWY", "M<mask>V"]


@pytest.fixture(scope="module")
def model() -> DanceModel:
    network = DanceModel(CONFIG)
    network.load_state_dict(load_file(DATA / "tiny_weights.safetensors"))
    return network.eval()


def golden_sequences(golden) -> list[str]:
    from model.network.tokenizer import VOCABULARY

    texts = []
    for ids, mask in zip(golden["in.input_ids"], golden["in.attention_mask"], strict=True):
        texts.append("".join(VOCABULARY[i] for i in ids[mask == 1][1:-1]))
    return texts


@pytest.mark.parametrize("batch_size", [None, 1])
def test_golden_values_of_the_residues(model: DanceModel, batch_size: int | None) -> None:
    """Chain linkers, <cls>, <eos> and padding are taken off; their places are found here from the ids."""
    golden = np.load(DATA / "tiny_seqdance.npz")
    found = predict_properties(model, golden_sequences(golden), batch_size=batch_size)
    for row, properties in enumerate(found):
        assert tuple(properties) == PROPERTIES
        ids = golden["in.input_ids"][row]
        rows = np.array([place for place, token in enumerate(ids) if token not in (0, 1, 2)])
        for name, values in properties.items():
            expected = golden[f"out.{name}"][row][rows]
            if name in PAIR_PROPERTIES:
                expected = expected[:, rows]
            assert values.dtype == np.float32
            np.testing.assert_allclose(values, expected, atol=1e-5, rtol=0, err_msg=name)


def test_batches_and_single_sequences_agree(model: DanceModel) -> None:
    together = predict_properties(model, SEQUENCES)
    for sequence, found in zip(SEQUENCES, together, strict=True):
        alone = predict_properties(model, sequence)
        for name in PROPERTIES:
            np.testing.assert_allclose(found[name], alone[name], atol=1e-5, rtol=0, err_msg=name)
    assert together[1]["ss"].shape == (11, 8)
    assert together[1]["corr"].shape == (11, 11)
    assert together[4]["rmsf_nor"].shape == (3,)
    assert predict_properties(model, []) == []


def test_sequences_of_a_series_go_by_place(model: DanceModel) -> None:
    """The labels are places of other sequences, or of none."""
    expected = predict_properties(model, SEQUENCES[:3], "rmsf_nor")
    for index in ([2, 0, 1], [7, 8, 9]):
        series = pd.Series(SEQUENCES[:3], index=index)
        found = predict_properties(model, series, "rmsf_nor")
        by_place = dict(iterate_predictions(model, series, "rmsf_nor"))
        for place, properties in enumerate(expected):
            np.testing.assert_array_equal(found[place]["rmsf_nor"], properties["rmsf_nor"])
            np.testing.assert_array_equal(by_place[place]["rmsf_nor"], properties["rmsf_nor"])


def test_rows_and_chains() -> None:
    rows, chain = residue_rows("AC<eos><cls>D<mask>")
    assert rows.tolist() == [1, 2, 5, 6]
    assert chain.tolist() == [0, 0, 1, 1]
    assert chain.dtype == np.int32


def test_only_what_is_asked_for_is_computed(model: DanceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    forward = DanceModel.forward

    def spy(self, *args, **kwargs):
        asked.append((kwargs["residue"], kwargs["pair"]))
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(DanceModel, "forward", spy)
    assert tuple(predict_properties(model, "MKV", "residue")) == RESIDUE_PROPERTIES
    assert tuple(predict_properties(model, "MKV", ["corr", "vdw"])) == ("vdw", "corr")
    assert tuple(predict_properties(model, "MKV", ["corr", "residue"])) == (*RESIDUE_PROPERTIES, "corr")
    assert asked == [(True, False), (False, True), (True, True)]


def test_the_mode_of_the_model_stays(model: DanceModel) -> None:
    other = DanceModel(CONFIG).train()
    assert predict_properties(other, "MKV", "rmsf_nor")["rmsf_nor"].shape == (3,)
    assert other.training
    first, second = (predict_properties(other, "MKVLA", "ss")["ss"] for _ in range(2))  # without dropout
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("sequences", "options", "message"),
    [
        (["MKV", "MJV"], {}, "sequence 2 of 2, position 2: 'J'"),
        (["MKV", ""], {}, "sequence 2 of 2 is empty"),
        (["<eos><cls>"], {}, "sequence 1 of 1: no residue"),
        ("MKV", {"properties": "rmsf"}, "no property rmsf"),
        ("MKV", {"properties": []}, "no property is asked for"),
        ("MKV", {"batch_size": 0}, "batch size 0"),
    ],
)
def test_errors(model: DanceModel, sequences, options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        predict_properties(model, sequences, **options)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory: 4 bytes")]
)
def test_exhausted_memory_is_named(model: DanceModel, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def forward(*_, **__):
        raise error

    monkeypatch.setattr(DanceModel, "forward", forward)
    with pytest.raises(InputError, match=r"2 sequences of up to 6 tokens; take a smaller batch size"):
        predict_properties(model, ["MKV", "MKVL"])
    with pytest.raises(InputError, match=r"1 sequence of 5 tokens; leave out residue pairs"):
        predict_properties(model, "MKV")


def test_other_errors_of_pytorch_go_through(model: DanceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(*_, **__):
        raise RuntimeError("shapes")

    monkeypatch.setattr(DanceModel, "forward", forward)
    with pytest.raises(RuntimeError, match="shapes"):
        predict_properties(model, "MKV")


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 400))
def test_batches_keep_to_their_size(lengths: list[int], budget: int) -> None:
    batches = list(length_batches(lengths, lambda longest: budget // longest))
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    assert [lengths[place] for batch in batches for place in batch] == sorted(lengths)
    for batch, following in zip(batches, [*batches, []][1:], strict=True):
        longest = max(lengths[place] for place in batch)
        assert len(batch) == 1 or len(batch) * longest <= budget
        if following:  # one more would have been too many
            assert (len(batch) + 1) * lengths[following[0]] > budget


def test_property_names_keep_their_order() -> None:
    assert property_names("all") == PROPERTIES
    assert property_names(("psi", "ss", "psi")) == ("ss", "psi")


def test_fingerprint_tells_models_apart(model: DanceModel) -> None:
    same = DanceModel(CONFIG)
    same.load_state_dict(model.state_dict())
    assert model_fingerprint(same) == model_fingerprint(model)
    with torch.no_grad():
        same.pair_pred_linear.bias[3] += 1e-3
    assert model_fingerprint(same) != model_fingerprint(model)


def prediction(model: DanceModel, name: str, sequence: str) -> Prediction:
    return Prediction(name, sequence, "f00", residue_rows(sequence)[1], predict_properties(model, sequence))


def assert_equal(one: Prediction, other: Prediction) -> None:
    assert (one.name, one.sequence, one.model) == (other.name, other.sequence, other.model)
    np.testing.assert_array_equal(one.chain, other.chain)
    assert tuple(one.properties) == tuple(other.properties)
    for name, values in one.properties.items():
        assert values.dtype == other.properties[name].dtype == np.float32
        np.testing.assert_array_equal(values, other.properties[name])


def test_files_give_back_what_was_written(model: DanceModel, tmp_path: Path) -> None:
    """npz and HDF5; a second merge keeps the groups that are there."""
    made = {name: prediction(model, name, sequence) for name, sequence in zip("ab/c", SEQUENCES[:4], strict=True)}
    output = tmp_path / "all.h5"
    for names in ("ab", "/c"):
        parts = []
        for name in names:
            parts.append(tmp_path / f"{ord(name)}.npz")
            write_prediction(parts[-1], made[name])
            assert_equal(read_prediction(parts[-1]), made[name])
        merge_predictions(parts, output)
    assert hdf5_groups(output) == {"a", "b", "_", "c"}
    for group in hdf5_groups(output):
        assert_equal(read_prediction(output, group), made["/" if group == "_" else group])
    with h5py.File(output) as file:
        assert file["b"]["sequence"].asstr()[()] == SEQUENCES[1]
    assert not list(tmp_path.glob(".*"))


def test_a_second_merge_of_a_part_changes_nothing(model: DanceModel, tmp_path: Path) -> None:
    """A run may be killed after the merge, before it removes its parts."""
    part, output = tmp_path / "a.npz", tmp_path / "all.h5"
    made = prediction(model, "a", "MKV")
    write_prediction(part, made)
    merge_predictions([part], output)
    merge_predictions([part], output)
    assert hdf5_groups(output) == {"a"}
    assert_equal(read_prediction(output, "a"), made)


def test_another_prediction_is_noticed(model: DanceModel, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    made = prediction(model, "a", "MKV")
    made.properties.pop("corr")
    write_prediction(path, made)
    check_prediction(path, None, "MKV", "f00", RESIDUE_PROPERTIES)
    with pytest.raises(InputError, match=r"a\.npz: a prediction of another sequence is there"):
        check_prediction(path, None, "MKL", "f00", RESIDUE_PROPERTIES)
    with pytest.raises(InputError, match=r"of another model and without corr"):
        check_prediction(path, None, "MKV", "f01", PROPERTIES)


def test_damaged_files_are_named(model: DanceModel, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_prediction(path, prediction(model, "a", "MKV"))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"a\.npz: not a prediction"):
        read_prediction(path)
    np.savez(path, chain=np.zeros(3))
    with pytest.raises(InputError, match=r"a\.npz: not a prediction .*name"):
        read_prediction(path)
    with pytest.raises(InputError, match="no such file"):
        read_prediction(tmp_path / "b.npz")
    (tmp_path / "a.h5").write_bytes(b"no HDF5")
    with pytest.raises(InputError, match=r"a\.h5: cannot be read as HDF5"):
        hdf5_groups(tmp_path / "a.h5")
    with pytest.raises(InputError, match=r"a\.h5, a: not a prediction"):
        read_prediction(tmp_path / "a.h5", "a")


@pytest.mark.parametrize("content", ["dataset", "group", "attribute"])
def test_hdf5_files_of_other_things_are_refused(model: DanceModel, tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.h5"
    write_prediction(tmp_path / "a.npz", prediction(model, "a", "MKV"))
    merge_predictions([tmp_path / "a.npz"], path)
    with h5py.File(path, "a") as file:
        if content == "dataset":
            file["embedding"] = np.zeros((2, 3))
        elif content == "group":
            file["b/embedding"] = np.zeros((2, 3))
        else:
            file.attrs["model"] = "f00"
    with pytest.raises(InputError, match=r"a\.h5: not predictions of seqdance predict; give another --output"):
        hdf5_groups(path)


@pytest.mark.parametrize(
    "error", [RuntimeError("x"), NotImplementedError("x"), TypeError("x"), KeyError("x"), zlib.error("x")]
)
def test_what_readers_raise_becomes_one_line(
    model: DanceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_, **__):
        raise error

    part, output = tmp_path / "a.npz", tmp_path / "a.h5"
    write_prediction(part, prediction(model, "a", "MKV"))
    merge_predictions([part], output)
    before = output.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(h5py.Group, "copy", fail)
        with pytest.raises(InputError, match=r"a\.h5: cannot be copied .*remove it"):
            merge_predictions([part], output)
    assert output.read_bytes() == before
    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", fail)
    monkeypatch.setattr(h5py.Group, "__getitem__", fail)
    with pytest.raises(InputError, match=r"a\.h5: cannot be read as HDF5 .*remove it"):
        hdf5_groups(output)
    for path, group in ((part, None), (output, "a")):
        with pytest.raises(InputError, match=r"not a prediction .*remove it"):
            read_prediction(path, group)
        with pytest.raises(InputError, match=r"not a prediction .*remove it"):
            check_prediction(path, group, "MKV", "f00", PROPERTIES)
