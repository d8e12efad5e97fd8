"""Each benchmark runs, in a tiny form."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
STRUCTURES = BENCHMARKS.parent / "data_prepare" / "examples" / "structures"
DEMO = ["--preset", "demo"]
TINY = {
    "pair_head.py": "--lengths 24 --hidden 48 --layers 2 --heads 4 --repeats 1 --threads 1".split(),
    "train_step.py": [*DEMO, *"--length 24 --inference-length 32 --repeats 1 --threads 1 --clock cpu".split()],
    "dyna1.py": "--parts onehot --lengths 24 --threads 1 --repeats 1".split(),
    "gpu.py": [*DEMO, *"--device cpu --lengths 24 32 --batches 2 1 --steps 1 --warm-up 1".split()],
    "md_features.py": "--frames 2 --repeats 1".split(),
    "nma.py": f"--structures {STRUCTURES / '1ubi_A.pdb.gz'} --threads 1 --repeats 1".split(),
    "prepare.py": f"--raw {STRUCTURES} --limit 1 --workers 1".split(),
    "zero_shot.py": [*DEMO, *"--residues 6 --mutants 3 --repeats 1 --threads 1 --clock cpu".split()],
    "store.py": "--entries 2 --crops 2 --repeats 1".split(),
}
WORDS = {
    "pair_head.py": ("L = 24", "extra memory, forward and backward (ours recomputed)"),
    "train_step.py": ("training step, L = 24", "its peak memory", "residue properties only, L = 32"),
    "dyna1.py": ("classifier on letters: weights", "time, L = 24", "extra memory, L = 24"),
    "gpu.py": ("| 24 | 2 | ours |", "| 32 | 1 | plain |", "- 32 tokens: plain / ours", "aten::"),
    "md_features.py": ("2 frames", "ratio"),
    "nma.py": ("1ubi_A.pdb.gz", "2 workers of 1 thread"),
    "prepare.py": ("1 worker",),
    "zero_shot.py": ("all     6 residues, batch 16", "residue 6 residues", "published loop", "ratio"),
    "store.py": ("2 entries", "reads/s"),
}


def run(script: str, arguments: list[str]) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.mark.slow
@pytest.mark.parametrize("script", TINY)
def test_runs(script: str) -> None:
    report = run(script, TINY[script])
    for words in WORDS[script]:
        assert words in report


def test_every_benchmark_is_tried() -> None:
    assert {path.name for path in BENCHMARKS.glob("*.py")} - {"measure.py"} == set(TINY)
