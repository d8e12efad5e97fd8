import gzip
from pathlib import Path

import gemmi
import numpy as np
import pytest

from data_prepare.errors import InputError
from model.inference.b_factors import write_b_factors
from model.inference.inputs import protein_of_structure


def residue(name: str, chain: str, number: int, x: float, **options) -> list[tuple]:
    """N, CA, C of a residue, 3.8 Angstrom further along x than its neighbour."""
    places = {"N": x, "CA": x + 1.2, "C": x + 2.5}
    return [(atom, name, chain, number, (at, 0.0, 0.0), dict(options)) for atom, at in places.items()]


@pytest.fixture
def structure(write_pdb) -> Path:
    """Chain A: GLY 1, ALA 3 (declared: GLY SER ALA), B: LYS 1 with an alternate C, and a water; two models, CRLF."""
    atoms = [*residue("GLY", "A", 1, 0), *residue("ALA", "A", 3, 7.6), *residue("LYS", "B", 1, 30, ter_before=True)]
    for atom in atoms[-2:]:
        atom[-1]["ter_before"] = False
    atoms[-1][-1]["altloc"] = "A"
    second = ("C", "LYS", "B", 1, (32.5, 1.0, 0.0), {"altloc": "B"})
    water = ("O", "HOH", "A", 99, (50.0, 0.0, 0.0), {"record": "HETATM"})
    path = write_pdb([*atoms, second, water])
    model = path.read_text().removesuffix("END\n")
    text = "SEQRES   1 A    3  GLY SER ALA\n" + "".join(f"MODEL        {n}\n{model}ENDMDL\n" for n in (1, 2)) + "END\n"
    path.write_bytes(text.replace("\n", "\r\n").encode())
    return path


VALUES = [0.11, 0.22, 0.33, 0.44]  # G S A, K
EXPECTED = [0.11] * 3 + [0.33] * 3 + [0.44] * 4 + [0.0]  # both locations of C; water has none


def b_factors(path: Path) -> list[list[float]]:
    """Of each model, in the order of the file, read by gemmi."""
    read = gemmi.read_structure(str(path))
    return [[atom.b_iso for chain in model for rest in chain for atom in rest] for model in read]


def test_residues_are_matched_by_their_place(structure: Path, tmp_path: Path) -> None:
    assert protein_of_structure(structure).sequence == "GSA<eos><cls>K"
    output = tmp_path / "out.pdb"
    write_b_factors(structure, VALUES, output)
    lines = [line for line in output.read_text().splitlines() if line.startswith(("ATOM", "HETATM"))]
    assert [float(line[60:66]) for line in lines] == EXPECTED * 2
    model = gemmi.read_structure(str(output))[1]
    assert model["A"]["3"]["ALA"]["CA"][0].b_iso == pytest.approx(0.33)
    assert [atom.b_iso for atom in model["B"]["1"]["LYS"]["C"]] == pytest.approx([0.44, 0.44])


def test_nothing_else_changes(structure: Path, tmp_path: Path) -> None:
    with_odd_bytes = structure.read_bytes().replace(b"SEQRES", b"REMARK 9 \xe9\xff\r\nSEQRES", 1)
    structure.write_bytes(with_odd_bytes)
    output = tmp_path / "out.pdb"
    write_b_factors(structure, VALUES, output)
    old, new = structure.read_bytes().split(b"\n"), output.read_bytes().split(b"\n")
    assert len(old) == len(new)
    changed = 0
    for before, after in zip(old, new, strict=True):
        if before.startswith((b"ATOM", b"HETATM")):
            assert before[:60] == after[:60]
            assert before[66:] == after[66:]
            changed += before != after
        else:
            assert before == after
    assert changed == 20


