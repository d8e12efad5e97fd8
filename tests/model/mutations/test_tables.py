"""Tables of mutants in, tables of scores out."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from refusals import refused

from model.inference.inputs import Protein
from model.mutations import tables
from model.mutations.tables import mutants_to_score, read_mutants

ONE = [Protein("one", "MKTAYIAKQRQI")]
TWO = [Protein("one", "MKTAYIAKQRQI"), Protein("two", "ACD"), Protein("three", "AAA")]


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["m.csv", "m.csv.gz"])
@pytest.mark.parametrize(
    ("proteins", "offset", "text", "labels"),
    [
        (ONE, 0, "x,mutant\n1,K2A\n2,wt\n3,K2A:Y5F\n", [["K2A", "wt", "K2A:Y5F"]]),
        (ONE, 0, "aa_seq,mut_type\nMMM,K2A\n", [["K2A"]]),  # labels come first
        (ONE, 0, "aa_seq,protein\nMKTAYIAKQRQW,x\n", [["I12W"]]),  # of one protein, whatever its name
        (ONE, 0, "mutated_sequence\nMKTAYIAKQRQW\n", [["I12W"]]),
        (TWO, 0, "mutant,protein\nA1C,two\nK2A,one\nD3A,two\n", [["K2A"], ["A1C", "D3A"], []]),
        (ONE, 10, "mutant\nK12A\n", [["K12A"]]),
    ],
)
def test_read_mutants(tmp_path: Path, monkeypatch, name: str, proteins: list, offset: int, text: str, labels) -> None:
    monkeypatch.setattr(tables, "ROWS_PER_PIECE", 2)
    found = read_mutants(write(tmp_path / name, text), proteins, offset)
    assert [mutants.name for mutants in found] == [protein.name for protein in proteins]
    assert [mutants.labels for mutants in found] == labels


@pytest.mark.parametrize(
    ("proteins", "text", "named"),
    [
        (ONE, "", []),
        (ONE, "label\nK2A\n", ["mutant, mut_type, mutated_sequence, aa_seq"]),
        (TWO, "mutant\nK2A\n", ["protein", 3]),
        (ONE, "mutant\nK2A\nA3G\n", ["line 3", "A3G"]),
        (ONE, "mutant\nK2A\n\n\nA3G\n", ["line 5", "A3G"]),
        (ONE, "mutant,x\nK2A,1\n,2\n", ["line 3", "empty"]),
        (TWO, "mutant,protein\nK2A,one\nK2A,four\n", ["line 3", "four"]),
        (ONE, "mutant,protein\nK2A,x\nK3A,x\n", ["line 3", "protein 'x'", "is T"]),
        (ONE, "mutant,protein\nK2A,one\nT3A,x\n", ["line 3", "protein 'x'", "several proteins"]),
        (ONE, "mutant\nK2A,2,3\n1,2,3,4\n", []),
    ],
)
def test_unusable_tables(tmp_path: Path, proteins: list, text: str, named: list) -> None:
    path = write(tmp_path / "m.csv", text)
    refused(lambda: read_mutants(path, proteins), path, *named)


def test_proteins_without_mutants_are_left_out(tmp_path: Path) -> None:
    table = write(tmp_path / "m.csv", "mutant,protein\nA1C,two\n")
    assert [(mutants.name, mutants.labels) for mutants in mutants_to_score(TWO, table=table)] == [("two", ["A1C"])]
    masked = [Protein("none", "<mask>"), *TWO]
    numbers = {"one": 228, "two": 57, "three": 57}
    assert {own.name: len(own.labels) for own in mutants_to_score(masked)} == numbers
    refused(lambda: mutants_to_score(masked[:1]), "no mutants")
    empty = write(tmp_path / "empty.csv", "mutant,protein\n")
    refused(lambda: mutants_to_score(TWO, table=empty), empty, "no mutants")


def test_duplicates() -> None:
    list(mutants_to_score(ONE, "K2A,K2C,K2A:Y5F,Y5F,wt"))
    for mutations, name, numbers in (
        ("K2C,K2A,Y5F,K2A,K2C,K2A", "K2A", "2 and 4"),
        ("Y5F:K2A,K2C,K2A:Y5F", "K2A:Y5F", "1 and 3"),
        ("wt,K2A,MKTAYIAKQRQI", "wt", "1 and 3"),
    ):
        refused(lambda mutations=mutations: mutants_to_score(ONE, mutations), "one", name, numbers)
