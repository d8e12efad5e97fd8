"""Sequences as users give them."""

from __future__ import annotations

import gzip
from pathlib import Path

import gemmi
import pytest
from refusals import refused

from model.inference.inputs import Protein, file_name, file_names, proteins_of, read_fasta


@pytest.mark.parametrize("name", ["p.fasta", "p.fa.gz"])
def test_fasta(tmp_path: Path, name: str) -> None:
    text = b">one some words\r\nmqI F\r\nVKX\r\n\r\n>two\tx\nACD<eos><cls>\nuob*\n"
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    assert read_fasta(tmp_path / name) == [Protein("one", "MQIFVKX"), Protein("two", "ACD<eos><cls>UOB")]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", []),
        ("MQIF\n", ["'>name'"]),
        ("MQIF\n>a\nMQ\n", ["'>name'"]),
        (">a\n*\n", ["a: "]),
        (">a\nMQ<eos><cls>\n", ["a: ", "chain"]),
        (">a\nMQ\n>b\nMQ\n>a x\nMQ\n", ["name a;"]),
        (">a\nMQ\n> \nMQ\n", ["sequence 2"]),
        (">a\nMQ*IF\n", ["a, residue 3", "'*'"]),
        (">a\nMQ-IF\n", ["a, residue 3", "'-'"]),
        (">a\nMQ<eos><cls>AJ\n", ["a, residue 4", "'J'"]),
    ],
)
def test_fasta_that_cannot_be_used(tmp_path: Path, text: str, named: list[str]) -> None:
    path = tmp_path / "p.fasta"
    path.write_text(text)
    refused(lambda: read_fasta(path), path, *named)


def test_damaged_fasta(tmp_path: Path) -> None:
    whole = gzip.compress(b">a\n" + b"MQIFVK" * 1000)
    (tmp_path / "cut.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "no.gz").write_bytes(b">a\nMQ\n")
    (tmp_path / "binary.fasta").write_bytes(b">a\n\xff\xfe\x00")
    (tmp_path / "folder").mkdir()
    for name in ("cut.gz", "no.gz", "binary.fasta", "folder", "absent.fasta"):
        refused(lambda path=tmp_path / name: read_fasta(path), tmp_path / name, "FASTA")


def test_chains_of_a_structure(examples: Path) -> None:
    path = examples / "structures" / "1hvr_AB.pdb.gz"
    (both,) = proteins_of(pdb=path)
    (a,) = proteins_of(pdb=path, chain="A")
    assert both == Protein("1hvr_AB", "<eos><cls>".join([a.sequence] * 2))
    assert a.name == "1hvr_AB_A"
    assert a.sequence.startswith("PQVTLWQRPLV")
    assert len(a.sequence) == 99
    assert proteins_of(pdb=path, chain="A, B") == [Protein("1hvr_AB_A_B", both.sequence)]
    refused(lambda: proteins_of(pdb=path, chain="C"), path, "C")


def test_unresolved_residues_and_other_formats(write_pdb, tmp_path: Path) -> None:
    atoms = []
    for number, name in ((1, "ALA"), (2, "CYS"), (5, "TRP")):
        atoms += [(atom, name, "A", number, (3.8 * number + k, 0.0, 0.0)) for k, atom in enumerate(("N", "CA", "C"))]
    atoms.append(("O", "HOH", "A", 100, (50.0, 0.0, 0.0)))
    path = write_pdb(atoms)
    path.write_text("SEQRES   1 A    6  ALA CYS ASP GLU TRP LYS\n" + path.read_text())
    assert proteins_of(pdb=path) == [Protein("system", "ACDEWK")]

    structure = gemmi.read_structure(str(path))
    structure.setup_entities()
    structure.assign_label_seq_id()
    cif = tmp_path / "system.cif"
    structure.make_mmcif_document().write_file(str(cif))
    assert proteins_of(cif=cif, chain="A") == [Protein("system_A", "ACDEWK")]
    zipped = tmp_path / "again.cif.gz"
    zipped.write_bytes(gzip.compress(cif.read_bytes()))
    assert proteins_of(cif=zipped) == [Protein("again", "ACDEWK")]
    water = write_pdb(atoms[-1:], "water.pdb")
    refused(lambda: proteins_of(pdb=water), water)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, ["--sequence", "--fasta", "--pdb", "--cif"]),
        ({"sequence": "MQ", "fasta": Path("p.fasta")}, ["--sequence", "--fasta"]),
        ({"sequence": "MQ", "chain": "A"}, ["--chain A", "--pdb"]),
        ({"sequence": ""}, ["--sequence"]),
        ({"sequence": "Mq"}, ["--sequence, residue 2", "'q'"]),
        ({"sequence": "MKV<eos><cls>"}, ["--sequence", "chain"]),
        ({"sequence": "MK<eos><cls>A-C"}, ["--sequence, residue 4", "'-'"]),
        ({"sequence": "M<eos>K"}, ["--sequence, residue 2", "<eos>"]),
    ],
)
def test_options(options: dict, named: list[str]) -> None:
    refused(lambda: proteins_of(**options), *named)
    assert proteins_of(sequence="MX<mask><unk><eos><cls>F") == [Protein("sequence", "MX<mask><unk><eos><cls>F")]


def test_names_of_files() -> None:
    assert file_names(["sp|P1|A_B", ".hidden", "a b.1"]) == ["sp_P1_A_B", "_hidden", "a_b.1"]
    assert file_name("../x") == "_._x"
    refused(lambda: file_names(["x", "a|b", "a/b"]), "a|b", "a/b", "a_b")
