"""Choices and thresholds that command lines show; importing them loads nothing heavy."""

from __future__ import annotations

from typing import Final, Literal

Source = Literal["relaxdb", "cpmg", "mbmrb"]  # published sets of `relaxdb`
MIN_COVERAGE: Final = 0.8  # of `assignments`: missing signals of proteins below this say nothing about exchange
MIN_IDENTITY: Final = 0.3  # of `splits`
VALIDATION_FRACTION: Final = 0.1  # of `splits`: of the entries
