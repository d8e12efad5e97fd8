from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from data_prepare.errors import InputError
from data_prepare.properties import PROPERTIES, RESIDUE_PROPERTIES
from model.config import ModelConfig
from model.mutations.score import (
    MAX_BATCH,
    PROPERTIES_OF,
    PUBLISHED_SCORE,
    SCORES,
    Batch,
    PropertySet,
    all_single_mutants,
    apply_mutation,
    automatic_batch_size,
    combine_scores,
    mutation_grid,
    plot_mutation_map,
    property_changes,
    quantile_normalise,
    score_mutations,
    streams_of,
)
from model.network.dance import DanceModel
from model.network.tokenizer import tokenize

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
    assert sizes[0] == 1
    assert sorted(sizes[1:]) == [1, 2]  # batches may run side by side


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets PyTorch's number of threads; the former comes back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_batches_side_by_side_change_nothing(model: DanceModel, threads: Callable[[int], None]) -> None:
    several_windows = "MKT" * 400
    for wild_type in (WILD_TYPE, several_windows):
        labels = all_single_mutants(wild_type)
        mutants = [apply_mutation(wild_type, label) for label in labels[:: max(1, len(labels) // 12)]]
        threads(1)
        expected = property_changes(model, wild_type, mutants, batch_size=2)
        threads(3)
        np.testing.assert_allclose(
            property_changes(model, wild_type, mutants, batch_size=2), expected, rtol=1e-5, atol=1e-6
        )


def test_batches_side_by_side_fit_into_the_memory(threads: Callable[[int], None]) -> None:
    threads(8)
    config = ModelConfig()

    def streams(residues: int, mutants: int, properties: PropertySet, device: str = "cpu") -> int:
        batches = [Batch(0, 1, 0, residues + 2), *[Batch(1, 1 + mutants, 0, residues + 2)] * 3]
        return streams_of(config, batches, device, properties)

    assert streams(72, 2, "all") == 4  # no more than batches
    assert streams(72, 16, "residue") == 4
    assert streams(72, 16, "all") == 3
    assert streams(1000, 1, "all") == 1
    assert streams(72, 2, "all", "cuda") == 1
    assert streams_of(config, [], "cpu", "all") == 1
    threads(2)
    assert streams(72, 16, "residue") == 2


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


@pytest.mark.parametrize("properties", ["all", "residue"])
def test_complex_one_by_one(model: DanceModel, properties: PropertySet) -> None:
    wild_type = "ACDKL<eos><cls>EFG"
    labels = [*all_single_mutants(wild_type)[:30], "E6W:A1C", "wt"]
    table = score_mutations(model, wild_type, labels, batch_size=5, properties=properties)
    single = [property_changes(model, wild_type, [mutant], properties=properties) for mutant in table["sequence"]]
    np.testing.assert_allclose(table[list(PROPERTIES_OF[properties])], np.vstack(single), rtol=0, atol=1e-5)
    assert table["mutant"].tolist() == labels
    with pytest.raises(InputError, match="other chains"):
        score_mutations(model, wild_type, ["ACDK<eos><cls>LEFG"])


def test_without_residue_pairs(model: DanceModel) -> None:
    labels = ["K2A", "Y5F", "wt"]
    whole = score_mutations(model, WILD_TYPE, labels)
    table = score_mutations(model, WILD_TYPE, labels, properties="residue")
    assert list(table.columns) == ["mutant", "sequence", *SCORES, *RESIDUE_PROPERTIES]
    changes = whole[list(RESIDUE_PROPERTIES)]
    np.testing.assert_allclose(table[list(RESIDUE_PROPERTIES)], changes, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(table[list(SCORES)], combine_scores(changes), rtol=1e-4, atol=1e-6)


def test_windows_of_a_long_protein(model: DanceModel) -> None:
    """Changes are those of the window's tokens; the wild type is predicted once for all mutants that share it."""
    letters = np.random.default_rng(0).choice(list("ACDEFGHIKLMNPQRSTVWY"), 1500)
    letters[[9, 649, 651, 1499]] = "A"
    wild_type = "".join(letters)
    labels = ["A10C", "A1500C", "A650C", "A652C:A650W", "A650D"]  # their order is not that of the windows
    shapes: list[tuple[int, ...]] = []
    handle = model.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    table = score_mutations(model, wild_type, labels, batch_size=2, properties="residue")
    handle.remove()
    assert shapes == [(1, 1024), (1, 1024), (1, 1024), (2, 1024), (1, 1024), (1, 1024), (1, 1024)]
    before = tokenize([wild_type])["input_ids"]
    for row, start in enumerate((0, 478, 256, 256, 256)):
        after = tokenize(table["sequence"][[row]])["input_ids"]
        with torch.no_grad():
            outputs = [model(ids[:, start : start + 1024], pair=False)["psi"].double() for ids in (before, after)]
        expected = ((outputs[1] - outputs[0]).abs() / (outputs[0].abs() + 0.01)).mean().item()
        assert table["psi"][row] == pytest.approx(expected, rel=1e-4), labels[row]


def test_batch_sizes_by_length() -> None:
    config = ModelConfig()
    sizes = [automatic_batch_size(config, tokens, "cpu") for tokens in (4, 74, 402, 1024)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == MAX_BATCH["cpu"]
    assert sizes[-1] == 1
    assert automatic_batch_size(config, 402, "cpu", "residue") > sizes[2]
    assert automatic_batch_size(config, 402, "cuda") > sizes[2]


def test_other_errors(model: DanceModel) -> None:
    with pytest.raises(InputError, match="put the single mutant into a list"):
        score_mutations(model, WILD_TYPE, "K2A")
    with pytest.raises(InputError, match="no mutants"):
        score_mutations(model, WILD_TYPE, [])
    with pytest.raises(InputError, match="'A2G': position 2 of the wild type is K, not A"):
        score_mutations(model, WILD_TYPE, ["K2A", "A2G"])
    with pytest.raises(InputError, match="position 1"):
        score_mutations(model, "mKT", ["K2A"])
    with pytest.raises(InputError, match="mutant 2: mutant sequence ACD has 3 residues"):
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
    shifted = pd.DataFrame({"mutant": ["K12W"], PUBLISHED_SCORE: [0.5]})
    assert np.argwhere(np.isfinite(mutation_grid(shifted, "MKT", offset=10)[0])).tolist() == [[18, 1]]


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
