"""From a result to its figures: dynamics, exchange, comparison and mutations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pandas as pd
from dash import ALL, Dash, Input, Output, State, ctx, html, no_update

from data_prepare.errors import InputError
from seqdance.app import structure_view
from seqdance.app.analysis import changes_of_mutant, labels_of_list
from seqdance.app.charts import comparison, dynamics, mutations
from seqdance.app.charts.style import sized
from seqdance.app.service import Service

HIDE: Final = {"display": "none"}
SHOW: Final[dict[str, str]] = {}


def register(app: Dash, service: Service) -> None:
    """Add the callbacks of all tabs."""
    _register_dynamics(app, service)
    _register_mutations(app, service)
    structure_view.register(app, service)


def table_of(table: pd.DataFrame) -> html.Table:
    """A table with rounded numbers."""

    def text(value: Any) -> str:
        return "" if pd.isna(value) else f"{value:.3g}" if isinstance(value, float) else str(value)

    head = html.Thead(html.Tr([html.Th(str(name).replace("_", " ")) for name in table.columns]))
    rows = [html.Tr([html.Td(text(value)) for value in row]) for row in table.itertuples(index=False)]
    return html.Table([head, html.Tbody(rows)])


def _figure(app: Dash, name: str, *inputs: Input) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator of what draws a figure anew: from the version of the results, other inputs, key and chosen residue."""
    drawn, state = (Output(name, "figure"), Output(name, "style")), (State("key", "data"), State("residue", "data"))
    return app.callback(*drawn, Input("version", "data"), *inputs, *state, prevent_initial_call=True)


def _register_dynamics(app: Dash, service: Service) -> None:
    @_figure(app, "profiles", Input("panels", "value"))
    def profiles(_: Any, panels: list[str], key: str, residue: int | None) -> Any:
        found = service.get(key)
        if found is None or found.prediction is None:
            return no_update, no_update
        figure = dynamics.profiles(found.prediction, found.choice.residues, panels, key, service.networks.label)
        return sized(figure, residue)

    @_figure(app, "map", Input("map-name", "value"))
    def pair_map(_: Any, name: str, key: str, residue: int | None) -> Any:
        found = service.get(key)
        if found is None or found.prediction is None:
            return no_update, no_update
        return sized(dynamics.pair_map(found.prediction, name, key, service.networks.label), residue, pairs=True)

    @_figure(app, "exchange-plot")
    def exchange(_: Any, key: str, residue: int | None) -> Any:
        found = service.get(key)
        if found is None or found.exchange is None:
            return no_update, HIDE
        p = found.exchange["p_exchange"].to_numpy()
        figure = dynamics.along_sequence(
            p, found.choice.residues, "p_exchange", key, service.networks.dyna1_label, (0.0, 1.0)
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
        figures = [part for chart in charts for part in sized(chart(found.comparison, key, service.networks.label))]
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
        protein = found.choice.wild_type, found.choice.residues
        figure = mutations.mutation_map(found.scores, *protein, found.damage, key, service.networks.label)
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
        try:
            wanted = labels_of_list(found.choice, str(text))
        except InputError:  # the list is being typed
            return []
        rows = found.scores[found.scores["mutant"].isin(wanted)]
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
        wild_type = found.choice.wild_type
        return wild_type.label({wild_type.residues[int(point["x"]) - 1]: point["y"]})

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
        return *sized(mutations.property_changes(table, str(label), key, service.networks.label)), SHOW


def _mutant_button(label: str) -> html.Button:
    return html.Button(label, id={"type": "listed", "label": label}, className="link")
