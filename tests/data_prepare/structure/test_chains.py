"""Chains and residues: where they begin, their declared sequences, what is protein."""

from __future__ import annotations

from itertools import pairwise

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from data_prepare.errors import InputWarning
from data_prepare.structure.atom_records import AtomRecord, begins_chain
from data_prepare.structure.readers import read_structure, read_topology
from data_prepare.structure.sequence import ONE_LETTER, align_to_sequence, modify_seq, one_letter_sequence


@pytest.mark.parametrize(
    ("last", "atom", "begins"),
    [
        # number, chain id and segment of the last residue; of the next atom; its other fields
        ((9, "A"), (10, "A"), False),
        ((9, "A"), (1, "A"), False),
        ((9, "A"), (10, "B"), True),
        # TER: numbers that go on, as AMBER writes them, or restart, begin a chain; left-out numbers do not
        ((9, "A"), (10, "A", "", {"after_ter": True}), True),
        ((9, "A"), (9, "A", "", {"after_ter": True}), True),
        ((9, "A"), (1, "A", "", {"after_ter": True}), True),
        ((9, "A"), (11, "A", "", {"after_ter": True}), False),
        ((9, "A"), (59, "A", "", {"after_ter": True}), False),
        ((9, "A"), (60, "A", "", {"after_ter": True}), True),
        ((9, ""), (11, "", "", {"after_ter": True}), True),
        # the last carbon is at (0, 0, 0)
        ((9, "A"), (10, "A", "", {"after_ter": True, "position": (1.99, 0, 0)}), False),
        ((9, "A"), (10, "A", "", {"after_ter": True, "position": (2.01, 0, 0)}), True),
        ((9, "A"), (10, "A", "", {"after_ter": True, "position": (1.99, 0, 0), "atom_name": "P"}), True),
        # without ids
        ((9, ""), (10, ""), False),
        ((9, ""), (9, ""), False),
        ((9, ""), (8, ""), True),
        ((9, "", "S1"), (10, "", "S2"), True),
        ((9, "", "S1"), (8, "", "S1"), True),
        # formats that separate chains
        ((9, "", "", {"chain_key": 0}), (1, "", "", {"chain_key": 0}), False),
        ((9, "A", "", {"chain_key": "x"}), (10, "A", "", {"chain_key": "y"}), True),
    ],
)
def test_begins_chain(last, atom, begins):
    def record(number, chain_id, segment="", more=None):
        return AtomRecord("N", "N", "ALA", number, "", chain_id, segment=segment)._replace(**(more or {}))

    assert begins_chain(record(*atom), record(*last), (0, 0, 0), 0) is begins
    assert begins_chain(record(*atom), record(*last), (0, 0, 0), 2) is begins
    if last[1] == atom[1] == "A" and record(*atom).chain_key is None:
        assert not begins_chain(record(*atom), record(*last), (0, 0, 0), 1)  # the file declares one sequence for A


def seqres(chain, *names):
    return [
        f"SEQRES {i // 13 + 1:3d} {chain} {len(names):4d}  {' '.join(names[i : i + 13])}\n"
        for i in range(0, len(names), 13)
    ]


def with_seqres(path, *lines):
    path.write_text("".join(lines) + path.read_text())
    return path


def test_chains_of_a_pdb_file(write_pdb, backbone):
    """TER, positions and segment columns are read."""
    atoms = backbone("ALA", "A", 1) + backbone("GLY", "A", 2, 4)
    other = write_pdb(atoms + backbone("TRP", "A", 3, 8, ter_before=True))
    assert modify_seq(read_topology(other).chain_sequences()) == "AG<eos><cls>W"
    bonded = write_pdb(atoms + backbone("TRP", "A", 3, 4 + 3.3, ter_before=True))
    assert read_topology(bonded).chain_sequences() == ["AGW"]
    path = write_pdb(backbone("ALA", " ", 1) + backbone("GLY", " ", 2, 4))
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line[:72] + f"PRO{line[25]}" + line[76:] for line in lines if line[:4] == "ATOM"))
    assert read_topology(path).chain_sequences() == ["A", "G"]


