"""Calls side by side: order, errors, numbers of threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from model.inference.threads import side_by_side


@pytest.fixture
def four_threads() -> Iterator[None]:
    """PyTorch with four threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("streams", [1, 2, 3])
@pytest.mark.parametrize("number", [0, 1, 2, 50])
def test_results_come_in_order(streams: int, number: int) -> None:
    assert list(side_by_side(lambda item: item**2, range(number), streams)) == [item**2 for item in range(number)]


def test_calls_run_at_the_same_time() -> None:
    meeting = threading.Barrier(3)
    assert sorted(side_by_side(lambda _: meeting.wait(timeout=60), range(6), 3)) == [0, 0, 1, 1, 2, 2]


@pytest.mark.usefixtures("four_threads")
def test_calls_share_the_threads_and_the_caller_keeps_his() -> None:
    assert list(side_by_side(lambda _: torch.get_num_threads(), range(4), 2)) == [2, 2, 2, 2]
    assert list(side_by_side(lambda _: torch.get_num_threads(), range(3), 8)) == [1, 1, 1]
    assert torch.get_num_threads() == 4
    with ThreadPoolExecutor(1) as later:
        assert later.submit(torch.get_num_threads).result() == 4
    assert list(side_by_side(lambda _: threading.current_thread(), range(2), 1)) == [threading.current_thread()] * 2


def test_items_are_drawn_shortly_before_they_are_needed() -> None:
    drawn: list[int] = []
    items = (drawn.append(item) or item for item in range(100))
    results = side_by_side(lambda item: item, items, 2)
    for number in range(1, 11):
        next(results)
        assert len(drawn) <= number + 3


def test_an_error_comes_in_its_place_and_ends_the_work() -> None:
    done: list[int] = []

    def call(item: int) -> int:
        if item == 3:
            raise RuntimeError("item 3")
        done.append(item)
        return item

    results = side_by_side(call, range(1000), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RuntimeError, match="item 3"):
        next(results)
    assert max(done) < 10
