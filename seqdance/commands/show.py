"""Command `seqdance show`: picture of an entry of a store, also with the prediction for its sequence."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro
from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from data_prepare.errors import InputWarning
from data_prepare.files import check_output
from seqdance.options import DeviceOptions


@dataclass(frozen=True, kw_only=True)
class ShowOptions(DeviceOptions):
    """Draw the measured properties of an entry as `predict --plot` draws predicted ones."""

    store: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """Feature store, such as data/features.h5."""
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """Entry of the store."""
    output: Path | None = None
    """The figure; its suffix selects the format. Default: NAME.png."""
    model: str | None = None
    """Network whose prediction is drawn below: seqdance, esmdance, demo, a folder, weight file, or Hub id."""
    table: Path | None = None
    """Training table with the sequence of the entry. Default: that in the store, or table.csv beside it."""

    def __post_init__(self) -> None:
        check_output(self.figure)

    @property
    def figure(self) -> Path:
        """The file to write."""
        from model.inference.inputs import file_name

        return self.output or Path(f"{file_name(self.name)}.png")


def show(options: ShowOptions) -> list[Path]:
    """Draw the figure and return its path."""
    from model.evaluation.measurement import of_entry, predicted
    from model.figures.prediction import draw_properties
    from model.figures.save import save_figure

    measured = of_entry(options.store, options.name, options.table)
    if measured.missing:
        message = f"{options.store}: entry {options.name} lacks {', '.join(measured.missing)}"
        warnings.warn(message, InputWarning, stacklevel=1)
    residues = f"{options.name} ({len(measured.residue)} residues)"
    pictures = [(f"{residues}: measured dynamics", *measured.on_whole_sequence())]
    note = ""
    if options.model is not None:
        from model.network.dance import load_model

        model = load_model(options.model, options.device)
        note = model.label
        prediction = predicted(model, measured, Path(options.model).name)
        held = {name: values for name, values in prediction.properties.items() if name in measured.properties}
        pictures.append((f"{options.name}: predicted by {prediction.name}", prediction.chain, held))
    save_figure(draw_properties(pictures), options.figure, dpi=110, note=note)
    return [options.figure]


main = partial(run, ShowOptions, show)
