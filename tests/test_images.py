"""The figures of the README: the scripts draw all of them, legible, and those in the folder are their own."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.patches import FancyBboxPatch
from PIL import Image

IMAGE = Path(__file__).resolve().parents[1] / "image"
LARGEST = 250_000  # bytes


@pytest.fixture(scope="module")
def drawing(load_script):
    return load_script("image/draw.py")


def check_against_the_folder(paths: list[Path]) -> None:
    for path in paths:
        new, held = (np.asarray(Image.open(file).convert("RGB"), float) for file in (path, IMAGE / path.name))
        assert new.shape == held.shape, f"{path.name} is not up to date: make images"
        # another release of matplotlib moves edges by a pixel
        assert np.abs(new - held).mean() < 3, f"{path.name} is not up to date: make images"


@pytest.mark.slow
def test_figures_are_up_to_date(drawing, tmp_path: Path) -> None:
    paths = drawing.draw(drawing.DrawConfig(tmp_path / "new"))
    assert paths == [tmp_path / "new" / f"{name}.png" for name in ("system", "zero_shot", "dyna1")]
    check_against_the_folder(paths)
    for path in paths:
        assert 10_000 < path.stat().st_size < LARGEST
        assert (IMAGE / path.name).stat().st_size < LARGEST


@pytest.mark.long
def test_results_are_up_to_date(load_script, tmp_path: Path) -> None:
    script = load_script("image/draw_results.py")
    paths = script.draw(script.ResultsConfig(output=tmp_path))
    names = ("ubiquitin_mutations", "5pti_dynamics", "5pti_comparison")
    assert paths == [tmp_path / f"{name}.png" for name in names]
    check_against_the_folder(paths)


@pytest.mark.parametrize("name", ["system", "zero_shot", "dyna1"])
def test_texts_are_large_apart_and_inside(drawing, name: str) -> None:
    """All texts are on the page, and those of a box inside it."""
    figure = drawing.FIGURES[name]()
    figure.canvas.draw()
    page = figure.axes[0]
    texts = {text: text.get_window_extent() for text in page.texts if text.get_text().strip()}
    frames = [patch.get_window_extent() for patch in page.patches if isinstance(patch, FancyBboxPatch)]
    assert len(texts) > 10
    assert all(text.get_fontsize() >= 8.5 for text in texts)
    for first, second in combinations(texts, 2):
        assert not texts[first].overlaps(texts[second]), (first, second)
    for text, box in texts.items():
        middle = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
        for frame in [figure.bbox, *(frame for frame in frames if frame.contains(*middle))]:
            assert frame.x0 < box.x0 < box.x1 < frame.x1, text
            assert frame.y0 < box.y0 < box.y1 < frame.y1, text
