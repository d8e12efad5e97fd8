"""Readers of structure and topology files: names as in the file, alternate locations, elements, formats."""

from __future__ import annotations

import gzip

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from data_prepare.errors import InputError
from data_prepare.structure.readers import read_models, read_structure, read_topology
from data_prepare.structure.topology import label_of_residue


def test_names_stay_as_they_are(write_pdb, backbone):
    atoms = [*backbone("HSD", "A", 7), ("OT1", "HSD", "A", 7, (9, 9, 9)), ("1HB", "HSD", "A", 7, (8, 9, 9))]
    path = write_pdb(atoms + backbone("SER", "A", 8) + backbone("SER", "A", 8, 4, icode="A"))
    path.write_text(path.read_text().replace("HSD A   7", "HSD AA00B"))  # hybrid-36
    path.write_bytes("REMARK Ångström\n".encode("latin-1") + path.read_bytes())
    topology, xyz = read_structure(path)
    assert label_of_residue(topology) == ["A:HSD:10011", "A:SER:8", "A:SER:8A"]
    assert topology.atom_names[:6] == ("N", "CA", "C", "O", "OT1", "1HB")
    assert topology.elements[:6] == ("N", "C", "C", "O", "O", "H")
    assert xyz.dtype == np.float64
    np.testing.assert_allclose(xyz[4], 9)


def test_first_alternate_location(write_pdb, backbone):
    atoms = backbone("SER", "A", 1)
    atoms += [("CB", "SER", "A", 1, (1, 0, 0), {"altloc": "B"}), ("CB", "SER", "A", 1, (2, 0, 0), {"altloc": "A"})]
    for first, second in zip(
        backbone("SER", "A", 2, 4, altloc="A"), backbone("THR", "A", 2, 5, altloc="B"), strict=True
    ):
        atoms += [first, second]  # two residues at one place, atom by atom in turn
    path = write_pdb(atoms)
    topology, xyz = read_structure(path)
    assert topology.residue_names == ("SER", "SER")
    assert (topology.num_atoms, topology.atoms_in_file) == (9, 14)
    assert xyz[4, 0] == 1.0
    (model,) = read_models(path)
    np.testing.assert_array_equal(model[topology.file_index], xyz.astype(np.float32))


def test_mmcif_pdb_and_gzip_agree(write_pdb, backbone, tmp_path):
    atoms = backbone("MSE", "A", 1) + backbone("SER", "A", 2, 4, icode="C") + backbone("TRP", "B", 1, 9)
    atoms += [("CB", "TRP", "B", 1, (5, 5, 5), {"altloc": "A"}), ("CB", "TRP", "B", 1, (6, 6, 6), {"altloc": "B"})]
    path = write_pdb(atoms)
    structure = gemmi.read_structure(str(path))
    structure.setup_entities()
    structure.make_mmcif_document().write_file(str(tmp_path / "x.cif"))
    (tmp_path / "x.pdb.gz").write_bytes(gzip.compress(path.read_bytes()))
    (tmp_path / "x.cif.gz").write_bytes(gzip.compress((tmp_path / "x.cif").read_bytes()))
    reference, xyz = read_structure(path)
    assert reference.num_atoms == 13
    for name in ("x.cif", "x.pdb.gz", "x.cif.gz"):
        topology, positions = read_structure(tmp_path / name)
        for field in ("atom_names", "elements", "residue_names", "insertion_codes", "chain_ids", "residue_of_atom"):
            assert list(getattr(topology, field)) == list(getattr(reference, field)), (name, field)
        np.testing.assert_array_equal(topology.residue_numbers, reference.residue_numbers)
        np.testing.assert_array_equal(topology.chain_of_residue, reference.chain_of_residue)
        np.testing.assert_allclose(positions, xyz, atol=1e-9)


ATOMS = "".join(f"ATOM  {i:5d}  CA  ALA A{i:4d}    {i:8.3f}{0:8.3f}{0:8.3f}  1.00  0.00           C\n" for i in (1, 2))


