"""Axes at a place in inches, and figures in files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from data_prepare.errors import InputError, first_line
from data_prepare.files import whole_file

NOTE_HEIGHT: Final = 0.16  # inches
# letters stay letters in the programs for drawings
EDITABLE: Final[dict[Any, Any]] = {"svg.fonttype": "none", "pdf.fonttype": 42}


def place(figure: Figure, left: float, top: float, width: float, height: float, **options: Any) -> Axes:
    """New axes whose upper left corner is at (`left`, `top`) from that of the figure, in inches."""
    whole, high = figure.get_size_inches()
    return figure.add_axes((left / whole, 1 - (top + height) / high, width / whole, height / high), **options)


def save_figure(figure: Figure, path: str | os.PathLike[str], dpi: int = 100, note: str = "") -> None:
    """Write a figure; the suffix of the path selects the format. InputError if matplotlib does not know the format.

    A `note`, such as the network that the figure shows, is written small below it.
    """
    if note:
        share = NOTE_HEIGHT / figure.get_size_inches()[1]
        if isinstance(engine := figure.get_layout_engine(), ConstrainedLayoutEngine):
            engine.set(rect=(0, share, 1, 1 - share))
        figure.text(0.995, share / 4, note, ha="right", va="bottom", fontsize=6, color="#555555")
    try:
        with whole_file(Path(path)) as temporary, rc_context(EDITABLE):
            figure.savefig(temporary, dpi=dpi)
    except ValueError as error:
        raise InputError(f"{path}: {first_line(error)}") from None
