"""Figure of the predicted or measured properties of one protein."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from data_prepare.errors import require
from data_prepare.properties import DSSP_STATES, INTERACTIONS
from model.figures.save import place
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
CLASSES: Final = {"helix": ("HGI", "#D55E00"), "strand": ("EB", "#0072B2"), "coil": ("TS ", "#A6A6A6")}
MODE_COLOURS: Final = {"low": "#0072B2", "middle": "#E69F00", "high": "#009E73"}  # by frequency
CORRELATIONS: Final = {  # maps of pairs, and their titles
    "corr": "co-movement (correlation)",
    **{f"nma_pair{n}": f"normal modes, {mode} frequencies" for n, mode in enumerate(MODE_COLOURS, 1)},
}
BLANK: Final = "#E4E4E4"  # of maps
ANGLES: Final = {"chi": "χ1", "phi": "φ", "psi": "ψ"}

NEAR: Final = 3  # pairs with |i - j| below it touch in any protein: no contact map has them, and they set no range
CUBE_ROOT: Final = 1 / 3  # contacts are shown as the network predicts them
FEWEST_CONTACTS: Final = 1.0  # contacts per frame that the darkest colour shows at least
FEWEST_CORRELATION: Final = 0.2  # correlation that the strongest colours show at least
MOST_PAIRS: Final = 0.995  # quantile of the pairs that is within the range of colours of a correlation

# inches
RESIDUE: Final = 0.043  # of a profile
PROFILE: Final = (7.0, 24.0)  # narrowest and widest profile
BESIDE: Final = 9.0  # maps are beside the profiles up to this width of them, below them beyond
LEFT, RIGHT = 0.8, 1.3  # of a profile, for its label and its colour bar or legend
GAP, NUMBERS, TITLE = 0.2, 0.5, 0.75
MAP_LEFT, MAP_RIGHT, MAP_TOP, MAP_BOTTOM = 0.75, 0.9, 0.35, 0.5
MAP_SIDE: Final = (2.2, 6.0)
WIDE_COLUMNS: Final = 3  # of maps below the profiles
MOST_TICKS: Final = 10  # of residue numbers
DIGIT: Final = 0.08  # of a residue number
LETTER: Final = 0.105  # mean width of a letter of a title
PIXELS: Final = 100  # per inch: residues of a larger protein are averaged


def draw_prediction(prediction: Prediction, numbers: Sequence[str] = ()) -> Figure:
    """Draw profiles along the sequence and maps of residue pairs, as far as the prediction has their properties.

    `numbers` (N,) of a structure are those of the residues on the axes, positions from 1 without them.
    """
    properties = dict(prediction.properties)
    properties |= {name: properties[name] ** 3 for name in INTERACTIONS if name in properties}  # from cube roots
    residues = "residue" if len(prediction.chain) == 1 else "residues"
    title = f"{prediction.name} ({len(prediction.chain)} {residues}): predicted dynamics"
    return draw_properties([(f"{title}\nby {prediction.model}", prediction.chain, properties)], numbers)


def draw_properties(
    pictures: Sequence[tuple[str, NDArray[np.int32], Properties]], numbers: Sequence[str] = ()
) -> Figure:
    """Draw the properties of one or more proteins below each other: title, chain of each residue (N,), properties.

    Interactions are contacts per frame. Values that are NaN are left blank. A second line of a title is drawn smaller.
    See `draw_prediction` for the `numbers` of all of them.
    """
    layouts = [_Layout.of(*picture) for picture in pictures]
    figure = Figure(figsize=(max(layout.width for layout in layouts), sum(layout.height for layout in layouts)))
    top = 0.0
    for picture, layout in zip(pictures, layouts, strict=True):
        _draw(figure, top, layout, *picture, numbers)
        top += layout.height
    return figure


class _Layout(NamedTuple):
    """Sizes in inches of the picture of one protein."""

    profile: float  # width of the profiles
    beside: bool  # whether the maps are beside the profiles
    columns: int  # of maps
    side: float  # of a map
    width: float
    height: float

    @classmethod
    def of(cls, title: str, chain: NDArray[np.int32], properties: Properties) -> _Layout:
        """InputError if there is nothing to draw."""
        panels, maps = _panels(properties), len(pair_maps(properties, chain))
        require(panels or maps, f"{title.partition(chr(10))[0]}: nothing to draw; choose more properties")
        profile = float(np.clip(RESIDUE * len(chain), *PROFILE)) if panels else 0.0
        wide = LEFT + profile + RIGHT if panels else 0.0
        high = sum(panel.height + GAP for panel in panels) + NUMBERS if panels else 0.0
        beside = profile <= BESIDE
        columns = min(maps, WIDE_COLUMNS if not beside else 1 if maps < WIDE_COLUMNS else 2)
        rows = -(-maps // max(columns, 1))
        room = high / max(rows, 1) - MAP_TOP - MAP_BOTTOM if beside else wide / max(columns, 1) - MAP_LEFT - MAP_RIGHT
        side = float(np.clip(room, *MAP_SIDE))
        cells = columns * (MAP_LEFT + side + MAP_RIGHT), rows * (MAP_TOP + side + MAP_BOTTOM)
        if beside:
            return cls(profile, beside, columns, side, wide + cells[0], TITLE + max(high, cells[1]))
        return cls(profile, beside, columns, side, max(wide, cells[0]), TITLE + high + cells[1])


def _draw(
    figure: Figure,
    top: float,
    layout: _Layout,
    title: str,
    chain: NDArray[np.int32],
    properties: Properties,
    numbers: Sequence[str],
) -> None:
    width, height = figure.get_size_inches()
    for text, size, down in zip(title.split("\n"), (13, 10), (0.25, 0.5), strict=False):
        most = int(13 / size * width / LETTER)
        shown = text if len(text) <= most else f"{text[: most - 1]}…"
        figure.text(0.5, 1 - (top + down) / height, shown, ha="center", va="center", fontsize=size)
    edges, floor = (0.5, len(chain) + 0.5), top + TITLE
    numbers = numbers or [str(position) for position in range(1, len(chain) + 1)]
    panels, maps = _panels(properties), pair_maps(properties, chain)
    for panel in panels:
        axes = place(figure, LEFT, floor, layout.profile, panel.height)
        panel.draw(axes, properties)
        for line in axes.lines if len(chain) == 1 else ():
            line.set_marker("o")
        axes.set_xlim(edges)
        axes.tick_params(labelsize=9, labelbottom=panel is panels[-1])
        mark_chains(axes, chain, pairs=False)
        number_residues(axes, numbers, pairs=False)
        floor += panel.height + GAP
    if panels:
        axes.set_xlabel("residue")
    first = (LEFT + layout.profile + RIGHT if panels else 0.0, top + TITLE) if layout.beside else (0.0, floor + NUMBERS)
    for number, shown_map in enumerate(maps):
        row, column = divmod(number, layout.columns)
        left = first[0] + column * (MAP_LEFT + layout.side + MAP_RIGHT) + MAP_LEFT
        down = first[1] + row * (MAP_TOP + layout.side + MAP_BOTTOM) + MAP_TOP
        axes = place(figure, left, down, layout.side, layout.side)
        sampling = "nearest" if len(chain) < PIXELS * layout.side else "antialiased"
        style: dict[str, Any] = {"extent": (*edges, *edges[::-1]), "aspect": "auto", "interpolation": sampling}
        image = axes.imshow(shown_map.values, cmap=shown_map.colours, norm=shown_map.scale, **style)
        axes.set_facecolor(BLANK)
        axes.set_title(shown_map.title, fontsize=10)
        axes.set(xlabel="residue", ylabel="residue")
        axes.tick_params(labelsize=9)
        mark_chains(axes, chain, pairs=True)
        number_residues(axes, numbers, pairs=True)
        bar = figure.colorbar(image, cax=place(figure, left + layout.side + 0.1, down, 0.13, layout.side))
        bar.ax.tick_params(labelsize=8)
        bar.set_ticks(shown_map.ticks, labels=[f"{tick:g}" for tick in shown_map.ticks])


class PairMap(NamedTuple):
    """A map of residue pairs."""

    title: str
    values: NDArray[np.float32]  # (N, N), NaN where it is blank
    colours: str
    scale: Normalize
    ticks: list[float]  # of the colour bar


def near_pairs(
    chain: NDArray[np.int32], residue: NDArray[np.intp] | None = None, separation: int = NEAR
) -> NDArray[np.bool_]:
    """Pairs (N, N) closer than `separation` in their chain; `residue` (N,) are positions, if some are unresolved."""
    residue = np.arange(len(chain)) if residue is None else residue
    return (np.abs(residue[:, None] - residue) < separation) & (chain[:, None] == chain)


def pair_maps(properties: Properties, chain: NDArray[np.int32]) -> list[PairMap]:
    """The maps of a protein; interactions are contacts per frame, blank where |i - j| < 3 in a chain."""
    near = near_pairs(chain)
    maps = []
    if shown := [name for name in INTERACTIONS if name in properties]:
        complete = len(shown) == len(INTERACTIONS)
        title = "contacts per frame" if complete else f"contacts per frame: {', '.join(shown)}"
        contacts = np.where(near, np.nan, np.sum([properties[name] for name in shown], axis=0))
        maps.append(PairMap(title, contacts, *contact_colours(contacts)))
    for name, title in CORRELATIONS.items():
        if name in properties:
            maps.append(PairMap(title, properties[name], *correlation_colours(properties[name][~near])))
    return maps


def contact_colours(contacts: NDArray) -> tuple[str, Normalize, list[float]]:
    """Colours, their scale and the ticks of its bar, of a map of contacts per frame."""
    most = max(float(np.nanmax(contacts, initial=0)), FEWEST_CONTACTS)
    ticks = [0.0, *(tick for k in range(-3, 3) for tick in (10.0**k, 3 * 10.0**k) if most / 300 < tick <= most)]
    return "magma_r", PowerNorm(CUBE_ROOT, 0, most), ticks


def correlation_colours(far: NDArray) -> tuple[str, Normalize, list[float]]:
    """As `contact_colours`, of a map with these correlations of pairs that are not `near_pairs`."""
    far = np.abs(far[np.isfinite(far)])
    most = float(np.quantile(far, MOST_PAIRS)) if len(far) else 1.0
    most = min(max(np.ceil(10 * most) / 10, FEWEST_CORRELATION), 1.0)  # one digit
    return "RdBu_r", Normalize(-most, most), [-most, -most / 2, 0, most / 2, most]


def mark_chains(axes: Axes, chain: NDArray[np.int32], pairs: bool) -> None:
    """Draw a line at the start of each chain."""
    for edge in np.flatnonzero(np.diff(chain)) + 1.5:
        for line in (axes.axvline, axes.axhline)[: 1 + pairs]:
            line(edge, color="black", linewidth=0.8, linestyle="--")


def number_residues(axes: Axes, numbers: Sequence[str], pairs: bool) -> None:
    """Ticks at round residue numbers, at any if hardly one is round, as far as labels have room on the x axis."""
    n = len(numbers)
    digits = axes.get_window_extent().width / axes.figure.dpi / DIGIT  # that fit on the axis
    most = min(MOST_TICKS, digits / (max(map(len, numbers)) + 1))
    whole = {k: int(number) for k, number in enumerate(numbers, 1) if number.removeprefix("-").isdecimal()}
    steps = [step for k in range(9) for step in (10**k, 2 * 10**k, 5 * 10**k)]
    coarsest = next(row for row, step in enumerate(steps) if n / step <= most)
    for step in reversed(steps[: coarsest + 1]):
        places = [k for k, number in whole.items() if number % step == 0]
        if len(places) >= max(n / step / 2, min(n, 2)):
            break
    else:
        places = list(range(1, n + 1))
    ticks, end = {}, -np.inf
    for k in places:
        half = (len(numbers[k - 1]) + 1) / 2 * n / digits  # of a label and a space, in residues
        if k - half >= end:
            ticks[k], end = numbers[k - 1], k + half
    for set_ticks in (axes.set_xticks, axes.set_yticks)[: 1 + pairs]:
        set_ticks(list(ticks), list(ticks.values()))


def dominant_classes(states: NDArray[np.float32]) -> NDArray[np.float64]:
    """Helix (0), strand (1) or coil (2) of each residue, the most frequent class; NaN where there are no fractions.

    `states` (N, 8) are the fractions of the DSSP states.
    """
    fractions = class_fractions(states)
    return np.where(np.isfinite(fractions).all(axis=1), fractions.argmax(axis=1), np.nan)


def class_fractions(states: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fractions (N, 3) of helix, strand and coil from those of the DSSP states (N, 8)."""
    columns = [[DSSP_STATES.index(state) for state in of_class] for of_class, _ in CLASSES.values()]
    return np.stack([states[:, own].sum(axis=1) for own in columns], axis=1)


