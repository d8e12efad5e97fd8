"""Structure and topology files: names as in the file, chains, declared sequences, elements, formats."""

from __future__ import annotations

import gzip
from itertools import pairwise
from math import inf

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from data_prepare.errors import InputError, InputWarning
from data_prepare.structure.atom_records import AtomRecord, residue_number, topology_of
from data_prepare.structure.readers import read_models, read_structure, read_topology
from data_prepare.structure.sequence import ONE_LETTER, align_to_sequence
from data_prepare.structure.topology import label_of_residue

BACKBONE = {"N": (0, 0, 0), "CA": (1.5, 0, 0), "C": (2, 1.4, 0), "O": (1.2, 2.3, 0)}


def backbone(name, chain, number, shift=0.0, ter_before=False, **options):
    """Atoms of a residue for `write_pdb`, shifted along x (Angstrom)."""
    atoms = [(atom, name, chain, number, np.add(xyz, (shift, 0, 0)), dict(options)) for atom, xyz in BACKBONE.items()]
    atoms[0][-1]["ter_before"] = ter_before
    return atoms


TER = {"after_ter": True}
NEAR, FAR = {"position": (1.99, 0, 0)}, {"position": (2.01, 0, 0)}  # of the last carbon, at (0, 0, 0)
START, END = {"start": "HT2"}, {"end": "OT2"}  # atoms of termini


def records(number, chain_id, key, fields, end=()):
    """Backbone of a residue; a TER line is before its first atom."""
    rest = {name: value for name, value in fields.items() if name not in ("after_ter", "position", "start", "end")}
    first = AtomRecord("N", "N", "ALA", str(number), "", chain_id, key)._replace(**rest)
    yield first._replace(**{name: fields[name] for name in ("after_ter", "position") if name in fields})
    for name in ("CA", "C", *end, *([fields["start"]] if "start" in fields else ())):
        yield first._replace(atom_name=name, position=(0.0, 0.0, 0.0) if name == "C" else (inf, inf, inf))


@pytest.mark.parametrize(
    ("chain_id", "numbers", "fields", "begins"),
    [
        ("A", (9, 10), {}, False),
        ("A", (9, 12), {}, False),
        ("A", (9, 10), {"chain_id": "B"}, True),
        ("A", (9, 10), {"chain_id": "B", **NEAR}, True),
        # TER: numbers that continue, as AMBER writes them, or restart, begin a chain; left-out numbers do not
        ("A", (9, 10), TER, True),
        ("A", (9, 1), TER, True),
        ("A", (9, 11), TER, False),
        ("A", (9, 59), TER, False),
        ("A", (9, 60), TER, True),
        ("A", (9, 10), TER | NEAR, False),
        ("A", (9, 10), TER | FAR, True),
        # segments
        ("A", (9, 10), {"chain_label": "S"}, True),
        ("A", (9, 10), {"chain_label": "S", **NEAR}, False),
        # numbers that fall, but for a gap that an inserted domain leaves
        ("A", (9, 8), {}, True),
        ("A", (9, 8), NEAR, False),
        ("A", (9, 1), FAR, True),
        ("A", (30, 1002, 40), {}, False),
        ("A", (30, 31, 1002, 31), {}, True),
        ("A", (30, 1002, 29), {}, True),
        # atoms of termini
        ("A", (9, 10), START, True),
        ("A", (9, 10), END, True),
        ("A", (9, 11), START | END, False),
        ("A", (9, 10), START | NEAR, False),
        ("A", (9, 10), {"residue_name": "ACE"}, True),
        ("A", (9, 10), {"last_name": "NME"}, True),
        ("A", (9, 10), {"last_name": "NME", **NEAR}, False),
        # without ids
        ("", (9, 11), TER, True),
        ("", (9, 10), {}, False),
        ("", (9, 8), {}, True),
        # formats that separate chains
        ("", (9, 1), {"chain_key": 0}, False),
        ("A", (9, 10), {"chain_key": 1, **NEAR}, True),
    ],
)
def test_begins_chain(tmp_path, chain_id, numbers, fields, begins):
    fields = dict(fields)
    key = 0 if "chain_key" in fields else None
    atoms = [atom for number in numbers[:-2] for atom in records(number, chain_id, key, {})]
    last = {"residue_name": fields.pop("last_name", "ALA")}
    atoms += records(numbers[-2], chain_id, key, last, [fields["end"]] if "end" in fields else [])
    atoms += records(numbers[-1], chain_id, key, fields)
    for num_declared in (0, 2):
        lengths = topology_of(tmp_path, atoms, num_declared={chain_id: num_declared}).chain_lengths
        assert lengths == ([len(numbers) - 1, 1] if begins else [len(numbers)])
    if "chain_id" not in fields and "chain_key" not in fields:  # the file declares one sequence for the chain id
        assert topology_of(tmp_path, atoms, num_declared={chain_id: 1}).chain_lengths == [len(numbers)]


