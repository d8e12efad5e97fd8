"""ESM2 as a language model: parity with Hugging Face, forms of its files."""

import json
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from hugging_face import esm2_settings
from refusals import refused
from safetensors.torch import load_file, save_file

from model.config import ModelConfig
from model.network.dance import DanceModel, load_esm2_encoder
from model.network.language_model import LanguageModel, load_language_model
from model.network.tokenizer import tokenize

SEQUENCE = "MKTAYIAKQRQISFVKSHFSRQ"


@pytest.fixture(scope="module")
def reference():
    """Hugging Face's ESM2 with weights so large that attention is far from uniform."""
    from transformers import EsmForMaskedLM

    torch.manual_seed(0)
    network = EsmForMaskedLM(esm2_settings(48, 3, 4, 80)).eval()
    for name, value in network.named_parameters():
        torch.nn.init.normal_(value, 1.0 if "ayer_norm.weight" in name or "LayerNorm.weight" in name else 0.0, 0.3)
    return network


@pytest.fixture(scope="module")
def folder(reference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("esm2") / "tiny"
    reference.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def network(folder: Path) -> LanguageModel:
    return load_language_model(folder, "cpu")


def copy(folder: Path, target: Path, settings: dict | None = None, **weights: torch.Tensor | None) -> Path:
    """The same model with other settings or weights; None removes an entry."""
    target.mkdir()
    config = json.loads((folder / "config.json").read_text()) | (settings or {})
    (target / "config.json").write_text(json.dumps({name: value for name, value in config.items() if value != "none"}))
    state = load_file(folder / "model.safetensors") | weights
    save_file({name: value for name, value in state.items() if value is not None}, target / "model.safetensors")
    return target


def fair_esm(state: dict[str, torch.Tensor], **settings: object) -> dict:
    """A file of fair-esm with the weights of `EsmForMaskedLM`, its names written out one by one."""
    top, layer = "encoder.sentence_encoder.", "encoder.sentence_encoder.layers."
    names = {
        "embed_tokens.weight": "esm.embeddings.word_embeddings.weight",
        **{f"emb_layer_norm_after.{p}": f"esm.encoder.emb_layer_norm_after.{p}" for p in ("weight", "bias")},
    }
    model = {f"{top}{name}": state[other] for name, other in names.items()}
    parts = {
        "self_attn.q_proj": "attention.self.query",
        "self_attn.k_proj": "attention.self.key",
        "self_attn.v_proj": "attention.self.value",
        "self_attn.out_proj": "attention.output.dense",
        "self_attn_layer_norm": "attention.LayerNorm",
        "fc1": "intermediate.dense",
        "fc2": "output.dense",
        "final_layer_norm": "LayerNorm",
    }
    for number in range(3):
        for part, other in parts.items():
            for p in ("weight", "bias"):
                model[f"{layer}{number}.{part}.{p}"] = state[f"esm.encoder.layer.{number}.{other}.{p}"]
        model[f"{layer}{number}.self_attn.rot_emb.inv_freq"] = torch.ones(6)
    model["encoder.lm_head.weight"] = model[f"{top}embed_tokens.weight"]
    model["encoder.lm_head.bias"] = state["lm_head.bias"]
    for p in ("weight", "bias"):
        model[f"encoder.lm_head.dense.{p}"] = state[f"lm_head.dense.{p}"]
        model[f"encoder.lm_head.layer_norm.{p}"] = state[f"lm_head.layer_norm.{p}"]
    return {"cfg": {"_name": None, "model": Namespace(**settings)}, "args": None, "model": model}


def test_files_of_fair_esm(reference, network: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "esm2_t3_UR50D.pt"
    (tmp_path / "config.json").write_text("{}")
    content = fair_esm(reference.state_dict(), encoder_attention_heads=4, encoder_layers=3, token_dropout=True)
    torch.save(content, path)
    loaded = load_language_model(path, "cpu")
    assert loaded.config == network.config
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    dance = DanceModel(ModelConfig(hidden=48, layers=3, heads=4, feed_forward=80))
    load_esm2_encoder(dance, path)
    for name, value in network.esm.state_dict().items():
        assert torch.equal(dance.esm2.state_dict()[name], value), name
    refused(lambda: load_esm2_encoder(DanceModel(ModelConfig(48, 3, 2, 80)), path), path, "heads")
    content["cfg"]["model"] = Namespace()
    torch.save(content, path)
    refused(lambda: load_language_model(path), path, "num_attention_heads")
    content["model"]["encoder.sentence_encoder.embed_positions.weight"] = torch.ones(2, 48)  # ESM-1b
    torch.save(content | {"args": Namespace(attention_heads=4)}, path)
    refused(lambda: load_language_model(path), path, "absolute")


def test_equals_hugging_face(reference, network: LanguageModel) -> None:
    """Padding and masks included."""
    batch = tokenize([SEQUENCE, "MK<mask>LV<mask>A", "ACDEF"])
    with torch.no_grad():
        expected = reference(**batch).logits
        logits = network(**batch)
    real = batch["attention_mask"].bool()
    assert expected[real].std() > 0.1
    torch.testing.assert_close(logits[real], expected[real], rtol=0, atol=1e-5)


def test_weights_in_several_files(reference, network: LanguageModel, tmp_path: Path) -> None:
    reference.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    loaded = load_language_model(tmp_path, "cpu")
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, network.state_dict()[name], rtol=0, atol=0)
    next(iter(sorted(tmp_path.glob("*.safetensors")))).unlink()
    refused(lambda: load_language_model(tmp_path, "cpu"), tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    refused(lambda: load_language_model(tmp_path, "cpu"), "model.safetensors.index.json")


def test_other_names_and_precision(folder: Path, network: LanguageModel, tmp_path: Path) -> None:
    """A tied decoder in the file, the bias under its other name, half precision."""
    state = load_file(folder / "model.safetensors")
    embeddings = state["esm.embeddings.word_embeddings.weight"]
    names = {"lm_head.decoder.weight": embeddings.clone(), "lm_head.decoder.bias": state["lm_head.bias"]}
    loaded = load_language_model(copy(folder, tmp_path / "same", **names, **{"lm_head.bias": None}), "cpu")
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, network.state_dict()[name], rtol=0, atol=0)
    halves = {name: value.half() for name, value in state.items()}
    half = load_language_model(copy(folder, tmp_path / "half", **halves), "cpu")
    assert {value.dtype for value in half.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("settings", "weights", "named"),
    [
        ({"position_embedding_type": "absolute"}, {}, ["position_embedding_type", "absolute"]),
        ({"position_embedding_type": "none"}, {}, ["position_embedding_type"]),
        ({"token_dropout": False}, {}, ["token_dropout"]),
        ({"hidden_size": "none"}, {}, ["hidden_size"]),
        ({}, {"lm_head": None}, ["lm_head"]),
        ({}, {"lm_head.decoder.weight": torch.ones(33, 48)}, ["tied"]),
        ({}, {"lm_head.dense.bias": None}, ["lm_head.dense.bias"]),
        ({}, {"esm.embeddings.layer_norm.weight": torch.ones(48)}, ["esm.embeddings.layer_norm.weight"]),
    ],
)
def test_what_is_not_esm2_is_refused(folder: Path, tmp_path: Path, settings: dict, weights: dict, named: list) -> None:
    if "lm_head" in weights:
        weights = {name: None for name in load_file(folder / "model.safetensors") if name.startswith("lm_head")}
    wrong = copy(folder, tmp_path / "wrong", settings, **weights)
    refused(lambda: load_language_model(wrong, "cpu"), wrong, *named)
    refused(lambda: load_language_model(tmp_path / "none", "cpu"), tmp_path / "none")
