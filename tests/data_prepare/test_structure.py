"""Topologies: names as in the file, alternate locations, chains, elements, formats."""

from __future__ import annotations

import gzip
from itertools import pairwise

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prepare.errors import InputError, InputWarning
from data_prepare.structure.readers import read_models, read_structure, read_topology
from data_prepare.structure.sequence import ONE_LETTER, align_to_sequence, modify_seq, one_letter_sequence
from data_prepare.structure.topology import label_of_residue

BACKBONE = (("N", (0, 0, 0)), ("CA", (1.5, 0, 0)), ("C", (2, 1.4, 0)), ("O", (1.2, 2.3, 0)))


def backbone(name, chain, number, shift=0.0, **options):
    return [(atom, name, chain, number, np.add(xyz, (shift, 0, 0)), dict(options)) for atom, xyz in BACKBONE]


def test_names_stay_as_they_are(write_pdb):
    atoms = [*backbone("HSD", "A", 7), ("OT1", "HSD", "A", 7, (9, 9, 9)), ("1HB", "HSD", "A", 7, (8, 9, 9))]
    topology, xyz = read_structure(write_pdb(atoms))
    assert topology.residue_names == ("HSD",)
    assert topology.atom_names == ("N", "CA", "C", "O", "OT1", "1HB")
    assert topology.elements == ("N", "C", "C", "O", "O", "H")
    assert xyz.dtype == np.float64
    np.testing.assert_allclose(xyz[4], 9)
    assert topology.chain_sequences() == ["H"]


def ter_before(atoms):
    atoms[0][-1]["ter_before"] = True
    return atoms


def chains(path):
    topology = read_topology(path)
    return list(zip(topology.chain_ids, topology.chain_sequences(), strict=True))


def test_ter_ends_a_chain_also_with_the_same_id(write_pdb):
    """Numbers that run on, as AMBER writes them, or a jump: another chain."""
    for number in (3, 103, 1):
        atoms = backbone("ALA", "A", 1) + backbone("GLY", "A", 2, 4) + ter_before(backbone("TRP", "A", number, 8))
        topology = read_topology(write_pdb(atoms))
        assert topology.chain_ids == ("A", "A")
        assert modify_seq(topology.chain_sequences()) == "AG<eos><cls>W"


def test_ter_inside_a_chain(write_pdb):
    """Some numbers left out, or a bond: the chain goes on."""
    before = backbone("ALA", "A", 1) + backbone("GLY", "A", 2, 4)
    assert chains(write_pdb(before + ter_before(backbone("TRP", "A", 5, 30)))) == [("A", "AGW")]
    atoms = [(n, r, "A", i, xyz if (n, i) != ("N", 3) else (6, 1.4, 1.3), {}) for n, r, _, i, xyz, _ in before]
    bonded = backbone("TRP", "A", 3, 8)
    bonded[0] = ("N", "TRP", "A", 3, (6, 1.4, 1.3), {"ter_before": True})
    assert chains(write_pdb(atoms + bonded)) == [("A", "AGW")]
    blank = backbone("ALA", " ", 1) + ter_before(backbone("TRP", " ", 5, 30))
    assert chains(write_pdb(blank)) == [("", "A"), ("", "W")]


def test_chains_without_ids(write_pdb):
    """A number that falls, or another segment name."""
    path = write_pdb(backbone("ALA", " ", 1) + backbone("GLY", " ", 2, 4) + backbone("TRP", " ", 1, 9))
    assert chains(path) == [("", "AG"), ("", "W")]
    path = write_pdb(backbone("ALA", " ", 1) + backbone("GLY", " ", 2, 4))
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line[:72] + f"PRO{line[25]}" + line[76:] for line in lines if line[:4] == "ATOM"))
    assert chains(path) == [("", "A"), ("", "G")]


def seqres(chain, *names):
    return [
        f"SEQRES {i // 13 + 1:3d} {chain} {len(names):4d}  {' '.join(names[i : i + 13])}\n"
        for i in range(0, len(names), 13)
    ]


def with_seqres(path, *lines):
    path.write_text("".join(lines) + path.read_text())
    return path


