"""All features of a trajectory against the MDTraj calls that give a part of them.

    python benchmarks/md_features.py [--topology T --trajectory X] [--frames 100] [--repeats 5]

Ours: contacts of all nine types, SASA, DSSP, dihedrals, RMSF, displacement correlation. MDTraj: `shrake_rupley`,
`compute_dssp`, `compute_chi1/phi/psi`, `rmsf` of the same frames in memory. One core, both in one run, medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mdtraj
import tyro
from threadpoolctl import threadpool_limits

from data_prepare.molecular_dynamics.features import md_features
from data_prepare.molecular_dynamics.trajectory import chunk_of_angstrom
from data_prepare.structure import read_topology

EXAMPLES = Path(__file__).resolve().parents[1] / "data_prepare" / "examples" / "trajectories"


@dataclass(frozen=True)
class Arguments:
    """What to measure."""

    topology: Path = EXAMPLES / "1v6p.pdb"
    """Structure with hydrogens."""
    trajectory: Path = EXAMPLES / "1v6p.xtc"
    """Its trajectory."""
    frames: int = 60
    """Use at most so many frames."""
    repeats: int = 5
    """Runs of each; the median counts."""


def seconds(action: Callable[[], object], repeats: int) -> float:
    """Median wall time."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def plain(frames: mdtraj.Trajectory) -> None:
    """MDTraj's part."""
    mdtraj.shrake_rupley(frames, mode="residue")
    mdtraj.compute_dssp(frames, simplified=False)
    for compute in (mdtraj.compute_chi1, mdtraj.compute_phi, mdtraj.compute_psi):
        compute(frames)
    mdtraj.rmsf(frames, frames, 0, atom_indices=frames.topology.select("name CA"), parallel=False)


def main() -> None:
    """Measure and print."""
    arguments = tyro.cli(Arguments, description=__doc__)
    topology = read_topology(arguments.topology)
    frames = mdtraj.load(str(arguments.trajectory), top=str(arguments.topology))[: arguments.frames]
    chunk = chunk_of_angstrom(frames.xyz * 10)
    with threadpool_limits(1):
        md_features(topology, [chunk])  # compiles
        ours = seconds(lambda: md_features(topology, [chunk]), arguments.repeats)
        theirs = seconds(lambda: plain(frames), arguments.repeats)
    n = len(frames)
    print(f"{arguments.trajectory.name}: {n} frames, {topology.num_atoms} atoms, {topology.num_residues} residues")
    print(f"ours   {1e3 * ours / n:8.2f} ms/frame (everything)")
    print(f"MDTraj {1e3 * theirs / n:8.2f} ms/frame (SASA, DSSP, dihedrals, RMSF)")
    print(f"ratio  {theirs / ours:8.2f}")


if __name__ == "__main__":
    main()
