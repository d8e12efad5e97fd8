"""The jobs that a SLURM cluster would get; no SLURM is needed to write their script."""

from __future__ import annotations

import pytest

from data_prepare.errors import InputError
from data_prepare.pipeline import prepare as pipeline
from data_prepare.pipeline.prepare_on_slurm import SlurmConfig, main, minutes

pytest.importorskip("dask_jobqueue")


def test_minutes():
    assert minutes("24:00:00") == 1440
    assert minutes("2-01:30:00") == 2970
    with pytest.raises(InputError, match="--walltime soon"):
        minutes("soon")


def test_job_script(tmp_path, monkeypatch, capsys):
    """Cores, memory and time of the options; a worker a core, which stops taking entries before the time is over."""
    monkeypatch.chdir(tmp_path)
    options = ["--cores", "16", "--memory", "64GB", "--walltime", "12:00:00", "--partition", "cpu", "--account", "lab"]
    main([*options, "--prologue", "module load python", "--print-job", "--", "--source", "atlas"])
    script = capsys.readouterr().out
    for part in ("#SBATCH -p cpu", "#SBATCH -A lab", "--cpus-per-task=16", "--mem=60G", "-t 12:00:00"):
        assert part in script
    assert "module load python" in script
    assert "--nthreads 1 " in script
    assert "--nworkers 16 " in script
    assert "--lifetime 710m" in script


def test_what_follows_is_for_prepare(tmp_path, monkeypatch):
    """`seqdance prepare` gets its own options and the address of the scheduler."""
    monkeypatch.chdir(tmp_path)
    given = []
    monkeypatch.setattr(pipeline, "main", given.extend)
    monkeypatch.setattr("dask_jobqueue.SLURMCluster.adapt", lambda *_, **__: None)
    main(["--jobs", "3", "--", "--source", "atlas", "--raw", "r"])
    assert given[:4] == ["--source", "atlas", "--raw", "r"]
    assert given[4] == "--scheduler"
    assert given[5].startswith("tcp://")


def test_wrong_options(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--walltime", "00:05:00", "--print-job"])
    assert left.value.code == 2
    assert "--walltime is more than 10 minutes" in capsys.readouterr().err
    assert SlurmConfig().jobs == 10
