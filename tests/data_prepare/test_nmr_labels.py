"""Labels of slow motions: their meaning, the table, RelaxDB as published, the rule from relaxation data."""

from __future__ import annotations

import json
import math
import pickle
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prepare.errors import InputError
from data_prepare.nmr.assignments import assignment_table, mask_termini, read_assignments, targets, write_assignments
from data_prepare.nmr.relaxation import excess_r2, read_relaxation, relaxation_codes, scale_to_rigid
from data_prepare.nmr.relaxdb import read_relaxdb, read_split_list, select_entries

RELAXDB = "golden/relaxdb/RelaxDB_133x_22jan2025.json"
CPMG = "golden/relaxdb/RelaxDB_CPMG_22jan2025.json"


@pytest.mark.parametrize(
    ("label", "masked"),
    [
        ("..AA.p.A..", "ttAA.p.Att"),
        ("p.pA", "tttA"),
        ("A", "A"),
        ("", ""),
        (".p.", "ttt"),
        ("t.A.x", "t.A.x"),
        ("P.A.P", "P.A.P"),
    ],
)
def test_mask_termini(label, masked):
    assert mask_termini(label) == masked
    assert mask_termini(masked) == masked


@pytest.mark.parametrize(
    ("form", "label", "options", "expected"),
    [
        ("missing", "A.ptxvb^A", {}, [0, 1, -1, -1, -1, 0, 0, 0, 0]),
        ("relaxdb", "A.ptxvb^A", {}, [0, 1, -1, -1, -1, 0, 1, 1, 0]),
        ("relaxdb", "A.ptxvb^A", {"missing_only": True}, [0, 1, -1, -1, -1, 0, 0, 0, 0]),
        ("relaxdb", "A.ptxvb^A", {"rex_only": True}, [0, -1, -1, -1, -1, 0, 1, 1, 0]),
        ("cpmg", "A.PtNXYAA", {}, [0, 1, -1, -1, -1, 1, 0, 0, 0]),
        ("cpmg", "A.ptNXYAA", {"unsuppressed": True}, [0, 1, -1, -1, -1, 1, 1, 0, 0]),
        ("cpmg", "A.ptNXYAA", {"missing_only": True}, [0, 1, -1, -1, -1, 0, 0, 0, 0]),
        ("cpmg", "A.ptNXYAA", {"rex_only": True}, [0, -1, -1, -1, -1, 1, 0, 0, 0]),
        ("missing", ".A......p", {}, [-1, 0, -1, -1, -1, -1, -1, -1, -1]),
    ],
)
def test_targets(form, label, options, expected):
    target = targets(label, "GGPGGGGGG", form, **options)
    assert target.dtype == np.int8
    assert target.tolist() == expected


def test_prolines_are_never_evaluated_whatever_their_character():
    assert targets("A.^pA", "PPPGG", "relaxdb").tolist() == [-1, -1, -1, 0, 0]


@pytest.mark.parametrize(
    ("label", "options", "reason"),
    [
        ("AA", {}, "label of 2 characters for a sequence of 3 residues"),
        ("AXA", {}, "label has 'X'"),
        ("AAA", {"missing_only": True, "rex_only": True}, "missing-only excludes"),
        ("AAA", {"missing_only": True, "unsuppressed": True}, "missing-only excludes"),
    ],
)
def test_targets_refuse(label, options, reason):
    with pytest.raises(InputError, match=reason):
        targets(label, "GGG", "relaxdb", **options)


def test_table_is_written_and_read(tmp_path):
    table = assignment_table([("15000", "GAPX", ".App"), ("NA", "GG", "AA")], "refdb").assign(cluster=["c", ""])
    write_assignments(tmp_path / "t.csv", table)
    pd.testing.assert_frame_equal(read_assignments(tmp_path / "t.csv"), table)
    assert (tmp_path / "t.csv").read_text().splitlines()[0] == "entry_ID,sequence,label,source,cluster"
    with_dssp = table.assign(dssp=["EE?H", ""])
    write_assignments(tmp_path / "t.csv", with_dssp.assign(more=1))
    pd.testing.assert_frame_equal(read_assignments(tmp_path / "t.csv"), with_dssp)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a,GG,AA,refdb,\na,GG,AA,refdb,", "entry a: duplicate"),
        ("a,GG,AA,bmrb,", "entry a: unknown source 'bmrb'"),
        ("a,,,refdb,", "entry a: the sequence is empty"),
        ("a,Gg,AA,refdb,", "entry a: residue 'g'"),
        ("a,GG,A,refdb,", "entry a: label of 1 characters"),
        ("a,GG,AX,refdb,", "entry a: label has 'X'"),
        ("a,GG,AA,refdb,\n,GG,AA,refdb,", "line 3: entry_ID is empty"),
        ("", "no entry"),
    ],
)
def test_bad_tables(tmp_path, line, reason):
    path = tmp_path / "t.csv"
    path.write_text(f"entry_ID,sequence,label,source,cluster\n{line}\n")
    with pytest.raises(InputError, match=rf"t\.csv.*{reason}"):
        read_assignments(path)


