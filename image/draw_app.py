"""Take the pictures of docs/how-to/app.md from the page in Chromium, with the demonstration network.

seqdance dyna1 train ... --output runs/dyna1_small      as in docs/how-to/dyna1.md
python image/draw_app.py --dyna1 runs/dyna1_small/best [--output docs/images]
"""

from __future__ import annotations

import gzip
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import tyro
from PIL import Image
from playwright.sync_api import Page

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "oracles"))
from browser import chromium, chromium_path, open_tab, served  # noqa: E402

UBIQUITIN: Final = ROOT / "data_prepare" / "examples" / "structures" / "1ubi_A.pdb.gz"
TRAJECTORIES: Final = ROOT / "data_prepare" / "examples" / "trajectories"
PATIENCE: Final = 300_000  # ms
COLOURS: Final = 255  # of a picture: half the bytes


@dataclass(frozen=True)
class Pictures:
    """Where the weights are, and where the pictures go."""

    dyna1: Path
    """Weights of the tab Exchange."""
    output: Path = ROOT / "docs" / "images"
    """Folder of app_dynamics.png and the others."""


def draw(options: Pictures) -> None:
    """Every tab, with ubiquitin."""
    with served(options.dyna1) as address, chromium(chromium_path()) as browser, TemporaryDirectory() as folder:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(PATIENCE)
        page.goto(address)
        structure = Path(folder) / "ubiquitin_1ubi.pdb"
        structure.write_bytes(gzip.decompress(UBIQUITIN.read_bytes()))
        page.wait_for_selector("#predict")
        page.set_input_files("#file input", structure)
        page.wait_for_selector("#profiles path.js-line")
        page.wait_for_selector("#map .heatmaplayer image")
        page.click("#map-name")
        page.click("text=co-movement")
        page.wait_for_timeout(2000)
        take(page, options.output, "dynamics")
        open_tab(page, "Mutations")
        page.click("#score-all")
        page.wait_for_selector("#mutation-map .heatmaplayer image")
        page.mouse.click(*place_in(page, "#mutation-map .heatmaplayer image", 0.572))  # isoleucine 44
        page.wait_for_selector("#changes .yaxislayer-above .ytick")
        take(page, options.output, "mutations")
        open_tab(page, "Exchange")
        page.click("#exchange")
        page.wait_for_selector("#exchange-plot .bars path")
        take(page, options.output, "exchange")
        open_tab(page, "Structure")
        page.wait_for_selector("#colour-plot .bars path")
        page.wait_for_selector("#viewer canvas")
        take(page, options.output, "structure", 8000)
        page.set_input_files("#file input", TRAJECTORIES / "5pti.pdb")
        page.wait_for_selector("#title:has-text('5pti')")
        open_tab(page, "Trajectory")
        page.click("#compare-example")
        page.wait_for_selector("#compared path.js-line")
        page.wait_for_selector("#compared-map .heatmaplayer image")
        take(page, options.output, "trajectory")


def place_in(page: Page, selector: str, across: float) -> tuple[float, float]:
    """Place on the screen in the middle row of an element."""
    box: Any = page.locator(selector).bounding_box()
    return box["x"] + across * box["width"], box["y"] + box["height"] / 2


def take(page: Page, folder: Path, name: str, milliseconds: int = 2000) -> None:
    """A picture of the whole page, after what it draws is there."""
    page.wait_for_timeout(milliseconds)
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    picture.quantize(COLOURS).save(folder / f"app_{name}.png", optimize=True)
    print(folder / f"app_{name}.png")


if __name__ == "__main__":
    draw(tyro.cli(Pictures))
