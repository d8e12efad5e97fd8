"""Take the pictures of docs/how-to/app.md from the page in Chromium, with the demonstration network.

seqdance dyna1 train ... --output runs/dyna1_small      as in docs/how-to/dyna1.md
python image/draw_app.py --dyna1 runs/dyna1_small/best [--output docs/images]
"""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import tyro
from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT: Final = Path(__file__).resolve().parents[1]
UBIQUITIN: Final = ROOT / "data_prepare" / "examples" / "structures" / "1ubi_A.pdb.gz"
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS: Final = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # WebGL in software
PATIENCE: Final = 300_000  # ms
COLOURS: Final = 255  # of a picture: half the bytes


@dataclass(frozen=True)
class Pictures:
    """Where the weights are, and where the pictures go."""

    dyna1: Path
    """Weights of the tab Exchange."""
    output: Path = ROOT / "docs" / "images"
    """Folder of app_dynamics.png and the others."""


@contextmanager
def served(dyna1: Path) -> Iterator[str]:
    """Address of a page of its own."""
    words = [sys.executable, "-m", "seqdance.cli", "app", "--port", "0", "--device", "cpu", "--dyna1", str(dyna1)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield str(process.stdout.readline().split()[3]) if process.stdout else ""
        finally:
            process.terminate()


def draw(options: Pictures) -> None:
    """Every tab, with ubiquitin."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    with served(options.dyna1) as address, sync_playwright() as started, TemporaryDirectory() as folder:
        browser = started.chromium.launch(executable_path=path, headless=True, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(PATIENCE)
        page.goto(address)
        structure = Path(folder) / "ubiquitin_1ubi.pdb"
        structure.write_bytes(gzip.decompress(UBIQUITIN.read_bytes()))
        page.wait_for_selector("#predict")
        page.set_input_files("#file input", structure)
        page.wait_for_selector("#profiles path.js-line")
        page.wait_for_selector("#map .heatmaplayer image")
        take(page, options.output, "dynamics")
        open_tab(page, "Mutations")
        page.click("#score-all")
        page.wait_for_selector("#mutation-map .heatmaplayer image")
        page.mouse.click(*middle_of(page, "#mutation-map .heatmaplayer image"))
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
        open_tab(page, "Trajectory")
        page.click("#compare-example")
        page.wait_for_selector("#compared path.js-line")
        page.wait_for_selector("#compared-map .heatmaplayer image")
        take(page, options.output, "trajectory")
        browser.close()


def open_tab(page: Page, name: str) -> None:
    """Show a tab."""
    page.click(f".label:has-text('{name}')")


def middle_of(page: Page, selector: str) -> tuple[float, float]:
    """Place of an element on the screen."""
    box: Any = page.locator(selector).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def take(page: Page, folder: Path, name: str, milliseconds: int = 2000) -> None:
    """A picture of the whole page, after what it draws is there."""
    page.wait_for_timeout(milliseconds)
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    picture.quantize(COLOURS).save(folder / f"app_{name}.png", optimize=True)
    print(folder / f"app_{name}.png")


if __name__ == "__main__":
    draw(tyro.cli(Pictures))