def test_dssp_is_empty_or_as_long_as_the_sequence(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("entry_ID,sequence,label,source,cluster,dssp\na,GG,AA,refdb,,\nb,GG,AA,refdb,,H\n")
    with pytest.raises(InputError, match=r"t\.csv: entry b: dssp of 1 letters"):
        read_assignments(path)


def _targets(table, form, **options):
    rows = zip(table["entry_ID"], table["label"], table["sequence"], strict=True)
    return {name: targets(label, sequence, form, **options) for name, label, sequence in rows}


def _counts(table, form, **options):
    joined = np.concatenate(list(_targets(table, form, **options).values()))
    return int((joined >= 0).sum()), int((joined == 1).sum())


def test_relaxdb_as_published(shared):
    table = read_relaxdb(shared / RELAXDB)
    letters = {"A": 9645, "v": 2030, "x": 1603, "^": 942, ".": 749, "p": 734, "t": 392, "b": 160}
    assert len(table) == 133
    assert Counter("".join(table["label"])) == letters
    assert sum(letters.values()) == 16255
    assert _counts(table, "relaxdb") == (13332, 1657)
    assert _counts(table, "relaxdb", missing_only=True) == (13332, 555)
    assert _counts(table, "relaxdb", rex_only=True) == (12777, 1102)
    few = {name for name, target in _targets(table, "relaxdb").items() if (target == 1).sum() < 2}
    assert few == {"5839", "6470", "ORC2WH", "PLEXINB1"}


def test_cpmg_as_published(shared):
    table = read_relaxdb(shared / CPMG, "cpmg")
    assert len(table) == 10
    assert _counts(table, "cpmg") == (1685, 453)
    assert _counts(table, "cpmg", unsuppressed=True) == (1685, 524)
    assert _counts(table, "cpmg", missing_only=True) == (1685, 88)
    assert _counts(table, "cpmg", rex_only=True) == (1597, 365)


@pytest.mark.parametrize(
    ("file", "source", "split", "found", "absent"),
    [
        (RELAXDB, "relaxdb", "relaxdb.txt", 111, []),
        (RELAXDB, "relaxdb", "relaxdb_WITH_PHOS.txt", 133, ["28132", "DBHD1", "DBHD2"]),
        (CPMG, "cpmg", "relaxdb-cpmg.txt", 10, ["GRB2SH2_CPMG"]),
    ],
)
def test_published_split_lists(shared, file, source, split, found, absent):
    names = read_split_list(shared / "golden/relaxdb" / split)
    table, missing = select_entries(read_relaxdb(shared / file, source), names)
    assert (len(table), missing) == (found, absent)


PROTEIN = {"entry_ID": 15451, "sequence": "GGP", "label": "A^p"}


def _json(tmp_path, columns):
    (tmp_path / "r.json").write_text(columns if isinstance(columns, str) else json.dumps(columns))
    return tmp_path / "r.json"


def test_json_and_pickles_give_the_same_table(tmp_path):
    other = {"entry_ID": "ACBP", "sequence": "GA", "label": "A."}
    columns = {key: {"7": PROTEIN[key], "x": other[key]} for key in PROTEIN} | {"R1": {"7": [1.0], "x": None}}
    expected = read_relaxdb(_json(tmp_path, columns))
    assert expected["entry_ID"].tolist() == ["15451", "ACBP"]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/1.pkl").write_bytes(pickle.dumps(PROTEIN | {"entry_ID": np.int64(15451), "R1": np.ones(3)}))
    (tmp_path / "folder/2.pickle").write_bytes(pickle.dumps(other | {"label": np.array(["A", "."])}))
    pd.testing.assert_frame_equal(read_relaxdb(tmp_path / "folder"), expected)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ("{", "not a readable JSON"),
        ("[" * 100000, "not a readable JSON"),
        ("[1]", "expected .column"),
        ({"entry_ID": {"0": "a"}, "sequence": {"0": "G"}}, "expected .column"),
        ({"entry_ID": {"0": "a"}, "sequence": {"1": "G"}, "label": {"0": "A"}}, "not the same rows"),
        (
            {"entry_ID": {"0": "a"}, "sequence": {"0": None}, "label": {"0": "A"}},
            "row 0: sequence and label of entry a",
        ),
        ({"entry_ID": {"0": None}, "sequence": {"0": "G"}, "label": {"0": "A"}}, "row 0: entry_ID is None"),
        ({"entry_ID": {"0": "a"}, "sequence": {"0": "G"}, "label": {"0": "Q"}}, "entry a: label has 'Q'"),
        ({"entry_ID": {}, "sequence": {}, "label": {}}, "no entry"),
    ],
)
def test_bad_json(tmp_path, columns, reason):
    with pytest.raises(InputError, match=rf"r\.json.*{reason}"):
        read_relaxdb(_json(tmp_path, columns))


