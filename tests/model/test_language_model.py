import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import model.mutations.likelihood
from data_prepare.errors import InputError
from model.mutations.likelihood import log_likelihood_ratios, log_probabilities, window_start
from model.network.language_model import LanguageModel, load_language_model
from model.network.tokenizer import MASK_ID, TOKEN_ID, tokenize

SEQUENCE = "MKTAYIAKQRQISFVKSHFSRQ"
MUTANTS = ["K2A", "M1W:Q22A", "A4G", "K2R", "S13T:M1A:I6L"]


@pytest.fixture(scope="module")
def reference():
    """Hugging Face's ESM2 with weights so large that attention is far from uniform."""
    from transformers import EsmConfig, EsmForMaskedLM

    settings = EsmConfig(
        vocab_size=33,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=80,
        pad_token_id=1,
        mask_token_id=MASK_ID,
        position_embedding_type="rotary",
        token_dropout=True,
        emb_layer_norm_before=False,
        layer_norm_eps=1e-5,
        attn_implementation="eager",
    )
    torch.manual_seed(0)
    network = EsmForMaskedLM(settings).eval()
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


def test_equals_hugging_face(reference, network: LanguageModel) -> None:
    """Padding and masks included."""
    batch = tokenize([SEQUENCE, "MK<mask>LV<mask>A", "ACDEF"])
    with torch.no_grad():
        expected = reference(**batch).logits
        logits = network(**batch)
    real = batch["attention_mask"].bool()
    assert expected[real].std() > 0.1
    torch.testing.assert_close(logits[real], expected[real], rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 16])
@pytest.mark.parametrize("masked", [False, True])
def test_log_likelihood_ratios(reference, network: LanguageModel, masked: bool, batch_size: int) -> None:
    """Position by position with Hugging Face's network."""
    expected = []
    for mutant in MUTANTS:
        total = 0.0
        for part in mutant.split(":"):
            old, position, new = part[0], int(part[1:-1]), part[-1]
            tokens = tokenize([SEQUENCE])["input_ids"]
            if masked:
                tokens[0, position] = MASK_ID  # <cls> has place 0
            with torch.no_grad():
                log_p = reference(tokens).logits[0, position].log_softmax(-1)
            total += (log_p[TOKEN_ID[new]] - log_p[TOKEN_ID[old]]).item()
        expected.append(total)
    ratios = log_likelihood_ratios(network, SEQUENCE, MUTANTS, masked, batch_size)
    assert ratios.shape == (5,)
    assert ratios.dtype == np.float64
    np.testing.assert_allclose(ratios, expected, rtol=0, atol=2e-5)


def test_masked_and_unmasked_differ(network: LanguageModel) -> None:
    both = [log_likelihood_ratios(network, SEQUENCE, MUTANTS, masked) for masked in (False, True)]
    assert np.abs(both[0] - both[1]).min() > 1e-3


def test_windows_hold_their_position_near_the_middle() -> None:
    for residues in (1, 1021, 1022, 1023, 1300, 5000):
        for position in range(1, residues + 1):
            start = window_start(position, residues)
            width = min(residues, 1022)
            assert 0 <= start <= residues - width
            place = position - 1 - start
            assert 0 <= place < width
            if 0 < start < residues - width:
                assert start % 256 == 0
                assert abs(place - 511) <= 128


@pytest.mark.parametrize("masked", [False, True])
def test_long_sequences_are_seen_through_windows(
    network: LanguageModel, monkeypatch: pytest.MonkeyPatch, masked: bool
) -> None:
    monkeypatch.setattr(model.mutations.likelihood, "WINDOW", 10)
    monkeypatch.setattr(model.mutations.likelihood, "STEP", 4)
    found = log_probabilities(network, SEQUENCE, range(1, 23), masked, batch_size=4)
    assert sorted(found) == list(range(1, 23))
    starts = {position: window_start(position, 22) for position in found}
    assert sorted(set(starts.values())) == [0, 4, 8, 12]
    for position, start in starts.items():
        tokens = tokenize([SEQUENCE[start : start + 10]])["input_ids"]
        if masked:
            tokens[0, position - start] = MASK_ID
        with torch.no_grad():
            expected = network(tokens)[0, position - start].log_softmax(-1)
        np.testing.assert_allclose(found[position], expected, rtol=0, atol=1e-5)


def test_unmasked_takes_one_pass_a_window(network: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    hook = network.register_forward_pre_hook(lambda module, args: shapes.append(tuple(args[0].shape)))
    log_likelihood_ratios(network, SEQUENCE, MUTANTS, masked=False)
    log_likelihood_ratios(network, SEQUENCE, MUTANTS, masked=True, batch_size=4)  # positions 1 2 4 6 13 22
    hook.remove()
    assert shapes == [(1, 24), (4, 24), (2, 24)]


def test_weights_in_several_files(reference, network: LanguageModel, tmp_path: Path) -> None:
    reference.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    loaded = load_language_model(tmp_path, "cpu")
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, network.state_dict()[name], rtol=0, atol=0)
    next(iter(sorted(tmp_path.glob("*.safetensors")))).unlink()
    with pytest.raises(InputError, match="names files that are not here"):
        load_language_model(tmp_path, "cpu")
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(InputError, match="not an index of weight files"):
        load_language_model(tmp_path, "cpu")


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


def test_what_is_not_esm2_is_refused(folder: Path, tmp_path: Path) -> None:
    embeddings = load_file(folder / "model.safetensors")["esm.embeddings.word_embeddings.weight"]
    head = {name: None for name in load_file(folder / "model.safetensors") if name.startswith("lm_head")}
    cases = {
        "position_embedding_type 'absolute'": ({"position_embedding_type": "absolute"}, {}),
        "position_embedding_type None": ({"position_embedding_type": "none"}, {}),
        "token_dropout False": ({"token_dropout": False}, {}),
        "hidden_size in it": ({"hidden_size": "none"}, {}),
        "no language-model head": ({}, head),
        "not tied": ({}, {"lm_head.decoder.weight": embeddings + 1}),
        "missing: lm_head.dense.bias": ({}, {"lm_head.dense.bias": None}),
        "unknown: esm.embeddings.layer_norm.weight": ({}, {"esm.embeddings.layer_norm.weight": torch.ones(48)}),
    }
    for number, (message, (settings, weights)) in enumerate(cases.items()):
        with pytest.raises(InputError, match=message):
            load_language_model(copy(folder, tmp_path / str(number), settings, **weights), "cpu")
    with pytest.raises(InputError, match="no such file or folder"):
        load_language_model(tmp_path / "none", "cpu")


@pytest.mark.parametrize("mutant", ["A2G", "K0A", "K99A", "Q23A", "K2"])
def test_mutations_that_do_not_fit(network: LanguageModel, mutant: str) -> None:
    with pytest.raises(InputError, match=mutant):
        log_likelihood_ratios(network, SEQUENCE, [mutant], masked=False)


def test_unusable_sequences(network: LanguageModel) -> None:
    with pytest.raises(InputError, match="special tokens"):
        log_probabilities(network, "MK<eos><cls>MK", [1], masked=False)
    with pytest.raises(InputError, match="not in the alphabet"):
        log_probabilities(network, "MKJ", [1], masked=False)
    with pytest.raises(InputError, match="batch_size is 0"):
        log_probabilities(network, "MK", [1], masked=False, batch_size=0)
