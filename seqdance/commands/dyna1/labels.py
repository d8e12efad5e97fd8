"""Command `seqdance dyna1 labels`: NMR data -> assignment codes; docs/how-to/nmr_labels.md explains them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from data_prepare.nmr.choices import MIN_COVERAGE, Source
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
        from data_prepare.nmr.convert import convert_relaxation

        return convert_relaxation(self.file, self.output)


@dataclass(frozen=True, kw_only=True)
class StarOptions(TableOptions):
    """NMR-STAR files of BMRB or wwPDB -> missing assignments; also failures.csv. Rules: docs/how-to/nmr_labels.md."""

    file: Path
    """NMR-STAR file, or folder of them (.gz too). Shifts of the wwPDB (1abc_cs.str) take the sequence of the structure
    1abc.cif in the same folder."""
    min_coverage: Annotated[float, Field(gt=0, le=1)] = MIN_COVERAGE
    """Smallest fraction of assigned amides of a protein."""

    def convert(self) -> list[str]:
        """Write the table and failures.csv."""
        from data_prepare.nmr.convert import convert_star

        return convert_star(self.file, self.output, self.min_coverage)


@dataclass(frozen=True, kw_only=True)
class RefdbOptions(StarOptions):
    """RefDB table of makeshift-nmr -> missing assignments; also <output>_rates.csv and .txt."""

    file: Path | None = None  # type: ignore[assignment]
    """Table of backbone shifts. Default: that of makeshift-nmr."""

    def convert(self) -> list[str]:
        """Write the table and the rates."""
        from data_prepare.nmr.convert import convert_refdb

        return convert_refdb(self.output, self.file, self.min_coverage)


@dataclass(frozen=True, kw_only=True)
class CpmgOptions(TableOptions):
    """Published RelaxDB-CPMG -> table."""

    file: Path
    """JSON by columns, or folder with one pickle per protein; also zipped, as downloaded."""
    split_list: Path | None = None
    """Use only the entries named in this file, one per line. Default: all of this set, by their names."""
    dssp: Path | None = None
    """Secondary structures for the column dssp: dssp.csv (.gz too; columns PDB and DSSP). Default: those of --file."""
    source: ClassVar[Source] = "cpmg"

    def convert(self) -> list[str]:
        """Write the table."""
        from data_prepare.nmr.convert import convert_published

        return convert_published(self.file, self.output, self.source, self.split_list, self.dssp)


@dataclass(frozen=True, kw_only=True)
class RelaxdbOptions(CpmgOptions):
    """Published RelaxDB -> table."""

    field_strength: tuple[float, ...] = ()
    """Use only the entries measured at these 1H frequencies (MHz). Default: all."""
    source = "relaxdb"

    def convert(self) -> list[str]:
        """Write the table."""
        from data_prepare.nmr.convert import convert_published

        return convert_published(
            self.file, self.output, self.source, self.split_list, self.dssp, field_strengths=self.field_strength
        )


@dataclass(frozen=True, kw_only=True)
class MbmrbOptions(CpmgOptions):
    """Published mBMRB (mBMRB_data.zip) -> table."""

    clusters: Path | None = None
    """TSV of cluster and entry (cluster_80pc.tsv), of which each epoch of a training sees one member. Default: none."""
    source = "mbmrb"

    def convert(self) -> list[str]:
        """Write the table."""
        from data_prepare.nmr.convert import convert_published

        return convert_published(self.file, self.output, self.source, self.split_list, self.dssp, self.clusters)


Options = (
    Annotated[RefdbOptions, tyro.conf.subcommand("refdb")]
    | Annotated[RelaxdbOptions, tyro.conf.subcommand("relaxdb")]
    | Annotated[CpmgOptions, tyro.conf.subcommand("cpmg")]
    | Annotated[MbmrbOptions, tyro.conf.subcommand("mbmrb")]
    | Annotated[StarOptions, tyro.conf.subcommand("star")]
    | Annotated[TableOptions, tyro.conf.subcommand("relaxation")]
    | Annotated[SplitOptions, tyro.conf.subcommand("split")]
)

main = partial(run, Options, lambda options: options.convert())  # type: ignore[arg-type]
