"""Each benchmark runs, in a tiny form."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
STRUCTURES = BENCHMARKS.parent / "data_prepare" / "examples" / "structures"
# script -> options of a tiny run, words of its report
TINY = {
    "pair_head.py": (
        "--lengths 24 --hidden 48 --layers 2 --heads 4 --repeats 1 --threads 1",
        ["L = 24", "extra memory, forward and backward (ours recomputed)"],
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
        "--preset demo --device cpu --lengths 24 32 --batches 2 1 --steps 1 --warm-up 1",
        ["| 24 | 2 | ours |", "| 32 | 1 | plain |", "- 32 tokens: plain / ours", "aten::"],
    ),
    "md_features.py": ("--frames 2 --repeats 1", ["2 frames", "ratio"]),
    "nma.py": (
        f"--structures {STRUCTURES / '1ubi_A.pdb.gz'} --threads 1 --repeats 1",
        ["1ubi_A.pdb.gz", "2 workers of 1 thread"],
    ),
    "prepare.py": (f"--raw {STRUCTURES} --limit 1 --workers 1", ["1 worker"]),
    "zero_shot.py": (
        "--preset demo --residues 6 --mutants 3 --repeats 1 --threads 1 --clock cpu",
        ["all     6 residues, batch 16", "residue 6 residues", "published loop", "ratio"],
    ),
    "store.py": ("--entries 2 --crops 2 --repeats 1", ["2 entries", "reads/s"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("script", TINY)
def test_runs(script: str) -> None:
    options, words = TINY[script]
    command = [sys.executable, str(BENCHMARKS / script), *options.split()]
    report = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert all(word in report for word in words), report


def test_every_benchmark_is_tried() -> None:
    assert {path.name for path in BENCHMARKS.glob("*.py")} - {"measure.py"} == set(TINY)
