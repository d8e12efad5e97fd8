"""Command `seqdance prepare-on-slurm`: starts SLURM jobs with Dask workers and runs `seqdance prepare` on them.

    seqdance prepare-on-slurm --jobs 20 --cores 16 --memory 64GB --walltime 24:00:00 -- \\
        --source atlas --raw /project/atlas --out /project/features/atlas/features.h5

Run it on a node that may submit jobs and stays up (in tmux, or as a small job of its own). What follows `--` are the
options of `seqdance prepare`. All paths must be on a file system that the jobs see. Jobs that end are replaced. Rerun
the same command to resume an interrupted run. Needs `pip install dask-jobqueue`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.command_line import Settings, parse
from data_prepare.errors import InputError, require, run_command
from seqdance.commands.prepare import PrepareOptions, prepare_source

if TYPE_CHECKING:
    from dask_jobqueue import SLURMCluster

LAST_MINUTES: Final = 10  # before the time limit of a job, its workers take no new entry


@dataclass(frozen=True, kw_only=True)
class SlurmOptions(Settings):
    """SLURM jobs that run `seqdance prepare`; its options follow after `--`."""

    jobs: Annotated[int, Field(ge=1)] = 10
    """Jobs at a time."""
    cores: Annotated[int, Field(ge=1)] = 8
    """Cores of a job; each is one worker."""
    memory: str = "32GB"
    """Memory of a job, divided among its workers."""
    walltime: Annotated[str, Field(pattern=r"^(\d+-)?\d+:\d+:\d+$")] = "24:00:00"
    """Time limit of a job, HH:MM:SS or D-HH:MM:SS, more than 10 minutes."""
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

    def __post_init__(self) -> None:
        require(self.minutes > LAST_MINUTES, f"--walltime {self.walltime}: expected more than {LAST_MINUTES} minutes")

    @property
    def minutes(self) -> int:
        """Minutes of the time limit."""
        days, _, clock = self.walltime.rpartition("-")
        hours, minutes, _ = map(int, clock.split(":"))
        return (int(days or 0) * 24 + hours) * 60 + minutes

    def cluster(self) -> SLURMCluster:
        """Scheduler in this process, whose workers are SLURM jobs."""
        try:
            from dask_jobqueue import SLURMCluster
        except ImportError:
            raise InputError("prepare-on-slurm: requires dask-jobqueue; pip install dask-jobqueue") from None
        return SLURMCluster(
            cores=self.cores,
            processes=self.cores,
            memory=self.memory,
            walltime=self.walltime,
            queue=self.partition,
            account=self.account,
            job_name="seqdance-prepare",
            log_directory=self.logs,
            job_script_prologue=list(self.prologue),
            worker_extra_args=["--lifetime", f"{self.minutes - LAST_MINUTES}m"],
            python=sys.executable,
        )


def prepare_on(options: SlurmOptions, prepare: PrepareOptions) -> None:
    """Start the jobs and run `seqdance prepare` on them."""
    with options.cluster() as cluster:
        if options.print_job:
            print(cluster.job_script())
            return
        cluster.adapt(minimum_jobs=options.jobs, maximum_jobs=options.jobs)
        prepare_source(replace(prepare, scheduler=cluster.scheduler_address))


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    args = list(sys.argv[1:] if args is None else args)
    at = args.index("--") if "--" in args else len(args)
    options = parse(SlurmOptions, args[:at], description=__doc__)
    prepare = parse(PrepareOptions, args[at + 1 :])  # refuses wrong options before any job starts
    run_command(lambda: prepare_on(options, prepare), options.debug)
