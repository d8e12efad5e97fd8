"""Weight files: written whole, found in folders and on the Hub, read strictly and without running code."""

from __future__ import annotations

import json
import zipfile
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from refusals import refused
from safetensors.torch import save_file
from torch import nn

from model.config import PRESETS, ModelConfig
from model.dyna1 import classifier
from model.dyna1.classifier import Classifier, Dyna1Config, load_dyna1
from model.network.dance import DanceModel, infer_config, load_model
from model.network.weights import weights_digest, write_model

TINY = ModelConfig(hidden=32, layers=2, heads=4, feed_forward=64)
FROZEN = ModelConfig(hidden=32, layers=2, heads=4, feed_forward=64, freeze_encoder=True, encoder_dropout=0.0)
# width of the one-hot preset, so that the heads are known; fewer layers
CLASSIFIER = Dyna1Config(width=24, layers=2, heads=6, feed_forward=16)
OWN = Dyna1Config(width=20, layers=1, heads=5, feed_forward=8, dropout=0.3, embedder="esm2 layer 3 ab")
LOADERS = {"dance": load_model, "dyna1": load_dyna1}
BOTH = pytest.mark.parametrize("kind", LOADERS)


def network(config: ModelConfig | Dyna1Config | str) -> nn.Module:
    torch.manual_seed(0)
    config = {"dance": TINY, "dyna1": CLASSIFIER}[config] if isinstance(config, str) else config
    return DanceModel(config) if isinstance(config, ModelConfig) else Classifier(config)


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The Hub's client answers from `tmp_path`; the list holds the requested files."""
    from huggingface_hub.errors import EntryNotFoundError

    asked: list[tuple[str, str]] = []

    def download(repository: str, name: str, **_: object) -> str:
        asked.append((repository, name))
        if not (tmp_path / name).exists():
            raise EntryNotFoundError.__new__(EntryNotFoundError)
        return str(tmp_path / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("model.network.names._ask_hub", lambda url: None)
    return asked


@pytest.mark.parametrize("config", [TINY, FROZEN, OWN], ids=["seqdance", "esmdance", "dyna1"])
def test_save_and_load(tmp_path: Path, config: ModelConfig | Dyna1Config) -> None:
    model, folder = network(config), tmp_path / "new" / "folder"
    load = load_model if isinstance(config, ModelConfig) else load_dyna1
    write_model(folder, model)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1  # other users can read both
    for path in (folder, folder / "model.safetensors"):
        loaded = load(path, "cpu")
        assert loaded.config == config
        assert not loaded.training
        assert same_weights(model, loaded)
        assert weights_digest(loaded, 1) == weights_digest(model, 1) != weights_digest(model, 2)
    next(model.parameters()).data[0] += 1
    assert weights_digest(loaded) != weights_digest(model)


def test_other_forms_of_weights(tmp_path: Path) -> None:
    """State dicts inside checkpoints and of DistributedDataParallel, beside the config.json of another program."""
    model, path = network(TINY), tmp_path / "update_0.pt"
    (tmp_path / "config.json").write_text('{"model_type": "esm", "hidden_size": 3}')
    state = dict(model.state_dict())
    parallel = {f"module.{name}": value for name, value in state.items()}
    for content in (state, {"state_dict": state, "epoch": 3}, {"model": parallel, "args": Namespace(lr=1)}, parallel):
        torch.save(content, path)
        loaded = load_model(path, "cpu")
        assert loaded.config == TINY
        assert same_weights(loaded, model)


@BOTH
def test_killed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    model = network(kind)
    write_model(tmp_path, model)
    before = (tmp_path / "model.safetensors").read_bytes()

    def half(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(KeyboardInterrupt):
        write_model(tmp_path, model)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_sizes_come_from_the_tensors(tmp_path: Path) -> None:
    model = network(TINY)
    torch.save(model.state_dict(), tmp_path / "update_10.pt")
    loaded = load_model(tmp_path / "update_10.pt", "cpu")
    assert loaded.config == TINY  # heads from the number of attention maps
    assert same_weights(model, loaded)
    with torch.device("meta"):
        assert infer_config(DanceModel(PRESETS["seqdance"]).state_dict()) == PRESETS["seqdance"]
        config = Dyna1Config(width=4096, layers=1, heads=8, feed_forward=8, pair_channels=128)
        assert classifier.infer_config(Classifier(config).state_dict()) == config


@pytest.mark.parametrize("form", ["plain", "with language model", "checkpoint", "half", "safetensors", "old pickle"])
def test_published_files_of_dyna1(tmp_path: Path, form: str) -> None:
    model, path = network(CLASSIFIER), tmp_path / ("dyna1.safetensors" if form == "safetensors" else "dyna1.pt")
    state = dict(model.state_dict())
    match form:
        case "with language model":
            torch.save(state | {"model.encoder.sequence_embed.weight": torch.ones(64, 8)}, path)
        case "checkpoint":
            torch.save({"model_state_dict": state, "optim_state_dict": {"state": {}}, "epoch": 3}, path)
        case "half":
            torch.save({name: value.half() for name, value in state.items()}, path)
            model = model.half().float()
        case "safetensors":
            save_file(state, path)
        case _:
            torch.save(state, path, _use_new_zipfile_serialization=form == "plain")
    for source in (path, tmp_path) if form == "plain" else (path,):
        loaded = load_dyna1(source, "cpu")
        assert loaded.config == CLASSIFIER
        assert {value.dtype for value in loaded.parameters()} == {torch.float32}
        assert same_weights(loaded, model)


@BOTH
def test_names_and_shapes_are_strict(tmp_path: Path, kind: str) -> None:
    path, load, state = tmp_path / "w.pt", LOADERS[kind], dict(network(kind).state_dict())
    name = "res_pred_nn.0.bias" if kind == "dance" else "classifier.norm2.bias"
    wrong = {
        f"unknown: {name}s": state | {f"{name}s": torch.ones(3)},
        f"missing: {name}": {key: value for key, value in state.items() if key != name},
        f"of another shape: {name} (5,) instead of {tuple(state[name].shape)}": state | {name: torch.ones(5)},
    }
    for problem, content in wrong.items():
        torch.save(content, path)
        refused(lambda: load(path), path, problem)


class Command:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("executed"),)


@BOTH
def test_unusable_files_are_one_line_and_run_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    load, path = LOADERS[kind], Path("w.pt")
    for name in ("none.pt", "some/folder", "absent"):
        refused(lambda name=name: load(name), name)
    refused(lambda: load(tmp_path), tmp_path, "model.safetensors")
    for name, content in (("w.h5", b""), ("w.pt", b""), ("w.pt", b"not weights"), ("w.safetensors", b"not weights")):
        Path(name).write_bytes(content)
        refused(lambda name=name: load(name), name)
    unusable = ({"a": Command()}, [torch.ones(3)], {1: torch.ones(3)}, {"model_state_dict": 3}, {"a": torch.ones(1)})
    for content in unusable:
        torch.save(content, path)
        assert "weights_only" not in refused(lambda: load(path), path)  # PyTorch recommends to run the code
    absurd = {"a": torch.ones(1).expand(10**6, 10**6)}
    for content in (absurd, network(kind).state_dict() | absurd):
        torch.save(content, path)
        refused(lambda: load(path), path, "'a' is larger than the file")
    torch.save(network(kind).state_dict(), path)
    whole = path.read_bytes()
    with zipfile.ZipFile("packed.pt", "w", zipfile.ZIP_DEFLATED) as packed, zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    refused(lambda: load("packed.pt"), "packed.pt", "sizes of its records")
    path.write_bytes(whole)
    path.write_bytes(path.read_bytes()[:2000])
    refused(lambda: load(path), path)
    assert not Path("executed").exists()


@BOTH
def test_wrong_configurations_beside_weights_are_named(tmp_path: Path, kind: str) -> None:
    model, load = network(kind), LOADERS[kind]
    write_model(tmp_path, model)
    values = asdict(model.config)
    wide = {"hidden" if kind == "dance" else "width": 3 * 2**13, "feed_forward": 2**20}  # 400 GB
    for text in ("{", "[]", *(json.dumps(values | changed) for changed in ({"layers": 3}, {"size": 3}, wide))):
        (tmp_path / "config.json").write_text(text)
        refused(lambda: load(tmp_path), tmp_path)


def test_heads_of_dyna1_come_from_the_configuration(tmp_path: Path) -> None:
    torch.save(network(OWN).state_dict(), tmp_path / "own.pt")
    refused(lambda: load_dyna1(tmp_path / "own.pt"), tmp_path / "own.pt", "width 20")
    (tmp_path / "config.json").write_text(json.dumps(asdict(OWN)))
    assert load_dyna1(tmp_path / "own.pt", "cpu").config == OWN
    (tmp_path / "config.json").unlink()
    for name in ("dyna1.pt", "dyna1-esm2.pt"):
        torch.save(network(CLASSIFIER).state_dict(), tmp_path / name)
    refused(lambda: load_dyna1(tmp_path), tmp_path, "dyna1.pt", "dyna1-esm2.pt")


def test_hub_repository_of_esmdance(tmp_path: Path, hub: list) -> None:
    model = network(FROZEN)
    write_model(tmp_path, model)
    loaded = load_model("ChaoHou/ESMDance", "cpu")
    assert loaded.config == FROZEN
    assert same_weights(model, loaded)
    assert {repository for repository, _ in hub} == {"ChaoHou/ESMDance"}


def test_hub_repositories_of_dyna1(tmp_path: Path, hub: list) -> None:
    model = network(CLASSIFIER)
    torch.save(model.state_dict(), tmp_path / "dyna1.pt")
    torch.save({name: value + 1 for name, value in model.state_dict().items()}, tmp_path / "dyna1-esm2.pt")
    assert same_weights(load_dyna1("gelnesr/Dyna-1", "cpu"), model)
    assert hub[-1] == ("gelnesr/Dyna-1", "dyna1.pt")
    assert not same_weights(load_dyna1("gelnesr/Dyna-1/dyna1-esm2.pt", "cpu"), model)
    assert hub[-1] == ("gelnesr/Dyna-1", "dyna1-esm2.pt")
    write_model(tmp_path, model)
    assert same_weights(load_dyna1("someone/own", "cpu"), model)
    assert hub[-1] == ("someone/own", "model.safetensors")
    refused(lambda: load_dyna1("someone/own/other.pt"), "someone/own", "other.pt")


@BOTH
def test_missing_folder_of_a_run_is_not_requested_from_the_hub(
    tmp_path: Path, monkeypatch, hub: list, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    refused(lambda: LOADERS[kind]("runs/best"), "runs/best")
    assert not hub


@BOTH
def test_no_network_is_one_line(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    from huggingface_hub.utils import logging

    def download(repository: str, name: str, **_: object) -> str:
        warns.append(logging.get_logger("huggingface_hub.utils").isEnabledFor(logging.WARNING))
        raise OSError("no route\nto host")

    warns: list[bool] = []  # whether the client would print its retries
    before = logging.get_verbosity()
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    refused(lambda: LOADERS[kind]("owner/name"), "owner/name", "no route")
    assert warns == [False]
    assert logging.get_verbosity() == before


@BOTH
@pytest.mark.parametrize("device", ["cuda", "mps", "abacus", "meta"])  # meta exists but computes nothing
def test_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, device: str) -> None:
    write_model(tmp_path, network(kind))
    load: Callable = LOADERS[kind]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert next(load(tmp_path).parameters()).device.type == "cpu"
    refused(lambda: load(tmp_path, device), f"--device {device}", "auto, cpu, cuda or mps")
