"""The whole main job on a part of the example data."""

from __future__ import annotations

import json
import os

import numpy as np
import pandas as pd
import pytest

from data_prepare.properties import GROUPS
from seqdance.commands import demo

NAMES = ("helix_aeaaak", "2juy", "histatin5", "p53_tad", "1ubi_A", "1hvr_AB")


@pytest.fixture
def small_examples(examples, tmp_path):
    """Two small entries of each group, one of them for the test."""
    table = pd.read_csv(examples / "examples.csv", keep_default_na=False).set_index("name").loc[list(NAMES)]
    table["label"] = ["train", "test"] * 3
    for folder in ("structures", "trajectories"):
        os.symlink(examples / folder, tmp_path / folder)
    table.reset_index().to_csv(tmp_path / "examples.csv", index=False)
    return tmp_path


@pytest.mark.slow
@pytest.mark.xdist_group("torchrun")
def test_demo(small_examples, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "EXAMPLES", small_examples)
    monkeypatch.setattr(demo, "UBIQUITIN", "MQIFVKTLTG")
    out, commands, really = tmp_path / "demo", [], demo.run_python
    monkeypatch.setattr(demo, "run_python", lambda *words: (commands.append(words), really(*words)))
    demo.main(["--out", str(out), "--updates", "20", "--processes", "1"])
    shown = capsys.readouterr().out
    assert str(out / "ubiquitin_mutations.png") in shown
    metrics = json.loads((out / "metrics.json").read_text())["groups"]
    assert set(metrics) == set(GROUPS)
    for values in metrics.values():
        for name in ("model", "mean", "sequence"):
            assert np.isfinite(values[name]["loss"])
    assert len(pd.read_csv(out / "ubiquitin_mutations.csv")) == 190
    assert (out / "ubiquitin_mutations.png").stat().st_size > 10_000
    assert len((out / "training" / "log.jsonl").read_text().splitlines()) >= 1

    # a second run takes up what is there; a training that is finished does so itself
    before = {path: path.stat().st_mtime_ns for path in (out / "data" / "features.entries").iterdir()}
    first, commands[:] = commands[:], []
    monkeypatch.setattr(demo, "run_python", lambda *words: commands.append(words))
    demo.main(["--out", str(out), "--updates", "20", "--processes", "1"])
    assert {path: path.stat().st_mtime_ns for path in (out / "data" / "features.entries").iterdir()} == before
    assert commands == first
