"""Command `seqdance prepare`: a source of raw data -> store, training table and loss weights."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from data_prepare.errors import require, some_of
from data_prepare.files import HDF5_SUFFIXES
from data_prepare.molecular_dynamics.frames.frame_range import FrameRange
from data_prepare.pipeline.split import FAILURES, LABEL_CHANGES, LOSS_WEIGHTS, TABLE, Split
from data_prepare.properties import CONFORMATIONS, FEATURES, NMA_GROUPS, group_of
from data_prepare.sources.entry import Entry, Selection
from data_prepare.sources.manifest import read_manifest
from data_prepare.sources.mdcath import DEFAULT_TEMPERATURES
from data_prepare.sources.registry import SOURCES, list_source, unused_files
from seqdance.options import CommandOptions

if TYPE_CHECKING:
    from data_prepare.pipeline.extraction import Scheduler


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(CommandOptions, Split, FrameRange):
    """Make a store, a training table and loss weights from structures and trajectories."""

    out: Annotated[Path, tyro.conf.arg(aliases=["--output"])]
    """Output store, FOLDER/NAME.h5; table.csv, loss_weights.csv and failures.csv are written to the same folder."""
    source: Literal[tuple(SOURCES)] | None = None  # type: ignore[valid-type]
    """Kind of raw data: a published source, or a folder of structures, of trajectories or of generated ensembles."""
    raw: Path | None = None
    """Folder of the raw data."""
    manifest: Path | None = None
    """Instead of a source: CSV with the columns name, source, label, topology, trajectory; paths relative to it."""
    workers: Annotated[int, Field(ge=1)] = 1
    """Processes on this machine; each handles one entry at a time."""
    scheduler: str | None = None
    """Address of a Dask scheduler, tcp://host:8786, to use instead of local processes."""
    select: tuple[str, ...] = ()
    """Ids of the chains to use. Default: all."""
    properties: Annotated[tuple[Literal[FEATURES], ...], Field(min_length=1)] = FEATURES  # type: ignore[valid-type]
    """Features of trajectories to compute. The entries lack the others."""
    conformations: bool = False
    """Also measure each structure as one conformation (SASA, secondary structure, dihedrals, contacts): a second entry,
    NAME_conformation, of a training group of its own."""
    temperatures: Annotated[tuple[int, ...], Field(min_length=1)] | None = None
    """Temperatures of mdCATH in K, one entry each. Default: 348."""
    dtype: Literal["float32", "float16"] = "float32"
    """Number type of the store; float16 halves its size."""
    compression: Literal["blosc2", "gzip", "link"] = "blosc2"
    """gzip makes a file to pass on, which is read without the package hdf5plugin, but more slowly. link makes a small
    file of links to the results in NAME.entries: no second copy, and little to write when entries are added."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Use only the first N entries, by name."""
    dry_run: bool = False
    """Only list the entries and their state; exit code 2 if files of some are missing."""

    def __post_init__(self) -> None:
        Split.__post_init__(self)
        FrameRange.__post_init__(self)
        require(self.out.suffix in HDF5_SUFFIXES, f"--out {self.out}: expected FOLDER/NAME.h5")
        given = (self.source is not None, self.raw is not None, self.manifest is not None)
        require(given in ((1, 1, 0), (0, 0, 1)), "give either --source and --raw, or --manifest")
        require(self.temperatures is None or self.source == "mdcath", "--temperatures requires --source mdcath")

    def entries(self) -> list[Entry]:
        """Entries of the source, sorted by name, with absolute paths: workers may run in another folder."""
        if self.manifest is not None:
            entries = read_manifest(self.manifest.absolute())
        else:
            raw = Path(str(self.raw)).absolute()
            entries = list_source(str(self.source), raw, self.temperatures or DEFAULT_TEMPERATURES)
        if self.conformations:
            structures = [entry for entry in entries if group_of(entry.source, entry.group) in NMA_GROUPS]
            require(structures, "--conformations: no entry is a structure; omit it")
            entries += [replace(entry, name=f"{entry.name}_conformation", group=CONFORMATIONS) for entry in structures]
        return sorted(entries, key=lambda entry: entry.name)


def prepare_source(options: PrepareOptions, scheduler: Scheduler | None = None) -> None:
    """Run the command and name the unused files of the folder; exit code 1 if entries failed.

    `scheduler` is used instead of that of the options. A context is entered only when there are entries to make.
    """
    entries = options.entries()
    try:
        _prepare(options, entries[: options.limit], scheduler or options.scheduler)
    finally:
        if options.raw is not None and (unused := unused_files(options.raw.absolute(), entries)):
            print(f"note: {options.raw}: {unused}", file=sys.stderr)


def _prepare(options: PrepareOptions, entries: Sequence[Entry], scheduler: Scheduler | None) -> None:
    from data_prepare.pipeline.extraction import result_attributes
    from data_prepare.pipeline.prepare import prepare, tasks_of

    store = options.out
    selection = Selection(begin=options.begin, end=options.end, stride=options.stride, chains=options.select)
    tasks = tasks_of(entries, store, selection, options.properties, options.dtype)
    if options.dry_run:
        made = {task.entry.name for task in tasks if result_attributes(task)}
        failing = {entry.name: problem for entry in entries if (problem := entry.problem())}
        for entry in entries:
            state = "made" if entry.name in made else f"{entry.size / 1e6:.1f} MB"
            print(f"{entry.name}\t{entry.source}\t{failing.get(entry.name, state)}")
        print(f"{store}: entries: {len(tasks)}, made already: {len(made)}, to make: {len(tasks) - len(made)}")
        where, names = options.manifest or options.raw, some_of(failing)
        require(not failing, f"{where}: entries that would fail: {names}; the lines above say why")
        return
    failures = prepare(tasks, store, options, options.workers, scheduler, options.compression)
    files = map(store.with_name, (store.name, TABLE, LOSS_WEIGHTS, LABEL_CHANGES, FAILURES))
    print(*(file for file in files if file.is_file()), sep="\n")
    if failures:
        print(f"error: failed entries: {len(failures)}, see {store.with_name(FAILURES)}", file=sys.stderr)
        raise SystemExit(1)


main = partial(run, PrepareOptions, prepare_source)