def test_bad_pickles(tmp_path):
    with pytest.raises(InputError, match=r"no file \*\.pkl"):
        read_relaxdb(tmp_path)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(print))  # names a function
    with pytest.raises(InputError, match=r"a\.pkl.*names builtins\.print"):
        read_relaxdb(tmp_path)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"entry_ID": "a", "sequence": "G"}))
    with pytest.raises(InputError, match=r"a\.pkl.*expected a mapping with entry_ID, sequence, label"):
        read_relaxdb(tmp_path)


def test_bad_split_lists(tmp_path):
    with pytest.raises(InputError, match="no such split list"):
        read_split_list(tmp_path / "none.txt")
    (tmp_path / "l.txt").write_text("\n \n")
    with pytest.raises(InputError, match="names no entry"):
        read_split_list(tmp_path / "l.txt")
    (tmp_path / "l.txt").write_text("a\n\nb\r\na\n")
    assert read_split_list(tmp_path / "l.txt") == ["a", "b"]


# ---- relaxation


def _plain_label(sequence, assigned, r1, r2, noe, scaled):
    """The rule, residue by residue."""
    excess = [b - a * s for a, b, s in zip(r1, r2, scaled, strict=True)]
    known = [value for value in excess if not math.isnan(value)]
    mean = sum(known) / len(known) if known else 0.0
    deviation = math.sqrt(sum((value - mean) ** 2 for value in known) / len(known)) if known else 0.0
    label = ""
    for k, residue in enumerate(sequence):
        fast, slow = noe[k] <= 0.65, excess[k] > max(1.0, deviation)
        if residue == "P":
            label += "p"
        elif not assigned[k]:
            label += "."
        elif math.isnan(scaled[k]):
            label += "v" if fast else "t"
        elif math.isnan(excess[k]):
            label += "v" if fast else "x"
        else:
            label += {(True, True): "b", (False, True): "^", (True, False): "v", (False, False): "A"}[fast, slow]
    return label


maybe = st.one_of(st.just(math.nan), st.floats(0.1, 30))
residue = st.tuples(
    st.sampled_from("GAP"), st.booleans(), maybe, maybe, st.sampled_from([math.nan, 0.3, 0.65, 0.651, 0.8]), maybe
)


@given(st.lists(residue, min_size=1, max_size=12))
def test_rule_equals_its_plain_form(residues):
    sequence, *arrays = zip(*residues, strict=True)
    assert relaxation_codes("".join(sequence), *arrays) == _plain_label(sequence, *arrays)


def test_order_and_limits_of_the_rule():
    nan = math.nan
    rows = [  # residue, assigned, R1, R2, NOE, scaled prediction, character; dR2 = R2 - 10
        ("P", False, 1, 20, 0.8, 10, "p"),
        ("G", False, 1, 20, 0.3, 10, "."),
        ("G", True, 1, 20, 0.65, nan, "v"),
        ("G", True, 1, 20, 0.66, nan, "t"),
        ("G", True, 1, nan, 0.65, 10, "v"),
        ("G", True, nan, 20, nan, 10, "x"),
        ("G", True, 1, 20, 0.65, 10, "b"),
        ("G", True, 1, 20, nan, 10, "^"),
        ("G", True, 1, 10, 0.65, 10, "v"),
        ("G", True, 1, 10, 0.66, 10, "A"),
    ]
    *columns, expected = zip(*rows, strict=True)
    assert relaxation_codes("".join(columns[0]), *columns[1:]) == "".join(expected)
    one = np.ones(4)  # SD 0.43 of these excesses is less than 1: the limit is 1, and 1 itself is not above it
    assert relaxation_codes("GGGG", one, one, [10, 10, 10, 11], one, 10 * one) == "AAAA"
    assert relaxation_codes("GGGG", one, one, [10, 10, 10, 11.01], one, 10 * one) == "AAA^"


