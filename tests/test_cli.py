"""The front door: the command `seqdance`, the public names, and a stranger's `model` package."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest

import seqdance
from model.config import ModelConfig
from model.network.dance import DanceModel
from seqdance.cli import COMMANDS, main
from seqdance.cli import DYNA1_COMMANDS as DYNA1

WORDS = {"labels": ["labels", "refdb"]}  # it has sub-commands of its own


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


def test_help_of_dyna1_names_its_commands(capsys):
    with pytest.raises(SystemExit) as left:
        main(["dyna1", "--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert "seqdance dyna1 COMMAND" in shown
    assert all(name in shown for name in DYNA1)


def test_unknown_command_and_none(capsys):
    for args in (["dance"], [], ["dyna1", "dance"]):
        with pytest.raises(SystemExit) as left:
            main(args)
        assert left.value.code == 2
    assert "unknown command 'dance'" in capsys.readouterr().err


def test_version(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"seqdance {seqdance.__version__}\n"


@pytest.mark.parametrize(
    "words",
    [*([name] for name in COMMANDS if name != "dyna1"), *(["dyna1", *WORDS.get(name, [name])] for name in DYNA1)],
    ids=" ".join,
)
def test_every_command_has_help(words, capsys):
    with pytest.raises(SystemExit) as left:
        main([*words, "--help"])
    assert left.value.code == 0
    assert "--debug" in capsys.readouterr().out


def test_public_names_exist():
    assert set(seqdance.__all__) <= set(dir(seqdance))
    for name in seqdance.__all__:
        assert getattr(seqdance, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'dance_floor'"):
        _ = seqdance.dance_floor


def test_import_is_light():
    """Neither PyTorch nor the libraries of structures are loaded before they are used."""
    code = "import seqdance, sys; print([m for m in ('torch', 'mdtraj', 'gemmi', 'pandas') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_training_needs_no_structure_libraries():
    code = (
        "import model.train_ddp, model.evaluate, model.mutations.score, sys;"
        "print([m for m in ('mdtraj', 'prody', 'gemmi', 'transformers') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_another_model_package_is_named(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "__init__.py").write_text("")
    found = subprocess.run(
        [sys.executable, "-c", "from seqdance import load_model"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: the package 'model' found first on the path")
    assert str(tmp_path) in last


@pytest.fixture
def tiny_model(tmp_path):
    DanceModel(ModelConfig(hidden=16, layers=1, heads=2, feed_forward=16)).save_pretrained(tmp_path / "tiny")
    return str(tmp_path / "tiny")


def test_score_all_single_mutants(tiny_model, tmp_path, capsys):
    main(["score", "--model", tiny_model, "--sequence", "MQIFVK", "--output", str(tmp_path / "x" / "s.csv")])
    assert capsys.readouterr().out.split() == [str(tmp_path / "x" / "s.csv"), str(tmp_path / "x" / "s.png")]
    assert len(pd.read_csv(tmp_path / "x" / "s.csv")) == 6 * 19
    assert (tmp_path / "x" / "s.png").read_bytes().startswith(b"\x89PNG")


def test_score_some_mutations(tiny_model, tmp_path):
    options = ["--model", tiny_model, "--sequence", "MQIFVK", "--output", str(tmp_path / "s.csv")]
    main(["score", *options, "--mutations", "Q2A,I3V:K6R"])
    assert pd.read_csv(tmp_path / "s.csv")["mutant"].tolist() == ["Q2A", "I3V:K6R"]


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--sequence", "MQJFVK", "'J'"),
        ("--sequence", "mqifvk", "'m'"),
        ("--mutations", "A2Q", "A2Q"),
        ("--mutations", "K7R", "K7R"),
        ("--model", "nowhere", "nowhere"),
    ],
)
def test_wrong_input_of_score_is_one_line(tiny_model, tmp_path, capsys, option, value, reason):
    options = {"--model": tiny_model, "--sequence": "MQIFVK", "--output": str(tmp_path / "s.csv")} | {option: value}
    with pytest.raises(SystemExit) as left:
        main(["score", *(word for pair in options.items() for word in pair)])
    assert left.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert reason in lines[-1]
    assert not (tmp_path / "s.csv").exists()
