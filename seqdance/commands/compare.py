"""Command `seqdance compare`: two measurements or predictions of one protein side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from data_prepare.errors import require
from data_prepare.files import check_output, whole_file
from data_prepare.molecular_dynamics.frames.frame_range import FrameRange
from model.choices import FREQUENT, SEPARATION
from seqdance.options import DeviceOptions, FigureFormat

if TYPE_CHECKING:
    from model.evaluation.measurement import Measurement

TABLE, RESIDUES, FIGURE = "comparison.csv", "residues.csv", "comparison"


@dataclass(frozen=True, kw_only=True)
class Side(FrameRange):
    """Frames of a trajectory, and a name for the figure."""

    begin: Annotated[int, Field(ge=0)] = 0
    """First frame."""
    label: str | None = None
    """Name in the figure. Default: that of the file or entry."""


@dataclass(frozen=True, kw_only=True)
class CompareOptions(DeviceOptions):
    """Compare two measurements or predictions of one protein: table, residues and a figure.

    A and B are each TOPOLOGY:TRAJECTORY (replicas: TOPOLOGY:X1,X2), a multi-model PDB or mmCIF file, STORE.h5:NAME, the
    prefix of the files of MD_features (or TOPOLOGY:PREFIX), or a prediction (NAME.npz or FILE.h5:NAME). With --model
    instead of B, A is compared with the prediction for its sequence.
    """

    sources: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="A [B]")]
    """The two sides."""
    output: Path
    """Folder for comparison.csv (a row per property), residues.csv (a row per residue) and the figure."""
    model: str | None = None
    """Network that predicts B: seqdance, esmdance, demo, a folder, weight file, or Hub id."""
    a: Side = Side()  # immutable
    """Frames and label of A."""
    b: Side = Side()
    """Frames and label of B."""
    table: Path | None = None
    """Training table with the sequences of store entries. Default: those in the store, or table.csv beside it."""
    convergence: bool = True
    """Compute the features of replicas or halves of trajectories, too: how far each side agrees with itself."""
    skip_broken_frames: bool = False
    """Leave out frames that are damaged instead of stopping at them."""
    separation: Annotated[int, Field(ge=1)] = SEPARATION
    """Least distance in the chain of the two residues of a pair."""
    frequent: Annotated[float, Field(gt=0)] = FREQUENT
    """Contacts per frame from which a pair counts as a frequent contact."""
    format: Annotated[FigureFormat, tyro.conf.arg(aliases=["--plot-format"])] = "png"
    """Format of the figure."""

    def __post_init__(self) -> None:
        given = len(self.sources) + (self.model is not None)
        require(given == 2, "give A and B, or A and --model")
        check_output(self.output / TABLE)


def compare(options: CompareOptions) -> list[Path]:
    """Write the comparison; returns the paths."""
    from model.evaluation.compare import compare_measurements
    from model.figures.comparison import draw_comparison
    from model.figures.save import save_figure

    first, second, note = sides(options)
    found = compare_measurements(first, second, options.separation, options.frequent)
    paths = [options.output / name for name in (TABLE, RESIDUES, f"{FIGURE}.{options.format}")]
    for path, table in zip(paths, (found.table, found.residues), strict=False):
        with whole_file(path) as temporary:
            table.assign(**{"model": note} if note else {}).to_csv(temporary, index=False, float_format="%.5g")
    save_figure(draw_comparison(found), paths[-1], dpi=200, note=note)
    return paths


def sides(options: CompareOptions) -> tuple[Measurement, Measurement, str]:
    """The two measurements, and the label of the network that predicts one of them, if any."""
    from model.evaluation.measurement import check_source, predicted, read_measurement

    for source in options.sources:
        check_source(source)
    model = None
    if options.model is not None:
        from model.network.dance import load_model

        model = load_model(options.model, options.device)
    more = (options.table, options.convergence, options.skip_broken_frames)
    both = zip(options.sources, (options.a, options.b), strict=False)
    measured = [read_measurement(source, side, side.label, *more) for source, side in both]
    if model is not None:
        measured.append(predicted(model, measured[0], options.b.label or Path(str(options.model)).name))
    if measured[0].name == measured[1].name and not (options.a.label or options.b.label):
        names = different_names([*options.sources, str(options.model)], measured[0].name, (options.a, options.b))
        measured = [replace(own, name=name) for own, name in zip(measured, names, strict=True)]
    return measured[0], measured[1], model.label if model else ""


def different_names(given: Sequence[str], name: str, frames: Sequence[Side]) -> list[str]:
    """Names of two sides of one name: the ends of their files or entries that differ, otherwise their frames."""
    lists = re.compile("(:[^:,]*),([^:]*)$")
    counted = [lists.sub(lambda own: f"{own[1]} ({own[2].count(',') + 2} replicas)", text) for text in given[:2]]
    parts = re.compile(r"[^:]*,.*|[^/\\:]+[/\\:]*")  # folders, files or lists of them, entries
    for texts in (counted, given[:2]):
        one, other = map(parts.findall, texts)
        for k in range(1, max(len(one), len(other)) + 1):
            if one[-k:] != other[-k:]:
                return ["".join(own[-k:]) for own in (one, other)]
    options = [option for option in ("begin", "end", "stride") if len({getattr(own, option) for own in frames}) > 1]
    chosen = [[(option, getattr(own, option)) for option in options] for own in frames]
    return [", ".join([name, *(f"{option} {value}" for option, value in own if value is not None)]) for own in chosen]


main = partial(run, CompareOptions, compare)
