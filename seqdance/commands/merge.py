"""Command `seqdance merge`: several stores with their tables -> one store, training table and loss weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from data_prepare.errors import require
from data_prepare.files import HDF5_SUFFIXES
from data_prepare.pipeline.split import LABEL_CHANGES, LOSS_WEIGHTS, TABLE, Split
from seqdance.options import CommandOptions


@dataclass(frozen=True, kw_only=True)
class MergeOptions(CommandOptions, Split):
    """Merge stores and their tables, and split the entries into train and test.

    Entries that were merged to --out before keep their labels.
    """

    stores: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[STORE [STORE ...]]")]
    """Stores to merge."""
    out: Annotated[Path, tyro.conf.arg(aliases=["--output"])]
    """Output store, FOLDER/NAME.h5; table.csv and loss_weights.csv are written to the same folder."""
    dtype: Literal["float32", "float16"] | None = None
    """Number type of the store. Default: float16 if all stores are float16, else float32."""
    compression: Literal["blosc2", "gzip"] = "blosc2"
    """gzip makes a file to pass on, which is read without the package hdf5plugin, but more slowly."""
    keep_labels: bool = False
    """Keep the labels of the tables; a test entry in a cluster with training entries becomes train."""
    on_duplicate: Literal["error", "keep-first", "keep-last"] = "error"
    """Which entry to take if several stores have one of the same name, in the order given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.stores, "no stores; name the stores to merge")
        require(self.out.suffix in HDF5_SUFFIXES, f"--out {self.out}: expected FOLDER/NAME.h5")


def merge_all(options: MergeOptions) -> list[Path]:
    """Merge; returns the output files."""
    from data_prepare.pipeline.merge import merge

    choices = (options.dtype, options.keep_labels, options.on_duplicate, options.compression)
    merge(options.stores, options.out, options, *choices)
    made = map(options.out.with_name, (options.out.name, TABLE, LOSS_WEIGHTS, LABEL_CHANGES))
    return [path for path in made if path.is_file()]


main = partial(run, MergeOptions, merge_all)
