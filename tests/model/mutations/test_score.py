"""Zero-shot scores: goldens, the formula in plain NumPy, windows; batches, threads and parts change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from refusals import refused

from data_prepare.properties import PROPERTIES, RESIDUE_PROPERTIES
from data_prepare.resume import Results
from model.config import ModelConfig
from model.inference.attention import attention_maps
from model.inference.batches import sequence_bytes
from model.inference.embed import embed
from model.inference.predict import predict_properties
from model.mutations import score
from model.mutations.score import (
    MAX_BATCH,
    SCORES,
    PropertySet,
    automatic_batch_size,
    changes_of,
    combine_scores,
    property_changes,
    quantile_normalise,
    score_mutations,
    score_table,
    streams_of,
)
from model.mutations.substitution import Mutants, all_single_mutants, apply_mutation
from model.network.dance import DanceModel
from model.network.tokenizer import tokenize

DATA = Path(__file__).resolve().parents[2] / "data" / "model"
WILD_TYPE = "MKTAYIAKQRQI"


@pytest.fixture
def shapes(tiny_model: DanceModel) -> Iterator[list[tuple[int, ...]]]:
    """Shapes of the batches that the model was given."""
    found: list[tuple[int, ...]] = []
    handle = tiny_model.register_forward_pre_hook(
        lambda _, args, kwargs: found.append(tuple((*args, *kwargs.values())[0].shape)), with_kwargs=True
    )
    yield found
    handle.remove()


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets PyTorch's number of threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_golden_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    golden = np.load(DATA / "zero_shot_scores.npz")
    assert tuple(golden["features"]) == PROPERTIES
    changes = golden["changes"]
    np.testing.assert_allclose(quantile_normalise(changes), golden["normalized"], rtol=0, atol=1e-9)
    for rows in (score.BLOCK_ROWS, 7):
        monkeypatch.setattr(score, "BLOCK_ROWS", rows)
        scores = combine_scores(changes)
        np.testing.assert_array_equal(changes, golden["changes"])
        assert {f"score.{name}" for name in scores} == {name for name in golden.files if name.startswith("score.")}
        for name in SCORES:
            np.testing.assert_allclose(scores[name], golden[f"score.{name}"], rtol=0, atol=1e-9, err_msg=name)


def test_scores_of_unchanged_properties_are_finite() -> None:
    scores = combine_scores(np.vstack([np.zeros(23), np.arange(23.0)]))
    assert np.isfinite(scores.to_numpy()).all()
    assert scores["raw_weighted_mean"][0] == 0
    assert scores["raw_geometric_mean"][0] == pytest.approx(1e-8)
    assert scores["raw_weighted_mean"][1] == pytest.approx(sum(n * n for n in range(23)) / sum(range(23)))


def test_equal_changes_keep_the_order_of_rows() -> None:
    values = quantile_normalise([[1.0, 3.0], [1.0, 2.0], [0.0, 1.0]])
    np.testing.assert_allclose(values, [[1.5, 2.0], [2.0, 1.5], [0.5, 0.5]])


def test_change_formula(tiny_model: DanceModel) -> None:
    """The formula in plain NumPy, with <cls>, <eos> and bins in the mean."""
    mutant = "MKTAYWAKQRQI"
    with torch.no_grad():
        before, after = (tiny_model(**tokenize([sequence])) for sequence in (WILD_TYPE, mutant))
    changes = property_changes(tiny_model, WILD_TYPE, [mutant])
    assert changes.shape == (1, 23)
    assert changes.dtype == np.float64
    for column, name in enumerate(PROPERTIES):
        wt, mt = before[name].numpy().astype(float), after[name].numpy().astype(float)
        expected = np.mean(np.abs(mt - wt) / (np.abs(wt) + 0.01))
        assert changes[0, column] == pytest.approx(expected, rel=1e-5), name
        assert expected > 1e-4


@pytest.mark.parametrize(("wild_type", "properties"), [(WILD_TYPE, "all"), ("MKT" * 400, "residue")])
def test_batches_and_threads_change_nothing(
    tiny_model: DanceModel, threads: Callable, wild_type: str, properties: PropertySet
) -> None:
    labels = all_single_mutants(wild_type)
    mutants = [apply_mutation(wild_type, label) for label in labels[:: max(1, len(labels) // 12)]]
    threads(1)
    one_by_one = property_changes(tiny_model, wild_type, mutants, 1, properties=properties)
    for number, batch_size in ((1, 64), (3, 5)):
        threads(number)
        changes = property_changes(tiny_model, wild_type, mutants, batch_size, properties=properties)
        np.testing.assert_allclose(changes, one_by_one, rtol=1e-5, atol=1e-5)


def test_batches_side_by_side_fit_into_the_memory(threads: Callable[[int], None]) -> None:
    threads(8)
    config = ModelConfig()

    def streams(residues: int, mutants: int, properties: PropertySet, device: str = "cpu") -> int:
        batches = [np.arange(1), *[np.arange(mutants)] * 3]
        return streams_of(config, batches, residues + 2, device, properties)

    assert streams(72, 2, "all") == 4  # no more than batches
    assert streams(72, 16, "residue") == 4
    assert streams(72, 16, "all") == 3
    assert streams(1000, 1, "all") == 1
    assert streams(72, 2, "all", "cuda") == 1
    assert streams_of(config, [], 74, "cpu", "all") == 1
    threads(2)
    assert streams(72, 16, "residue") == 2


def test_batch_sizes_by_length(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ModelConfig()
    sizes = [automatic_batch_size(config, tokens, "cpu") for tokens in (4, 74, 402, 1024)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == MAX_BATCH
    assert sizes[-1] == 1
    assert automatic_batch_size(config, 402, "cpu", "residue") > sizes[2]
    monkeypatch.setattr("model.inference.batches.memory_of", lambda device: 2**34 if device.type == "cuda" else 0)
    assert automatic_batch_size(config, 402, "cuda") == 2**33 // sequence_bytes(config, 402, True) > sizes[2]


def test_training_mode_comes_back_and_dropout_is_off(tiny_model: DanceModel) -> None:
    expected = property_changes(tiny_model, "ACDE", ["ACDF"])
    tiny_model.train()
    np.testing.assert_array_equal(property_changes(tiny_model, "ACDE", ["ACDF"]), expected)
    assert tiny_model.training
    tiny_model.eval()


def test_finished_parts_are_not_computed_again(
    tiny_model: DanceModel, shapes: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "PART_TOKENS", 14 * 5)  # five mutants a part
    results = Results(tmp_path / "s.csv")
    labels = all_single_mutants(WILD_TYPE)[:12]
    mutants = Mutants(WILD_TYPE, [*labels[:6], "wt", *labels[6:]])
    expected = changes_of(tiny_model, mutants, batch_size=2)
    np.testing.assert_array_equal(changes_of(tiny_model, mutants, "all", 2, results), expected)
    assert len(list(results.folder.iterdir())) == 3

    def predicted(*, properties: PropertySet = "all", others: tuple = (), sequence: str = WILD_TYPE) -> int:
        shapes.clear()
        again = Mutants(sequence, [*mutants.labels, *others])
        changes_of(tiny_model, again, properties, 3, results)
        return sum(rows for rows, _ in shapes)

    assert predicted() == 0
    next(results.folder.iterdir()).write_bytes(b"damaged")
    assert predicted() in (1 + 5, 1 + 2)
    assert predicted(others=("K2A:Y5F",)) == 1 + 3  # the last part has one more
    assert predicted(properties="residue") == 1 + 12
    assert predicted(sequence=WILD_TYPE[:-1] + "L") > 12
    with torch.no_grad():
        weight = next(tiny_model.parameters())
        before = weight.clone()
        weight[4, 0] += 1
        assert predicted() == 1 + 12
        weight.copy_(before)


def test_wild_type_takes_part_in_the_normalisation(tiny_model: DanceModel) -> None:
    labels = ["K2A", "Y5F", "I6W"]
    without = score_mutations(tiny_model, WILD_TYPE, labels)
    with_wild_type = score_mutations(tiny_model, WILD_TYPE, ["wt", *labels]).iloc[1:].reset_index(drop=True)
    pd.testing.assert_frame_equal(without, with_wild_type, rtol=1e-5)


def test_damage_is_the_fraction_that_scores_lower() -> None:
    changes = np.outer([3.0, 1.0, 2.0, 0.0], np.ones(10))
    for number in (3, 4):  # without and with the wild type
        labels = ["K2A", "K2C", "K2D", "wt"][:number]
        table = score_table(Mutants(WILD_TYPE, labels), changes[:number], "residue")
        assert table["damage"].tolist() == pytest.approx([1, 1 / 3, 2 / 3, 0][:number])
        assert (table["score"] == table["norm_geometric_mean"]).all()


@pytest.mark.parametrize("properties", ["all", "residue"])
def test_table_of_a_complex(tiny_model: DanceModel, properties: PropertySet) -> None:
    """Mutants as labels, sequences and the wild type; their changes are those of one mutant at a time."""
    wild_type, names = "ACDKL<eos><cls>EFG", list(PROPERTIES if properties == "all" else RESIDUE_PROPERTIES)
    labels = [*all_single_mutants(wild_type)[:30], "E6W:A1C"]
    mutants = [*labels, "ACDKL<eos><cls>EFW", "wt", wild_type]
    table = score_mutations(tiny_model, wild_type, mutants, batch_size=5, properties=properties, sequences=True)
    where = ["chain", "number", "position"]
    assert list(table.columns) == ["protein", "mutant", *where, "sequence", "score", "damage", *SCORES, *names, "model"]
    assert table.loc[[0, 30, 32], where].to_numpy().tolist() == [["A", "1", "1"], ["B:A", "6:1", "6:1"], ["", "", ""]]
    assert set(table["model"]) == {tiny_model.label}
    assert table["mutant"].tolist() == [*labels, "G8W", "wt", "wt"]
    assert table["sequence"].tolist()[30:] == ["CCDKL<eos><cls>WFG", "ACDKL<eos><cls>EFW", wild_type, wild_type]
    assert (table.loc[32:, names] == 0).all(axis=None)
    single = [property_changes(tiny_model, wild_type, [mutant], properties=properties) for mutant in table["sequence"]]
    np.testing.assert_allclose(table[names], np.vstack(single), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(table[list(SCORES)], combine_scores(table[names]))
    residue = property_changes(tiny_model, wild_type, table["sequence"].tolist(), properties="residue")
    np.testing.assert_allclose(table[list(RESIDUE_PROPERTIES)], residue, rtol=1e-4, atol=1e-6)


def test_windows_of_a_long_protein(tiny_model: DanceModel, shapes: list, threads: Callable[[int], None]) -> None:
    """Changes are those of the window's tokens; the wild type is predicted once for all mutants that share it."""
    threads(1)  # batches in their order
    letters = np.random.default_rng(0).choice(list("ACDEFGHIKLMNPQRSTVWY"), 1500)
    letters[[9, 649, 651, 1499]] = "A"
    wild_type = "".join(letters)
    labels = ["A10C", "A1500C", "A650C", "A652C:A650W", "A650D"]  # not in the order of the windows
    table = score_mutations(tiny_model, wild_type, labels, batch_size=2, properties="residue", sequences=True)
    assert shapes == [(1, 1024), (1, 1024), (1, 1024), (2, 1024), (1, 1024), (1, 1024), (1, 1024)]
    before = tokenize([wild_type])["input_ids"]
    for row, start in enumerate((0, 478, 256, 256, 256)):
        after = tokenize(table["sequence"][[row]])["input_ids"]
        with torch.no_grad():
            outputs = [tiny_model(ids[:, start : start + 1024], pair=False)["psi"].double() for ids in (before, after)]
        expected = ((outputs[1] - outputs[0]).abs() / (outputs[0].abs() + 0.01)).mean().item()
        assert table["psi"][row] == pytest.approx(expected, rel=1e-4), labels[row]


def test_refused(tiny_model: DanceModel) -> None:
    for mutants, named in (("K2A", "list"), ([], "no mutants"), (["K2A", "A2G"], "A2G")):
        refused(lambda mutants=mutants: score_mutations(tiny_model, WILD_TYPE, mutants), named)
    refused(lambda: score_mutations(tiny_model, "1KT", ["K2A"]), "position 1")
    refused(lambda: property_changes(tiny_model, "ACDE", ["ACDF", "ACD"]), "ACD ")
    refused(lambda: property_changes(tiny_model, "ACDE", ["ACDF"], batch_size=0), "batch_size", 0)
    refused(lambda: combine_scores(np.zeros((0, 23))), "(0, 23)")
    for action in (score_mutations, property_changes):  # a path instead of a network
        refused(lambda action=action: action("runs/best", WILD_TYPE, ["K2A"]), "runs/best", "load_model")
    for function in (embed, predict_properties, attention_maps):
        refused(lambda function=function: function("runs/best", WILD_TYPE), "runs/best", "load_model")