def test_chosen_chains(structure: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.ent.gz"
    write_b_factors(structure, [0.5], output, "B")
    text = gzip.decompress(output.read_bytes()).decode()
    lines = [line for line in text.splitlines() if line.startswith(("ATOM", "HETATM"))]
    assert [float(line[60:66]) for line in lines[:11]] == [0.0] * 6 + [0.5] * 4 + [0.0]


def test_gzipped_copies_are_the_same_bytes(structure: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.pdb.gz"
    write_b_factors(structure, VALUES, output)
    header = output.read_bytes()[:8]
    assert header[3] == 0  # no file name
    assert header[4:] == bytes(4)  # no time stamp


def test_short_lines_get_the_column(structure: Path, tmp_path: Path) -> None:
    """Lines that end behind the coordinates."""
    lines = [line[:54] if line.startswith("ATOM") else line for line in structure.read_text().splitlines()]
    structure.write_text("\n".join(lines))
    write_b_factors(structure, VALUES, tmp_path / "out.pdb")
    first = next(line for line in (tmp_path / "out.pdb").read_text().splitlines() if line.startswith("ATOM"))
    assert first[:54] == next(line for line in lines if line.startswith("ATOM"))
    assert first[54:] == "        0.11"


def test_mmcif(structure: Path, tmp_path: Path) -> None:
    read = gemmi.read_structure(str(structure))
    read.setup_entities()
    read.assign_label_seq_id()
    path, output = tmp_path / "in.cif", tmp_path / "out.cif.gz"
    document = read.make_mmcif_document()
    document.sole_block().set_pair("_struct.title", "'β-barrel'")
    document.write_file(str(path))
    protein = protein_of_structure(path)
    values = dict(zip("GSAK", VALUES, strict=True))
    letters = protein.sequence.replace("<eos><cls>", "")
    assert set(letters) >= set("GAK")
    write_b_factors(path, [values[letter] for letter in letters], output)
    expected = {"GLY": 0.11, "ALA": 0.33, "LYS": 0.44, "HOH": 0.0}
    copy = gemmi.read_structure(str(output))
    assert len(copy) == 2
    assert gemmi.cif.read(str(output)).sole_block().find_value("_struct.title") == "'β-barrel'"
    found = [(r.name, atom.b_iso) for model in copy for chain in model for r in chain for atom in r]
    assert len(found) == 22
    for name, value in found:
        assert value == pytest.approx(expected[name])


def test_mmcif_without_the_column(structure: Path, tmp_path: Path) -> None:
    read = gemmi.read_structure(str(structure))
    read.setup_entities()
    read.assign_label_seq_id()
    document = read.make_mmcif_document()
    loop = document.sole_block().find_loop("_atom_site.id").get_loop()
    loop.remove_column("_atom_site.B_iso_or_equiv")
    path, output = tmp_path / "in.cif", tmp_path / "out.cif"
    document.write_file(str(path))
    count = len(protein_of_structure(path).sequence.replace("<eos><cls>", ""))
    write_b_factors(path, np.full(count, 0.25), output)
    assert set(np.concatenate(b_factors(output)).round(4)) == {0.25, 0.0}


@pytest.mark.parametrize(
    ("values", "name", "chain", "message"),
    [
        (VALUES[:3], "out.pdb", None, "4 residues, but 3 numbers"),
        (VALUES, "out.cif", None, "keeps its form"),
        (VALUES, "system.pdb", None, "the structure itself"),
        (VALUES, "out.pdb", "C", "no chain C"),
        ([0.1, 0.2, np.nan, 0.3], "out.pdb", None, "six columns"),
        ([0.1, 0.2, 1000.0, 0.3], "out.pdb", None, "six columns"),
    ],
)
def test_errors(structure: Path, tmp_path: Path, values, name: str, chain: str | None, message: str) -> None:
    before = structure.read_bytes()
    with pytest.raises(InputError, match=message):
        write_b_factors(structure, values, tmp_path / name, chain)
    assert structure.read_bytes() == before


def test_a_model_with_more_atoms_is_refused(structure: Path, tmp_path: Path) -> None:
    lines = structure.read_text().splitlines()
    atom = next(line for line in lines if line.startswith("ATOM"))
    lines.insert(-2, atom)
    structure.write_text("\n".join(lines))
    with pytest.raises(InputError, match="more atoms than the first"):
        write_b_factors(structure, VALUES, tmp_path / "out.pdb")
    assert not (tmp_path / "out.pdb").exists()
