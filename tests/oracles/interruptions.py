"""A command in a process of its own, killed at its work."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path


def kill_at_work(words: list[str], parts: Path, number: int) -> list[Path]:
    """Start `seqdance` with these words and kill it when `parts` holds `number` finished files; returns all of them."""
    with subprocess.Popen([sys.executable, "-m", "seqdance.cli", *words], stderr=subprocess.DEVNULL) as process:
        while len(list(parts.glob("[!.]*"))) < number:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.005)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    return list(parts.glob("[!.]*"))
