"""Command `seqdance prepare-on-slurm`: run `seqdance prepare` on Dask workers in SLURM jobs.

    seqdance prepare-on-slurm --jobs 20 --cores 16 --memory 64GB --walltime 24:00:00 -- \\
        --source atlas --raw /project/atlas --out /project/features/atlas/features.h5

Run it on a login node (in tmux) or in a small job, with all paths on a shared file system. Jobs that end are replaced.
Rerun the same command to resume an interrupted run. Requires `pip install 'seqdance[slurm]'`.
"""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from shutil import which
from typing import Annotated, Any, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.command_line import parse, run_alone
from data_prepare.errors import require
from seqdance.commands.prepare import PrepareOptions, prepare_source
from seqdance.options import CommandOptions

# sizes that Dask and SLURM understand, from 0.01MB; dask_jobqueue takes no bytes
MEMORY: Final = re.compile(r"(?=\d*\.?\d?[1-9])\d+(\.\d+)? ?[MGTP]i?B?", re.IGNORECASE)
LAST_MINUTES: Final = 10  # the workers of a job end so long before it; another one makes their entries again


@dataclass(frozen=True, kw_only=True)
class SlurmOptions(CommandOptions):
    """SLURM jobs that run `seqdance prepare`. Its options follow after `--`."""

    jobs: Annotated[int, Field(ge=1)] = 10
    """Concurrent jobs."""
    cores: Annotated[int, Field(ge=1)] = 8
    """Cores per job; one worker per core."""
    memory: str = "32GB"
    """Memory per job, shared by its workers."""
    walltime: Annotated[str, Field(pattern=r"^(\d+-)?\d+:\d+:\d+$")] = "24:00:00"
    """Time limit per job, HH:MM:SS or D-HH:MM:SS, more than 10 minutes."""
    partition: str | None = None
    """Partition (queue)."""
    account: str | None = None
    """Account to charge."""
    prologue: tuple[str, ...] = ()
    """Shell lines that a job runs first, such as "module load python"."""
    interface: str | None = None
    """Network interface of this machine that the compute nodes reach, such as ib0. Default: that of its host name."""
    logs: str = "slurm_logs"
    """Folder for the log files of the jobs."""
    print_job: bool = False
    """Only print the job script."""

    def __post_init__(self) -> None:
        right = MEMORY.fullmatch(self.memory)
        require(right, f"--memory {self.memory}: a number and a unit, such as 64GB")
        require(self.minutes > LAST_MINUTES, f"--walltime {self.walltime}: expected more than {LAST_MINUTES} minutes")

    @property
    def minutes(self) -> int:
        """Time limit in minutes."""
        days, _, clock = self.walltime.rpartition("-")
        hours, minutes, _ = map(int, clock.split(":"))
        return (int(days or 0) * 24 + hours) * 60 + minutes

    def cluster(self) -> Any:
        """A Dask scheduler in this process with workers in SLURM jobs, dask_jobqueue.SLURMCluster."""
        on_interrupt = signal.getsignal(signal.SIGINT)
        from dask import config
        from dask.utils import parse_timedelta
        from dask_jobqueue import SLURMCluster

        signal.signal(signal.SIGINT, on_interrupt)  # that import makes Ctrl-C a success without a word

        class Jobs(SLURMCluster):
            """Also replaces a job of several workers that has ended: Dask looks for one with the name of a worker."""

            def _update_worker_status(self, op: str, address: str) -> None:
                if op == "remove":
                    job = _job_of(self.scheduler_info["workers"][address])
                    delay = parse_timedelta(config.get("distributed.deploy.lost-worker-timeout"))
                    asyncio.get_running_loop().call_later(delay, self._forget, job)
                super()._update_worker_status(op, address)

            def _forget(self, job: str) -> None:
                if job in self.workers and job not in map(_job_of, self.scheduler_info["workers"].values()):
                    self._futures.add(asyncio.ensure_future(self.workers.pop(job).close()))

        return Jobs(
            cores=self.cores,
            processes=self.cores,
            memory=self.memory,
            walltime=self.walltime,
            queue=self.partition,
            account=self.account,
            job_name="seqdance-prepare",
            log_directory=self.logs,
            job_script_prologue=list(self.prologue),
            worker_extra_args=["--lifetime", f"{self.minutes - LAST_MINUTES}m", "--no-dashboard"],
            # without it Dask shows its pages to the whole network
            scheduler_options={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            python=sys.executable,
            interface=self.interface,
        )

    @contextmanager
    def started(self) -> Iterator[str]:
        """Address of the scheduler, with its jobs submitted; InputError if SLURM would refuse them."""
        cluster = self.cluster()
        try:
            test = ["sbatch", "--test-only"]  # Dask would submit a refused job again and again
            tested = subprocess.run(test, input=cluster.job_script(), text=True, capture_output=True, check=False)
            remedy = "correct the options of the jobs (--print-job shows their script)"
            require(tested.returncode == 0, f"sbatch refuses the jobs: {tested.stderr.strip()}; {remedy}")
            cluster.adapt(minimum_jobs=self.jobs, maximum_jobs=self.jobs)
            yield cluster.scheduler_address
        finally:
            with suppress(Exception):  # the results are there, whatever SLURM said to its last jobs
                cluster.close()


def _job_of(worker: Mapping[str, Any]) -> str:
    """Name of the job of a worker JOB-NUMBER."""
    return str(worker["name"]).rpartition("-")[0]


def prepare_on_slurm(options: SlurmOptions, prepare: PrepareOptions) -> None:
    """Run `seqdance prepare` on jobs, which start after all checks and only if there are entries to make."""
    local = prepare.workers > 1 or prepare.scheduler
    require(not local, "--workers and --scheduler are of no use after --: the jobs have the workers; omit them")
    if options.print_job:
        prepare.entries()  # refuses a wrong list, too
        with options.cluster() as cluster:
            print(cluster.job_script())
        return
    # without it Dask would wait for its workers forever
    there = prepare.dry_run or which("sbatch")
    require(there, "sbatch is not on the PATH; run this on a login node of the cluster")
    prepare_source(prepare, options.started())


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    args = list(sys.argv[1:] if args is None else args)
    at = args.index("--") if "--" in args else len(args)
    options = parse(SlurmOptions, args[:at], description=__doc__)
    prepare = parse(PrepareOptions, args[at + 1 :])  # refuses wrong options before any job starts
    run_alone(lambda: prepare_on_slurm(options, prepare), prepare.out, options.debug)
