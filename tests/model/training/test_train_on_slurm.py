"""The SLURM batch script, with stand-ins for the commands of SLURM on one node without a GPU."""

from __future__ import annotations

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
    ".write(str(os.getpid()))\nos.execvp(sys.argv[1], sys.argv[1:])\n",
}


@pytest.fixture
def job(tmp_path: Path) -> dict[str, str]:
    """Environment of a job."""
    (tmp_path / "bin").mkdir()
    for name, text in COMMANDS.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    path = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {
        **os.environ,
        "PATH": path,
        "JOB_FOLDER": str(tmp_path),
        "TRAIN": str(SCRIPT.with_name("train_ddp.py")),
        "OMP_NUM_THREADS": "1",
        "SLURM_JOB_ID": str(os.getpid()),  # another port for each run of the tests
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_GPUS_ON_NODE": "1",
    }


@pytest.mark.slow
@pytest.mark.xdist_group("torchrun")
def test_job_stopped_by_the_time_limit_is_requeued_and_finishes(small_data, tmp_path: Path, job) -> None:
    """SIGUSR1 reaches torchrun in the process group of the step; the training processes have other sessions."""
    run = tmp_path / "run"
    changes = {"updates": 2000, "short-updates": 2000, "checkpoint-every": 2000, "workers": 1}
    words = [SCRIPT, *small_data.arguments(run, **changes)]
    with subprocess.Popen(words, env=job, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        log = run / "log.jsonl"
        waited = time.monotonic() + 120
        while not (log.is_file() and log.read_text()) and process.poll() is None and time.monotonic() < waited:
            time.sleep(0.1)
        os.killpg(int((tmp_path / "step").read_text()), signal.SIGUSR1)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output[-3000:]
    assert (tmp_path / "requeued").read_text() == f"requeue {os.getpid()}\n"
    (checkpoint,) = (run / "checkpoints").glob("update_*")
    update = int(checkpoint.name.removeprefix("update_"))
    assert 0 < update < 2000

    changes["updates"] = changes["short-updates"] = update + 1
    words = [SCRIPT, *small_data.arguments(run, **changes)]
    again = subprocess.run(words, env=job | {"SLURM_RESTART_COUNT": "1"}, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr[-3000:]
    assert (run / "checkpoints" / f"update_{update + 1}").is_dir()
    assert (tmp_path / "requeued").read_text().count("requeue") == 1
    assert again.stdout == f"{run}: all {update + 1} updates are done\n"


def test_failed_training_is_not_requeued(tmp_path: Path, job) -> None:
    (tmp_path / "bin/torchrun").write_text('#!/bin/bash\necho "$@"\nexit 3\n')
    (tmp_path / "bin/torchrun").chmod(0o755)
    failed = subprocess.run(
        [SCRIPT, "--output=run", "--clip", "1"], env=job, capture_output=True, text=True, timeout=60
    )
    assert failed.returncode == 3
    assert failed.stdout.endswith(f"{job['TRAIN']} --resume auto --output=run --clip 1\n")
    assert "--max-restarts=3" in failed.stdout
    assert not (tmp_path / "requeued").exists()


def test_job_without_output_is_refused(tmp_path: Path, job) -> None:
    refused = subprocess.run([SCRIPT, "--preset", "demo"], env=job, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2
    assert refused.stderr == "error: no --output among the options; name the folder of the run\n"