@pytest.mark.parametrize("form", ["MODEL        1\n{}TER\nENDMDL\n", "{}END\n", "{}ENDMDL\n"])
def test_models(tmp_path, form):
    path = tmp_path / "m.pdb"
    path.write_text(2 * form.format(ATOMS))
    assert np.array(list(read_models(path))).shape == (2, 2, 3)
    assert read_topology(path).num_atoms == 2
    path.write_text(form.format(ATOMS) + form.format(ATOMS.splitlines(True)[0]))
    refused(lambda: list(read_models(path)), path, "model 2 has 1 atoms")


def prmtop(molecules):
    """HIE, CYX, a calcium ion and a water."""
    names = ["N", "CA", "C", "O", "N", "CA", "C", "O", "CA", "O", "H1", "H2"]
    masses = [14.01, 12.01, 12.01, 16.0] * 2 + [40.08, 16.0, 1.008, 1.008]

    def section(flag, form, fields, width, per_line):
        lines = [fields[i : i + per_line] for i in range(0, len(fields), per_line)]
        body = "".join("".join(f"{field:{width}}" for field in line) + "\n" for line in lines)
        return f"%FLAG {flag}\n%FORMAT({form})\n{body}"

    text = "%VERSION  VERSION_STAMP = V0001.000\n" + section("TITLE", "20a4", ["test"], 4, 20)
    text += section("ATOM_NAME", "20a4", names, "<4", 20)
    text += section("MASS", "5E16.8", [f"{mass:.8E}" for mass in masses], ">16", 5)
    text += section("RESIDUE_LABEL", "20a4", ["HIE", "CYX", "CA", "WAT"], "<4", 20)
    text += section("RESIDUE_POINTER", "10I8", ["1", "5", "9", "10"], ">8", 10)
    return text + section("ATOMS_PER_MOLECULE", "10I8", molecules, ">8", 10) if molecules else text


def test_prmtop(tmp_path):
    """Names stay; molecules are chains; elements follow the masses: CA is carbon in protein and calcium alone."""
    path = tmp_path / "x.prmtop"
    path.write_text(prmtop(["4", "4", "1", "3"]))
    topology = read_topology(path)
    assert topology.residue_names == ("HIE", "CYX", "CA", "WAT")
    assert topology.chain_lengths == [1, 1, 1, 1]
    assert topology.elements == (*"NCCONCCO", "CA", "O", "H", "H")
    assert topology.protein.chain_sequences() == ["H", "C"]
    path.write_text(prmtop([]))
    assert read_topology(path).chain_lengths == [4]


def test_gro(tmp_path):
    """Names stay; a number that falls begins a chain."""
    path = tmp_path / "x.gro"
    lines = ["    1HSD    OT1", "    2SOL     OW", "    1SOL     OW"]
    path.write_text("title\n    3\n" + "".join(f"{line}    1   0.1   0.2   0.3\n" for line in lines) + " 1 1 1\n")
    topology = read_topology(path)
    assert topology.residue_names == ("HSD", "SOL", "SOL")
    assert topology.atom_names == ("OT1", "OW", "OW")
    assert topology.elements == ("O", "O", "O")
    assert topology.chain_lengths == [2, 1]


def test_psf(tmp_path):
    """Names stay; segments are chains, printed by their first letter; elements follow the masses."""
    names = [("N", 14.007), ("CA", 12.011), ("C", 12.011), ("OT1", 15.999), ("HA", 1.008)]
    rows = [(segment, number, *name) for segment, number in (("PROA", "52A"), ("PROB", "1")) for name in names]
    atoms = [
        f"{i:8d} {segment:<4} {number:<4} HSD  {name:<4} XX   {0.0:10.6f} {mass:12.4f} {0:11d}\n"
        for i, (segment, number, name, mass) in enumerate(rows, 1)
    ]
    path = tmp_path / "x.psf"
    head = f"PSF\n\n       1 !NTITLE\n REMARKS x\n\n{len(atoms):8d} !NATOM\n"
    path.write_text(f"{head}{''.join(atoms)}\n       0 !NBOND: bonds\n\n")
    topology = read_topology(path)
    assert label_of_residue(topology) == ["P:HSD:52A", "P:HSD:1"]
    assert topology.atom_names[:5] == ("N", "CA", "C", "OT1", "HA")
    assert topology.elements[:5] == ("N", "C", "C", "O", "H")
    assert topology.protein.chain_sequences() == ["H", "H"]


