"""Sizes of batches: constants on a CPU, the free memory of a GPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from refusals import refused

from model.config import PRESETS, ModelConfig
from model.inference import attention, batches, embed, predict
from model.inference.batches import GPU_TOKENS, gpu_batch_size, sequence_bytes
from model.mutations import score
from model.network.dance import DanceModel
from model.network.device import memory_of

CUDA, SIZES = torch.device("cuda"), ModelConfig()


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Free memory of a pretended GPU, in bytes."""
    found = {"bytes": 0}
    monkeypatch.setattr(batches, "memory_of", lambda device: found["bytes"])
    return found


@pytest.mark.parametrize("pair", [False, True])
def test_batches_fill_a_quarter_to_half_of_the_free_memory(free: dict[str, int], pair: bool) -> None:
    for free["bytes"] in (5 * 10**9, 16 * 2**30, 40 * 10**9, 79 * 10**9, 140 * 10**9):
        for tokens in (20, 76, 402, 1024, 3000):
            size = gpu_batch_size(SIZES, tokens, pair, CUDA)
            used = size * sequence_bytes(SIZES, tokens, pair)
            assert size == 1 or used <= free["bytes"] / 2
            one_more = used + sequence_bytes(SIZES, tokens, pair)
            assert (size + 1) * tokens > GPU_TOKENS or one_more > free["bytes"] / 4
    free["bytes"] = 0
    assert gpu_batch_size(SIZES, 1024, pair, CUDA) == 1
    free["bytes"] = 140 * 10**9
    assert gpu_batch_size(SIZES, 76, False, CUDA) == GPU_TOKENS // 76


def test_a_little_less_memory_makes_the_same_batches(free: dict[str, int]) -> None:
    """A resumed run finds its finished batches."""
    sizes = set()
    for free["bytes"] in (23_900_000_000, 23_000_000_000, 22_500_000_000):
        sizes.add(gpu_batch_size(SIZES, 402, True, CUDA))
    assert len(sizes) == 1


def test_batches_of_commands(free: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    free["bytes"] = 2 * 2**30
    model = DanceModel(PRESETS["demo"])
    assert [predict._batch_size(model, pair, 100) for pair in (False, True)] == [2**20 // 100**2] * 2
    assert embed._batch_size(model, 100) == 2**14 // 100
    for module in (predict, embed):
        monkeypatch.setattr(module, "device_of", lambda model: CUDA)
    for pair in (False, True):
        assert predict._batch_size(model, pair, 400) == gpu_batch_size(model.config, 400, pair, CUDA)
    assert embed._batch_size(model, 400) == gpu_batch_size(model.config, 400, False, CUDA)


def test_free_memory_of_a_gpu_includes_what_pytorch_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 70)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 30)
    assert memory_of(CUDA) == 140


@pytest.mark.parametrize("use", [predict.predict_properties, attention.attention_maps, score.score_mutations])
def test_a_diverged_network_is_refused(use: Callable) -> None:
    """Its weights are finite, its predictions are not."""
    model = DanceModel(ModelConfig(hidden=16, layers=1, heads=2, feed_forward=16)).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.fill_(1e38)
    refused(lambda: use(model, "MKTAYIAKQRQI"), "not finite", "diverged")
