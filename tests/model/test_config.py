"""Configurations: presets, files and command lines give the same values; what cannot be used is one line."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from refusals import command_refused, refused

from model.config import PRESETS, TRAIN_PRESETS, ModelConfig, Stage, TrainConfig, read_train_config
from model.train_ddp import main
from model.training.command_line import parse_train_config as parse
from model.training.run_log import write_config


def test_presets() -> None:
    assert TrainConfig() == TRAIN_PRESETS["seqdance"] == parse([])
    assert all(config.preset == name for name, config in TRAIN_PRESETS.items())
    for config in PRESETS.values():
        assert ModelConfig.from_dict(json.loads(json.dumps(asdict(config)))) == config
    for name in ("seqdance", "esmdance"):
        assert ModelConfig.from_dict({"model_select": name, "esm2_select": "model_35M"}) == PRESETS[name]


@pytest.mark.parametrize("preset", TRAIN_PRESETS)
@pytest.mark.parametrize("form", ["run.json", "old.json", "fields.json", "fields.yaml"])
def test_configuration_comes_back_from_a_file(tmp_path: Path, preset: str, form: str) -> None:
    config = replace(TRAIN_PRESETS[preset], workers=3, joint_groups=True, model=replace(PRESETS[preset], layers=5))
    values = asdict(config)
    if form == "old.json":
        values["weights"] = values.pop("loss_weights")  # the name of the field in runs of former versions
        values["sort_by_length"] = False  # a field of former versions
    if form in ("run.json", "old.json"):
        values = {"config": values, "versions": {"python": "3.11"}, "processes": 4}
    path = tmp_path / form
    path.write_text(json.dumps(values, default=str))
    assert read_train_config(path) == config


def test_yaml_file_changes_fields_of_its_preset(tmp_path: Path) -> None:
    path = tmp_path / "ours.yml"
    path.write_text(
        "preset: esmdance\nlearning_rate: 3e-4\nclip: 1\nshort:\n  length: 128\nmodel: {head_dropout: 0.2}\n"
        "betas: [0.9, 0.95]\nencoder: null\noutput: runs/ours\n"
    )
    start = TRAIN_PRESETS["esmdance"]
    changes = {"learning_rate": 3e-4, "clip": 1.0, "short": Stage(128, 16, 2), "betas": (0.9, 0.95), "encoder": None}
    changes |= {"model": replace(start.model, head_dropout=0.2), "output": Path("runs/ours")}
    assert read_train_config(path) == replace(start, **changes)


def test_command_line_changes_a_preset() -> None:
    words = ["--short.length", "128", "--model.head-dropout", "0.2", "--betas", "0.9", "0.95"]
    start = TRAIN_PRESETS["esmdance"]
    expected = replace(start, short=Stage(128, 16, 2), model=replace(start.model, head_dropout=0.2), betas=(0.9, 0.95))
    assert parse(["--preset", "esmdance", *words]) == expected
    assert parse(["--updates", "500", "--preset=demo"]).updates == 500
    for option in ("--weights", "--loss-weights"):
        assert parse([option, "w.csv"]).loss_weights == Path("w.csv")


def test_command_line_changes_a_former_run(small_data, tmp_path: Path, capsys) -> None:
    """Every field comes back from config.json, but for those of one call; the command line wins."""
    run = small_data.config(tmp_path, resume="none", stop_after=3, debug=True, workers=2, encoder="e.pt")
    write_config(run, {}, ["cpu"])
    path = tmp_path / "config.json"
    start = replace(run, config=path, resume="auto", stop_after=None, debug=False)
    assert parse(["--config", str(path)]) == start
    options = ["--output", "x", "--short.length", "99", "--betas", "0.5", "0.6", "--no-kernels"]
    again = parse([*options, f"--config={path}"])
    changes = {"output": Path("x"), "short": replace(start.short, length=99), "betas": (0.5, 0.6), "kernels": False}
    assert again == replace(start, **changes)
    command_refused(main, ["--config", path, "--preset", "demo"], capsys, "--preset demo", path)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", []),
        ("a: [1,\nb: }", []),
        ("[1]", []),
        ('{"preset": "large"}', ["preset 'large'"]),
        ('{"rate": 1}', ["rate"]),
        ('{"short": {"size": 1}}', ["short", "size"]),
        ('{"learning_rate": true}', ["learning-rate", "True"]),
        ('{"learning_rate": .inf}', ["learning-rate", "inf"]),
        ('{"updates": 10.5}', ["updates", "10.5"]),
        ('{"updates": 2000}', ["warmup-updates", "2000"]),
        ('{"tf32": 1}', ["tf32", "1"]),
        ('{"betas": [0.9, 1]}', ["betas"]),
        ('{"short": 256}', ["short", "256"]),
        ('{"short": {"length": 0}}', ["short", "length 0"]),
        ('{"model": {"hidden": 7}}', ["model", "hidden (7)"]),
        ('{"model": {"layers": true}}', ["model", "layers True"]),
        ('{"model": {"layers": 1000000000}}', ["model", "layers 1000000000"]),
        ('{"updates": 1000000000000}', ["updates"]),
        ('{"preset": [demo]}', ["demo"]),
        ("1: 2", ["fields"]),
        ("stop_after: 2", ["stop_after", "--stop-after"]),
        ("a: &a [x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a]\nmodel: [*b, *b, *b, *b, *b, *b]", ["model"]),
    ],
)
def test_wrong_content_is_one_line_that_names_file_and_field(tmp_path: Path, text: str, named: list[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    refused(lambda: read_train_config(path), path, *named)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--preset", "large"], "large"),
        (["--clip", "0"], "--clip 0"),
        (["--model.hidden", "7"], "hidden (7)"),
        (["--short.length", "0"], "--short.length 0"),
        (["--model.layers=0"], "--model.layers 0"),
        (["--warmup-updates", "180000"], "--warmup-updates 180000"),
        (["--nonsense"], "--nonsense"),
        (["--config", "no/such.yaml"], "no/such.yaml"),
        ([], "--table data/table.csv, --store data/features.h5, --loss-weights data/loss_weights.csv"),
    ],
)
def test_wrong_command_lines(words: list[str], named: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    command_refused(main, words, capsys, named)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"hidden": 50, "heads": 20}, "hidden (50)"),
        ({"hidden": 20, "heads": 4}, "hidden (20)"),
        ({"layers": 0}, "layers 0"),
        ({"hidden": 10**12}, "hidden 1000000000000"),
        ({"hidden": 2**16, "layers": 1000, "heads": 2}, "parameters"),
        ({"head_dropout": 1.0}, "head-dropout 1.0"),
        ({"freeze_encoder": 1}, "freeze-encoder 1"),
        ({"width": 3}, "width"),
        ({"model_select": "other", "esm2_select": "model_35M"}, "'other'"),
        ({"model_select": "seqdance", "esm2_select": "model_650M"}, "'model_650M'"),
    ],
)
def test_wrong_model_configurations(values: dict, named: str) -> None:
    refused(lambda: ModelConfig.from_dict(values), named)
