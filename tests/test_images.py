"""The figures of the README: the script draws all of them, legible, and those in the folder are its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

IMAGE = Path(__file__).resolve().parents[1] / "image"
NAMES = ("system", "zero_shot", "dyna1")
LARGEST = 250_000  # bytes


@pytest.fixture(scope="module")
def drawing():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("image_draw", IMAGE / "draw.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), float)


def test_script_draws_all_figures(tmp_path: Path) -> None:
    command = [sys.executable, str(IMAGE / "draw.py"), "--output", str(tmp_path / "new")]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    paths = [tmp_path / "new" / f"{name}.png" for name in NAMES]
    assert found.stdout.split() == list(map(str, paths))
    for path in paths:
        assert 10_000 < path.stat().st_size < LARGEST
        assert (IMAGE / path.name).stat().st_size < LARGEST
        new, held = pixels(path), pixels(IMAGE / path.name)
        assert new.shape == held.shape, f"{path.name} is not up to date: make images"
        # another release of matplotlib moves edges by a pixel
        assert np.abs(new - held).mean() < 3, f"{path.name} is not up to date: make images"


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_on_the_page_large_and_apart(drawing, name: str) -> None:
    figure = drawing.FIGURES[name]()
    figure.canvas.draw()
    texts = [text for text in figure.axes[0].texts if text.get_text().strip()]
    assert len(texts) > 10
    boxes = {text: text.get_window_extent() for text in texts}
    for text, box in boxes.items():
        assert text.get_fontsize() >= 8.5, text
        assert box.x0 > 0, text
        assert box.y0 > 0, text
        assert box.x1 < figure.bbox.width, text
        assert box.y1 < figure.bbox.height, text
    for first, second in combinations(texts, 2):
        assert not boxes[first].overlaps(boxes[second]), (first, second)


@pytest.mark.parametrize("name", NAMES)
def test_texts_of_boxes_are_inside(drawing, name: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    figure = drawing.FIGURES[name]()
    figure.canvas.draw()
    page = figure.axes[0]
    shapes = [patch.get_window_extent() for patch in page.patches if isinstance(patch, FancyBboxPatch)]
    assert shapes
    inside = 0
    for text in page.texts:
        box = text.get_window_extent()
        middle = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
        for shape in shapes:
            if shape.contains(*middle):
                inside += 1
                assert box.x0 > shape.x0, text
                assert box.x1 < shape.x1, text
                assert box.y0 > shape.y0, text
                assert box.y1 < shape.y1, text
    assert inside >= len(shapes)


@pytest.mark.slow
def test_script_draws_results(tmp_path: Path) -> None:
    command = [sys.executable, str(IMAGE / "draw_results.py"), "--output", str(tmp_path)]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    paths = [tmp_path / f"ubiquitin_{name}.png" for name in ("mutations", "prediction")]
    assert found.stdout.split() == list(map(str, paths))
    for path in paths:
        new, held = pixels(path), pixels(IMAGE / path.name)
        assert new.shape == held.shape, f"{path.name} is not up to date: make images"
        assert np.abs(new - held).mean() < 3, f"{path.name} is not up to date: make images"
