"""Profiles along the sequence, maps of residue pairs, and probabilities of exchange."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from data_prepare.properties import DSSP_STATES, INTERACTIONS
from model.evaluation.measurement import of_prediction
from model.figures.prediction import ANGLES, MODE_COLOURS, STATE_COLOURS, near_pairs
from model.inference.prediction_files import Prediction, Properties
from seqdance.app.charts.style import AXES, BLUE, CONTACTS, INK, MODES, NAMES, SEQUENTIAL, styled

PANELS: Final = {
    "rmsf": "RMSF",
    "sasa": "SASA",
    "ss": "secondary structure",
    **ANGLES,
    "modes": "normal modes",
}
TITLES: Final = {"rmsf": AXES["rmsf_nor"], "sasa": AXES["sasa_mean"], "ss": "DSSP fraction", "modes": "GNM fluct."}
TICKS: Final = (0.01, 0.1, 0.5, 1, 2, 5, 10)  # contacts per frame
ANGLE_CENTRES: Final = np.arange(-165, 180, 30)


def profiles(prediction: Prediction, residues: Sequence[str], panels: Sequence[str], key: str, model: str) -> go.Figure:
    """The chosen panels below each other along one axis."""
    chosen = [panel for panel in PANELS if panel in panels] or ["rmsf"]
    figure = make_subplots(rows=len(chosen), cols=1, shared_xaxes=True, vertical_spacing=0.14 / len(chosen))
    properties = of_prediction(prediction).properties
    x = np.arange(1, len(residues) + 1)
    for row, panel in enumerate(chosen, 1):
        traces = {"rmsf": _rmsf, "sasa": _sasa, "ss": _states, "modes": _modes}.get(panel)
        for trace in traces(properties, x) if traces else [_angle(properties, panel, x)]:
            if trace.hovertemplate is None and trace.hoverinfo != "skip":
                trace.update(
                    customdata=residues,
                    hovertemplate="%{customdata}: %{y:.2f}<extra>" + (trace.name or "") + "</extra>",
                )
            figure.add_trace(trace, row=row, col=1)
        figure.update_yaxes(title_text=TITLES.get(panel, f"{PANELS[panel]} (degrees)"), row=row, col=1)
        if panel in ("rmsf", "ss"):
            figure.update_yaxes(range=[0, 1], row=row, col=1)
        elif panel in ANGLES:
            figure.update_yaxes(range=[-180, 180], tickvals=[-180, -90, 0, 90, 180], row=row, col=1)
        else:
            figure.update_yaxes(rangemode="tozero", row=row, col=1)
    figure.update_xaxes(range=[0.5, len(residues) + 0.5])
    figure.update_xaxes(title_text="position", row=len(chosen), col=1)
    legend = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "font": {"size": 11}, "itemclick": False}
    return styled(figure, 110 + 140 * len(chosen), key, model, legend=legend, hovermode="x")


def _rmsf(properties: Properties, x: NDArray[Any]) -> list[go.Scatter]:
    line = {"color": INK, "width": 1.8}
    return [go.Scatter(x=x, y=properties["rmsf_nor"], line=line, showlegend=False, name="RMSF")]


def _sasa(properties: Properties, x: NDArray[Any]) -> list[go.Scatter]:
    mean, spread = properties["sasa_mean"], properties["sasa_std"]
    edge: dict[str, Any] = {"x": x, "line": {"width": 0}, "mode": "lines", "hoverinfo": "skip", "showlegend": False}
    return [
        go.Scatter(y=mean + spread, **edge),
        go.Scatter(y=np.maximum(mean - spread, 0), fill="tonexty", fillcolor="rgba(0,114,178,0.22)", **edge),
        go.Scatter(x=x, y=mean, line={"color": BLUE, "width": 1.8}, name="SASA", showlegend=False),
    ]


def _states(properties: Properties, x: NDArray[Any]) -> list[go.Scatter]:
    fractions = properties["ss"]
    edges = np.stack([x - 0.5, x + 0.5], axis=1).ravel()  # (2 N,): a step for each residue
    areas = [
        go.Scatter(
            x=edges,
            y=np.repeat(fractions[:, DSSP_STATES.index(state)], 2),
            stackgroup="ss",
            mode="none",
            fillcolor=colour,
            name=name,
            hoverinfo="skip",
        )
        for state, (name, colour) in STATE_COLOURS.items()
    ]
    text = []
    for row in fractions:
        main = [DSSP_STATES[k] for k in np.argsort(-row)[:2]]
        text.append(", ".join(f"{STATE_COLOURS[state][0]} {row[DSSP_STATES.index(state)]:.0%}" for state in main))
    hover = "%{text}<extra></extra>"
    over: dict[str, Any] = {"mode": "markers", "marker": {"opacity": 0}, "showlegend": False}
    return [*areas, go.Scatter(x=x, y=np.full(len(x), 0.5), text=text, hovertemplate=hover, **over)]


def _angle(properties: Properties, name: str, x: NDArray[Any]) -> go.Heatmap:
    hover = f"{ANGLES[name]} %{{y}}° ± 15°: %{{z:.0%}}<extra></extra>"
    fractions = properties[name].T  # (12, N)
    return go.Heatmap(
        z=fractions, x=x, y=ANGLE_CENTRES, colorscale=SEQUENTIAL, zmin=0, showscale=False, hovertemplate=hover
    )


def _modes(properties: Properties, x: NDArray[Any]) -> list[go.Scatter]:
    return [
        go.Scatter(
            x=x, y=properties[f"nma_res{n}"], line={"color": MODE_COLOURS[mode], "width": 1.6}, name=f"{mode} freq."
        )
        for n, mode in enumerate(MODES, 1)
    ]


def pair_map(prediction: Prediction, name: str, key: str, model: str) -> go.Figure:
    """Map of residue pairs: contacts per frame on a cube-root scale, correlations from -1 to 1."""
    properties = of_prediction(prediction).properties
    if name == CONTACTS or name in INTERACTIONS:
        kinds = INTERACTIONS if name == CONTACTS else (name,)
        heat = contact_heatmap(np.sum([properties[kind] for kind in kinds], axis=0), prediction.chain)
    else:
        hover = "positions %{y} and %{x}<br>correlation %{z:.2f}<extra></extra>"
        heat = go.Heatmap(z=properties[name], colorscale="RdBu_r", zmin=-1, zmax=1, hovertemplate=hover)
    unit = "contacts per frame" if name == CONTACTS or name in INTERACTIONS else "correlation"
    return pair_figure(heat, prediction.chain, f"{NAMES[name]}: {unit}", f"{key} {name}", model)


def contact_heatmap(contacts: NDArray[Any], chain: NDArray[Any]) -> go.Heatmap:
    """Contacts per frame (N, N) on a cube-root scale, without `near_pairs`."""
    shown = np.where(near_pairs(chain), np.nan, contacts).astype(np.float32)
    most = np.nanmax(shown, initial=1.0)
    ticks = [tick for tick in TICKS if tick <= most]
    bar = {"tickvals": np.cbrt(ticks), "ticktext": [f"{tick:g}" for tick in ticks]}
    hover = "positions %{y} and %{x}<br>%{customdata:.3f} contacts per frame<extra></extra>"
    return go.Heatmap(
        z=np.cbrt(shown),
        customdata=shown,
        colorscale="Magma_r",
        zmin=0,
        zmax=np.cbrt(most),
        hovertemplate=hover,
        colorbar=bar,
    )


def pair_figure(heat: go.Heatmap, chain: NDArray[Any], title: str, key: str, model: str) -> go.Figure:
    """A square map of residue pairs with lines between chains."""
    n = len(chain)
    bar = {"orientation": "h", "thickness": 10, "len": 0.8, "y": 1.0, "yanchor": "bottom"}
    heat.update(x=np.arange(1, n + 1), y=np.arange(1, n + 1), colorbar=bar)
    figure = go.Figure(heat)
    for edge in np.flatnonzero(np.diff(chain)) + 1.5:
        line: dict[str, Any] = {"mode": "lines", "line": {"color": INK, "width": 1, "dash": "dash"}}
        across = ([0.5, n + 0.5], [edge, edge])
        for x, y in (across, across[::-1]):
            figure.add_trace(go.Scatter(x=x, y=y, hoverinfo="skip", showlegend=False, **line))
    square: dict[str, Any] = {"title_text": "position", "constrain": "domain", "showgrid": False}
    figure.update_xaxes(range=[0.5, n + 0.5], **square)
    figure.update_yaxes(range=[n + 0.5, 0.5], scaleanchor="x", **square)
    place: dict[str, Any] = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 1, "yanchor": "bottom", "yshift": 38}
    figure.add_annotation(text=title, showarrow=False, font={"size": 13}, **place)
    return styled(figure, 560, key, model).update_layout(margin={"t": 90})


def along_sequence(
    values: NDArray[Any], residues: Sequence[str], title: str, key: str, model: str, scale: tuple[float, float]
) -> go.Figure:
    """Bars of a value of each residue, coloured on a scale as in the structure."""
    x = np.arange(1, len(values) + 1)
    bars = go.Bar(
        x=x,
        y=values,
        width=1,
        marker={"color": values, "colorscale": SEQUENTIAL, "cmin": scale[0], "cmax": scale[1], "line": {"width": 0}},
        customdata=residues,
        hovertemplate="%{customdata}: %{y:.2f}<extra></extra>",
    )
    figure = go.Figure(bars)
    figure.update_xaxes(title_text="position", range=[0.5, len(values) + 0.5])
    figure.update_yaxes(title_text=title, range=[0, max(scale[1], 1e-6) * 1.05])
    return styled(figure, 270, f"{key} {title}", model, hovermode="x", bargap=0)
