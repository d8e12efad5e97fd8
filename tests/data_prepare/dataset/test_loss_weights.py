"""Loss weights: the baseline by its definition, and the balance that the weights promise."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from refusals import refused
from stores import without_properties

from data_prepare.dataset.loss_weights import (
    SPREAD,
    baselines,
    entry_spread,
    loss_weights,
    read_loss_weights,
    write_loss_weights,
)
from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.store_writer import StoreWriter, merge_stores
from data_prepare.properties import (
    CONFORMATIONS,
    FLUCTUATIONS,
    GROUPS,
    INTERACTIONS,
    MD_PROPERTIES,
    NMA_PROPERTIES,
    PROPERTIES,
    RESIDUE_COLUMNS,
    properties_of_group,
)


@pytest.fixture
def world(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    with StoreWriter(tmp_path / "s.h5") as writer:
        for index, group in enumerate(g for g in GROUPS for _ in range(3)):
            n = int(rng.integers(5, 12))
            widths = (3, 3) if group == "Proteinflow" else (47, 10)
            residue = rng.random((n, widths[0]))
            pair = rng.normal(size=(n, n, widths[1]))
            residue[[0, -1]] = pair[[0, -1]] = pair[:, [0, -1]] = -1
            writer.add(f"e{index}", residue, pair)
            rows.append((f"e{index}", "G" * (n - 2), group, "test" if index % 3 == 2 else "train", group))
    columns = ["name", "modify_seq", "source", "label", "group"]
    return FeatureStore(tmp_path / "s.h5"), pd.DataFrame(rows, columns=columns)


def test_spread_by_its_definition(world):
    store, _ = world
    residue, pair = (array.astype(float) for array in store.read("e0"))
    spread = entry_spread(*store.read("e0"), GROUPS[0])
    valid = residue[1:-1]
    assert spread["sasa_mean"] == pytest.approx(valid[:, 0].std())
    assert spread["rmsf_nor"] == pytest.approx((valid[:, 2] / valid[:, 2].max()).std())
    first, width = RESIDUE_COLUMNS["phi"]
    bins = [np.var(valid[:, first + b]) for b in range(width)]
    assert spread["phi"] == pytest.approx(np.sqrt(np.mean(bins)))
    assert spread["corr"] == pytest.approx(pair[1:-1, 1:-1, 9].std())
    assert set(spread) == set(MD_PROPERTIES)


def test_baseline_is_the_mean_over_training_entries(world):
    store, table = world
    found = baselines(store, table)
    expected = np.mean([entry_spread(*store.read(name), GROUPS[0])["sasa_std"] for name in ("e0", "e1")])
    assert found[GROUPS[0]]["sasa_std"] == pytest.approx(expected)
    assert set(found["Proteinflow"]) == set(NMA_PROPERTIES)


def test_a_spread_that_an_entry_brings_is_not_computed_again(world, tmp_path, monkeypatch):
    """It survives merging, in the same and in another number type, and gives the same baselines."""
    store, table = world
    expected = baselines(store, table)
    groups = dict(zip(table["name"], table["group"], strict=True))
    with StoreWriter(tmp_path / "own.h5") as writer:
        for name in store.names():
            spread = entry_spread(*store.read(name), groups[name])
            writer.add(name, *store.datasets(name), {SPREAD: json.dumps(spread)})
    for dtype in ("float32", "float16"):
        merge_stores([tmp_path / "own.h5"], tmp_path / f"{dtype}.h5", dtype)
    monkeypatch.setattr(FeatureStore, "datasets", lambda *_: pytest.fail("read"))
    for dtype in ("float32", "float16"):
        found = baselines(FeatureStore(tmp_path / f"{dtype}.h5"), table)
        assert all(found[group] == pytest.approx(expected[group], rel=1e-12) for group in GROUPS)


def test_pairs_are_read_in_blocks(tmp_path, monkeypatch):
    """An entry of three blocks, some pairs without features, and shares of it in memory at once."""
    rng = np.random.default_rng(0)
    residue, pair = rng.random((300, 47)), 5 + rng.random((300, 300, 10))
    residue[:150] = pair[:150] = pair[:, :150] = -1  # no valid pair in the first block
    with StoreWriter(tmp_path / "s.h5") as writer:
        writer.add("e", residue, pair)
    monkeypatch.setattr("data_prepare.dataset.store_layout.BLOCK_BYTES", 1)
    monkeypatch.setattr(FeatureStore, "read", lambda *_: pytest.fail("read whole"))
    table = pd.DataFrame({"name": ["e"], "group": GROUPS[0], "label": "train"})
    found = baselines(FeatureStore(tmp_path / "s.h5"), table)[GROUPS[0]]
    valid = pair[150:, 150:].astype(np.float32).astype(np.float64)
    for channel, name in enumerate([*INTERACTIONS, "corr"]):
        assert found[name] == pytest.approx(valid[..., channel].std(), rel=1e-12)


def test_balance(world):
    baseline = baselines(*world)
    weights = loss_weights(baseline)
    for group in GROUPS:
        part = {name: baseline[group].get(name, 0) * weights[group][name] for name in PROPERTIES}
        pair = sum(part[name] for name in PROPERTIES[10:])
        residue = sum(part[name] for name in PROPERTIES[:10])
        assert pair / residue == pytest.approx(3)
        assert pair + residue == pytest.approx(1)  # the groups are equal
        if group == "Proteinflow":
            for k in "123":
                assert part[f"nma_pair{k}"] / part[f"nma_res{k}"] == pytest.approx(3)
                assert part[f"nma_res{k}"] == pytest.approx(part["nma_res1"])
            assert all(weights[group][name] == 0 for name in MD_PROPERTIES)
        else:
            dihedrals = part["chi"] + part["phi"] + part["psi"]
            assert part["rmsf_nor"] == pytest.approx(part["ss"]) == pytest.approx(dihedrals)
            assert part["sasa_mean"] + part["sasa_std"] == pytest.approx(dihedrals)
            interactions = [part[name] for name in INTERACTIONS]
            assert interactions == pytest.approx([interactions[0]] * 9)
            assert sum(interactions) / part["corr"] == pytest.approx(3)
            assert all(weights[group][name] == 0 for name in NMA_PROPERTIES)


def test_conformations_share_what_fluctuations_would_have():
    spread = {name: 0.5 for name in MD_PROPERTIES if name not in FLUCTUATIONS}
    part = {name: weight * 0.5 for name, weight in loss_weights({CONFORMATIONS: spread})[CONFORMATIONS].items()}
    assert sum(part.values()) == pytest.approx(1)
    assert sum(part[name] for name in INTERACTIONS) == pytest.approx(0.75)
    assert part["sasa_mean"] == pytest.approx(part["ss"]) == pytest.approx(part["chi"] + part["phi"] + part["psi"])
    assert all(part[name] == 0 for name in FLUCTUATIONS)


def test_properties_entries_and_groups_without_values(world):
    weights = loss_weights({GROUPS[0]: dict.fromkeys(MD_PROPERTIES, 0.5) | {"ts": 0.0}})
    assert weights[GROUPS[0]]["ts"] == 0 < weights[GROUPS[0]]["ps"]
    assert entry_spread(np.full((4, 47), -1.0), np.full((4, 4, 10), -1.0), GROUPS[0]) == {}
    store, table = world
    whole, some = baselines(store, table), baselines(store, table[table["group"] != "IDRome"])
    assert some == {group: whole[group] for group in (GROUPS[0], "Proteinflow")}


def test_round_trip_and_errors(world, tmp_path):
    weights = loss_weights(baselines(*world))
    path = tmp_path / "w.csv"
    write_loss_weights(path, weights)
    found = read_loss_weights(path)
    assert list(found) == list(GROUPS)
    for group in GROUPS:
        assert found[group] == pytest.approx(weights[group])
    write_loss_weights(path, {"IDRome": weights["IDRome"]})
    assert read_loss_weights(path, ["IDRome"]) == {"IDRome": found["IDRome"]}
    refused(lambda: read_loss_weights(path), path, GROUPS[0])
    write_loss_weights(path, weights)
    frame = pd.read_csv(path, index_col=0)
    assert list(frame.index) == list(PROPERTIES)
    assert list(frame.columns) == list(GROUPS)
    for spoiled, named in (
        (frame.drop(index="corr"), "corr"),
        (frame.drop(columns="IDRome"), "IDRome"),
        (pd.concat([frame, frame.loc[["corr"]]]), "two rows"),
        (frame.assign(IDRome=-1), "IDRome"),
        (frame.assign(IDRome="x"), "IDRome"),
        (frame.assign(IDRome=""), "IDRome"),
    ):
        spoiled.to_csv(path)
        refused(lambda: read_loss_weights(path), path, named)
    refused(lambda: read_loss_weights(tmp_path / "none.csv"), tmp_path / "none.csv")


def test_empty_cells_of_properties_that_a_group_lacks(world, tmp_path):
    path = tmp_path / "w.csv"
    weights = loss_weights(baselines(*world))
    write_loss_weights(path, weights)
    frame = pd.read_csv(path, index_col=0)
    for group in GROUPS:
        frame.loc[[name for name in PROPERTIES if name not in properties_of_group(group)], group] = np.nan
    frame.to_csv(path)
    assert ",\n" in path.read_text()
    found = read_loss_weights(path)
    assert all(found[group] == pytest.approx(weights[group]) for group in GROUPS)


def test_published_file_is_read(shared):
    weights = read_loss_weights(shared / "golden" / "model" / "loss_weight.csv")
    assert weights["Proteinflow"]["nma_pair3"] == pytest.approx(3.3)


def test_entries_that_lack_properties_do_not_count(world, tmp_path):
    store, table = world
    missing = {"e0": ["sasa_mean", "vdw", "chi"], "e1": ["chi"]}  # both training entries of the group
    found = baselines(FeatureStore(without_properties(store.path, tmp_path / "m.h5", **missing)), table)[GROUPS[0]]
    complete = baselines(store, table)[GROUPS[0]]
    other = entry_spread(*store.read("e1"), GROUPS[0])
    expected = complete | {"sasa_mean": other["sasa_mean"], "vdw": other["vdw"], "chi": 0.0}
    assert found == pytest.approx(expected, rel=1e-12)
    weights = loss_weights({GROUPS[0]: found})[GROUPS[0]]
    assert weights["chi"] == 0
    assert all(weights[name] > 0 for name in MD_PROPERTIES if name != "chi")
