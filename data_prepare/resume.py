"""Partial results on disk, so that an interrupted run resumes."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import InputError
from data_prepare.files import open_npz, remove_leftovers, whole_file, write_text

LOCK_SECONDS: Final = 8  # in which the processes that a killed run leaves behind end, such as the readers of PyTorch
SAMPLED_BLOCKS: Final = 256
SAMPLED_BYTES: Final = 4096


def digest(*parts: Any) -> str:
    """Hash of everything that a result depends on: 32 hexadecimal digits of the SHA-256 of its JSON.

    Parts are strings, numbers, None, arrays, and lists and dictionaries of these; anything else is hashed by its `str`.
    """
    # the str of a large array omits its middle
    text = json.dumps(parts, sort_keys=True, default=lambda x: x.tolist() if isinstance(x, np.ndarray) else str(x))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def sample_digest(path: Path) -> str:
    """Hash of the size of a file of any size and of evenly spaced blocks, a MB in all: most other contents differ."""
    size = path.stat().st_size
    found = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        for block in range(SAMPLED_BLOCKS):
            file.seek(block * max(size - SAMPLED_BYTES, 0) // (SAMPLED_BLOCKS - 1))
            found.update(file.read(SAMPLED_BYTES))
    return found.hexdigest()[:32]


@contextmanager
def sole_run(output: Path) -> Iterator[None]:
    """Hold the lock of an output NAME, the file `.NAME.lock` beside it; the lock ends with the process.

    What a killed run was writing beside the output, or in an output folder, is removed. InputError if another run
    holds the lock. There is no lock where no file can be written.
    """
    from filelock import FileLock, Timeout  # 0.1 s of import

    path = output.absolute()
    path = path.with_name(f".{path.name}.lock")
    # a file in the place of a lock would outlive a run that is killed
    lock = FileLock(path, timeout=LOCK_SECONDS, thread_local=False, fallback_to_soft=False)
    new_folders = [folder for folder in path.parents if not folder.exists()]
    with suppress(OSError, NotImplementedError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise InputError(f"{output}: another run is writing it; wait for its end, or give another one") from None
    remove_leftovers(path.parent)
    remove_leftovers(output)
    try:
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError):  # Windows removes no open file; there the lock does at its release
                path.unlink(missing_ok=True)  # before the release: it may be the file of the next run after it
            lock.release()
        with suppress(OSError):  # unless the run has written something
            for folder in new_folders:
                folder.rmdir()


class Results:
    """Partial results of an output NAME (file or folder), one `.npz` each in the hidden folder `.NAME.parts`.

    The key of a part is the `digest` of what it was made from, so that a stale part is never used. What a killed run
    was writing there is removed.
    """

    def __init__(self, output: Path) -> None:
        self.folder = output.with_name(f".{output.name}.parts")
        remove_leftovers(self.folder)

    def path(self, key: str) -> Path:
        """File of a part."""
        return self.folder / f"{key}.npz"

    def read(self, key: str) -> dict[str, NDArray[Any]] | None:
        """Arrays of a part; None if it is absent or damaged."""
        try:
            with open_npz(self.path(key)) as arrays:
                return dict(arrays)
        except Exception:  # of zip and numpy, many types
            return None

    def write(self, key: str, **arrays: Any) -> None:
        """Write the arrays of a part atomically."""
        with whole_file(self.path(key)) as temporary:
            np.savez(temporary, **arrays)

    def remove(self) -> None:
        """Remove all parts, once the output is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def finish(self, key: str, outputs: Sequence[Path]) -> None:
        """Remove all parts and record, in the hidden file `.NAME.made_of`, that the outputs are complete.

        `key` is the `digest` of what they were made from.
        """
        self.remove()
        write_text(self._record, f"{key}\n{_state(key, outputs)}")

    def is_finished(self, key: str, outputs: Sequence[Path]) -> bool:
        """Whether `finish` recorded this key and these files, unchanged since; says so, or that the key was another."""
        try:
            record = self._record.read_text(encoding="utf-8")
            # records of earlier versions have no key
            other = outputs[0].exists() and "\n" in record and record.partition("\n")[0] != key
            finished = not other and record == f"{key}\n{_state(key, outputs)}"
        except OSError:  # no record, or a file is missing
            return False
        if finished:
            print(f"note: {outputs[0]} is up to date", file=sys.stderr)
        if other:
            print(f"note: {outputs[0]} was made with other options or inputs and is replaced", file=sys.stderr)
        return finished

    @property
    def _record(self) -> Path:
        return self.folder.with_suffix(".made_of")


def _state(key: str, outputs: Sequence[Path]) -> str:
    """Digest of a key and of the names, sizes and times of files."""
    return digest(key, [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in outputs])
