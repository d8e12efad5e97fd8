"""Publishing on the Hub, with a stand-in for its client: what is uploaded loads again, and errors are one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from refusals import refused

from model.dyna1.classifier import Classifier, Dyna1Config
from model.network.dance import DanceModel, load_model
from model.network.hub import markdown_table, model_card


class StandIn:
    """`HfApi` that copies to a folder instead of uploading."""

    endpoint = "https://hub"
    target: Path
    made: list[tuple]
    error: Exception | None = None

    def __init__(self, token: str) -> None:
        self.token = token

    def create_repo(self, repo_id: str, private: bool, exist_ok: bool) -> None:
        if self.error:
            raise self.error
        self.made.append((self.token, repo_id, private, exist_ok))

    def upload_folder(self, repo_id: str, folder_path: Path, commit_message: str) -> None:
        shutil.copytree(folder_path, self.target / repo_id)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    StandIn.target, StandIn.made, StandIn.error = tmp_path / "hub", [], None
    monkeypatch.setattr("huggingface_hub.HfApi", StandIn)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "from login")
    return StandIn


def test_push_and_load(hub, tiny_model: DanceModel) -> None:
    assert tiny_model.push_to_hub("me/Own", private=True) == "https://hub/me/Own"
    assert hub.made == [("from login", "me/Own", True, True)]
    folder = hub.target / "me" / "Own"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    for load in (DanceModel.from_pretrained, load_model):
        loaded = load(folder, "cpu")
        assert loaded.digest == tiny_model.digest
        assert not loaded.training
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: seqdance\n")
    for text in ("# Own", 'load_model("me/Own")', tiny_model.digest, "| heads | 4 |"):
        assert text in card
    code = (
        card.split("```python\n")[1].split("```")[0].replace('load_model("me/Own")', f'load_model("{folder}", "cpu")')
    )
    namespace: dict[str, object] = {}
    exec(code, namespace)
    assert "rmsf_nor" in namespace["properties"]


def test_dyna1(hub) -> None:
    torch.manual_seed(0)
    model = Classifier(Dyna1Config(width=24, layers=1, heads=6, feed_forward=8, embedder="onehot"))
    model.push_to_hub("me/Own-Dyna1", token="given", card="my card")
    assert hub.made == [("given", "me/Own-Dyna1", False, True)]
    folder = hub.target / "me" / "Own-Dyna1"
    assert (folder / "README.md").read_text() == "my card"
    assert Classifier.from_pretrained(folder, "cpu").config == model.config
    assert "reads onehot" in model_card(model, "me/Own-Dyna1")


def test_refused(hub, tiny_model: DanceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(lambda: tiny_model.push_to_hub("Own"), "Own", "owner/name")
    refused(lambda: tiny_model.push_to_hub("me/Own/file"), "me/Own/file", "owner/name")
    hub.error = ConnectionError("no route\nto host")
    refused(lambda: tiny_model.push_to_hub("me/Own"), "me/Own", "no route", "network")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    refused(lambda: tiny_model.push_to_hub("me/Own"), "me/Own", "no token", "HF_TOKEN")
    assert not hub.made


def test_markdown_table() -> None:
    table = markdown_table({"a|b": [0.123456, None], "c": [float("nan"), 3]}, ("x", "y", "z"))
    assert table.splitlines() == ["| x | y | z |", "| --- | --- | --- |", "| a\\|b | 0.1235 | - |", "| c | - | 3 |"]
    assert markdown_table({"layers": 2}) == "|  |  |\n| --- | --- |\n| layers | 2 |"