def test_unresolved_residues_stay_in_the_sequence(write_pdb, backbone):
    """SEQRES has a tail before, a loop and an end without coordinates; TER at the loop does not end the chain."""
    residues = ((5, "ALA"), (6, "MSE"), (9, "GLY"), (10, "TRP"))
    atoms = [atom for i, name in residues for atom in backbone(name, "A", i, 5 * i, ter_before=i == 9)]
    atoms += backbone("SER", "B", 1, 90, ter_before=True)
    atoms.append(("O", "HOH", "A", 201, (0, 0, 50), {"record": "HETATM"}))
    declared = seqres("A", "GLY", "HIS", "ALA", "MSE", "GLY", "GLY", "GLY", "TRP", "LYS"), seqres("B", "SER", "THR")
    topology = read_topology(with_seqres(write_pdb(atoms), *declared[0], *declared[1])).protein
    assert topology.chain_sequences() == ["AMGW", "S"]
    sequences, residue_index = topology.full_sequences()
    assert sequences == ["GHAMGGGWK", "ST"]
    assert residue_index.tolist() == [2, 3, 6, 7, 9]
    sequences, residue_index = topology.select_chains(["B"]).full_sequences()
    assert (sequences, residue_index.tolist()) == (["ST"], [0])


def test_unresolved_residues_of_mmcif(write_pdb, backbone, tmp_path):
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


def test_declared_sequence_that_does_not_fit(write_pdb, backbone):
    path = with_seqres(write_pdb(backbone("ALA", "A", 1) + backbone("TRP", "A", 2, 4)), *seqres("A", "ALA", "GLY"))
    with pytest.warns(InputWarning, match=r"system\.pdb: chain A: "):
        sequences, residue_index = read_topology(path).full_sequences()
    assert (sequences, residue_index.tolist()) == (["AW"], [0, 1])


@given(
    st.lists(st.sampled_from(sorted(set(ONE_LETTER) - {"MSE"})), min_size=1, max_size=60),
    st.data(),
)
@settings(max_examples=60, deadline=None)
def test_alignment(names, data):
    """Residues taken out anywhere leave gaps in the numbers: all others match their own name, in order."""
    there = data.draw(st.lists(st.integers(0, len(names) - 1), min_size=1, unique=True).map(sorted))
    indices = align_to_sequence([names[i] for i in there], [i + 7 for i in there], names)
    assert all(a < b for a, b in pairwise(indices))
    assert [ONE_LETTER[names[i]] for i in indices] == [ONE_LETTER[names[i]] for i in there]
    # neighbours by number are neighbours in the sequence
    for (a, b), (p, q) in zip(pairwise(there), pairwise(indices), strict=True):
        assert b - a != 1 or q - p == 1


def test_sequence_of_modified_residues():
    names = ["MSE", "HSE", "HIP", "CYX", "SEP", "TPO", "PTR", "ASH", "UNK", "ARG", "TYR"]
    assert one_letter_sequence(names) == "MHHCSTYDXRY"


def test_select_chains(write_pdb, backbone):
    path = write_pdb(backbone("ALA", "A", 1) + backbone("GLY", "B", 1, 9) + backbone("TRP", "A", 2, 18))
    structure = read_structure(path).select_chains(["A"])
    assert structure.topology.chain_ids == ("A", "A")
    assert structure.topology.file_index.tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert structure.xyz[[0, 4], 0].tolist() == [0, 18]
    refused(lambda: read_topology(path).select_chains(["A", "C"]), "system.pdb", "chain C", "A, B")


def test_protein_is_what_has_a_backbone(write_pdb, backbone):
    atoms = [*backbone("FOO", "A", 1), ("CA", "CA", "A", 2, (9, 9, 9), {"element": "CA", "record": "HETATM"})]
    topology = read_topology(write_pdb([*atoms, ("CA", "GLY", "A", 3, (8, 8, 8))]))
    assert topology.is_protein.tolist() == [True, False, False]
    assert topology.is_amino_acid.tolist() == [True, False, True]
    assert topology.elements[-2:] == ("CA", "C")
    assert topology.protein_atoms.tolist() == [0, 1, 2, 3]
    assert topology.protein.chain_sequences() == ["X"]


def test_repeated_numbers_keep_the_order_of_the_file(write_pdb, backbone):
    """Waters that share a number are residues of their own; nothing is merged with an earlier residue."""
    atoms = backbone("ALA", " ", 1)
    atoms += [(n, "HOH", " ", 1, (i, 5, 5)) for i in range(3) for n in ("O", "H1", "H2")]
    atoms += backbone("GLY", " ", 1, 9)
    topology, xyz = read_structure(write_pdb(atoms))
    assert topology.residue_names == ("ALA", "HOH", "HOH", "HOH", "GLY")
    np.testing.assert_array_equal(xyz[:, 0], [np.float64(atom[4][0]) for atom in atoms])
    assert topology.protein.chain_sequences() == ["AG"]
