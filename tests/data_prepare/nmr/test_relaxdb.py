"""RelaxDB and RelaxDB-CPMG as published, and damaged files."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from refusals import refused

from data_prepare.errors import InputWarning
from data_prepare.nmr.assignments import read_assignments, table_targets, write_assignments
from data_prepare.nmr.relaxdb import add_dssp, read_relaxdb, read_split_list, select_entries
from data_prepare.nmr.splits import bmrb_id

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


DOWNLOADED = "golden/relaxdb/as_downloaded"


@pytest.mark.parametrize(("source", "file"), [("relaxdb", RELAXDB), ("cpmg", CPMG)])
def test_files_as_downloaded(shared, tmp_path, source, file):
    """The zipped JSON, and the pickles that hold both sets, zipped and in a folder, are the JSON."""
    pickles = shared / DOWNLOADED / "RelaxDB_pkls_22jan2025.zip"
    with zipfile.ZipFile(pickles) as archive:
        archive.extractall(tmp_path / "unpacked")
    (tmp_path / "unpacked/__MACOSX").mkdir()
    (tmp_path / "unpacked/__MACOSX/._1.pkl").write_bytes(b"notes of macOS")
    expected = read_relaxdb(shared / file, source)
    zipped = read_relaxdb(shared / DOWNLOADED / f"{file.rpartition('/')[2]}.zip", source)
    pd.testing.assert_frame_equal(zipped, expected)
    columns = ["entry_ID", "sequence", "label", "source"]

    def comparable(table):
        """Prolines of one protein are `p` in the JSON, `P` in its pickle."""
        return (
            table[columns]
            .replace({"label": "P"}, {"label": "p"}, regex=True)
            .sort_values("entry_ID")
            .to_numpy()
            .tolist()
        )

    names = sorted(expected["entry_ID"])
    for path in (pickles, tmp_path / "unpacked"):
        with pytest.warns(InputWarning, match="entries of other sets left out"):
            found = read_relaxdb(path, source)
        assert comparable(found) == comparable(expected)
        assert set(read_relaxdb(path, source, names[:3])["entry_ID"]) == set(names[:3])  # no label of others is checked


def by_columns(path, *proteins, zipped=False):
    columns = {name: {str(k): protein.get(name) for k, protein in enumerate(proteins)} for name in proteins[0]}
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("r.json", json.dumps(columns))
    else:
        path.write_text(json.dumps(columns))
    return path


def test_all_field_strengths_are_entries(tmp_path):
    protein = {"entry_ID": 15451, "sequence": "GGP", "field_strength": 600}
    other = {"entry_ID": "ACBP", "sequence": "GOA", "label": "A.A", "field_strength": None}
    rows = [protein | {"label": "A^p"}, protein | {"label": "AAp", "field_strength": 800.5}, other]
    table = read_relaxdb(by_columns(tmp_path / "r.json", *rows))
    assert table["entry_ID"].tolist() == ["15451_600MHz", "15451_800.5MHz", "ACBP"]
    assert table["field_strength"].tolist() == ["600", "800.5", ""]
    for name in ("15451_800.5MHz", "15451"):
        named = read_relaxdb(by_columns(tmp_path / "r.json", *rows), names=[name])
        assert named["entry_ID"].tolist() == ["15451_600MHz", "15451_800.5MHz"]
        assert select_entries(named, [name])[0]["entry_ID"].tolist() == [n for n in named["entry_ID"] if name in n]
    assert table["sequence"].tolist() == ["GGP", "GGP", "GXA"]  # O is none of the twenty
    assert [bmrb_id(name) for name in table["entry_ID"]] == ["15451", "15451", None]
    chosen, absent = select_entries(table, ["15451", "BPTI"])
    assert (chosen["label"].tolist(), absent) == (["A^p", "AAp"], ["BPTI"])
    write_assignments(tmp_path / "t.csv", table)
    pd.testing.assert_frame_equal(read_assignments(tmp_path / "t.csv"), table)
    refused(
        lambda: read_relaxdb(by_columns(tmp_path / "r.json", *rows[:1], rows[0])), tmp_path / "r.json", "15451_600MHz"
    )


def test_field_strengths_of_relaxdb(shared):
    strengths = Counter(read_relaxdb(shared / RELAXDB)["field_strength"])
    assert strengths == {"600": 53, "500": 35, "800": 22, "700": 10, "750": 8, "900": 2, "950": 1, "850": 1, "400": 1}


def test_dssp_as_downloaded(shared):
    """The last string of the right length of dssp.csv is the column DSSP of RelaxDB."""
    table = read_relaxdb(shared / DOWNLOADED / "RelaxDB_with_other_metrics_22jan2025.json.zip")
    assert set("".join(table["dssp"])) == {"C", "E", "H"}
    filled = add_dssp(table.drop(columns="dssp"), shared / DOWNLOADED / "dssp.csv.gz")
    assert filled["dssp"].tolist() == table["dssp"].tolist()


def test_dssp_of_a_protein_stands_for_its_measurements(tmp_path):
    """The last string of the right length; empty ones, and null in a JSON, are none."""
    table = pd.DataFrame({"entry_ID": ["1_600MHz", "1_800MHz", "2", "3"], "sequence": ["GGP", "GGP", "GA", "GA"]})
    csv, columns = tmp_path / "d.csv", tmp_path / "d.json"
    csv.write_text("PDB,dssp\n1,EEE\n1,CCH\n1,CCHH\n2,\n3,HH\n1_800MHz,EEE\n")
    columns.write_text(
        json.dumps({"entry_ID": dict(enumerate("1123")), "dssp": dict(enumerate(["EEE", "CCH", None, "HH"]))})
    )
    assert add_dssp(table, csv)["dssp"].tolist() == ["CCH", "EEE", "", "HH"]
    assert add_dssp(table, columns)["dssp"].tolist() == ["CCH", "CCH", "", "HH"]


@pytest.mark.parametrize("members", [{}, {"a.json": "{}", "b.json": "{}"}, {"a.pkl": "no pickle"}, {"a.json": "["}])
def test_bad_archives(tmp_path, members):
    path = tmp_path / "r.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    refused(lambda: read_relaxdb(path), path)


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
