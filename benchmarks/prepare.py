"""`seqdance prepare` with two worker processes against one, and whether both stores hold the same bytes.

    python benchmarks/prepare.py [--raw FOLDER] [--limit 100]

Structures below a folder, by default the reference structures if they are there, else the examples. Run it on two idle
cores. Starting the workers is part of the time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import h5py
import tyro

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT.parent / "shared" / "data" / "structures"
EXAMPLES = ROOT / "data_prepare" / "examples" / "structures"


@dataclass(frozen=True)
class Arguments:
    """What to measure."""

    raw: Path = REFERENCE if REFERENCE.is_dir() else EXAMPLES
    """Folder of structures."""
    limit: int | None = None
    """Use only the first ones."""
    workers: tuple[int, ...] = (1, 2)
    """Numbers of worker processes; the first one is the reference."""


def seconds(arguments: Arguments, workers: int, store: Path) -> float:
    """Wall time of one run."""
    command = [sys.executable, "-m", "seqdance.cli", "prepare", "--source", "structures", "--raw", str(arguments.raw)]
    command += ["--out", str(store), "--workers", str(workers)]
    command += ["--limit", str(arguments.limit)] if arguments.limit else []
    start = time.perf_counter()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PATH": ""}  # no mmseqs: it is not what is measured
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    if finished.returncode not in (0, 1):  # 1: some structures have no features, which is fine
        raise SystemExit(finished.stderr)
    return time.perf_counter() - start


def contents(store: Path) -> dict[str, bytes]:
    """Numbers of every dataset."""
    with h5py.File(store) as file:
        return {name: dataset[()].tobytes() for name, dataset in file.items()}


def main() -> None:
    """Measure and print."""
    arguments = tyro.cli(Arguments, description=__doc__)
    reference: tuple[float, Path] | None = None
    with tempfile.TemporaryDirectory() as folder:
        for workers in arguments.workers:
            store = Path(folder, str(workers), "features.h5")
            took = seconds(arguments, workers, store)
            reference = reference or (took, store)
            entries = len(list(store.with_suffix(".entries").glob("*.h5")))
            same = "the same bytes" if contents(store) == contents(reference[1]) else "OTHER BYTES"
            print(f"{workers} workers: {entries} entries, {took:.1f} s, {took / reference[0]:.2f} of the first; {same}")


if __name__ == "__main__":
    main()
