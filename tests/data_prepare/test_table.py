"""Training table, manifest and the properties they refer to."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from data_prepare import properties
from data_prepare.dataset.table import join_tables, read_table, write_table
from data_prepare.errors import InputError
from data_prepare.sources.manifest import read_manifest

ROWS = [("NA", "GG", "mdCATH", "train"), ("1e10", "AA<eos><cls>W", "proteinflow_sabdab", "test")]


def frame(rows=ROWS):
    return pd.DataFrame(rows, columns=["name", "modify_seq", "source", "label"])


def test_round_trip_keeps_names_that_look_like_numbers(tmp_path):
    write_table(tmp_path / "t.csv", frame())
    table = read_table(tmp_path / "t.csv")
    assert table["name"].tolist() == ["NA", "1e10"]
    assert table["group"].tolist() == ["ATLAS_GPCRmd_PED_mdCATH", "Proteinflow"]


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("name", "NA", "there twice"),
        ("modify_seq", "", "modify_seq is empty"),
        ("source", "PDB", "unknown source"),
        ("label", "dev", "neither train nor test"),
    ],
)
def test_bad_rows_are_named(tmp_path, column, value, reason):
    table = frame()
    table.loc[1, column] = value
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InputError, match=rf"t\.csv: 1 rows, first in line 3: .*{reason}"):
        read_table(tmp_path / "t.csv")


def test_missing_column_and_file(tmp_path):
    frame().drop(columns="label").to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InputError, match="column label is missing"):
        read_table(tmp_path / "t.csv")
    (tmp_path / "e.csv").write_text("")
    with pytest.raises(InputError, match="is empty"):
        read_table(tmp_path / "e.csv")
    with pytest.raises(InputError, match="no such table"):
        read_table(tmp_path / "none.csv")


def test_join_tables(tmp_path):
    write_table(tmp_path / "a.csv", frame())
    write_table(tmp_path / "b.csv", frame([("x", "GW", "IDRome", "train")]))
    joined = join_tables([tmp_path / "b.csv", tmp_path / "a.csv"])
    assert joined["name"].tolist() == ["x", "NA", "1e10"]
    assert joined.index.tolist() == [0, 1, 2]
    assert joined.columns.tolist() == ["name", "modify_seq", "source", "label", "group"]
    assert joined["group"].tolist() == ["IDRome", "ATLAS_GPCRmd_PED_mdCATH", "Proteinflow"]
    write_table(tmp_path / "c.csv", frame([("1e10", "GW", "IDRome", "train")]))
    with pytest.raises(InputError, match=r"c\.csv: entry 1e10 is in .*a\.csv too"):
        join_tables([tmp_path / "b.csv", tmp_path / "a.csv", tmp_path / "c.csv"])
    with pytest.raises(InputError, match="at least one"):
        join_tables([])


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


MANIFEST = "name,source,label,topology,trajectory\nx,IDRome,train,x.pdb,x.xtc\ny,Proteinflow,test,y.pdb,\n"


def test_manifest(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text(MANIFEST)
    first, second = read_manifest(path)
    assert (first.name, first.topology, first.trajectories) == ("x", tmp_path / "x.pdb", (tmp_path / "x.xtc",))
    assert second.trajectories == ()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("y,Proteinflow", "x,Proteinflow", "line 3, entry x: names are unique"),
        ("IDRome", "Idrome", "unknown source Idrome"),
        (",test,", ",dev,", "label dev"),
        ("x.xtc", "", "structures belong to Proteinflow"),
        (",topology", ",top", "column topology"),
        (MANIFEST.split("\n", 1)[1], "", "no entries"),
    ],
)
def test_bad_manifests(tmp_path, old, new, reason):
    path = tmp_path / "m.csv"
    path.write_text(MANIFEST.replace(old, new))
    with pytest.raises(InputError, match=reason):
        read_manifest(path)


def test_examples(examples):
    """Each group has at least three training entries and one test entry, no sequence in both."""
    entries = read_manifest(examples / "examples.csv")
    for group in properties.GROUPS:
        labels = [entry.label for entry in entries if entry.source == group]
        assert labels.count("train") >= 3
        assert labels.count("test") >= 1
    for entry in entries:
        assert entry.topology.is_file(), entry.topology
        assert all(path.is_file() for path in entry.trajectories), entry.trajectories
