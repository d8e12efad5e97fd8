"""Draw the figures of the README: the system, the zero-shot score, Dyna-1.

    python image/draw.py [--output FOLDER]

Coordinates are pixels of a page 900 wide, as in the README, with y downwards; the files have twice that size. All data
shown are made up with a fixed seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from numpy.typing import NDArray
from PIL import Image

from model.mutations.score import combine_scores, quantile_normalise

WIDTH: Final = 900
COLOURS: Final = 256
DPI: Final = 100  # one pixel of the page
DATA, FEATURES, NETWORK, USE, PLAIN = "#DCE9F5", "#E3F1E1", "#FBE7D3", "#EADFF2", "#F4F4F4"
INK, GREY, RED, BLUE = "#222222", "#777777", "#C23B22", "#1F5FA8"
TITLE, TEXT, SMALL = 11, 9.5, 8.5  # points


@dataclass(frozen=True)
class DrawConfig:
    """Draw the figures of the README."""

    output: Path = Path(__file__).parent
    """Folder of the pictures."""


class Page:
    """A page with boxes, arrows and small plots."""

    def __init__(self, height: int) -> None:
        self.height = height
        self.figure = Figure(figsize=(WIDTH / DPI, height / DPI), facecolor="white")
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, WIDTH), ylim=(height, 0))
        self.axes.set_axis_off()

    def box(self, x: float, y: float, width: float, height: float, title: str, text: str, colour: str) -> None:
        """Box with its upper left corner at (x, y): a title, and text below it."""
        style = "round,pad=0,rounding_size=7"
        self.axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, fc=colour, ec=GREY, lw=0.8))
        middle = x + width / 2
        if text:
            self.text(middle, y + 16, title, weight="bold")
            self.text(middle, (y + 27 + y + height) / 2, text)
        else:
            self.text(middle, y + height / 2, title, weight="bold")

    def text(self, x: float, y: float, text: str, size: float = TEXT, colour: str = INK, **options: Any) -> None:
        """Text centred at (x, y)."""
        style: dict[str, Any] = {"ha": "center", "va": "center", "linespacing": 1.3} | options
        self.axes.text(x, y, text, fontsize=size, color=colour, **style)

    def line(self, points: Sequence[tuple[float, float]]) -> None:
        """Line through points."""
        self.axes.plot(*zip(*points, strict=True), color=INK, lw=1.2)

    def arrow(self, start: tuple[float, float], end: tuple[float, float], label: str = "", above: float = 9) -> None:
        """Straight arrow with a label `above` pixels over its middle."""
        self.axes.add_patch(
            FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, shrinkA=2, shrinkB=2, color=INK, lw=1.2)
        )
        if label:
            self.text((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 - above, label, SMALL)

    def plot(self, x: float, y: float, width: float, height: float) -> Axes:
        """Small axes without ticks."""
        bounds = (x / WIDTH, 1 - (y + height) / self.height, width / WIDTH, height / self.height)
        axes = self.figure.add_axes(bounds, facecolor="white", xticks=[], yticks=[])
        axes.spines[:].set(color=GREY, linewidth=0.8)
        return axes


def smooth(random: np.random.Generator, n: int, width: int) -> NDArray[np.float64]:
    """(n,) smooth made-up values from 0 to 1."""
    noise = np.convolve(random.normal(size=n + 4 * width), np.hanning(2 * width + 1), mode="same")
    noise = noise[2 * width : -2 * width]
    return (noise - noise.min()) / np.ptp(noise)


def draw_system() -> Figure:
    """From raw data to the uses of a trained network."""
    page = Page(500)
    columns = ((15, 165), (218, 185), (448, 240), (733, 152))  # x, width
    titles = ("raw data", "features (data_prepare)", "networks (model)", "uses (seqdance)")
    for (x, width), title in zip(columns, titles, strict=True):
        page.text(x + width / 2, 20, title, TITLE, GREY)
    (data, wide_data), (features, wide_features), (network, wide_network), (use, wide_use) = columns

    page.box(data, 42, wide_data, 112, "trajectories", "mdCATH, ATLAS,\nGPCRmd, PED, IDRome,\nyour own", DATA)
    page.box(data, 176, wide_data, 88, "structures", "ProteinFlow (PDB),\nyour own", DATA)
    page.box(data, 392, wide_data, 88, "NMR", "RelaxDB, RefDB,\nNMR-STAR depositions", DATA)

    text = "nine types of contacts,\nSASA, DSSP, dihedrals,\nRMSF, co-movement"
    page.box(features, 42, wide_features, 112, "molecular dynamics", text, FEATURES)
    page.box(features, 176, wide_features, 88, "normal modes", "GNM and ANM in three\ngroups of modes", FEATURES)
    page.box(features, 292, wide_features, 72, "store", "HDF5, table, loss weights", FEATURES)
    page.box(features, 392, wide_features, 88, "labels", "exchange or not,\nof each residue", FEATURES)
    for y in (98, 220, 436):
        page.arrow((data + wide_data, y), (features, y))
    middle = features + wide_features / 2
    page.arrow((middle, 264), (middle, 292))
    side = features + wide_features + 10  # path from molecular dynamics to the store, around the normal modes
    page.line([(side - 10, 98), (side, 98), (side, 308)])
    page.arrow((side, 308), (features + wide_features, 308))

    centre = network + wide_network / 2
    page.text(centre, 52, "M Q I F V K T L T G K T ...", TEXT, BLUE, family="monospace", weight="bold")
    page.arrow((centre, 60), (centre, 88))
    text = "12 layers x 20 heads; trained in\nSeqDance, frozen in ESMDance"
    page.box(network, 88, wide_network, 84, "ESM2 encoder, 35M", text, NETWORK)
    half = (wide_network - 20) / 2
    left, right = network + half / 2, network + wide_network - half / 2
    page.box(network, 252, half, 112, "residue head", "50 numbers\na residue:\n10 properties", NETWORK)
    page.box(network + half + 20, 252, half, 112, "pair head", "13 numbers\na pair:\n13 properties", NETWORK)
    page.arrow((left, 172), (left, 252))
    page.arrow((right, 172), (right, 252))
    page.text(left - 4, 212, "hidden\nstates", SMALL, ha="right")
    page.text(right - 4, 212, "and 240\nmaps", SMALL, ha="right")
    joint, up = 378, network + wide_network + 14  # of both heads, below them and at their right
    page.line([(left, 364), (left, joint), (centre - 5, joint)])  # a gap where the next arrow crosses
    page.line([(centre + 5, joint), (up, joint), (up, 249)])
    page.line([(right, 364), (right, joint)])
    page.arrow((centre, 172), (centre, 392))
    text = "transformer over the hidden states\nof frozen ESM-3, ESM2 or SeqDance"
    page.box(network, 392, wide_network, 88, "Dyna-1 classifier", text, NETWORK)
    page.arrow((features + wide_features, 344), (network, 344))
    page.text((features + wide_features + network) / 2, 332, "train", SMALL)
    page.arrow((features + wide_features, 436), (network, 436))
    page.text((features + wide_features + network) / 2, 424, "train", SMALL)

    uses = (
        ("attention", "240 maps", 62, (network + wide_network, 130)),
        ("embed", "of protein or residue", 124, (network + wide_network, 130)),
        ("predict", "23 properties", 222, (up - 2, 249)),
        ("score", "mutation effects", 284, (up - 2, 311)),
        ("dyna1", "exchange, ms motion", 409, (network + wide_network, 436)),
    )
    for name, what, y, origin in uses:
        page.box(use, y, wide_use, 54, name, what, USE)
        page.arrow(origin, (use, y + 27))
    return page.figure


def draw_zero_shot() -> Figure:
    """Scoring the effect of a mutation without training on effects."""
    random = np.random.default_rng(11)
    page = Page(520)

    page.text(100, 18, "wild type and mutant", TITLE, GREY)
    letters = {"ha": "left", "va": "baseline", "family": "monospace", "weight": "bold"}
    page.axes.add_patch(Rectangle((79, 134), 11, 22, fc="#F7CFC7", ec="none"))  # behind the seventh letter
    for y, name, sequence, colour in (
        (80, "wild type", "IFAGKQLEDGRTL", BLUE),
        (150, "mutant L50W", "IFAGKQWEDGRTL", RED),
    ):
        page.text(20, y - 24, name, SMALL, ha="left")
        page.text(20, y, sequence, 12, colour, **letters)
    page.arrow((172, 111), (208, 111))
    page.box(208, 66, 128, 90, "network", "SeqDance or\nESMDance", NETWORK)
    page.arrow((336, 111), (372, 111))

    page.text(490, 18, "23 properties of each", TITLE, GREY)
    bump = np.exp(-(((np.arange(60) - 32) / 5) ** 2))
    for row, name in enumerate(("SASA", "RMSF", "helix share")):
        wild = smooth(random, 60, 3)
        mutant = wild + bump * (0.35 - 0.25 * row) + 0.05 * (smooth(random, 60, 4) - 0.5)
        axes = page.plot(450, 36 + 42 * row, 160, 36)
        axes.plot(wild, color=BLUE, lw=1.4)
        axes.plot(mutant, color=RED, lw=1.2)
        axes.set(xlim=(0, 59), ylim=(-0.15, 1.45))
        page.text(444, 54 + 42 * row, name, SMALL, ha="right")
    residue = np.arange(24)
    near = np.exp(-np.abs(residue[:, None] - residue) / 4) * np.cos((residue[:, None] - residue) / 4)
    near += np.exp(-(((residue[:, None] + residue - 23) / 3) ** 2)) * 0.6
    for column, change in enumerate((0.0, 0.5)):
        bumps = change * np.exp(-((residue - 13) ** 2)[:, None] / 9) * np.sin(residue / 2)
        axes = page.plot(450 + 84 * column, 166, 76, 50)
        axes.imshow(near - bumps - bumps.T, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
        axes.spines[:].set(color=(BLUE, RED)[column], linewidth=1.6)
    page.text(444, 191, "co-movement", SMALL, ha="right")
    page.text(530, 228, "... 19 more", SMALL, GREY)
    page.arrow((618, 111), (654, 111))
    page.box(654, 46, 232, 130, "change of a property", "", PLAIN)
    page.axes.texts[-1].set_y(66)
    page.text(770, 112, r"$\mathrm{mean}\;\dfrac{|\,mt - wt\,|}{|\,wt\,| + 0.01}$", 15)
    page.text(770, 158, "over all residues, pairs and bins", SMALL)

    mutants = 16
    damage = np.sort(random.gamma(1.5, 1.0, mutants))
    scale = 10 ** random.uniform(-1.6, 0, 23)
    changes = scale * damage[:, None] * random.lognormal(0, 0.45, (mutants, 23))
    changes = changes[random.permutation(mutants)]
    normalised = quantile_normalise(changes)
    score = combine_scores(changes)["norm_geometric_mean"].to_numpy()

    page.line([(770, 176), (770, 250), (120, 250), (120, 270)])
    page.arrow((120, 262), (120, 288))
    page.text(455, 250, "for every mutant of the protein, and the wild type", SMALL, backgroundcolor="white")
    for x, title, values in ((30, "changes", changes), (355, "normalised changes", normalised)):
        axes = page.plot(x, 312, 180, 150)
        axes.imshow(values, cmap="viridis", vmin=0, vmax=np.quantile(values, 0.98), aspect="auto")
        page.text(x + 90, 300, title, TITLE, GREY)
        page.text(x + 90, 474, "23 properties", SMALL)
        page.text(x - 10, 387, "mutants", SMALL, rotation=90)
    page.arrow((214, 387), (338, 387))
    page.text(276, 355, "quantile\nnormalisation", TEXT, weight="bold")
    page.text(276, 420, "each property\ngets the same\ndistribution", SMALL)
    page.arrow((539, 387), (660, 387))
    page.text(599, 355, "geometric\nmean", TEXT, weight="bold")
    page.text(599, 412, "over the 23\nproperties", SMALL)
    axes = page.plot(666, 312, 210, 150)
    axes.barh(np.arange(mutants), score, color=mpl.colormaps["viridis"](score / score.max()), height=0.8)
    axes.set(ylim=(mutants - 0.4, -0.6), xlim=(0, 1.08 * score.max()))
    axes.spines[["top", "right"]].set_visible(False)
    page.text(771, 300, "score", TITLE, GREY)
    page.text(771, 474, "higher = more damage", SMALL)
    note = "Curves, maps and changes are made up for illustration; the steps of the lower row are computed from them."
    page.text(WIDTH / 2, 507, note, SMALL, GREY)
    return page.figure


def draw_dyna1() -> Figure:
    """Labels from missing NMR peaks, and their prediction."""
    random = np.random.default_rng(5)
    page = Page(430)
    sequence = "GMKQLEDHRTSYNIVKAGFW"
    n = len(sequence)
    missing = [5, 6, 7, 13]
    cell, left = 35, 150
    centres = left + cell * (np.arange(n) + 0.5)

    def strip(y: float, letters: Sequence[str], colours: Sequence[str], name: str) -> None:
        page.text(left - 12, y, name, ha="right")
        for x, letter, colour in zip(centres, letters, colours, strict=True):
            page.axes.add_patch(Rectangle((x - 15, y - 13), 30, 26, fc=colour, ec=GREY, lw=0.6))
            page.text(x, y, letter, TEXT, family="monospace", weight="bold")

    page.text(left + cell * n / 2, 18, "training labels: what is missing in NMR spectra", TITLE, GREY)
    strip(48, list(sequence), [PLAIN] * n, "sequence")
    peaks = page.plot(left, 68, cell * n, 52)
    position = np.linspace(0, n, 2000)
    height = np.where(np.isin(np.arange(n), [0, *missing]), 0.0, random.uniform(0.5, 1.0, n))
    signal = sum(h * np.exp(-(((position - k - 0.5) / 0.07) ** 2)) for k, h in enumerate(height))
    peaks.plot(position, signal, color=INK, lw=1.0)
    peaks.set(xlim=(0, n), ylim=(-0.05, 1.15))
    page.text(left - 12, 94, "amide peak\nassigned?", ha="right")
    colours = ["#DDDDDD" if k == 0 else "#F2A490" if k in missing else "#CFE5CC" for k in range(n)]
    marks = ["t" if k == 0 else "." if k in missing else "A" for k in range(n)]
    strip(140, marks, colours, "label")
    for x, colour, text in (
        (110, "#F2A490", ". missing: taken as exchange"),
        (330, "#CFE5CC", "A assigned: taken as no exchange"),
        (570, "#DDDDDD", "t terminus: not evaluated"),
    ):
        page.axes.add_patch(Rectangle((x, 164), 12, 12, fc=colour, ec=GREY, lw=0.6))
        page.text(x + 18, 170, text, SMALL, ha="left")

    page.text(WIDTH / 2, 206, "prediction", TITLE, GREY)
    steps = (
        (20, 130, "sequence", "and structure,\nif there is one", DATA),
        (186, 150, "language model", "frozen: ESM2, ESM-3\nor ESMDance", NETWORK),
        (372, 130, "hidden states", "one vector\nof each residue", PLAIN),
        (538, 150, "classifier", "transformer encoder,\ntrained on the labels", NETWORK),
        (724, 156, "p_exchange", "0 to 1 of each\nresidue; prior 0.5", USE),
    )
    for x, width, title, text, colour in steps:
        page.box(x, 222, width, 78, title, text, colour)
    for (x, width, *_), (end, *_) in pairwise(steps):
        page.arrow((x + width, 261), (end, 261))

    probability = 0.06 + 0.12 * smooth(random, n, 2)
    probability[[4, *missing, 14]] = [0.3, 0.72, 0.85, 0.6, 0.66, 0.25]
    axes = page.plot(left, 316, cell * n, 72)
    colours = ["#D9694F" if k in missing else "#9DB8D3" for k in range(n)]
    axes.bar(np.arange(n) + 0.5, probability, color=colours, width=0.8)
    axes.set(xlim=(0, n), ylim=(0, 1))
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    page.text(left - 36, 352, "p_exchange", ha="right")
    for x, letter in zip(centres, sequence, strict=True):
        page.text(x, 398, letter, TEXT, family="monospace", weight="bold")
    page.text(WIDTH / 2, 420, "Peaks and probabilities are made up for illustration.", SMALL, GREY)
    return page.figure


FIGURES: Final = {"system": draw_system, "zero_shot": draw_zero_shot, "dyna1": draw_dyna1}


def draw(config: DrawConfig) -> list[Path]:
    """Draw all figures; returns their paths."""
    config.output.mkdir(parents=True, exist_ok=True)
    paths = [config.output / f"{name}.png" for name in FIGURES]
    for path, figure in zip(paths, FIGURES.values(), strict=True):
        buffer = BytesIO()
        figure().savefig(buffer, dpi=2 * DPI)
        # a palette needs a third of the space, without visible difference
        Image.open(buffer).convert("RGB").quantize(COLOURS).save(path, optimize=True)
    return paths


if __name__ == "__main__":
    for path in draw(tyro.cli(DrawConfig)):
        print(path)
