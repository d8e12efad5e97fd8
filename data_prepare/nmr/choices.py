"""Choices and thresholds that command lines show; importing them loads nothing heavy."""

from __future__ import annotations

from typing import Final, Literal

Source = Literal["relaxdb", "cpmg", "mbmrb"]  # published sets of `relaxdb`
FILE_SETS: Final = ("relaxdb", "cpmg")  # those of them that `dyna1 evaluate` reads from published files
MIN_COVERAGE: Final = 0.8  # of `assignments`: missing signals of proteins below this say nothing about exchange
MIN_IDENTITY: Final = 0.3  # of `splits`
VALIDATION_FRACTION: Final = 0.1  # of `splits`: of the entries