def test_other_forms_are_read_by_mdtraj(tmp_path):
    path = tmp_path / "x.mol2"
    atoms = (
        "1 N 0 0 0 N.3 1 ALA1 0",
        "2 CA 1.5 0 0 C.3 1 ALA1 0",
        "3 C 2 1.4 0 C.2 1 ALA1 0",
        "4 OW 9 0 0 O.3 2 HOH2 0",
    )
    bonds = "@<TRIPOS>BOND\n1 1 2 1\n2 2 3 1\n"
    path.write_text("@<TRIPOS>MOLECULE\nx\n4 2\n\n@<TRIPOS>ATOM\n" + "\n".join(atoms) + "\n" + bonds)
    topology = read_topology(path)
    assert topology.atom_names == ("N", "CA", "C", "OW")
    assert topology.elements == ("N", "C", "C", "O")
    assert topology.is_protein.tolist() == [True, False]


def test_to_mdtraj(write_pdb, backbone):
    """A terminal oxygen under another name becomes O, an unknown element a virtual site."""
    atoms = backbone("ALA", "A", 1) + backbone("GLY", "A", 2, 4)[:3] + [("OT1", "GLY", "A", 2, (5, 5, 5))]
    atoms.append(("XQ", "UNL", "B", 1, (7, 5, 5), {"element": "Q"}))
    topology = read_topology(write_pdb(atoms)).to_mdtraj()
    assert [atom.name for atom in topology.residue(1).atoms] == ["N", "CA", "C", "O"]
    assert (topology.n_chains, topology.n_residues, topology.n_atoms) == (2, 3, 9)


def test_element_columns_that_hold_something_else(write_pdb, backbone):
    """Old files have line numbers there; a selenium without an element column is not sulfur."""
    atoms = backbone("MSE", "A", 1)
    atoms += [("SE", "MSE", "A", 1, (5, 5, 5), {"element": ""}), ("HB1", "MSE", "A", 1, (6, 5, 5), {"element": "24"})]
    atoms += [("HG", "MSE", "A", 1, (7, 5, 5), {"element": "HG"}), ("XQ", "MSE", "A", 1, (7, 5, 5), {"element": "Q"})]
    assert read_topology(write_pdb(atoms)).elements[-4:] == ("SE", "H", "H", "X")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.pdb", None),
        ("missing.cif", None),
        ("missing.gro", None),
        ("x.pdb", ""),
        ("x.pdb", "ATOM      1  N   ALA A   1      xx.xxx   6.134  -6.504\n"),
        ("x.pdb", "ATOM      1  N   ALA A   1      11.111\n"),
        ("x.pdb.gz", "not gzip"),
        ("x.cif", "data_x\nloop_\n_atom_site.id\n"),
        ("x.cif", "no cif at all"),
        ("x.cif", "data_x\n_entry.id 1\n"),
        ("x.gro", "title\n    3\n    1HSD    OT1    1   0.1   0.2   0.3\n"),
        ("x.psf", "nothing"),
        ("x.prmtop", prmtop([]).replace("%FLAG MASS", "%FLAG OTHER")),
        ("x.h5", "not HDF5"),
        ("x.txt", "not a topology"),
    ],
)
def test_unusable_files(tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    refused(lambda: read_topology(path), path)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=90), max_size=8))
def test_any_text_is_read_or_refused(tmp_path_factory, lines):
    """A PDB file gives a topology or an InputError, nothing else."""
    path = tmp_path_factory.mktemp("fuzz") / "x.pdb"
    path.write_text("".join(f"ATOM  {line}\n" for line in lines))
    try:
        assert read_topology(path).num_atoms > 0
    except InputError as error:
        assert "x.pdb" in str(error)  # noqa: PT017
