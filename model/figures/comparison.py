"""Figure of two measurements or predictions of one protein."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from data_prepare.properties import DSSP_STATES
from model.evaluation.compare import CONTACTS, Comparison, divergence, pair_values
from model.evaluation.measurement import Measurement
from model.figures.prediction import (
    ANGLES,
    BLANK,
    CORRELATIONS,
    MODE_COLOURS,
    STATE_COLOURS,
    contact_colours,
    correlation_colours,
    draw_states,
    mark_chains,
    near_pairs,
    number_residues,
)

COLOURS: Final = ("#222222", "#CC3377")  # of A and B, unlike those of the DSSP states
ANGLE_COLOURS: Final = {"chi": "#C4C4C4", "phi": "#009E73", "psi": "#4B4BC3"}
PROFILE_WIDTH: Final = 6.4  # inches
PROFILE_HEIGHT: Final = 1.35
TRACK_HEIGHT: Final = 0.72
MAP_WIDTH: Final = 4.2
MAP_HEIGHT: Final = 3.9
LONGEST_LABEL: Final = 32
SAME_LETTERS: Final = 8  # shown before the first that differs, of names that differ in the middle
SMALL: Final = 8  # font size of numbers
RARE_STATE: Final = 0.002  # mean fraction of a state below which the legend leaves it out
TITLES: Final = {
    "rmsf": "RMSF (nm)",
    "rmsf_nor": "RMSF / max",
    "sasa_mean": "SASA (nm²)",
    **{f"nma_res{k}": f"GNM, {mode} freq." for k, mode in enumerate(MODE_COLOURS, 1)},
}
MAP_TITLES: Final = {CONTACTS: "contacts per frame", **CORRELATIONS}

Row = Mapping[Any, Any]  # metric -> value of a property


class Panel(NamedTuple):
    """A panel along the sequence."""

    height: float  # inches
    draw: Callable[[Axes], object]


def draw_comparison(comparison: Comparison) -> Figure:
    """Draw profiles over each other, secondary structure as two tracks, and maps in two triangles.

    Bands are the range of the replicas or halves of a trajectory. Residues are numbered as in the first side.
    """
    first = comparison.first
    rows = {str(row["property"]): row for row in comparison.table.to_dict("records")}
    names = [side.name.replace("_", " ") for side in sides(comparison)]
    if names[0] != names[1] and _shortened(names[0]) == _shortened(names[1]):  # they differ where they are cut
        start = next((k for k, (a, b) in enumerate(zip(*names, strict=False)) if a != b), 0) - SAME_LETTERS
        names = [f"…{name[max(start, 0) :]}" for name in names]
    labels = [f"{letter}: {_shortened(name)}" for letter, name in zip("AB", names, strict=True)]
    panels, maps = _panels(comparison, rows), [name for name in MAP_TITLES if name in rows]
    below = min(len(maps), 2)
    columns = -(-len(maps) // max(below, 1))
    widths = ([PROFILE_WIDTH] if panels else []) + ([MAP_WIDTH * columns] if maps else [])
    height = max(sum(panel.height for panel in panels), MAP_HEIGHT * below) + 0.4
    figure = Figure(figsize=(sum(widths), height), layout="constrained")
    parts = list(figure.subfigures(1, len(widths), width_ratios=widths, squeeze=False).flat)
    handles = [Patch(color=colour, label=label) for colour, label in zip(COLOURS, labels, strict=True)]
    place: dict[str, Any] = {"loc": "outside upper center", "ncols": 3, "frameon": False, "borderaxespad": 0.2}
    if comparison.first.parts or comparison.second.parts:
        note = "bands and brackets: replicas or halves of one side"
        handles.append(Patch(facecolor="none", edgecolor="none", label=note))
    figure.legend(handles=handles, fontsize=10, handlelength=1, **place)
    if panels:
        heights = [panel.height for panel in panels]
        cells = parts.pop(0).subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights).flat
        for axes, panel in zip(cells, panels, strict=True):
            panel.draw(axes)
            axes.set_xlim(0.5, len(first.residue) + 0.5)
            axes.tick_params(labelsize=SMALL)
            mark_chains(axes, first.chain, pairs=False)
        number_residues(cells[-1], first.numbers, pairs=False)
        cells[-1].set_xlabel("residue", fontsize=9)
    if maps:
        cells = parts.pop(0).subplots(below, columns, squeeze=False, gridspec_kw={"hspace": 0.08}).T.flat
        for axes, name in zip(cells, maps, strict=False):
            _draw_map(axes, name, comparison, rows[name])
        for axes in cells[len(maps) :]:
            axes.set_axis_off()
    return figure


def sides(comparison: Comparison) -> tuple[Measurement, Measurement]:
    """Both sides."""
    return comparison.first, comparison.second


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_LABEL else f"{name[:15]}…{name[1 - LONGEST_LABEL + 15 :]}"


def _panels(comparison: Comparison, rows: Mapping[str, Row]) -> list[Panel]:
    profiles = [name for name in TITLES if name in rows and not (name == "rmsf_nor" and "rmsf" in rows)]
    panels = [Panel(PROFILE_HEIGHT, partial(_draw_profile, comparison, name, rows[name])) for name in profiles]
    if "ss" in rows:
        numbers = f"mean divergence {_with_ceiling(rows['ss'], 'jensen_shannon', 3)}"
        both = sides(comparison)
        panels.append(Panel(TRACK_HEIGHT, partial(_draw_track, both[0], "DSSP A", COLOURS[0], numbers, ())))
        states = np.concatenate([side.properties["ss"] for side in both]).mean(axis=0)
        shown = [state for state in STATE_COLOURS if states[DSSP_STATES.index(state)] > RARE_STATE]
        panels.append(Panel(TRACK_HEIGHT, partial(_draw_track, both[1], "DSSP B", COLOURS[1], "", shown)))
    if angles := [name for name in ANGLE_COLOURS if name in rows]:
        panels.append(
            Panel(PROFILE_HEIGHT, partial(_draw_divergence, comparison, {name: rows[name] for name in angles}))
        )
    return panels


def _with_ceiling(row: Row, metric: str, digits: int = 2) -> str:
    """A metric and, in brackets, the same within the sides."""
    within = [(side.upper(), row.get(f"within_{side}_{metric}", np.nan)) for side in "ab"]
    shown = ", ".join(f"{side} {value:.{digits}f}" for side, value in within if np.isfinite(value))
    return f"{row[metric]:.{digits}f}" + (f" ({shown})" if shown else "")


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="right", fontsize=SMALL, pad=3, color="#333333")


def _draw_profile(comparison: Comparison, name: str, row: Row, axes: Axes) -> None:
    x = np.arange(1, len(comparison.first.residue) + 1)
    chains = np.split(x - 1, np.flatnonzero(np.diff(comparison.first.chain)) + 1)
    for side, colour in zip(sides(comparison), COLOURS, strict=True):
        parts = [part[name] for part in side.parts if name in part]
        if name == "rmsf_nor" and parts:  # all by the maximum of the whole, not by their own
            scale = (side.properties["rmsf_nor"] / side.properties["rmsf"])[0]
            parts = [part["rmsf"] * scale for part in side.parts]
        for rows in chains:
            if parts:
                low, high = np.min(parts, axis=0)[rows], np.max(parts, axis=0)[rows]
                axes.fill_between(x[rows], low, high, color=colour, alpha=0.22, linewidth=0)
            axes.plot(x[rows], side.properties[name][rows], color=colour, linewidth=1.2)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(TITLES[name], fontsize=9)
    _title(axes, f"Pearson {_with_ceiling(row, 'pearson')}, Spearman {_with_ceiling(row, 'spearman')}")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_track(side: Measurement, title: str, colour: str, numbers: str, legend: Sequence[str], axes: Axes) -> None:
    """Fractions of the DSSP states; `legend` are the states named below the track."""
    draw_states(axes, side.properties)
    if drawn := axes.get_legend():
        drawn.remove()
    axes.set_yticks([])
    axes.set_ylabel(title, fontsize=9, color=colour)
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=1.2)
    if numbers:
        _title(axes, numbers)
    if legend:
        handles = [Patch(color=STATE_COLOURS[state][1], label=STATE_COLOURS[state][0]) for state in legend]
        style: dict[str, Any] = {"frameon": False, "handlelength": 0.9, "columnspacing": 1.0, "handletextpad": 0.4}
        place: dict[str, Any] = {
            "loc": "upper center",
            "bbox_to_anchor": (0.5, -0.02),
            "ncols": len(legend),
            "borderaxespad": 0.1,
        }
        axes.legend(handles=handles, fontsize=7.5, **style, **place)


def _draw_divergence(comparison: Comparison, rows: Mapping[str, Row], axes: Axes) -> None:
    first, second = (side.properties for side in sides(comparison))
    numbers = []
    for name, colour in ANGLE_COLOURS.items():
        if name in rows:
            values = divergence(first[name], second[name])
            x = np.arange(1, len(values) + 1)
            if name == "chi":  # many residues have none: a line would lose those between them
                axes.bar(x, values, width=0.8, color=colour, label=ANGLES[name])
            else:
                axes.plot(x, values, color=colour, linewidth=1.1, label=ANGLES[name])
            numbers.append(f"{ANGLES[name]} {_with_ceiling(rows[name], 'jensen_shannon')}")
    axes.set(ylim=(0, 1.2), yticks=(0, 0.5, 1))  # room for the legend
    axes.set_ylabel("divergence (bit)", fontsize=9)
    _title(axes, "mean " + ", ".join(numbers))
    axes.legend(loc="upper right", fontsize=SMALL, ncols=3, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_map(axes: Axes, name: str, comparison: Comparison, row: Row) -> None:
    """The first side above the diagonal, the second below it."""
    common = comparison.first.properties.keys() & comparison.second.properties.keys()
    above, below = (pair_values({each: side.properties[each] for each in common}, name) for side in sides(comparison))
    values = np.where(np.triu(np.ones(above.shape, bool), 1), above, below)
    near = near_pairs(comparison.first.chain, comparison.first.residue, comparison.separation)
    edges = (0.5, len(values) + 0.5)
    if name == CONTACTS:
        values[near] = np.nan
        colours, scale, ticks = contact_colours(values)
        axes.axline((1, 1), slope=1, color="#777777", linewidth=0.6)
        frequent = f"average precision {_with_ceiling(row, 'average_precision')}"
        numbers = f"{frequent}\noverlap {_with_ceiling(row, 'overlap')}"
    else:
        colours, scale, ticks = correlation_colours(values[~near])
        numbers = f"Pearson {_with_ceiling(row, 'pearson')}"
    image = axes.imshow(values, cmap=colours, norm=scale, extent=(*edges, *edges[::-1]), interpolation="nearest")
    axes.set_facecolor(BLANK)
    axes.set_title(f"{MAP_TITLES[name]}\n{numbers}", fontsize=9)
    corners = (("A", 0.98, "right", "top"), ("B", 0.02, "left", "bottom"))
    for (letter, place, right, top), colour in zip(corners, COLOURS, strict=True):
        style: dict[str, Any] = {"ha": right, "va": top, "fontsize": 11, "fontweight": "bold", "color": colour}
        axes.text(place, place, letter, transform=axes.transAxes, **style)
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.75, pad=0.02)
    bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks], fontsize=7)
    axes.tick_params(labelsize=SMALL)
    mark_chains(axes, comparison.first.chain, pairs=True)
    number_residues(axes, comparison.first.numbers, pairs=True)
    axes.set_xlabel("residue", fontsize=9)
    axes.set_ylabel("residue", fontsize=9)
