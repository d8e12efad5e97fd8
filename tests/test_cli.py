"""The front door: the command `seqdance`, the public names, and a stranger's `model` package."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stdout
from shutil import which

import pytest
from refusals import command_refused

import seqdance
from seqdance.cli import COMMANDS, main
from seqdance.cli import DYNA1_COMMANDS as DYNA1

WORDS = {"labels": ["labels", "refdb"]}  # it has sub-commands of its own
COMMAND_LINES = [[name] for name in COMMANDS if name != "dyna1"]
COMMAND_LINES += [["dyna1", *WORDS.get(name, [name])] for name in DYNA1]
HEAVY = (
    "torch pandas mdtraj numba h5py sklearn scipy matplotlib distributed tensorboard transformers dash plotly".split()
)


def python(code, **options):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize(("args", "commands"), [(["--help"], COMMANDS), (["dyna1", "--help"], DYNA1)])
def test_help_names_every_command(args, commands, capsys):
    with pytest.raises(SystemExit) as left:
        main(args)
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert " ".join(["seqdance", *args[:-1], "COMMAND"]) in shown
    assert all(name in shown for name in commands)


@pytest.mark.parametrize("args", [["dance"], [], ["dyna1", "dance"]])
def test_unknown_command_and_none(args, capsys):
    with pytest.raises(SystemExit) as left:
        main(args)
    assert left.value.code == 2
    assert not args or "unknown command 'dance'" in capsys.readouterr().err


def test_version(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"seqdance {seqdance.__version__}\n"


@pytest.mark.parametrize("words", COMMAND_LINES, ids=" ".join)
def test_every_command_has_help(words, capsys):
    with pytest.raises(SystemExit) as left:
        main([*words, "--help"])
    assert left.value.code == 0
    assert "--debug" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("check", "STORE"),
        ("show", "STORE; NAME"),
        ("plot", "RUN"),
        ("publish", "RUN"),
        ("benchmark-mutations", "MEASURED"),
    ],
)
def test_missing_arguments_have_names(words, named, capsys):
    command_refused(main, [words], capsys, f"Missing from seqdance {words}: {named};")


def test_an_unknown_subcommand_is_told_apart_from_the_known_ones(capsys):
    command_refused(main, ["dyna1", "labels", "nosuch"], capsys, "options: nosuch; Available subcommands: refdb")


def test_help_loads_nothing_heavy():
    """All commands in one process; the first one that loads a library is named."""
    found = python(f"""
import sys
from seqdance.cli import main
for words in {COMMAND_LINES}:
    try:
        main([*words, "--help"])
    except SystemExit:
        pass
    loaded = [name for name in {HEAVY} if name in sys.modules]
    assert not loaded, (words, loaded)
""")
    assert found.returncode == 0, found.stderr


def test_help_that_nobody_reads_is_no_traceback():
    code = "import os, sys; from seqdance.cli import main; r, w = os.pipe(); os.dup2(w, 1); os.close(w); os.close(r)"
    run = python(f"{code}; main(['check', '--help'])")
    assert (run.returncode, run.stderr) == (0, "")


def test_ctrl_c_at_the_end_is_no_traceback():
    code = """
import atexit, os, signal
from seqdance.cli import call
atexit.register(os.kill, os.getpid(), signal.SIGINT)
call("builtins:print", ["done"])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout, run.stderr) == (0, "['done']\n", "")


def test_module_is_the_command():
    run = subprocess.run([sys.executable, "-m", "seqdance", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout == f"seqdance {seqdance.__version__}\n"


@pytest.mark.skipif(which("bash") is None, reason="bash is absent")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["pred"], ["predict"]),
        (["predict", "--plo"], ["--plot", "--plot-format"]),
        (["dyna1", "tr"], ["train"]),
        (["dyna1", "predict", "--save"], ["--save-dir"]),
        (["predict", "model"], []),  # bash completes file names then
    ],
    ids=" ".join,
)
def test_completion(words, expected, completion_script):
    line = " ".join(["seqdance", *words])
    code = f'{completion_script}\nCOMP_WORDS=({line}); COMP_CWORD={len(words)}; _seqdance; echo "${{COMPREPLY[@]}}"'
    run = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == expected


@pytest.fixture(scope="module")
def completion_script():
    told = io.StringIO()
    with redirect_stdout(told):
        main(["completion", "bash"])
    return told.getvalue()


def test_public_names_exist():
    assert set(seqdance.__all__) <= set(dir(seqdance))
    for name in seqdance.__all__:
        assert getattr(seqdance, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'dance_floor'"):
        _ = seqdance.dance_floor


@pytest.mark.parametrize(
    ("modules", "libraries"),
    [
        ("seqdance", "torch mdtraj gemmi pandas"),
        ("model.train_ddp, model.evaluate, model.dyna1.train", "torch mdtraj gemmi"),
        pytest.param(
            "model.training.dance_trainer, seqdance; seqdance.load_model('demo', 'cpu'); import model.mutations.score",
            "mdtraj prody gemmi transformers scipy torch._dynamo",
            marks=pytest.mark.slow,
        ),
        ("seqdance.commands.prepare", "torch mdtraj prody distributed numba"),
    ],
)
def test_imports_are_light(modules, libraries):
    """Heavy libraries are loaded when they are used; training nodes may lack those of structures.

    To load a network does not import PyTorch's compiler either, which takes seconds: normal numbers on the meta device
    would.
    """
    found = python(f"import {modules}, sys; print([m for m in {libraries.split()} if m in sys.modules])")
    assert found.stdout == "[]\n", found.stderr


def test_another_model_package_is_named(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "__init__.py").write_text("")
    found = python("from seqdance import load_model", cwd=tmp_path)
    assert found.returncode == 1
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: the package 'model' found first on the path")
    assert str(tmp_path) in last
