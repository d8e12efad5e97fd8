"""Signals that end a command wait for safe moments."""

from __future__ import annotations

import os
import signal
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from data_prepare.command_line import run_alone
from data_prepare.files import new_hdf5, whole_file
from data_prepare.signals import held_signals


@pytest.fixture(autouse=True)
def usual_handler():
    """A command in the background of a script ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def steps(done, error=None):
    """Ctrl-C in the first of three steps."""
    with held_signals() as let_through:
        for step in range(3):
            if step == 0:
                ctrl_c()
            done.append(step)
            if error:
                raise error
            let_through()


def test_held_signals():
    handler, done = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt):
        steps(done)
    assert done == [0]
    with pytest.raises(ValueError, match="own"):  # of the block
        steps(done, ValueError("own"))
    assert signal.getsignal(signal.SIGINT) is handler
    with ThreadPoolExecutor(1) as pool:  # only the main thread has handlers
        pool.submit(lambda: held_signals().__enter__()()).result()


def write_two_of_three(path, written):
    with whole_file(path) as temporary, new_hdf5(temporary) as (file, check):
        for name in "abc":
            if name == "b":
                ctrl_c()
            file[name] = list(range(10_000))
            written.append(name)
            check()


def test_ctrl_c_waits_until_hdf5_has_written(tmp_path):
    written = []
    with pytest.raises(KeyboardInterrupt):
        write_two_of_three(tmp_path / "x.h5", written)
    assert written == ["a", "b"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_an_object_is_removed_is_not_lost(number, expected, capfd):
    class Thing:
        pass

    def command():
        thing = Thing()
        watched = weakref.ref(thing, lambda _: os.kill(os.getpid(), number))
        del thing
        assert watched() is None
        time.sleep(60)

    with pytest.raises(SystemExit) as ended:
        run_alone(command, None, False)
    assert ended.value.code == expected
    assert "Traceback" not in capfd.readouterr().err