@pytest.mark.parametrize(
    ("text", "last", "number"),
    [
        ("10", 15, 10),
        ("-5", None, -5),
        ("9999", 9998, 9999),
        ("10000", 9999, 10000),
        ("2710", 9999, 10000),  # VMD
        ("2710", 2709, 2710),
        ("271a", 10009, 10010),
        ("271A", 10009, 10010),
        ("271a", None, 10010),
        ("A000", 9999, 10000),  # hybrid-36 and OpenMM
        ("A00Z", 10034, 10035),
        ("A010", 10015, 10016),  # OpenMM
        ("A010", 10035, 10036),  # hybrid-36
        ("a000", 1223055, 1223056),
        ("****", 9999, 10000),
        ("", None, 1),
        ("?", 7, 8),
    ],
)
def test_residue_numbers_of_other_programs(text, last, number):
    assert residue_number(text, last) == number


def with_seqres(path, **chains):
    """Write SEQRES before the atoms of a PDB file."""
    lines = [
        f"SEQRES {i // 5 + 1:3d} {chain} {len(names.split()):4d}  {' '.join(names.split()[i : i + 5])}\n"
        for chain, names in chains.items()
        for i in range(0, len(names.split()), 5)
    ]
    path.write_text("".join(lines) + path.read_text())
    return path


def test_chains_of_a_pdb_file(write_pdb):
    """TER, positions and segment columns are read."""
    atoms = backbone("ALA", "A", 1) + backbone("GLY", "A", 2, 4)
    other = write_pdb(atoms + backbone("TRP", "A", 3, 8, ter_before=True))
    assert read_topology(other).chain_sequences() == ["AG", "W"]
    bonded = write_pdb(atoms + backbone("TRP", "A", 3, 4 + 3.3, ter_before=True))
    assert read_topology(bonded).chain_sequences() == ["AGW"]
    path = write_pdb(backbone("ALA", " ", 1) + backbone("GLY", " ", 2, 4))
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line[:72] + f"PRO{line[25]}" + line[76:] for line in lines if line[:4] == "ATOM"))
    assert read_topology(path).chain_sequences() == ["A", "G"]


def test_unresolved_residues_stay_in_the_sequence(write_pdb):
    """SEQRES has a tail before, a loop and an end without coordinates; TER at the loop does not end the chain."""
    residues = ((5, "ALA"), (6, "MSE"), (9, "GLY"), (10, "TRP"))
    atoms = [atom for i, name in residues for atom in backbone(name, "A", i, 5 * i, ter_before=i == 9)]
    atoms.append(("O", "HOH", "A", 201, (0, 0, 50), {"record": "HETATM"}))
    atoms += backbone("SER", "B", 1, 90, ter_before=True)
    path = with_seqres(write_pdb(atoms), A="GLY HIS ALA MSE GLY GLY GLY TRP LYS", B="SER THR")
    topology = read_topology(path).protein
    assert topology.chain_sequences() == ["AMGW", "S"]
    sequences, residue_index = topology.full_sequences()
    assert sequences == ["GHAMGGGWK", "ST"]
    assert residue_index.tolist() == [2, 3, 6, 7, 9]
    sequences, residue_index = topology.select_chains(["B"]).full_sequences()
    assert (sequences, residue_index.tolist()) == (["ST"], [0])


