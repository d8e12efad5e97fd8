"""Sub-command `seqdance dyna1 labels split`: training and validation, apart from the test sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.command_line import Settings
from data_prepare.nmr.convert import split_tables
from data_prepare.nmr.splits import MIN_IDENTITY, VALIDATION_FRACTION


@dataclass(frozen=True, kw_only=True)
class SplitOptions(Settings):
    """Split tables into training and validation, apart from the test sets."""

    table: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Tables to split."""
    output: Path
    """Folder for train.csv, validation.csv and removed.csv."""
    against: tuple[Path, ...] = ()
    """Tables of test entries (RelaxDB, RelaxDB-CPMG): entries with their BMRB ids or similar to them are removed."""
    min_identity: Annotated[float, Field(gt=0, le=1)] = MIN_IDENTITY
    """Fraction of identical residues that makes entries similar: to a test entry, and within a cluster."""
    clusters: Path | None = None
    """TSV of representative and entry instead of clusters by MMseqs2."""
    validation_share: Annotated[float, Field(gt=0, lt=1)] = VALIDATION_FRACTION
    """Fraction of the entries used for validation."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the split."""
    threads: Annotated[int, Field(ge=1)] = 1
    """Threads of MMseqs2."""
    debug: bool = False
    """Show the traceback of an error."""

    def convert(self) -> list[str]:
        """Write the three tables."""
        similarity = (self.min_identity, self.clusters)
        return split_tables(
            self.table, self.output, self.against, *similarity, self.validation_share, self.seed, self.threads
        )
