"""The mutation map and the figure of a benchmark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from refusals import refused

from model.figures.mutations import draw_benchmark, draw_mutation_map, mutation_grid
from model.figures.save import save_figure
from model.mutations.score import PUBLISHED_SCORE
from model.mutations.substitution import WildType, all_single_mutants


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
    assert np.argwhere(np.isfinite(mutation_grid(shifted, WildType("MKT", 10))[0])).tolist() == [[18, 1]]
    refused(lambda: mutation_grid(table, "MTK"), "K2A")
    refused(lambda: mutation_grid(table, "MKT", "other"), "other", PUBLISHED_SCORE)


@pytest.mark.parametrize("length", [1, 90])
def test_heat_map(tmp_path: Path, length: int) -> None:
    sequence = ("MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSG" * 4)[:length]
    save_figure(draw_mutation_map(table_of(sequence), sequence), tmp_path / "map.png")
    image = imread(tmp_path / "map.png")
    assert min(image.shape[:2]) > 300
    assert len(np.unique(image[..., 1])) > (10 if length == 1 else 100)  # many colours


def test_colours_around_the_median_and_means_of_positions() -> None:
    sequence = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSG" * 2
    table = table_of(sequence)
    scores = table[PUBLISHED_SCORE] = np.random.default_rng(0).gamma(2.0, 1.0, len(table))
    figure = draw_mutation_map(table, sequence, note="the network", name="the protein")
    texts = [text.get_text() for text in figure.texts]
    assert "the protein" in texts[0]
    assert "the network" in texts[1]
    assert PUBLISHED_SCORE in texts[2]
    maps = [axes for axes in figure.axes if axes.get_ylabel() == "mutant residue"]
    grid = np.hstack([axes.images[0].get_array().filled(np.nan) for axes in maps])
    np.testing.assert_array_equal(grid, mutation_grid(table, sequence)[0])
    for axes in maps:
        red, _, blue, _ = axes.images[0].cmap(axes.images[0].norm([np.median(scores), scores.max(), scores.min()])).T
        assert red[0] == pytest.approx(blue[0], abs=0.02)  # white
        assert red[1] > blue[1] + 0.2
        assert red[2] < blue[2] - 0.2
    tops = [
        bar.get_y() + bar.get_height() for axes in figure.axes if axes.get_ylabel() == "mean" for bar in axes.patches
    ]
    np.testing.assert_allclose(tops, np.nanmean(grid, axis=0))
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert words == ["more damage", "less damage"]


def test_scores_that_are_equal_or_absent() -> None:
    table = table_of("MKT")
    table[PUBLISHED_SCORE] = 0.3
    image = draw_mutation_map(table, "MKT").axes[1].images[0]
    assert image.norm(0.3) == 0.5
    assert np.isnan(draw_mutation_map(table[:0], "MKT").axes[1].images[0].get_array().filled(np.nan)).all()


def summary_of(medians: dict[str, float | None]) -> dict:
    return {"min_mutants": 10, "scores": {name: {"median": {"value": value}} for name, value in medians.items()}}


def test_benchmark() -> None:
    """A dot for each protein with enough mutants, the median beside it."""
    per_protein = pd.DataFrame(
        {"mutants": [40, 5, 60, 12], "good": [0.1, 0.9, 0.4, 0.6], "bad": [-0.2, 0, 0.1, np.nan], "nothing": np.nan}
    )
    summary = summary_of({"good": 0.4, "bad": -0.05, "nothing": None})
    (axes,) = draw_benchmark(pd.DataFrame(), per_protein, summary, ["bad"]).axes
    good, bad, nothing = axes.collections
    assert sorted(good.get_offsets()[:, 0]) == [0.1, 0.4, 0.6]
    assert (len(bad.get_offsets()), len(nothing.get_offsets())) == (2, 0)
    assert {text.get_text() for text in axes.texts} == {"0.40", "-0.05", "-", "median"}
    assert "3 proteins" in axes.get_xlabel()


def test_benchmark_of_one_protein() -> None:
    """Each score against the measurement, with its correlation."""
    table = pd.DataFrame({"protein": "p", "mutant": list("abcd"), "loss": [0.1, 0.4, 0.2, 0.9]})
    table = table.assign(good=[1.0, 3.0, 2.0, 4.0], bad=0.0, third=1.0, fourth=2.0)
    per_protein = pd.DataFrame(
        {"protein": ["p"], "residues": 9, "mutants": 4, "good": 1.0, "bad": np.nan, "third": np.nan, "fourth": np.nan}
    )
    figure = draw_benchmark(table, per_protein, summary_of(dict.fromkeys(table.columns[3:])), ["bad"])
    good, bad, *others = figure.axes
    assert [axes.axison for axes in others] == [True, True, False, False]  # two rows of three
    assert good.collections[0].get_offsets().tolist() == table[["loss", "good"]].to_numpy().tolist()
    assert "Spearman's correlation 1.00" in good.get_title()
    assert "no correlation" in bad.get_title()
    assert figure.get_suptitle().startswith("p: ")
    assert not np.array_equal(good.collections[0].get_facecolor(), bad.collections[0].get_facecolor())
