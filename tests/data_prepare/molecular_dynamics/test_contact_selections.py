"""Contacts between selections, with ligands and water: against the brute-force oracle, and as commands write them."""

from __future__ import annotations

import contact_oracle
import numpy as np
import pytest
from backbones import backbone_atoms
from contact_oracle import Atom, Chosen
from contact_systems import criteria_of, fast_lines, residue, two
from hypothesis import given, settings
from hypothesis import strategies as st
from random_systems import chains, pdb_text, random_system, shaken
from refusals import command_refused, refused
from scipy.spatial.transform import Rotation

from data_prepare.errors import InputWarning
from data_prepare.molecular_dynamics import get_dynamic_contacts, get_static_contacts
from data_prepare.molecular_dynamics.contacts.selection import select, selections_of
from data_prepare.molecular_dynamics.contacts.water_bridge import WaterBridges
from data_prepare.structure.readers import read_structure, read_topology

# an amino acid's relative, N-C-C-COO, as a ligand; Angstrom
LIGAND = [
    *(("C1", (-1.5, 0, 0)), ("C2", (0, 0, 0)), ("O1", (0.625, 1.083, 0)), ("O2", (0.625, -1.083, 0))),
    *(("H1", (-1.8, 0.6, 0.85)), ("H2", (-1.8, 0.6, -0.85)), ("C3", (-2.1, -1.4, 0)), ("N1", (-3.55, -1.4, 0))),
    *(("H3", (-1.75, -1.9, 0.9)), ("H4", (-1.75, -1.9, -0.9)), ("H5", (-3.9, -0.9, 0.8)), ("H6", (-3.9, -0.9, -0.8))),
]
WATER = [("O", (0, 0, 0)), ("H1", (0.76, 0.59, 0)), ("H2", (-0.76, 0.59, 0))]
# a selection, and the atoms that it means: by atom, and whether that is of the protein
MEANING = {
    "protein": lambda a, p: p,
    "all": lambda a, p: True,
    "noh and protein": lambda a, p: p and a.element != "H",
    "ligand": lambda a, p: not p and a.resname != "HOH",
    "protein or ligand": lambda a, p: p or a.resname != "HOH",
    "chain A B and not name CA CB": lambda a, p: a.chain in ("A", "B") and a.name not in ("CA", "CB"),
    "(resid -3 to 4 9 or resname LIG) and not solv": lambda a, p: (
        (-3 <= a.resid <= 4 or a.resid == 9 or a.resname == "LIG") and a.resname != "HOH"
    ),
    "sidechain or chain X": lambda a, p: (p and a.name not in ("N", "CA", "C", "O")) or a.chain == "",
}


def wet_system(drawn, ligands, waters, rng):
    """Residues at random with ligands and waters between them."""
    atoms, xyz = random_system(drawn, 2, 0.0, rng)
    points = list(xyz)
    for k in range(ligands + waters):
        names, resname = (LIGAND, "LIG") if k < ligands else (WATER, "HOH")
        spot = points[rng.integers(len(points))] + 3 * rng.normal(size=3) if points else np.zeros(3)
        turn = Rotation.random(rng=rng)
        for name, point in names:
            atoms.append(Atom("L", resname, 400 + k, "", name, name[0], 50 + k))
            points.append(turn.apply(point) + spot)
    return atoms, np.array(points)


@pytest.mark.parametrize("examples", [10, pytest.param(40, marks=pytest.mark.slow)])
def test_random_selections(tmp_path, examples):
    @settings(max_examples=examples, deadline=None)
    @given(
        drawn=chains,
        ligands=st.integers(0, 3),
        waters=st.integers(0, 8),
        texts=st.tuples(st.sampled_from(sorted(MEANING)), st.none() | st.sampled_from(sorted(MEANING))),
        limits=st.none() | st.just({"hbond_cutoff_ang": 120.0, "hbond_res_diff": 2, "sb_cutoff_dist": 6.0}),
        seed=st.integers(0, 2**32 - 1),
    )
    def check(drawn, ligands, waters, texts, limits, seed):
        rng = np.random.default_rng(seed)
        atoms, xyz = wet_system(drawn, ligands, waters, rng)
        if not atoms:
            return
        frames = shaken(xyz, 2, 0.2, seed).round(3)
        path = tmp_path / "system.pdb"
        path.write_text(pdb_text(atoms, frames[0]))
        topology = read_topology(path)
        protein = topology.is_protein[topology.residue_of_atom]
        sets = [
            None if text is None else frozenset(i for i, a in enumerate(atoms) if MEANING[text](a, protein[i]))
            for text in (*texts, "ligand")
        ]
        if texts[1] == texts[0]:
            sets[1] = None
        if any(chosen is not None and not chosen for chosen in sets[:2]):
            refused(lambda: selections_of(topology, *texts), path, "selects no atom")
            return
        selections = selections_of(topology, *texts, solv="resname HOH" if waters else None)
        water = frozenset(i for i, a in enumerate(atoms) if a.resname == "HOH")
        chosen = Chosen(*sets, water)
        of_chain = topology.chain_of_residue[topology.residue_of_atom].tolist()
        known = {"chains": of_chain, "chosen": chosen, "kinds": None}
        heavy = [i for i in sets[0] | (sets[1] or set()) if atoms[i].element != "H"]
        inside = np.isin(topology.residue_of_atom, topology.residue_of_atom[heavy])
        inside |= protein & protein[heavy].any()
        if not (inside & (np.array(topology.elements) == "H")).any():
            refused(lambda: fast_lines(topology, frames, limits, selections=selections), path, "no hydrogens")
            return
        found = fast_lines(topology, frames, limits, selections=selections)
        expected = contact_oracle.contact_lines(atoms, frames, limits, **known)
        if found != expected:
            certain, possible = (
                contact_oracle.contact_lines(atoms, frames, limits, (by, by), **known) for by in (-1e-6, 1e-6)
            )
            assert certain <= found <= possible
        if waters:
            bridges = WaterBridges(topology, frames[0], criteria_of(**(limits or {})), selections)
            listed = [(f, *bridge) for f, frame in enumerate(frames) for bridge in bridges.bridges(frame)]
            assert len(listed) == len(set(listed))
            compact = {(f, kind, frozenset(ends[:2]), frozenset(ends[2:])) for f, kind, ends in listed}
            assert compact == contact_oracle.water_bridges(atoms, frames, chosen, limits, of_chain)

    check()


