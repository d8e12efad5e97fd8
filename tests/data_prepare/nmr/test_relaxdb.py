"""RelaxDB and RelaxDB-CPMG as published, and damaged files."""

from __future__ import annotations

import json
import pickle
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from refusals import refused

from data_prepare.nmr.assignments import table_targets
from data_prepare.nmr.relaxdb import read_relaxdb, read_split_list

RELAXDB = "golden/relaxdb/RelaxDB_133x_22jan2025.json"
CPMG = "golden/relaxdb/RelaxDB_CPMG_22jan2025.json"
PROTEIN = {"entry_ID": 15451, "sequence": "GGP", "label": "A^p"}


@pytest.mark.parametrize(
    ("file", "source", "option", "expected"),
    [
        (RELAXDB, "relaxdb", None, (133, 13332, 1657)),
        (RELAXDB, "relaxdb", "missing_only", (133, 13332, 555)),
        (RELAXDB, "relaxdb", "rex_only", (133, 12777, 1102)),
        (CPMG, "cpmg", None, (10, 1685, 453)),
        (CPMG, "cpmg", "unsuppressed", (10, 1685, 524)),
        (CPMG, "cpmg", "missing_only", (10, 1685, 88)),
        (CPMG, "cpmg", "rex_only", (10, 1597, 365)),
    ],
)
def test_published_counts(shared, file, source, option, expected):
    """Entries, evaluated residues, positives."""
    table = read_relaxdb(shared / file, source)
    target = np.concatenate(table_targets(table, **({option: True} if option else {})))
    assert (len(table), int((target >= 0).sum()), int((target == 1).sum())) == expected


def test_published_codes(shared):
    table = read_relaxdb(shared / RELAXDB)
    letters = {"A": 9645, "v": 2030, "x": 1603, "^": 942, ".": 749, "p": 734, "t": 392, "b": 160}
    assert Counter("".join(table["label"])) == letters
    few = table["entry_ID"][[(target == 1).sum() < 2 for target in table_targets(table)]]
    assert set(few) == {"5839", "6470", "ORC2WH", "PLEXINB1"}


def test_json_and_pickles_give_the_same_table(tmp_path):
    other = {"entry_ID": "ACBP", "sequence": "GA", "label": "A."}
    columns = {key: {"7": PROTEIN[key], "x": other[key]} for key in PROTEIN} | {"R1": {"7": [1.0], "x": None}}
    (tmp_path / "r.json").write_text(json.dumps(columns))
    expected = read_relaxdb(tmp_path / "r.json")
    assert expected["entry_ID"].tolist() == ["15451", "ACBP"]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/1.pkl").write_bytes(pickle.dumps(PROTEIN | {"entry_ID": np.int64(15451), "R1": np.ones(3)}))
    (tmp_path / "folder/2.pickle").write_bytes(pickle.dumps(other | {"label": np.array(["A", "."])}))
    pd.testing.assert_frame_equal(read_relaxdb(tmp_path / "folder"), expected)


@pytest.mark.parametrize(
    "columns",
    [
        "{",
        "[" * 100000,
        [1],
        {"entry_ID": {"0": "a"}, "sequence": {"0": "G"}},
        {"entry_ID": {"0": "a"}, "sequence": {"1": "G"}, "label": {"0": "A"}},
        {"entry_ID": {"0": "a"}, "sequence": {"0": None}, "label": {"0": "A"}},
        {"entry_ID": {"0": None}, "sequence": {"0": "G"}, "label": {"0": "A"}},
        {"entry_ID": {}, "sequence": {}, "label": {}},
    ],
)
def test_bad_json(tmp_path, columns):
    path = tmp_path / "r.json"
    refused(lambda: read_relaxdb(path), path)
    path.write_text(columns if isinstance(columns, str) else json.dumps(columns))
    refused(lambda: read_relaxdb(path), path)


def test_bad_pickles(tmp_path):
    refused(lambda: read_relaxdb(tmp_path), tmp_path)
    for content in (print, {"entry_ID": "a", "sequence": "G"}, "text"):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
        refused(lambda: read_relaxdb(tmp_path), tmp_path / "a.pkl")


def test_split_lists(tmp_path):
    path = tmp_path / "l.txt"
    for content in (None, b"\n \n", b"\xff\xfe\x00"):
        if content is not None:
            path.write_bytes(content)
        refused(lambda: read_split_list(path), path)
    path.write_text("a\n\nb\r\na\n")
    assert read_split_list(path) == ["a", "b"]
