import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hugging_face import esm2_settings
from plain_dance import plain_dance
from refusals import refused
from safetensors.torch import load_file, save_file

from data_prepare.properties import PAIR_PROPERTIES, PROPERTIES, RESIDUE_PROPERTIES
from model.config import PRESETS, ModelConfig
from model.network import pair_head
from model.network.dance import DanceModel, load_esm2_encoder
from model.network.heads import pair_properties, residue_properties
from model.network.tokenizer import tokenize

DATA = Path(__file__).resolve().parents[2] / "data" / "model"
TINY = ModelConfig(hidden=32, layers=2, heads=4, feed_forward=64)
FROZEN = dataclasses.replace(TINY, freeze_encoder=True, encoder_dropout=0.0)
SEQUENCES = ["MKTAYIAKQRQISF", "ACD<mask>EFG", "ACDEF<eos><cls>GHIKL"]


def tiny(config: ModelConfig = TINY) -> DanceModel:
    model = DanceModel(config)
    model.load_state_dict(load_file(DATA / "tiny_weights.safetensors"))
    return model.eval()


@pytest.mark.parametrize(("form", "config"), [("seqdance", TINY), ("esmdance", FROZEN)])
@pytest.mark.parametrize("grad", [True, False])
def test_golden_outputs(form: str, config: ModelConfig, grad: bool) -> None:
    golden = np.load(DATA / f"tiny_{form}.npz")
    ids, mask = (torch.tensor(golden[f"in.{name}"]) for name in ("input_ids", "attention_mask"))
    with torch.set_grad_enabled(grad):
        outputs = tiny(config)(ids, mask, embedding=True, attention=True)
    expected = {name.removeprefix("out.") for name in golden.files if name.startswith("out.")}
    assert set(outputs) == expected
    for name, value in outputs.items():
        np.testing.assert_allclose(value.detach(), golden[f"out.{name}"], rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("tile", [1, 2**23])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    "sequences",
    [["M"], SEQUENCES, ["MKTAYIAKQRQISF" * 5 + "<eos><cls>" + "ACDEFGHIKL" * 4, "ACD"], ["MKTAYIAKQR" * 29]],
)
def test_equals_plain_form(sequences: list[str], frozen: bool, tile: int, monkeypatch) -> None:
    """All outputs to 1e-5 and all gradients to 1e-4: 3 to 292 tokens, one and two chains, padding, <mask>."""
    monkeypatch.setattr(pair_head, "CPU_TILE", tile)  # one row at a time, or all
    model = tiny(FROZEN if frozen else TINY)
    batch = tokenize(sequences)
    real = batch["attention_mask"].bool()
    names = [name for name, value in model.named_parameters() if value.requires_grad]
    parameters = [value for value in model.parameters() if value.requires_grad]
    gradients = []
    expected = plain_dance(dict(model.named_parameters()), model.config.heads, **batch, frozen=frozen)
    for outputs in (model(**batch), expected):
        upstream = torch.Generator().manual_seed(0)
        total = torch.zeros(())
        for name in PROPERTIES:
            valid = real[:, :, None] & real[:, None, :] if name in PAIR_PROPERTIES else real
            values = outputs[name][valid]
            torch.testing.assert_close(values, expected[name][valid], rtol=0, atol=1e-5)
            total = total + (values * torch.randn(values.shape, generator=upstream)).sum()
        gradients.append(torch.autograd.grad(total, parameters))
    scale = max(value.norm() for value in gradients[1])
    for name, ours, theirs in zip(names, *gradients, strict=True):
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm() + 1e-7 * scale, name  # a key's bias moves nothing


def test_nothing_of_the_size_of_pairs_without_pair_outputs() -> None:
    """Attention runs in the fused kernel: no saved tensor and no output has L^2 numbers per head."""
    length, sizes = 250, []
    batch = tokenize(["A" * (length - 2)])
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        tiny()(**batch, pair=False)
    assert max(sizes) < length * length


