"""The SLURM batch script, with stand-ins for the commands of SLURM on one node without a GPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from model import train_ddp

SCRIPT = Path(train_ddp.__file__).with_name("train_on_slurm.sh")
# srun starts a process group, which SLURM signals as a whole
COMMANDS = {
    "scontrol": '#!/bin/bash\nif [ "$1" = show ]; then echo localhost; else echo "$@" >> "$JOB_FOLDER/requeued"; fi\n',
    "srun": f'#!{sys.executable}\nimport os, sys\nos.setpgid(0, 0)\nopen(os.environ["JOB_FOLDER"] + "/step", "w")'
    ".write(str(os.getpid()))\nassert sys.argv[1] == '--cpus-per-task=3'\nos.execvp(sys.argv[2], sys.argv[2:])\n",
}


def write_command(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def submit(job: dict[str, str], folder: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run([SCRIPT, *words], env=job, cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.fixture
def job(tmp_path: Path) -> dict[str, str]:
    """Environment of a job."""
    (tmp_path / "bin").mkdir()
    for name, text in COMMANDS.items():
        write_command(tmp_path / "bin" / name, text)
    path = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {
        **os.environ,
        "PATH": path,
        "JOB_FOLDER": str(tmp_path),
        "OMP_NUM_THREADS": "1",
        "SLURM_JOB_ID": str(os.getpid()),  # another port for each run of the tests
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_GPUS_ON_NODE": "2",
        "SLURM_CPUS_PER_TASK": "3",
    }


@pytest.mark.slow
@pytest.mark.xdist_group("torchrun")
@pytest.mark.parametrize("number", [signal.SIGUSR1, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_job_stopped_by_slurm_saves(small_data, tmp_path: Path, job, number: int) -> None:
    """SIGUSR1 before the time limit reaches the process group of the step, SIGTERM of a preempted job its first one.

    The training processes have other sessions. SLURM itself requeues preempted jobs.
    """
    run = tmp_path / "run"
    changes = {"updates": 2000, "short-updates": 2000, "checkpoint-every": 2000, "workers": 1}
    words = [SCRIPT, *small_data.arguments(run, **changes)]
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(words, env=job, cwd=tmp_path, **pipe) as process:
        log = run / "log.jsonl"
        waited = time.monotonic() + 120
        while not (log.is_file() and log.read_text()) and process.poll() is None and time.monotonic() < waited:
            time.sleep(0.1)
        (os.killpg if number == signal.SIGUSR1 else os.kill)(int((tmp_path / "step").read_text()), number)
        output, _ = process.communicate(timeout=120)
    requeued = f"requeue {os.getpid()}\n" if number == signal.SIGUSR1 else None
    assert (process.returncode == 0) == (requeued is not None), output[-3000:]
    assert ((tmp_path / "requeued").read_text() if (tmp_path / "requeued").exists() else None) == requeued
    (checkpoint,) = (run / "checkpoints").glob("update_*")
    assert 0 < int(checkpoint.name.removeprefix("update_")) < 2000
    assert len(json.loads((run / "config.json").read_text())["devices"]) == 2


@pytest.mark.parametrize("end", ["failed", "stopped", "finished", "early"])
def test_only_a_stopped_training_is_requeued(tmp_path: Path, job, end: str) -> None:
    """A stand-in for torchrun shows how it is called after a restart of the job."""
    write_command(tmp_path / "bin/torchrun", f'#!/bin/bash\necho "$@"\nexit {3 if end == "failed" else 0}\n')
    (tmp_path / "run/checkpoints" / ("update_8" if end in ("finished", "early") else "update_4")).mkdir(parents=True)
    updates, stop_after = (20, 8) if end == "early" else (8, None)
    (tmp_path / "run/config.json").write_text(json.dumps({"config": {"updates": updates, "stop_after": stop_after}}))
    found = submit(job | {"SLURM_RESTART_COUNT": "1"}, tmp_path, "--output=run", "--clip", "1")
    assert found.returncode == (3 if end == "failed" else 0)
    called, *rest = found.stdout.splitlines()
    assert called.endswith("-m model.train_ddp --resume auto --output=run --clip 1")
    assert {"--max-restarts=3", f"--rdzv-id={os.getpid()}.1"} <= set(called.split())
    assert rest == (["run: update 8 is done"] if end in ("finished", "early") else [])
    assert (tmp_path / "requeued").exists() == (end == "stopped")


def test_job_without_output_is_refused(tmp_path: Path, job) -> None:
    found = submit(job, tmp_path, "--preset", "demo")
    assert found.returncode == 2
    assert found.stderr == "error: no --output among the options; name the folder of the run\n"
