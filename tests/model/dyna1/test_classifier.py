import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dyna1_inputs import random_classifier
from refusals import refused
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from model.dyna1 import classifier
from model.dyna1.classifier import PRESETS, Classifier, Dyna1Config, load_dyna1, p_exchange

DATA = Path(__file__).resolve().parents[2] / "data" / "model"
SIZES = {"width": 32, "layers": 3, "heads": 4, "feed_forward": 64}
SMALL = Dyna1Config(**SIZES)
NO_PADDING = torch.zeros(1, 6, dtype=torch.bool)


@pytest.fixture
def model() -> Classifier:
    return random_classifier(**SIZES)


@pytest.fixture
def embedding(model: Classifier) -> Tensor:
    return torch.randn(1, 6, 32)


def plain_classifier(model: Classifier, embedding: Tensor, padding: Tensor) -> Tensor:
    """The formulas of the architecture, one residue pair at a time in float64: (L, width), (L,) -> (L,)."""
    state = {name.removeprefix("classifier."): value.double() for name, value in model.state_dict().items()}
    config = model.config
    size = config.width // config.heads

    def norm(x: Tensor, name: str, eps: float) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt()
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    x = norm(embedding.double(), "norm1", 1e-12)
    real = [row for row in range(len(x)) if not padding[row]]
    for layer in range(config.layers):
        at = f"encoder.layers.{layer}"
        y = norm(x, f"{at}.norm1", 1e-5)
        q, k, v = (y @ state[f"{at}.self_attn.in_proj_weight"].T + state[f"{at}.self_attn.in_proj_bias"]).chunk(
            3, dim=-1
        )
        context = torch.zeros_like(x)
        for head in range(config.heads):
            part = slice(head * size, (head + 1) * size)
            for row in range(len(x)):
                scores = torch.stack([q[row, part] @ k[other, part] for other in real]) / size**0.5
                share = scores.exp() / scores.exp().sum()
                context[row, part] = sum(s * v[other, part] for s, other in zip(share, real, strict=True))
        x = x + context @ state[f"{at}.self_attn.out_proj.weight"].T + state[f"{at}.self_attn.out_proj.bias"]
        y = norm(x, f"{at}.norm2", 1e-5)
        y = (y @ state[f"{at}.linear1.weight"].T + state[f"{at}.linear1.bias"]).clamp(min=0)
        x = x + y @ state[f"{at}.linear2.weight"].T + state[f"{at}.linear2.bias"]
    return (norm(x, "norm2", 1e-12) @ state["output_layer.weight"].T + state["output_layer.bias"]).squeeze(-1)


@pytest.mark.parametrize("fast_path", [True, False])
def test_equals_the_published_classifier(monkeypatch: pytest.MonkeyPatch, fast_path: bool) -> None:
    """Both ways of PyTorch: with fused attention, as we run it, and the fast path, as a plain call would."""
    if fast_path:
        monkeypatch.setattr(classifier, "fused_attention", nullcontext)
    model = Classifier(SMALL)
    model.load_state_dict(load_file(DATA / "dyna1_classifier_weights.safetensors"))
    model.eval()
    with np.load(DATA / "dyna1_classifier.npz") as file:
        arrays = {name: torch.from_numpy(file[name]) for name in file}
    with torch.no_grad():
        logits = model(arrays["embedding"], arrays["padding"])
    real = ~arrays["padding"]
    assert real.sum(1).unique().numel() == 3  # rows of different length
    torch.testing.assert_close(logits[real], arrays["logits"][real], rtol=0, atol=1e-5)
    torch.testing.assert_close(p_exchange(logits)[real], arrays["p_exchange"][real], rtol=0, atol=1e-5)


def test_equals_the_plain_formulas() -> None:
    model = random_classifier(width=12, layers=2, heads=3, feed_forward=20)
    embedding = torch.randn(7, 12)
    padding = torch.tensor([False] * 5 + [True] * 2)
    expected = plain_classifier(model, embedding, padding)
    with torch.no_grad():
        found = model(embedding[None], padding[None])[0]
    assert expected[:5].std() > 0.1
    torch.testing.assert_close(found[:5].double(), expected[:5], rtol=0, atol=1e-5)


