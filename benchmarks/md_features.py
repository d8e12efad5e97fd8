"""All features of a trajectory against the MDTraj calls that give a part of them, and the memory they need.

    python benchmarks/md_features.py [--topology T --trajectory X] [--frames 100] [--repeats 3]
    python benchmarks/md_features.py --memory-frames 20000
    python benchmarks/md_features.py --memory-residues 3000

Ours: contacts of all nine types, SASA, DSSP, dihedrals, RMSF, displacement correlation. MDTraj: `shrake_rupley`,
`compute_dssp`, `compute_chi1/phi/psi`, `rmsf`. The same frames, in memory, one core, both in one run, medians. Also the
time of the check whether the frames fit the topology.

With --memory-frames the trajectory is repeated in a file until it has so many frames, and the peak resident memory of
a process of its own is measured that reads the file and makes the features; also of a tenth of the frames.

With --memory-residues so many copies of the protein as give that number stand side by side, and the growth of the peak
is measured while an entry of a store is made of four frames of them; also for half the residues.
"""

from __future__ import annotations

import itertools
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mdtraj
import numpy as np
import tyro
from measure import in_child, peak_growth
from threadpoolctl import threadpool_limits

from data_prepare.molecular_dynamics.features.md_features import md_features
from data_prepare.molecular_dynamics.frames.frame_range import FrameRange
from data_prepare.molecular_dynamics.frames.trajectory import FrameCheck, read_chunks
from data_prepare.pipeline.extraction import Task, make_entry
from data_prepare.properties import FEATURES
from data_prepare.sources.entry import Selection
from data_prepare.sources.trajectories import entries
from data_prepare.structure.readers import read_topology

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "data_prepare" / "examples" / "trajectories" / "1v6p.pdb"
UBIQUITIN = ROOT.parent / "shared" / "data" / "trajectories" / "ubq.pdb"


@dataclass(frozen=True)
class Arguments:
    """What to measure."""

    topology: Path | None = None
    """Structure with hydrogens; by default ubiquitin if its trajectory is beside the project, else cobrotoxin."""
    trajectory: Path | None = None
    """Its trajectory."""
    frames: int | None = None
    """Use at most so many frames."""
    repeats: int = 3
    """Runs of each; the median counts."""
    memory_frames: int | None = None
    """Measure the peak memory with so many frames, instead of times."""
    memory_residues: int | None = None
    """Measure the peak memory of an entry with so many residues, instead of times."""
    only_features: bool = False
    """Make the features of the trajectory once and print the peak memory of this process in MB."""

    def files(self) -> tuple[Path, Path]:
        """Topology and trajectory."""
        if self.topology is not None and self.trajectory is not None:
            return self.topology, self.trajectory
        if UBIQUITIN.is_file():
            return UBIQUITIN, UBIQUITIN.with_name("ubq_1ns.xtc")
        return EXAMPLE, EXAMPLE.with_suffix(".xtc")


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


def compare(arguments: Arguments) -> None:
    """Time both and print the ratio."""
    topology_path, trajectory_path = arguments.files()
    topology = read_topology(topology_path)
    end = None if arguments.frames is None else arguments.frames - 1
    chunks = list(read_chunks(topology, trajectory_path, FrameRange(end=end)))
    frames = mdtraj.load(str(trajectory_path), top=str(topology_path))[: arguments.frames]
    with threadpool_limits(1):
        md_features(topology, [chunks[0]])  # compiles
        ours = seconds(lambda: md_features(topology, chunks), arguments.repeats)
        theirs = seconds(lambda: plain(frames), arguments.repeats)
        stored = [(chunk, None) for chunk in chunks]
        check = seconds(lambda: list(FrameCheck(topology, "").sound(stored)), arguments.repeats)
    n = len(frames)
    print(f"{trajectory_path.name}: {n} frames, {topology.num_atoms} atoms, {topology.num_residues} residues")
    print(f"ours   {1e3 * ours / n:8.2f} ms/frame (everything)")
    print(f"MDTraj {1e3 * theirs / n:8.2f} ms/frame (SASA, DSSP, dihedrals, RMSF)")
    print(f"ratio  {theirs / ours:8.2f}")
    print(f"check  {1e3 * check / n:8.3f} ms/frame, {check / ours:.1%} of ours (whether frames fit the topology)")


def only_features(arguments: Arguments) -> None:
    """Print the peak memory of this process in MB after it has read the trajectory and made the features."""
    topology_path, trajectory_path = arguments.files()
    with threadpool_limits(1):
        md_features(read_topology(topology_path), trajectory_path)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def memory(arguments: Arguments, number: int) -> None:
    """Print the peak memory with a number of frames and with a tenth of it."""
    topology_path, trajectory_path = arguments.files()
    frames = mdtraj.load(str(trajectory_path), top=str(topology_path))
    topology = read_topology(topology_path)
    md_features(topology, [next(read_chunks(topology, trajectory_path))])  # a compiler needs memory, too
    for count in (number // 10, number):
        with tempfile.TemporaryDirectory() as folder:
            tiled = Path(folder) / "tiled.xtc"
            with mdtraj.formats.XTCTrajectoryFile(str(tiled), "w") as file:
                for frame in itertools.islice(itertools.cycle(frames.xyz), count):
                    file.write(frame[None])
            command = [sys.executable, __file__, "--only-features"]
            files = ["--topology", str(topology_path), "--trajectory", str(tiled)]
            run = subprocess.run([*command, *files], check=True, capture_output=True, text=True)
        print(f"{trajectory_path.name}, {count} frames: peak {float(run.stdout):.0f} MB", flush=True)


def entry_memory(arguments: Arguments, residues: int) -> None:
    """Print the peak memory of an entry with a number of residues and with half of it."""
    topology_path, trajectory_path = arguments.files()
    one = mdtraj.load(str(trajectory_path), top=str(topology_path))[:4]
    for number in (residues // 2, residues):
        several, copies = one, math.ceil(number / one.n_residues)
        for copy in range(1, copies):
            moved = mdtraj.Trajectory(
                one.xyz + np.array([8.0 * (copy % 8), 8.0 * (copy // 8), 0.0]), one.topology
            )  # nm
            several = several.stack(moved)
        several.unitcell_lengths = several.unitcell_angles = None
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            several[0].save(str(folder / "x.pdb"))
            several.save(str(folder / "x.xtc"))
            grown = in_child(_growth, folder)
        pairs = (copies * one.n_residues) ** 2
        print(f"{copies * one.n_residues} residues: peak + {grown:.0f} MB, {grown * 2**20 / pairs:.0f} B per pair")


def _growth(folder: Path) -> float:
    small = next(entry for entry in entries(EXAMPLE.parent) if entry.name == EXAMPLE.stem)
    reasons = [
        make_entry(Task(small, Selection(), FEATURES, "float32", folder / "x.h5"))
    ]  # a compiler needs memory, too
    (entry,) = entries(folder)
    with threadpool_limits(1):
        task = Task(entry, Selection(), FEATURES, "float32", folder / "x.h5")
        grown = peak_growth(lambda: reasons.append(make_entry(task)))
    if any(reasons):
        raise SystemExit(str(reasons))
    return grown


def main() -> None:
    """Measure and print."""
    arguments = tyro.cli(Arguments, description=__doc__)
    if arguments.only_features:
        only_features(arguments)
    elif arguments.memory_residues is not None:
        entry_memory(arguments, arguments.memory_residues)
    elif arguments.memory_frames is not None:
        memory(arguments, arguments.memory_frames)
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