def test_only_what_is_asked_for() -> None:
    model, batch = tiny(), tokenize(SEQUENCES)
    assert tuple(model(**batch)) == PROPERTIES
    assert tuple(model(**batch, pair=False)) == RESIDUE_PROPERTIES
    assert tuple(model(**batch, residue=False)) == PAIR_PROPERTIES
    assert tuple(model(**batch, residue=False, pair=False, embedding=True)) == ("res_emb",)
    assert tuple(model(**batch, residue=False, pair=False, attention=True)) == ("attention_map",)
    fast = model(**batch, pair=False, embedding=True)  # the fused attention
    slow = model(**batch, embedding=True)
    for name in (*RESIDUE_PROPERTIES, "res_emb"):
        torch.testing.assert_close(fast[name], slow[name], rtol=0, atol=1e-5)


def test_one_by_one_equals_batch() -> None:
    model, together = tiny(), tiny()(**tokenize(SEQUENCES), embedding=True, attention=True)
    for row, sequence in enumerate(SEQUENCES):
        alone = model(tokenize([sequence])["input_ids"], embedding=True, attention=True)
        for name, value in alone.items():
            n = value.shape[1]
            square = name in PAIR_PROPERTIES or name == "attention_map"
            part = together[name][row, :n, :n] if square else together[name][row, :n]
            torch.testing.assert_close(part, value[0], rtol=0, atol=1e-5)


def test_activations() -> None:
    x = torch.tensor([-30.0, -1.0, 0.0, 1.9, 2.1, 30.0])
    softplus = torch.where(x > 2, x, (1 + x.exp()).log())  # the identity above the threshold 2
    sigmoid = 1 / (1 + (-x).exp())
    residue = residue_properties(x[None, :, None].expand(1, 6, 50))
    pair = pair_properties(x[None, None, None, :].expand(1, 13, 6, 6))
    for name in ("sasa_mean", "sasa_std", "nma_res1", "nma_res2", "nma_res3"):
        torch.testing.assert_close(residue[name][0], softplus)
    torch.testing.assert_close(residue["rmsf_nor"][0], sigmoid)
    for name, bins in (("ss", 8), ("chi", 12), ("phi", 12), ("psi", 12)):
        torch.testing.assert_close(residue[name], torch.full((1, 6, bins), 1 / bins))
    for name in ("vdw", "hbbb", "hbsb", "hbss", "hp", "sb", "pc", "ps", "ts"):
        torch.testing.assert_close(pair[name][0, 0], softplus)
    for name in ("corr", "nma_pair1", "nma_pair2", "nma_pair3"):
        torch.testing.assert_close(pair[name][0, 0], 2 * sigmoid - 1)


@pytest.mark.parametrize(("preset", "trained"), [("seqdance", 34_455_663), ("esmdance", 1_186_383)])
def test_parameter_counts(preset: str, trained: int) -> None:
    with torch.device("meta"):
        model = DanceModel(PRESETS[preset])
    assert sum(value.numel() for value in model.parameters()) == 34_455_663
    assert sum(value.numel() for value in model.parameters() if value.requires_grad) == trained


def test_initial_weights() -> None:
    torch.manual_seed(0)
    for name, value in DanceModel(ModelConfig(hidden=64, layers=2, heads=4, feed_forward=192)).named_parameters():
        if name.endswith("bias"):
            assert not value.any(), name
        elif value.ndim == 1:  # LayerNorm
            assert (value == 1).all(), name
        else:  # uniform: Xavier in the encoder, within 1 / sqrt(inputs) in the heads
            gain = 0.5**0.5 if ".self." in name else 1.0
            bound = gain * (6 / sum(value.shape)) ** 0.5 if name.startswith("esm2.") else value.shape[1] ** -0.5
            assert value.abs().max() <= bound, name
            assert value.detach().std().item() == pytest.approx(bound / 3**0.5, rel=0.1), name


def test_frozen_encoder_stays_in_evaluation() -> None:
    model, batch = tiny(dataclasses.replace(FROZEN, encoder_dropout=0.5)).train(), tokenize(SEQUENCES)
    assert model.res_pred_nn.training
    assert not any(module.training for module in model.esm2.modules())
    first, second = (model(**batch, embedding=True) for _ in range(2))
    torch.testing.assert_close(first["res_emb"], second["res_emb"], rtol=0, atol=0)
    assert not first["res_emb"].requires_grad
    assert not torch.allclose(first["vdw"], second["vdw"], atol=1e-4)  # dropout of the heads
    first["vdw"].sum().backward()
    assert all(
        (value.grad is None) == name.startswith(("esm2", "res_pred")) for name, value in model.named_parameters()
    )
    assert model.pair_pred_linear.weight.grad[:, 8:].any()  # the part that sees the attention maps


