"""The recipe of the demonstration network: its measures on answers that are known, its data and its weights."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from data_prepare.dataset.loss_weights import read_loss_weights, write_loss_weights
from data_prepare.properties import CONFORMATIONS, GROUPS, PROPERTIES
from model.network.dance import load_model
from model.network.tokenizer import tokenize
from model.training.data import Entry

RECIPE = Path(__file__).resolve().parents[1] / "demo_network"


@pytest.fixture(scope="module")
def recipe():
    """The modules of the folder, which is a script with two files beside it."""
    found = {}
    for name in ("entries", "card", "make_network"):
        spec = importlib.util.spec_from_file_location(name, RECIPE / f"{name}.py")
        found[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found[name])
    yield found
    for name in found:
        del sys.modules[name]


def entry(rng: np.random.Generator, sequence: str = "ACDEFGHIKLMNPQRSTVWY") -> Entry:
    n = len(sequence) + 2
    residue, pair = np.full((n, 47), -1, np.float32), np.full((n, n, 10), -1, np.float32)
    residue[1:-1] = rng.random((n - 2, 47))
    residue[1:-1, 3:11] = np.eye(8)[rng.integers(0, 8, n - 2)]
    contacts = np.triu(rng.random((n - 2, n - 2)) < 0.15, 6)
    pair[1:-1, 1:-1] = 0
    pair[1:-1, 1:-1, 0] = contacts + contacts.T
    return Entry("x", tokenize([sequence])["input_ids"][0], torch.from_numpy(residue), torch.from_numpy(pair))


def test_measures_of_the_truth_and_of_its_opposite(recipe) -> None:
    one = entry(np.random.default_rng(0))
    residue, vdw = one.residue.numpy(), one.pair.numpy()[..., 0]
    assert (np.triu(vdw[1:-1, 1:-1], 6) > 0).sum() >= 4  # a fifth of 20 residues
    truth = {"ss": residue[:, 3:11], "sasa_mean": residue[:, 0], "vdw": vdw}
    assert recipe["card"].measures_of(one, truth) == pytest.approx((1, 1, 1))
    swapped = truth["ss"].copy()  # columns BEHIGST-
    swapped[:, 1], swapped[:, 2] = truth["ss"][:, 2:5].sum(1), truth["ss"][:, :2].sum(1)
    swapped[:, [0, 3, 4]] = 0
    wrong = {"ss": swapped, "sasa_mean": -residue[:, 0], "vdw": -vdw}
    others = float(residue[1:-1, 8:11].sum() / 20)
    assert recipe["card"].measures_of(one, wrong) == pytest.approx((others, -1, 0))
    near = np.zeros_like(vdw) + 9 * (np.abs(np.subtract.outer(range(22), range(22))) < 6)  # neighbours do not count
    assert recipe["card"].measures_of(one, truth | {"vdw": vdw + near})[2] == 1


def test_weights_of_the_losses(recipe, tmp_path) -> None:
    groups = (*GROUPS, CONFORMATIONS)
    write_loss_weights(tmp_path / "a.csv", {group: dict.fromkeys(PROPERTIES, 1.0) for group in groups})
    recipe["make_network"].weigh(tmp_path / "a.csv", tmp_path / "b.csv")
    found = read_loss_weights(tmp_path / "b.csv", groups)
    assert found[CONFORMATIONS]["ss"] / found[CONFORMATIONS]["vdw"] == pytest.approx(9)
    assert found["Proteinflow"] == dict.fromkeys(PROPERTIES, 1.0)
    assert found["IDRome"]["ss"] == found["IDRome"]["corr"] == 0.25


def test_average_of_checkpoints_in_half_precision(recipe, tiny_model, tmp_path) -> None:
    folders = []
    for number, factor in enumerate((0.5, 1.5)):
        folders.append(tmp_path / str(number))
        state = {name: factor * value for name, value in tiny_model.state_dict().items()}
        other = type(tiny_model)(tiny_model.config)
        other.load_state_dict(state)
        other.save_pretrained(folders[-1])
    recipe["make_network"].write_average(folders, tmp_path / "mean")
    found = load_model(tmp_path / "mean", "cpu").state_dict()
    for name, value in tiny_model.state_dict().items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-6)


def test_entries_hold_out_the_families_that_are_shown(recipe, examples, tmp_path, monkeypatch) -> None:
    """Relatives share a label, and structures have two entries; on the example structures alone."""
    folder = tmp_path / "structures" / "s2648"
    folder.mkdir(parents=True)
    for copy, name in (("1ubq_A", "1ubi_A"), ("1bni_A", "1y1l_A"), ("2ubq_A", "1ubi_A"), ("9xyz_A", "2xr6_A")):
        (folder / f"{copy}.pdb.gz").write_bytes((examples / "structures" / f"{name}.pdb.gz").read_bytes())
    entries = recipe["entries"]
    monkeypatch.setattr(entries, "TRAJECTORIES", {})
    monkeypatch.setattr(entries, "mmseqs_clusters", lambda sequences, _: entries.entry_clusters_of_equal(sequences))
    entries.entry_clusters_of_equal = lambda sequences: {
        name: min(other for other in sequences if sequences[other] == sequence) for name, sequence in sequences.items()
    }
    entries.write_manifest(tmp_path, tmp_path / "m.csv")
    table = pd.read_csv(tmp_path / "m.csv").set_index("name")
    assert (table.groupby("cluster")["label"].nunique() == 1).all()
    assert table.loc[["s2648_1ubq_A", "s2648_2ubq_A", "s2648_1bni_A", "example_1ubi_A"], "label"].eq("test").all()
    assert set(table["label"]) == {"train", "test"}
    conformation = table.loc["s2648_1ubq_A_conformation"]
    assert (conformation["group"], conformation["label"]) == (CONFORMATIONS, "test")
    assert len(table) == 14 + 2 * 28
