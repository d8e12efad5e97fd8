"""The jobs that a SLURM cluster would get; no SLURM is needed to write their script."""

from __future__ import annotations

import pytest
from refusals import command_refused

from seqdance.commands import prepare_on_slurm
from seqdance.commands.prepare_on_slurm import SlurmOptions, main

PREPARE = ["--", "--source", "atlas", "--raw", "r", "--out", "o/f.h5"]


def test_walltime():
    assert SlurmOptions(walltime="24:00:00").minutes == 1440
    assert SlurmOptions(walltime="2-01:30:00").minutes == 2970


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--walltime", "soon", *PREPARE], "--walltime soon"),
        (["--walltime", "00:10:00", *PREPARE], "--walltime 00:10:00"),
        (["--jobs", "0", *PREPARE], "--jobs 0"),
        ([*PREPARE, "--seed", "-1"], "--seed -1"),
        ([*PREPARE[:3], "--out", "f.h5"], "--raw"),
    ],
)
def test_wrong_options(capsys, monkeypatch, words, named):
    """Those of `seqdance prepare`, too, are refused before a job starts."""
    monkeypatch.setattr(SlurmOptions, "cluster", lambda self: pytest.fail("started"))
    command_refused(main, words, capsys, named)


def test_job_script(tmp_path, monkeypatch, capsys):
    """Cores, memory and time of the options; a worker a core, which stops taking entries before the time is over."""
    pytest.importorskip("dask_jobqueue")
    monkeypatch.chdir(tmp_path)
    options = ["--cores", "16", "--memory", "64GB", "--walltime", "12:00:00", "--partition", "cpu", "--account", "lab"]
    main([*options, "--prologue", "module load python", "--print-job", *PREPARE])
    script = capsys.readouterr().out
    for part in ("#SBATCH -p cpu", "#SBATCH -A lab", "--cpus-per-task=16", "--mem=60G", "-t 12:00:00"):
        assert part in script
    assert "module load python" in script
    assert "--nthreads 1 " in script
    assert "--nworkers 16 " in script
    assert "--lifetime 710m" in script


def test_what_follows_is_for_prepare(tmp_path, monkeypatch):
    """`seqdance prepare` gets its own options and the address of the scheduler."""
    pytest.importorskip("dask_jobqueue")
    monkeypatch.chdir(tmp_path)
    given = []
    monkeypatch.setattr(prepare_on_slurm, "prepare_source", given.append)
    monkeypatch.setattr("dask_jobqueue.SLURMCluster.adapt", lambda *_, **__: None)
    main(["--jobs", "3", *PREPARE])
    (options,) = given
    assert (options.source, str(options.raw), str(options.out)) == ("atlas", "r", "o/f.h5")
    assert options.scheduler.startswith("tcp://")
