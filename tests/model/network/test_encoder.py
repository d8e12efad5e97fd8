import pytest
import torch
from hugging_face import esm2_settings
from torch import Tensor

from model.config import ModelConfig
from model.network.device import DTYPES, autocast
from model.network.encoder import Embeddings, Esm2Encoder, attention_maps, drop
from model.network.tokenizer import tokenize

CONFIG = ModelConfig(hidden=48, layers=3, heads=4, feed_forward=80, encoder_dropout=0.0)
SEQUENCES = ["MKTAYIAKQRQISFVKSHFSRQ", "MK<mask>LV<mask>A", "ACDEF<eos><cls>GHIKL<mask>MNP"]


def encoder(config: ModelConfig = CONFIG) -> Esm2Encoder:
    """Random weights of a size at which attention is far from uniform."""
    torch.manual_seed(0)
    module = Esm2Encoder(config)
    for name, value in module.named_parameters():
        torch.nn.init.normal_(value, 1.0 if name.endswith("LayerNorm.weight") else 0.0, 0.3)
    return module.eval()


def run(module: Esm2Encoder, batch: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
    maps: list[Tensor] = []

    def sink(layer: int, scores: Tensor, keys: Tensor | None, dropout: float) -> Tensor:
        maps.insert(layer, attention_maps(scores, keys, dropout))
        return maps[layer]

    with torch.no_grad():
        return module(**batch, sink=sink), maps


def test_equals_hugging_face() -> None:
    from transformers import EsmModel

    module, batch = encoder(), tokenize(SEQUENCES)
    reference = EsmModel(esm2_settings(48, 3, 4, 80), add_pooling_layer=False).eval()
    result = reference.load_state_dict(module.state_dict(), strict=False)
    assert not result.unexpected_keys
    used = [name for name in result.missing_keys if not name.startswith(("contact_head", "rotary", "embeddings.pos"))]
    assert [name for name in used if not name.endswith("inv_freq")] == []
    with torch.no_grad():
        expected = reference(**batch, output_attentions=True)
    hidden, maps = run(module, batch)
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(hidden[real], expected.last_hidden_state[real], rtol=0, atol=1e-5)
    for ours, theirs in zip(maps, expected.attentions, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert torch.stack(maps).std() > 0.02  # a uniform attention would hide errors of the rotation


def test_token_dropout_rule() -> None:
    embeddings = Embeddings(CONFIG)
    torch.nn.init.normal_(embeddings.word_embeddings.weight)
    batch = tokenize(["ACDEF", "A<mask>", "<mask><mask><mask>C"])
    values = embeddings(batch["input_ids"], batch["attention_mask"].bool())
    words = embeddings.word_embeddings.weight
    torch.testing.assert_close(values[0, 1], 0.88 * words[5])  # nothing masked
    torch.testing.assert_close(values[1, 1], 0.88 / (1 - 1 / 4) * words[5])  # one of four tokens, padding not counted
    torch.testing.assert_close(values[2, 0], 0.88 / (1 - 3 / 6) * words[0])
    assert not values[1, 2].any()  # <mask>
    assert not values[1, 4:].any()  # padding


@pytest.mark.parametrize("maps", [False, True])
def test_padding_only_is_finite(maps: bool) -> None:
    module, batch = encoder(), tokenize(["ACDEF", "AC"])
    expected = module(**batch)[0]
    batch["input_ids"][1], batch["attention_mask"][1] = 1, 0
    hidden = module(**batch, sink=(lambda _, *scores: attention_maps(*scores)) if maps else None)
    torch.testing.assert_close(hidden[0], expected, rtol=0, atol=1e-5)
    assert hidden.isfinite().all()
    hidden.sum().backward()
    assert all(value.grad.isfinite().all() for value in module.parameters() if value.grad is not None)


def test_dropout_keeps_a_byte_per_number() -> None:
    x, kept = torch.ones(1000, requires_grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.nbytes) or x, lambda x: x):
        torch.manual_seed(0)
        y = drop(x, 0.2)
    assert kept == [1000]
    y.backward(torch.full_like(y, 3.0))
    torch.testing.assert_close(x.grad, 3 * y.detach())
    assert y.unique().tolist() == [0.0, 1.25]
    assert drop(x, 0.0) is x


def test_dropout_of_the_maps_reaches_the_sink() -> None:
    module = encoder(ModelConfig(hidden=48, layers=1, heads=4, feed_forward=80, encoder_dropout=0.5)).train()
    torch.manual_seed(1)
    _, maps = run(module, tokenize(["ACDEFGHIKLMNPQRSTVWY" * 3]))
    assert 0.4 < (maps[0] == 0).float().mean() < 0.6


@pytest.mark.parametrize("maps", [False, True])
def test_attention_probabilities_are_dropped(maps: bool) -> None:
    """Uniform attention on values of 1: the context is the share of keys that stay, scaled by 1 / (1 - p)."""
    attention = encoder(ModelConfig(hidden=48, layers=1, heads=4, feed_forward=80, encoder_dropout=0.25))
    attention = attention.encoder.layer[0].attention.self.train()
    for linear in (attention.query, attention.key, attention.value):
        torch.nn.init.zeros_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    torch.nn.init.ones_(attention.value.bias)
    keys, rotary = torch.ones(4, 1, 1, 50, dtype=torch.bool), ((torch.ones(50, 12), torch.zeros(50, 12)),) * 2
    context = attention(torch.zeros(4, 50, 48), keys, rotary, attention_maps if maps else None).detach()
    assert context.mean().item() == pytest.approx(1, abs=0.02)
    assert context.std().item() == pytest.approx((0.25 / 0.75 / 50) ** 0.5, rel=0.2)


@pytest.mark.parametrize("sublayer", ["attention", "feed_forward"])
def test_sublayer_outputs_are_dropped(sublayer: str) -> None:
    """One sublayer silent, the other constant 1: the residual stream holds zeros and 1 / (1 - p)."""
    layer = encoder(ModelConfig(hidden=48, layers=1, heads=4, feed_forward=80, encoder_dropout=0.25)).encoder.layer[0]
    for dense in (layer.attention.output.dense, layer.output.dense):
        torch.nn.init.zeros_(dense.weight)
        torch.nn.init.zeros_(dense.bias)
    torch.nn.init.ones_((layer.attention.output if sublayer == "attention" else layer.output).dense.bias)
    x, keys = torch.zeros(4, 50, 48), torch.ones(4, 1, 1, 50, dtype=torch.bool)
    rotary = ((torch.ones(50, 12), torch.zeros(50, 12)),) * 2
    y = layer.train()(x, keys, rotary, attention_maps)
    assert y.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert (y == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("precision", DTYPES)
def test_forward_pass_runs_in_its_precision(precision: str) -> None:
    with autocast(torch.device("cpu"), precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == DTYPES[precision]
