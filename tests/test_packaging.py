"""Wheel and source distribution, and what they need: an installation without a clone, and one without extras."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
from pathlib import Path

import gemmi
import pytest

import seqdance
from data_prepare.extras import OPTIONAL
from seqdance.cli import COMMANDS, DYNA1_COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# commands in one process, which has no package of an extra; after each its exit code
HIDDEN = f"""
import json, sys
sys.modules.update(dict.fromkeys({list(OPTIONAL)}))
from seqdance.cli import main
for words in json.loads(sys.argv[1]):
    code = 0
    try:
        main(words)
    except SystemExit as left:
        code = left.code
    print(f"exit {{code}}", file=sys.stderr)
"""
STRUCTURES = ROOT / "data_prepare" / "examples" / "structures"
BY_HAND = r"\.(github|ci|gitignore|dockerignore|pre-commit-config\.yaml).*"  # tools of the repository


def packages(requirements):
    return {re.match(r"[\w.-]+", text)[0] for text in requirements}


def test_extras_bring_what_commands_ask_for():
    core, extras = packages(PROJECT["dependencies"]), PROJECT["optional-dependencies"]
    for package, extra in OPTIONAL.values():
        assert package in packages(extras[extra])
        assert package not in core
    assert "scipy" in packages(extras["prepare"])  # which is named instead of evaluate where data are prepared


def without_extras(commands, cwd):
    """Lines of the standard error."""
    words = [sys.executable, "-c", HIDDEN, json.dumps(commands)]
    run = subprocess.run(words, cwd=cwd, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stderr.splitlines()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A protein in each form that commands read."""
    folder = tmp_path_factory.mktemp("inputs")
    structure = gemmi.read_structure(str(STRUCTURES / "1ubi_A.pdb.gz"))
    structure.make_mmcif_document().write_file(str(folder / "x.cif"))
    (folder / "x.fasta").write_text(">x\nMQIFVKTLTG\n")
    return {"fasta": folder / "x.fasta", "pdb": STRUCTURES / "1ubi_A.pdb.gz", "cif": folder / "x.cif"}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["fasta", *(pytest.param(form, marks=pytest.mark.long) for form in ("pdb", "cif"))])
def test_prediction_needs_no_extra(form, inputs, tmp_path):
    commands = {
        "predict": ["--plot", "--output", "p.h5"],
        "score": ["--mutations", "wt", "--output", "s.csv"],
        "embed": ["--output", "e.h5"],
        "attention": ["--output", "a.h5"],
    }
    if form != "fasta":
        commands = {"predict": commands["predict"]}
    protein = ["--model", "demo", f"--{form}", str(inputs[form])]
    told = without_extras([[command, *protein, *more] for command, more in commands.items()], tmp_path)
    assert [line for line in told if line.startswith("exit ")] == ["exit 0"] * len(commands), told
    assert all((tmp_path / more[-1]).is_file() for more in commands.values())


def test_a_missing_extra_is_named(tmp_path):
    commands = {
        "prepare --source structures --raw raw --out x/f.h5": "prepare",
        "compare a.pdb:a.xtc b.h5:b --output x": "evaluate",
        "app --model demo": "app",
        "dyna1 labels star --file x.str --output x.csv": "nmr",
        "embed --model x --regress t.csv --target y --output x.csv": "evaluate",
    }
    (tmp_path / "raw").mkdir()
    for name in ("a.pdb", "a.xtc", "x.str", "raw/a.pdb"):
        (tmp_path / name).touch()
    told = without_extras([command.split() for command in commands], tmp_path)
    assert told[1::2] == ["exit 2"] * len(commands), told
    for line, (command, extra) in zip(told[::2], commands.items(), strict=True):
        assert re.fullmatch(rf"error: .*requires [\w-]+: pip install 'seqdance\[{extra}\]'", line), (command, line)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    words = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    run = subprocess.run(words, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    (source,) = folder.glob("*.tar.gz")
    return source


@pytest.fixture(scope="module")
def installed(source, tmp_path_factory):
    """Folder of the programs of a new environment with the wheel; only its dependencies are those of this one."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    programs = environment / ("Scripts" if os.name == "nt" else "bin")
    python = str(programs / "python")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", environment, source], check=True)
    wheels = environment.glob("*.whl")
    subprocess.run([*pip, "--python", python, "install", "--no-deps", *wheels], check=True)
    ask = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip())
    # a .pth file in a folder that another one names is not read: the project itself is not found in it
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return programs


@pytest.fixture
def run_installed(installed, tmp_path):
    """Run a program of that environment in an empty folder."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(program, *args):
        words = [str(installed / program), *map(str, args)]
        ran = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr

    return run


@pytest.mark.long
def test_wheel_in_an_empty_folder(run_installed, installed, tmp_path):
    found = run_installed("python", "-c", "import model, seqdance; print(model.__file__, seqdance.__version__)")
    assert found.startswith(str(installed.parent))
    assert found.split()[-1] == seqdance.__version__ == PROJECT["version"]
    assert "seqdance" in run_installed("seqdance", "--version")
    for command in [*COMMANDS, *(f"dyna1 {name}" for name in DYNA1_COMMANDS)]:
        run_installed("seqdance", *command.split(), "--help")
    for module in ("model.train_ddp", "model.evaluate", "model.dyna1.train", "seqdance"):
        run_installed("python", "-m", module, "--help")
    for module in ("molecular_dynamics.MD_features", "normal_mode_analysis.NMA_features"):
        run_installed("python", "-m", f"data_prepare.{module}", "--help")
    contacts = ("get_dynamic_contacts.py", "get_static_contacts.py", "get_contact_frequencies.py")
    for name in (*contacts, "MD_features.py", "NMA_features.py"):
        run_installed(name, "--help")
    protein = ("--model", "demo", "--sequence", "MQIFVKTLTG")
    run_installed("seqdance", "predict", *protein, "--output", "predictions")
    run_installed("seqdance", "score", *protein, "--output", "scores.csv")
    assert (tmp_path / "predictions" / "sequence.npz").is_file()
    assert (tmp_path / "scores.png").is_file()
    examples = run_installed("python", "-c", "from seqdance.commands.demo import EXAMPLES; print(EXAMPLES)").strip()
    run_installed("seqdance", "prepare", "--manifest", f"{examples}/examples.csv", "--limit", 2, "--out", "x/f.h5")
    assert "entries: 2, problems: none" in run_installed("seqdance", "check", "x/f.h5")


@pytest.mark.slow
def test_a_model_of_the_user_is_named(tmp_path):
    (tmp_path / "model.py").write_text("")
    program = Path(sys.executable).with_name("seqdance")
    subprocess.run([program, "train", "--help"], cwd=tmp_path, check=True)  # the folder is not on its path
    for launcher, code in (([], 2), (["-m", "torch.distributed.run"], 1)):
        words = [sys.executable, *launcher, "-m", "seqdance", "train"]
        run = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        assert run.returncode == code, run.stderr
        assert f"({tmp_path / 'model.py'}) is not part of SeqDance" in run.stderr


@pytest.mark.slow
def test_source_distribution_is_whole(source):
    listed = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git repository")
    with tarfile.open(source) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    missing = {name for name in listed.stdout.splitlines() if not re.fullmatch(BY_HAND, name)} - packed
    assert not missing