def test_unresolved_residues_stay_in_the_sequence(write_pdb):
    """SEQRES has a tail before, a loop and an end that have no coordinates; TER at the loop is no end of the chain."""
    atoms = [a for i, r in ((5, "ALA"), (6, "MSE"), (9, "GLY"), (10, "TRP")) for a in backbone(r, "A", i, 5 * i)]
    ter_before(atoms[8:12])
    atoms += ter_before(backbone("SER", "B", 1, 90))
    atoms.append(("O", "HOH", "A", 201, (0, 0, 50), {"record": "HETATM"}))
    declared = seqres("A", "GLY", "HIS", "ALA", "MSE", "GLY", "GLY", "GLY", "TRP", "LYS"), seqres("B", "SER", "THR")
    topology = read_topology(with_seqres(write_pdb(atoms), *declared[0], *declared[1])).protein
    assert topology.chain_sequences() == ["AMGW", "S"]
    sequences, places = topology.full_sequences()
    assert sequences == ["GHAMGGGWK", "ST"]
    assert places.tolist() == [2, 3, 6, 7, 9]
    sequences, places = topology.select_chains(["B"]).full_sequences()
    assert (sequences, places.tolist()) == (["ST"], [0])


def test_unresolved_residues_of_mmcif(write_pdb, tmp_path):
    """label_seq_id tells the place; an archive's second name for a place (heterogeneity) is left out."""
    path = write_pdb(backbone("ALA", "A", 5) + backbone("TRP", "A", 9, 9))
    structure = gemmi.read_structure(str(path))
    structure.setup_entities()
    structure.entities[0].full_sequence = ["GLY", "ALA,SER", "MSE", "LYS", "TRP", "HIS"]
    structure.assign_label_seq_id()
    structure.make_mmcif_document().write_file(str(tmp_path / "x.cif"))
    topology = read_topology(tmp_path / "x.cif").protein
    assert topology.residue_numbers.tolist() == [5, 9]
    sequences, places = topology.full_sequences()
    assert (sequences, places.tolist()) == (["GAMKWH"], [1, 4])
    # files of other programs may lack the author's names
    text = (tmp_path / "x.cif").read_text().replace("_atom_site.auth_", "_atom_site.other_")
    (tmp_path / "y.cif").write_text(text)
    other = read_topology(tmp_path / "y.cif").protein
    assert other.residue_numbers.tolist() == [2, 5]
    assert other.full_sequences()[0] == ["GAMKWH"]


def test_prmtop(tmp_path):
    """Names stay; molecules are chains; elements are those of the masses, CA is carbon in protein and calcium alone."""
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
    path = tmp_path / "x.prmtop"
    path.write_text(text + section("ATOMS_PER_MOLECULE", "10I8", ["4", "4", "1", "3"], ">8", 10))
    topology = read_topology(path)
    assert topology.residue_names == ("HIE", "CYX", "CA", "WAT")
    assert topology.chain_lengths == [1, 1, 1, 1]
    assert topology.elements == (*"NCCONCCO", "CA", "O", "H", "H")
    assert topology.protein.chain_sequences() == ["H", "C"]
    path.write_text(text)
    assert read_topology(path).chain_lengths == [4]
    path.write_text(text.replace("%FLAG MASS", "%FLAG OTHER"))
    with pytest.raises(InputError, match=r"x\.prmtop: not a readable topology"):
        read_topology(path)


def test_select_chains(write_pdb):
    path = write_pdb(backbone("ALA", "A", 1) + backbone("GLY", "B", 1, 9) + backbone("TRP", "A", 2, 18))
    topology = read_topology(path).select_chains(["A"])
    assert topology.chain_ids == ("A", "A")
    assert topology.file_index.tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    with pytest.raises(InputError, match=r"system\.pdb: no chain C; it has A, B"):
        read_topology(path).select_chains(["A", "C"])


def test_declared_sequence_that_does_not_fit(write_pdb):
    path = with_seqres(write_pdb(backbone("ALA", "A", 1) + backbone("TRP", "A", 2, 4)), *seqres("A", "ALA", "GLY"))
    with pytest.warns(InputWarning, match="chain A: the declared sequence does not fit"):
        sequences, places = read_topology(path).full_sequences()
    assert (sequences, places.tolist()) == (["AW"], [0, 1])


