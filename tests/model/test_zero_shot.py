from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from data_prepare.errors import InputError
from data_prepare.properties import PROPERTIES
from model.config import ModelConfig
from model.dance import DanceModel
from model.tokenizer import tokenize
from model.zero_shot import (
    PUBLISHED_SCORE,
    SCORES,
    all_single_mutants,
    apply_mutation,
    combine_scores,
    mutation_grid,
    plot_mutation_map,
    property_changes,
    quantile_normalise,
    score_mutations,
    write_mutation_table,
)

DATA = Path(__file__).resolve().parents[1] / "data" / "model"
WILD_TYPE = "MKTAYIAKQRQI"


@pytest.fixture(scope="module")
def model() -> DanceModel:
    network = DanceModel(ModelConfig(hidden=32, layers=2, heads=4, feed_forward=64))
    network.load_state_dict(load_file(DATA / "tiny_weights.safetensors"))
    return network.eval()


def test_golden_scores() -> None:
    golden = np.load(DATA / "zero_shot_scores.npz")
    assert tuple(golden["features"]) == PROPERTIES
    np.testing.assert_allclose(quantile_normalise(golden["changes"]), golden["normalized"], rtol=0, atol=1e-9)
    scores = combine_scores(golden["changes"])
    assert {f"score.{name}" for name in scores} == {name for name in golden.files if name.startswith("score.")}
    for name in SCORES:
        np.testing.assert_allclose(scores[name], golden[f"score.{name}"], rtol=0, atol=1e-9, err_msg=name)


def test_scores_of_unchanged_properties_are_finite() -> None:
    scores = combine_scores(np.vstack([np.zeros(23), np.arange(23.0)]))
    assert np.isfinite(scores.to_numpy()).all()
    assert scores["raw_weighted_mean"][0] == 0
    assert scores["raw_geometric_mean"][0] == pytest.approx(1e-8)
    assert scores["raw_weighted_mean"][1] == pytest.approx(sum(n * n for n in range(23)) / sum(range(23)))


def test_ties_keep_the_order_of_rows() -> None:
    values = quantile_normalise([[1.0, 3.0], [1.0, 2.0], [0.0, 1.0]])
    np.testing.assert_allclose(values, [[1.5, 2.0], [2.0, 1.5], [0.5, 0.5]])


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_normalised_columns_hold_the_same_values(rows: int, columns: int, seed: int) -> None:
    changes = np.random.default_rng(seed).random((rows, columns)).round(1)
    normalised = np.sort(quantile_normalise(changes), axis=0)
    np.testing.assert_array_equal(normalised, np.broadcast_to(normalised[:, :1], normalised.shape))
    assert normalised.sum() == pytest.approx(changes.sum())


def test_change_formula(model: DanceModel) -> None:
    """The formula in plain NumPy, with <cls>, <eos> and bins in the mean."""
    mutant = "MKTAYWAKQRQI"
    with torch.no_grad():
        before, after = (model(**tokenize([sequence])) for sequence in (WILD_TYPE, mutant))
    changes = property_changes(model, WILD_TYPE, [mutant])
    assert changes.shape == (1, 23)
    assert changes.dtype == np.float64
    for column, name in enumerate(PROPERTIES):
        wt, mt = before[name].numpy().astype(float), after[name].numpy().astype(float)
        expected = np.mean(np.abs(mt - wt) / (np.abs(wt) + 0.01))
        assert changes[0, column] == pytest.approx(expected, rel=1e-5), name
        assert expected > 1e-4


def test_batch_size_changes_nothing(model: DanceModel) -> None:
    mutants = [apply_mutation(WILD_TYPE, label) for label in all_single_mutants(WILD_TYPE)[:20]]
    one_by_one = property_changes(model, WILD_TYPE, mutants, batch_size=1)
    for batch_size in (3, 20, 64):
        np.testing.assert_allclose(
            property_changes(model, WILD_TYPE, mutants, batch_size), one_by_one, rtol=1e-5, atol=1e-5
        )


