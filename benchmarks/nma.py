"""Normal mode features against ProDy's route to the same numbers, and two workers of one thread against one of two.

    python benchmarks/nma.py [--structures A B] [--many FOLDER] [--threads 1 2] [--repeats 5]

Ours: both networks, all modes, mean square fluctuations and correlations of three groups of modes. ProDy:
`buildKirchhoff` and `buildHessian` with the same springs, `calcModes` of all modes, `calcSqFlucts` and `calcCovariance`
of the same groups. Runs of both take turns; medians of the times and of the ratios of neighbouring runs.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np
import prody
import scipy.linalg
import tyro
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from data_prepare.normal_mode_analysis.elastic_network import FORCE_CONSTANTS, mode_groups
from data_prepare.normal_mode_analysis.features import NMAFeatures, c_alpha_trace, nma_features
from data_prepare.structure.readers import read_structure

EXAMPLES: Final = Path(__file__).resolve().parents[1] / "data_prepare" / "examples" / "structures"
PRODY_FILES: Final = Path(prody.__file__).parent / "tests" / "datafiles"  # installed with ProDy
CUTOFF: Final = 15.0  # Angstrom


@dataclass(frozen=True)
class Arguments:
    """What to measure."""

    structures: tuple[Path, ...] = (PRODY_FILES / "pdb3enl.pdb", PRODY_FILES / "pdb3hsy.pdb")
    """Structures for the comparison with ProDy: enolase (436 C-alpha), a glutamate receptor (730)."""
    many: Path = EXAMPLES
    """Folder of the structures for the comparison of workers."""
    threads: tuple[int, ...] = (1, 2)
    """Numbers of BLAS threads for the comparison with ProDy."""
    repeats: int = 5
    """Runs of each; the median counts."""


class Springs(prody.Gamma):
    """The force constants in the form that ProDy takes."""

    def gamma(self, dist2: float, i: int, j: int) -> float:
        """Force constant at a squared distance (Angstrom^2)."""
        return next((constant for distance, constant in FORCE_CONSTANTS if dist2 <= distance**2), 0.0)


def positions(path: Path) -> NDArray[np.float64]:
    """C-alpha positions (N, 3) in Angstrom."""
    return c_alpha_trace(*read_structure(path))[1]


def prody_features(xyz: NDArray) -> NMAFeatures:
    """The same features by ProDy's calls."""
    n = len(xyz)
    gnm, anm = prody.GNM(), prody.ANM()
    gnm.buildKirchhoff(xyz, cutoff=CUTOFF, gamma=Springs())
    gnm.calcModes(None)
    anm.buildHessian(xyz, cutoff=CUTOFF, gamma=Springs())
    anm.calcModes(None)
    msf, cor = np.zeros((3, n)), np.zeros((3, n, n))
    for k, group in enumerate(mode_groups(gnm.getEigvals())):
        msf[k] = prody.calcSqFlucts(gnm[group])
    for k, group in enumerate(mode_groups(anm.getEigvals())):
        covariance = prody.calcCovariance(anm[group]).reshape(n, 3, n, 3).trace(axis1=1, axis2=3)  # (N, N)
        deviation = np.sqrt(np.diag(covariance))
        cor[k] = covariance / np.outer(deviation, deviation)
    return NMAFeatures(msf, cor)


def timed(action: Callable[[], NMAFeatures]) -> tuple[float, float, NMAFeatures]:
    """Seconds of a call, seconds of it inside the eigensolver, and its result."""
    inside = 0.0
    solver = scipy.linalg.eigh

    def measured(*args: Any, **options: Any) -> Any:
        nonlocal inside
        start = time.perf_counter()
        result = solver(*args, **options)
        inside += time.perf_counter() - start
        return result

    with mock.patch.object(scipy.linalg, "eigh", measured):
        start = time.perf_counter()
        result = action()
        return time.perf_counter() - start, inside, result


def against_prody(path: Path, threads: int, repeats: int) -> str:
    """One line of the table."""
    xyz = positions(path)
    ours, theirs = [], []
    with threadpool_limits(threads):
        for _ in range(repeats):
            ours.append(timed(lambda: nma_features(xyz)))
            theirs.append(timed(lambda: prody_features(xyz)))
    ours_s, theirs_s = (statistics.median(run[0] for run in runs) for runs in (ours, theirs))
    ratio = statistics.median(their[0] / our[0] for our, their in zip(ours, theirs, strict=True))
    share = statistics.median(run[1] / run[0] for run in ours)
    pairs = zip(ours[0][2], theirs[0][2], strict=True)
    difference = max(float(np.abs(our - their).max()) for our, their in pairs)
    return (
        f"{path.name:14} {len(xyz):8} {threads:7} {ours_s:8.2f} s {theirs_s:8.2f} s {ratio:7.2f} "
        f"{share:10.0%} {difference:12.1e}"
    )


def limit_threads(threads: int) -> None:
    """Limit the BLAS threads of a worker process for its lifetime."""
    threadpool_limits(threads)


def features_of_file(path: Path) -> int:
    """Number of residues whose features were made."""
    return nma_features(positions(path)).gnm_msf.shape[1]


def seconds_of_many(pool: ProcessPoolExecutor, paths: list[Path]) -> float:
    """Wall time of the features of all files."""
    start = time.perf_counter()
    list(pool.map(features_of_file, paths))
    return time.perf_counter() - start


def workers_against_threads(paths: list[Path], repeats: int) -> str:
    """One line: two worker processes of one thread, one of two."""
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(2, context, limit_threads, (1,)) as two,
        ProcessPoolExecutor(1, context, limit_threads, (2,)) as one,
    ):
        for pool in (two, one):
            seconds_of_many(pool, paths)  # starts the workers
        runs = [(seconds_of_many(two, paths), seconds_of_many(one, paths)) for _ in range(repeats)]
    two_s, one_s = (statistics.median(times) for times in zip(*runs, strict=True))
    ratio = statistics.median(one / two for two, one in runs)
    return (
        f"{len(paths)} structures: 2 workers of 1 thread {two_s:.2f} s, 1 worker of 2 threads {one_s:.2f} s, "
        f"ratio {ratio:.2f}"
    )


def main() -> None:
    """Measure and print."""
    arguments = tyro.cli(Arguments, description=__doc__)
    prody.confProDy(verbosity="none")
    print("structure      residues threads       ours      ProDy   ratio in solver   difference")
    for path in arguments.structures:
        for threads in arguments.threads:
            print(against_prody(path, threads, arguments.repeats), flush=True)
    paths = sorted(path for path in arguments.many.iterdir() if path.is_file())
    print(workers_against_threads(paths, arguments.repeats))


if __name__ == "__main__":
    main()
