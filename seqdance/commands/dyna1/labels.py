"""Command `seqdance dyna1 labels`: NMR data -> assignment codes; data_prepare/nmr/README.md has its sub-commands."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from data_prepare.nmr.assignments import MIN_COVERAGE
from data_prepare.nmr.convert import convert_refdb, convert_relaxation, convert_relaxdb, convert_star
from seqdance.commands.dyna1.split import SplitOptions
from seqdance.options import CommandOptions


@dataclass(frozen=True, kw_only=True)
class TableOptions(CommandOptions):
    """Your relaxation measurements -> codes, by the rule of RelaxDB."""

    output: Path
    """Output table (CSV); further files are written to the same folder."""
    file: Path
    """CSV, one row per residue: entry_ID, residue, assigned (1 or 0), R1, R2 (1/s), NOE, R2_R1_pred."""

    def convert(self) -> list[str]:
        """Write the table."""
        return convert_relaxation(self.file, self.output)


@dataclass(frozen=True, kw_only=True)
class StarOptions(TableOptions):
    """NMR-STAR files of BMRB or wwPDB -> missing assignments; also failures.csv. Rules: data_prepare/nmr/README.md."""

    file: Path
    """NMR-STAR file, or folder of them (.gz too). Shifts of the wwPDB (1abc_cs.str) take the sequence of the structure
    1abc.cif in the same folder."""
    min_coverage: Annotated[float, Field(gt=0, le=1)] = MIN_COVERAGE
    """Smallest fraction of assigned amides of a protein."""

    def convert(self) -> list[str]:
        """Write the table and failures.csv."""
        return convert_star(self.file, self.output, self.min_coverage)


@dataclass(frozen=True, kw_only=True)
class RefdbOptions(StarOptions):
    """RefDB table of makeshift-nmr -> missing assignments; also <output>_rates.csv and .txt."""

    file: Path | None = None  # type: ignore[assignment]
    """Table of backbone shifts. Default: that of makeshift-nmr."""

    def convert(self) -> list[str]:
        """Write the table and the rates."""
        return convert_refdb(self.output, self.file, self.min_coverage)


@dataclass(frozen=True, kw_only=True)
class RelaxdbOptions(TableOptions):
    """Published RelaxDB -> table."""

    file: Path
    """JSON by columns, or folder with one pickle per protein."""
    split_list: Path | None = None
    """Use only the entries named in this file, one per line."""
    source: ClassVar[Literal["relaxdb", "cpmg"]] = "relaxdb"

    def convert(self) -> list[str]:
        """Write the table."""
        return convert_relaxdb(self.file, self.output, self.source, self.split_list)


class CpmgOptions(RelaxdbOptions):
    """Published RelaxDB-CPMG -> table."""

    source = "cpmg"


Options = (
    Annotated[RefdbOptions, tyro.conf.subcommand("refdb")]
    | Annotated[RelaxdbOptions, tyro.conf.subcommand("relaxdb")]
    | Annotated[CpmgOptions, tyro.conf.subcommand("cpmg")]
    | Annotated[StarOptions, tyro.conf.subcommand("star")]
    | Annotated[TableOptions, tyro.conf.subcommand("relaxation")]
    | Annotated[SplitOptions, tyro.conf.subcommand("split")]
)

main = partial(run, Options, lambda options: options.convert())  # type: ignore[arg-type]
