"""Missing assignments from RefDB: labels, coverage, rates beside the published ones."""

from __future__ import annotations

import importlib.util

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prepare.errors import InputError
from data_prepare.nmr.assignments import coverage, mask_termini, missing_codes, read_assignments, targets
from data_prepare.nmr.refdb import missing_rates, rates_text, read_refdb, refdb_codes

needs_makeshift = pytest.mark.skipif(importlib.util.find_spec("makeshift") is None, reason="makeshift-nmr is absent")
HEADER = "bmrb_id,pdb_id,seq_id,aa,ss,H,HA,N,CA,CB,C\n"


def write_entry(name, residues, first=1):
    """Rows of one entry from (amino acid, structure, H, N)."""
    return "".join(
        f"{name},1ABC_,{number},{aa},{ss},{h},,{n},,,\n" for number, (aa, ss, h, n) in enumerate(residues, first)
    )


@given(st.lists(st.tuples(st.sampled_from("GAP"), st.booleans()), max_size=15))
def test_missing_label_is_the_plain_rule(residues):
    sequence = "".join(residue for residue, _ in residues)
    assigned = [is_assigned for _, is_assigned in residues]
    plain = "".join("p" if r == "P" else "A" if a else "." for r, a in residues)
    assert missing_codes(sequence, assigned) == mask_termini(plain)
    amides = [a for r, a in residues if r != "P"]
    assert coverage(sequence, assigned) == pytest.approx(sum(amides) / len(amides) if amides else 0)


def test_unknown_residues_are_no_sign_of_exchange():
    assert missing_codes("XGAGXGAX", [0, 0, 1, 0, 0, 0, 1, 0]) == "ttA.x.At"
    assert missing_codes("GXG", [1, 1, 1]) == "AAA"
    assert coverage("XGPG", [0, 1, 0, 1]) == pytest.approx(2 / 3)


@pytest.fixture
def table(tmp_path):
    good, no_n = ("B", 8.1, 120.0), ("H", 8.1, "")
    path = tmp_path / "r.csv"
    path.write_text(
        HEADER
        + write_entry(
            "07", [("G", "C", "", ""), *[("A", *good)] * 4, ("H", *no_n), ("P", "U", "", ""), ("V", *good)], 3
        )
        + write_entry("8", [("A", *no_n), ("A", *good)])
        + write_entry("9", [("U", "****", "", ""), *[("L", *good)] * 9, ("U", "****", "", ""), *[("L", *good)] * 9])
    )
    return path


def test_labels(table):
    residues = read_refdb(table)
    labels = refdb_codes(residues, 0.7)
    assert labels["entry_ID"].tolist() == ["07", "9"]
    assert labels["sequence"].tolist() == ["GAAAAHPV", "XLLLLLLLLLXLLLLLLLLL"]
    assert labels["label"].tolist() == ["tAAAA.pA", "tAAAAAAAAAxAAAAAAAAA"]
    assert labels["dssp"].tolist() == ["CEEEEH?E", "?EEEEEEEEE?EEEEEEEEE"]
    assert set(labels["source"]) == {"refdb"}
    assert refdb_codes(residues, 5 / 7)["entry_ID"].tolist() == ["07", "9"]  # the limit itself is enough
    assert refdb_codes(residues, 0.72)["entry_ID"].tolist() == ["9"]


def test_rates(table):
    rates = missing_rates(read_refdb(table), (0.5, 0.8)).set_index(["min_coverage", "kind", "group"])
    assert rates.loc[(0.5, "all", "all"), ["entries", "residues", "missing"]].tolist() == [3, 25, 1]
    assert rates.loc[(0.5, "structure", "helix"), ["residues", "missing", "rate"]].tolist() == [1, 1, 1.0]
    assert rates.loc[(0.5, "residue", "H"), "rate"] == 1
    assert rates.loc[(0.5, "residue", "H"), "published"] == 0.113
    assert rates.loc[(0.8, "all", "all"), ["entries", "residues", "missing"]].tolist() == [1, 18, 0]
    assert (0.8, "residue", "H") not in rates.index
    text = rates_text(rates.reset_index()).splitlines()
    assert text[1].split() == ["coverage", "50%", "80%", "published"]
    assert text[2].split() == ["entries", "3", "1"]
    assert [line.split() for line in text if line.startswith("strand")] == [["strand", "0.00", "0.00", "3.0"]]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("bmrb_id,seq_id\n1,1\n", "not a table of backbone shifts"),
        (HEADER, "none at all"),
        (HEADER + "1,x,1,,C,8,,120,,,\n", "rows without bmrb_id or aa"),
        (HEADER + "1,x,1,G,C,high,,120,,,\n", "not a table of backbone shifts"),
        (
            HEADER + write_entry("1", [("G", "C", 8, 120)]) + write_entry("1", [("G", "C", 8, 120)], 3),
            "entry 1: residues",
        ),
        (
            HEADER + "".join(write_entry(name, [("G", "C", 8, 120)], k) for name, k in (("6", 1), ("7", 1), ("6", 2))),
            "entry 6: res",
        ),
    ],
)
def test_bad_tables(tmp_path, text, reason):
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(InputError, match=rf"r\.csv.*{reason}"):
        read_refdb(tmp_path / "r.csv")


def test_bad_coverage_and_no_entries(table):
    residues = read_refdb(table)
    with pytest.raises(InputError, match="coverage 0: expected"):
        refdb_codes(residues, 0)
    with pytest.raises(InputError, match="none of 1 entries has 90% of its amides"):
        refdb_codes(residues[residues["entry_ID"] == "8"], 0.9)
    with pytest.raises(InputError, match="no such table"):
        read_refdb(table.with_name("none.csv"))


@needs_makeshift
def test_refdb_as_a_whole():
    """Numbers of the report: close to the published training set, in the same order."""
    residues = read_refdb()
    rates = missing_rates(residues).set_index(["min_coverage", "kind", "group"])
    whole = rates.xs("all", level="kind")
    assert whole["entries"].tolist() == [1678, 1578, 1387, 1018]
    assert whole.loc[(0.8, "all"), ["residues", "missing"]].tolist() == [152419, 7228]
    at_80 = rates.loc[0.8]["rate"]
    assert at_80["structure"]["coil"] > at_80["structure"]["strand"] > at_80["structure"]["helix"]
    assert at_80["residue"].idxmax() == "H"
    labels = refdb_codes(residues)
    joined = np.concatenate([targets(*row, "missing") for row in zip(labels["label"], labels["sequence"], strict=True)])
    assert (int((joined >= 0).sum()), int((joined == 1).sum())) == (152419, 7228)


def test_example_table(examples):
    table = read_assignments(examples / "nmr" / "refdb_labels.csv")
    assert len(table) == 200
    assert (table["cluster"] != "").all()
    assert set(table["source"]) == {"refdb"}
    assert (examples / "nmr" / "refdb_labels.csv").stat().st_size < 100_000


@needs_makeshift
def test_example_table_holds_labels_of_refdb(examples):
    table = read_assignments(examples / "nmr" / "refdb_labels.csv").set_index("entry_ID")
    whole = refdb_codes(read_refdb()).set_index("entry_ID").loc[table.index]
    pd.testing.assert_frame_equal(table[["sequence", "label", "dssp"]], whole[["sequence", "label", "dssp"]])
