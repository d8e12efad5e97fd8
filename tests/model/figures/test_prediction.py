from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from refusals import refused

from data_prepare.properties import INTERACTIONS, PAIR_PROPERTIES, RESIDUE_COLUMNS, RESIDUE_PROPERTIES
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
    contacts = panel(figure, "contacts per frame").images[0].get_array()
    np.testing.assert_allclose(contacts, sum(values[name].astype(float) ** 3 for name in INTERACTIONS), rtol=1e-5)
    modes = panel(figure, "normal modes, high frequencies").images[0]
    np.testing.assert_array_equal(modes.get_array(), values["nma_pair3"])
    co_movement = panel(figure, "co-movement (correlation)")
    np.testing.assert_array_equal(co_movement.images[0].get_array(), values["corr"])
    assert co_movement.images[0].get_clim() == (-1, 1)
    np.testing.assert_array_equal([line.get_xdata()[0] for line in co_movement.lines[:1]], [4.5])  # the second chain


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


@pytest.mark.filterwarnings("error")
def test_figure_is_written_whole_or_not_at_all(prediction: Prediction, tmp_path: Path) -> None:
    figure = draw_prediction(only(prediction, "rmsf_nor", "corr"))
    save_figure(figure, tmp_path / "a" / "p.png")
    assert matplotlib.image.imread(tmp_path / "a" / "p.png").ndim == 3
    refused(lambda: save_figure(figure, tmp_path / "p.xyz"), "p.xyz")
    assert [file.name for file in tmp_path.rglob("*.*")] == ["p.png"]
