from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from string import ascii_uppercase

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_hex
from refusals import refused

from data_prepare.properties import (
    DSSP_STATES,
    INTERACTIONS,
    PAIR_PROPERTIES,
    RESIDUE_COLUMNS,
    RESIDUE_PROPERTIES,
)
from model.figures.prediction import draw_prediction
from model.figures.save import save_figure
from model.inference.prediction_files import Prediction


@pytest.fixture
def prediction() -> Prediction:
    """Two chains of 4 and 3 residues."""
    random = np.random.default_rng(0)
    properties = {}
    for name, (_, width) in RESIDUE_COLUMNS.items():
        properties[name] = random.random((7, width) if width > 1 else 7).astype(np.float32)
    properties["ss"] /= properties["ss"].sum(1, keepdims=True)
    for name in PAIR_PROPERTIES:
        properties[name] = random.random((7, 7)).astype(np.float32)
    return Prediction("p", "MKVL<eos><cls>GAS", "f00", np.repeat([0, 1], [4, 3]).astype(np.int32), properties)


def only(prediction: Prediction, *names: str) -> Prediction:
    return replace(prediction, properties={name: prediction.properties[name] for name in names})


def panel(figure, title: str):
    """Axes by their title or the label of their y axis."""
    return next(axes for axes in figure.axes if title in (axes.get_title(), axes.get_ylabel()))


def test_every_panel_shows_its_numbers(prediction: Prediction) -> None:
    figure = draw_prediction(prediction)
    values = prediction.properties
    x, y = panel(figure, "RMSF / max").lines[0].get_data()
    np.testing.assert_array_equal(x, range(1, 8))
    np.testing.assert_array_equal(y, values["rmsf_nor"])
    sasa = panel(figure, "SASA (nm²)")
    np.testing.assert_array_equal(sasa.lines[0].get_ydata(), values["sasa_mean"])
    band = sasa.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx((values["sasa_mean"] + values["sasa_std"]).max())
    assert band[:, 1].min() >= 0

    phi = panel(figure, "φ (degrees)").images[0]
    np.testing.assert_array_equal(phi.get_array(), values["phi"].T)  # bin 0 begins at -180, at the bottom
    assert phi.get_extent() == [0.5, 7.5, -180, 180]
    assert phi.origin == "lower"
    modes = panel(figure, "normal modes, high frequencies").images[0]
    np.testing.assert_array_equal(modes.get_array(), values["nma_pair3"])
    co_movement = panel(figure, "co-movement (correlation)")
    np.testing.assert_array_equal(co_movement.images[0].get_array(), values["corr"])
    np.testing.assert_array_equal([line.get_xdata()[0] for line in co_movement.lines[:1]], [4.5])  # the second chain
    texts = [text.get_text() for text in figure.texts]
    assert texts[0].startswith("p (7 residues)")
    assert prediction.model in texts[1]


def test_contacts_of_neighbours_are_left_out(prediction: Prediction) -> None:
    """In a chain; the colours are those of the cube roots, which the network predicts."""
    image = panel(draw_prediction(prediction), "contacts per frame").images[0]
    contacts = sum(prediction.properties[name].astype(float) ** 3 for name in INTERACTIONS)
    far = np.abs(np.subtract.outer(np.arange(7), np.arange(7))) >= 3
    far[:4, 4:] = far[4:, :4] = True  # the other chain
    np.testing.assert_array_equal(np.ma.getmaskarray(image.get_array()), ~far)
    np.testing.assert_allclose(image.get_array()[far], contacts[far], rtol=1e-5)
    assert image.get_clim() == (0, pytest.approx(contacts[far].max()))
    assert image.norm(contacts[far].max() / 8) == pytest.approx(0.5)
    few = {name: prediction.properties[name] / 10 for name in INTERACTIONS}
    weak = panel(draw_prediction(replace(prediction, properties=few)), "contacts per frame").images[0]
    assert weak.get_clim() == (0, 1)  # noise does not look like a contact


@pytest.mark.parametrize(("strength", "limit"), [(1.0, 0.8), (0.1, 0.2)])
def test_colours_of_correlations_are_not_those_of_neighbours(prediction: Prediction, strength, limit) -> None:
    corr = np.eye(7, dtype=np.float32)
    corr[0, 6] = corr[6, 0] = corr[1, 5] = -0.71 * strength
    image = panel(draw_prediction(replace(prediction, properties={"corr": corr})), "co-movement (correlation)").images[
        0
    ]
    assert image.get_clim() == pytest.approx((-limit, limit))


@pytest.mark.parametrize(("residues", "width", "rows"), [(7, 7, 3), (300, 12.9, 2), (2000, 24, 2)])
def test_profiles_grow_with_the_protein(residues: int, width: float, rows: int) -> None:
    """Within limits, as does the page; long proteins have their maps below the profiles. Nothing overlaps."""
    properties = {
        name: np.zeros((residues, columns) if columns > 1 else residues, np.float32)
        for name, (_, columns) in RESIDUE_COLUMNS.items()
    }
    properties |= dict.fromkeys(PAIR_PROPERTIES, np.zeros((residues, residues), np.float32))
    figure = draw_prediction(Prediction("p", "A" * residues, "f00", np.zeros(residues, np.int32), properties))
    inches = {axes: axes.get_window_extent().transformed(figure.dpi_scale_trans.inverted()) for axes in figure.axes}
    profile = panel(figure, "RMSF / max")
    assert inches[profile].width == pytest.approx(width)
    maps = [axes for axes in figure.axes if axes.get_title()]
    assert len({round(inches[axes].y0, 3) for axes in maps}) == rows
    assert all(inches[axes].width == pytest.approx(inches[axes].height) for axes in maps)
    for first, second in combinations([axes for axes in figure.axes if axes not in profile.child_axes], 2):
        assert not inches[first].overlaps(inches[second])
    page = figure.get_size_inches()
    assert all(0 < box.x0 < box.x1 < page[0] and 0 < box.y0 < box.y1 < page[1] for box in inches.values())


