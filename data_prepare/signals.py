"""Signals that end a command, at moments when that is safe."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread


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
