"""Command `seqdance check`: verify every entry of a store, and the table beside it if there is one.

seqdance check data/features.h5
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from pydantic.dataclasses import dataclass

from data_prepare.command_line import Settings, run
from data_prepare.dataset.check import check_store
from data_prepare.dataset.store import FeatureStore
from data_prepare.pipeline.training_set import TABLE


@dataclass(frozen=True, kw_only=True)
class CheckOptions(Settings):
    """Check shapes, ranges and symmetry of every entry of a store, and its agreement with the table beside it."""

    store: Annotated[Path, tyro.conf.Positional]
    """Store to check."""
    debug: bool = False
    """Show the traceback of an error."""


def check(options: CheckOptions) -> None:
    """Print what is wrong; exit code 1 if anything is."""
    table = options.store.with_name(TABLE)
    problems = check_store(options.store, table if table.is_file() else None)
    print(*problems, sep="\n", end="\n" if problems else "")
    with FeatureStore(options.store) as store:
        print(f"{options.store}: {len(store.names())} entries, {len(problems) or 'no'} problems")
    if problems:
        raise SystemExit(1)


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    run(CheckOptions, check, args)
