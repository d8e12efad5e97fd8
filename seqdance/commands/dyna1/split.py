"""Sub-command `seqdance dyna1 labels split`: training and validation sets without relatives of the test sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.nmr.choices import MIN_IDENTITY, VALIDATION_FRACTION
from seqdance.options import CommandOptions


@dataclass(frozen=True, kw_only=True)
class SplitOptions(CommandOptions):
    """Split tables into training and validation, without the test entries and their relatives."""

    table: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Tables to split."""
    output: Path
    """Folder for train.csv, validation.csv and removed.csv."""
    against: tuple[Path, ...] = ()
    """Tables of test entries (RelaxDB, RelaxDB-CPMG). Entries with their BMRB ids, or similar to them, are removed."""
    min_identity: Annotated[float, Field(gt=0, le=1)] = MIN_IDENTITY
    """Sequence identity, as a fraction, from which entries are similar to a test entry or share a cluster."""
    clusters: Path | None = None
    """TSV of representative and entry. Default: MMseqs2 makes the clusters."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = VALIDATION_FRACTION
    """Fraction of the entries used for validation."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the split."""

    def convert(self) -> list[str]:
        """Write the three tables."""
        from data_prepare.nmr.convert import split_tables

        similarity = (self.min_identity, self.clusters)
        return split_tables(self.table, self.output, self.against, *similarity, self.validation_fraction, self.seed)
