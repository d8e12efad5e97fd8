"""Layout of the page."""

from __future__ import annotations

from typing import Any, Final

from dash import dcc, html
from dash_molstar import MolstarViewer

from model.network.names import DEMO, DEMO_NOTE
from seqdance.app.analysis import Networks
from seqdance.app.charts.dynamics import PANELS
from seqdance.app.charts.style import CONTACTS, NAMES, PAIR_MAPS
from seqdance.app.given import Limits

TABS: Final = ("dynamics", "mutations", "exchange", "structure", "trajectory")
COLOURS: Final = ("RMSF", "SASA", "mean damage", "p_exchange")
GRAPH: Final[Any] = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    "toImageButtonOptions": {"format": "svg"},
}
# what is written below the tabs; numbers of the paper stand in the documentation
TRUST: Final = (
    "A score says how much the predicted dynamics change, not how stable, active or harmful the mutant is. It ranks "
    "the mutants of one protein among each other; do not compare scores of different proteins.",
    "The networks learned from simulations of soluble proteins, membrane receptors and disordered regions, and from "
    "normal modes of structures in the PDB. Expect less of proteins unlike these, of ligands, modifications and "
    "rare conformations, none of which the networks see.",
    "RMSF is relative to the most flexible residue of the protein. Contacts are counts per frame of a simulation.",
)


def graph(name: str, **options: Any) -> dcc.Loading:
    """An empty figure that shows when it waits for the server."""
    figure = {"layout": {"xaxis": {"visible": False}, "yaxis": {"visible": False}, "height": 200}}
    own = dcc.Graph(id=name, config=GRAPH, figure=figure, **options)
    return dcc.Loading(own, delay_show=400, color="#0072B2", type="dot")


def layout(networks: Networks, limits: Limits) -> html.Div:
    """The whole page."""
    return html.Div(
        [
            dcc.Location(id="url", refresh=False),
            dcc.Store(id="key"),  # of the analysis that is shown
            dcc.Store(id="version", data=0),  # of its results
            dcc.Store(id="residue"),  # chosen, from 0
            dcc.Store(id="targets"),  # of the viewer, for each residue
            dcc.Store(id="mutant"),  # whose changes are shown
            dcc.Interval(id="tick", interval=400, disabled=True),
            _head(networks),
            _input(limits),
            _status(),
            html.Div(_tabs(networks), id="results", hidden=True),
            html.Details([html.Summary("How far to trust this"), *(html.P(text) for text in TRUST)], className="trust"),
        ],
        className="page",
    )


def _head(networks: Networks) -> html.Header:
    network = networks.model
    warning = [html.Span(DEMO_NOTE, className="warning")] if network.name == DEMO else []
    model = html.Span(["model ", html.Strong(network.name), " ", html.Code(network.digest)], className="model")
    return html.Header([html.H1("SeqDance"), html.P("protein dynamics from sequence"), model, *warning])


def _input(limits: Limits) -> html.Section:
    note = f"PDB or mmCIF shows the structure too. Up to {limits.residues:,} residues and {limits.megabytes:g} MB."
    drop = dcc.Upload(
        html.Div([html.Strong("Drop a file here"), " or choose one: FASTA, PDB, mmCIF"]),
        id="file",
        className="drop",
    )
    text = dcc.Textarea(id="text", placeholder="Paste a sequence or FASTA text", spellCheck=False)
    buttons = html.Div(
        [
            html.Button("Predict", id="predict", className="main"),
            html.Button("Example: ubiquitin", id="example"),
            html.Div(
                dcc.Dropdown(id="choice", clearable=False, placeholder="protein or chain"), id="choosing", hidden=True
            ),
        ],
        className="row",
    )
    return html.Section([html.Div([text, drop], className="inputs"), html.P(note, className="hint"), buttons])


def _status() -> html.Div:
    progress = html.Div(
        [
            html.Span(id="working"),
            html.Progress(id="bar", max="1", value="0"),
            html.Button("Cancel", id="cancel"),
        ],
        id="progress",
        className="row",
        hidden=True,
    )
    return html.Div([progress, html.P(id="error", className="error", role="alert"), html.Div(id="notes")])


