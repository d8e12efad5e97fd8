"""Measured mutations: the forms of tables, their signs and numbers, and rows that cannot be used."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from refusals import refused

from data_prepare.errors import InputWarning
from model.mutations import measured
from model.mutations.measured import LeftOut, MeasuredProtein, read_measured

MEGASCALE = """name,aa_seq,mut_type,WT_name,ddG_ML
x,MKTG,wt,one.pdb,0
x,MATG,K2A,one.pdb,1.5
x,CDEF,wt,two|2,0
x,MKTAG,insA4,one.pdb,2
x,MKG,delT3,one.pdb,2
x,MATGG,K2A:insG5,one.pdb,2
x,MRTG,K2R,one.pdb,-
x,CDAF,E3A,two|2,-2
x,MATG,K2A,one.pdb,2.5
x,AKTV,M1A:G4V,one.pdb,-0.5
x,AKTV,G4V:M1A,one.pdb,-1.5
x,WYA,S3A,three,1e-1
x,MKTG,K2A,one.pdb,-9
x,MRTG,K2R,one.pdb
"""
PROTEINGYM = "mutant,mutated_sequence,DMS_score,DMS_score_bin\nK2A:G4V,MATV,1.5,1\nM1A,AKTG,-2,0\nK2A:G4V,MATV,0.5,1\n"


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def as_dict(protein: MeasuredProtein) -> dict[str, float]:
    assert protein.loss.dtype == np.float64
    return dict(zip(protein.mutants, protein.loss.tolist(), strict=True))


@pytest.mark.parametrize("rows", [1, 2, 5, 1000])
@pytest.mark.parametrize("name", ["set.csv", "set.csv.gz"])
def test_megascale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, rows: int) -> None:
    """ddG_ML is a stability: its sign turns. Rows of a protein stand apart, pieces of the file cut through them."""
    monkeypatch.setattr(measured, "ROWS_PER_PIECE", rows)
    left_out: list[LeftOut] = []
    path = write(tmp_path / name, MEGASCALE)
    proteins = {protein.name: protein for protein in read_measured(path, left_out=left_out)}
    assert {name: (protein.wild_type, as_dict(protein)) for name, protein in proteins.items()} == {
        "one.pdb": ("MKTG", {"K2A": -2.0, "M1A:G4V": 1.0}),
        "two|2": ("CDEF", {"E3A": 2.0}),
        "three": ("WYS", {"S3A": -0.1}),
    }
    assert [(row.line, row.protein, row.mutant) for row in left_out] == [(14, "one.pdb", "K2A")]


def test_proteingym(tmp_path: Path) -> None:
    """A DMS score is a fitness: its sign turns. The wild type follows from the first row."""
    write(tmp_path / "B_HUMAN.csv", PROTEINGYM)
    write(tmp_path / "A_HUMAN.csv.gz", "mutant,mutated_sequence,DMS_score\nA1C,CA,3\nA2W,AW,\n")
    left_out: list[LeftOut] = []
    first, second = read_measured(tmp_path, "proteingym", left_out=left_out)
    assert (first.name, first.wild_type, as_dict(first)) == ("A_HUMAN", "AA", {"A1C": -3.0})
    assert (second.name, second.wild_type, as_dict(second)) == ("B_HUMAN", "MKTG", {"K2A:G4V": -1.0, "M1A": 2.0})
    assert left_out == [LeftOut(str(tmp_path / "A_HUMAN.csv.gz"), 3, "A_HUMAN", "A2W", "no value")]


def residues(*rows: tuple[str, str, int, str]) -> list:
    return [
        (atom, name, chain, number, (float(row), 0.0, 0.0), {"icode": code})
        for row, (name, chain, number, code) in enumerate(rows)
        for atom in ("N", "CA", "C")
    ]


DDG = """pdb_id,chain,pre,pos,post,{column}
1ABC,A,G,5,V,1.5
1ABC,A,K,7A,R,-0.5
1ABC,A,K,7a ,R,0.5
1ABC,A,A,7,W,2
1ABC,A,T,9,S,3
1ABC,A,G,7A,S,3
1ABC,A,T,6,S,3
1ABC,A,T,9,T,3
1ABC,A,T,9,X,3
1ABC,A,T,9,V,-
1ABC,C,T,9,V,1
1ABC,B,M,1,L,4
2XYZ,A,M,1,L,4
"""


@pytest.mark.parametrize("column", ["ddG", "ddG_experimental"])
def test_ddg(tmp_path: Path, write_pdb, column: str) -> None:
    """ddG is a loss as it is; numbers are those of the structure file, insertion codes included."""
    chain = [("GLY", "A", 5, " "), ("ALA", "A", 7, " "), ("LYS", "A", 7, "A"), ("THR", "A", 9, "B")]
    write_pdb(residues(*chain, ("MET", "B", 1, " "))).rename(tmp_path / "1ABC.pdb")
    left_out: list[LeftOut] = []
    path = write(tmp_path / "ddg.csv", DDG.format(column=column))
    first, second = read_measured(path, structures=tmp_path, left_out=left_out)
    assert (first.name, first.wild_type) == ("1ABC_A", "GAKT")
    assert as_dict(first) == {"G1V": 1.5, "K3R": 0.0, "A2W": 2.0, "T4S": 3.0}  # no other residue 9: its code may lack
    assert (second.name, second.wild_type, as_dict(second)) == ("1ABC_B", "M", {"M1L": 4.0})
    expected = {7: "K, not G", 8: "residue 6", 9: "T9T", 10: "T4X", 11: "no value", 12: "chain C", 14: "2XYZ_A"}
    assert [row.line for row in left_out] == list(expected)
    for row in left_out:
        assert expected[row.line] in f"{row.mutant} {row.reason}", row


def test_ambiguous_numbers_need_their_code(tmp_path: Path, write_pdb) -> None:
    write_pdb(residues(("GLY", "A", 5, "A"), ("GLY", "A", 5, "B"))).rename(tmp_path / "1abc_a.pdb")
    path = write(tmp_path / "t.csv", "pdb_id,chain,pre,pos,post,ddG\n1ABC,A,G,5,V,1\n1ABC,A,G,5B,V,2\n")
    left_out: list[LeftOut] = []
    (protein,) = read_measured(path, structures=tmp_path, left_out=left_out)
    assert as_dict(protein) == {"G2V": 2.0}
    assert "residue 5 " in left_out[0].reason


@pytest.mark.slow
def test_s2648(shared: Path) -> None:
    left_out: list[LeftOut] = []
    proteins = list(read_measured(shared / "data/ddg", "ddg", shared / "data/structures/s2648", left_out))
    assert len(proteins) == 130
    assert sum(len(protein.mutants) for protein in proteins) == 2643
    assert {row.protein for row in left_out} == {"1AM7_A", "1ONC_A"}  # their files are numbered anew
    assert len(left_out) == 5


def test_left_out_rows_are_not_silent(tmp_path: Path) -> None:
    path = write(tmp_path / "set.csv", MEGASCALE)
    with pytest.warns(InputWarning, match="line 14, K2A"):
        list(read_measured(path))


HEADER = "mutant,mutated_sequence,DMS_score\n"


@pytest.mark.parametrize(
    ("text", "form", "named"),
    [
        ("", "auto", []),
        (HEADER, "auto", ["no row"]),
        ("a,b\n1,2\n", "auto", ["a, b", "megascale", "proteingym", "ddg"]),
        ("mutant,DMS_score\nA1C,2\n", "proteingym", ["mutated_sequence"]),
        (HEADER + "A1C,CA,1\nA2C,AC,much\n", "auto", ["line 3", "DMS_score", "much"]),
        (HEADER + "A1C,CA,1\nA2C,AW,1\n", "auto", ["line 3", "A2C"]),
        (HEADER + "\nA1C,CA,1\n\nA2C,AW,1\n", "auto", ["line 5", "A2C"]),
        (HEADER + "A1C,WA,1\n", "auto", ["line 2", "A1C"]),
        (HEADER + "A1C,CJ,1\n", "auto", ["line 2", "A1C", "J"]),
        (HEADER + "A1C,CA,\n", "auto", ["line 2", "no value"]),
        ("aa_seq,mut_type,WT_name,ddG_ML\nAC,A1C,x,-\n", "auto", ["megascale"]),
        ("aa_seq,mut_type,WT_name,ddG_ML\nAC,A1C,x,?\n", "auto", ["line 2", "ddG_ML", "?"]),
        ("pdb_id,chain,pre,pos,post,ddG\n1ABC,A,G,5,V,1\n", "auto", ["structures"]),
        ("pdb_id,chain,pre,pos,post\n1ABC,A,G,5,V\n", "ddg", ["ddG"]),
    ],
)
def test_unusable_tables(tmp_path: Path, text: str, form: str, named: list[str]) -> None:
    path = write(tmp_path / "set.csv", text)
    structures = None if "structures" in named else tmp_path
    refused(lambda: list(read_measured(path, form, structures)), path, *named)


def test_unusable_paths(tmp_path: Path) -> None:
    refused(lambda: next(read_measured(tmp_path / "none")), tmp_path / "none")
    refused(lambda: next(read_measured(tmp_path)), tmp_path, ".csv")
    table = write(tmp_path / "ddg.csv", DDG.format(column="ddG"))
    refused(lambda: list(read_measured(table, structures=tmp_path / "none")), tmp_path / "none")


def test_a_protein_is_in_one_file(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / f"{name}.csv", MEGASCALE)
    refused(lambda: list(read_measured(tmp_path, left_out=[])), "one.pdb", tmp_path / "a.csv", tmp_path / "b.csv")
