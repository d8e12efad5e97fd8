import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from data_prepare.errors import InputError
from model.dyna1.classifier import Classifier, Dyna1Config
from model.dyna1.loading import load_dyna1, save_dyna1

# width of the one-hot preset, so that the heads are known; fewer layers
CONFIG = Dyna1Config(width=24, layers=2, heads=6, feed_forward=16)


def classifier(config: Dyna1Config = CONFIG) -> Classifier:
    torch.manual_seed(0)
    return Classifier(config)


def same_weights(a: Classifier, b: Classifier) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("form", ["plain", "with language model", "checkpoint", "half", "safetensors"])
def test_published_files(tmp_path: Path, form: str) -> None:
    model = classifier()
    state = dict(model.state_dict())
    path = tmp_path / "dyna1.pt"
    if form == "with language model":
        torch.save(state | {"model.encoder.sequence_embed.weight": torch.ones(64, 8)}, path)
    elif form == "checkpoint":
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.randn(1, 4, 24), torch.zeros(1, 4, dtype=torch.bool)).sum().backward()
        optimizer.step()
        torch.save(
            {"model_state_dict": model.state_dict(), "optim_state_dict": optimizer.state_dict(), "epoch": 3}, path
        )
    elif form == "safetensors":
        path = tmp_path / "dyna1.safetensors"
        save_file(state, path)
    else:
        torch.save({name: value.half() for name, value in state.items()} if form == "half" else state, path)
    loaded = load_dyna1(path, "cpu")
    assert loaded.config == CONFIG
    assert not loaded.training
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}
    if form == "half":
        model = model.half().float()
    assert same_weights(loaded, model)
    if form == "plain":
        assert same_weights(load_dyna1(tmp_path, "cpu"), model)  # its folder


def test_own_folder(tmp_path: Path) -> None:
    model = classifier(
        Dyna1Config(width=20, layers=1, heads=5, feed_forward=8, dropout=0.3, embedder="esm2 layer 3 ab")
    )
    save_dyna1(model, tmp_path / "best")
    assert sorted(path.name for path in (tmp_path / "best").iterdir()) == ["config.json", "model.safetensors"]
    loaded = load_dyna1(tmp_path / "best", "cpu")
    assert loaded.config == model.config
    assert same_weights(loaded, model)


def test_pair_front(tmp_path: Path) -> None:
    model = classifier(Dyna1Config(width=4096, layers=1, heads=8, feed_forward=8, pair_channels=128))
    torch.save(model.state_dict(), tmp_path / "af2.pt")
    loaded = load_dyna1(tmp_path / "af2.pt", "cpu")
    assert loaded.config == model.config
    assert same_weights(loaded, model)


def test_names_are_strict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "dyna1.pt"
    state = dict(classifier().state_dict())
    torch.save(state | {"classifier.norm3.weight": torch.ones(24)}, path)
    with pytest.raises(InputError, match=r"dyna1.pt: .*unknown: classifier.norm3.weight"):
        load_dyna1(path)
    torch.save({name: value for name, value in state.items() if name != "classifier.norm2.bias"}, path)
    with pytest.raises(InputError, match=r"missing: classifier.norm2.bias"):
        load_dyna1(path)
    monkeypatch.chdir(tmp_path)
    torch.save(state | {"classifier.norm2.bias": torch.ones(25)}, path)
    with pytest.raises(
        InputError, match=r"^dyna1.pt: .*of another shape: classifier.norm2.bias \(25,\) instead of \(24,\)"
    ):
        load_dyna1(path.name)
    torch.save({name.removeprefix("classifier."): value for name, value in state.items()}, path)
    with pytest.raises(InputError, match="not weights of Dyna-1"):
        load_dyna1(path)


