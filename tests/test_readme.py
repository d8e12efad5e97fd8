"""What the README says can be typed, works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import model.network.dance
from model.config import ModelConfig
from model.network.dance import DanceModel
from model.train_ddp import parse
from seqdance.cli import COMMANDS, main
from seqdance.cli import DYNA1_COMMANDS as DYNA1

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_python_runs(monkeypatch):
    """With a small random network in place of the one from the Hub."""
    asked = []

    def small(name):
        asked.append(name)
        return DanceModel(ModelConfig(hidden=16, layers=1, heads=2, feed_forward=16)).eval()

    monkeypatch.setattr(model.network.dance, "load_model", small)
    namespace: dict[str, object] = {}
    for code in blocks("python"):
        exec(code, namespace)
    assert asked == ["ChaoHou/ESMDance"]
    assert len(namespace["table"]) == 2


def command_lines():
    lines = [line for block in blocks("sh") for line in block.replace("\\\n", " ").splitlines()]
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def test_targets_and_files_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    made = {words[1] for words in command_lines() if words[0] == "make"}
    scripts = {words[1] for words in command_lines() if words[0] == "python"}
    assert made <= targets
    assert all((ROOT / script).is_file() for script in scripts)
    assert len(made) >= 2
    assert len(scripts) >= 2


@pytest.mark.parametrize(
    "words", [w for w in command_lines() if w[0].endswith("seqdance")], ids=lambda w: " ".join(w[1:3])
)
def test_options_of_seqdance_exist(words, capsys):
    ours = [word for word in words[1:3] if word in COMMANDS or word in DYNA1]  # dyna1 has sub-commands
    with pytest.raises(SystemExit):
        main([*ours, *([words[3]] if ours[-1] == "labels" else []), "--help"])
    shown = capsys.readouterr().out
    for option in (word for word in words if word.startswith("--")):
        assert option in shown


def test_training_command_is_parsed():
    words = next(words for words in command_lines() if words[0] == "torchrun")
    assert parse(words[3:]).preset == "seqdance"


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
