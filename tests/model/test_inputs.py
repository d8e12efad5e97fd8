from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from data_prepare.errors import InputError
from model.inference.inputs import Protein, proteins_of, read_fasta


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["p.fasta", "p.fa.gz"])
def test_fasta(tmp_path: Path, name: str) -> None:
    text = ">one some words\r\nmqI F\r\nVKX\r\n\r\n>two\nACD<eos><cls>\nuob*\n"
    assert read_fasta(write(tmp_path / name, text)) == [Protein("one", "MQIFVKX"), Protein("two", "ACD<eos><cls>UOB")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no sequence"),
        ("\n\n", "holds no sequence"),
        ("MQIF\n", "line 1: a sequence without"),
        (">a\n>b\nMQ\n", "a: the sequence is empty"),
        (">a\n*\n", "a: the sequence is empty"),
        (">a\nMQ<eos><cls>\n", "a: the sequence of a chain is empty"),
        (">a\nMQ\n>b\nMQ\n>a x\nMQ\n", "line 5: a is also the name of line 1"),
        (">\nMQ\n", "line 1: a header without a name"),
        (">a\nMQ*IF\n", r"a, residue 3: '\*' is not an amino acid; cut"),
        (">a\nMQ**\n", r"a, residue 3: '\*'"),
        (">a\nMQ-IF\n", "a, residue 3: '-' is not an amino acid; remove the gaps"),
        (">a\nMQJ\n", "a, residue 3: 'J' is not an amino acid; use X"),
        (">a\nMQ1\n", "a, residue 3: '1'"),
    ],
)
def test_fasta_that_cannot_be_used(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        read_fasta(write(tmp_path / "p.fasta", text))
    assert str(tmp_path / "p.fasta") in str(error.value)


def test_damaged_files(tmp_path: Path) -> None:
    whole = gzip.compress(b">a\n" + b"MQIFVK" * 1000)
    (tmp_path / "cut.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "no.gz").write_bytes(b">a\nMQ\n")
    (tmp_path / "binary.fasta").write_bytes(b">a\n\xff\xfe\x00")
    for name in ("cut.gz", "no.gz", "binary.fasta"):
        with pytest.raises(InputError, match="cannot be read as FASTA"):
            read_fasta(tmp_path / name)
    for path in (tmp_path / "none.fasta", tmp_path):
        with pytest.raises(InputError, match="no such file"):
            read_fasta(path)


def test_chains_of_a_structure(examples: Path) -> None:
    path = examples / "structures" / "1hvr_AB.pdb.gz"
    (both,) = proteins_of(pdb=path)
    (a,) = proteins_of(pdb=path, chain="A")
    assert both == Protein("1hvr_AB", "<eos><cls>".join([a.sequence] * 2))
    assert a.name == "1hvr_AB_A"
    assert a.sequence.startswith("PQVTLWQRPLV")
    assert len(a.sequence) == 99
    assert proteins_of(pdb=path, chain="A, B")[0].sequence == both.sequence
    with pytest.raises(InputError, match="no chain C; it has A, B"):
        proteins_of(pdb=path, chain="C")


def test_unresolved_residues_and_other_formats(write_pdb, tmp_path: Path) -> None:
    import gemmi

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
    with pytest.raises(InputError, match=r"water\.pdb: no protein in it"):
        proteins_of(pdb=water)


def test_one_protein_source(tmp_path: Path) -> None:
    assert proteins_of(sequence="MQ<eos><cls>IF") == [Protein("sequence", "MQ<eos><cls>IF")]
    with pytest.raises(InputError, match="no protein is given; give one of --sequence, --fasta, --pdb, --cif"):
        proteins_of()
    with pytest.raises(InputError, match="--sequence and --fasta are given"):
        proteins_of(sequence="MQ", fasta=tmp_path / "p.fasta")
    with pytest.raises(InputError, match="--chain A goes with --pdb or --cif"):
        proteins_of(sequence="MQ", chain="A")
    with pytest.raises(InputError, match="--sequence, position 2: 'q' is not in the alphabet; use upper-case"):
        proteins_of(sequence="Mq")
    with pytest.raises(InputError, match="--sequence is empty"):
        proteins_of(sequence="")
    assert proteins_of(sequence="M<mask>F")[0].sequence == "M<mask>F"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("MKV<eos><cls>", "a chain is empty"),
        ("MK<eos><cls>A-C", "residue 4: '-' is not an amino acid; remove the gaps"),
        ("M.K", "residue 2: '.' is not an amino acid; remove the gaps"),
        ("M<eos>K", "residue 2: <eos> alone; join chains by <eos><cls>"),
        ("MK*", "position 3: '*' is not in the alphabet; remove it"),
    ],
)
def test_bad_text(text: str, reason: str) -> None:
    with pytest.raises(InputError, match=re.escape(reason)):
        proteins_of(sequence=text)
