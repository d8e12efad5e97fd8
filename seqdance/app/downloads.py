"""Results as files: the forms that the commands write."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from model.inference.prediction_files import residue_table
from seqdance.app.analysis import Analysis, Networks


def files(analysis: Analysis, networks: Networks) -> dict[str, Callable[[], bytes]]:
    """Name -> content of each file that the results allow."""
    found: dict[str, Callable[[], bytes]] = {}
    if analysis.prediction is not None:
        found["prediction.npz"] = partial(npz, analysis.prediction.arrays)
        found["residues.csv"] = partial(csv, residue_table(analysis.choice.protein, analysis.prediction))
    if analysis.scores is not None:
        found["mutations.csv"] = partial(csv, analysis.scores)
    if analysis.exchange is not None:
        found["exchange.csv"] = partial(csv, analysis.exchange.assign(model=networks.dyna1_label))
    if analysis.comparison is not None:
        table = analysis.comparison.table.assign(simulation=analysis.comparison.first.name, model=networks.label)
        found["comparison.csv"] = partial(csv, table)
    structure = analysis.choice.structure
    if structure is not None:
        for name, values in analysis.residue_values().items():
            file = f"{name.replace(' ', '_')}{structure.suffix}"
            found[file] = partial(coloured, analysis, values)
    return found


def csv(table: pd.DataFrame) -> bytes:
    """A table as CSV."""
    return table.to_csv(index=False).encode()


def coloured(analysis: Analysis, values: NDArray[Any]) -> bytes:
    """The structure with values (N,) as B-factors."""
    return analysis.choice.with_b_factors(values).content


def npz(arrays: dict[str, Any]) -> bytes:
    """Arrays as an npz file, as `seqdance predict` writes it."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()
