from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch
from runs import assert_same_run

from model.training.dance_trainer import train
from model.training.processes import Process


@pytest.mark.slow
def test_trace_of_some_updates_changes_no_result(small_data, tmp_path: Path) -> None:
    process = Process(torch.device("cpu"))
    train(small_data.config(tmp_path / "plain", stop_after=6), process)
    train(small_data.config(tmp_path / "traced", stop_after=6, profile=2), process)
    assert_same_run(tmp_path / "traced", tmp_path / "plain")
    (path,) = (tmp_path / "traced/profile").iterdir()
    assert path.name == "updates_4_to_5.json.gz"
    with gzip.open(path, "rt") as file:
        names = [event.get("name", "") for event in json.load(file)["traceEvents"]]
    assert sum(name.startswith("ProfilerStep#") for name in names) == 2
    assert sum(name.startswith("Optimizer.step#") for name in names) == 2
    assert not (tmp_path / "plain/profile").exists()
