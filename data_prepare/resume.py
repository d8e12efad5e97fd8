"""Partial results on disk, so that an interrupted run resumes."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prepare.files import whole_file


def digest(*parts: Any) -> str:
    """Hash of everything that a result depends on: 32 hexadecimal digits of the SHA-256 of its JSON.

    Parts are strings, numbers, None, arrays, and lists and dictionaries of these; anything else is hashed by its `str`.
    """
    # the str of a large array omits its middle
    text = json.dumps(parts, sort_keys=True, default=lambda x: x.tolist() if isinstance(x, np.ndarray) else str(x))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Results:
    """Partial results of an output NAME (file or folder), one `.npz` each in the hidden folder `.NAME.parts`.

    The key of a part is the `digest` of what it was made from, so that a stale part is never used.
    """

    def __init__(self, output: Path) -> None:
        self.folder = output.with_name(f".{output.name}.parts")

    def path(self, key: str) -> Path:
        """File of a part."""
        return self.folder / f"{key}.npz"

    def read(self, key: str) -> dict[str, NDArray[Any]] | None:
        """Arrays of a part; None if it is absent or damaged."""
        try:
            with np.load(self.path(key), allow_pickle=False) as arrays:
                return dict(arrays)
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
            return None

    def write(self, key: str, **arrays: Any) -> None:
        """Write the arrays of a part atomically."""
        with whole_file(self.path(key)) as temporary:
            np.savez(temporary, **arrays)

    def remove(self) -> None:
        """Remove all parts, once the output is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)
