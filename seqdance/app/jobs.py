"""Long work in the background: progress, cancellation, errors and warnings in one line."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, Literal

from data_prepare.errors import InputError, InputWarning

State = Literal["waiting", "running", "finished", "failed", "cancelled"]
LANES: Final = ("short", "long")  # a prediction does not wait for a scan of mutants
_LOCAL: Final = threading.local()  # the notes of the current thread


class Cancelled(Exception):
    """The user has cancelled this job."""


@contextmanager
def noted() -> Iterator[list[str]]:
    """Collect the InputWarnings of the current thread as lines; those of other threads do not mix with them."""
    outer = getattr(_LOCAL, "notes", None)
    _LOCAL.notes = notes = list[str]()
    try:
        yield notes
    finally:
        _LOCAL.notes = outer


def collect_warnings() -> None:
    """Hand each InputWarning of a thread to its `noted` block from now on; others are shown as before."""
    shown = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *more: Any) -> None:
        notes = getattr(_LOCAL, "notes", None)
        if notes is None or not issubclass(category, InputWarning):
            shown(message, category, *more)
        else:
            notes.append(str(message))

    warnings.showwarning = show  # type: ignore[assignment]
    warnings.simplefilter("always", InputWarning)


class Job:
    """One piece of work: what it is, how far it is, how it ended."""

    def __init__(self, title: str, total: int = 0) -> None:
        self.title, self.total, self.done = title, total, 0
        self.state: State = "waiting"
        self.message = ""  # the line of an error
        self.notes: list[str] = []
        self._cancel = threading.Event()

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return self.state in ("waiting", "running")

    def advance(self, steps: int = 0) -> None:
        """Call as `steps` are done; raises Cancelled in the thread that works."""
        self.done += steps
        if self._cancel.is_set():
            raise Cancelled

    def cancel(self) -> None:
        """Stop at the next `advance`; a job that waits does not start."""
        self._cancel.set()
        if self.active:
            self.state = "cancelled"

    def run(self, work: Callable[[Job], object]) -> None:
        """Do the work; its result counts only if the job has not been cancelled meanwhile."""
        try:
            self.advance()
            self.state = "running"
            with noted() as self.notes:
                keep = work(self)
                self.advance()
                if callable(keep):
                    keep()
            self.state = "finished"
        except Cancelled:
            self.state = "cancelled"
        except (InputError, MemoryError) as error:
            self.message = str(error) if isinstance(error, InputError) else "not enough memory; try a shorter protein"
            self.state = "failed"
        except Exception:
            logging.getLogger(__name__).exception("%s", self.title)
            self.message, self.state = "an unexpected error; the terminal of seqdance app shows it", "failed"


class Jobs:
    """Two lanes of jobs; each runs one after the other, since each uses all threads of PyTorch."""

    def __init__(self) -> None:
        self._lanes = {lane: ThreadPoolExecutor(1, thread_name_prefix=lane) for lane in LANES}
        self._jobs: dict[str, list[Job]] = {lane: [] for lane in LANES}
        self._lock = threading.Lock()

    def start(self, job: Job, work: Callable[[Job], object], lane: str = "short") -> Job:
        """Queue a job. What `work` returns is called at its end unless it has been cancelled: it keeps the result."""
        with self._lock:
            self._jobs[lane] = [other for other in self._jobs[lane] if other.active] + [job]
        self._lanes[lane].submit(job.run, work)
        return job

    def before(self, job: Job) -> int:
        """Number of jobs that a waiting job waits for."""
        with self._lock:
            for jobs in self._jobs.values():
                if job in jobs:
                    return sum(other.active for other in jobs[: jobs.index(job)])
        return 0

    def close(self) -> None:
        """Cancel everything; running jobs end at their next `advance`."""
        for jobs in self._jobs.values():
            for job in jobs:
                job.cancel()
        for lane in self._lanes.values():
            lane.shutdown(wait=False, cancel_futures=True)
