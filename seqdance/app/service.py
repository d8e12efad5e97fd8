"""What all users share: the networks, the queue of jobs, and the results, each under a key that cannot be guessed."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from data_prepare.errors import require
from seqdance.app.analysis import Analysis, Networks, predict
from seqdance.app.downloads import files
from seqdance.app.given import File, Given, Limits, unpack
from seqdance.app.jobs import Job, Jobs
from seqdance.commands.demo import EXAMPLES

KEPT_BYTES: Final = 2**30  # of all results together; the oldest are dropped
MOST_RESULTS: Final = 200


class Service:
    """The state of the page."""

    def __init__(self, networks: Networks, limits: Limits) -> None:
        self.networks, self.limits, self.jobs = networks, limits, Jobs()
        self._results: OrderedDict[str, tuple[Given, str, Analysis]] = OrderedDict()
        self._lock = threading.Lock()

    def start(self, given: Given, chosen: str | None, notes: Sequence[str]) -> str:
        """Predict one of the given proteins; returns the key of its results. InputError if it is too long."""
        name, choice = given.choose(chosen, self.limits)
        key, analysis = secrets.token_urlsafe(16), Analysis(choice, given.names, tuple(notes))
        with self._lock:
            self._results[key] = (given, name, analysis)
        self.run(analysis, Job("Predicting dynamics"), partial(predict, self.networks, analysis))
        return key

    def _make_room(self) -> None:
        """Drop the results that were not looked at for the longest time."""
        with self._lock:
            while len(self._results) > MOST_RESULTS or (self._bytes() > KEPT_BYTES and len(self._results) > 1):
                _, (_, _, oldest) = self._results.popitem(last=False)
                if oldest.job:
                    oldest.job.cancel()

    def _bytes(self) -> int:
        """Approximate memory of all results and their inputs."""
        return sum(given.nbytes + analysis.nbytes for given, _, analysis in self._results.values())

    def get(self, key: str | None) -> Analysis | None:
        """Results by their key; None if there are none, or none any more."""
        with self._lock:
            found = self._results.get(key or "")
            if found and key:
                self._results.move_to_end(key)
        return found[2] if found else None

    def input_of(self, key: str | None) -> tuple[Given | None, str | None]:
        """What was given for a result, and the name of the protein or chain that was chosen."""
        found = self._results.get(key or "")
        return found[:2] if found else (None, None)

    def run(self, analysis: Analysis, job: Job, task: Callable[[Job], object], lane: str = "short") -> None:
        """Start a job of an analysis; a prediction does not wait for long jobs."""
        self._make_room()
        analysis.job = self.jobs.start(job, task, lane)

    def progress(self, job: Job) -> tuple[str, str | None]:
        """A line about a job, and the fraction that is done, None if unknown."""
        if job.state == "waiting" and (before := self.jobs.before(job)):
            return f"{job.title}: waiting for {before} other job{'s' * (before > 1)}", None
        if not job.total:
            return f"{job.title} …", None
        return f"{job.title}: {job.done:,} done", f"{job.done / job.total:.3f}"

    def files(self, analysis: Analysis) -> dict[str, Callable[[], bytes]]:
        """Name -> content of each file that the results allow."""
        return files(analysis, self.networks)

    def example(self) -> File:
        """A structure of ubiquitin."""
        return self._example("structures/1ubi_A.pdb.gz", "ubiquitin_1ubi.pdb")

    def example_trajectory(self) -> tuple[File, File]:
        """A short simulation of BPTI."""
        return self._example("trajectories/5pti.pdb", "BPTI.pdb"), self._example("trajectories/5pti.xtc", "BPTI.xtc")

    def _example(self, path: str, name: str) -> File:
        content = EXAMPLES / path
        require(content.is_file(), f"{content}: no such file; the examples are not installed")
        return unpack(name, content.read_bytes(), Limits())