@pytest.mark.parametrize("allowed", [True, False])
def test_attention_maps_are_not_built(monkeypatch, model: Classifier, embedding: Tensor, allowed: bool) -> None:
    def fast_path(*_: object, **__: object) -> None:
        raise AssertionError("the fast path is taken")

    monkeypatch.setattr(torch, "_transformer_encoder_layer_fwd", fast_path)
    monkeypatch.setattr(torch, "_native_multi_head_attention", fast_path)
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(allowed)
    try:
        with torch.inference_mode():
            model(embedding, NO_PADDING)
            assert torch.backends.mha.get_fastpath_enabled() == allowed  # restored
            if allowed:  # the guard is needed
                monkeypatch.setattr(classifier, "fused_attention", nullcontext)
                with pytest.raises(AssertionError, match="fast path is taken"):
                    model(embedding, NO_PADDING)
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def test_padding_changes_nothing(model: Classifier, embedding: Tensor) -> None:
    front = random_classifier(width=5 * 6, heads=2, feed_forward=8, pair_channels=6)
    pairs = torch.randn(1, 6, 6, 6)
    longer = {model: F.pad(embedding, (0, 0, 0, 5), value=7.0), front: F.pad(pairs, (0, 0, 0, 5, 0, 5), value=9.0)}
    for network, values in ((model, embedding), (front, pairs)):
        with torch.no_grad():
            alone = network(values, NO_PADDING)
            padded = network(longer[network], F.pad(NO_PADDING, (0, 5), value=True))
        torch.testing.assert_close(padded[:, :6], alone, rtol=0, atol=1e-5)


def test_published_padding_of_letters() -> None:
    """The published baseline on letters masks token 0, but pads with token 1: it attends to padding up to 367."""
    ours = random_classifier(width=24, layers=2, heads=3, feed_forward=8)
    published = Classifier(replace(ours.config, published_padding=True)).eval()
    published.load_state_dict(ours.state_dict())
    ids = torch.tensor([[5, 20, 20, 7, 9, 4], [6, 11, 23, 1, 1, 1]])
    filled = F.one_hot(F.pad(ids, (0, 367 - 6), value=1), 24).float()  # (2, 367, 24)
    letters = F.one_hot(ids, 24).float() * (ids != 1)[..., None]
    with torch.no_grad():
        expected = ours(filled, torch.zeros(2, 367, dtype=torch.bool))[:, :6]
        found = published(letters, ids == 1)
        masked = ours(letters, ids == 1)
        torch.testing.assert_close(published(letters[1:, :3], NO_PADDING[:, :3])[0], found[1, :3], rtol=0, atol=1e-5)
        long = F.one_hot(torch.randint(4, 24, (1, 400)), 24).float()
        torch.testing.assert_close(published(long, torch.zeros(1, 400, dtype=torch.bool)),
                                   ours(long, torch.zeros(1, 400, dtype=torch.bool)), rtol=0, atol=1e-5)  # fmt: skip
        ends = F.pad(long, (0, 0, 0, 9)), F.pad(torch.zeros(1, 400, dtype=torch.bool), (0, 9), value=True)
        torch.testing.assert_close(published(*ends)[:, :400], ours(*ends)[:, :400], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[1, :3], expected[1, :3], rtol=0, atol=1e-5)
    assert (found[0] - masked[0]).abs().max() > 0.01
    refused(lambda: Dyna1Config(**SIZES, published_padding=True), "published padding")


def test_published_padding_of_pairs() -> None:
    """The published baseline on pairs gathers from 400 partners, which are zeros behind the end of the protein."""
    ours = random_classifier(width=5 * 6, heads=2, feed_forward=8, pair_channels=6)
    published = Classifier(replace(ours.config, published_padding=True)).eval()
    published.load_state_dict(ours.state_dict())
    pairs = torch.randn(1, 6, 6, 6)
    filled = F.pad(pairs, (0, 0, 0, 394, 0, 394))
    with torch.no_grad():
        gathered = ours.gather_pairs(filled, torch.zeros(1, 400, dtype=torch.bool))[:, :6]
        expected = ours.classifier(gathered, NO_PADDING)
        found = published(pairs, NO_PADDING)
        longer = published(F.pad(pairs, (0, 0, 0, 5, 0, 5)), F.pad(NO_PADDING, (0, 5), value=True))[:, :6]
        assert (found - ours(pairs, NO_PADDING)).abs().max() > 0.01
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(longer, found, rtol=0, atol=1e-5)


