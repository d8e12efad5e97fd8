"""The jobs that a SLURM cluster would get; no SLURM is needed to write their script."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from threading import Timer

import pytest
from refusals import command_refused

from data_prepare.errors import INTERRUPTED
from data_prepare.resume import sole_run
from seqdance.commands import prepare_on_slurm
from seqdance.commands.prepare_on_slurm import SlurmOptions, main

PREPARE = ["--", "--manifest", "m.csv", "--out", "o/f.h5"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with a manifest of a structure that nothing reads."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prepare_on_slurm, "which", lambda name: f"/usr/bin/{name}")
    (tmp_path / "s.pdb").touch()
    (tmp_path / "m.csv").write_text("name,source,label,topology,trajectory\ns,Proteinflow,train,s.pdb,\n")
    return tmp_path


@pytest.fixture
def sbatch(folder, monkeypatch):
    """An `sbatch` on the PATH that answers with a line and an exit code."""

    def answer(line: str, code: int) -> None:
        program = folder / "bin" / "sbatch"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\ncat > script.sh\necho $* > words\necho '{line}' >&2\nexit {code}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)

    return answer


@pytest.fixture
def no_cluster(monkeypatch):
    monkeypatch.setattr(SlurmOptions, "cluster", lambda self: pytest.fail("started"))


def test_walltime():
    assert SlurmOptions(walltime="24:00:00").minutes == 1440
    assert SlurmOptions(walltime="2-01:30:00").minutes == 2970


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--walltime", "soon", *PREPARE], "--walltime soon"),
        (["--walltime", "00:10:00", *PREPARE], "--walltime 00:10:00"),
        (["--jobs", "0", *PREPARE], "--jobs 0"),
        (["--memory", "lots", *PREPARE], "--memory lots: a number and a unit, such as 64GB"),
        (["--memory", "64", *PREPARE], "--memory 64: a number"),
        (["--memory", "0GB", *PREPARE], "--memory 0GB"),
        ([*PREPARE, "--seed", "-1"], "--seed -1"),
        ([*PREPARE, "--workers", "4"], "--workers"),
        ([*PREPARE, "--scheduler", "tcp://host:8786"], "--scheduler"),
        ([*PREPARE[:3], "--source", "atlas", "--out", "f.h5"], "--raw"),
        (["--", "--manifest", "none.csv", "--out", "f.h5"], "none.csv"),
        (["--print-job", "--", "--manifest", "none.csv", "--out", "f.h5"], "none.csv"),
        (["--", "--manifest", "bad.csv", "--out", "f.h5"], "bad.csv: line 2, entry s: unknown label wrong"),
        ([*PREPARE, "--clusters", "c.tsv"], "no entry is a member"),
    ],
)
def test_wrong_options(capsys, folder, no_cluster, words, named):
    """Those of `seqdance prepare` and its entries, too, are refused before a job starts."""
    (folder / "bad.csv").write_text((folder / "m.csv").read_text().replace("train", "wrong"))
    (folder / "c.tsv").write_text("other\tother\n")
    command_refused(main, words, capsys, named)


def test_without_slurm(capsys, monkeypatch, no_cluster):
    """One line; Dask would wait for workers forever."""
    monkeypatch.setattr(prepare_on_slurm, "which", lambda _: None)
    command_refused(main, PREPARE, capsys, "sbatch is not on the PATH")


def test_dry_run(capsys, monkeypatch, folder, no_cluster):
    """Lists the entries and starts nothing, also without SLURM."""
    monkeypatch.setattr(prepare_on_slurm, "which", lambda _: None)
    main(["--jobs", "3", *PREPARE, "--dry-run"])
    assert "entries: 1, made already: 0, to make: 1" in capsys.readouterr().out
    assert not (folder / "o").exists()


@pytest.mark.parametrize("memory", ["64GB", "0.5 tb", "100G", "0.01MB", "64GiB"])
def test_sizes_of_memory(memory):
    """What is accepted becomes a line of the job script."""
    pytest.importorskip("dask_jobqueue")
    with SlurmOptions(memory=memory, cores=1).cluster() as cluster:
        assert "#SBATCH --mem=" in cluster.job_script()


def test_job_script(monkeypatch, capsys):
    """Cores, memory and time of the options; a worker a core, which stops taking entries before the time is over."""
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setattr(prepare_on_slurm, "which", lambda _: None)
    monkeypatch.setattr("dask_jobqueue.SLURMCluster.adapt", lambda *_, **__: pytest.fail("submitted"))
    options = ["--cores", "16", "--memory", "64GB", "--walltime", "12:00:00", "--partition", "cpu", "--account", "lab"]
    main([*options, "--prologue", "module load python", "--print-job", *PREPARE])
    script = capsys.readouterr().out
    for part in ("#SBATCH -p cpu", "#SBATCH -A lab", "--cpus-per-task=16", "--mem=60G", "-t 12:00:00"):
        assert part in script
    assert "module load python" in script
    assert "--nthreads 1 " in script
    assert "--nworkers 16 " in script
    assert "--lifetime 710m" in script


SBATCH = """#!/bin/sh
for last; do :; done
echo $$ >> submitted
cp "$last" job$$.sh
setsid sh job$$.sh > log$$ 2>&1 < /dev/null &
echo $! >> running
echo Submitted batch job $!
"""


@pytest.mark.slow
@pytest.mark.parametrize("cores", [pytest.param(1, marks=pytest.mark.long), 2])
def test_a_job_that_ends_is_replaced(folder, monkeypatch, cores: int) -> None:
    """Jobs are processes of this machine here."""
    pytest.importorskip("dask_jobqueue")
    from dask import config
    from distributed import Client

    (folder / "bin").mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", "#!/bin/sh\n")):
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder / "bin"), prepend=os.pathsep)
    running = folder / "running"
    try:
        with (
            config.set({"distributed.deploy.lost-worker-timeout": "500ms"}),
            SlurmOptions(cores=cores, memory="2GB").cluster() as cluster,
            Client(cluster) as client,
        ):
            cluster.adapt(minimum_jobs=1, maximum_jobs=1, interval="500ms")
            client.wait_for_workers(cores, timeout=60)
            os.killpg(int(running.read_text()), signal.SIGKILL)
            stop = time.monotonic() + 60
            while len(running.read_text().split()) < 2 and time.monotonic() < stop:
                time.sleep(0.2)
            client.wait_for_workers(cores, timeout=60)
            assert client.submit(lambda: 7).result(timeout=60) == 7
    finally:
        for job in running.read_text().split():
            with suppress(ProcessLookupError):
                os.killpg(int(job), signal.SIGKILL)
    assert len(running.read_text().split()) == 2


def test_what_follows_is_for_prepare(monkeypatch, sbatch):
    """`seqdance prepare` gets its own options and, when it asks for it, the address of the scheduler."""
    pytest.importorskip("dask_jobqueue")
    sbatch("Job 1 to start", 0)
    given, jobs = [], []
    monkeypatch.setattr(prepare_on_slurm, "prepare_source", lambda *them: given.extend(them))
    monkeypatch.setattr("dask_jobqueue.SLURMCluster.adapt", lambda _, **many: jobs.append(many))
    main(["--jobs", "3", *PREPARE])
    options, scheduler = given
    assert (str(options.manifest), str(options.out), jobs) == ("m.csv", "o/f.h5", [])
    with scheduler as address:
        assert address.startswith("tcp://")
    assert jobs == [{"minimum_jobs": 3, "maximum_jobs": 3}]


def test_jobs_that_slurm_refuses(monkeypatch, folder, sbatch, capsys):
    """They are tested before they are submitted: Dask would try for ever."""
    pytest.importorskip("dask_jobqueue")
    reason = "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified"
    sbatch(reason, 1)
    monkeypatch.setattr("dask_jobqueue.SLURMCluster.adapt", lambda *_, **__: pytest.fail("submitted"))
    command_refused(main, ["--partition", "gpu", *PREPARE], capsys, reason)
    assert (folder / "words").read_text() == "--test-only\n"
    assert "#SBATCH -p gpu" in (folder / "script.sh").read_text()


def test_ctrl_c(monkeypatch, sbatch, capsys):
    """It ends with a line and the exit code of an interruption, whatever dask_jobqueue makes of the signal."""
    pytest.importorskip("dask_jobqueue")
    sbatch("Job 1 to start", 0)
    make = SlurmOptions.cluster

    def cluster(options):
        made = make(options)
        made.adapt = lambda **_: signal.raise_signal(signal.SIGINT)
        return made

    monkeypatch.setattr(SlurmOptions, "cluster", cluster)
    for name in [name for name in sys.modules if name.partition(".")[0] == "dask_jobqueue"]:
        monkeypatch.delitem(sys.modules, name)  # importing it again sets a handler
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(SystemExit) as leaving:
        main(PREPARE)
    assert leaving.value.code == INTERRUPTED
    assert "interrupted" in capsys.readouterr().err


def test_one_run_at_a_time(monkeypatch, folder, no_cluster, capsys):
    """A second run on the same output is refused."""
    monkeypatch.setattr("data_prepare.resume.LOCK_SECONDS", 0.1)
    with sole_run(folder / "o" / "f.h5"):
        command_refused(main, PREPARE, capsys, "another run is writing it")


def test_entries_are_made_by_the_cluster(monkeypatch, folder, sbatch, capsys):
    """Of the jobs, here a thread that starts late, which a note says."""
    from distributed import LocalCluster

    sbatch("Job 1 to start", 0)
    started = []

    def cluster(_):
        started.append(LocalCluster(n_workers=0, threads_per_worker=1, processes=False, dashboard_address=":0"))
        started[-1].adapt = lambda **_: Timer(1, started[-1].scale, [1]).start()
        started[-1].job_script = lambda: ""
        return started[-1]

    monkeypatch.setattr(SlurmOptions, "cluster", cluster)
    with pytest.raises(SystemExit):
        main(PREPARE)
    told = capsys.readouterr().err
    assert "every entry failed" in told
    assert "squeue" in told
    assert "s.pdb" in (folder / "o" / "failures.csv").read_text()
    assert len(started) == 1
