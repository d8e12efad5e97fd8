"""Names, colours and axes that the figures share. The palettes can be told apart by colour-blind readers."""

from __future__ import annotations

from typing import Any, Final

import plotly.graph_objects as go

from data_prepare.properties import INTERACTIONS
from model.figures.prediction import ANGLES

INK: Final = "#24323d"
FAINT: Final = "#dfe5ea"
BLUE: Final = "#0072B2"
ORANGE: Final = "#D55E00"
GREY: Final = "#7b8790"
SEQUENTIAL: Final = "Viridis"
DIVERGING: Final = [[0, "#2166ac"], [0.25, "#92c5de"], [0.5, "#f7f7f7"], [0.75, "#f4a582"], [1, "#b2182b"]]
FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
MODES: Final = ("low", "middle", "high")
CONTACTS: Final = "contacts"  # of all kinds
NAMES: Final[dict[str, str]] = {
    "sasa_mean": "SASA, mean",
    "sasa_std": "SASA, SD",
    "rmsf_nor": "RMSF",
    "ss": "secondary structure",
    **{name: f"dihedral angle {letter}" for name, letter in ANGLES.items()},
    **{f"nma_res{n}": f"GNM fluctuation, {mode} freq." for n, mode in enumerate(MODES, 1)},
    CONTACTS: "contacts of all kinds",
    "vdw": "van der Waals contacts",
    "hbbb": "H-bonds, backbone-backbone",
    "hbsb": "H-bonds, side chain-backbone",
    "hbss": "H-bonds, side chain-side chain",
    "hp": "hydrophobic contacts",
    "sb": "salt bridges",
    "pc": "π-cation",
    "ps": "π stacking",
    "ts": "T stacking",
    "corr": "co-movement",
    **{f"nma_pair{n}": f"normal modes, {mode} freq." for n, mode in enumerate(MODES, 1)},
}
AXES: Final = {"rmsf_nor": "RMSF / max", "sasa_mean": "SASA (nm²)", "sasa_std": "SASA, SD (nm²)", "rmsf": "RMSF (nm)"}
PAIR_MAPS: Final = (CONTACTS, "corr", "nma_pair1", "nma_pair2", "nma_pair3", *INTERACTIONS)


def styled(figure: go.Figure, height: int, key: str, model: str, **layout: Any) -> go.Figure:
    """Fonts, margins and zoom that survives an update of the same `key`; `model` is named below the axes."""
    figure.update_layout(
        height=height,
        template="plotly_white",
        font={"family": FONT, "size": 13, "color": INK},
        margin={"l": 62, "r": 20, "t": 28, "b": 98},
        hoverlabel={"font": {"family": FONT, "size": 13}},
        uirevision=key,
        dragmode="zoom",
        **layout,
    )
    place: dict[str, Any] = {"xref": "paper", "yref": "paper", "x": 1, "y": 0, "xanchor": "right", "yanchor": "top"}
    note = model.replace(" (", "<br>(")  # two short lines fit on a phone
    figure.add_annotation(
        text=note, showarrow=False, yshift=-60, align="right", font={"size": 11, "color": GREY}, **place
    )
    figure.update_xaxes(showgrid=False, zeroline=False, ticks="outside", tickcolor=FAINT)
    figure.update_yaxes(gridcolor=FAINT, zeroline=False)
    return figure


def mark(position: int | None, pairs: bool = False) -> list[dict[str, Any]]:
    """Shapes that mark the chosen residue (from 0) in a figure along the sequence, or of residue pairs."""
    if position is None:
        return []
    line = {"color": ORANGE, "width": 1.5, "dash": "dot"}
    upright = {"type": "line", "xref": "x", "yref": "paper", "x0": position + 1, "x1": position + 1, "y0": 0, "y1": 1}
    shapes = [upright | {"line": line}]
    if pairs:
        flat = {"type": "line", "xref": "paper", "yref": "y", "y0": position + 1, "y1": position + 1, "x0": 0, "x1": 1}
        shapes.append(flat | {"line": line})
    return shapes


def sized(figure: go.Figure, residue: int | None = None, pairs: bool = False) -> tuple[go.Figure, dict[str, str]]:
    """A figure with the chosen residue marked, and the style that gives its element the same height."""
    figure.update_layout(shapes=mark(residue, pairs))
    return figure, {"height": f"{figure.layout.height}px"}
