"""Start `python -m MODULE` by forking a process that has the imports behind it, which are most of a short run.

That process reads requests from its standard input and ends with it. Only the first process of a run is a fork; those
that it starts are not.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import pkgutil
import runpy
import select
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

LIBRARIES = (
    *("torch.distributed.run", "torch.utils.tensorboard", "torch._dynamo"),  # optimizers import the last one
    *("distributed", "sklearn.metrics", "mdtraj", "prody", "filelock"),
)
TICK = 0.05  # seconds


class Forked:
    """A run, as `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.changed = threading.Condition()

    def poll(self) -> int | None:
        """Exit code; None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Exit code; TimeoutExpired if it takes longer."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.returncode is not None, timeout):
                raise subprocess.TimeoutExpired("run", timeout or 0)
        assert self.returncode is not None
        return self.returncode


class Server:
    """Starts runs; threads may share it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            start_new_session=True,
        )
        self._asking, self._started = threading.Lock(), threading.Condition()
        self._runs: dict[int, Forked] = {}
        self._newest: Forked | None = None
        threading.Thread(target=self._listen, daemon=True).start()

    def start(self, words: Sequence[str], log: Path, environment: Mapping[str, str]) -> Forked:
        """Start `python -m WORDS` in a session of its own, with standard error into `log`."""
        assert self._process.stdin
        with self._asking, self._started:
            self._newest = None
            self._process.stdin.write(json.dumps([list(words), str(log), dict(environment)]) + "\n")
            self._process.stdin.flush()
            self._started.wait_for(lambda: self._newest or self._process.poll() is not None)
            assert self._newest, "the server has ended"
            return self._newest

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            pid, *code = map(int, line.split())
            if not code:
                with self._started:
                    self._newest = self._runs[pid] = Forked(pid)
                    self._started.notify()
            else:
                run = self._runs.pop(pid)
                with run.changed:
                    run.returncode = code[0]
                    run.changed.notify_all()
        self._process.wait()
        with self._started:
            self._started.notify()


def _import_all() -> None:
    for package in ("data_prepare", "model", "seqdance.commands"):
        module = import_module(package)
        for found in pkgutil.walk_packages(module.__path__, f"{package}."):
            if ".examples" not in found.name:
                import_module(found.name)
    for name in LIBRARIES:
        import_module(name)
    assert threading.active_count() == 1  # forks have this thread only
    gc.freeze()  # collecting garbage would copy the pages of all imports into each fork


def _serve() -> list[str]:
    """Fork for each line of standard input; returns the words of a run in its process."""
    unread = b""
    while True:
        if select.select([0], [], [], TICK)[0]:
            if not (read := os.read(0, 1 << 16)):
                sys.exit()
            *lines, unread = (unread + read).split(b"\n")
            for line in lines:
                words, log, environment = json.loads(line)
                ready, done = os.pipe()
                if os.fork() == 0:
                    os.setsid()
                    os.write(1, f"{os.getpid()}\n".encode())
                    os.close(ready)
                    os.close(done)
                    for number, path in enumerate((os.devnull, os.devnull, log)):
                        os.dup2(os.open(path, os.O_RDWR), number)
                    os.environ.update(environment)
                    return words
                os.close(done)
                os.read(ready, 1)  # until it has said that it runs
                os.close(ready)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            os.write(1, f"{pid} {os.waitstatus_to_exitcode(status)}\n".encode())


if __name__ == "__main__":
    sys.path.pop(0)
    _import_all()
    module, *sys.argv[1:] = _serve()
    code: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as left:
        code = left.code
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    if isinstance(code, str):
        print(code, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)  # without freeing the imports one by one
