"""Packages that only some commands need, and the extra of `pip install 'seqdance[EXTRA]'` that brings each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

# package as imported -> as installed, and its extra; SciPy is in both, but data preparation needs more than that
OPTIONAL: Final[dict[str, tuple[str, str]]] = {
    "mdtraj": ("mdtraj", "prepare"),
    "numba": ("numba", "prepare"),
    "distributed": ("distributed", "prepare"),
    "threadpoolctl": ("threadpoolctl", "prepare"),
    "scipy": ("scipy", "evaluate"),
    "sklearn": ("scikit-learn", "evaluate"),
    "tensorboard": ("tensorboard", "train"),
    "yaml": ("pyyaml", "train"),
    "makeshift": ("makeshift-nmr", "nmr"),
    "pynmrstar": ("pynmrstar", "nmr"),
    "pyarrow": ("pyarrow", "parquet"),
    "openpyxl": ("openpyxl", "excel"),
    "dash": ("dash", "app"),
    "dash_molstar": ("dash-molstar", "app"),
    "plotly": ("plotly", "app"),
    "waitress": ("waitress", "app"),
    "dask_jobqueue": ("dask-jobqueue", "slurm"),
}


def missing_extra(error: ImportError) -> str | None:
    """What to install if an optional package is missing, in one line; None for any other error."""
    name = (error.name or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or name not in OPTIONAL:
        return None
    package, extra = OPTIONAL[name]
    if _importer(error).startswith("data_prepare.") and extra == "evaluate":
        extra = "prepare"
    return f"{Path(sys.argv[0]).name} requires {package}: pip install 'seqdance[{extra}]'"


def _importer(error: ImportError) -> str:
    """The last module of ours on the way to the error."""
    name, at = "", error.__traceback__
    while at is not None:
        found = at.tb_frame.f_globals.get("__name__", "")
        name = found if found.startswith(("data_prepare.", "model.", "seqdance.")) else name
        at = at.tb_next
    return name
