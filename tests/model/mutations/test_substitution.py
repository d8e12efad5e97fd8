"""Mutations: the parser, token rows and windows against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused

from model.inference.inputs import Protein, ResidueId
from model.mutations.substitution import (
    Mutants,
    all_single_mutants,
    apply_mutation,
    fitting_offset,
    parse_mutation,
    window_start,
)
from model.network.tokenizer import tokenize

WILD_TYPE = "MKTAYIAKQRQI"


def sequences(mutants: Mutants) -> list[str]:
    return [mutants.sequence(row) for row in range(len(mutants.labels))]


def test_labels_and_sequences() -> None:
    mutants = Mutants(WILD_TYPE, ["K2A", " Y5F : K2A ", "wt", "MKTAYIAKQRQW", WILD_TYPE, "I12X", "WT"])
    assert mutants.labels == ["K2A", "Y5F:K2A", "wt", "I12W", "wt", "I12X", "wt"]
    assert sequences(mutants)[:4] == ["MATAYIAKQRQI", "MATAFIAKQRQI", WILD_TYPE, "MKTAYIAKQRQW"]
    assert Mutants(WILD_TYPE).tokens.shape == (0, 14)
    assert parse_mutation("A12G:K-5R") == [("A", "12", "G"), ("K", "-5", "R")]


@pytest.mark.parametrize(
    "label",
    "M1A;K2R M1A,K2R p.Met1Ala:p.Lys2Arg p.(Met1Ala),p.(Lys2Arg) p.[Met1Ala;Lys2Arg] Met1Ala:LYS2ARG p.M1A;K2R".split(),
)
def test_other_ways_to_write_substitutions(label: str) -> None:
    assert Mutants(WILD_TYPE, [label]).labels == ["M1A:K2R"]


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        *((label, "stop") for label in ("p.Met1Ter", "p.(Met1*)", "M1*")),
        *((label, "unchanged") for label in ("p.Met1=", "p.Met1Met", "M1M", "M2A:M1M")),
        *((label, "no new amino acid") for label in ("M1", "p.Met1", "p.(Met1)", "MA-1")),
        *(
            (label, "insertions and deletions")
            for label in "p.Met1fs p.(Met1Ala p.MeT1Ala Met1del p.Met1fs*5 p.Met1AlafsTer23 p.Met1_Met2insAla5 "
            "p.Met1ext-5 delM1".split()
        ),
        *((label, "is empty") for label in ("M1A;;K2R", "M1A:")),
    ],
)
def test_other_changes_are_refused(label: str, reason: str) -> None:
    refused(lambda: Mutants("M" * 9, [label]), label, reason)


@given(st.text("ACDX", min_size=1, max_size=6), st.data())
def test_tokens_are_those_of_the_sequence(chain: str, data: st.DataObject) -> None:
    wild_type = "<eos><cls>".join([chain, chain])
    letters = data.draw(st.text("ACDEFX", min_size=len(chain), max_size=len(chain)))
    mutant = "<eos><cls>".join([chain, letters])
    mutants = Mutants(wild_type, ["wt", mutant])
    assert mutants.tokens.tolist() == tokenize([wild_type, mutant])["input_ids"].tolist()
    assert Mutants(wild_type, mutants.labels).tokens.tolist() == mutants.tokens.tolist()
    assert sequences(mutants) == [wild_type, mutant]
    assert apply_mutation(wild_type, mutants.labels[1]) == mutant


def test_numbers_count_residues_of_all_chains_from_an_offset() -> None:
    complex_of_two = "ACD<eos><cls>EFG"
    assert apply_mutation(complex_of_two, "E4W") == "ACD<eos><cls>WFG"
    refused(lambda: apply_mutation(complex_of_two, "G7A"), "G7A", "1 to 6")
    mutants = Mutants("ACD", ["A-1W", "C0W:D1W", "ACE"], offset=-2)
    assert mutants.labels == ["A-1W", "C0W:D1W", "D1E"]
    assert sequences(mutants) == ["WCD", "AWW", "ACE"]
    refused(lambda: Mutants("ACD", ["A2C"], offset=-2), "A2C", "-1 to 1")


def test_all_single_mutants() -> None:
    labels = all_single_mutants("MXA<mask><eos><cls>M", offset=10)
    assert len(labels) == len(set(labels)) == 19 + 20 + 19 + 19
    assert labels[0] == "M11A"
    assert labels[-1] == "M15Y"
    assert "A13A" not in labels
    assert len(set(sequences(Mutants("MXA<mask><eos><cls>M", labels, 10)))) == 77


def protein(ids: str, sequence: str) -> Protein:
    """With chain and number of each residue, such as `A.27`; `A.` for an unresolved one."""
    return Protein("s", sequence, tuple(ResidueId(*word.split(".")) for word in ids.split()))


ANTIBODY = protein("H.-1 H.52 H.52A H. H.53 L.52 L.53", "MKRGV<eos><cls>WY")


def test_numbers_of_a_structure() -> None:
    """With insertion codes, and the chain where chains share numbers; labels of all mutants are read as they are."""
    single = protein("H.-1 H.52 H.52A H. H.53", "MKRGV")
    for written, labels in (
        ("M-1A K52A R52aG R52AG G[4]A V53A", "M-1A K52A R52aG R52aG G[4]A V53A"),
        ("KH52A p.Arg52aGly R[3]G", "K52A R52aG R52aG"),
        ("K052A R52aG:K52A", "K52A R52aG:K52A"),
        ("RKRGV", "M-1R"),
    ):
        assert Mutants(single, written.split(), of_structure=True).labels == labels.split()
    both = Mutants(ANTIBODY, ["KH52A", "R52AG", "WL52A", "M-1A:YL53C"], of_structure=True)
    assert both.labels == ["KH52A", "RH52aG", "WL52A", "MH-1A:YL53C"]
    assert both.changed == [(1,), (2,), (5,), (0, 6)]
    assert [both.ids[k].number for k in (1, 2, 5)] == ["52", "52A", "52"]
    for structure in (single, ANTIBODY, protein("AAA.1 BBB.1", "M<eos><cls>K"), protein("A.1a A.1A", "MK")):
        every = Mutants(structure, None, of_structure=True)
        assert len(set(every.labels)) == 19 * len(every.ids)
        again = Mutants(structure, every.labels, of_structure=True)
        assert again.labels == every.labels
        assert again.tokens.tolist() == every.tokens.tolist()
    assert Mutants(ANTIBODY, ["K2A"]).labels == ["K2A"]  # by position


@pytest.mark.parametrize(
    ("label", "named"),
    [
        ("K52A", ["several residues", "letter: KH52A, or choose --chain H"]),
        ("A52G", ["letter: KH52G or WL52G, or choose --chain H or L"]),
        ("K2A", ["residue 2 ", "not resolved", "--numbering sequence"]),
        ("R52bG", ["52b", "not in the structure"]),
        ("AH52G", ["H52", "is K"]),
        ("R52aG:R[3]K", ["duplicate"]),
        ("KHH52A", ["KHH52A"]),
    ],
)
def test_numbers_that_the_structure_does_not_have(label: str, named: list[str]) -> None:
    refused(lambda: Mutants(ANTIBODY, [label], of_structure=True), label, *named)


def test_lower_case_is_read_unless_it_may_be_a_chain_or_an_insertion_code() -> None:
    assert Mutants(WILD_TYPE, ["k2a", " y5f:K2A"]).labels == ["K2A", "Y5F:K2A"]
    for label in ("K2a", "k2A", "kh52a", "k52ba", "k2j", "p.k2a"):
        refused(lambda label=label: Mutants(WILD_TYPE, [label]), label)


def test_the_only_offset_that_fits() -> None:
    assert fitting_offset(WILD_TYPE, ["K12A", "Y15F"]) == 10
    assert fitting_offset(WILD_TYPE, ["K-8A:Y-5F"]) == -10
    for unfit in (["Y15F"], ["K12A", "Y16F"], ["K12A", "Y15F", "W12A"], ["KA12A", "Y15F"], ["wt"]):
        assert fitting_offset(WILD_TYPE, unfit) is None, unfit
    assert fitting_offset("MKMK", ["M11A", "K12A"]) is None  # 10 and 8
    assert fitting_offset("MKTA<eos><cls>YIAK", ["K12A", "Y15F"]) is None


UNFIT = "A2G K13A K0A K2A:K2C K2A:K2A K2J K2a k2A K2* K2- K2K 2KA insA2 K2A:".split()
UNFIT_SEQUENCES = ["MKTAYIAKQRQ", "MKTAYIAKQRQIA", "MKTAYIA<eos><cls>KQRQI", "MKTaYIAKQRQI", "MKTAYIAKQRQ*", ""]


@pytest.mark.parametrize("mutant", [*UNFIT, "K 2A", *UNFIT_SEQUENCES])
def test_mutants_that_do_not_fit(mutant: str) -> None:
    refused(lambda: Mutants(WILD_TYPE, [mutant]), "sequence" if mutant in UNFIT_SEQUENCES else mutant)


def test_windows() -> None:
    """Brute force: each window holds its substitutions, most start on the grid, and no other grid start is better."""
    window, step, length = 512, 256, 1600
    random = np.random.default_rng(1)
    pairs = [(place, place) for place in range(length)]
    pairs += [(first, int(first + random.integers(window))) for first in random.integers(length - window, size=300)]
    grid = [*range(0, length - window, step), length - window]
    for first, last in pairs:
        start = window_start(first, last, length, window)
        assert 0 <= start <= first <= last < start + window <= length

        def to_rim(at: int, first: int = first, last: int = last) -> int:
            return min(first - at, at + window - 1 - last)

        assert start in grid or to_rim(start) == 0
        assert start in (0, length - window) or to_rim(start) >= max(map(to_rim, grid[1:-1])) - 1
        centred = abs((first + last) / 2 - start - window / 2) <= step / 2
        assert centred or start in (0, length - window) or to_rim(start) == 0
    assert window_start(3, 3, 30, 32) == 0


def test_tokens_of_a_long_protein_are_those_of_its_window() -> None:
    letters = np.random.default_rng(0).choice(list("ACDEFGHIKL"), 1500)
    wild_type = "".join(letters)
    labels = [*(f"{letters[place - 1]}{place}W" for place in (1, 650, 1500)), "wt"]
    mutants = Mutants(wild_type, labels)
    assert mutants.starts == [0, 256, 478, 0]
    expected = [*(apply_mutation(wild_type, label) for label in labels[:3]), wild_type]
    assert sequences(mutants) == expected
    whole = tokenize(expected)["input_ids"].numpy()
    for row, start in enumerate(mutants.starts):
        assert (mutants.tokens[row] == whole[row, start : start + 1024]).all()
        assert (mutants.wild_type_tokens(start) == whole[3, start : start + 1024]).all()
    far = Mutants("A" * 1100, ["A1C:A1024C"])
    assert far.starts == [1]
    refused(lambda: far.add("A1100C:A5C:A76C"), "A1100C:A5C:A76C", 1096, 1024)