@given(
    st.lists(st.sampled_from(sorted(set(ONE_LETTER) - {"MSE"})), min_size=1, max_size=60),
    st.data(),
)
@settings(max_examples=60, deadline=None)
def test_alignment_finds_the_places(names, data):
    """Residues taken out anywhere leave jumps of the numbers: all others find a place with their own name, in order."""
    there = data.draw(st.lists(st.integers(0, len(names) - 1), min_size=1, unique=True).map(sorted))
    places = align_to_sequence([names[i] for i in there], [i + 7 for i in there], names)
    assert all(a < b for a, b in pairwise(places))
    assert [ONE_LETTER[names[i]] for i in places] == [ONE_LETTER[names[i]] for i in there]
    # neighbours by number are neighbours in the sequence
    for (a, b), (p, q) in zip(pairwise(there), pairwise(places), strict=True):
        assert b - a != 1 or q - p == 1


def test_repeated_numbers_keep_the_order_of_the_file(write_pdb):
    """Waters that share a number are residues of their own; nothing is merged with an earlier residue."""
    atoms = backbone("ALA", " ", 1)
    atoms += [(n, "HOH", " ", 1, (i, 5, 5)) for i in range(3) for n in ("O", "H1", "H2")]
    atoms += backbone("GLY", " ", 1, 9)
    topology, xyz = read_structure(write_pdb(atoms))
    assert topology.residue_names == ("ALA", "HOH", "HOH", "HOH", "GLY")
    np.testing.assert_array_equal(xyz[:, 0], [np.float64(atom[4][0]) for atom in atoms])
    assert topology.protein.chain_sequences() == ["AG"]


def test_first_alternate_location(write_pdb):
    atoms = backbone("SER", "A", 1)
    atoms += [("CB", "SER", "A", 1, (1, 0, 0), {"altloc": "B"}), ("CB", "SER", "A", 1, (2, 0, 0), {"altloc": "A"})]
    # one place, two kinds of residue, atom by atom in turn
    for index, (name, xyz) in enumerate(BACKBONE):
        atoms += [
            (name, "SER", "A", 2, xyz, {"altloc": "A"}),
            (name, "THR", "A", 2, (index, 7, 7), {"altloc": "B"}),
        ]
    path = write_pdb(atoms)
    topology, xyz = read_structure(path)
    assert topology.residue_names == ("SER", "SER")
    assert topology.num_atoms == 9
    assert topology.atoms_in_file == 14
    assert xyz[4, 0] == 1.0
    (model,) = read_models(path)
    assert model.shape == (14, 3)
    np.testing.assert_array_equal(model[topology.file_index], xyz.astype(np.float32))


def test_insertion_codes_separate_residues(write_pdb):
    atoms = backbone("SER", "A", 5) + backbone("SER", "A", 5, 4, icode="A")
    topology = read_topology(write_pdb(atoms))
    assert label_of_residue(topology) == ["A:SER:5", "A:SER:5A"]


def test_protein_is_what_has_a_backbone(write_pdb):
    atoms = backbone("FOO", "A", 1)
    atoms.append(("CA", "CA", "A", 2, (9, 9, 9), {"element": "CA", "record": "HETATM"}))
    topology = read_topology(write_pdb(atoms))
    assert topology.is_protein.tolist() == [True, False]
    assert topology.elements[-1] == "CA"
    assert topology.protein.chain_sequences() == ["X"]


def test_sequence_of_modified_residues():
    names = ["MSE", "HSE", "HIP", "CYX", "SEP", "TPO", "PTR", "ASH", "UNK"]
    assert one_letter_sequence(names) == "MHHCSTYDX"


def test_mmcif_pdb_and_gzip_agree(write_pdb, tmp_path):
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
        for field in ("atom_names", "elements", "residue_names", "insertion_codes", "chain_ids"):
            assert getattr(topology, field) == getattr(reference, field), (name, field)
        np.testing.assert_array_equal(topology.residue_of_atom, reference.residue_of_atom)
        np.testing.assert_array_equal(topology.residue_numbers, reference.residue_numbers)
        np.testing.assert_array_equal(topology.chain_of_residue, reference.chain_of_residue)
        np.testing.assert_allclose(positions, xyz, atol=1e-9)


def test_models(tmp_path):
    lines = "".join(
        f"ATOM  {i:5d}  CA  ALA A{i:4d}    {i:8.3f}{0:8.3f}{0:8.3f}  1.00  0.00           C\n" for i in (1, 2)
    )
    path = tmp_path / "m.pdb"
    path.write_text(f"MODEL        1\n{lines}TER\nENDMDL\nMODEL        2\n{lines}TER\nENDMDL\nEND\n")
    assert np.array(list(read_models(path))).shape == (2, 2, 3)
    assert read_topology(path).num_atoms == 2
    for separator in ("END\n", "ENDMDL\n"):  # without MODEL records
        path.write_text(f"{lines}{separator}{lines}{separator}")
        assert np.array(list(read_models(path))).shape == (2, 2, 3)
        assert read_topology(path).num_atoms == 2
    path.write_text(f"MODEL        1\n{lines}ENDMDL\nMODEL        2\n{lines.splitlines()[0]}\nENDMDL\n")
    with pytest.raises(InputError, match="model 2 has 1 atoms, the first has 2"):
        list(read_models(path))


