"""The training table, the manifest's groups, and the properties they refer to."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from refusals import refused

from data_prepare import properties
from data_prepare.dataset.table import join_tables, read_table, write_table
from data_prepare.sources.manifest import read_manifest

ROWS = [("NA", "GG", "mdCATH", "train"), ("1e10", "AA<eos><cls>W", "proteinflow_sabdab", "test")]
GROUPS = ["ATLAS_GPCRmd_PED_mdCATH", "Proteinflow"]


def frame(rows=ROWS):
    return pd.DataFrame(rows, columns=["name", "modify_seq", "source", "label"])


def test_round_trip_and_groups_with_and_without_the_column(tmp_path):
    """Names may look like numbers. A source may be a group in published tables; a column group outranks the source."""
    path = tmp_path / "t.csv"
    write_table(path, frame())
    table = read_table(path)
    assert table.columns.tolist() == ["name", "modify_seq", "source", "group", "label"]
    assert table["name"].tolist() == ["NA", "1e10"]
    assert table["group"].tolist() == GROUPS
    frame().to_csv(path, index=False)
    assert read_table(path)["group"].tolist() == GROUPS
    frame().assign(source=["IDRome", "Proteinflow"]).to_csv(path, index=False)
    assert read_table(path)["group"].tolist() == ["IDRome", "Proteinflow"]
    frame().assign(source="my lab", group=["IDRome", "Proteinflow"]).to_csv(path, index=False)
    table = read_table(path)
    assert table["source"].tolist() == ["my lab"] * 2
    assert table["group"].tolist() == ["IDRome", "Proteinflow"]


@pytest.mark.parametrize(
    ("column", "value", "named"),
    [
        ("name", "NA", "duplicate name"),
        ("modify_seq", "", "modify_seq"),
        ("source", "PDB", "source"),
        ("group", "PDB", "group"),
        ("label", "dev", "label"),
        ("label", "", "label"),
    ],
)
def test_bad_rows_are_named(tmp_path, column, value, named):
    table = frame().assign(group=["", ""])
    table.loc[1, column] = value
    table.to_csv(tmp_path / "t.csv", index=False)
    refused(lambda: read_table(tmp_path / "t.csv"), tmp_path / "t.csv", "1 rows, first in line 3", named)
    table.reindex([0, 7, 1]).to_csv(tmp_path / "t.csv", index=False)  # with an empty row
    refused(lambda: read_table(tmp_path / "t.csv"), tmp_path / "t.csv", "1 rows, first in line 4", named)
    table.drop(columns="label").to_csv(tmp_path / "t.csv", index=False)
    refused(lambda: read_table(tmp_path / "t.csv"), tmp_path / "t.csv", "label")


def test_a_table_without_rows(tmp_path):
    write_table(tmp_path / "t.csv", frame()[:0])
    refused(lambda: read_table(tmp_path / "t.csv"), tmp_path / "t.csv", "no rows")


def test_join_tables(tmp_path):
    for name, rows in (("a", ROWS), ("b", [("x", "GW", "IDRome", "")]), ("c", [("1e10", "GW", "IDRome", "train")])):
        write_table(tmp_path / f"{name}.csv", frame(rows))
    joined = join_tables([tmp_path / "b.csv", tmp_path / "a.csv"], {})
    assert joined["name"].tolist() == ["x", "NA", "1e10"]
    assert joined.index.tolist() == [0, 1, 2]
    assert joined["group"].tolist() == ["IDRome", *GROUPS]
    paths = [tmp_path / f"{name}.csv" for name in "bac"]
    refused(lambda: join_tables(paths, {}), paths[2], paths[1], "entry 1e10")


def test_rows_of_a_duplicate_come_from_the_table_of_its_store(tmp_path):
    for name, label in (("a", "train"), ("b", "test")):
        write_table(tmp_path / f"{name}.csv", frame([("x", "GW", "IDRome", label), (name, "GW", "IDRome", label)]))
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for origin, label in ((0, "train"), (1, "test")):
        joined = join_tables(paths, {"x": origin, "a": 0, "b": 1})
        assert dict(zip(joined["name"], joined["label"], strict=True)) == {"x": label, "a": "train", "b": "test"}


def test_columns_of_properties_cover_the_outputs_once():
    columns = [c for first, width in properties.RESIDUE_COLUMNS.values() for c in range(first, first + width)]
    assert columns == list(range(50))
    assert list(properties.PAIR_CHANNELS.values()) == list(range(13))
    assert len(properties.PROPERTIES) == 23
    assert properties.entry_residue_columns("nma_res2") == slice(1, 2)
    assert properties.entry_pair_channel("nma_pair3") == 2
    assert properties.entry_pair_channel("corr") == 9
    md = np.concatenate([np.r_[properties.entry_residue_columns(n)] for n in properties.MD_PROPERTIES[:7]])
    assert md.tolist() == list(range(47))


def test_examples(examples):
    """Each group has at least three training entries and one test entry; all files are there."""
    entries = read_manifest(examples / "examples.csv")
    for group in properties.GROUPS:
        labels = [entry.label for entry in entries if entry.group == group]
        assert labels.count("train") >= 3
        assert labels.count("test") >= 1
    for entry in entries:
        assert all(path.is_file() for path in entry.paths), entry.paths
