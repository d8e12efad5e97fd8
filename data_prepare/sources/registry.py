"""The raw sources by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from data_prepare.errors import InputError
from data_prepare.sources import atlas, folders, gpcrmd, idrome, mdcath, ped, proteinflow
from data_prepare.sources.entry import Entry

# name of a source on the command line -> its reader
SOURCES: Final[dict[str, Callable[[Path], list[Entry]]]] = {
    "mdcath": mdcath.list_entries,
    "atlas": atlas.list_entries,
    "gpcrmd": gpcrmd.list_entries,
    "ped": ped.list_entries,
    "idrome": idrome.list_entries,
    "proteinflow": proteinflow.list_entries,
    "structures": folders.list_structures,
    "trajectories": folders.list_trajectories,
}


def list_source(source: str, raw: str | Path, temperatures: Sequence[int] = mdcath.DEFAULT_TEMPERATURES) -> list[Entry]:
    """Entries of a folder of raw data, by name; only file names are looked at.

    Parameters
    ----------
    source
        One of `SOURCES`.
    raw
        Folder with the files as they were downloaded.
    temperatures
        Of mdCATH, K.

    Raises
    ------
    InputError
        If the source is unknown, the folder is not there or has none of its files, or two entries have one name.
    """
    if source not in SOURCES:
        raise InputError(f"unknown source {source}; known are {', '.join(SOURCES)}")
    if source == "mdcath":
        return mdcath.list_entries(Path(raw), temperatures)
    return SOURCES[source](Path(raw))
