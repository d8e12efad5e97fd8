"""A number for each residue in the B-factor column of a copy of a structure."""

from __future__ import annotations

import gzip
from pathlib import Path

import gemmi
import numpy as np
import pytest
from refusals import refused

from model.inference.b_factors import write_b_factors
from model.inference.inputs import protein_of_structure

VALUES = [0.11, 0.22, 0.33, 0.44]  # G S A, K
EXPECTED = [0.11] * 3 + [0.33] * 3 + [0.44] * 4 + [0.0]  # both locations of C; water has none


@pytest.fixture
def structure(write_pdb) -> Path:
    """Chain A: GLY 1, ALA 3 (declared: GLY SER ALA), B: LYS 1 with an alternate C, and a water; two models, CRLF."""
    atoms = []
    for name, chain, number, x in (("GLY", "A", 1, 0.0), ("ALA", "A", 3, 7.6), ("LYS", "B", 1, 30.0)):
        for atom, offset in (("N", 0.0), ("CA", 1.2), ("C", 2.5)):
            options = {"ter_before": True} if (name, atom) == ("LYS", "N") else {}
            atoms.append((atom, name, chain, number, (x + offset, 0.0, 0.0), options))
    atoms[-1][-1]["altloc"] = "A"
    atoms.append(("C", "LYS", "B", 1, (32.5, 1.0, 0.0), {"altloc": "B"}))
    path = write_pdb([*atoms, ("O", "HOH", "A", 99, (50.0, 0.0, 0.0), {"record": "HETATM"})])
    model = path.read_text().removesuffix("END\n")
    declared = "SEQRES   1 A    3  GLY SER ALA\nSEQRES   1 B    1  LYS\n"
    text = declared + "".join(f"MODEL        {n}\n{model}ENDMDL\n" for n in (1, 2)) + "END\n"
    path.write_bytes(text.replace("\n", "\r\n").encode())
    return path


def written(structure: Path, values, output: Path, chain: str | None = None) -> list[float]:
    """B-factors of all atom lines of the copy."""
    write_b_factors(structure, values, output, chain)
    content = output.read_bytes()
    lines = (gzip.decompress(content) if output.suffix == ".gz" else content).splitlines()
    return [float(line[60:66]) for line in lines if line.startswith((b"ATOM", b"HETATM"))]


def as_mmcif(structure: Path) -> gemmi.cif.Document:
    read = gemmi.read_structure(str(structure))
    read.setup_entities()
    read.assign_label_seq_id()
    return read.make_mmcif_document()


def test_residues_of_all_models_and_nothing_else_changes(structure: Path, tmp_path: Path) -> None:
    assert protein_of_structure(structure).sequence == "GSA<eos><cls>K"
    structure.write_bytes(structure.read_bytes().replace(b"SEQRES", b"REMARK 9 \xe9\xff\r\nSEQRES", 1))
    output = tmp_path / "out.pdb"
    assert written(structure, VALUES, output) == EXPECTED * 2
    old, new = structure.read_bytes().split(b"\n"), output.read_bytes().split(b"\n")
    for before, after in zip(old, new, strict=True):
        atom = before.startswith((b"ATOM", b"HETATM"))
        assert (before[:60], before[66:]) == (after[:60], after[66:]) if atom else before == after
    model = gemmi.read_structure(str(output))[1]
    assert model["A"]["3"]["ALA"]["CA"][0].b_iso == pytest.approx(0.33)
    assert [atom.b_iso for atom in model["B"]["1"]["LYS"]["C"]] == pytest.approx([0.44, 0.44])


