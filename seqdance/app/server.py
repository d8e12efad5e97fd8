"""The page as a web application."""

from __future__ import annotations

import mimetypes
import socket
from collections.abc import Iterator
from typing import Final

from dash import Dash
from flask import Response, abort
from waitress import create_server

from data_prepare.errors import InputError, first_line
from model.inference.inputs import file_name
from seqdance.app import callbacks
from seqdance.app.analysis import Networks
from seqdance.app.given import Limits
from seqdance.app.jobs import collect_warnings
from seqdance.app.page import layout
from seqdance.app.service import Service

THREADS: Final = 8  # requests at the same time; long work has its own threads
LOCAL: Final = ("127.0.0.1", "localhost")
ANY: Final = ("0.0.0.0", "::")  # every address of this computer
# the browser itself refuses every request to another host; Dash and Mol* need inline scripts
POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self' data: blob:; worker-src 'self' blob:; font-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; object-src 'none'"
)


def make_app(service: Service, local: bool = True) -> Dash:
    """The application; if `local`, only for requests that name this computer."""
    app = Dash(__name__, title="SeqDance", update_title="", serve_locally=True, suppress_callback_exceptions=True)
    app.layout = layout(service.networks, service.limits)
    callbacks.register(app, service)
    server = app.server
    server.config["MAX_CONTENT_LENGTH"] = request_bytes(service.limits)
    if local:
        server.config["TRUSTED_HOSTS"] = list(LOCAL)

    @server.route("/results/<key>/<name>")
    def download(key: str, name: str) -> Response:
        """A file of a result."""
        found = service.get(key)
        content = service.files(found).get(name) if found else None
        if found is None or content is None:
            abort(404)
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        response = Response(content(), mimetype=kind)
        response.headers.set(
            "Content-Disposition", "attachment", filename=f"{file_name(found.choice.protein.name)}_{name}"
        )
        return response

    @server.after_request
    def protect(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    return app


def request_bytes(limits: Limits) -> int:
    """Largest request: two files in base64, and some text."""
    return int(2 * 1.4 * limits.megabytes * 1e6) + 2**20


def serve(networks: Networks, limits: Limits, host: str, port: int) -> Iterator[str]:
    """Yield the address as soon as the page answers, then serve it until interrupted; InputError if it cannot."""
    collect_warnings()
    service = Service(networks, limits)
    app = make_app(service, local=host in LOCAL)
    most = request_bytes(limits)
    listen = "127.0.0.1" if host == "localhost" else host  # one socket, not one for each version of IP
    try:
        server = create_server(
            app.server, host=listen, port=port, threads=THREADS, max_request_body_size=most, ident=None
        )
    except (OSError, ValueError) as error:
        raise InputError(f"--host {host} --port {port}: {first_line(error)}; choose others") from None
    try:
        name = socket.gethostname() if host in ANY else f"[{host}]" if ":" in host else host
        # a name with several addresses has no one port
        yield f"http://{name}:{getattr(server, 'effective_port', port)}/"
        server.run()
    finally:
        service.jobs.close()
        server.close()
