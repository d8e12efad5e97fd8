"""Figure of the predicted or measured properties of one protein."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from data_prepare.errors import require
from data_prepare.properties import DSSP_STATES, INTERACTIONS
from model.inference.prediction_files import Prediction, Properties

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
MODE_COLOURS: Final = {"low": "#0072B2", "middle": "#E69F00", "high": "#009E73"}  # by frequency
PROFILE_WIDTH: Final = 8.0  # inches
PROFILE_HEIGHT: Final = 1.75
MAP_WIDTH: Final = 4.6  # at most, colour bar included
ANGLES: Final = {"chi": "χ1", "phi": "φ", "psi": "ψ"}


def draw_prediction(prediction: Prediction) -> Figure:
    """Draw profiles along the sequence and maps of residue pairs, as far as the prediction has their properties."""
    properties = dict(prediction.properties)
    properties |= {name: properties[name] ** 3 for name in INTERACTIONS if name in properties}  # from cube roots
    title = f"{prediction.name} ({len(prediction.chain)} residues): predicted dynamics"
    return draw_properties([(title, prediction.chain, properties)])


def draw_properties(pictures: Sequence[tuple[str, NDArray[np.int32], Properties]]) -> Figure:
    """Draw the properties of one or more proteins below each other: title, chain of each residue (N,), properties.

    Interactions are contacts per frame. Values that are NaN are left blank.
    """
    sizes = [_size(title, properties) for title, _, properties in pictures]
    widths, heights = [size[0] for size in sizes], [size[1] for size in sizes]
    figure = Figure(figsize=(max(map(sum, widths)), sum(heights)), layout="constrained")
    parts = figure.subfigures(len(pictures), 1, height_ratios=heights, squeeze=False).flat
    for part, picture, width in zip(parts, pictures, widths, strict=True):
        _draw(part, *picture, width)
    return figure


def _size(title: str, properties: Properties) -> tuple[list[float], float]:
    """Widths of profiles and maps, as far as there are any, and height, in inches."""
    profiles = sum(any(name in properties for name in any_of) for any_of, _ in PROFILES)
    maps = len(pair_maps(properties))
    require(profiles or maps, f"{title}: nothing to draw; choose more properties")
    columns = 1 if maps < 3 else 2
    rows = -(-maps // columns)
    height = max(PROFILE_HEIGHT * profiles, 3.2 * rows) + 0.6
    widths = [PROFILE_WIDTH] if profiles else []
    return widths + ([columns * min(1.1 * height / rows, MAP_WIDTH)] if maps else []), height


def _draw(
    figure: SubFigure, title: str, chain: NDArray[np.int32], properties: Properties, widths: Sequence[float]
) -> None:
    residues = len(chain)
    profiles = [draw for any_of, draw in PROFILES if any(name in properties for name in any_of)]
    maps = pair_maps(properties)
    columns = 1 if len(maps) < 3 else 2
    rows = -(-len(maps) // columns)
    parts = list(figure.subfigures(1, len(widths), width_ratios=widths, squeeze=False).flat)
    figure.suptitle(title, fontsize=13)
    if profiles:
        panels = np.atleast_1d(parts.pop(0).subplots(len(profiles), 1, sharex=True))
        for axes, draw in zip(panels, profiles, strict=True):
            draw(axes, properties)
            axes.set_xlim(0.5, residues + 0.5)
            mark_chains(axes, chain, pairs=False)
        panels[-1].set_xlabel("residue")
    if maps:
        cells = parts.pop(0).subplots(rows, columns, squeeze=False).flat
        for axes, (title, values, options) in zip(cells, maps, strict=False):
            edges = (0.5, residues + 0.5, residues + 0.5, 0.5)
            image = axes.imshow(values, extent=edges, interpolation="nearest", **options)
            axes.set_title(title, fontsize=10)
            axes.set(xlabel="residue", ylabel="residue")
            axes.figure.colorbar(image, ax=axes, shrink=0.8)
            mark_chains(axes, chain, pairs=True)
        for axes in cells[len(maps) :]:
            axes.set_axis_off()


def pair_maps(properties: Properties) -> list[tuple[str, NDArray[np.float32], dict[str, Any]]]:
    """Title, values (N, N) and image options of each map; interactions are contacts per frame."""
    maps: list[tuple[str, NDArray[np.float32], dict[str, Any]]] = []
    shown = [name for name in INTERACTIONS if name in properties]
    if shown:
        complete = len(shown) == len(INTERACTIONS)
        title = "contacts per frame" if complete else f"contacts per frame: {', '.join(shown)}"
        contacts = np.sum([properties[name] for name in shown], axis=0)
        norm = PowerNorm(0.5, 0, max(np.nanmax(contacts), 1e-6))
        maps.append((title, contacts, {"cmap": "magma_r", "norm": norm}))
    titles = {"corr": "co-movement (correlation)"}
    titles |= {f"nma_pair{n}": f"normal modes, {mode} frequencies" for n, mode in enumerate(MODE_COLOURS, 1)}
    for name, title in titles.items():
        if name in properties:
            maps.append((title, properties[name], {"cmap": "RdBu_r", "vmin": -1, "vmax": 1}))
    return maps


def mark_chains(axes: Axes, chain: NDArray[np.int32], pairs: bool) -> None:
    """Draw a line at the start of each chain."""
    for edge in np.flatnonzero(np.diff(chain)) + 1.5:
        for line in (axes.axvline, axes.axhline)[: 1 + pairs]:
            line(edge, color="black", linewidth=0.8, linestyle="--")


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


def draw_states(axes: Axes, properties: Properties) -> None:
    """Stacked fractions of the DSSP states."""
    fractions = properties["ss"].T  # (8, N)
    order = [DSSP_STATES.index(state) for state in STATE_COLOURS]
    names, colours = zip(*STATE_COLOURS.values(), strict=True)
    # from half a residue before the first centre to half a residue after the last one
    edges = np.arange(fractions.shape[1] + 1) + 0.5
    steps = np.hstack([fractions[order], fractions[order, -1:]])  # (8, N + 1)
    axes.stackplot(edges, steps, step="post", labels=names, colors=colours, linewidth=0)
    axes.set_ylim(0, 1)
    axes.set_ylabel("DSSP fraction")
    axes.legend(loc="center left", bbox_to_anchor=(1.005, 0.5), fontsize=7, frameon=False, labelspacing=0.2)


def _angle(name: str, axes: Axes, properties: Properties) -> None:
    fractions = properties[name].T  # (12, N)
    extent = (0.5, fractions.shape[1] + 0.5, -180, 180)
    options: dict[str, Any] = {"origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    image = axes.imshow(fractions, extent=extent, cmap="viridis", vmin=0, **options)
    axes.set_yticks([-180, -90, 0, 90, 180])
    axes.set_ylabel(f"{ANGLES[name]} (degrees)")
    axes.figure.colorbar(image, ax=axes, label="fraction", pad=0.01)


def _modes(axes: Axes, properties: Properties) -> None:
    for n, (mode, colour) in enumerate(MODE_COLOURS.items(), start=1):
        if (name := f"nma_res{n}") in properties:
            axes.plot(_positions(properties[name]), properties[name], color=colour, label=mode)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("GNM fluctuation")
    axes.legend(title="frequency", loc="center left", bbox_to_anchor=(1.005, 0.5), fontsize=7, frameon=False)


# a panel is drawn if the prediction has one of these properties
PROFILES: Final[tuple[tuple[tuple[str, ...], Callable[[Axes, Properties], None]], ...]] = (
    (("sasa_mean",), _sasa),
    (("rmsf_nor",), _rmsf),
    (("ss",), draw_states),
    *(((name,), partial(_angle, name)) for name in ANGLES),
    (("nma_res1", "nma_res2", "nma_res3"), _modes),
)
