"""Command `seqdance check`: verify every entry of a store and its training table."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import tyro
from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from data_prepare.pipeline.split import TABLE
from seqdance.options import CommandOptions


@dataclass(frozen=True, kw_only=True)
class CheckOptions(CommandOptions):
    """Check shapes, ranges and symmetry of every entry of a store, its agreement with table.csv in its folder, and
    whether all entries are train or test."""

    store: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """Store to check, such as data/features.h5."""


def check(options: CheckOptions) -> None:
    """Print the problems and which properties entries lack; exit code 1 if there are any."""
    from data_prepare.dataset.check import check_store, missing_lines, unlabelled
    from data_prepare.dataset.store import FeatureStore

    table = options.store.with_name(TABLE)
    problems = check_store(options.store, table if table.is_file() else None)
    problems += unlabelled(table) if table.is_file() else []
    print(*problems, sep="\n", end="\n" if problems else "")
    with FeatureStore(options.store) as store:
        for line in missing_lines(store):
            print(f"{options.store}: {line}")
        print(f"{options.store}: entries: {len(store.names())}, problems: {len(problems) or 'none'}")
    if problems:
        raise SystemExit(1)


main = partial(run, CheckOptions, check)
