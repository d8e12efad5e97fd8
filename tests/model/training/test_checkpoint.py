from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from refusals import refused

from model.config import ModelConfig
from model.network.dance import DanceModel, load_model
from model.training.checkpoint import (
    checkpoints,
    newest_checkpoint,
    read_training,
    remove_old,
    save_checkpoint,
    verify,
)

TINY = ModelConfig(hidden=16, layers=1, heads=2, feed_forward=16)
STATE = {"update": 5, "optimizer": {"state": {0: {"exp_avg": torch.arange(3.0)}}}, "ranks": [{"cpu": torch.zeros(2)}]}


def test_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    model = DanceModel(TINY)
    save_checkpoint(tmp_path / "checkpoints", 5, DanceModel(TINY), {"update": 5})  # is replaced
    path = save_checkpoint(tmp_path / "checkpoints", 5, model, STATE)
    assert path == tmp_path / "checkpoints/update_5"
    assert [file.name for file in path.parent.iterdir()] == ["update_5"]
    verify(path)
    state, loaded = read_training(path), load_model(path).state_dict()
    assert state["update"] == 5
    assert torch.equal(state["optimizer"]["state"][0]["exp_avg"], torch.arange(3.0))
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())
    manifest = json.loads((path / "manifest.json").read_text())
    assert set(manifest) == {"model.safetensors", "config.json", "training.pt"}


def damage(path: Path, how: str) -> None:
    match how:
        case "shorter":
            path.write_bytes(path.read_bytes()[:-10])
        case "one bit":
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        case "missing":
            path.unlink()


@pytest.mark.parametrize("how", ["shorter", "one bit", "missing"])
@pytest.mark.parametrize("file", ["model.safetensors", "training.pt", "config.json", "manifest.json"])
def test_damaged_checkpoint_is_skipped(tmp_path: Path, caplog, file: str, how: str) -> None:
    model = DanceModel(TINY)
    for update in (1, 2):
        save_checkpoint(tmp_path, update, model, STATE)
    damage(tmp_path / "update_2" / file, how)
    assert newest_checkpoint(tmp_path) == tmp_path / "update_1"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    # a changed bit of the manifest may be in the sum of another file
    named = "" if (file, how) == ("manifest.json", "one bit") else f" {file} is"
    assert f"{tmp_path / 'update_2'}:{named}" in caplog.text
    damage(tmp_path / "update_1" / file, how)
    assert newest_checkpoint(tmp_path) is None


def test_killed_while_writing_leaves_no_checkpoint(tmp_path: Path, monkeypatch) -> None:
    model = DanceModel(TINY)
    save_checkpoint(tmp_path, 1, model, STATE)

    def full_disk(*_: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full_disk)
        with pytest.raises(OSError):
            save_checkpoint(tmp_path, 2, model, STATE)
    assert len(list(tmp_path.iterdir())) == 2
    assert checkpoints(tmp_path) == [tmp_path / "update_1"]
    assert newest_checkpoint(tmp_path) == tmp_path / "update_1"
    save_checkpoint(tmp_path, 2, model, STATE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["update_1", "update_2"]


def test_old_checkpoints_go_except_every_nth(tmp_path: Path) -> None:
    for update in (500, 1000, 1500, 2000, 2500, 3000, 3500):
        (tmp_path / f"update_{update}").mkdir()
        (tmp_path / f"update_{update}" / "training.pt").touch()
    (tmp_path / "update_notes").mkdir()  # not ours
    remove_old(tmp_path, keep_last=2, keep_every=1000)
    assert [path.name for path in checkpoints(tmp_path)] == [f"update_{u}" for u in (1000, 2000, 3000, 3500)]
    assert sorted(path.parent.name for path in tmp_path.glob("*/training.pt")) == ["update_3000", "update_3500"]
    assert (tmp_path / "update_notes").exists()


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    path = save_checkpoint(tmp_path, 1, DanceModel(TINY), STATE)
    torch.save({"update": Code()}, path / "training.pt")
    refused(lambda: read_training(path), path / "training.pt")
    assert not (tmp_path / "ran").exists()