def test_declared_sequences_of_old_files(write_pdb):
    """Their columns 73 to 80 hold the code and a line number."""
    path = write_pdb(backbone("ALA", "A", 1) + backbone("TRP", "A", 3, 8))
    declared = f"{'SEQRES   1 A    3  ALA GLY TRP':72}1MBN  51\n"
    path.write_text(declared + path.read_text())
    assert read_topology(path).full_sequences()[0] == ["AGW"]


def test_unresolved_residues_of_mmcif(write_pdb, tmp_path):
    """label_seq_id is the index; a second residue name for one index (heterogeneity) is ignored."""
    path = write_pdb(backbone("ALA", "A", 5) + backbone("TRP", "A", 9, 9))
    structure = gemmi.read_structure(str(path))
    structure.setup_entities()
    structure.entities[0].full_sequence = ["GLY", "ALA,SER", "MSE", "LYS", "TRP", "HIS"]
    structure.assign_label_seq_id()
    text = structure.make_mmcif_document().as_string()
    # files of other programs may lack the author's names
    for content, numbers in ((text, [5, 9]), (text.replace("_atom_site.auth_", "_atom_site.other_"), [2, 5])):
        (tmp_path / "x.cif").write_text(content)
        topology = read_topology(tmp_path / "x.cif").protein
        assert topology.residue_numbers.tolist() == numbers
        sequences, residue_index = topology.full_sequences()
        assert (sequences, residue_index.tolist()) == (["GAMKWH"], [1, 4])


def test_caps_are_no_letters(write_pdb, tmp_path):
    """Neither of the residues nor of the declared sequence, whose later residues keep their places."""
    names = ["ACE", "ALA", "AIB", "GLY", "NH2"]
    atoms = [("CH3", "ACE", "A", 0, (-2, 0, 0)), ("C", "ACE", "A", 0, (-1.3, 0, 0))]
    atoms += [atom for i in (1, 2, 3) for atom in backbone(names[i], "A", i, 3.3 * (i - 1))]
    atoms.append(("N", "NH2", "A", 4, (8.6 + 1.3, 1.4, 0), {"record": "HETATM"}))
    path = with_seqres(write_pdb(atoms), A=" ".join([*names[:4], "LYS", names[4]]))
    structure = gemmi.read_structure(str(path))
    structure.setup_entities()
    structure.assign_label_seq_id()
    structure.make_mmcif_document().write_file(str(tmp_path / "x.cif"))
    for file in (path, tmp_path / "x.cif"):
        topology = read_topology(file)
        assert topology.is_cap.tolist() == [True, False, False, False, True]
        sequences, residue_index = topology.protein.full_sequences()
        assert (sequences, residue_index.tolist()) == (["AXGK"], [0, 1, 2])


