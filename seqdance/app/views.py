"""From a result to its figures, and the residue or mutant that the user has chosen in one of them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from dash import ALL, Dash, Input, Output, Patch, State, ctx, html, no_update

from data_prepare.errors import InputError
from model.mutations.substitution import WildType
from seqdance.app.analysis import Analysis, changes_of_mutant
from seqdance.app.charts import comparison, dynamics, mutations, structure
from seqdance.app.charts.style import labels, mark
from seqdance.app.page import COLOURS
from seqdance.app.service import Service

HIDE: Final = {"display": "none"}
SHOW: Final[dict[str, str]] = {}
UNITS: Final = {"RMSF": "RMSF / max", "SASA": "SASA (nm²)"}
ALONG: Final = ("profiles", "mutation-map", "exchange-plot", "colour-plot")  # figures along the sequence
# hover over a bar of the structure's plot -> the residue in the viewer
HOVER: Final = """(hover, targets) => hover && targets && targets[hover.points[0].x - 1]
    ? {targets: [targets[hover.points[0].x - 1]], modifier: "set"} : window.dash_clientside.no_update"""


def register(app: Dash, service: Service) -> None:
    """Add the callbacks of all tabs."""
    _register_dynamics(app, service)
    _register_mutations(app, service)
    _register_structure(app, service)
    _register_choice(app, service)


def sized(figure: go.Figure, residue: int | None = None, pairs: bool = False) -> tuple[go.Figure, dict[str, str]]:
    """A figure with the chosen residue marked, and the style that gives its element the same height."""
    figure.update_layout(shapes=mark(residue, pairs))
    return figure, {"height": f"{figure.layout.height}px"}


def table_of(table: pd.DataFrame) -> html.Table:
    """A table with rounded numbers."""

    def text(value: Any) -> str:
        return "" if pd.isna(value) else f"{value:.3g}" if isinstance(value, float) else str(value)

    head = html.Thead(html.Tr([html.Th(str(name).replace("_", " ")) for name in table.columns]))
    rows = [html.Tr([html.Td(text(value)) for value in row]) for row in table.itertuples(index=False)]
    return html.Table([head, html.Tbody(rows)])


def _register_dynamics(app: Dash, service: Service) -> None:
    @app.callback(
        Output("profiles", "figure"),
        Output("profiles", "style"),
        Input("version", "data"),
        Input("panels", "value"),
        State("key", "data"),
        State("residue", "data"),
        prevent_initial_call=True,
    )
    def profiles(_: Any, panels: list[str], key: str, residue: int | None) -> Any:
        found = service.get(key)
        if found is None or found.prediction is None:
            return no_update, no_update
        figure = dynamics.profiles(found.prediction, found.choice.residues, panels, key, service.label)
        return sized(figure, residue)

    @app.callback(
        Output("map", "figure"),
        Output("map", "style"),
        Input("version", "data"),
        Input("map-name", "value"),
        State("key", "data"),
        State("residue", "data"),
        prevent_initial_call=True,
    )
    def pair_map(_: Any, name: str, key: str, residue: int | None) -> Any:
        found = service.get(key)
        if found is None or found.prediction is None:
            return no_update, no_update
        return sized(dynamics.pair_map(found.prediction, name, key, service.label), residue, pairs=True)

    @app.callback(
        Output("exchange-plot", "figure"),
        Output("exchange-plot", "style"),
        Input("version", "data"),
        State("key", "data"),
        State("residue", "data"),
        prevent_initial_call=True,
    )
    def exchange(_: Any, key: str, residue: int | None) -> Any:
        found = service.get(key)
        if found is None or found.exchange is None:
            return no_update, HIDE
        p = found.exchange["p_exchange"].to_numpy()
        figure = dynamics.along_sequence(
            p, found.choice.residues, "p_exchange", key, service.exchange_label, (0.0, 1.0)
        )
        return sized(figure, residue)

    @app.callback(
        Output("compared", "figure"),
        Output("compared", "style"),
        Output("compared-map", "figure"),
        Output("compared-map", "style"),
        Output("comparison-table", "children"),
        Output("comparison-area", "hidden"),
        Input("version", "data"),
        State("key", "data"),
        prevent_initial_call=True,
    )
    def compared(_: Any, key: str) -> Any:
        found = service.get(key)
        if found is None or found.comparison is None:
            return *((no_update,) * 4), [], True
        charts = (comparison.compared_profiles, comparison.compared_contacts)
        figures = [part for chart in charts for part in sized(chart(found.comparison, key, service.label))]
        columns = ["property", "n", "pearson", "spearman", "rmse", "jensen_shannon", "average_precision", "overlap"]
        return *figures, table_of(found.comparison.table[columns]), False


def _register_mutations(app: Dash, service: Service) -> None:
    @app.callback(
        Output("mutation-map", "figure"),
        Output("mutation-map", "style"),
        Output("mutation-area", "style"),
        Output("mutation-hint", "children"),
        Input("version", "data"),
        State("key", "data"),
        State("residue", "data"),
        prevent_initial_call=True,
    )
    def mutation_map(_: Any, key: str, residue: int | None) -> Any:
        found = service.get(key)
        if found is None or found.scores is None:
            return (
                no_update,
                no_update,
                HIDE,
                "A mutant is scored by how much its predicted dynamics differ from the wild type.",
            )
        residues, damage = found.choice.residues, found.mean_damage()
        figure = mutations.mutation_map(found.scores, found.sequence, damage, residues, key, service.label)
        hint = (
            f"{len(found.scores):,} mutants are scored. Damage is the fraction of the others and the wild type that "
            "score lower. Click a cell to see which properties change."
        )
        return *sized(figure, residue), SHOW, hint

    @app.callback(
        Output("listed", "children"),
        Input("version", "data"),
        State("mutants", "value"),
        State("key", "data"),
        prevent_initial_call=True,
    )
    def listed(_: Any, text: str | None, key: str) -> Any:
        """Rows of the mutants of the list."""
        found = service.get(key)
        if found is None or found.scores is None or not (text or "").strip():
            return []
        rows = found.scores[found.scores["mutant"].isin(labels_of(found, str(text)))]
        cells = zip(rows["mutant"].astype(str).tolist(), rows["damage"].tolist(), rows["score"].tolist(), strict=True)
        head = html.Thead(html.Tr([html.Th(name) for name in ("mutant", "damage", "score")]))
        body = [
            html.Tr([html.Td(_mutant_button(label)), html.Td(f"{damage:.3f}"), html.Td(f"{score:.4g}")])
            for label, damage, score in cells
        ]
        return html.Table([head, html.Tbody(body)]) if body else []

    @app.callback(
        Output("mutant", "data"),
        Input("mutation-map", "clickData"),
        Input({"type": "listed", "label": ALL}, "n_clicks"),
        Input("key", "data"),
        prevent_initial_call=True,
    )
    def choose_mutant(click: dict[str, Any] | None, clicks: list[int | None], key: str) -> Any:
        found, trigger = service.get(key), ctx.triggered_id
        if found is None or trigger == "key":
            return None
        if isinstance(trigger, dict):
            return trigger["label"] if any(clicks) else no_update
        point = click["points"][0] if click else {}
        if not isinstance(point.get("y"), str):
            return no_update  # the track of means
        position = int(point["x"])
        return f"{found.choice.residues[position - 1].letter}{position}{point['y']}"

    @app.callback(
        Output("changes", "figure"),
        Output("changes", "style"),
        Output("mutation-details", "style"),
        Input("mutant", "data"),
        Input("version", "data"),
        State("key", "data"),
        prevent_initial_call=True,
    )
    def changes(label: str | None, _: Any, key: str) -> Any:
        """The 23 changes of the chosen mutant; without a choice those of the most damaging one."""
        found = service.get(key)
        if found is None or found.scores is None:
            return no_update, no_update, HIDE
        table = changes_of_mutant(found, label or "")
        if table is None:
            label = str(found.scores["mutant"].iloc[int(found.scores["score"].argmax())])
            table = changes_of_mutant(found, label)
        assert table is not None
        return *sized(mutations.property_changes(table, str(label), key, service.label)), SHOW


def _mutant_button(label: str) -> html.Button:
    return html.Button(label, id={"type": "listed", "label": label}, className="link")


def labels_of(found: Analysis, text: str) -> list[str]:
    """Labels of a list of mutants, in the form of the table; words that do not fit are left out."""
    wild_type, known = WildType(found.sequence), []
    for word in text.replace("\n", ",").split(","):
        try:
            known.append(wild_type.label(dict(sorted(wild_type.read(word).items()))))
        except InputError:
            continue
    return known


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
        targets = [
            structure.target(residue.chain, residue) if residue.number else None for residue in found.choice.residues
        ]
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
        model = service.exchange_label if colour == "p_exchange" else service.label
        figure = dynamics.along_sequence(own, residues, UNITS.get(colour, colour), key, model, scale)
        return structure.viewer_data(found.choice, own, scale), *sized(figure, residue)

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
            position = structure.position_of(focus, found.choice.residues)
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
    name = labels(found.choice.residues)[position]
    values = [f"{what} {own[position]:.2f}" for what, own in found.residue_values().items()]
    return f"{name}: {', '.join(values)}"
