"""Results as files: the forms that the commands write."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pandas as pd

from data_prepare.properties import DSSP_STATES, RESIDUE_COLUMNS
from seqdance.app.analysis import Analysis
from seqdance.app.charts.structure import with_b_factors


def files(analysis: Analysis, model: str) -> dict[str, Callable[[], bytes]]:
    """Name -> content of each file that the results allow; `model` is a column of each table."""
    found: dict[str, Callable[[], bytes]] = {}
    if analysis.prediction is not None:
        arrays = analysis.prediction.arrays
        found["prediction.npz"] = lambda: npz(arrays)
        found["residues.csv"] = lambda: csv(residue_table(analysis), model)
    for name, table in (("mutations.csv", analysis.scores), ("exchange.csv", analysis.exchange)):
        if table is not None:
            found[name] = lambda table=table: csv(table, model)  # type: ignore[misc]
    if analysis.comparison is not None:
        compared = analysis.comparison.table
        found["comparison.csv"] = lambda: csv(compared, model)
    structure = analysis.choice.structure
    if structure is not None:
        for name, values in analysis.residue_values().items():
            file = f"{name.replace(' ', '_')}{structure.suffix}"
            found[file] = lambda values=values: with_b_factors(analysis.choice, values).content  # type: ignore[misc]
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


def npz(arrays: dict[str, object]) -> bytes:
    """Arrays as an npz file, as `seqdance predict` writes it."""
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()