def _positions(values: NDArray[np.float32]) -> NDArray[np.intp]:
    return np.arange(1, len(values) + 1)


def _sasa(axes: Axes, properties: Properties) -> None:
    mean, spread = properties["sasa_mean"], properties.get("sasa_std")
    axes.plot(_positions(mean), mean, color="#0072B2", linewidth=1.3)
    if spread is not None:
        low = np.maximum(mean - spread, 0)
        axes.fill_between(_positions(mean), low, mean + spread, color="#0072B2", alpha=0.25, linewidth=0, label="± SD")
        _legend(axes)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("SASA (nm²)")


def _rmsf(axes: Axes, properties: Properties) -> None:
    values = properties["rmsf_nor"]
    axes.plot(_positions(values), values, color="#444444", linewidth=1.3)
    axes.set_ylim(0, 1)
    axes.set_ylabel("RMSF / max")


def _track(axes: Axes, properties: Properties) -> None:
    classes = dominant_classes(properties["ss"])
    colours = ListedColormap([colour for _, colour in CLASSES.values()])
    extent = (0.5, len(classes) + 0.5, 0, 1)
    axes.imshow(classes[None], cmap=colours, vmin=0, vmax=2, aspect="auto", extent=extent, interpolation="nearest")
    axes.set_yticks([])
    axes.set_ylabel("DSSP", rotation=0, ha="right", va="center")
    for number, (name, (_, colour)) in enumerate(CLASSES.items()):
        place_of_text: dict[str, Any] = {"xytext": (8 + 31 * number, 0), "textcoords": "offset points"}
        axes.annotate(name, (1, 0.5), xycoords="axes fraction", va="center", fontsize=8, color=colour, **place_of_text)


