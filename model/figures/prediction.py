"""Figure of the predicted properties of one protein."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import InputError, first_line
from data_prepare.files import whole_file
from data_prepare.properties import DSSP_STATES, INTERACTIONS
from model.inference.prediction_files import Prediction, Properties

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# helices warm, strands blue, the rest pale
STATE_COLOURS: Final = {
    "H": ("alpha helix", "#D55E00"),
    "G": ("3-10 helix", "#E69F00"),
    "I": ("pi helix", "#CC79A7"),
    "E": ("strand", "#0072B2"),
    "B": ("bridge", "#56B4E9"),
    "T": ("turn", "#8FC79A"),
    "S": ("bend", "#C9DDB8"),
    " ": ("none", "#EDEDED"),
}
MODE_COLOURS: Final = ("#0072B2", "#E69F00", "#009E73")  # low, middle and high frequencies
MODES: Final = ("low", "middle", "high")
PROFILE_WIDTH: Final = 8.0  # inches
PROFILE_HEIGHT: Final = 1.75
MAP_WIDTH: Final = 4.6  # at most, colour bar included
ANGLES: Final = {"chi": "χ1", "phi": "φ", "psi": "ψ"}


def plot_prediction(prediction: Prediction, path: str | os.PathLike[str]) -> None:
    """Draw profiles along the sequence and maps of residue pairs, as many as the prediction has; whole or not at all.

    Raises
    ------
    InputError
        The ending of the path is of no known format.
    """
    figure = draw_prediction(prediction)
    try:
        with whole_file(Path(path)) as temporary:
            figure.savefig(temporary, dpi=110)
    except ValueError as error:  # of an unknown ending
        raise InputError(f"{path}: {first_line(error)}") from None


def draw_prediction(prediction: Prediction) -> Figure:
    """The figure: profiles on the left, maps of pairs on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    properties = prediction.properties
    profiles = [draw for any_of, draw in PROFILES if any(name in properties for name in any_of)]
    maps = pair_maps(properties)
    if not profiles and not maps:
        raise InputError(f"{prediction.name}: nothing to draw; predict more properties")
    rows = -(-len(maps) // 2)
    height = max(PROFILE_HEIGHT * len(profiles), 3.2 * rows) + 0.6
    columns = min(len(maps), 2)
    widths = [PROFILE_WIDTH] if profiles else []
    if maps:
        widths.append(columns * min(1.1 * height / rows, MAP_WIDTH))
    figure = Figure(figsize=(sum(widths), height), layout="constrained")
    FigureCanvasAgg(figure)
    parts = list(figure.subfigures(1, len(widths), width_ratios=widths, squeeze=False).flat)
    residues = len(prediction.chain)
    figure.suptitle(f"{prediction.name} ({residues} residues): predicted dynamics", fontsize=13)
    if profiles:
        panels = np.atleast_1d(parts.pop(0).subplots(len(profiles), 1, sharex=True))
        for axes, draw in zip(panels, profiles, strict=True):
            draw(axes, properties)
            axes.set_xlim(0.5, residues + 0.5)
            mark_chains(axes, prediction.chain, pairs=False)
        panels[-1].set_xlabel("residue")
    if maps:
        cells = parts.pop(0).subplots(rows, columns, squeeze=False).flat
        for axes, (title, values, options) in zip(cells, maps, strict=False):
            edges = (0.5, residues + 0.5, residues + 0.5, 0.5)
            image = axes.imshow(values, extent=edges, interpolation="nearest", **options)
            axes.set_title(title, fontsize=10)
            axes.set(xlabel="residue", ylabel="residue")
            axes.figure.colorbar(image, ax=axes, shrink=0.8)
            mark_chains(axes, prediction.chain, pairs=True)
        for axes in cells[len(maps) :]:
            axes.set_axis_off()
    return figure


def contact_map(properties: Properties) -> NDArray[np.float32]:
    """(N, N) contacts per frame: the sum of the predicted interactions, which are cube roots of their frequencies."""
    return np.sum([properties[name] ** 3 for name in INTERACTIONS if name in properties], axis=0)


def pair_maps(properties: Properties) -> list[tuple[str, NDArray[np.float32], dict[str, Any]]]:
    """Title, values (N, N) and options of the image of each map."""
    from matplotlib.colors import PowerNorm

    maps: list[tuple[str, NDArray[np.float32], dict[str, Any]]] = []
    there = [name for name in INTERACTIONS if name in properties]
    if there:
        title = "contacts per frame" if len(there) == len(INTERACTIONS) else f"contacts per frame: {', '.join(there)}"
        contacts = contact_map(properties)
        maps.append((title, contacts, {"cmap": "magma_r", "norm": PowerNorm(0.5, 0, max(contacts.max(), 1e-6))}))
    titles = {"corr": "co-movement (correlation)"} | {
        f"nma_pair{n}": f"normal modes, {mode} frequencies" for n, mode in enumerate(MODES, 1)
    }
    for name, title in titles.items():
        if name in properties:
            maps.append((title, properties[name], {"cmap": "RdBu_r", "vmin": -1, "vmax": 1}))
    return maps


def mark_chains(axes: Axes, chain: NDArray[np.int32], pairs: bool) -> None:
    """A line where a chain begins."""
    for place in np.flatnonzero(np.diff(chain)) + 1.5:
        axes.axvline(place, color="black", linewidth=0.8, linestyle="--")
        if pairs:
            axes.axhline(place, color="black", linewidth=0.8, linestyle="--")


def _positions(values: NDArray[np.float32]) -> NDArray[np.intp]:
    return np.arange(1, len(values) + 1)


def _sasa(axes: Axes, properties: Properties) -> None:
    mean, spread = properties["sasa_mean"], properties.get("sasa_std")
    axes.plot(_positions(mean), mean, color="#0072B2")
    if spread is not None:
        low = np.maximum(mean - spread, 0)
        axes.fill_between(_positions(mean), low, mean + spread, color="#0072B2", alpha=0.25, linewidth=0, label="± SD")
        axes.legend(loc="upper right", fontsize=8)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("SASA (nm²)")


def _rmsf(axes: Axes, properties: Properties) -> None:
    values = properties["rmsf_nor"]
    axes.plot(_positions(values), values, color="#444444")
    axes.set_ylim(0, 1)
    axes.set_ylabel("RMSF / max")


def _states(axes: Axes, properties: Properties) -> None:
    shares = properties["ss"].T  # (8, N)
    order = [DSSP_STATES.index(state) for state in STATE_COLOURS]
    names, colours = zip(*STATE_COLOURS.values(), strict=True)
    # to the edges of the first and last residue, which are half a residue beyond its centre
    edges = np.arange(shares.shape[1] + 1) + 0.5
    shown = np.hstack([shares[order], shares[order, -1:]])  # (8, N + 1)
    axes.stackplot(edges, shown, step="post", labels=names, colors=colours, linewidth=0)
    axes.set_ylim(0, 1)
    axes.set_ylabel("DSSP share")
    axes.legend(loc="center left", bbox_to_anchor=(1.005, 0.5), fontsize=7, frameon=False, labelspacing=0.2)


def _angle(name: str) -> Any:
    def draw(axes: Axes, properties: Properties) -> None:
        shares = properties[name].T  # (12, N)
        extent = (0.5, shares.shape[1] + 0.5, -180, 180)
        image = axes.imshow(
            shares, extent=extent, origin="lower", aspect="auto", cmap="viridis", vmin=0, interpolation="nearest"
        )
        axes.set_yticks([-180, -90, 0, 90, 180])
        axes.set_ylabel(f"{ANGLES[name]} (degrees)")
        axes.figure.colorbar(image, ax=axes, label="share", pad=0.01)

    return draw


def _modes(axes: Axes, properties: Properties) -> None:
    for n, (mode, colour) in enumerate(zip(MODES, MODE_COLOURS, strict=True), start=1):
        if (name := f"nma_res{n}") in properties:
            axes.plot(_positions(properties[name]), properties[name], color=colour, label=mode)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("GNM fluctuation")
    axes.legend(title="frequency", loc="center left", bbox_to_anchor=(1.005, 0.5), fontsize=7, frameon=False)


# properties of which a panel needs one, and what draws it
PROFILES: Final = (
    (("sasa_mean",), _sasa),
    (("rmsf_nor",), _rmsf),
    (("ss",), _states),
    *(((name,), _angle(name)) for name in ANGLES),
    (("nma_res1", "nma_res2", "nma_res3"), _modes),
)
