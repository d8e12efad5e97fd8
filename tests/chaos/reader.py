"""What a reader is, and the writer of a text."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Reader:
    """Writes a sound file into a folder, and reads a file; `files` lie beside it undamaged."""

    write: Callable[[Path], object]
    read: Callable[[Path], Any]
    name: str
    files: Callable[[Path], object] | None = None

    def make(self, folder: Path) -> Path:
        """Path of the sound file."""
        folder.mkdir(parents=True)
        if self.files:
            self.files(folder)
        self.write(folder / self.name)
        return folder / self.name

    def prepare(self, sound: Path, folder: Path) -> None:
        """Copy the undamaged files."""
        shutil.copytree(sound, folder, dirs_exist_ok=True)


def text(content: str) -> Callable[[Path], object]:
    """Writer of a text, gzipped if the name says so."""
    return lambda path: path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
