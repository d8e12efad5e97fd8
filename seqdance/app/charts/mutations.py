"""Heat map of single mutants, and the changes behind one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from model.figures.mutations import mutation_grid
from model.mutations.substitution import WildType
from model.network.tokenizer import AMINO_ACIDS
from seqdance.app.charts.style import BLUE, DIVERGING, FAINT, GREY, INK, NAMES, ORANGE, styled

ORDER: Final = "GAVLIMPFYWCSTNQHKRDE"  # small and hydrophobic, aromatic, polar, charged


def mutation_map(
    scores: pd.DataFrame,
    wild_type: WildType,
    names: Sequence[str],
    mean_damage: NDArray[Any] | None,
    key: str,
    model: str,
) -> go.Figure:
    """Scores of the mutants of residues called `names`, such as A12.

    Colour: fraction of the scored mutants that score lower, white at the median; above it the mean of each residue.

    Black dots are the wild type, grey cells have no score.
    """
    rows = [AMINO_ACIDS.index(letter) for letter in ORDER]
    # (20, N)
    grid, score = (mutation_grid(scores, wild_type, column)[0][rows] for column in ("damage", "score"))
    x = np.arange(1, len(names) + 1)
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.17, 0.83], vertical_spacing=0.03)
    if mean_damage is not None:
        marker: dict[str, Any] = {"color": mean_damage, "colorscale": DIVERGING, "cmin": 0, "cmax": 1}
        marker["line"] = {"color": GREY, "width": 0.4}
        hover = "%{customdata}: mean damage %{y:.2f}<extra></extra>"
        bars = go.Bar(
            x=x, y=mean_damage, width=1, marker=marker, customdata=names, hovertemplate=hover, showlegend=False
        )
        figure.add_trace(bars, row=1, col=1)
    bar = {"title": "damage", "tickvals": [0, 0.5, 1], "ticktext": ["least", "median", "most"], "thickness": 12}
    cells = np.dstack([score, np.broadcast_to(names, score.shape)]).astype(object)  # (20, N, 2)
    heat = go.Heatmap(
        z=grid,
        x=x,
        y=list(ORDER),
        colorscale=DIVERGING,
        zmin=0,
        zmax=1,
        xgap=0.5,
        ygap=0.5,
        colorbar=bar | {"len": 0.8, "y": 0.4},
        customdata=cells,
        hovertemplate="%{customdata[1]} → %{y}<br>damage %{z:.3f}<br>score %{customdata[0]:.4g}<extra></extra>",
    )
    figure.add_trace(heat, row=2, col=1)
    wild = [(k, letter) for k, letter in zip(x, (name[0] for name in names), strict=True) if letter in ORDER]
    dots: dict[str, Any] = {"mode": "markers", "marker": {"color": INK, "size": 4}, "showlegend": False}
    figure.add_trace(
        go.Scatter(x=[k for k, _ in wild], y=[letter for _, letter in wild], hoverinfo="skip", **dots), row=2, col=1
    )
    figure.update_yaxes(title_text="mean", range=[0, 1], tickvals=[0, 0.5, 1], row=1, col=1)
    figure.update_yaxes(
        title_text="mutant residue", range=[len(ORDER) - 0.5, -0.5], dtick=1, tickfont={"size": 11}, row=2, col=1
    )
    figure.update_xaxes(range=[0.5, len(names) + 0.5])
    figure.update_xaxes(title_text="residue (dot: wild type)", row=2, col=1)
    return styled(figure, 590, key, model, plot_bgcolor=FAINT, bargap=0)


def property_changes(changes: pd.DataFrame, label: str, key: str, model: str) -> go.Figure:
    """Relative change of each property of a mutant, beside the middle half of all scored mutants."""
    names = [NAMES[name] for name in changes["property"]]
    figure = go.Figure()
    ends = np.stack([changes["low"], changes["high"], np.full(len(changes), np.nan)], axis=1).ravel()
    spread: dict[str, Any] = {"mode": "lines", "line": {"color": "#c3ccd3", "width": 7}, "hoverinfo": "skip"}
    figure.add_trace(go.Scatter(x=ends, y=np.repeat(names, 3), name="middle half of all scored mutants", **spread))
    more = changes["change"] > changes["median"]
    marker = {"size": 9, "color": np.where(more, ORANGE, BLUE)}
    hover = "%{y}<br>%{x:.3g}, median of all %{customdata:.3g}<extra></extra>"
    figure.add_trace(
        go.Scatter(
            x=changes["change"],
            y=names,
            mode="markers",
            marker=marker,
            customdata=changes["median"],
            hovertemplate=hover,
            name=label,
        )
    )
    figure.update_yaxes(autorange="reversed", dtick=1, tickfont={"size": 12}, automargin=True)
    figure.update_xaxes(type="log", title_text="relative change from the wild type", showgrid=True, gridcolor=FAINT)
    figure.update_xaxes(exponentformat="power", nticks=6, tickangle=0)
    legend = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "itemclick": False}
    return styled(figure, 620, key, model, legend=legend)
