"""A simulation or ensemble beside the prediction."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from model.evaluation.compare import CONTACTS, SCALARS, Comparison, pair_values
from seqdance.app.charts.dynamics import contact_heatmap, pair_figure
from seqdance.app.charts.style import AXES, INK, NAMES, styled

COLOURS: Final = (INK, "#CC3377")


def compared_profiles(comparison: Comparison, key: str, model: str) -> go.Figure:
    """Values of both sides along the sequence; residues are numbered as in the file."""
    first, second = comparison.first, comparison.second
    shown = [name for name in SCALARS if name in first.properties and name in second.properties]
    figure = make_subplots(rows=len(shown), cols=1, shared_xaxes=True, vertical_spacing=0.05)
    x = np.arange(1, len(first.residue) + 1)
    names = [f"{letter}{number}" for letter, number in zip(first.letters, first.numbers, strict=True)]
    for row, name in enumerate(shown, 1):
        for side, colour in zip((first, second), COLOURS, strict=True):
            line: dict[str, Any] = {"color": colour, "width": 1.8}
            hover = "%{customdata}: %{y:.3g}<extra>" + side.name + "</extra>"
            trace = go.Scatter(x=x, y=side.properties[name], line=line, name=side.name, customdata=names)
            trace.update(hovertemplate=hover, showlegend=row == 1, legendgroup=side.name)
            figure.add_trace(trace, row=row, col=1)
        figure.update_yaxes(title_text=AXES.get(name, NAMES.get(name, name)), rangemode="tozero", row=row, col=1)
    figure.update_xaxes(range=[0.5, len(x) + 0.5])
    figure.update_xaxes(title_text="position", row=len(shown), col=1)
    legend = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0}
    return styled(figure, 110 + 150 * len(shown), key, model, legend=legend, hovermode="x")


def compared_contacts(comparison: Comparison, key: str, model: str) -> go.Figure:
    """Contacts per frame: the measurement above the diagonal, the prediction below."""
    first, second = (pair_values(side.properties, CONTACTS) for side in (comparison.first, comparison.second))
    contacts = np.where(np.triu(np.ones(first.shape, bool)), first, second)
    chain = comparison.first.chain
    title = f"contacts per frame<br>above: {comparison.first.name}, below: {comparison.second.name}"
    return pair_figure(contact_heatmap(contacts, chain), chain, title, key, model)