def small_system():
    """An acid and a metal; three side chains joined by two waters at right angles, each bond 2.8 A long."""
    water = {"record": "HETATM"}
    return [
        *residue("ASP", "A", 1, (0, 0, 0), [("OD1", (0, 0, 0))]),
        ("ZN", "ZN", "A", 300, (2.5, 0, 0), {"element": "ZN", "record": "HETATM"}),
        *residue("SER", " ", 7, (0, 60, 0), [("OG", (0, 0, 0)), ("HG", (0.96, 0, 0))]),
        *residue("ASN", " ", 12, (20, 60, 0), [("OD1", (-14.4, 0, 0))]),
        *residue("GLN", " ", 19, (40, 60, 0), [("OE1", (-37.2, 5.6, 0))]),
        *(
            (name, "HOH", "W", number, (x, y, 0), dict(water))
            for number, atoms in (
                (500, (("O", 2.8, 60), ("H1", 2.8, 60.96), ("H2", 3.76, 60))),
                (501, (("O", 2.8, 62.8), ("H1", 2.8, 63.76), ("H2", 1.84, 62.8))),
            )
            for name, x, y in atoms
        ),
    ]


ION = ["vdw\tA:ASP:1:OD1\tA:ZN:300:ZN\t2.500", "sb\tA:ASP:1:OD1\tA:ZN:300:ZN\t2.500"]
LIGAND_LINES = [*ION, "sbpl\tA:ASP:1:OD1\tA:ZN:300:ZN\t2.500"]
BRIDGES = [
    "wb\tX:ASN:12:OD1\tX:SER:7:OG\tW:HOH:500:O\t5.600",
    "wb2\tX:ASN:12:OD1\tX:GLN:19:OE1\tW:HOH:500:O\tW:HOH:501:O\t6.261",
    "wb2\tX:GLN:19:OE1\tX:SER:7:OG\tW:HOH:501:O\tW:HOH:500:O\t6.261",
]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], []),
        (["--sele", "protein or ligand"], LIGAND_LINES),
        (["--sele2", "ligand"], LIGAND_LINES),
        (["--sele", "ligand", "--sele2", "resid 2 to 99"], []),
        (["--sele2", "resname ZN", "--ligand", "resname XYZ or index 3"], ION[:1]),
        (["--solv", "water"], BRIDGES),
        (["--solv", "water", "--sele", "resname SER", "--sele2", "resname GLN"], BRIDGES[2:]),
        (["--solv", "water", "--ligand", "resname GLN", "--hbond_res_diff", 8], ["l" + BRIDGES[2]]),
        (["--solv", "resid 500"], BRIDGES[:1]),
    ],
)
def test_lines_of_the_commands(write_pdb, tmp_path, options, expected):
    """Ligands, water, distances; a structure, and a trajectory of it."""
    path, output = write_pdb(small_system()), tmp_path / "c.tsv"
    common = ["--output", output, "--itypes", "all", "--distout", *options]
    for main, files in (
        (get_static_contacts.main, ["--structure", path]),
        (get_dynamic_contacts.main, ["--topology", path, "--trajectory", path]),
    ):
        main([str(word) for word in (*files, *common)])
        header, columns, *lines = output.read_text().splitlines()
        assert header == "# total_frames:1 beg:0 end:0 stride:1 interaction_types:hp,sb,pc,ps,ts,vdw,hb"
        assert columns == "# Columns: frame, interaction_type, atom_1, atom_2[, atom_3[, atom_4]], distance_1-2"
        assert sorted(lines) == sorted(f"0\t{line}" for line in expected)


