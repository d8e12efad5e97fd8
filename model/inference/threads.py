"""Parallel calls on a CPU, each with its share of PyTorch's threads.

Threads that share a batch wait for each other after every operation; threads with their own batches do not.
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
    """`map(function, items)` with `streams` calls at a time; results in order, an error is raised in its place.

    Each call uses PyTorch's threads / `streams`, at least 1; with one stream, calls run in the caller's thread.
    `function` must itself set what PyTorch keeps per thread, such as inference mode. `items` are drawn in the caller's
    thread, at most `2 * streams` ahead of the results.
    """
    if streams < 2:
        yield from map(function, items)
        return
    threads = torch.get_num_threads()
    all_started = Barrier(streams + 1)

    def start() -> None:
        torch.set_num_threads(max(1, threads // streams))
        torch.get_num_threads()  # fixes the number: until its first use, a thread adopts the last one set anywhere
        all_started.wait()

    pool = ThreadPoolExecutor(streams, initializer=start)
    try:
        for _ in range(streams):
            pool.submit(lambda: None)  # starts one more thread
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
