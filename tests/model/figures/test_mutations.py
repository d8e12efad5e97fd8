"""The mutation map and the figure of a benchmark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from refusals import refused

from model.figures.mutations import draw_benchmark, mutation_grid, plot_mutation_map
from model.mutations.score import PUBLISHED_SCORE
from model.mutations.substitution import all_single_mutants


def table_of(sequence: str, more: tuple[str, ...] = ()) -> pd.DataFrame:
    labels = [*all_single_mutants(sequence), *more]
    return pd.DataFrame({"mutant": labels, PUBLISHED_SCORE: np.linspace(0, 1, len(labels))})


def test_grid() -> None:
    table = table_of("MKT", ("wt", "M1A:K2A", "T3X"))
    grid, letters = mutation_grid(table, "MKT")
    assert letters == ["M", "K", "T"]
    assert grid.shape == (20, 3)
    assert np.isnan(grid).sum() == 3  # the wild type
    assert grid["ACDEFGHIKLMNPQRSTVWY".index("W"), 1] == table.set_index("mutant")[PUBLISHED_SCORE]["K2W"]
    shifted = pd.DataFrame({"mutant": ["K12W"], PUBLISHED_SCORE: [0.5]})
    assert np.argwhere(np.isfinite(mutation_grid(shifted, "MKT", offset=10)[0])).tolist() == [[18, 1]]
    refused(lambda: mutation_grid(table, "MTK"), "K2A")
    refused(lambda: mutation_grid(table, "MKT", "other"), "other", PUBLISHED_SCORE)


@pytest.mark.parametrize("length", [1, 90])
def test_heat_map(tmp_path: Path, length: int) -> None:
    sequence = ("MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSG" * 4)[:length]
    plot_mutation_map(table_of(sequence), sequence, tmp_path / "map.png")
    image = imread(tmp_path / "map.png")
    assert min(image.shape[:2]) > 300
    assert len(np.unique(image[..., 1])) > (10 if length == 1 else 100)  # many colours


def test_benchmark() -> None:
    """A dot for each protein with enough mutants, the median beside it."""
    per_protein = pd.DataFrame(
        {"mutants": [40, 5, 60, 12], "good": [0.1, 0.9, 0.4, 0.6], "bad": [-0.2, 0, 0.1, np.nan], "nothing": np.nan}
    )
    medians = {"good": 0.4, "bad": -0.05, "nothing": None}
    summary = {"min_mutants": 10, "scores": {name: {"median": {"value": value}} for name, value in medians.items()}}
    figure = draw_benchmark(per_protein, summary, ["bad"])
    (axes,) = figure.axes
    good, bad, nothing = axes.collections
    assert sorted(good.get_offsets()[:, 0]) == [0.1, 0.4, 0.6]
    assert (len(bad.get_offsets()), len(nothing.get_offsets())) == (2, 0)
    assert {text.get_text() for text in axes.texts} == {"0.40", "-0.05", "-", "median"}
    assert "3 proteins" in axes.get_xlabel()
