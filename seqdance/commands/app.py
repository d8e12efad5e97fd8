"""Command `seqdance app`: a web page for one protein."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Iterator
from functools import partial
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from seqdance.options import DeviceOptions


@dataclass(frozen=True, kw_only=True)
class AppOptions(DeviceOptions):
    """Show one protein in the browser: predicted dynamics, mutations, exchange, structure, a simulation beside it.

    The page works without internet, and only on this computer unless --host says otherwise. Requires the extra app:
    pip install 'seqdance[app]'.
    """

    model: str = "demo"
    """As in seqdance predict: esmdance, seqdance, demo (small, not for conclusions), a folder, file or Hub id."""
    dyna1: str | None = None
    """Weights of Dyna-1, for the tab of exchange: folder, weight file, or Hub id such as gelnesr/Dyna-1."""
    embedder: str | None = None
    """Of Dyna-1, as in seqdance dyna1 predict. Default: by the weights."""
    host: str = "127.0.0.1"
    """Address to serve. 0.0.0.0: every computer that reaches this one can use the page, without a password."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8050
    """Port to serve; 0: any free one."""
    max_length: Annotated[int, Field(ge=1)] = 1000
    """Longest protein, in residues."""
    max_upload: Annotated[float, Field(gt=0, le=1000)] = 20
    """Largest file that the page accepts, unpacked, in MB."""
    browser: bool = False
    """Open the page in a browser."""


def app(options: AppOptions) -> Iterator[str]:
    """Serve the page until interrupted; yields its address."""
    import dash  # noqa: F401  # the extra `app` brings all that the page needs; named first if it is missing

    from seqdance.app.analysis import load_networks
    from seqdance.app.given import Limits
    from seqdance.app.server import serve

    networks = load_networks(options.model, options.dyna1, options.embedder, options.device)
    limits = Limits(options.max_length, options.max_upload)
    for address in serve(networks, limits, options.host, options.port):
        yield f"SeqDance is at {address} (Ctrl-C ends it)"
        sys.stdout.flush()
        if options.browser:
            webbrowser.open(address)


main = partial(run, AppOptions, app)
