"""`seqdance publish`: the model card of a run says what it was made from, without paths of this machine."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from refusals import command_refused, refused

from model.dyna1.classifier import Classifier, Dyna1Config
from model.evaluation.model_card import metrics_table, run_and_weights
from model.network.dance import load_model
from model.network.weights import write_model
from model.train_ddp import main as train
from model.training.checkpoint import read_training
from seqdance.commands.publish import main


@pytest.fixture(scope="module")
def run(small_data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 8 updates, and metrics of its newest checkpoint."""
    folder = tmp_path_factory.mktemp("private") / "run"
    train(small_data.arguments(folder))
    correlations = {"rmsf_nor": {"pearson": 0.4567, "spearman": None, "proteins": 3}}
    groups = {
        "IDRome": {
            "entries": 3,
            "model": {"loss": 1.2345, "correlations": correlations},
            "mean": {"loss": 2.5, "correlations": {}},
        }
    }
    (folder / "metrics").mkdir()
    (folder / "metrics" / "update_8.json").write_text(json.dumps({"groups": groups}))
    return folder


def test_card_of_a_run(run: Path, small_data, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    main([str(run), "--repo-id", "me/Own", "--output", str(tmp_path / "out"), "--license", "mit"])
    assert capsys.readouterr().out.split() == [str(tmp_path / "out" / "README.md")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    card = (tmp_path / "out" / "README.md").read_text()
    checkpoint = run / "checkpoints" / "update_8"
    assert load_model(tmp_path / "out", "cpu").digest == load_model(checkpoint, "cpu").digest
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    told = ["license: mit", "| checkpoint | update_8 |", "| updates | 8 |", "| learning_rate | 0.01 |", "torch "]
    told += [f"| {name} | {digest} |" for name, digest in read_training(checkpoint)["data"].items()]
    told += [
        f"| IDRome_loss | {last['IDRome_loss']:.4g} |",
        "| IDRome | 3 | 1.234 | 2.5 |",
        "| IDRome: rmsf_nor | 0.4567 |",
    ]
    for text in told:
        assert text in card, text
    assert "n_update" not in card
    for private in (run.parent, small_data.store.parent, Path.home()):
        assert str(private) not in card
    assert not re.search(r"\|\s*/", card)  # no absolute path


def test_checkpoints_and_plain_folders(run: Path, tmp_path: Path, tiny_model_folder: Path) -> None:
    first, last = (run / "checkpoints" / f"update_{number}" for number in (4, 8))
    assert run_and_weights(run) == (run, last)
    assert run_and_weights(first) == (run, first)
    assert run_and_weights(tiny_model_folder) == (None, tiny_model_folder)
    main([str(first), "--repo-id", "me/Own", "--output", str(tmp_path / "out")])
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| checkpoint | update_4 |" in card
    assert "## Test" not in card  # those of update_8 are others
    main([str(tiny_model_folder), "--repo-id", "me/Own", "--output", str(tmp_path / "plain")])
    assert "## Training" not in (tmp_path / "plain" / "README.md").read_text()


def test_card_of_dyna1(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = tmp_path / "run"
    write_model(run / "best", Classifier(Dyna1Config(width=24, layers=1, heads=6, feed_forward=8, embedder="onehot")))
    (run / "checkpoints").mkdir()
    config = {"preset": "onehot", "epochs": 3, "embedder": f"esm2:{tmp_path}/own:3", "table": f"{tmp_path}/labels.csv"}
    (run / "config.json").write_text(json.dumps({"config": config, "versions": {"torch": "2.13"}, "devices": ["cpu"]}))
    lines = [{"n_update": number, "loss": 0.25, "validation_auroc": 0.5 + number / 40} for number in (5, 6)]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "best" / "validation.json").write_text('{"update": 5}')
    area = {"mean": 0.75, "low": 0.5, "high": 1}
    metrics = {"predictors": {"Dyna-1": {"proteins": 9, "auroc": area, "auprc": area, "normalised_auprc": area}}}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    words = [run, "--repo-id", "me/Own-Dyna1", "--metrics", tmp_path / "metrics.json", "--output", tmp_path / "out"]
    main([str(word) for word in words])
    card = (tmp_path / "out" / "README.md").read_text()
    told = [
        "| epochs | 3 |",
        "| embedder | esm2:own:3 |",
        "| validation_auroc | 0.625 |",
        "| Dyna-1 | 9 | 0.75 | 0.75 | 0.75 |",
    ]
    for text in told:
        assert text in card, text
    assert str(tmp_path) not in card


def test_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    command_refused(main, [run, "--repo-id", "Own"], capsys, "Own", "owner/name")
    command_refused(main, [tmp_path / "none", "--repo-id", "me/Own"], capsys, tmp_path / "none", "training run")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    command_refused(main, [run, "--repo-id", "me/Own"], capsys, "me/Own", "HF_TOKEN")
    (tmp_path / "other.json").write_text('{"a": 1}')
    refused(lambda: metrics_table(tmp_path / "other.json"), tmp_path / "other.json", "evaluate")
