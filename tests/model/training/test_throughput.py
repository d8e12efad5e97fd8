"""FLOPs of a training against PyTorch's counter, peaks of cards, time waited for data."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from plain_dance import plain_dance
from runs import log_lines
from torch.utils.flop_counter import FlopCounterMode

from model.config import PRESETS, ModelConfig
from model.network.dance import DanceModel
from model.training.dance_trainer import DanceTrainer, train
from model.training.processes import Process
from model.training.run_log import DATA_WAIT, MODEL_FLOPS, SHARE_OF_PEAK
from model.training.throughput import peak_flops, training_flops

SMALL = ModelConfig(hidden=32, layers=3, heads=4, feed_forward=96)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("length", [8, 48])  # products of residues or of pairs prevail
def test_flops_are_those_that_pytorch_counts(frozen: bool, length: int) -> None:
    """In the plain form of the network, but for two differences from ours.

    Its middle layer of the pair head has twice the operations, and it also takes the gradient of frozen maps.
    """
    config = replace(SMALL, freeze_encoder=frozen)
    model = DanceModel(config)
    weights = {name: value.detach().requires_grad_(value.requires_grad) for name, value in model.named_parameters()}
    batch = 2
    ids = torch.randint(4, 24, (batch, length))
    with FlopCounterMode(display=False) as counter:
        outputs = plain_dance(weights, config.heads, ids, torch.ones_like(ids), frozen=frozen)
        sum(value.square().sum() for value in outputs.values()).backward()
    pairs = batch * length**2
    more = 3 * 2 * pairs * config.hidden * config.maps + frozen * 2 * 13 * pairs * config.maps
    assert training_flops(config, batch * length, pairs) == counter.get_total_flops() - more


def test_flops_of_our_network_are_those_that_pytorch_counts() -> None:
    """Within a tenth: it may compute a product twice instead of storing its result."""
    model, ids = DanceModel(SMALL), torch.randint(4, 24, (2, 24))
    with FlopCounterMode(display=False) as counter:
        sum(value.square().sum() for value in model(ids).values()).backward()
    recomputed = 2 * ids.numel() * 24 * SMALL.hidden * SMALL.maps  # the middle layer of the pair head
    found = training_flops(SMALL, ids.numel(), 24 * ids.numel())
    assert 0.9 * (counter.get_total_flops() - recomputed) < found < 1.1 * counter.get_total_flops()


def test_flops_of_the_published_network() -> None:
    """35M parameters: 6 FLOPs per parameter and token (Kaplan et al. 2020) plus what grows with the pairs."""
    config = PRESETS["seqdance"]
    encoder = config.layers * config.hidden * (4 * config.hidden + 2 * config.feed_forward)
    per_token = training_flops(config, 1, 0)
    assert per_token == pytest.approx(6 * encoder, rel=0.05)
    assert training_flops(replace(config, freeze_encoder=True), 1, 0) == pytest.approx(2 * encoder, rel=0.15)


@pytest.mark.parametrize(
    ("names", "tera"),
    [
        (["NVIDIA A100-SXM4-80GB"], 312),
        (["NVIDIA H100 80GB HBM3"] * 2, 2 * 989),
        (["NVIDIA H100 PCIe"], 756),
        (["NVIDIA H100 NVL"], 835),
        (["NVIDIA H20"], 148),
        (["NVIDIA RTX 6000 Ada Generation"], 364.2),
        (["NVIDIA H200"], 989),
        (["NVIDIA B200"], 2250),
        (["NVIDIA L40S", "NVIDIA L4"], 483),
        (["NVIDIA A10G"], 70),
        (["Tesla V100-SXM2-32GB"], 125),
        (["Tesla V100-PCIE-16GB"], 112),
        (["NVIDIA GeForce RTX 4090"], 165.2),
        (["NVIDIA GeForce RTX 3090"], 71),
        (["NVIDIA GeForce RTX 4090 Laptop GPU"], None),
        (["NVIDIA A100-SXM4-40GB MIG 1g.5gb"], None),
        (["NVIDIA H200", "NVIDIA X1000"], None),
        (["cpu"], None),
    ],
)
def test_peak_of_cards(names: list[str], tera: float | None) -> None:
    assert peak_flops(names) == (None if tera is None else pytest.approx(1e12 * tera))


def test_log_has_the_share_of_the_peak_and_the_time_waited_for_data(small_data, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("model.training.run_log.peak_flops", lambda devices: 1e12 if devices == ["cpu"] else None)
    micro_batches = DanceTrainer.micro_batches

    def slow(trainer: DanceTrainer) -> list:
        return [lambda load=load: time.sleep(0.05) or load() for load in micro_batches(trainer)]

    monkeypatch.setattr(DanceTrainer, "micro_batches", slow)
    config = small_data.config(tmp_path, stop_after=2, log_every=1)
    train(config, Process(torch.device("cpu")))
    for line in log_lines(tmp_path):
        assert 2 * 3 * 0.05 <= line[DATA_WAIT] <= line["Batch time"]  # 2 micro-batches of 3 groups
        assert line[SHARE_OF_PEAK] == pytest.approx(line[MODEL_FLOPS] / 1e12)