@pytest.mark.parametrize(
    ("numbers", "fewest"),
    [
        ([str(k) for _ in range(8) for k in range(1, 10)], 8),  # peptides
        ([f"10{letter}" for letter in ascii_uppercase], 7),
        ([str(k) for k in range(-60, 1)], 5),
        ([str(k) for k in range(1000001, 1000101)], 2),
        ([str(k) for k in (*range(1, 152), *range(100, 300))], 4),  # a second chain starts beside a tick of the first
        (["7", "7A"], 2),
        (["7"], 1),
        ([], 4),
    ],
)
def test_residue_numbers_are_their_own_and_apart(numbers: list[str], fewest: int) -> None:
    n = len(numbers) or 30
    properties = {"rmsf_nor": np.ones(n, np.float32), "corr": np.ones((n, n), np.float32)}
    prediction = Prediction("p", "A" * n, "f00", np.zeros(n, np.int32), properties)
    figure = draw_prediction(prediction, numbers)
    figure.draw_without_rendering()
    profile = panel(figure, "RMSF / max")
    for axes in (profile, panel(figure, "co-movement (correlation)")):
        labels = axes.get_xticklabels()
        positions = [int(label.get_position()[0]) for label in labels]
        of = numbers or [str(k + 1) for k in range(n)]
        assert [label.get_text() for label in labels] == [of[position - 1] for position in positions]
        boxes = [label.get_window_extent() for label in labels]
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
        assert len(labels) >= (fewest if axes is profile else min(fewest, 2))
    assert (profile.lines[0].get_marker() == "o") == (n == 1)  # a line would show nothing


def test_secondary_structure_as_a_track(prediction: Prediction) -> None:
    """Helix, strand or coil: the states of a class count together; a residue without fractions is blank."""
    states = np.zeros((7, 8), np.float32)
    for residue, letters in enumerate(["HHGE", "GTTT", "EBTT", "EEET", "    ", "IIST"]):
        for letter in letters:
            states[residue, DSSP_STATES.index(letter)] += 0.25
    states[6] = np.nan
    figure = draw_prediction(replace(prediction, properties={"ss": states}))
    image = panel(figure, "DSSP").images[0]
    np.testing.assert_array_equal(image.get_array().filled(np.nan)[0], [0, 2, 1, 1, 2, 0, np.nan])
    assert image.get_extent()[:2] == [0.5, 7.5]
    names = {text.get_text(): to_hex(text.get_color()) for text in panel(figure, "DSSP").texts}
    assert names == {name: to_hex(image.cmap(k)) for k, name in enumerate(("helix", "strand", "coil"))}


def test_shares_of_states_are_stacked(prediction: Prediction) -> None:
    """The top of the first area is the share of the alpha helix (column 2), flat over the width of a residue."""
    axes = panel(draw_prediction(prediction), "DSSP fraction")
    helix = prediction.properties["ss"][:, 2]
    area = axes.collections[0].get_paths()[0].vertices
    for residue, share in enumerate(helix, start=1):
        top = area[np.isclose(area[:, 0], residue - 0.5), 1]
        assert np.isclose(top, share, atol=1e-6).any()
    assert [text.get_text() for text in axes.get_legend().get_texts()][:2] == ["alpha helix", "3-10 helix"]
    assert max(path.vertices[:, 1].max() for path in axes.collections[-1].get_paths()) == pytest.approx(1)


def test_panels_of_properties_that_are_not_there_are_left_out(prediction: Prediction) -> None:
    titles = [axes.get_title() for axes in draw_prediction(only(prediction, "corr", "vdw")).axes]
    assert [title for title in titles if title] == ["contacts per frame: vdw", "co-movement (correlation)"]
    residue = draw_prediction(only(prediction, *RESIDUE_PROPERTIES))
    assert not [axes for axes in residue.axes if axes.get_title()]
    assert len(draw_prediction(only(prediction, "nma_res2")).axes) == 1
    refused(lambda: draw_prediction(only(prediction, "sasa_std")), "p", "more properties")


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_suffix_selects_the_format(prediction: Prediction, tmp_path: Path, suffix: str, start: bytes) -> None:
    path = tmp_path / f"p.{suffix}"
    save_figure(draw_prediction(only(prediction, "rmsf_nor", "ss")), path)
    content = path.read_bytes()
    assert content.startswith(start)
    assert suffix != "svg" or b">RMSF / max<" in content  # letters, which a program for drawings can change


@pytest.mark.filterwarnings("error")
def test_figure_is_written_whole_or_not_at_all(prediction: Prediction, tmp_path: Path) -> None:
    figure = draw_prediction(only(prediction, "rmsf_nor", "corr"))
    save_figure(figure, tmp_path / "a" / "p.png")
    assert matplotlib.image.imread(tmp_path / "a" / "p.png").ndim == 3
    refused(lambda: save_figure(figure, tmp_path / "p.xyz"), "p.xyz")
    assert [file.name for file in tmp_path.rglob("*.*")] == ["p.png"]
