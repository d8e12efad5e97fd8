"""Results as files: the forms that the commands write."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prepare.properties import DSSP_STATES, RESIDUE_COLUMNS
from seqdance.app.analysis import Analysis
from seqdance.app.charts.structure import with_b_factors


def files(analysis: Analysis, model: str, dyna1: str) -> dict[str, Callable[[], bytes]]:
    """Name -> content of each file that the results allow; `model` (`dyna1` in exchange.csv) is a column of tables."""
    found: dict[str, Callable[[], bytes]] = {}
    if analysis.prediction is not None:
        arrays = analysis.prediction.arrays
        found["prediction.npz"] = partial(npz, arrays)
        found["residues.csv"] = lambda: csv(residue_table(analysis), model)
    compared = analysis.comparison.table if analysis.comparison else None
    for name, table, network in (
        ("mutations.csv", analysis.scores, model),
        ("exchange.csv", analysis.exchange, dyna1),
        ("comparison.csv", compared, model),
    ):
        if table is not None:
            found[name] = partial(csv, table, network)
    structure = analysis.choice.structure
    if structure is not None:
        for name, values in analysis.residue_values().items():
            file = f"{name.replace(' ', '_')}{structure.suffix}"
            found[file] = partial(coloured, analysis, values)
    return found


def residue_table(analysis: Analysis) -> pd.DataFrame:
    """A row per residue: chain, number as in the structure, letter, and each column of the residue properties."""
    residues, prediction = analysis.choice.residues, analysis.prediction
    assert prediction is not None
    columns: dict[str, object] = {
        "position": np.arange(1, len(residues) + 1),
        "chain": [residue.chain for residue in residues],
        "number": [residue.number for residue in residues],
        "residue": [residue.letter for residue in residues],
    }
    for name, (_, width) in RESIDUE_COLUMNS.items():
        values = prediction.properties[name]
        if width == 1:
            columns[name] = values
        else:
            ends = [state.strip() or "none" for state in DSSP_STATES] if name == "ss" else range(1, width + 1)
            columns |= {f"{name}_{end}": values[:, k] for k, end in enumerate(ends)}
    return pd.DataFrame(columns)


def csv(table: pd.DataFrame, model: str) -> bytes:
    """A table as CSV, with a last column that names the network."""
    return table.assign(model=model).to_csv(index=False).encode()


def coloured(analysis: Analysis, values: NDArray[Any]) -> bytes:
    """The structure with values (N,) as B-factors."""
    return with_b_factors(analysis.choice, values).content


def npz(arrays: dict[str, Any]) -> bytes:
    """Arrays as an npz file, as `seqdance predict` writes it."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()
