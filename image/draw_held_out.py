"""Draw what the demonstration network predicts for proteins it has not seen, beside DSSP of their structures.

python image/draw_held_out.py [--output image/held_out.png]
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from data_prepare.properties import DSSP_STATES
from model.figures.prediction import CLASSES, class_fractions, dominant_classes
from model.figures.save import save_figure
from model.inference.predict import predict_properties
from model.network.dance import load_model
from model.network.names import DEMO, DEMO_FOLDER

OBSERVED = DEMO_FOLDER / "observed.csv"
RESIDUES_PER_INCH = 12


@dataclass(frozen=True)
class HeldOut:
    """Where the figure goes."""

    output: Path = Path(__file__).resolve().parent / "held_out.png"
    """The figure."""


def draw(options: HeldOut) -> Figure:
    """Draw and save the figure: for each protein its secondary structure, measured and predicted, and the fractions."""
    model = load_model(DEMO, "cpu")
    table = pd.read_csv(OBSERVED, keep_default_na=False)
    proteins = list(table.groupby("protein", sort=False))
    longest = max(len(rows) for _, rows in proteins)
    figure = Figure(figsize=(1.8 + longest / RESIDUES_PER_INCH, 1.9 * len(proteins)), layout="constrained")
    colours = ListedColormap([colour for _, colour in CLASSES.values()])
    for part, (title, rows) in zip(figure.subfigures(len(proteins), squeeze=False).flat, proteins, strict=True):
        predicted = predict_properties(model, ["".join(rows["residue"])], ["ss"])[0]
        states = np.array([[state == letter for state in DSSP_STATES] for letter in rows["dssp"]], np.float32)
        states[(rows["dssp"] == "").to_numpy()] = np.nan  # unresolved
        tracks, fractions = part.subplots(2, 1, sharex=True, height_ratios=[0.5, 1])
        classes = np.stack([dominant_classes(states), dominant_classes(predicted["ss"])])
        extent = (0.5, len(rows) + 0.5, 2, 0)
        tracks.imshow(classes, cmap=colours, vmin=0, vmax=2, aspect="auto", extent=extent, interpolation="nearest")
        tracks.axhline(1, color="white", linewidth=1.5)
        tracks.set_yticks([0.5, 1.5], ["structure", "predicted"])
        of_class = class_fractions(predicted["ss"]).T  # (3, N)
        steps = np.hstack([of_class, of_class[:, -1:]])
        fractions.stackplot(np.arange(steps.shape[1]) + 0.5, steps, step="post", colors=colours.colors, linewidth=0)
        fractions.set(ylim=(0, 1), yticks=(0, 0.5, 1), ylabel="predicted")
        fractions.set_xlim(0.5, longest + 0.5)
        known = np.isfinite(classes[0])
        right = (classes[0] == classes[1])[known].mean()
        found = f"{title}: {right:.0%} of the residues in the right one of three states"
        tracks.set_title(found, loc="left", fontsize=10)
        for axes in (tracks, fractions):
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=8)
    fractions.set_xlabel("residue")
    names = list(CLASSES)
    for number, (name, (_, colour)) in enumerate(CLASSES.items()):
        place = 0.995 - 0.07 * (len(names) - number - 1), 0.985
        figure.text(*place, name, color=colour, ha="right", va="top", fontsize=9)
    save_figure(figure, options.output, note=model.label)
    return figure


if __name__ == "__main__":
    draw(tyro.cli(HeldOut))
