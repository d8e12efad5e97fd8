"""Tables of codes, shifts and relaxation rates with an invalid row: one line that names it."""

from __future__ import annotations

import pytest
from refusals import refused

from data_prepare.nmr.assignments import read_assignments
from data_prepare.nmr.refdb import read_refdb
from data_prepare.nmr.relaxation import read_relaxation

CODES = (read_assignments, "entry_ID,sequence,label,source,cluster,dssp")
SHIFTS = (read_refdb, "bmrb_id,pdb_id,seq_id,aa,ss,H,HA,N,CA,CB,C")
RATES = (read_relaxation, "entry_ID,residue,assigned,R1,R2,NOE,R2_R1_pred")


@pytest.mark.parametrize(
    ("form", "rows", "named"),
    [
        (CODES, "a,GG,AA,refdb,,\na,GG,AA,refdb,,", "entry a"),
        (CODES, "a,GG,AA,bmrb,,", "'bmrb'"),
        (CODES, "a,,,refdb,,", "entry a"),
        (CODES, "a,Gg,AA,refdb,,", "'g'"),
        (CODES, "a,GG,AX,refdb,,", "'X'"),
        (CODES, "a,GGG,AA,refdb,,", "entry a: label of 2"),
        (CODES, "a,GG,AA,refdb,,\n,GG,AA,refdb,,", "line 3"),
        (CODES, "a,GG,AA,refdb,,\n\n,GG,AA,refdb,,", "line 4"),
        (CODES, "a,GG,AA,refdb,,\nb,GG,AA,refdb,,H", "entry b"),
        (CODES, "", ""),
        ((read_refdb, "bmrb_id,seq_id"), "1,1", ""),
        (SHIFTS, "", ""),
        (SHIFTS, "1,x,1,,C,8,,120,,,", ""),
        (SHIFTS, "1,x,1,G,C,high,,120,,,", "high"),
        (SHIFTS, "1,x,1,G,C,8,,120,,,\n1,x,3,G,C,8,,120,,,", "entry 1"),
        (SHIFTS, "6,x,1,G,C,8,,120,,,\n7,x,1,G,C,8,,120,,,\n6,x,2,G,C,8,,120,,,", "entry 6"),
        (RATES, "a,G,1,fast,1,1,1", "line 2: R1"),
        (RATES, "a,G,2,1,1,1,1", "line 2: assigned"),
        (RATES, "a,GG,1,1,1,1,1\na,,1,1,1,1,1", "line 2: residue"),
        (RATES, "a,*,1,1,1,1,1", "entry a: residue '*'"),
        (RATES, "a,g,1,1,1,1,1", "entry a: residue 'g'; write capital letters"),
        (RATES, "a,G,1,1,1,1,1\n,G,1,1,1,1,1", "line 3: entry_ID"),
        (RATES, "a,G,1,1,1,1,1\nb,G,1,1,1,1,1\na,G,1,1,1,1,1", "line 4"),
        (RATES, "a,G,1,1,inf,1,1", "line 2: R2"),
        (RATES, "a,G,1,1,1,1,1\na,G,1,0,1,1,1", "line 3: R1"),
        (RATES, "a,G,1,1,1,1,1\n\n\na,G,1,0,1,1,1", "line 5: R1"),
        (RATES, "a,G,1,1,1,1,0", "line 2: R2_R1_pred"),
        (RATES, "", ""),
    ],
)
def test_invalid_rows(tmp_path, form, rows, named):
    read, header = form
    path = tmp_path / "t.csv"
    path.write_text(f"{header}\n{rows}\n")
    refused(lambda: read(path), path, named)


def test_a_missing_table(tmp_path):
    for read, _ in (CODES, SHIFTS, RATES):
        refused(lambda read=read: read(tmp_path / "none.csv"), tmp_path / "none.csv")
