"""The structure in colour, and the residue that the user has chosen in any figure."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from dash import Dash, Input, Output, Patch, State, ctx, html, no_update

from seqdance.app.analysis import Analysis
from seqdance.app.charts import dynamics, structure
from seqdance.app.charts.style import AXES, mark, sized
from seqdance.app.page import COLOURS
from seqdance.app.service import Service

UNITS: Final = {"RMSF": AXES["rmsf_nor"], "SASA": AXES["sasa_mean"]}
ALONG: Final = ("profiles", "mutation-map", "exchange-plot", "colour-plot")  # figures along the sequence
# hover over a bar of the structure's plot -> the residue in the viewer
HOVER: Final = """(hover, targets) => hover && targets && targets[hover.points[0].x - 1]
    ? {targets: [targets[hover.points[0].x - 1]], modifier: "set"} : window.dash_clientside.no_update"""


def register(app: Dash, service: Service) -> None:
    """Add the callbacks of the structure, and those that join the tabs."""
    _register_structure(app, service)
    _register_choice(app, service)


def _register_structure(app: Dash, service: Service) -> None:
    @app.callback(
        Output("structure-area", "hidden"),
        Output("no-structure", "hidden"),
        Output("colour", "options"),
        Output("colour", "value"),
        Output("targets", "data"),
        Input("version", "data"),
        State("colour", "value"),
        State("key", "data"),
        prevent_initial_call=True,
    )
    def colours(_: Any, colour: str, key: str) -> Any:
        found = service.get(key)
        if found is None or found.choice.structure is None:
            return True, False, [], COLOURS[0], None
        values = found.residue_values()
        options = [{"label": name, "value": name, "disabled": name not in values} for name in COLOURS]
        ids = found.choice.protein.residue_ids
        targets = [structure.target(residue.chain, residue) if residue.number else None for residue in ids]
        return False, True, options, colour if colour in values else COLOURS[0], targets

    @app.callback(
        Output("viewer", "data"),
        Output("colour-plot", "figure"),
        Output("colour-plot", "style"),
        Input("colour", "value"),
        Input("targets", "data"),
        State("key", "data"),
        State("residue", "data"),
        prevent_initial_call=True,
    )
    def coloured(colour: str, targets: Any, key: str, residue: int | None) -> Any:
        found = service.get(key)
        if found is None or not targets or colour not in (values := found.residue_values()):
            return no_update, no_update, no_update
        own, residues = values[colour], found.choice.residues
        scale = (0.0, 1.0) if colour == "p_exchange" else (float(np.nanmin(own)), float(np.nanmax(own)))
        model = service.networks.dyna1_label if colour == "p_exchange" else service.networks.label
        figure = dynamics.along_sequence(own, residues, UNITS.get(colour, colour), key, model, scale)
        file = found.choice.with_b_factors(own)
        chains = dict.fromkeys(chain for chain, _ in found.choice.protein.residue_ids)
        return structure.viewer_data(file.content, file.suffix, chains, scale), *sized(figure, residue)

    app.clientside_callback(
        HOVER,
        Output("viewer", "hover"),
        Input("colour-plot", "hoverData"),
        State("targets", "data"),
        prevent_initial_call=True,
    )


def _register_choice(app: Dash, service: Service) -> None:
    clicked = [Input(name, "clickData") for name in (*ALONG, "map")]

    @app.callback(
        Output("residue", "data", allow_duplicate=True),
        clicked,
        Input("viewer", "focus"),
        State("key", "data"),
        prevent_initial_call=True,
    )
    def choose(*values: Any) -> Any:
        """The residue that was clicked in a figure or in the viewer."""
        *clicks, focus, key = values
        found = service.get(key)
        if found is None:
            return None
        if ctx.triggered_id == "viewer":
            position = structure.position_of(focus, found.choice.protein.residue_ids)
            return no_update if position is None else position
        click = dict(zip((*ALONG, "map"), clicks, strict=True)).get(str(ctx.triggered_id))
        return round(click["points"][0]["x"]) - 1 if click else no_update

    @app.callback(
        [Output(name, "figure", allow_duplicate=True) for name in (*ALONG, "map")],
        Output("chosen", "children"),
        Input("residue", "data"),
        State("key", "data"),
        prevent_initial_call=True,
    )
    def marked(residue: int | None, key: str) -> Any:
        """Mark the residue in every figure, and what is known about it."""
        found = service.get(key)
        if found is None:
            return *([no_update] * (len(ALONG) + 1)), ""
        figures = []
        for name in (*ALONG, "map"):
            figure = Patch()
            figure["layout"]["shapes"] = mark(residue, pairs=name == "map")
            figures.append(figure)
        return *figures, "" if residue is None else about_residue(found, residue)

    @app.callback(
        Output("results", "hidden", allow_duplicate=True),
        Output("downloads", "children"),
        Input("version", "data"),
        State("key", "data"),
        prevent_initial_call=True,
    )
    def links(_: Any, key: str) -> Any:
        """Links to the files that exist by now."""
        found = service.get(key)
        if found is None or found.prediction is None:
            return True, []
        return False, [html.A(name, href=f"/results/{key}/{name}") for name in service.files(found)]


def about_residue(found: Analysis, position: int) -> str:
    """One line: name of a residue and its values."""
    name = found.choice.residues[position]
    values = [f"{what} {own[position]:.2f}" for what, own in found.residue_values().items()]
    return f"{name}: {', '.join(values)}"
