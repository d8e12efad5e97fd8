"""Assignment codes: their targets, and their table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused

from data_prepare.nmr.assignments import (
    assignment_table,
    coverage,
    mask_termini,
    missing_codes,
    read_assignments,
    targets,
    write_assignments,
)


def test_mask_termini():
    for codes, masked in (("..AA.p.A..", "ttAA.p.Att"), ("p.pA", "tttA"), ("A", "A"), ("", ""), (".p.", "ttt")):
        assert mask_termini(codes) == masked
    for masked in ("ttAA.p.Att", "ttt", "t.A.x", "P.A.P"):
        assert mask_termini(masked) == masked


@pytest.mark.parametrize(
    ("form", "codes", "options", "expected"),
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
def test_targets(form, codes, options, expected):
    target = targets(codes, "GGPGGGGGG", form, **options)
    assert target.dtype == np.int8
    assert target.tolist() == expected
    assert set(targets(codes, "P" * 9, form, **options)) == {-1}


@pytest.mark.parametrize("option", ["rex_only", "unsuppressed"])
def test_targets_refuse(option):
    refused(lambda: targets("AAA", "GGG", "relaxdb", missing_only=True, **{option: True}), "missing-only")


@given(st.lists(st.tuples(st.sampled_from("GAP"), st.booleans()), max_size=15))
def test_missing_codes_are_the_plain_rule(residues):
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


def test_table_is_written_and_read(tmp_path):
    path = tmp_path / "t.csv"
    table = assignment_table([("15000", "GAPX", ".App"), ("NA", "GG", "AA")], "refdb").assign(cluster=["c", ""])
    for written in (table, table.assign(dssp=["EE?H", ""])):
        write_assignments(path, written.assign(more=1))
        pd.testing.assert_frame_equal(read_assignments(path), written)
    write_assignments(path, table)
    assert path.read_text().splitlines()[0] == "entry_ID,sequence,label,source,cluster"