def test_published_labels_are_reproduced(shared):
    """98.05 % with the published scaling of the prediction; the project's own does not do worse."""
    data = pd.read_json(shared / RELAXDB)
    letters = agreeing = agreeing_scaled = 0
    factors = []
    for entry in data.itertuples():
        assigned = [peak != "." for peak in entry.missing_peaks]
        r1, r2, noe, raw, published = (
            np.array(values, float)
            for values in (entry.R1, entry.R2, entry.NOE, entry.raw_R2_R1_pred, entry.scaled_R2_R1_pred)
        )
        np.testing.assert_allclose(excess_r2(r1, r2, published), np.array(entry.dR2, float), atol=1e-6)
        scaled = scale_to_rigid(raw, r1, r2, noe)
        factors.append(np.nanmedian(scaled / published))
        letters += len(entry.label)
        rule = relaxation_codes(entry.sequence, assigned, r1, r2, noe, published)
        agreeing += sum(a == b for a, b in zip(rule, entry.label, strict=True))
        rule = relaxation_codes(entry.sequence, assigned, r1, r2, noe, scaled)
        agreeing_scaled += sum(a == b for a, b in zip(rule, entry.label, strict=True))
    assert (letters, agreeing) == (16255, 15938)
    assert agreeing_scaled >= 0.98 * letters
    assert np.median(np.abs(np.array(factors) - 1)) < 0.02


def test_scale_to_rigid():
    predicted, noe = np.array([5.0, 5, 10, 5, np.nan]), np.array([0.8, 0.65, 0.66, 0.3, 0.8])
    r1, r2 = np.ones(5), np.array([10.0, 1, 20, 1, 1])
    np.testing.assert_allclose(scale_to_rigid(predicted, r1, r2, noe), [10, 10, 20, 10, np.nan])
    assert np.isnan(scale_to_rigid(predicted, r1 * np.nan, r2, noe)).all()
    np.testing.assert_allclose(scale_to_rigid([5.0], [1.0], [1.0], [0.3]), [1.0])  # none is rigid: all are taken


def test_lengths_are_checked():
    one = np.ones(3)
    with pytest.raises(InputError, match=r"NOE of shape \(2,\) for a sequence of 3 residues"):
        relaxation_codes("GGG", one, one, one, one[:2], one)


HEADER = "entry_ID,residue,assigned,R1,R2,NOE,R2_R1_pred\n"


def test_own_measurements(tmp_path):
    path = tmp_path / "m.csv"
    rigid = "a,G,1,1,10,0.8,5\n" * 3
    path.write_text(
        HEADER
        + rigid
        + "a,G,1,1,30,0.8,5\na,P,0,,,,\na,G,0,,,,5\na,G,1,1,10,0.4,5\nb,G,1,,,,\nc,G,1,,,0.8,5\nc,G,1,,,,\n"
    )
    table = read_relaxation(path)
    assert table[["entry_ID", "sequence", "label", "source"]].to_numpy().tolist() == [
        ["a", "GGGGPGG", "AAA^p.v", "relaxdb"],
        ["b", "G", "t", "relaxdb"],
        ["c", "GG", "xt", "relaxdb"],  # a prediction, but no rates to scale it by: no data, not outside the model
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a,G,1,fast,1,1,1", "line 2: R1 is 'fast'"),
        ("a,G,,1,1,1,1", "line 2: assigned is ''"),
        ("a,G,2,1,1,1,1", "line 2: assigned is '2'"),
        ("a,GG,1,1,1,1,1", "line 2: entry a: a residue is not one letter"),
        ("a,GG,1,1,1,1,1\na,,1,1,1,1,1", "line 2: entry a: a residue is not one letter"),
        ("a,*,1,1,1,1,1", r"entry a: residue '\*'"),
        ("a,G,1,1,1,1,1\n,G,1,1,1,1,1", "line 3: entry_ID is empty"),
        ("a,G,1,1,1,1,1\nb,G,1,1,1,1,1\na,G,1,1,1,1,1", "line 4: entry a was there before"),
        ("a,G,1,1,inf,1,1", "line 2: R2 is 'inf'; expected a finite number"),
        ("a,G,1,1,1,1,1\na,G,1,0,1,1,1", "line 3: R1 is '0'; expected a number above 0"),
        ("a,G,1,1,-2,1,1", "line 2: R2 is '-2'; expected a number above 0"),
        ("", "no entry"),
    ],
)
def test_bad_measurements(tmp_path, line, reason):
    path = tmp_path / "m.csv"
    path.write_text(f"{HEADER}{line}\n")
    with pytest.raises(InputError, match=rf"m\.csv.*{reason}"):
        read_relaxation(path)