def test_heads_come_from_the_configuration(tmp_path: Path) -> None:
    config = Dyna1Config(width=20, layers=1, heads=5, feed_forward=8)
    torch.save(classifier(config).state_dict(), tmp_path / "own.pt")
    with pytest.raises(InputError, match="no preset has width 20"):
        load_dyna1(tmp_path / "own.pt")
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    assert load_dyna1(tmp_path / "own.pt", "cpu").config == config
    (tmp_path / "config.json").write_text('{"hidden_size": 20}')
    with pytest.raises(InputError, match=r"own.pt with its config.json: .*hidden.size"):
        load_dyna1(tmp_path / "own.pt")


class Command:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("executed"),)


def test_nothing_else_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"classifier.norm1.weight": Command()}, "dyna1.pt")
    with pytest.raises(InputError, match=r"^dyna1.pt: not a weight file"):
        load_dyna1("dyna1.pt")
    Path("dyna1.pt").write_bytes(pickle.dumps(Command()))
    with pytest.raises(InputError, match=r"^dyna1.pt: not a weight file"):
        load_dyna1("dyna1.pt")
    assert not Path("executed").exists()


def test_wrong_files(tmp_path: Path) -> None:
    path = tmp_path / "dyna1.pt"
    with pytest.raises(InputError, match="no such file or folder"):
        load_dyna1(path)
    torch.save(classifier().state_dict(), path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match="not a weight file"):
        load_dyna1(path)
    torch.save([torch.ones(3)], path)
    with pytest.raises(InputError, match="not a plain state dict"):
        load_dyna1(path)
    torch.save({1: torch.ones(3)}, path)
    with pytest.raises(InputError, match="not a plain state dict"):
        load_dyna1(path)
    torch.save({"model_state_dict": 3}, path)
    with pytest.raises(InputError, match="not a plain state dict"):
        load_dyna1(path)


def test_folder_with_no_or_two_weight_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no model.safetensors or dyna1.pt or dyna1-esm2.pt"):
        load_dyna1(tmp_path)
    for name in ("dyna1.pt", "dyna1-esm2.pt"):
        torch.save(classifier().state_dict(), tmp_path / name)
    with pytest.raises(InputError, match=r"dyna1.pt and dyna1-esm2.pt in this folder"):
        load_dyna1(tmp_path)


def hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[tuple[str, str]]:
    """Let the Hub's client answer from a folder."""
    from huggingface_hub.errors import EntryNotFoundError

    asked: list[tuple[str, str]] = []

    def download(repository: str, name: str) -> str:
        asked.append((repository, name))
        if not (folder / name).exists():
            raise EntryNotFoundError.__new__(EntryNotFoundError)
        return str(folder / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    return asked


def test_hub_repositories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = classifier()
    torch.save(model.state_dict(), tmp_path / "dyna1.pt")
    torch.save({name: value + 1 for name, value in model.state_dict().items()}, tmp_path / "dyna1-esm2.pt")
    asked = hub(monkeypatch, tmp_path)
    assert same_weights(load_dyna1("gelnesr/Dyna-1", "cpu"), model)
    assert asked[-1] == ("gelnesr/Dyna-1", "dyna1.pt")
    assert not same_weights(load_dyna1("gelnesr/Dyna-1/dyna1-esm2.pt", "cpu"), model)
    assert asked[-1] == ("gelnesr/Dyna-1", "dyna1-esm2.pt")
    save_dyna1(model, tmp_path)
    assert same_weights(load_dyna1("someone/own", "cpu"), model)
    assert asked[-1] == ("someone/own", "model.safetensors")


def test_missing_folder_of_a_run_is_not_asked_for_at_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = hub(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    with pytest.raises(InputError, match=r"^runs/best: no such file or folder"):
        load_dyna1("runs/best")
    assert not asked


def test_no_network_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repository: str, name: str) -> str:
        raise OSError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with pytest.raises(InputError, match=r"gelnesr/Dyna-1: .*no route") as error:
        load_dyna1("gelnesr/Dyna-1")
    assert "\n" not in str(error.value)
