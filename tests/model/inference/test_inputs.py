"""Sequences as users give them."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path

import gemmi
import pytest
from refusals import refused

from model.inference.inputs import Protein, file_name, file_names, proteins_of, read_fasta, sequence_list


@pytest.mark.parametrize("name", ["p.fasta", "p.fa.gz"])
def test_fasta(tmp_path: Path, name: str) -> None:
    text = b">one some words\r\nmqI F\r\nVKX\r\n\r\n>two\tx\nACD<eos><cls>\nuob*\n"
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    assert read_fasta(tmp_path / name) == [Protein("one", "MQIFVKX"), Protein("two", "ACD<eos><cls>UOB")]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", ["empty"]),
        ("; a comment\n", ["empty"]),
        (">A|ccd\nSAH\n", ["A|ccd"]),
        (">a\nMQ-IF\n>b\nMQI\n", ["a, residue 3", "'-'"]),
        (">a\nMQIF\n>b\nM-vwIF\n", [".a3m"]),
        ("MQIF\n", ["'>name'"]),
        ("MQIF\n>a\nMQ\n", ["'>name'"]),
        (">a\n*\n", ["a: "]),
        (">a\nMQ<eos><cls>\n", ["a: ", "chain"]),
        (">a\nMQ\n>b\nMQ\n>a x\nMQ\n", ["name a;"]),
        (">a\nMQ\n> \nMQ\n", ["sequence 2"]),
        (">a\nMQ*IF\n", ["a, residue 3", "'*'"]),
        (">a\nMQ-IF\n", ["a, residue 3", "'-'"]),
        (">a\nMQ<eos><cls>AJ\n", ["a, residue 4", "'J'"]),
        (">a\nMQ\n>b\nMet-Gln\nIle\n", ["p.fasta, b: ", "three-letter code; write MQI"]),
    ],
)
def test_fasta_that_cannot_be_used(tmp_path: Path, text: str, named: list[str]) -> None:
    path = tmp_path / "p.fasta"
    path.write_text(text)
    refused(lambda: read_fasta(path), path, *named)


@pytest.mark.parametrize(
    ("name", "text", "expected", "warns"),
    [
        ("p.fasta", "\ufeff; c\r\n>a\r\nMQ\r\n;c\r\nIF\r\n", {"a": "MQIF"}, ""),
        ("p.fasta", ">protein\nMQ\n", {"protein": "MQ"}, ""),
        ("p.fa", ">a\nmq*:<mask>if\n>b\nMQ/MQ/IF*\n", {"a": "MQ:<mask>IF", "b": "MQ:MQ:IF"}, ""),
        ("p.fa", ">1A, score=1\nM\n>T=0.1, sample=1\nW\n>T=0.1, sample=12, seed=1\nF\n>1A, T=0.1, id=2, x=3\nQ\n",
         {"1A": "M", "T=0.1,sample=1": "W", "T=0.1,sample=12": "F", "1A,id=2": "Q"}, ""),
        ("p.a3m", ">q some\nMQI\n", {"q": "MQI"}, ""),
        ("p.A3M", ">ss_pred\nHHH\n>q\nM-QI\n>hit\nMQ-vI\n", {"q": "MQI"}, "q"),
        ("p.a3m", "#2,3\t2,1\n>101\t102\nMQIFV\n>x\nM-IFV\n", {"p": "MQ:MQ:IFV"}, "p.a3m"),
        ("p.fasta", ">a\nMQ-I\n>b\nM..f\n", {"a": "MQI", "b": "MF"}, "without gaps"),
        ("job.fasta", ">A|protein|x\nMQ\n>B|dna\nACGT\n>C|Protein\nIF\n", {"job": "MQ:IF"}, "B|dna"),
        ("job.fasta", ">protein|name=a\nMQ\n>ligand|name=b\nCCO\n", {"job": "MQ"}, "ligand|name=b"),
        ("p.fasta", ">sp|protein|x\nMQ\n>b\nACGT\n", {"sp|protein|x": "MQ", "b": "ACGT"}, ""),
    ],
)  # fmt: skip
def test_forms_of_other_programs(tmp_path: Path, name: str, text: str, expected: dict, warns: str) -> None:
    (tmp_path / name).write_bytes(text.encode())
    with warnings.catch_warnings(record=True) as noticed:
        warnings.simplefilter("always")
        found = {protein.name: protein.sequence.replace("<eos><cls>", ":") for protein in read_fasta(tmp_path / name)}
    assert found == expected
    assert len(noticed) == bool(warns)
    assert all(warns in str(note.message) for note in noticed)


def test_an_a3m_whose_first_line_does_not_fit(tmp_path: Path) -> None:
    (tmp_path / "p.a3m").write_text("#2\t1\n>101\nMQIFV\n")
    refused(lambda: read_fasta(tmp_path / "p.a3m"), tmp_path / "p.a3m", "first line")


@pytest.mark.filterwarnings("ignore::data_prepare.errors.InputWarning")
def test_files_that_once_went_wrong(shared: Path) -> None:
    cases = {
        "fasta_bom/bom_crlf": "MQIFVKTLTGKTITLEVEPS",
        "fasta_others/proteinmpnn": "MKTAYIAKQR<eos><cls>MKTAYLLK",
        "fasta_others/boltz": "MKTAYIAKQR<eos><cls>MKTAYIAKQR",
    }
    for name, sequence in cases.items():
        assert [own.sequence for own in read_fasta(shared / "cases" / f"{name}.fasta")] == [sequence]
    assert read_fasta(shared / "cases/fasta_others/alignment.a3m") == [Protein("query", "MKTAYIAKQR")]


def test_damaged_fasta(tmp_path: Path) -> None:
    whole = gzip.compress(b">a\n" + b"MQIFVK" * 1000)
    (tmp_path / "cut.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "plain.gz").write_bytes(b">a\nMQ\n")
    assert read_fasta(tmp_path / "plain.gz") == [Protein("a", "MQ")]
    (tmp_path / "binary.fasta").write_bytes(b">a\n\xff\xfe\x00")
    (tmp_path / "folder").mkdir()
    (tmp_path / "copies.a3m").write_text(f"#2\t{10**9}\n>a\nMQ\n")
    refused(lambda: read_fasta(tmp_path / "copies.a3m"), "copies.a3m", "chains")
    for name in ("cut.gz", "binary.fasta", "folder", "absent.fasta"):
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
        ({"sequence": "mj"}, ["--sequence, residue 2", "'J'"]),
        ({"sequence": "MKV<eos><cls>"}, ["--sequence", "chain"]),
        ({"sequence": "MK<eos><cls>A-C"}, ["--sequence, residue 4", "'-'"]),
        ({"sequence": "Met-Gln-Ile"}, ["--sequence: ", "three-letter code; write MQI"]),
        ({"sequence": "MetGln Ile"}, ["--sequence: ", "three-letter code; write MQI"]),
        ({"sequence": "MQIFV KTLTG 10"}, ["--sequence, residue 11", "remove numbers"]),
        ({"pdb": Path("p.fa.gz")}, ["p.fa.gz: ", "use --fasta"]),
        ({"sequence": "M<eos>K"}, ["--sequence, residue 2", "<eos>"]),
    ],
)
def test_options(options: dict, named: list[str]) -> None:
    refused(lambda: proteins_of(**options), *named)
    assert proteins_of(sequence="mX<mask><unk>:F") == [Protein("sequence", "MX<mask><unk><eos><cls>F")]


@pytest.mark.parametrize("text", ["metglnile", "METGLNILE", "Met", "MetGlnAil", "MQIfvk", "MeTGlN", "MetGlnI"])
def test_sound_letters_in_any_case_are_read(text: str) -> None:
    assert proteins_of(sequence=text) == [Protein("sequence", text.upper())]


def test_dna_is_read_with_a_warning(tmp_path: Path) -> None:
    """As protein: a peptide may have these letters."""
    dna, path = "ACGTN" * 4, tmp_path / "p.fasta"
    path.write_text(f">a\n{dna}\n>b\n{dna[1:]}\n>c\nMQ:{dna.lower()}\n>d\n{dna}M\n")
    remedy = "looks like DNA or RNA; translate it first"
    with warnings.catch_warnings(record=True) as noticed:
        warnings.simplefilter("always")
        assert read_fasta(path)[0].sequence == dna
        assert proteins_of(sequence=dna.replace("T", "U"))[0].sequence == "ACGUN" * 4
        assert sequence_list([dna[1:], dna]) == [dna[1:], dna]
        sequence_list({"x": dna, "y": "MQ"})
    where = [f"{path}, a, c", "--sequence", "sequence 2", "sequence x"]
    assert [str(note.message) for note in noticed] == [f"{own}: {remedy}" for own in where]
    refused(lambda: sequence_list(["MQ", "MetGln"]), "sequence 2: ", "write MQ")


def test_names_of_files() -> None:
    assert file_names(["sp|P1|A_B", ".hidden", "a b.1"]) == ["sp_P1_A_B", "_hidden", "a_b.1"]
    assert file_name("../x") == "_._x"
    refused(lambda: file_names(["x", "a|b", "a/b"]), "a|b", "a/b", "a_b")
