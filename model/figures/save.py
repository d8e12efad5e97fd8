"""Write figures to files."""

from __future__ import annotations

import os
from pathlib import Path

from matplotlib.figure import Figure

from data_prepare.errors import InputError, first_line
from data_prepare.files import whole_file


def save_figure(figure: Figure, path: str | os.PathLike[str], dpi: int = 100) -> None:
    """Write a figure; the suffix of the path selects the format. InputError if matplotlib does not know the format."""
    try:
        with whole_file(Path(path)) as temporary:
            figure.savefig(temporary, dpi=dpi)
    except ValueError as error:
        raise InputError(f"{path}: {first_line(error)}") from None
