"""Training runs compared bit by bit."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from model.training.checkpoint import checkpoints, read_training
from model.training.run_log import DATA_WAIT, MODEL_FLOPS, PEAK_MEMORY, SHARE_OF_PEAK, TOKENS_PER_SECOND


def log_lines(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def without_time(output: Path) -> list[dict]:
    """Lines of the log without what differs between equal runs."""
    left_out = ("Batch time", "Epoch time", TOKENS_PER_SECOND, MODEL_FLOPS, SHARE_OF_PEAK, DATA_WAIT, PEAK_MEMORY)
    return [{key: value for key, value in line.items() if key not in left_out} for line in log_lines(output)]


def plain(state: object) -> object:
    """A nested state with its tensors as lists."""
    match state:
        case torch.Tensor():
            return state.dtype, state.tolist()
        case dict():
            return {key: plain(value) for key, value in state.items()}
        case list() | tuple():
            return [plain(value) for value in state]
    return state


def assert_same_run(first: Path, second: Path) -> None:
    """Last checkpoint (weights, optimizer, progress, random states), best weights of Dyna-1, and log."""
    a, b = (checkpoints(path / "checkpoints")[-1] for path in (first, second))
    assert a.name == b.name
    assert plain(read_training(a)) == plain(read_training(b))
    files = [path.relative_to(second) for path in (second / "best").glob("*")]
    for name in (f"checkpoints/{a.name}/model.safetensors", *files):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert without_time(first) == without_time(second)