@pytest.mark.parametrize("numbers", ["1 2 4 5", "1 2 3 99999999999", "1 2 3 ?", "1 2 3 -4"])
def test_numbers_of_a_declared_sequence(write_pdb, tmp_path, numbers):
    """A gap is unknown residues; residues beyond the sequence do not belong to it; other numbers are refused."""
    path = write_pdb([atom for i in range(4) for atom in backbone("ALA", "A", i + 1, 4 * i)])
    structure = gemmi.read_structure(str(path))
    structure.setup_entities()
    structure.entities[0].full_sequence = ["ALA"] * 4
    structure.assign_label_seq_id()
    block = structure.make_mmcif_document().sole_block()
    for row, number in zip(block.find("_entity_poly_seq.", ["num"]), numbers.split(), strict=True):
        row[0] = number
    label, last = ["1", "2", "4", "5"], "99999999999"
    for k, row in enumerate(block.find("_atom_site.", ["label_seq_id", "auth_seq_id"])):
        row[0], row[1] = label[k // 4], last if k >= 12 else row[1]
    block.write_file(str(tmp_path / "x.cif"))
    if numbers != "1 2 4 5":
        refused(lambda: read_topology(tmp_path / "x.cif"), "x.cif")
        return
    assert read_topology(tmp_path / "x.cif").residue_numbers.tolist() == [1, 2, 3, 99999999999]
    assert read_topology(tmp_path / "x.cif").full_sequences()[0] == ["AAXAA"]
    for row in list(block.find("_atom_site.", ["label_seq_id"]))[12:]:
        row[0] = "6"
    block.write_file(str(tmp_path / "x.cif"))
    with pytest.warns(InputWarning, match=r"x\.cif: chain A: "):
        assert read_topology(tmp_path / "x.cif").full_sequences()[0] == ["AAAA"]


def test_declared_sequence_that_does_not_match(write_pdb):
    path = with_seqres(write_pdb(backbone("ALA", "A", 1) + backbone("TRP", "A", 2, 4)), A="ALA GLY")
    with pytest.warns(InputWarning, match=r"system\.pdb: chain A: "):
        sequences, residue_index = read_topology(path).full_sequences()
    assert (sequences, residue_index.tolist()) == (["AW"], [0, 1])


def test_the_coordinates_decide_the_residue(write_pdb):
    names = ["GLY" if i == 5 else "ALA" for i in range(11)]
    path = write_pdb([atom for i, name in enumerate(names) for atom in backbone(name, "A", i + 1, 4 * i)])
    assert read_topology(with_seqres(path, A="ALA " * 11)).full_sequences()[0] == ["AAAAAGAAAAA"]


@given(st.lists(st.sampled_from(sorted(set(ONE_LETTER) - {"MSE"})), min_size=1, max_size=60), st.data())
@settings(max_examples=60, deadline=None)
def test_alignment(names, data):
    """Missing residues leave gaps in the numbers; all others match their own name, in order."""
    observed = data.draw(st.lists(st.integers(0, len(names) - 1), min_size=1, unique=True).map(sorted))
    indices = align_to_sequence([names[i] for i in observed], [i + 7 for i in observed], names)
    assert all(a < b for a, b in pairwise(indices))
    assert [ONE_LETTER[names[i]] for i in indices] == [ONE_LETTER[names[i]] for i in observed]
    # neighbours by number are neighbours in the sequence
    for (a, b), (p, q) in zip(pairwise(observed), pairwise(indices), strict=True):
        assert b - a != 1 or q - p == 1


def test_select_chains(write_pdb):
    path = write_pdb(backbone("ALA", "A", 1) + backbone("GLY", "B", 1, 9) + backbone("TRP", "A", 2, 18))
    structure = read_structure(path).select_chains(["A"])
    assert structure.topology.chain_ids == ("A", "A")
    assert structure.topology.file_index.tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert structure.xyz[[0, 4], 0].tolist() == [0, 18]
    refused(lambda: read_topology(path).select_chains(["A", "C"]), "system.pdb", "chain C", "A, B")


def test_repeated_numbers(write_pdb):
    """Waters that share a number are separate residues; nothing is merged with an earlier residue."""
    atoms = backbone("ALA", " ", 1) + [(n, "HOH", " ", 1, (i, 5, 5)) for i in range(3) for n in ("O", "H1", "H2")]
    topology, xyz = read_structure(write_pdb(atoms + backbone("GLY", " ", 1, 9)))
    assert topology.residue_names == ("ALA", "HOH", "HOH", "HOH", "GLY")
    np.testing.assert_array_equal(xyz[:13, 0], [atom[4][0] for atom in atoms])


def test_protein_is_what_has_a_backbone(write_pdb):
    """Ligands with the atoms of a backbone are not bonded to it."""
    atoms = [
        *backbone("ALA", "A", 1),
        *backbone("FOO", "A", 2, 3.3),
        ("CA", "CA", "A", 2, (9, 9, 9), {"element": "CA", "record": "HETATM"}),
    ]
    atoms.append(("CA", "GLY", "A", 3, (8, 8, 8)))
    atoms += [(name, "LIG", "A", 4, (7, 8, 8)) for name in ("N", "CA", "O1")]
    atoms += [(name, "POP", "L", 5, (6, 8, 8)) for name in ("N", "P", "C1", "C")]  # a lipid
    atoms += [*backbone("SAH", "A", 90, 20, record="HETATM"), *backbone("GLU", "A", 91, 30, record="HETATM")]
    atoms += [*backbone("SAM", "A", 92, 40), *backbone("SER", "A", 93, 50)]
    topology = read_topology(write_pdb(atoms))
    protein = [True, True, False, False, False, False, False, False, False, True]
    assert topology.is_protein.tolist() == protein
    assert topology.is_amino_acid.tolist() == [*protein[:3], True, *protein[4:]]
    assert topology.elements[8:10] == ("CA", "C")
    assert topology.protein.chain_sequences() == ["AX", "S"]


def test_names_are_those_of_the_file(write_pdb):
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


def test_four_letters_of_a_residue_or_two_of_a_chain(write_pdb):
    """Column 21 belongs to one of them."""
    path = write_pdb(backbone("LYS", "A", 1) + backbone("SER", "A", 2, 4) + backbone("ZAE", "A", 3, 8))
    text = path.read_text()
    path.write_text(text.replace("LYS A", "LYSHA"))
    assert (read_topology(path).chain_ids, read_topology(path).chain_sequences()) == (("A",), ["KSX"])
    path.write_text(text.replace("LYS A", "LYSPA").replace("SER A", "SER+A"))  # one modified residue, one of CYANA
    assert (read_topology(path).chain_ids, read_topology(path).residue_names) == (("A",), ("LYSP", "SER", "ZAE"))
    path.write_text(text.replace(" A  ", "BA  "))
    topology = read_topology(path)
    assert (topology.chain_ids, topology.residue_names) == (("BA",), ("LYS", "SER", "ZAE"))


def test_first_alternate_location(write_pdb):
    atoms = backbone("SER", "A", 1)
    atoms += [("CB", "SER", "A", 1, (1, 0, 0), {"altloc": "B"}), ("CB", "SER", "A", 1, (2, 0, 0), {"altloc": "A"})]
    twins = zip(backbone("SER", "A", 2, 4, altloc="A"), backbone("THR", "A", 2, 5, altloc="B"), strict=True)
    atoms += [atom for twin in twins for atom in twin]  # two residues at one position, with alternating atoms
    path = write_pdb(atoms)
    topology, xyz = read_structure(path)
    assert topology.residue_names == ("SER", "SER")
    assert (topology.num_atoms, topology.atoms_in_file) == (9, 14)
    assert xyz[4, 0] == 1.0
    (model,) = read_models(path)
    np.testing.assert_array_equal(model[topology.file_index], xyz.astype(np.float32))


def test_mmcif_pdb_and_gzip_agree(write_pdb, tmp_path):
    atoms = backbone("MSE", "A", 1) + backbone("SER", "A", 2, 4, icode="C") + backbone("TRP", "B", 1, 9)
    atoms += [("CB", "TRP", "B", 1, (5, 5, 5), {"altloc": "A"}), ("CB", "TRP", "B", 1, (6, 6, 6), {"altloc": "B"})]
    path = write_pdb(atoms)
    structure = gemmi.read_structure(str(path))
    structure.setup_entities()
    structure.make_mmcif_document().write_file(str(tmp_path / "x.cif"))
    (tmp_path / "x.pdb.gz").write_bytes(gzip.compress(path.read_bytes()))
    (tmp_path / "plain.pdb.gz").write_bytes(path.read_bytes())
    (tmp_path / "x.cif.gz").write_bytes(gzip.compress((tmp_path / "x.cif").read_bytes()))
    (tmp_path / "plain.cif.gz").write_bytes((tmp_path / "x.cif").read_bytes())
    (tmp_path / "packed.cif").write_bytes((tmp_path / "x.cif.gz").read_bytes())
    reference, xyz = read_structure(path)
    assert reference.num_atoms == 13
    for name in ("x.pdb.gz", "plain.pdb.gz", "x.cif.gz", "x.cif", "plain.cif.gz", "packed.cif"):
        topology, positions = read_structure(tmp_path / name)
        for field in ("atom_names", "elements", "residue_names", "insertion_codes", "chain_ids", "residue_of_atom"):
            assert list(getattr(topology, field)) == list(getattr(reference, field)), (name, field)
        np.testing.assert_array_equal(topology.residue_numbers, reference.residue_numbers)
        np.testing.assert_array_equal(topology.chain_of_residue, reference.chain_of_residue)
        np.testing.assert_allclose(positions, xyz, atol=1e-9)
    assert topology.select_chains(["Bxp"]).chain_ids == ("B",)  # label_asym_id


ATOMS = "".join(f"ATOM  {i:5d}  CA  ALA A{i:4d}    {i:8.3f}{0:8.3f}{0:8.3f}  1.00  0.00           C\n" for i in (1, 2))


@pytest.mark.parametrize("form", ["MODEL        1\n{}TER\nENDMDL\n", "{}END\n", "{}ENDMDL\n"])
def test_models(tmp_path, form):
    path = tmp_path / "m.pdb"
    path.write_text(2 * form.format(ATOMS))
    assert np.array(list(read_models(path))).shape == (2, 2, 3)
    assert read_topology(path).num_atoms == 2
    path.write_text(form.format(ATOMS).replace("ATOM      2", "ATOM 100000"))
    assert read_topology(path).num_atoms == 2
    swapped = form.format("".join(reversed(ATOMS.splitlines(True))))
    path.write_text(form.format(ATOMS) + swapped)
    np.testing.assert_array_equal(*read_models(path))
    path.write_text(form.format(ATOMS) + form.format(ATOMS.splitlines(True)[0]))
    refused(lambda: list(read_models(path)), path, "model 2 has 1 atoms")


def prmtop(molecules=""):
    """HIE, CYX, a calcium ion and a water."""
    names, masses = "N CA C O N CA C O CA O H1 H2", f"{'14.01 12.01 12.01 16.0 ' * 2} 40.08 16.0 1.008 1.008"
    sections = (
        ("ATOM_NAME", "20a4", "".join(f"{name:<4}" for name in names.split())),
        ("MASS", "5E16.8", masses),
        ("RESIDUE_LABEL", "20a4", "HIE CYX CA  WAT "),
        ("RESIDUE_POINTER", "10I8", "1 5\n9 10"),
        *([("ATOMS_PER_MOLECULE", "10I8", molecules)] if molecules else []),
    )
    return "%VERSION\n" + "".join(f"%FLAG {flag}\n%FORMAT({form})\n{body}\n" for flag, form, body in sections)


def test_prmtop(tmp_path):
    """Molecules are chains; elements follow the masses: CA is carbon in protein, else calcium."""
    path = tmp_path / "x.prmtop"
    path.write_text(prmtop("4 4 1 3"))
    topology = read_topology(path)
    assert topology.residue_names == ("HIE", "CYX", "CA", "WAT")
    assert topology.chain_lengths == [1, 1, 1, 1]
    assert topology.elements == (*"NCCONCCO", "CA", "O", "H", "H")
    path.write_text(prmtop("8 1 3"))  # bonded by a disulfide
    assert read_topology(path).chain_lengths == [2, 1, 1]
    path.write_text(prmtop("8 1 3").replace("C   O   N   ", "C   OXT N   ", 1))
    assert read_topology(path).chain_lengths == [1, 1, 1, 1]
    path.write_text(prmtop())
    assert read_topology(path).chain_lengths == [4]
    repartitioned = (
        prmtop().replace("14.01 12.01", "11.99 12.01").replace("1.008", "3.024").replace("16.0 1", "13.98 1")
    )
    path.write_text(repartitioned)
    assert read_topology(path).elements == (*"NCCONCCO", "CA", "O", "H", "H")
    numbers = "%FLAG ATOMIC_NUMBER\n%FORMAT(10I8)\n7 6 6 8 7 6 6 8 20 8 1 1\n"
    path.write_text(repartitioned.replace("13.98", "40.08") + numbers)
    assert read_topology(path).elements == (*"NCCONCCO", "CA", "O", "H", "H")


GRO = "".join(f"{line}    1   0.1   0.2   0.3\n" for line in ("    1HSD    OT1", "    2SOL     OW", "    1SOL     OW"))
PSF_ATOMS = (("N", 14.007), ("CA", 12.011), ("C", 12.011), ("OT1", 15.999), ("HA", 1.008))
PSF = "".join(f"1 {r} HSD {name} XX 0.0 {mass} 0\n" for r in ("PROA 52A", "PROB 1") for name, mass in PSF_ATOMS)
MOL2 = "\n1 N 0 0 0 N.3 1 ALA1 0\n2 CA 1.5 0 0 C.3 1 ALA1 0\n3 C 2 1.4 0 C.2 1 ALA1 0\n4 OW 9 0 0 O.3 2 HOH2 0\n"
FORMATS = {
    # a smaller number begins a chain
    "x.gro": (f"title\n    3\n{GRO} 1 1 1\n", ["X:HSD:1", "X:SOL:2", "X:SOL:1"], "OT1 OW OW", "O O O", [2, 1]),
    # segments are chains, named by their first letter; elements follow the masses
    "x.psf": (
        f"PSF\n\n       1 !NTITLE\n REMARKS x\n\n 10 !NATOM\n{PSF}\n       0 !NBOND: bonds\n\n",
        ["P:HSD:52A", "P:HSD:1"],
        *(2 * "N CA C OT1 HA ", 2 * "N C C O H ", [1, 1]),
    ),
    # read by MDTraj
    "x.mol2": (
        f"@<TRIPOS>MOLECULE\nx\n4 2\n\n@<TRIPOS>ATOM{MOL2}@<TRIPOS>BOND\n1 1 2 1\n2 2 3 1\n",
        ["X:ALA1:1", "X:HOH2:2"],
        *("N CA C OW", "N C C O", [2]),
    ),
}


def psf(*atoms):
    lines = (
        f"{n} {segment} {number} HSD {name} XX 0 {mass} 0\n" for n, (segment, number, name, mass) in enumerate(atoms)
    )
    return f"PSF\n\n 1 !NTITLE\n REMARKS x\n\n {len(atoms)} !NATOM\n{''.join(lines)}\n 0 !NBOND: bonds\n\n"


@pytest.mark.parametrize(
    ("segments", "numbers", "chains"),
    [(("SYS", "SYS"), (1, 1), 2), (("SYS", "SYS"), (1, 2), 2), (("", ""), (1, 2), 2), (("A", "B"), (1, 2), 2)],
)
def test_segments_of_psf(tmp_path, segments, numbers, chains):
    """One for all, as ParmEd writes it, or none, as VMD; particles of Drude are no atoms."""
    path = tmp_path / "x.psf"
    residue = (*PSF_ATOMS, ("OT2", 16.0), ("DN", 0.4), ("LP1", 0.0))
    path.write_text(psf(*((*place, *atom) for place in zip(segments, numbers, strict=True) for atom in residue)))
    topology = read_topology(path)
    assert topology.chain_lengths == [1] * chains
    assert (topology.num_atoms, topology.atoms_in_file) == (2 * 6, 2 * 8)
    assert topology.elements[:6] == ("N", "C", "C", "O", "H", "O")
    assert topology.chain_labels == segments


def test_capped_ends_of_gro(tmp_path):
    """Hydrogens of an amide are named like those of a first residue; the peptide bond decides."""
    names, line = ("N", "CA", "C", "O"), "{:5d}ALA  {:>5}{:5d}{:8.3f}{:8.3f}{:8.3f}\n"
    atoms = [(r, name, 0.38 * r + 0.12 * k) for r in (1, 2) for k, name in enumerate(names)]
    atoms += [(2, "NT", 1.3), (2, "HT1", 1.4), (2, "HT2", 1.5)]
    atoms[2] = (1, "C", 0.38 * 2 - 0.13)
    text = "".join(line.format(r, name, k, x, 0, 0) for k, (r, name, x) in enumerate(atoms))
    (tmp_path / "x.gro").write_text(f"t\n{len(atoms):5d}\n{text}   5.0   5.0   5.0\n")
    assert read_topology(tmp_path / "x.gro").chain_lengths == [2]


def test_chains_named_by_segments(write_pdb):
    path = write_pdb(backbone("ALA", " ", 1) + backbone("TRP", " ", 1, 9))
    lines = path.read_text().splitlines()
    path.write_text("\n".join(f"{line[:72]:72}{'AB'[k > 3]:4}" for k, line in enumerate(lines[:8])))
    assert read_topology(path).select_chains(["B"]).residue_names == ("TRP",)
    refused(lambda: read_topology(path).select_chains(["C"]), "no chain C; it has A, B")


@pytest.mark.parametrize("name", FORMATS)
def test_topology_formats(tmp_path, name):
    content, labels, atoms, elements, chains = FORMATS[name]
    (tmp_path / name).write_text(content)
    topology = read_topology(tmp_path / name)
    assert label_of_residue(topology) == labels
    assert topology.atom_names == tuple(atoms.split())
    assert topology.elements == tuple(elements.split())
    assert topology.chain_lengths == chains


def test_to_mdtraj(write_pdb):
    """A terminal oxygen under another name becomes O, an unknown element a virtual site."""
    atoms = backbone("ALA", "A", 1) + backbone("GLY", "A", 2, 4)[:3] + [("OT1", "GLY", "A", 2, (5, 5, 5))]
    atoms.append(("XQ", "UNL", "B", 1, (7, 5, 5), {"element": "Q"}))
    topology = read_topology(write_pdb(atoms)).to_mdtraj()
    assert [atom.name for atom in topology.residue(1).atoms] == ["N", "CA", "C", "O"]
    assert (topology.n_chains, topology.n_residues, topology.n_atoms) == (2, 3, 9)


def test_element_columns_that_hold_something_else(write_pdb):
    """Line numbers of old files; a selenium without an element is not sulfur."""
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
        ("x.prmtop", prmtop().replace("%FLAG MASS", "%FLAG OTHER")),
        ("x.h5", "not HDF5"),
        ("x.txt", "not a topology"),
    ],
)
def test_unusable_files(tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    refused(lambda: read_topology(path), path)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=90), max_size=8))
def test_any_text_is_read_or_refused(tmp_path_factory, lines):
    """A PDB file gives a topology or an InputError, nothing else."""
    path = tmp_path_factory.mktemp("fuzz") / "x.pdb"
    path.write_text("".join(f"ATOM  {line}\n" for line in lines))
    try:
        assert read_topology(path).num_atoms > 0
    except InputError as error:
        assert "x.pdb" in str(error)  # noqa: PT017


def test_a_trajectory_is_no_topology(tmp_path):
    (path := tmp_path / "x.xtc").write_bytes(b"frames")
    refused(lambda: read_topology(path), path, "a trajectory")
