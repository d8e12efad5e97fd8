"""Names of weights: built in, runs, the Hub with and without network; and what a loaded model says of itself."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from refusals import refused
from safetensors.torch import load_file, save_file

from data_prepare.errors import InputWarning
from model.config import ModelConfig
from model.network import names
from model.network.dance import DanceModel, load_model
from model.training.checkpoint import save_checkpoint

TINY = ModelConfig(hidden=16, layers=1, heads=2, feed_forward=16)


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DanceModel:
    """A network in ./demo, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    model = DanceModel(TINY)
    model.save_pretrained("demo")
    return model


def test_demo_is_in_the_package_and_says_so(saved: DanceModel) -> None:
    """The name means the same in every folder; a path is a folder."""
    with pytest.warns(InputWarning, match=names.DEMO_NOTE):
        demo = load_model("demo", "cpu")
    assert demo.name == "demo"
    assert demo.label == f"demo {demo.digest} ({names.DEMO_NOTE})"
    assert demo.digest != saved.digest
    for path, name in (("./demo", "./demo"), (Path("demo"), "./demo"), ("demo/model.safetensors",) * 2):
        loaded = load_model(path, "cpu")
        assert loaded.label == f"{name} {saved.digest}"
    assert (names.DEMO_FOLDER / "model.safetensors").stat().st_size < 10e6


def test_half_precision_becomes_float32(saved: DanceModel) -> None:
    path = "demo/model.safetensors"
    save_file({name: value.half() for name, value in load_file(path).items()}, path)
    loaded = load_model("./demo", "cpu")
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, saved.state_dict()[name], rtol=1e-3, atol=1e-6)


def test_newest_intact_checkpoint_of_a_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    models = {update: DanceModel(TINY) for update in (5, 10, 20)}
    paths = {update: save_checkpoint(tmp_path / "run/checkpoints", update, models[update], {}) for update in models}
    (paths[10] / "training.pt").unlink()  # as of those that only keep their weights
    content = (paths[20] / "model.safetensors").read_bytes()
    (paths[20] / "model.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    loaded = load_model(tmp_path / "run", "cpu")
    assert loaded.label == f"{paths[10]} {models[10].digest}"
    assert "update_20" in caplog.text
    refused(lambda: load_model(tmp_path), tmp_path, str(tmp_path / "run"))
    for update in (5, 10):
        (paths[update] / "model.safetensors").unlink()
    refused(lambda: load_model(tmp_path / "run"), tmp_path / "run", "checkpoint")


@pytest.mark.parametrize("answers", ["never", "no route"])
def test_without_network_and_cache_one_line_says_what_to_fetch(monkeypatch: pytest.MonkeyPatch, answers: str) -> None:
    def ask(url: str, **_: object) -> None:
        if answers == "never":
            time.sleep(3)
        raise OSError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", ask)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("not within seconds"))
    monkeypatch.setattr(names, "HUB_SECONDS", 0.2)
    started = time.monotonic()
    words = ("config.json", "model.safetensors", "https://huggingface.co/ChaoHou/ESMDance/resolve/main/", "path")
    refused(lambda: load_model("esmdance"), "esmdance", *words)
    assert time.monotonic() - started < 2


def test_cached_weights(saved: DanceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Published ones need no network; others are asked for, and read from the cache if nobody answers."""
    asked: list[str] = []

    def ask(url: str) -> None:
        asked.append(url)
        raise OSError("no route")

    monkeypatch.setattr(names, "_ask_hub", ask)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda _, name: str(tmp_path / "demo" / name))
    assert load_model("seqdance", "cpu").label == f"seqdance {saved.digest}"
    assert not asked
    assert load_model("ChaoHou/SeqDance", "cpu").label == f"ChaoHou/SeqDance {saved.digest}"
    assert len(asked) == 2


def test_unknown_names_list_the_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused(lambda: load_model("SeqDance"), "SeqDance", *names.BUILT_IN)
