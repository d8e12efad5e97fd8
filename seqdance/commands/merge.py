"""Command `seqdance merge`: stores with their tables -> one store, training table and loss weights.

seqdance merge a/features.h5 b/features.h5 --out all/features.h5
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from data_prepare.errors import require
from data_prepare.pipeline.merge import merge
from data_prepare.pipeline.training_set import LOSS_WEIGHTS, TABLE, Split


@dataclass(frozen=True, kw_only=True)
class MergeOptions(Split):
    """Merge stores into one, with the tables beside them, and split all entries anew."""

    stores: Annotated[tuple[Path, ...], tyro.conf.Positional, Field(min_length=1)]
    """Stores to merge."""
    out: Path
    """Store to make, FOLDER/NAME.h5; table.csv and loss_weights.csv go beside it."""
    dtype: Literal["float32", "float16"] | None = None
    """Of the numbers in the store: float32 unless all stores are float16."""
    keep_labels: bool = False
    """Keep the labels of the tables instead of a new split of all entries."""
    debug: bool = False
    """Show the traceback of an error."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.out.suffix in (".h5", ".hdf5"), f"--out {self.out}: expected the store to make, FOLDER/NAME.h5")
        require(not (self.keep_labels and self.clusters), "--keep-labels: leave out --clusters, there is no new split")


def merge_all(options: MergeOptions) -> list[Path]:
    """Run the command; returns the files that were made."""
    merge(options.stores, options.out, None if options.keep_labels else options, options.dtype)
    made = map(options.out.with_name, (options.out.name, TABLE, LOSS_WEIGHTS))
    return [path for path in made if path.is_file()]


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    run(MergeOptions, merge_all, args)