def test_layer_norms_see_the_smallest_embeddings(model: Classifier, embedding: Tensor) -> None:
    """With the eps 1e-5 of PyTorch, embeddings of 1e-4 would vanish."""
    with torch.no_grad():
        small = model(embedding * 1e-4, NO_PADDING)
        torch.testing.assert_close(small, model(embedding, NO_PADDING), rtol=0, atol=1e-3)


def test_the_prior_shifts_the_probability() -> None:
    logits = torch.tensor([np.log(0.05 / 0.95), 0.0, -60.0, 60.0])
    torch.testing.assert_close(p_exchange(logits), torch.tensor([0.5, 0.95, 0.0, 1.0], dtype=logits.dtype))


def test_a_new_classifier_starts_without_biases() -> None:
    for name, value in Classifier(PRESETS["onehot"]).named_parameters():
        if name.endswith("bias"):
            assert not value.any(), name
        elif "norm" in name:
            assert (value == 1).all(), name
        else:
            assert value.std() > 0, name


def test_published_names_and_sizes() -> None:
    assert set(Classifier(SMALL).state_dict()) == set(load_file(DATA / "dyna1_classifier_weights.safetensors"))
    sizes = {name: (c.width, c.layers, c.heads, c.feed_forward, c.dropout) for name, c in PRESETS.items()}
    assert sizes == {
        "esm3": (1536, 12, 6, 2048, 0.1),
        "esm2": (640, 12, 8, 2048, 0.1),
        "esmc": (960, 12, 8, 2048, 0.1),
        "onehot": (24, 10, 6, 2048, 0.1),
        "seqdance": (480, 12, 8, 2048, 0.1),
        "af2": (4096, 12, 8, 2048, 0.1),
    }
    with torch.device("meta"):
        front = Classifier(PRESETS["af2"]).sel_v
    assert front.shape == (128, 32)


def test_pairs_are_gathered_by_attention_over_partners() -> None:
    model = random_classifier(width=5 * 6, heads=2, feed_forward=8, pair_channels=6)
    pairs = torch.randn(1, 4, 4, 6)
    padding = torch.tensor([[False, False, False, True]])
    with torch.no_grad():
        found = model.gather_pairs(pairs, padding)[0]  # (4, 30)
        normed = model.layernorm(pairs)[0].double()
    vectors = model.sel_v.detach().double()  # (6, 5)
    for i in range(3):
        for n in range(5):
            weights = np.exp([float(normed[i, j] @ vectors[:, n]) for j in range(3)])
            expected = sum(w * normed[i, j] for j, w in enumerate(weights / weights.sum()))
            torch.testing.assert_close(found[i, 6 * n : 6 * n + 6].double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["dyna1.pt", "model.safetensors"])
def test_a_config_of_another_program_beside_the_weights(tmp_path: Path, name: str) -> None:
    """Published .pt files hold no configuration: the sizes are those of the tensors. Ours need theirs."""
    model = random_classifier(width=24, layers=2, heads=6, feed_forward=8)
    save = torch.save if name.endswith(".pt") else save_file
    save(model.state_dict(), tmp_path / name)
    (tmp_path / "config.json").write_text('{"model_type": "esm", "hidden_size": 3}')
    if name == "model.safetensors":
        refused(lambda: load_dyna1(tmp_path / name, "cpu"), tmp_path / name, "config.json")
        return
    loaded = load_dyna1(tmp_path / name, "cpu")
    assert (loaded.config.layers, loaded.config.heads) == (2, 6)
    (tmp_path / "config.json").write_text(json.dumps({"width": 24, "layers": 2, "heads": 3, "feed_forward": 8}))
    assert load_dyna1(tmp_path / name, "cpu").config.heads == 3


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"heads": 5}, "5 heads"),
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"pair_channels": 5}, "5 pair channels"),
        ({"depth": 3}, "depth"),
    ],
)
def test_wrong_configuration(change: dict, named: str) -> None:
    refused(lambda: Dyna1Config(**SIZES | change), named)
