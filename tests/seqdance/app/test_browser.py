"""The page in a real browser: every tab with an input, errors, two users at the same time."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browser import open_tab
from PIL import Image

from data_prepare.properties import PROPERTIES
from model.mutations.score import SCORES
from seqdance.commands.demo import UBIQUITIN

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]
PEPTIDE = "MKTAYIAKQRQISFVKSHFSRQ"
HEAT_MAP = "#mutation-map .heatmaplayer image"


def predict(page, text: str) -> None:
    page.fill("#text", text)
    page.click("#predict")
    page.wait_for_selector("#profiles .main-svg path.js-line")


def colours(page, selector: str) -> int:
    """Number of different colours of an element on the screen: a blank picture has few."""
    picture = Image.open(io.BytesIO(page.locator(selector).screenshot())).convert("RGB")
    return len(picture.quantize(64).getcolors() or [])


def download(page, name: str) -> bytes:
    with page.expect_download() as waiting:
        page.click(f"#downloads a:has-text('{name}')")
    return Path(waiting.value.path()).read_bytes()


def cell(page, position: int, letter: str) -> tuple[float, float]:
    """Place on the screen of a mutant in the heat map."""
    return page.evaluate(
        """([position, letter]) => {
            const plot = document.querySelector("#mutation-map .js-plotly-plot"), {xaxis, yaxis2} = plot._fullLayout;
            const box = plot.getBoundingClientRect();
            return [box.left + xaxis._offset + xaxis.d2p(position), box.top + yaxis2._offset + yaxis2.d2p(letter)];
        }""",
        [position, letter],
    )


def test_dynamics_and_mutations_of_a_pasted_sequence(new_page) -> None:
    page = new_page()
    assert "not for conclusions" in page.inner_text("header")
    predict(page, f">my protein\n{PEPTIDE}\n")
    assert page.inner_text("#title").startswith("my")
    page.wait_for_selector("#map .heatmaplayer image")
    assert colours(page, "#map") > 20
    lines = page.locator("#profiles path.js-line").count()
    page.click("#panels label:has-text('normal modes')")
    page.wait_for_function(f"document.querySelectorAll('#profiles path.js-line').length < {lines}")
    with np.load(io.BytesIO(download(page, "prediction.npz"))) as arrays:
        assert {*PROPERTIES, "name", "sequence", "model", "digest", "chain"} == set(arrays)
        assert arrays["sequence"].item() == PEPTIDE
    table = pd.read_csv(io.BytesIO(download(page, "residues.csv")))
    assert "".join(table["residue"]) == PEPTIDE
    assert table["model"].str.contains("not for conclusions").all()
    address = page.url
    page.goto("about:blank")
    page.goto(address)  # a result has an address
    page.wait_for_selector("#profiles path.js-line")
    assert page.inner_text("#title").startswith("my")

    open_tab(page, "Mutations")
    page.click("#score-all")
    page.wait_for_selector(HEAT_MAP)
    assert colours(page, "#mutation-map") > 20
    page.mouse.click(*cell(page, 3, "W"))
    page.wait_for_selector("#changes .legendtext:has-text('T3W')")
    assert page.locator("#changes .yaxislayer-above .ytick").count() == 23
    page.fill("#mutants", "A4G, K2R:T3V")
    page.click("#score-list")
    page.wait_for_selector("#listed button:has-text('K2R:T3V')")
    page.click("#listed button:has-text('K2R:T3V')")
    page.wait_for_selector("#changes .legendtext:has-text('K2R:T3V')")
    table = pd.read_csv(io.BytesIO(download(page, "mutations.csv")))
    assert len(table) == 19 * len(PEPTIDE) + 1
    assert {"mutant", "damage", *SCORES, *PROPERTIES} <= set(table)


@pytest.mark.long
def test_structure(new_page, examples: Path) -> None:
    page = new_page()
    page.set_input_files("#file input", examples / "structures" / "1hvr_AB.pdb.gz")
    page.wait_for_selector("#profiles path.js-line")
    assert page.inner_text("#title").startswith("1hvr")
    open_tab(page, "Structure")
    page.wait_for_selector("#colour-plot .bars path")
    page.wait_for_function("document.querySelector('#viewer canvas')")
    page.wait_for_timeout(4000)  # the viewer draws
    by_rmsf = page.locator("#viewer canvas").screenshot()
    assert colours(page, "#viewer canvas") > 20
    page.click("#colour label:has-text('SASA')")
    page.wait_for_selector("#colour-plot .ytitle:has-text('SASA')")
    page.wait_for_timeout(4000)
    assert page.locator("#viewer canvas").screenshot() != by_rmsf
    box = page.locator("#viewer canvas").bounding_box()
    in_viewer = ""
    for across in (0.5, 0.47, 0.53, 0.44, 0.56, 0.41, 0.59):  # until a residue is hit
        page.mouse.move(box["x"] + box["width"] * across, box["y"] + box["height"] / 2)
        page.wait_for_timeout(1000)  # the viewer looks what is there
        page.mouse.click(box["x"] + box["width"] * across, box["y"] + box["height"] / 2)
        page.wait_for_timeout(3000)
        if in_viewer := page.inner_text("#chosen"):
            break
    assert "RMSF" in in_viewer
    number = 60 if "11:" in in_viewer else 10
    page.click(f"#colour-plot .bars path >> nth={number}", force=True)
    page.wait_for_function("before => document.querySelector('#chosen').innerText !== before", arg=in_viewer)
    assert "RMSF" in page.inner_text("#chosen")


@pytest.mark.long
def test_exchange(new_page) -> None:
    page = new_page()
    predict(page, PEPTIDE)
    open_tab(page, "Exchange")
    page.click("#exchange")
    page.wait_for_selector("#exchange-plot .bars path")
    assert page.locator("#exchange-plot .bars path").count() == len(PEPTIDE)
    table = pd.read_csv(io.BytesIO(download(page, "exchange.csv")))
    assert table["p_exchange"].between(0, 1).all()


@pytest.mark.long
def test_simulation_beside_the_prediction(new_page, examples: Path) -> None:
    page = new_page()
    predict(page, PEPTIDE)
    open_tab(page, "Trajectory")
    page.set_input_files("#topology input", examples / "trajectories" / "2juy.pdb")
    page.wait_for_selector("#topology:has-text('2juy.pdb')")
    page.set_input_files("#frames input", examples / "trajectories" / "2juy.xtc")
    page.wait_for_selector("#frames:has-text('2juy.xtc')")
    page.click("#compare")
    page.wait_for_selector("#compared path.js-line")
    page.wait_for_selector("#compared-map .heatmaplayer image")
    assert "rmsf" in page.inner_text("#comparison-table")


def test_errors_are_one_line(new_page, tmp_path: Path) -> None:
    page = new_page()

    def refused(*words: str) -> str:
        page.wait_for_selector(f"#error{''.join(f':has-text({word!r})' for word in words)}")
        line = page.text_content("#error")  # with the line breaks of the message
        assert "\n" not in line
        return line

    texts = {"MKTJ": ("residue 4", "'J'"), "": ("no sequence",), UBIQUITIN * 6: ("456 residues", "at most 400")}
    for text, words in texts.items():
        page.fill("#text", text)
        page.click("#predict")
        refused(*words)
    for name, content, word in (("x.pdb", b"HEADER\n", "no atoms"), ("x.exe", b"MZ", "unknown format")):
        path = tmp_path / name
        path.write_bytes(content)
        page.set_input_files("#file input", path)
        line = refused(word)
        assert line.startswith(f"{name}: ")
        assert "/" not in line


def test_two_users(new_page) -> None:
    """Each sees the own protein; the scan of one does not hold up the prediction of the other, and is cancelled."""
    first, second = new_page(), new_page(width=390)
    predict(first, UBIQUITIN * 5)
    open_tab(first, "Mutations")
    first.click("#score-all")
    first.wait_for_function("document.querySelector('#bar').value > 0")
    assert re.search(r"Scoring 7,220 mutants: [\d,]+ done", first.inner_text("#working"))
    predict(second, f">second\n{PEPTIDE}")
    assert first.locator("#progress").is_visible()
    first.click("#cancel")
    first.wait_for_selector("#progress", state="hidden")
    assert first.locator(HEAT_MAP).count() == 0
    assert (first.inner_text("#title").split()[0], second.inner_text("#title").split()[0]) == ("sequence", "second")
    assert first.url != second.url
    wide = "document.documentElement.scrollWidth > window.innerWidth"
    assert not second.evaluate(wide)  # nothing sticks out on a phone
