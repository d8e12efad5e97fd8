"""Signals that end a command, at moments when that is safe."""

from __future__ import annotations

import _thread
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer, current_thread, main_thread
from typing import Final

RESENT_SECONDS: Final = 0.01


@contextmanager
def held_signals() -> Iterator[Callable[[], None]]:
    """Delay Ctrl-C and SIGTERM inside the block; the function that it yields, and its end, let them through.

    An exception in a function of ours that a C library calls, such as HDF5 or LLVM, can crash the process.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in before.items() if callable(handler)}
    held: list[int] = []

    def let_through() -> None:
        while held:
            number = held.pop()
            handlers[signal.Signals(number)](number, None)

    if current_thread() is not main_thread():  # Python runs handlers in the main thread
        yield let_through
        return
    for number in handlers:
        signal.signal(number, lambda number, _: held.append(number))
    try:
        yield let_through
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    let_through()


@contextmanager
def never_lost() -> Iterator[None]:
    """Inside the block, a Ctrl-C or SIGTERM that arrives while Python removes an object is sent again.

    There Python drops the exception of its handler with a note, and the command would go on.
    """
    before, numbers = sys.unraisablehook, {KeyboardInterrupt: signal.SIGINT, SystemExit: signal.SIGTERM}

    def again(lost: sys.UnraisableHookArgs) -> None:
        number = numbers.get(lost.exc_type)
        if number is None:
            before(lost)
        else:  # from another thread and a little later: here it would be lost once more
            Timer(RESENT_SECONDS, _send, [number]).start()

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = before


def _send(number: int) -> None:
    if sys.platform == "win32":  # which has no signals of other processes
        _thread.interrupt_main(number)
    else:
        os.kill(os.getpid(), number)
