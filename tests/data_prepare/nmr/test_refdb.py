"""Missing assignments from RefDB: labels, coverage, rates beside the published ones."""

from __future__ import annotations

import importlib.util

import numpy as np
import pandas as pd
import pytest
from refusals import refused

from data_prepare.nmr.assignments import read_assignments, targets
from data_prepare.nmr.refdb import missing_rates, rates_text, read_refdb, refdb_codes

needs_makeshift = pytest.mark.skipif(importlib.util.find_spec("makeshift") is None, reason="makeshift-nmr is absent")
HEADER = "bmrb_id,pdb_id,seq_id,aa,ss,H,HA,N,CA,CB,C\n"


def write_entry(name, residues, first=1):
    """Rows of one entry from (amino acid, structure, H, N)."""
    return "".join(
        f"{name},1ABC_,{number},{aa},{ss},{h},,{n},,,\n" for number, (aa, ss, h, n) in enumerate(residues, first)
    )


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
    entries = read_refdb(table)
    labels = refdb_codes(entries, 0.7)
    assert labels["entry_ID"].tolist() == ["07", "9"]
    assert labels["sequence"].tolist() == ["GAAAAHPV", "XLLLLLLLLLXLLLLLLLLL"]
    assert labels["label"].tolist() == ["tAAAA.pA", "tAAAAAAAAAxAAAAAAAAA"]
    assert labels["dssp"].tolist() == ["CEEEEH?E", "?EEEEEEEEE?EEEEEEEEE"]
    assert set(labels["source"]) == {"refdb"}
    assert refdb_codes(entries, 5 / 7)["entry_ID"].tolist() == ["07", "9"]  # the limit itself is enough
    assert refdb_codes(entries, 0.72)["entry_ID"].tolist() == ["9"]
    assert refdb_codes(entries)["entry_ID"].tolist() == ["9"]
    refused(lambda: refdb_codes(entries[entries["entry_ID"] == "8"], 0.9), "90%")


def test_rates(table):
    rates = missing_rates(read_refdb(table)).set_index(["min_coverage", "kind", "group"])
    assert rates.loc[(0.5, "all", "all"), ["entries", "residues", "missing"]].tolist() == [3, 25, 1]
    assert rates.loc[(0.5, "structure", "helix"), ["residues", "missing", "rate"]].tolist() == [1, 1, 1.0]
    assert rates.loc[(0.5, "residue", "H"), "rate"] == 1
    assert rates.loc[(0.5, "residue", "H"), "published"] == 0.113
    assert rates.loc[(0.8, "all", "all"), ["entries", "residues", "missing"]].tolist() == [1, 18, 0]
    assert (0.8, "residue", "H") not in rates.index
    text = rates_text(rates.reset_index()).splitlines()
    assert text[1].split() == ["coverage", "50%", "70%", "80%", "90%", "published"]
    assert text[2].split() == ["entries", "3", "2", "1", "1"]
    assert [line.split() for line in text if line.startswith("strand")] == [["strand", *["0.00"] * 4, "3.0"]]


@pytest.fixture(scope="module")
def entries():
    return read_refdb()


@needs_makeshift
def test_refdb_as_a_whole(entries):
    """Numbers of the report: close to the published training set, in the same order."""
    rates = missing_rates(entries).set_index(["min_coverage", "kind", "group"])
    whole = rates.xs("all", level="kind")
    assert whole["entries"].tolist() == [1678, 1578, 1387, 1018]
    assert whole.loc[(0.8, "all"), ["residues", "missing"]].tolist() == [152419, 7228]
    at_80 = rates.loc[0.8]["rate"]
    assert at_80["structure"]["coil"] > at_80["structure"]["strand"] > at_80["structure"]["helix"]
    assert at_80["residue"].idxmax() == "H"
    published = rates.loc[0.8]["published"].dropna().droplevel("kind").to_dict()
    assert published == {"strand": 0.030, "coil": 0.060, "helix": 0.042, "H": 0.113}  # of the training set of Dyna-1
    labels = refdb_codes(entries)
    joined = np.concatenate([targets(*row, "missing") for row in zip(labels["label"], labels["sequence"], strict=True)])
    assert (int((joined >= 0).sum()), int((joined == 1).sum())) == (152419, 7228)


@needs_makeshift
def test_example_table_holds_labels_of_refdb(examples, entries):
    table = read_assignments(examples / "nmr" / "refdb_labels.csv").set_index("entry_ID")
    assert len(table) == 200
    assert (table["cluster"] != "").all()
    whole = refdb_codes(entries).set_index("entry_ID").loc[table.index]
    pd.testing.assert_frame_equal(table[["sequence", "label", "dssp"]], whole[["sequence", "label", "dssp"]])
