from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from data_prepare.errors import InputError
from model.config import PRESETS, TRAIN_PRESETS, Stage, TrainConfig, read_train_config


@pytest.mark.parametrize("preset", TRAIN_PRESETS)
@pytest.mark.parametrize("form", ["run.json", "fields.json", "fields.yaml"])
def test_configuration_comes_back_from_a_file(tmp_path: Path, preset: str, form: str) -> None:
    config = replace(TRAIN_PRESETS[preset], workers=3, sort_by_length=True, model=replace(PRESETS[preset], layers=5))
    values = asdict(config)
    if form == "run.json":
        values = {"config": values, "versions": {"python": "3.11"}, "processes": 4}
    path = tmp_path / form
    path.write_text(json.dumps(values, default=str))  # which YAML reads too, small numbers such as 1e-08 as text
    assert read_train_config(path) == config


def test_yaml_file_changes_fields_of_its_preset(tmp_path: Path) -> None:
    path = tmp_path / "ours.yml"
    path.write_text(
        "preset: esmdance\nlearning_rate: 3e-4\nclip: 1\nshort:\n  length: 128\nmodel: {head_dropout: 0.2}\n"
        "betas: [0.9, 0.95]\nencoder: null\noutput: runs/ours\nresume: none\n"
    )
    start = TRAIN_PRESETS["esmdance"]
    expected = replace(
        start,
        learning_rate=3e-4,
        clip=1.0,
        short=Stage(128, 16, 2),
        model=replace(start.model, head_dropout=0.2),
        betas=(0.9, 0.95),
        encoder=None,
        output=Path("runs/ours"),
    )
    assert read_train_config(path) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not a JSON or YAML file"),
        ("[1]", "no fields of a training configuration"),
        ('{"preset": "large"}', "unknown preset 'large'"),
        ('{"rate": 1}', "unknown entries rate"),
        ('{"short": {"size": 1}}', "short: unknown entries size"),
        ('{"learning_rate": "fast"}', "learning_rate is 'fast'"),
        ('{"learning_rate": true}', "learning_rate is True"),
        ('{"updates": 10.5}', "updates is 10.5"),
        ('{"updates": "10"}', "updates is '10'"),
        ('{"tf32": 1}', "tf32 is 1"),
        ('{"workers": "two"}', "workers is 'two'"),
        ('{"device": "tpu"}', "device is 'tpu'"),
        ('{"store": 5}', "store is 5"),
        ('{"betas": [0.9]}', "betas is"),
        ('{"short": 256}', "short is 256"),
        ('{"clip": 0}', "clip is 0"),
        ('{"model": {"hidden": 7}}', "model: model configuration: hidden"),
    ],
)
def test_wrong_content_is_one_line_that_names_the_file(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_train_config(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_broken_yaml_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("a: [1,\nb: }")
    with pytest.raises(InputError, match="not a JSON or YAML file"):
        read_train_config(path)


def test_defaults_are_the_preset_of_their_name() -> None:
    assert TrainConfig() == TRAIN_PRESETS["seqdance"]
    assert all(config.preset == name for name, config in TRAIN_PRESETS.items())