def _tabs(networks: Networks) -> list[Any]:
    content = {
        "dynamics": _dynamics(),
        "mutations": _mutations(),
        "exchange": _exchange(networks),
        "structure": _structure(),
        "trajectory": _trajectory(),
    }
    tabs = [
        dcc.Tab(html.Div(content[name], className="tab"), label=name.capitalize(), value=name, className="label")
        for name in TABS
    ]
    head = html.Div([html.H2(id="title"), html.Span(id="chosen"), html.Span(id="downloads")], className="row title")
    return [head, dcc.Tabs(tabs, id="tabs", value=TABS[0], mobile_breakpoint=0)]


def _dynamics() -> list[Any]:
    panels = dcc.Checklist(PANELS, ["rmsf", "sasa", "ss", "modes"], id="panels", inline=True)
    maps = dcc.Dropdown({name: NAMES[name] for name in PAIR_MAPS}, CONTACTS, id="map-name", clearable=False)
    return [
        html.Div(
            [
                html.Div([html.Div(panels, className="controls"), graph("profiles")], className="wide"),
                html.Div([html.Div(maps, className="controls"), graph("map")], className="narrow"),
            ],
            className="columns",
        )
    ]


def _mutations() -> list[Any]:
    words = dcc.Input(id="mutants", placeholder="A12G,K5R:L7V", debounce=True, spellCheck=False)
    return [
        html.Div(
            [
                html.Button("Score all single mutants", id="score-all", className="main"),
                html.Label(["or a list", html.Div(words)], id="listing"),
                html.Button("Score the list", id="score-list"),
            ],
            className="row controls",
        ),
        html.P(id="mutation-hint", className="hint"),
        html.Div(html.Div(graph("mutation-map"), className="scrolled"), className="scroll", id="mutation-area"),
        html.Div(
            [html.Div(graph("changes"), className="wide"), html.Div(id="listed", className="narrow")],
            className="columns",
            id="mutation-details",
        ),
    ]


def _exchange(networks: Networks) -> list[Any]:
    if networks.source is None:
        return [
            html.P("No weights of Dyna-1 are loaded. Start the page with:", className="hint"),
            html.Pre("seqdance app --dyna1 gelnesr/Dyna-1/dyna1-esm2.pt"),
            html.Div([graph("exchange-plot"), html.Button(id="exchange")], hidden=True),
        ]
    about = (
        f"Micro- to millisecond exchange by Dyna-1 on {networks.source.fingerprint.split()[0]}. 0.5 stands for the "
        "prior probability of 5 %; prolines were not in training."
    )
    run = html.Button("Predict exchange", id="exchange", className="main")
    return [html.P(about, className="hint"), html.Div(run, className="row controls"), graph("exchange-plot")]


def _structure() -> list[Any]:
    colours = dcc.RadioItems([], COLOURS[0], id="colour", inline=True)
    viewer = MolstarViewer(id="viewer", className="viewer", style={"width": "100%", "height": "100%"})
    return [
        html.P("Give the protein as a PDB or mmCIF file to see its structure.", id="no-structure", className="hint"),
        html.Div(
            [
                html.Div([html.Span("Colour by"), colours], className="row controls"),
                html.Div(viewer, className="stage"),
                html.P("Hover over a bar to find the residue; click a residue to choose it.", className="hint"),
                graph("colour-plot"),
            ],
            id="structure-area",
            hidden=True,
        ),
    ]


def _trajectory() -> list[Any]:
    def upload(name: str, text: str) -> dcc.Upload:
        return dcc.Upload(html.Span(text, id=f"{name}-name"), id=name, className="drop small")

    return [
        html.P(
            "Compare a simulation (topology and trajectory) or an ensemble (a PDB or mmCIF file with several models) "
            "with the prediction for its sequence.",
            className="hint",
        ),
        html.Div(
            [
                upload("topology", "Topology, or models: PDB, mmCIF, GRO, PSF, PRMTOP"),
                upload("frames", "Trajectory: XTC, TRR, DCD, NetCDF"),
                html.Button("Compare", id="compare", className="main"),
                html.Button("Example: BPTI", id="compare-example"),
            ],
            className="row controls",
        ),
        html.Div(
            [html.Div(graph("compared"), className="wide"), html.Div(graph("compared-map"), className="narrow")],
            className="columns",
            id="comparison-area",
            hidden=True,
        ),
        html.Div(id="comparison-table", className="scroll"),
    ]
