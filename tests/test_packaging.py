"""Wheel and source distribution, and what they need: an installation without a clone, and one without extras."""

from __future__ import annotations

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
HIDDEN = f"import sys; sys.modules.update(dict.fromkeys({list(OPTIONAL)})); from seqdance.cli import main; main()"
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


def without_extras(*args, cwd):
    return subprocess.run([sys.executable, "-c", HIDDEN, *map(str, args)], cwd=cwd, capture_output=True, text=True)


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
    source = [f"--{form}", inputs[form]]
    commands = {
        "predict": ["--plot", "--output", "p.h5"],
        "score": ["--mutations", "wt", "--output", "s.csv"],
        "embed": ["--output", "e.h5"],
        "attention": ["--output", "a.h5"],
    }
    for command, more in commands.items() if form == "fasta" else [("predict", commands["predict"])]:
        run = without_extras(command, "--model", "demo", *source, *more, cwd=tmp_path)
        assert run.returncode == 0, run.stderr
        assert (tmp_path / more[-1]).is_file()


@pytest.mark.parametrize(
    ("args", "extra"),
    [
        ("prepare --source structures --raw raw --out x/f.h5", "prepare"),
        ("compare a.pdb:a.xtc b.h5:b --output x", "evaluate"),
        ("app --model demo", "app"),
        ("dyna1 labels star --file x.str --output x.csv", "nmr"),
        ("embed --model x --regress t.csv --target y --output x.csv", "evaluate"),
    ],
)
def test_a_missing_extra_is_named(args, extra, tmp_path):
    (tmp_path / "raw").mkdir()
    for name in ("a.pdb", "a.xtc", "x.str", "raw/a.pdb"):
        (tmp_path / name).touch()
    run = without_extras(*args.split(), cwd=tmp_path)
    assert run.returncode == 2
    (line,) = run.stderr.strip().splitlines()
    assert re.fullmatch(rf"error: .*requires [\w-]+: pip install 'seqdance\[{extra}\]'", line), run.stderr


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """Wheel and source distribution; the wheel is made of the other one."""
    folder = tmp_path_factory.mktemp("dist")
    words = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    run = subprocess.run(words, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, source


@pytest.fixture(scope="module")
def installed(distributions, tmp_path_factory):
    """Folder of the programs of a new environment with the wheel; only its dependencies are those of this one."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    programs = environment / ("Scripts" if os.name == "nt" else "bin")
    python = str(programs / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", str(distributions[0])]
    subprocess.run(pip, check=True)
    ask = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip())
    # a .pth file in a folder that another one names is not read: the project itself is not found in it
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return programs


@pytest.fixture
def run_installed(installed, tmp_path):
    """Run a program of that environment in an empty folder."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(program, *args, code=0):
        words = [str(installed / program), *map(str, args)]
        ran = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert ran.returncode == code, ran.stdout + ran.stderr
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
    assert "2 entries, no problems" in run_installed("seqdance", "check", "x/f.h5")


@pytest.mark.slow
def test_a_model_of_the_user_is_named(run_installed, tmp_path):
    (tmp_path / "model.py").write_text("")
    run_installed("seqdance", "train", "--help")  # the folder is not on its path
    for launcher, code in (([], 2), (["-m", "torch.distributed.run"], 1)):
        told = run_installed("python", *launcher, "-m", "seqdance", "train", code=code)
        assert f"({tmp_path / 'model.py'}) is not part of SeqDance" in told


@pytest.mark.slow
def test_source_distribution_is_whole(distributions):
    listed = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git repository")
    with tarfile.open(distributions[1]) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    missing = {name for name in listed.stdout.splitlines() if not re.fullmatch(BY_HAND, name)} - packed
    assert not missing
