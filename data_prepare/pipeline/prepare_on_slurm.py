"""`seqdance prepare` on a SLURM cluster: starts jobs with Dask workers and hands them the entries.

    python data_prepare/pipeline/prepare_on_slurm.py --jobs 20 --cores 16 --memory 64GB --walltime 24:00:00 -- \\
        --source atlas --raw /project/atlas --out /project/features/atlas/features.h5

Run it on a node that may submit jobs and stays up (in tmux, or as a small job of its own). What follows `--` are the
options of `seqdance prepare`. All paths have to be on a file system that the jobs see. Jobs that end are replaced; if
this command is killed, the same line goes on where it stopped. Needs `pip install dask-jobqueue`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import tyro

from data_prepare.errors import InputError, run_command
from data_prepare.pipeline import prepare as pipeline

if TYPE_CHECKING:
    from dask_jobqueue import SLURMCluster

LAST_MINUTES: Final = 10  # before the time limit of a job, its workers take no new entry


@dataclass(frozen=True)
class SlurmConfig:
    """Jobs that make features."""

    jobs: int = 10
    """Jobs at a time."""
    cores: int = 8
    """Cores of a job; each is one worker."""
    memory: str = "32GB"
    """Memory of a job, shared out among its workers."""
    walltime: str = "24:00:00"
    """Time limit of a job, HH:MM:SS."""
    partition: str | None = None
    """Partition (queue)."""
    account: str | None = None
    """Account that is charged."""
    prologue: tuple[str, ...] = ()
    """Lines that a job runs first, e.g. "module load python"."""
    logs: str = "slurm_logs"
    """Folder of the jobs' output."""
    print_job: bool = False
    """Only print the job script."""
    debug: bool = False
    """Show the traceback of an error."""


def minutes(walltime: str) -> int:
    """Minutes of HH:MM:SS or D-HH:MM:SS."""
    days, _, clock = walltime.rpartition("-")
    try:
        hours, minute, _ = (int(part) for part in clock.split(":"))
        return (int(days or 0) * 24 + hours) * 60 + minute
    except ValueError:
        raise InputError(f"--walltime {walltime}: expected HH:MM:SS or D-HH:MM:SS") from None


def cluster_of(config: SlurmConfig) -> SLURMCluster:
    """Scheduler in this process, whose workers are SLURM jobs."""
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise InputError("prepare_on_slurm: dask-jobqueue is missing; pip install dask-jobqueue") from None
    lifetime = minutes(config.walltime) - LAST_MINUTES
    if lifetime < 1 or min(config.jobs, config.cores) < 1:
        raise InputError(f"--jobs and --cores are 1 or more, --walltime is more than {LAST_MINUTES} minutes")
    return SLURMCluster(
        cores=config.cores,
        processes=config.cores,
        memory=config.memory,
        walltime=config.walltime,
        queue=config.partition,
        account=config.account,
        job_name="seqdance-prepare",
        log_directory=config.logs,
        job_script_prologue=list(config.prologue),
        worker_extra_args=["--lifetime", f"{lifetime}m"],
        python=sys.executable,
    )


def run(config: SlurmConfig, prepare: Sequence[str]) -> None:
    """Start the jobs and run `seqdance prepare` on them."""
    with cluster_of(config) as cluster:
        if config.print_job:
            print(cluster.job_script())
            return
        cluster.adapt(minimum_jobs=config.jobs, maximum_jobs=config.jobs)
        pipeline.main([*prepare, "--scheduler", cluster.scheduler_address])


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    args = list(sys.argv[1:] if args is None else args)
    at = args.index("--") if "--" in args else len(args)
    config = tyro.cli(SlurmConfig, args=args[:at], description=__doc__)
    run_command(lambda: run(config, args[at + 1 :]), config.debug)


if __name__ == "__main__":
    main()