def draw_states(axes: Axes, properties: Properties) -> None:
    """Stacked fractions of the DSSP states."""
    fractions = properties["ss"].T  # (8, N)
    order = [DSSP_STATES.index(state) for state in STATE_COLOURS]
    names, colours = zip(*STATE_COLOURS.values(), strict=True)
    # from half a residue before the first centre to half a residue after the last one
    edges = np.arange(fractions.shape[1] + 1) + 0.5
    steps = np.hstack([fractions[order], fractions[order, -1:]])  # (8, N + 1)
    axes.stackplot(edges, steps, step="post", labels=names, colors=colours, linewidth=0)
    axes.set(ylim=(0, 1), yticks=(0, 0.5, 1))
    axes.set_ylabel("DSSP fraction")


def _states(axes: Axes, properties: Properties) -> None:
    draw_states(axes, properties)
    _legend(axes)


def _legend(axes: Axes, title: str | None = None) -> None:
    style: dict[str, Any] = {"fontsize": 8, "title_fontsize": 8, "frameon": False, "labelspacing": 0.2}
    axes.legend(title=title, loc="center left", bbox_to_anchor=(1, 0.5), handlelength=1.2, **style)


def _angle(name: str, axes: Axes, properties: Properties) -> None:
    fractions = properties[name].T  # (12, N)
    extent = (0.5, fractions.shape[1] + 0.5, -180, 180)
    options: dict[str, Any] = {"origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    image = axes.imshow(fractions, extent=extent, cmap="viridis", vmin=0, **options)
    axes.set_yticks([-120, -60, 0, 60, 120])
    axes.set_ylabel(f"{ANGLES[name]} (degrees)")
    width = axes.get_window_extent().width / axes.figure.dpi
    bar = axes.figure.colorbar(image, cax=axes.inset_axes((1 + 0.1 / width, 0, 0.13 / width, 1)), label="fraction")
    bar.ax.tick_params(labelsize=8)


def _modes(axes: Axes, properties: Properties) -> None:
    for n, (mode, colour) in enumerate(MODE_COLOURS.items(), start=1):
        if (name := f"nma_res{n}") in properties:
            axes.plot(_positions(properties[name]), properties[name], color=colour, label=mode, linewidth=1.1)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("GNM fluctuation")
    _legend(axes, "frequency")


class _Panel(NamedTuple):
    """A panel along the sequence, drawn if there is one of the properties `of`."""

    of: tuple[str, ...]
    height: float  # inches
    draw: Callable[[Axes, Properties], None]


PANELS: Final = (
    _Panel(("rmsf_nor",), 1.25, _rmsf),
    _Panel(("sasa_mean",), 1.25, _sasa),
    _Panel(("nma_res1", "nma_res2", "nma_res3"), 1.25, _modes),
    _Panel(("ss",), 0.2, _track),
    _Panel(("ss",), 1.25, _states),
    *(_Panel((name,), 1.1, partial(_angle, name)) for name in ANGLES),
)


def _panels(properties: Properties) -> list[_Panel]:
    return [panel for panel in PANELS if any(name in properties for name in panel.of)]
