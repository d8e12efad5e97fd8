"""Each benchmark runs, in a tiny form."""

import importlib
import shutil
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
STRUCTURES = BENCHMARKS.parent / "data_prepare" / "examples" / "structures"
# script -> options of a tiny run, words of its report
TINY = {
    "pair_head.py": (
        "--lengths 24 --hidden 48 --layers 2 --heads 4 --repeats 1 --threads 1",
        ["L = 24", "extra memory, forward and backward"],
    ),
    "train_step.py": (
        "--preset demo --length 24 --inference-length 32 --repeats 1 --threads 1 --clock cpu",
        ["training step, L = 24", "its peak memory", "residue properties only, L = 32"],
    ),
    "dyna1.py": (
        "--parts onehot --lengths 24 --threads 1 --repeats 1",
        ["classifier on letters: weights", "time, L = 24", "extra memory, L = 24"],
    ),
    "gpu.py": (
        "--preset demo --device cpu --forms eager plain --processes 1 --updates 1 --warm-up 0 --entries 2 "
        "--residues 20 70",
        [
            "| 64 x 4 x 1 | eager | store |",
            "| 128 x 2 x 2 | plain | memory |",
            "- plain: ",
            " hours for",
            "bf16 without the kernels",
            "aten::",
        ],
    ),
    "launches.py": ("--stages 16x1", ["16x1", "group by group", "three groups together", "launches"]),
    "padding.py": ("", ["| 256 | 32 x 1 |", "| 1024 | 2 x 16 |"]),
    "loader.py": (
        "--entries 2 --updates 1 --timing.repeats 1",
        ["256 tokens, update", "1024 tokens, Proteinflow", "in format 1", "MB  ratio"],
    ),
    "md_features.py": ("--frames 2 --repeats 1", ["2 frames", "ratio"]),
    "nma.py": (
        "--structures {folder}/1ubi_A.pdb.gz --many {folder} --threads 1 --repeats 1",
        ["1ubi_A.pdb.gz", "1 structures: 2 workers of 1 thread"],
    ),
    "prepare.py": ("--raw {folder} --workers 1", ["1 worker"]),
    "zero_shot.py": (
        "--preset demo --residues 6 --mutants 3 --repeats 1 --threads 1 --clock cpu",
        ["all     6 residues, batch 16", "residue 6 residues", "published loop", "ratio"],
    ),
    "scale.py": ("--entries 12 24", ["24 entries", "resume", "x time per entry"]),
    "store.py": ("--entries 2 --crops 2 --repeats 1", ["2 entries", "reads/s"]),
}


LONG = ("gpu.py", "launches.py", "loader.py", "pair_head.py", "scale.py")


@pytest.mark.parametrize(
    "script", [pytest.param(name, marks=pytest.mark.long if name in LONG else pytest.mark.slow) for name in TINY]
)
def test_runs(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    options, words = TINY[script]
    shutil.copy(STRUCTURES / "1ubi_A.pdb.gz", tmp_path)
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(sys, "argv", [script, *options.format(folder=tmp_path).split()])
    importlib.import_module(Path(script).stem).main()
    report = capsys.readouterr().out
    assert all(word in report for word in words), report


def test_every_benchmark_is_tried() -> None:
    assert {path.name for path in BENCHMARKS.glob("*.py")} - {"measure.py"} == set(TINY)