def test_the_protein_alone_is_the_default(examples):
    path = examples / "trajectories" / "2juy.pdb"
    topology, xyz = read_structure(path)
    expected = fast_lines(topology, [xyz])
    assert len(expected) > 50
    for sele, sele2 in (("protein", None), ("protein", "protein"), ("all", None)):
        assert fast_lines(topology, [xyz], selections=selections_of(topology, sele, sele2)) == expected


def test_hydrophobic_carbons_of_the_second_selection_have_hydrogens(write_pdb):
    atoms = two(("ALA", "CB"), ("ALA", "CB"), 3.5, chain="B")
    for hydrogen_at, number in (("A", 0), ("B", 1)):
        here = 4 if hydrogen_at == "A" else 8
        extra = [("HB1", "ALA", hydrogen_at, atoms[here - 1][3], (0 if here == 4 else 3.5, 1.0, 0))]
        topology, xyz = read_structure(write_pdb(atoms[:here] + extra + atoms[here:]))
        selections = selections_of(topology, "chain A", "chain B")
        assert len(fast_lines(topology, [xyz], itypes=("hp",), selections=selections)) == number
        assert len(fast_lines(topology, [xyz], itypes=("hp",))) == 1


def test_bonds_of_ligands_are_no_protein_bonds(write_pdb):
    """They are asked for with hb alone."""
    atoms = residue("ASN", "A", 1, (0, 0, 0), [("O", (0, 0, 0)), ("ND2", (0, 9, 0)), ("HD2", (0, 8, 0))])
    atoms += [("N", "LIG", "B", 1, (2.9, 0, 0)), ("H", "LIG", "B", 1, (1.9, 0, 0))]
    topology, xyz = read_structure(write_pdb(atoms))
    selections = selections_of(topology, sele2="ligand")
    assert fast_lines(topology, [xyz], itypes=("hb",), selections=selections) == {"0\thblb\tA:ASN:1:O\tB:LIG:1:N"}
    assert fast_lines(topology, [xyz], itypes=("hbbb", "hbss"), selections=selections) == set()


def test_ligand_outside_the_selections_warns(write_pdb):
    topology = read_topology(write_pdb(small_system()))
    with pytest.warns(InputWarning, match="--sele2 ligand"):
        selections_of(topology, ligand="resname ZN")


def test_words(write_pdb):
    """Blank chains are X, quotes, names with primes, ranges, precedence."""
    atoms = [
        ("N", "ALA", "A", -2, (0, 0, 0)),
        ("CA", "ALA", "A", -2, (1, 0, 0)),
        ("C", "ALA", "A", -2, (2, 0, 0)),
        ("O5'", "G", " ", 5, (9, 0, 0)),
        ("C1", "LIG", " ", 6, (19, 0, 0)),
        ("O", "HOH", " ", 7, (29, 0, 0)),
        ("P", "GPC", " ", 8, (39, 0, 0)),
    ]
    topology = read_topology(write_pdb([(*a, {"record": "HETATM"}) if a[3] > 0 else a for a in atoms]))
    for text, expected in {
        "protein": "012",
        "chain X": "3456",
        "chain 'A' \"X\"": "0123456",
        "name O5'": "3",
        "nucleic or ligand": "34",
        "ligand": "4",
        "solv or lipid": "56",
        "resid -2": "012",
        "resid -5 to 5 7": "01235",
        "resname LIG HOH or protein and name CA": "145",
        "not (protein or noh and resid 5 to 7)": "6",
        "not protein and not solv": "346",
        "element C and index 2 to 4": "24",
        "backbone and not name CA": "02",
    }.items():
        selections = selections_of(topology, text)
        assert "".join(map(str, np.flatnonzero(selections.sele))) == expected, text


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", ["ends too early"]),
        ("chain", ["ends too early", "resname"]),
        ("chain A and", ["ends too early"]),
        ("(chain A", ["ends too early"]),
        ("chain A)", ["')'"]),
        ("within 5 of protein", ["'within'", "noh"]),
        ("resid > 5", ["'>'"]),
        ("resid 5 to", ["'to'", "10 to 20"]),
        ("resid 5-10", ["5-10"]),
        ("chain C", ["selects no atom", "chain A", "resname ALA", "resid 1 to 2"]),
        ("protein and lipid", ["selects no atom"]),
    ],
)
def test_selections_that_are_refused(write_pdb, tmp_path, capsys, text, named):
    path = write_pdb(backbone_atoms(2))
    refused(lambda: select(read_topology(path), text, "--sele2"), f"--sele2 {text}", *named)
    options = ["--structure", path, "--output", tmp_path / "c.tsv", "--itypes", "vdw", "--sele", text]
    command_refused(get_static_contacts.main, options, capsys, f"--sele {text}", *named)
    assert not (tmp_path / "c.tsv").exists()


def test_caps_are_no_ligand(shared):
    topology = read_topology(shared / "cases" / "ace_nme" / "cap.pdb")
    refused(lambda: selections_of(topology, "ligand"), "selects no atom", "ACE")
