"""Forward passes in bf16 on the CPU: close to float32, float32 results, results of their own on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hugging_face import esm2_settings
from numpy.typing import NDArray
from refusals import refused

from data_prepare.resume import Results
from model.config import ModelConfig
from model.inference.attention import attention_maps
from model.inference.embed import embed, mean_embeddings
from model.inference.inputs import Protein
from model.inference.predict import predict_missing, predict_properties
from model.inference.prediction_files import PredictionFolder
from model.mutations.likelihood import log_probabilities
from model.mutations.score import changes_of, property_changes, score_mutations
from model.mutations.substitution import Mutants
from model.network.dance import DanceModel
from model.network.language_model import LanguageModel
from model.network.weights import network_digest, weights_digest

SEQUENCE, MUTANTS = "MKTAYIAKQRQISFVKSHFSRQ", ["K2A", "Y5W:I6V", "Q22P"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network() -> DanceModel:
    """With weights so large that attention is far from uniform, and head_dim 8."""
    torch.manual_seed(0)
    model = DanceModel(ModelConfig(hidden=32, layers=2, heads=4, feed_forward=64)).eval()
    for name, value in model.named_parameters():
        torch.nn.init.normal_(value, 1.0 if "LayerNorm.weight" in name or ".2.weight" in name else 0.0, 0.2)
    return model


@pytest.fixture(scope="module")
def language_model() -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(ModelConfig(hidden=32, layers=2, heads=4, feed_forward=64)).eval()


def arrays(found: object) -> list[NDArray]:
    return list(found.values()) if isinstance(found, dict) else [np.asarray(found)]


# largest difference between bf16, which has 8 bits of precision (steps of 0.4 % to 0.8 %), and fp32; predictions also
# have the step of the published softplus at its threshold, from 2.13 to 2
@pytest.mark.parametrize(
    ("call", "dtype", "difference"),
    [
        (lambda model, **how: predict_properties(model, SEQUENCE, **how), np.float32, 0.13),
        (lambda model, **how: embed(model, SEQUENCE, per_residue=True, **how), np.float32, 0.05),
        (lambda model, **how: embed(model, [SEQUENCE, "MKV"], **how), np.float32, 0.05),
        (lambda model, **how: attention_maps(model, SEQUENCE, **how), np.float32, 0.02),
        (lambda model, **how: attention_maps(model, SEQUENCE, dtype=np.float16, **how), np.float16, 0.02),
        (lambda model, **how: property_changes(model, SEQUENCE, MUTANTS, **how), np.float64, 0.05),
        (lambda model, **how: score_mutations(model, SEQUENCE, MUTANTS, **how)["score"], np.float64, 0.05),
    ],
    ids=["predict", "embed", "mean embeddings", "attention", "half attention", "changes", "scores"],
)
def test_bf16_is_close_to_fp32(network: DanceModel, call: Callable, dtype: type, difference: float) -> None:
    plain, same, low = (arrays(call(network, **how)) for how in ({}, {"precision": "fp32"}, {"precision": "bf16"}))
    for a, b, c in zip(plain, same, low, strict=True):
        np.testing.assert_array_equal(a, b)  # the default on a CPU
        assert a.dtype == c.dtype == dtype
        np.testing.assert_allclose(c, a, rtol=0, atol=difference)
    assert any(not np.array_equal(a, c) for a, c in zip(plain, low, strict=True))
    refused(lambda: call(network, precision="fp64"), "fp64")


def test_bf16_log_probabilities(language_model: LanguageModel) -> None:
    """Normalised in float32."""
    plain, low = (log_probabilities(language_model, SEQUENCE, [1, 7], True, 1, how) for how in ("fp32", "bf16"))
    for position, values in low.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(np.exp(values).sum(), 1, rtol=0, atol=1e-5)
        np.testing.assert_allclose(values, plain[position], rtol=0, atol=0.05)
        assert not np.array_equal(values, plain[position])


def test_results_of_one_precision_are_not_those_of_another(network: DanceModel, tmp_path: Path, monkeypatch) -> None:
    heads = network.config.heads
    digests = [network_digest(network, heads, how) for how in ("fp32", "bf16", "fp16")]
    assert digests[0] == weights_digest(network, heads)  # predictions in fp32 of former versions stay valid
    assert len(set(digests)) == 3
    protein = Protein("a", SEQUENCE)
    for digest, how in zip(digests[:2], ("fp32", "bf16"), strict=True):
        store = PredictionFolder(tmp_path / how, digest, ("ss",))
        assert predict_missing(network, [protein], store, precision=how) == [protein]
        assert predict_missing(network, [protein], store, precision=how) == []
    other = PredictionFolder(tmp_path / "fp32", digests[1], ("ss",))
    refused(lambda: predict_missing(network, [protein], other, precision="bf16"), "a.npz", "precision")
    results = Results(tmp_path / "parts")
    for make in (
        lambda how: changes_of(network, Mutants(SEQUENCE, MUTANTS), results=results, precision=how),
        lambda how: mean_embeddings(network, [SEQUENCE], results, precision=how),
    ):
        first, second, again = make("fp32"), make("bf16"), make("fp32")
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, second)


def test_hugging_face_weights_in_bf16(tmp_path: Path) -> None:
    """Our encoder in bf16 is as far from that of Hugging Face in float32 as theirs in bf16."""
    from transformers import EsmModel

    from model.network.dance import load_esm2_encoder
    from model.network.tokenizer import tokenize

    torch.manual_seed(0)
    reference = EsmModel(esm2_settings(32, 2, 4, 64)).eval()
    reference.save_pretrained(tmp_path)
    model = DanceModel(ModelConfig(hidden=32, layers=2, heads=4, feed_forward=64)).eval()
    load_esm2_encoder(model, tmp_path)
    tokens = tokenize([SEQUENCE])
    with torch.no_grad():
        expected = reference(**tokens).last_hidden_state[0, 1:-1].numpy()
        with torch.autocast("cpu", torch.bfloat16):
            theirs = reference(**tokens).last_hidden_state[0, 1:-1].float().numpy()
    ours = embed(model, SEQUENCE, per_residue=True, precision="bf16")
    assert 0 < np.abs(ours - expected).max() < 2 * np.abs(theirs - expected).max()
