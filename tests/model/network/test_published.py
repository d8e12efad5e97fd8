"""`ESMwrap`: what programs written for the published class call, with the published outputs."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hugging_face import esm2_settings
from refusals import refused
from safetensors.torch import load_file

from data_prepare.errors import InputWarning
from data_prepare.properties import PAIR_PROPERTIES, RESIDUE_PROPERTIES
from model.config import PRESETS, ModelConfig
from model.inference.predict import predict_properties
from model.network.dance import DanceModel, load_esm2_encoder, load_model
from model.network.tokenizer import VOCABULARY, tokenize
from seqdance import ESMwrap

DATA = Path(__file__).resolve().parents[2] / "data" / "model"
SIZES = {"hidden": 32, "layers": 2, "heads": 4, "feed_forward": 64}
FORMS = {"seqdance": ModelConfig(**SIZES), "esmdance": ModelConfig(**SIZES, freeze_encoder=True, encoder_dropout=0.0)}


@pytest.fixture
def tokenizer(tmp_path: Path):
    """That of Hugging Face with our vocabulary, which is ESM2's."""
    from transformers import EsmTokenizer

    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY))
    return EsmTokenizer(str(tmp_path / "vocab.txt"))


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(form: str, tmp_path: Path) -> Path:
    """The golden weights with a config.json that says what they are."""
    model = DanceModel(FORMS[form])
    model.load_state_dict(load_file(DATA / "tiny_weights.safetensors"))
    model.save_pretrained(tmp_path / form)
    return tmp_path / form


def test_published_outputs(form: str, folder: Path, tokenizer) -> None:
    golden = np.load(DATA / f"tiny_{form}.npz")
    rows = ["".join(VOCABULARY[number] for number in ids) for ids in golden["in.input_ids"]]
    sequences = [row.replace("<pad>", "").removeprefix("<cls>").removesuffix("<eos>") for row in rows]
    assert "<eos><cls>" in sequences[2]
    batch = tokenizer(sequences, return_tensors="pt", padding=True)
    np.testing.assert_array_equal(batch["input_ids"], golden["in.input_ids"])
    model = ESMwrap.from_pretrained(folder)
    assert (model.model_select, model.training) == (form, False)
    assert form in repr(model)
    with torch.no_grad():
        outputs = model(batch, return_res_emb=True, return_attention_map=True)
    assert tuple(outputs) == ("res_emb", "attention_map", *RESIDUE_PROPERTIES, *PAIR_PROPERTIES)
    for name, value in outputs.items():
        np.testing.assert_allclose(value, golden[f"out.{name}"], rtol=0, atol=1e-5, err_msg=name)
    layers, heads = model.esm2.config.num_hidden_layers, model.esm2.config.num_attention_heads
    assert layers * heads == outputs["attention_map"].shape[-1]
    assert (layers, heads) == (2, 4)


def test_only_what_is_asked_for() -> None:
    model = ESMwrap(config=FORMS["seqdance"]).eval()
    batch = tokenize(["MKV", "ACDE"])
    assert tuple(model(batch)) == (*RESIDUE_PROPERTIES, *PAIR_PROPERTIES)
    assert tuple(model(batch, False, False, True, False)) == RESIDUE_PROPERTIES  # in the order of the published one
    assert tuple(model(batch, True, True, False, False)) == ("res_emb", "attention_map")
    assert tuple(model(batch, return_res_pred=False)) == PAIR_PROPERTIES


def test_form_asked_for_is_not_the_one_loaded(form: str, folder: Path) -> None:
    other = next(name for name in FORMS if name != form)
    with pytest.warns(InputWarning, match=f"{folder} is {form}, not {other}"):
        model = ESMwrap("model_35M", other).from_pretrained(folder)
    assert model.model_select == form
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ESMwrap("model_35M", form).from_pretrained(folder)
        ESMwrap.from_pretrained(folder)


def test_weights_without_configuration(form: str, folder: Path) -> None:
    """Nothing in a weight file tells the two forms apart."""
    (folder / "config.json").unlink()
    with pytest.warns(InputWarning, match="may be SeqDance or ESMDance"):
        model = ESMwrap("model_35M", form).from_pretrained(folder)
    assert model.model_select == form


def test_published_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder as the Hub has it: config.json of the published form, entries without a use."""
    with torch.device("meta"):
        model = ESMwrap("model_35M", "seqdance")
    assert (model.esm2.config.num_hidden_layers, model.esm2.config.num_attention_heads) == (12, 20)
    (tmp_path / "config.json").write_text(json.dumps({"esm2_select": "model_35M", "model_select": "esmdance"}))
    shutil.copy(DATA / "tiny_weights.safetensors", tmp_path / "model.safetensors")
    monkeypatch.setitem(PRESETS, "esmdance", FORMS["esmdance"])
    loaded = ESMwrap("model_35M", "esmdance").from_pretrained(tmp_path)
    assert loaded.model_select == "esmdance"
    expected = load_file(DATA / "tiny_weights.safetensors")
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())


def test_load_state_dict_that_is_not_strict() -> None:
    state = load_file(DATA / "tiny_weights.safetensors")
    assert "esm2.pooler.dense.weight" in state
    model = ESMwrap(config=FORMS["seqdance"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.load_state_dict(state, strict=False) == ([], [])
    state["other"] = state.pop("pair_pred_linear.bias")
    with pytest.warns(InputWarning, match=r"1 missing \(pair_pred_linear.bias\), 1 unknown \(other\)"):
        missing, unexpected = model.load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["pair_pred_linear.bias"], ["other"])
    refused(lambda: model.load_state_dict(state), "pair_pred_linear.bias", "other")


def test_a_frozen_encoder_needs_weights(tmp_path: Path) -> None:
    from transformers import EsmModel

    EsmModel(esm2_settings(32, 2, 4, 64)).save_pretrained(tmp_path)
    ids = torch.tensor([[0, 5, 2]])
    model = ESMwrap(config=FORMS["esmdance"])
    refused(lambda: model({"input_ids": ids}), "random weights", "from_pretrained")
    load_esm2_encoder(model, tmp_path)
    for ready in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert ready({"input_ids": ids})["vdw"].shape == (1, 3, 3)


def test_our_functions_take_it(folder: Path) -> None:
    wrapped, plain = ESMwrap.from_pretrained(folder), load_model(folder, "cpu")
    assert wrapped.label == plain.label  # in outputs
    found, expected = predict_properties(wrapped, "MKTAYI"), predict_properties(plain, "MKTAYI")
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda model: model({"input_ids": [[0, 5, 2]]}), ["input_ids", 'return_tensors="pt"']),
        (lambda model: model({"inputs": torch.zeros(1, 3)}), ["input_ids and attention_mask", "inputs"]),
        (lambda model: model("MKV"), ["input_ids", "MKV"]),
        (lambda model: ESMwrap("model_650M", "seqdance"), ["model_650M", "model_35M"]),
        (lambda model: ESMwrap("model_35M", "dance"), ["'dance'", "seqdance or esmdance"]),
        (lambda model: ESMwrap.from_pretrained("nowhere"), ["nowhere"]),
    ],
)
def test_refused(call, named: list[str]) -> None:
    refused(lambda: call(ESMwrap(config=FORMS["seqdance"])), *named)