def test_batches_bound_the_memory_and_the_wild_type_is_predicted_once(model: DanceModel) -> None:
    sizes: list[int] = []
    handle = model.register_forward_pre_hook(
        lambda _, args, kwargs: sizes.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    property_changes(model, "ACDE", ["ACDE", "ACDF", "ACDG", "ACDH"], batch_size=2)
    handle.remove()
    assert sizes == [1, 2, 1]


def test_training_mode_comes_back_and_dropout_is_off(model: DanceModel) -> None:
    expected = property_changes(model, "ACDE", ["ACDF"])
    model.train()
    np.testing.assert_array_equal(property_changes(model, "ACDE", ["ACDF"]), expected)
    assert model.training
    model.eval()


def test_table(model: DanceModel) -> None:
    mutants = ["K2A", "K2A:Y5F", "MKTAYIAKQRQW", "wt", WILD_TYPE]
    table = score_mutations(model, WILD_TYPE, mutants)
    assert list(table.columns) == ["mutant", "sequence", *SCORES, *PROPERTIES]
    assert table["mutant"].tolist() == ["K2A", "K2A:Y5F", "I12W", "wt", "wt"]
    assert table["sequence"].tolist() == ["MATAYIAKQRQI", "MATAFIAKQRQI", "MKTAYIAKQRQW", WILD_TYPE, WILD_TYPE]
    assert (table.loc[3:, list(PROPERTIES)] == 0).all(axis=None)
    changes = property_changes(model, WILD_TYPE, table["sequence"].tolist())
    np.testing.assert_array_equal(table[list(PROPERTIES)], changes)
    np.testing.assert_array_equal(table[list(SCORES)], combine_scores(changes))


def test_wild_type_takes_part_in_the_normalisation(model: DanceModel) -> None:
    labels = ["K2A", "Y5F", "I6W"]
    without = score_mutations(model, WILD_TYPE, labels)
    with_wild_type = score_mutations(model, WILD_TYPE, ["wt", *labels]).iloc[1:].reset_index(drop=True)
    pd.testing.assert_frame_equal(without, with_wild_type, rtol=1e-5)


def test_complex(model: DanceModel) -> None:
    wild_type = "ACD<eos><cls>EFG"
    assert apply_mutation(wild_type, "E4W") == "ACD<eos><cls>WFG"
    assert len(all_single_mutants(wild_type)) == 6 * 19
    table = score_mutations(model, wild_type, ["E4W", "ACD<eos><cls>EFW"])
    assert table["mutant"].tolist() == ["E4W", "G6W"]
    with pytest.raises(InputError, match="other chains"):
        score_mutations(model, wild_type, ["ACDE<eos><cls>FG"])


def test_all_single_mutants() -> None:
    labels = all_single_mutants("MXA")
    assert len(labels) == len(set(labels)) == 19 + 20 + 19
    assert labels[0] == "M1A"
    assert "A3A" not in labels
    assert len({apply_mutation("MXA", label) for label in labels}) == 58


@pytest.mark.parametrize(
    ("mutant", "words"),
    [
        ("A2G", ["'A2G'", "position 2", "is K, not A"]),
        ("K13A", ["'K13A'", "no position 13", "1-12"]),
        ("K0A", ["no position 0"]),
        ("K2A:K2C", ["position 2 appears twice"]),
        ("K2J", ["'J' is not an amino acid"]),
        ("K2a", ["'a' is not an amino acid"]),
        ("2KA", ["form A12G"]),
        ("K2A:", ["form A12G"]),
        ("MKTAYIAKQRQ", ["11 residues", "12", "deletions"]),
    ],
)
def test_mutations_that_do_not_fit(model: DanceModel, mutant: str, words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        score_mutations(model, WILD_TYPE, [mutant])
    for word in words:
        assert word in str(error.value)


def test_other_errors(model: DanceModel) -> None:
    with pytest.raises(InputError, match="put the single mutant into a list"):
        score_mutations(model, WILD_TYPE, "K2A")
    with pytest.raises(InputError, match="no mutants"):
        score_mutations(model, WILD_TYPE, [])
    with pytest.raises(InputError, match="position 1"):
        score_mutations(model, "mKT", ["K2A"])
    with pytest.raises(InputError, match="mutant 2 has 3 residues"):
        property_changes(model, "ACDE", ["ACDF", "ACD"])
    with pytest.raises(InputError, match="batch_size"):
        property_changes(model, "ACDE", ["ACDF"], batch_size=0)
    with pytest.raises(InputError, match="shape"):
        combine_scores(np.zeros((0, 23)))


def table_of(sequence: str) -> pd.DataFrame:
    labels = [*all_single_mutants(sequence), "wt", "M1A:K2A"]
    return pd.DataFrame({"mutant": labels, PUBLISHED_SCORE: np.linspace(0, 1, len(labels))})


def test_grid() -> None:
    table = table_of("MKT")
    grid, letters = mutation_grid(table, "MKT")
    assert letters == ["M", "K", "T"]
    assert grid.shape == (20, 3)
    assert np.isnan(grid).sum() == 3  # the wild type
    assert grid["ACDEFGHIKLMNPQRSTVWY".index("W"), 1] == table.set_index("mutant")[PUBLISHED_SCORE]["K2W"]
    with pytest.raises(InputError, match="does not belong"):
        mutation_grid(table, "MTK")


@pytest.mark.parametrize("length", [1, 76, 200])
def test_heat_map(tmp_path: Path, length: int) -> None:
    from matplotlib.image import imread

    sequence = ("MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSG" * 4)[:length]
    labels = all_single_mutants(sequence)
    table = pd.DataFrame({"mutant": labels, PUBLISHED_SCORE: np.linspace(0, 1, len(labels))})
    plot_mutation_map(table, sequence, tmp_path / "map.png")
    image = imread(tmp_path / "map.png")
    assert image.shape[0] > 300
    assert image.shape[1] > 300
    assert len(np.unique(image[..., 1])) > (10 if length == 1 else 100)  # many colours
    assert [path.name for path in tmp_path.iterdir()] == ["map.png"]


def test_heat_map_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column 'other'"):
        plot_mutation_map(table_of("MKT"), "MKT", tmp_path / "map.png", score="other")


def test_written_table(model: DanceModel, tmp_path: Path) -> None:
    table = score_mutations(model, WILD_TYPE, ["K2A", "wt"])
    write_mutation_table(table, tmp_path / "table.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "table.csv"), table)
