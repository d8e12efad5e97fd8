"""From a click to a job, and the progress of it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from functools import partial
from typing import Any

from dash import Dash, Input, Output, State, ctx, html, no_update

from data_prepare.errors import InputError, require
from seqdance.app import analysis as work
from seqdance.app import views
from seqdance.app.analysis import Analysis
from seqdance.app.given import File, Given, read_file, read_text, unpack
from seqdance.app.jobs import Job, noted
from seqdance.app.service import Service


def unpack_upload(service: Service, content: str, name: str | None) -> File:
    """A file as the browser sends it, `data:...;base64,...`."""
    try:
        bytes_ = base64.b64decode(content.partition(",")[2], validate=True)
    except binascii.Error:
        raise InputError("the upload is damaged; try again") from None
    return unpack(str(name or "file"), bytes_, service.limits)


def register(app: Dash, service: Service) -> None:
    """Add all callbacks to the page."""
    _register_input(app, service)
    _register_jobs(app, service)
    views.register(app, service)


def _register_input(app: Dash, service: Service) -> None:
    @app.callback(
        Output("url", "search"),
        Output("error", "children"),
        Output("residue", "data"),
        Output("file", "contents"),
        Input("predict", "n_clicks"),
        Input("example", "n_clicks"),
        Input("file", "contents"),
        Input("choice", "value"),
        State("file", "filename"),
        State("text", "value"),
        State("key", "data"),
        prevent_initial_call=True,
    )
    def read(_: int, __: int, content: str | None, choice: str | None, name: str | None, text: str, key: str) -> Any:
        """Read the input and start its prediction; its result has an address of its own."""
        trigger = ctx.triggered_id
        try:
            given: Given | None
            notes: list[str]
            chosen = None
            with noted() as notes:
                if trigger == "choice":
                    given, shown = service.input_of(key)
                    if given is None or choice in (None, shown):
                        return (no_update,) * 4
                    chosen = choice
                elif trigger == "file":
                    if not content:
                        return (no_update,) * 4
                    given = read_file(unpack_upload(service, content, name))
                elif trigger == "example":
                    given = read_file(service.example())
                else:
                    given = read_text(text or "")
                key = service.start(given, chosen, notes)
        except InputError as error:
            return no_update, str(error), no_update, None
        return f"?result={key}", "", None, None

    @app.callback(
        Output("key", "data"),
        Output("results", "hidden"),
        Output("choice", "options"),
        Output("choice", "value"),
        Output("choosing", "hidden"),
        Output("title", "children"),
        Output("tick", "disabled"),
        Output("error", "children", allow_duplicate=True),
        Input("url", "search"),
        prevent_initial_call="initial_duplicate",
    )
    def show(search: str | None) -> Any:
        """The result that the address names."""
        key = (search or "").removeprefix("?result=")
        found = service.get(key)
        if found is None:
            gone = "This result is no longer kept; predict it again." if key else no_update
            return None, True, [], None, True, "", True, gone
        title = [found.choice.protein.name, html.Small(f" {len(found.choice.letters):,} residues")]
        _, chosen = service.input_of(key)
        hidden, single = found.prediction is None, len(found.names) < 2
        return key, hidden, list(found.names), chosen, single, title, False, no_update


def _register_jobs(app: Dash, service: Service) -> None:
    @app.callback(
        Output("progress", "hidden"),
        Output("working", "children"),
        Output("bar", "value"),
        Output("notes", "children"),
        Output("version", "data"),
        Output("tick", "disabled", allow_duplicate=True),
        Output("error", "children", allow_duplicate=True),
        Input("tick", "n_intervals"),
        State("key", "data"),
        State("version", "data"),
        prevent_initial_call=True,
    )
    def poll(_: int, key: str, version: Any) -> Any:
        """Progress, and the version of the results."""
        found = service.get(key)
        if found is None:
            return True, "", None, [], no_update, True, no_update
        job = found.job
        ended = job is None or not job.active
        error = job.message if job and job.state == "failed" else no_update
        notes = [html.P(note, className="note") for note in (*found.notes, *(job.notes if job and ended else ()))]
        text, value = service.progress(job) if job else ("", None)
        now = [key, found.version]
        return ended, text, value, notes, no_update if now == version else now, ended, error

    @app.callback(Input("cancel", "n_clicks"), State("key", "data"), prevent_initial_call=True)
    def cancel(_: int, key: str) -> None:
        found = service.get(key)
        if found and found.job:
            found.job.cancel()

    @app.callback(
        Output("tick", "disabled", allow_duplicate=True),
        Output("error", "children", allow_duplicate=True),
        Output("topology", "contents"),
        Output("frames", "contents"),
        Input("score-all", "n_clicks"),
        Input("score-list", "n_clicks"),
        Input("exchange", "n_clicks"),
        Input("compare", "n_clicks"),
        Input("compare-example", "n_clicks"),
        State("mutants", "value"),
        State("topology", "contents"),
        State("topology", "filename"),
        State("frames", "contents"),
        State("frames", "filename"),
        State("key", "data"),
        prevent_initial_call=True,
    )
    def start(*values: Any) -> Any:
        """Start a long job; one at a time for each result."""
        listed, topology, topology_name, frames, frames_name, key = values[-6:]
        found = service.get(key)
        if found is None or not ctx.triggered_id:
            return (no_update,) * 4
        try:
            require(not (found.job and found.job.active), "one thing at a time: wait, or cancel what is running")
            job, task = _task(
                service, found, ctx.triggered_id, listed, (topology, topology_name), (frames, frames_name)
            )
        except InputError as error:
            return no_update, str(error), no_update, no_update
        service.run(found, job, task, "long")
        return False, "", None, None

    for name, text in (("topology", "Topology, or models"), ("frames", "Trajectory")):
        app.callback(Output(f"{name}-name", "children"), Input(name, "filename"), prevent_initial_call=True)(
            lambda filename, text=text: filename or text
        )


def _task(
    service: Service,
    found: Analysis,
    button: str,
    listed: str | None,
    topology: tuple[str | None, str | None],
    frames: tuple[str | None, str | None],
) -> tuple[Job, Callable[[Job], object]]:
    """The job behind a button; InputError if its input cannot be used."""
    if button in ("score-all", "score-list"):
        require(button == "score-all" or (listed or "").strip(), "no list of mutants; give one such as A12G,K5R:L7V")
        new = work.new_mutants(found, (listed or "") if button == "score-list" else "")
        require(new, "these mutants are scored already")
        return Job(f"Scoring {len(new):,} mutants", len(new)), partial(work.score, service.networks, found, new)
    if button == "exchange":
        return Job("Predicting exchange"), partial(work.exchange, service.networks, found)
    if button == "compare-example":
        files: tuple[File, File | None] = service.example_trajectory()
    else:
        require(topology[0], "no topology; choose a PDB file first, then its trajectory")
        first = unpack_upload(service, str(topology[0]), topology[1])
        files = first, unpack_upload(service, frames[0], frames[1]) if frames[0] else None
    return Job("Reading the simulation"), partial(work.compare, service.networks, service.limits, found, *files)
