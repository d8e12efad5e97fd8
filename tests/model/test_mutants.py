from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prepare.errors import InputError
from model.inference.inputs import Protein
from model.mutations.substitution import Mutants, all_single_mutants, apply_mutation, mutants_of, read_mutants
from model.network.tokenizer import AMINO_ACIDS, tokenize

WILD_TYPE = "MKTAYIAKQRQI"


def test_labels_and_sequences() -> None:
    mutants = mutants_of(WILD_TYPE, ["K2A", " Y5F : K2A ", "wt", "MKTAYIAKQRQW", WILD_TYPE, "I12X", "WT"])
    rows = range(len(mutants))
    assert [mutants.label(row) for row in rows] == ["K2A", "Y5F:K2A", "wt", "I12W", "wt", "I12X", "wt"]
    assert [mutants.sequence(row) for row in rows][:4] == ["MATAYIAKQRQI", "MATAFIAKQRQI", WILD_TYPE, "MKTAYIAKQRQW"]
    assert mutants.changed().tolist() == [True, True, False, True, False, True, False]


@given(st.text("ACDX", min_size=1, max_size=6), st.data())
def test_tokens_are_those_of_the_sequence(chain: str, data: st.DataObject) -> None:
    wild_type = "<eos><cls>".join([chain, chain])
    letters = data.draw(st.text("ACDEFX", min_size=len(chain), max_size=len(chain)))
    mutant = "<eos><cls>".join([chain, letters])
    mutants = mutants_of(wild_type, ["wt", mutant])
    again = mutants_of(wild_type, [mutants.label(1)])
    expected = tokenize([wild_type, mutant])["input_ids"]
    length = expected.shape[1]
    assert mutants.tokens([0, 1], 0, length).tolist() == expected.tolist()
    assert again.sequence(0) == mutants.sequence(1) == mutant
    changed = np.flatnonzero(expected[0] != expected[1])
    if len(changed):
        start = int(changed[0])
        assert mutants.tokens([1], start, length).tolist() == expected[1:, start:].tolist()


def test_positions_count_residues_of_all_chains() -> None:
    assert apply_mutation("ACD<eos><cls>EFG", "E4W") == "ACD<eos><cls>WFG"
    with pytest.raises(InputError, match="there is no position 7; the wild type has 1-6"):
        apply_mutation("ACD<eos><cls>EFG", "G7A")
    assert len(all_single_mutants("ACD<eos><cls>EFG")) == 6 * 19


def test_offset() -> None:
    mutants = mutants_of("ACD", ["A-1W", "C0W:D1W", "ACE"], offset=-2)
    assert [mutants.label(row) for row in range(3)] == ["A-1W", "C0W:D1W", "D1E"]
    assert [mutants.sequence(row) for row in range(3)] == ["WCD", "AWW", "ACE"]
    with pytest.raises(InputError, match="there is no position 2; the wild type has -1-1"):
        mutants_of("ACD", ["A2C"], offset=-2)


def test_all_single_mutants() -> None:
    labels = all_single_mutants("MXA<mask>")
    assert len(labels) == len(set(labels)) == 19 + 20 + 19
    assert labels[0] == "M1A"
    assert "A3A" not in labels
    assert len({apply_mutation("MXA<mask>", label) for label in labels}) == 58


