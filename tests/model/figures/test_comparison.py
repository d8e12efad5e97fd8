"""The figure of a comparison shows the numbers of both sides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stores import real_entry, write_store

from model.evaluation.compare import Comparison, compare_measurements, pair_values
from model.evaluation.measurement import of_entry
from model.figures.comparison import draw_comparison
from model.figures.prediction import pair_maps


@pytest.fixture(params=["md", "nma"])
def comparison(tmp_path: Path, request) -> Comparison:
    """Two entries of 30 residues; the first has two parts."""
    path = write_store(
        tmp_path / "f.h5", **{name: real_entry(30, request.param, seed) for seed, name in enumerate("abc")}
    )
    a, b, c = (replace(of_entry(path, name), sequences=("A" * 30,)) for name in "abc")
    return compare_measurements(replace(a, parts=(b.properties, c.properties)), b)


def test_profiles_bands_and_triangles(comparison: Comparison) -> None:
    figure = draw_comparison(comparison)
    sides = (comparison.first, comparison.second)
    md = "rmsf" in comparison.first.properties
    profile, title = ("rmsf", "RMSF (nm)") if md else ("nma_res1", "GNM, low freq.")
    axes = next(axes for axes in figure.axes if axes.get_ylabel() == title)
    for line, side in zip(axes.lines, sides, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), side.properties[profile])
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == max(part[profile].max() for part in comparison.first.parts)
    pearson = comparison.table.set_index("property").loc[profile, "pearson"]
    assert f"Pearson {pearson:.2f} (A " in axes.get_title(loc="right")
    for name, heading in (
        (("contacts", "contacts"), ("corr", "co-movement")) if md else (("nma_pair2", "normal modes, middle"),)
    ):
        drawn = next(axes for axes in figure.axes if axes.get_title().startswith(heading)).images[0]
        alone = next(own for own in pair_maps(sides[0].properties, sides[0].chain) if own.title.startswith(heading))
        assert (drawn.cmap.name, type(drawn.norm)) == (alone.colours, type(alone.scale))  # as in the picture of one
        image = drawn.get_array()
        above, below = np.triu_indices(30, 3), np.tril_indices(30, -3)  # nearer pairs are blank in maps of contacts
        for where, side in zip((above, below), sides, strict=True):
            np.testing.assert_allclose(image[where], pair_values(side.properties, name)[where])


@pytest.mark.parametrize("separation", [3, 6])
def test_maps_hide_the_pairs_that_the_numbers_leave_out(comparison: Comparison, separation: int) -> None:
    """Contacts across unresolved residues count by their distance in the sequence."""
    rows = np.r_[0:10, 20:30]
    sides = (replace(side.select(rows), missing=()) for side in (comparison.first, comparison.second))
    figure = draw_comparison(compare_measurements(*sides, separation))
    images = [axes.images[0] for axes in figure.axes if axes.get_title().startswith("contacts")]
    for image in images:
        hidden = np.ma.getmaskarray(image.get_array())
        np.testing.assert_array_equal(hidden, np.abs(np.subtract.outer(rows, rows)) < separation)
    assert len(images) == ("vdw" in comparison.first.properties)


def test_panels_of_missing_properties_are_left_out(comparison: Comparison) -> None:
    kept = comparison.table[comparison.table["property"].isin(["corr", "nma_res2"])]
    figure = draw_comparison(replace(comparison, table=kept))
    drawn = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    assert len(drawn) == 1


@pytest.mark.parametrize(
    "form", ["folder {}/xxxxxxxxxxxxxxxxxxxxxxxxx/run.xtc", "xxxxxxxxxxxxxx/folder {}/simulation/run.xtc"]
)
def test_long_names_keep_their_ends_and_differ(comparison: Comparison, form: str) -> None:
    first, second = (replace(comparison.first, name=form.format(k)) for k in "12")
    figure = draw_comparison(replace(comparison, first=first, second=second))
    labels = [text.get_text() for text in figure.legends[0].get_texts()][:2]
    assert all(f"folder {k}" in label for k, label in zip("12", labels, strict=True))
    assert all(label.endswith("run.xtc") and len(label) < 40 for label in labels)


def test_maps_stand_apart(comparison: Comparison) -> None:
    figure = draw_comparison(comparison)
    figure.draw_without_rendering()
    upper, *_, lower = [axes for axes in figure.axes if axes.get_ylabel() == "residue"]
    gap = upper.xaxis.label.get_window_extent().y0 - lower.title.get_window_extent().y1
    assert gap / figure.dpi > 0.15  # inches