def test_chosen_chains_gzip_and_short_lines(structure: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.ent.gz"
    lines = [line[:54] if line.startswith("ATOM") else line for line in structure.read_text().splitlines()]
    structure.write_text("\n".join(lines))
    assert written(structure, [0.5], output, "B") == ([0.0] * 6 + [0.5] * 4 + [0.0]) * 2
    copied = [line for line in gzip.decompress(output.read_bytes()).decode().splitlines() if line.startswith("ATOM")]
    expected = [f"{line:60}  {'0.50' if line[21] == 'B' else '0.00'}" for line in lines if line.startswith("ATOM")]
    assert copied == expected
    assert output.read_bytes()[3:8] == bytes(5)  # no file name and no time stamp: equal numbers, equal bytes


@pytest.mark.parametrize("name", ["plain.pdb.gz", "packed.pdb", "plain.cif.gz", "packed.cif"])
def test_the_content_says_whether_a_structure_is_gzipped(structure: Path, tmp_path: Path, name: str) -> None:
    text = structure.read_bytes() if ".pdb" in name else as_mmcif(structure).as_string().encode()
    path, output = tmp_path / name, tmp_path / ("out.pdb" if ".pdb" in name else "out.cif")
    path.write_bytes(gzip.compress(text) if "packed" in name else text)
    write_b_factors(path, [0.5] * len(protein_of_structure(path).sequence.replace("<eos><cls>", "")), output)
    copy = gemmi.read_structure(str(output))
    found = [atom.b_iso for model in copy for chain in model for r in chain if r.name != "HOH" for atom in r]
    assert found == pytest.approx([0.5] * 20)


@pytest.mark.parametrize("column", [True, False])
def test_mmcif(structure: Path, tmp_path: Path, column: bool) -> None:
    """Also a file without the column."""
    document = as_mmcif(structure)
    block = document.sole_block()
    block.set_pair("_struct.title", "'β-barrel'")
    if not column:
        block.find_loop("_atom_site.id").get_loop().remove_column("_atom_site.B_iso_or_equiv")
    path, output = tmp_path / "in.cif", tmp_path / "out.cif.gz"
    document.write_file(str(path))
    letters = protein_of_structure(path).sequence.replace("<eos><cls>", "")
    assert set(letters) >= set("GAK")
    write_b_factors(path, [dict(zip("GSAK", VALUES, strict=True))[letter] for letter in letters], output)
    expected = {"GLY": 0.11, "ALA": 0.33, "LYS": 0.44, "HOH": 0.0}
    copy = gemmi.read_structure(str(output))
    found = [(r.name, atom.b_iso) for model in copy for chain in model for r in chain for atom in r]
    assert len(found) == 22
    assert [value for _, value in found] == pytest.approx([expected[name] for name, _ in found])
    assert gemmi.cif.read(str(output)).sole_block().find_value("_struct.title") == "'β-barrel'"


@pytest.mark.parametrize(
    ("values", "name", "chain", "named"),
    [
        (VALUES[:3], "out.pdb", None, ["system.pdb", "4 residues", "3"]),
        (VALUES, "out.cif", None, ["out.cif", "system.pdb"]),
        (VALUES, "system.pdb", None, ["system.pdb"]),
        (VALUES, "out.pdb", "C", ["system.pdb", "C"]),
        ([0.1, 0.2, np.nan, 0.3], "out.pdb", None, ["out.pdb"]),
        ([0.1, 0.2, 1000.0, 0.3], "out.pdb", None, ["out.pdb"]),
    ],
)
def test_what_cannot_be_written(structure: Path, tmp_path: Path, values, name: str, chain: str | None, named) -> None:
    before = structure.read_bytes()
    refused(lambda: write_b_factors(structure, values, tmp_path / name, chain), *named)
    assert structure.read_bytes() == before
    assert list(tmp_path.iterdir()) == [structure]


def test_several_data_blocks(structure: Path, tmp_path: Path) -> None:
    """As PyMOL writes objects, and with a block without atoms."""
    (block,) = as_mmcif(structure)
    text = as_mmcif(structure).as_string()
    other = text.replace(f"data_{block.name}", "data_other", 1)
    (tmp_path / "x.cif").write_text(f"data_library\n_chem_comp.id LIG\n{text}\n{other}")
    write_b_factors(tmp_path / "x.cif", [*VALUES, *(value + 0.5 for value in VALUES)], tmp_path / "out.cif")
    _, *found = gemmi.cif.read(str(tmp_path / "out.cif"))
    for own, added in zip(found, (0.0, 0.5), strict=True):
        values = [float(value) for value in own.find_values("_atom_site.B_iso_or_equiv")]
        assert sorted(values) == pytest.approx(sorted(value + added * (value > 0) for value in EXPECTED * 2))


def test_atoms_that_stand_apart_from_their_residue(write_pdb, tmp_path: Path) -> None:
    """All hydrogens behind the heavy atoms, and the second locations behind both."""
    atoms = []
    for number in (1, 2, 3):
        for name, offset in (("N", 0.0), ("CA", 1.2), ("C", 2.5)):
            atoms.append((name, "GLY", "A", number, (3.8 * number + offset, 0.0, 0.0), {}))
    atoms[4][-1]["altloc"] = "A"
    atoms += [("HA2", "GLY", "A", number, (3.8 * number + 1.2, 1.0, 0.0), {}) for number in (1, 2, 3)]
    atoms.append(("CA", "GLY", "A", 2, (8.8, 0.5, 0.0), {"altloc": "B"}))
    found = written(write_pdb(atoms), [0.1, 0.2, 0.3], tmp_path / "out.pdb")
    assert found == [0.1] * 3 + [0.2] * 3 + [0.3] * 3 + [0.1, 0.2, 0.3, 0.2]


@pytest.mark.parametrize("suffix", [".pdb", ".cif"])
def test_a_model_with_more_atoms_is_refused(structure: Path, tmp_path: Path, suffix: str) -> None:
    lines = structure.read_text().splitlines()
    lines.insert(-2, next(line for line in lines if line.startswith("ATOM")))
    structure.write_text("\n".join(lines))
    path = structure.with_suffix(suffix)
    if suffix == ".cif":
        as_mmcif(structure).write_file(str(path))
    count = len(protein_of_structure(path).sequence.replace("<eos><cls>", ""))
    refused(lambda: write_b_factors(path, [0.5] * count, tmp_path / f"out{suffix}"), path)
    assert not (tmp_path / f"out{suffix}").exists()