@pytest.mark.parametrize(
    ("mutant", "words"),
    [
        ("A2G", "'A2G': position 2 of the wild type is K, not A"),
        ("K13A", "'K13A': there is no position 13; the wild type has 1-12"),
        ("K0A", "no position 0"),
        ("K2A:K2C", "position 2 appears twice"),
        ("K2J", "'J' is not an amino acid; use X"),
        ("K2a", "'a' is not an amino acid; use upper-case"),
        ("k2A", "'k' is not an amino acid; use upper-case"),
        ("K2*", "a stop ends the protein; leave it out"),
        ("K2-", "a deletion changes the length; leave it out"),
        ("K2K", "K2K changes nothing; leave it out or write wt"),
        ("K 2A", "'K 2A' is not of the form A12G"),
        ("2KA", "not of the form A12G"),
        ("insA2", "not of the form A12G"),
        ("K2A:", "'' is not of the form A12G"),
        ("", "an empty mutant"),
        ("MKTAYIAKQRQ", "MKTAYIAKQRQ has 11 residues or other chains, the wild type has 12; leave insertions"),
        ("MKTAYIAKQRQIA", "has 13 residues"),
        ("MKTAYIA<eos><cls>KQRQI", "or other chains"),
        ("MKTaYIAKQRQI", "position 4: 'a' is not in the alphabet; use upper-case"),
        ("MKTAYIAKQRQ*", r"position 12: '\*' is not in the alphabet"),
    ],
)
def test_mutants_that_do_not_fit(mutant: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        mutants_of(WILD_TYPE, [mutant])


@pytest.mark.parametrize("rows", [1, 2, 3, 5000])
def test_duplicates(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.mutations.substitution.ROWS_PER_PIECE", rows)
    mutants_of(WILD_TYPE, ["K2A", "K2C", "K2A:Y5F", "Y5F", "wt"]).check_unique()
    mutants_of(WILD_TYPE, []).check_unique()
    for labels, words in (
        (["K2C", "K2A", "Y5F", "K2A", "K2C"], r"K2A is given twice \(numbers 2 and 4\)"),
        (["Y5F:K2A", "K2C", "K2A:Y5F"], r"K2A:Y5F is given twice \(numbers 1 and 3\)"),
        (["wt", "K2A", WILD_TYPE], r"wt is given twice \(numbers 1 and 3\)"),
    ):
        with pytest.raises(InputError, match=words):
            mutants_of(WILD_TYPE, labels).check_unique()


def test_windows() -> None:
    """Brute force: every window holds its substitutions, most start on the grid, and none is nearer to its rim."""
    window, step, residues = 32, 8, 100
    length = residues + 2
    random = np.random.default_rng(1)
    mutants = Mutants("A" * residues)
    chosen = [[place] for place in range(1, residues + 1)]
    chosen += [sorted(random.choice(np.arange(k, k + 32), 2, False)) for k in random.integers(1, 69, 200)]
    for places in chosen:
        mutants.add(":".join(f"A{place}C" for place in places))
    mutants.add("wt")
    starts = mutants.window_starts(window, step)
    assert starts[-1] == 0
    for start, places in zip(starts, chosen, strict=False):
        assert 0 <= start <= places[0] <= places[-1] < start + window <= length
    singles = starts[:residues]
    grid = set(range(0, length - window, step)) | {length - window}
    assert set(singles) == grid
    for start, (place,) in zip(singles, chosen, strict=False):
        margins = place - start, start + window - 1 - place
        if start not in (0, length - window):
            assert min(margins) >= window // 2 - 1 - step // 2
    assert (Mutants("A" * 30).window_starts(32) == 0).all()
    assert (mutants_of("A" * 30, ["A1C", "A30C"]).window_starts(32) == 0).all()


def test_substitutions_too_far_apart() -> None:
    mutants = mutants_of("A" * 1100, ["A1C:A1024C"])
    assert mutants.window_starts().tolist() == [1]
    mutants.add("A1100C:A5C:A76C")
    with pytest.raises(InputError, match=r"'A1100C:A5C:A76C': its substitutions lie 1096 tokens apart.*has 1024"):
        mutants.window_starts()


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


ONE = [Protein("one", WILD_TYPE)]
TWO = [Protein("one", WILD_TYPE), Protein("two", "ACD"), Protein("three", "AAA")]


def labels_of(found: list[Mutants]) -> list[list[str]]:
    return [[mutants.label(row) for row in range(len(mutants))] for mutants in found]


@pytest.mark.parametrize("name", ["m.csv", "m.csv.gz"])
def test_read_mutants(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.mutations.substitution.ROWS_PER_PIECE", 2)
    path = write(tmp_path / name, "x,mutant\n1,K2A\n2,wt\n3,K2A:Y5F\n")
    assert labels_of(read_mutants(path, ONE)) == [["K2A", "wt", "K2A:Y5F"]]
    path = write(tmp_path / name, "aa_seq,mut_type\nMMM,K2A\n")  # labels come first
    assert labels_of(read_mutants(path, ONE)) == [["K2A"]]
    for column in ("aa_seq", "mutated_sequence"):
        path = write(tmp_path / name, f"{column},protein\nMKTAYIAKQRQW,x\n")  # of one protein, no matter its name
        assert labels_of(read_mutants(path, ONE)) == [["I12W"]]
    path = write(tmp_path / name, "mutant,protein\nA1C,two\nK2A,one\nD3A,two\n")
    assert labels_of(read_mutants(path, TWO)) == [["K2A"], ["A1C", "D3A"], []]
    path = write(tmp_path / name, "mutant\nK12A\n")
    assert labels_of(read_mutants(path, ONE, offset=10)) == [["K12A"]]


@pytest.mark.parametrize(
    ("proteins", "text", "words"),
    [
        (ONE, "", "is empty; give a table with a header"),
        (ONE, "mutant\n", "holds no mutant"),
        (ONE, "label\nK2A\n", "no column mutant or mut_type or mutated_sequence or aa_seq"),
        (TWO, "mutant\nK2A\n", "no column protein, which names one of the 3 proteins"),
        (ONE, "mutant\nK2A\nA3G\n", "line 3: mutation 'A3G': position 3"),
        (ONE, "mutant,x\nK2A,1\n,2\n", "line 3: an empty mutant"),
        (TWO, "mutant,protein\nK2A,one\nK2A,four\n", "line 3: protein 'four' is not among the 3"),
        (ONE, "mutant\nK2A,2,3\n1,2,3,4\n", "not a CSV table"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, proteins: list[Protein], text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        read_mutants(write(tmp_path / "m.csv", text), proteins)
    assert str(tmp_path / "m.csv") in str(error.value)


def test_damaged_tables(tmp_path: Path) -> None:
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"mutant\n" + b"K2A\n" * 9999)[:50])
    with pytest.raises(InputError, match="not a CSV table"):
        read_mutants(tmp_path / "cut.csv.gz", ONE)
    with pytest.raises(InputError, match="no such table"):
        read_mutants(tmp_path / "none.csv", ONE)


def test_a_mutant_takes_few_bytes() -> None:
    import tracemalloc

    mutants = Mutants("".join(AMINO_ACIDS) * 20)
    tracemalloc.start()
    mutants.add_all_single()
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(mutants) == 7600
    assert used < 20 * len(mutants)
