"""An entry of a source: one protein or complex, not opened yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """What is needed to make the features of one protein.

    Attributes
    ----------
    name
        Name in the store and in the training table.
    source
        Data set it is from, or the training group it belongs to.
    label
        train or test.
    topology
        Structure file, or the topology of the trajectory.
    trajectory
        None for a single structure, which gets normal mode features.
    """

    name: str
    source: str
    label: str
    topology: Path
    trajectory: Path | None = None
