"""Calls side by side on a CPU, each with its share of PyTorch's threads.

All threads on one batch wait for each other at the end of every operation; with a batch for each they wait for nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from threading import Barrier
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item], streams: int) -> Iterator[Result]:
    """`map(function, items)`, several calls at a time, results in order; an error is raised in its place.

    Parameters
    ----------
    function
        Runs in threads and sets itself what PyTorch keeps for each thread, such as inference mode.
    items
        Drawn in the thread of the caller, at most `2 * streams` ahead of the results.
    streams
        Calls at a time. Each uses PyTorch's threads / `streams`, at least 1; one runs in the caller's thread.
    """
    if streams < 2:
        yield from map(function, items)
        return
    threads = torch.get_num_threads()
    all_started = Barrier(streams + 1)

    def start() -> None:
        torch.set_num_threads(max(1, threads // streams))
        torch.get_num_threads()  # a thread takes the last number that was set anywhere when it first needs one
        all_started.wait()

    pool = ThreadPoolExecutor(streams, initializer=start)
    try:
        for _ in range(streams):
            pool.submit(lambda: None)  # begins one more thread
        all_started.wait()
        torch.set_num_threads(threads)
        items = iter(items)
        running: deque[Future[Result]] = deque()
        while True:
            running.extend(pool.submit(function, item) for item in islice(items, 2 * streams - len(running)))
            if not running:
                return
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