def test_dropout_changes_training_only() -> None:
    """That of the heads; test_encoder.py has that of the encoder."""
    model, batch = tiny(dataclasses.replace(TINY, encoder_dropout=0.0)), tokenize(SEQUENCES)
    torch.testing.assert_close(model(**batch), model(**batch), rtol=0, atol=0)
    model.train()
    first, second = model(**batch), model(**batch)
    for name in PROPERTIES:
        assert not torch.allclose(first[name], second[name], atol=1e-4), name


def test_bfloat16_autocast() -> None:
    model, batch = tiny(), tokenize(SEQUENCES)
    expected = model(**batch)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(**batch)
    for name, value in outputs.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name], rtol=0.1, atol=0.1)
    sum(value.sum() for value in outputs.values()).backward()
    assert all(value.grad.isfinite().all() for value in model.parameters())


def test_published_entries_that_are_not_used() -> None:
    state = load_file(DATA / "tiny_weights.safetensors")
    assert "esm2.pooler.dense.weight" in state
    embeddings = ("esm2.embeddings.position_embeddings.weight", "esm2.embeddings.position_ids")
    unused = (*embeddings, "esm2.encoder.layer.0.attention.self.rotary_embeddings.inv_freq")
    DanceModel(TINY).load_state_dict(state | dict.fromkeys(unused, torch.zeros(1)))


@pytest.mark.parametrize("form", ["EsmModel", "EsmForMaskedLM", "bin"])
def test_encoder_weights_of_hugging_face(tmp_path: Path, form: str) -> None:
    import transformers

    kind = transformers.EsmModel if form == "EsmModel" else transformers.EsmForMaskedLM
    source = kind(esm2_settings(32, 2, 4, 64)).eval()
    source.save_pretrained(tmp_path)
    if form == "bin":  # older repositories
        torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
    model, batch = DanceModel(FROZEN).eval(), tokenize(SEQUENCES)
    load_esm2_encoder(model, tmp_path)
    backbone = source if form == "EsmModel" else source.esm
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        expected = backbone(**batch).last_hidden_state[real]
        hidden = model(**batch, residue=False, pair=False, embedding=True)["res_emb"][real]
    torch.testing.assert_close(hidden, expected, rtol=0, atol=1e-5)

    for changes, named in (({"heads": 2}, "4 attention heads"), ({"layers": 3}, "missing: encoder")):
        other = DanceModel(dataclasses.replace(TINY, **changes))
        refused(lambda other=other: load_esm2_encoder(other, tmp_path), tmp_path, named)


@pytest.mark.parametrize("config", [None, {"model_select": "seqdance", "esm2_select": "model_35M"}])
def test_heads_of_an_encoder_come_from_weights_or_a_published_config(tmp_path: Path, config) -> None:
    """Another number of heads fits all shapes and gives other numbers."""
    sizes = ModelConfig() if config else TINY
    save_file(DanceModel(sizes).state_dict(), tmp_path / "model.safetensors")
    if config:
        (tmp_path / "config.json").write_text(json.dumps(config))
    load_esm2_encoder(DanceModel(sizes), tmp_path)
    other = DanceModel(dataclasses.replace(sizes, heads=sizes.heads // 2))
    refused(lambda: load_esm2_encoder(other, tmp_path), tmp_path, f"{sizes.heads} attention heads")


def test_attention_maps_stay_in_the_dtype_of_the_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast is off where they are made: on a GPU it would make each of them float32."""
    seen, softmax = set(), torch.Tensor.softmax

    def noted(x: torch.Tensor, dim: int) -> torch.Tensor:
        if x.dim() == 4:
            seen.add((torch.is_autocast_enabled("cpu"), x.dtype))
        return softmax(x, dim)

    monkeypatch.setattr(torch.Tensor, "softmax", noted)
    with torch.autocast("cpu", torch.bfloat16):
        tiny()(**tokenize(SEQUENCES))
    assert seen == {(False, torch.bfloat16)}