def test_hybrid_36_numbers(write_pdb):
    path = write_pdb(backbone("ALA", "A", 1))
    path.write_text(path.read_text().replace("ALA A   1", "ALA AA00B"))
    assert read_topology(path).residue_numbers.tolist() == [10011]


def test_gro_keeps_names(tmp_path):
    path = tmp_path / "x.gro"
    path.write_text(
        "title\n    2\n    1HSD    OT1    1   0.1   0.2   0.3\n    2SOL     OW    2   0.1   0.2   0.3\n 1 1 1\n"
    )
    topology = read_topology(path)
    assert topology.residue_names == ("HSD", "SOL")
    assert topology.atom_names == ("OT1", "OW")
    assert topology.elements == ("O", "O")
    path.write_text("title\n    3\n    1HSD    OT1    1   0.1   0.2   0.3\n")
    with pytest.raises(InputError, match=r"x\.gro: not a readable topology"):
        read_topology(path)


def test_psf_keeps_names_and_segments(tmp_path):
    """Segments are chains, printed by their first letter; elements come from the masses."""
    names = [("N", 14.007), ("CA", 12.011), ("C", 12.011), ("OT1", 15.999), ("HA", 1.008)]
    rows = [
        (segment, number, name, mass) for segment, number in (("PROA", "52A"), ("PROB", "1")) for name, mass in names
    ]
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


def test_element_columns_that_hold_something_else(write_pdb):
    """Old files have line numbers there; a selenium without an element column is no sulfur."""
    atoms = backbone("MSE", "A", 1)
    atoms += [("SE", "MSE", "A", 1, (5, 5, 5), {"element": ""}), ("HB1", "MSE", "A", 1, (6, 5, 5), {"element": "24"})]
    atoms.append(("XQ", "MSE", "A", 1, (7, 5, 5), {"element": "Q"}))
    topology = read_topology(write_pdb(atoms))
    assert topology.elements[-3:] == ("SE", "H", "X")
    assert topology.to_mdtraj().n_atoms == 7


def test_other_encodings_of_remarks(write_pdb):
    path = write_pdb(backbone("ALA", "A", 1))
    path.write_bytes("REMARK Ångström\n".encode("latin-1") + path.read_bytes())
    assert read_topology(path).num_atoms == 4


def test_to_mdtraj_names_the_terminal_oxygen(write_pdb):
    atoms = backbone("ALA", "A", 1) + backbone("GLY", "A", 2, 4)[:3] + [("OT1", "GLY", "A", 2, (5, 5, 5))]
    topology = read_topology(write_pdb(atoms)).to_mdtraj()
    assert [atom.name for atom in topology.residue(1).atoms] == ["N", "CA", "C", "O"]
    assert topology.n_residues == 2


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.pdb", "", "no atoms"),
        ("x.pdb", "ATOM      1  N   ALA A   1      xx.xxx   6.134  -6.504\n", "not a readable"),
        ("x.cif", "data_x\nloop_\n_atom_site.id\n", "no atoms"),
        ("x.cif", "no cif at all", "not a readable"),
        ("x.cif", "data_x\n_entry.id 1\n", "no atoms"),
        ("x.psf", "nothing", "not a readable topology"),
        ("x.pdb.gz", "not gzip", "not a readable"),
    ],
)
def test_unusable_files(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=reason) as caught:
        read_topology(path)
    assert name in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.pdb: no such file"):
        read_topology(tmp_path / "nothing.pdb")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=90), max_size=8))
def test_any_text_is_read_or_refused(tmp_path_factory, lines):
    """A PDB reader has no other way out than a topology or an InputError."""
    path = tmp_path_factory.mktemp("fuzz") / "x.pdb"
    path.write_text("".join(f"ATOM  {line}\n" for line in lines))
    try:
        message = ""
        assert read_topology(path).num_atoms > 0
    except InputError as error:
        message = str(error)
    assert not message or "x.pdb" in message
