"""Contacts against the published file and a truth table of small systems; the search behind them."""

from __future__ import annotations

from itertools import permutations

import contact_oracle
import numpy as np
import pytest
from contact_systems import fast_lines, residue, two

from data_prepare.molecular_dynamics.contacts.file_format import contact_lines
from data_prepare.molecular_dynamics.contacts.search import ContactSearch, atom_labels
from data_prepare.molecular_dynamics.frames.frame_range import FrameRange
from data_prepare.molecular_dynamics.frames.trajectory import read_chunks
from data_prepare.structure.readers import read_structure, read_topology

HISTIDINES = ("HIS", "HSD", "HSE", "HSP", "HID", "HIE", "HIP")


def test_published_contact_file(shared):
    folder = shared / "golden" / "molecular_dynamics"
    topology = read_topology(folder / "3tvj_I.pdb")
    frames = np.concatenate([chunk.angstrom for chunk in read_chunks(topology, folder / "3tvj_I_10frames.dcd")])
    published = (folder / "3tvj_I_10frames_contact.tsv").read_text().splitlines()[2:]
    assert len(published) == 1366
    assert fast_lines(topology, frames) == set(published)


@pytest.mark.parametrize(("topology", "trajectory"), [("bpti.gro", "bpti.xtc"), ("ubq.pdb", "ubq_1ns.xtc")])
def test_oracle_on_trajectories(shared, topology, trajectory):
    """Systems with histidine or disulfides, and other hydrogen names than the published one."""
    folder = shared / "data" / "trajectories"
    topology = read_topology(folder / topology)
    frames = next(read_chunks(topology, folder / trajectory, FrameRange(end=40, stride=40))).angstrom
    atoms = [
        contact_oracle.Atom(*label.split(":")[:2], int(topology.residue_numbers[r]), "", label.split(":")[3], element)
        for label, r, element in zip(atom_labels(topology), topology.residue_of_atom, topology.elements, strict=True)
    ]
    assert fast_lines(topology, frames) == contact_oracle.contact_lines(atoms, frames)


# ---- truth table ----------------------------------------------------------------------------------------------------


def greasy(*neighbour):
    """Two CB of alanine in contact, and perhaps an atom of a ligand: element and its distance from the first."""
    ligand = [
        (element, "LIG", "Z", 99, (0, distance, 0), {"record": "HETATM", "element": element})
        for element, distance in neighbour
    ]
    return two(("ALA", "CB"), ("ALA", "CB"), 3.5) + ligand


def bond(angle=0.0, distance=3.0, donor=("ARG", "NE"), acceptor=("ASN", "OD1"), number=9, chain="A", **options):
    """Donor at the origin, acceptor on the x axis, hydrogen 1 A from the donor; angle of donor->H to H->acceptor."""
    beta = np.radians(angle) - np.arcsin(np.sin(np.radians(angle)) / distance)  # angle at the donor
    hydrogen = ("HE", (np.cos(beta), np.sin(beta), 0), {"element": "H"})
    return residue(donor[0], "A", 1, (0, 0, 0), [(donor[1], (0, 0, 0)), hydrogen]) + residue(
        acceptor[0], chain, number, (20, 0, 0), [(acceptor[1], (distance - 20, 0, 0))], **options
    )


def right_angle_bond():
    """Donor, hydrogen and acceptor at a right angle that is exact in floating point."""
    donor = residue("ARG", "A", 1, (0, 0, 0), [("NE", (0, 0, 0)), ("HE", (0, 1, 0))])
    return donor + residue("ASN", "A", 9, (20, 0, 0), [("OD1", (3 - 20, 1, 0))])


def direction(angle):
    """Unit vector in the xz plane at an angle to z, degrees."""
    return np.array([np.sin(np.radians(angle)), 0, np.cos(np.radians(angle))])


def ring(name, chain, centre, normal=(0, 0, 1), exact=False):
    """Three ring atoms around a centroid in the plane of a normal; with `exact`, along x and y of a z normal."""
    names = {"PHE": ("CG", "CE1", "CE2"), "TYR": ("CG", "CE1", "CE2"), "TRP": ("CD2", "CZ2", "CZ3")}
    atoms = (names | dict.fromkeys(HISTIDINES, ("CG", "CE1", "CD2")))[name]
    u = np.cross(normal, [0.3, 0.5, 0.8]) / np.linalg.norm(np.cross(normal, [0.3, 0.5, 0.8]))
    v = np.cross(normal, u) / np.linalg.norm(normal)
    points = [1.4 * (np.cos(a) * u + np.sin(a) * v) for a in (0, 2 * np.pi / 3, 4 * np.pi / 3)]
    if exact:
        points = [np.array(point, float) for point in ((2, -1, 0), (-1, 2, 0), (-1, -1, 0))]
        points = points if normal == (0, 0, 1) else [point[[0, 2, 1]] for point in points]
    return residue(name, chain, 1, centre, list(zip(atoms, points, strict=True)))


def rings(centre, normal=(0, 0, 1), first=(0, 0, 1), exact=False):
    return ring("PHE", "A", (0, 0, 0), first, exact) + ring("PHE", "B", np.asarray(centre, float), normal, exact)


def cation(position, exact=False):
    nitrogen = ("NZ", np.asarray(position) - (20, 0, 0))
    return ring("PHE", "A", (0, 0, 0), exact=exact) + residue("LYS", "C", 9, (20, 0, 0), [nitrogen])


def homodimer():
    """Two chains of the same letter, whose residues have the same number."""
    (name, *rest), *others = two(SER, SER, 3.5, number=1)[4:]
    return [*two(SER, SER, 3.5)[:4], (name, *rest[:-1], {"ter_before": True}), *others]


SER, ASP, LYS, CYS = ("SER", "CB"), ("ASP", "OD1"), ("LYS", "NZ"), ("CYS", "SG")
GREASY = ("ALA", "PHE", "GLY", "ILE", "LEU", "PRO", "VAL", "TRP")
UP = np.array((0, 0, 1.0))
ODD = [("CA", "CA", "A", 300, (2.4, 0, 0), {"element": "CA", "record": "HETATM"}), ("O", "HOH", "A", 301, (0, 2.7, 0))]
NO_RESIDUE = [*residue("ASP", "A", 1, (0, 0, 0), [("OD1", (0, 0, 0))]), *ODD, ("NZ", "LYS", "A", 302, (0, 0, 3))]

# interaction, number of contacts, atoms, changed thresholds
TRUTH = [
    # salt bridge: acid with base, the limit included
    ("sb", 1, two(ASP, ("HSP", "NE2"), 4.0)),
    ("sb", 0, two(ASP, ("HSP", "NE2"), 4.001)),
    ("sb", 0, two(ASP, ("GLU", "OE1"), 3.0)),
    ("sb", 0, two(LYS, ("ARG", "NH1"), 3.0)),
    ("sb", 0, two(ASP, ("ARG", "NE"), 3.0)),
    ("sb", 1, two(ASP, LYS, 6.0), {"sb_cutoff_dist": 6.0}),
    *(("sb", 1, two(("GLU", "OE2"), (name, "ND1"), 3.0)) for name in HISTIDINES),
    *(("sb", 1, two(acid, ("ARG", "NH1"), 3.0)) for acid in (("ASP", "OD1"), ("ASP", "OD2"), ("GLU", "OE1"))),
    *(("sb", 1, two(ASP, base, 3.0)) for base in (LYS, ("ARG", "NH2"), ("HID", "NE2"))),
    # van der Waals: radii, the limit excluded; near in sequence only within a chain
    *(
        ("vdw", int(shift < 0), two(("SER", "X"), ("SER", "X"), touch + shift, element=element))
        for element, touch in (("SE", 4.3), ("P", 4.1), ("S", 4.1), ("N", 3.6), ("O", 3.54), ("C", 3.9))
        for shift in (-0.001, 0.001)
    ),
    ("vdw", 0, two(SER, SER, 3.9)),
    ("vdw", 0, two(SER, SER, 3.5, number=2)),
    ("vdw", 1, two(SER, SER, 3.5, number=3)),
    ("vdw", 1, two(SER, SER, 3.5, number=2, chain="B")),
    ("vdw", 1, two(SER, SER, 3.5, number=1, chain="B")),
    ("vdw", 1, two(SER, SER, 3.5, number=3), {"vdw_res_diff": 2}),
    ("vdw", 0, two(SER, SER, 3.5, number=3), {"vdw_res_diff": 3}),
    ("vdw", 0, two(SER, SER, 3.5), {"vdw_epsilon": 0.1}),
    # disulfides: only of CYS, by the residue numbers of exactly two sulfurs in any chains
    *(("vdw", int(name != "CYS"), two((name, "SG"), CYS, 2.099)) for name in ("CYS", "CYX", "CYM")),
    ("vdw", 1, two(CYS, CYS, 2.05, number=1, chain="B")),  # one number, not two
    *(
        ("vdw", number, [*two(CYS, CYS, 2.05), *residue(name, "B", resid, (0, 60, 0), [("SG", (x, -59.0, 0))])])
        for name, resid, x, number in (("CYS", 9, -2.5, 0), ("CYX", 9, -2.5, 1), ("CYS", 8, -2.5, 1), ("CYS", 8, 1, 3))
    ),
    # a chain is that of the topology
    *(("vdw", int(not by_letter), homodimer(), {"chains_by_letter": by_letter}) for by_letter in (False, True)),
    ("vdw", 1, two(CYS, CYS, 2.1)),
    # hydrophobic: residues, and what the carbon is bonded to
    *(
        ("hp", 1, two((name, "CX"), ("ALA", "CB"), 3.5, element="C"))
        for name in "ALA PHE GLY ILE LEU PRO VAL TRP".split()
    ),
    ("hp", 0, two(("MET", "CB"), ("ALA", "CB"), 3.5)),
    ("hp", 0, greasy(("O", 1.7))),
    ("hp", 1, greasy(("O", 1.701))),
    ("hp", 0, greasy(("N", 1.5))),
    ("hp", 1, greasy(("C", 1.5), ("H", 1.1))),
    # hydrogen bond: distance included, angle excluded; backbone is only N and O; not C and S
    ("hb", 1, bond(69.5)),
    ("hb", 0, bond(70.5)),
    ("hb", 0, right_angle_bond(), {"hbond_cutoff_ang": 90.0}),
    ("hb", 1, right_angle_bond(), {"hbond_cutoff_ang": 90.001}),
    ("hb", 1, bond(0, 3.5)),
    ("hb", 0, bond(0, 3.501)),
    ("hb", 1, bond(0, 4.4), {"hbond_cutoff_dist": 4.5}),
    ("hbss", 1, bond(donor=("LYS", "N1"))),
    *(("hbss", 1, bond(donor=LYS, acceptor=("ASN", name))) for name in ("OT1", "OT2", "OXT")),
    ("hbsb", 1, bond(donor=LYS, acceptor=("ASN", "O"))),
    ("hbbb", 1, bond(donor=("SER", "O"), acceptor=("ASN", "O"))),
    ("hbsb", 1, bond(donor=LYS, acceptor=("SEP", "O1P"), element="O")),
    ("hb", 0, bond(donor=CYS)),
    ("hb", 0, bond(acceptor=("MET", "SD"))),
    ("hb", 0, bond(number=1, icode="A")),
    ("hb", 1, bond(number=1, chain="B")),
    ("hb", 1, bond(number=2)),
    ("hb", 0, bond(number=3), {"hbond_res_diff": 3}),
    ("hb", 1, [*bond(), ("O", "HOH", "W", 500, (1.0, 0.3, 0), {"record": "HETATM"})]),  # water owns no hydrogen of it
    # stacking: distance, angle of the normals, psi
    ("ps", 1, rings(6.99 * UP)),
    ("ps", 0, rings(7.01 * UP)),
    ("ps", 1, rings(6 * UP, direction(29.5))),
    ("ps", 0, rings(6 * UP, direction(30.5))),
    ("ps", 1, rings(5.5 * direction(44))),
    ("ps", 0, rings(5.5 * direction(46))),
    ("ts", 0, rings(4.5 * UP)),
    ("ps", 0, rings(4.5 * UP, (1, 0, 0))),
    ("ts", 1, rings(4.99 * UP, (1, 0, 0))),
    ("ts", 0, rings(5.01 * UP, (1, 0, 0))),
    ("ts", 1, rings(4.99 * UP, direction(60.5))),
    ("ts", 0, rings(4.99 * UP, direction(59.5))),
    *(
        ("ts", int(psi < 45), rings(4.9 * direction(psi), *normals))
        for psi in (44, 46)
        for normals in permutations([(0, 0, 1), (0, 1, 0)])
    ),
    ("ps", 1, rings(6 * UP, direction(30.5)), {"ps_cutoff_ang": 31.0}),
    ("ts", 1, rings(4.99 * UP, direction(59.5)), {"ts_cutoff_ang": 31.0}),
    ("ts", 1, rings(4.9 * direction(46), (0, 0, 1), (0, 1, 0)), {"ts_psi_ang": 47.0}),
    *(("ps", 1, ring("TYR", "A", (0, 0, 0)) + ring(name, "B", (0, 0, 5.0))) for name in ("TRP", *HISTIDINES)),
    ("ps", 0, rings((0, 0, 5))[:-1]),  # an atom of the second ring is missing
    # pi-cation
    ("pc", 1, cation(5.99 * UP)),
    ("pc", 0, cation(6.01 * UP)),
    ("pc", 1, cation(5 * direction(59.5))),
    ("pc", 0, cation(5 * direction(60.5))),
    ("pc", 1, cation(5 * direction(179))),
    # distances and angles of rings that are equal to their limits, without rounding
    *(
        (kind, int(limit >= 4), atoms, {f"{kind}_cutoff_dist": limit, f"{kind}_cutoff_ang": 0.0} | psi)
        for limit in (4.0, np.nextafter(4.0, 0))
        for kind, atoms, psi in (
            ("ps", rings((0, 0, 4), exact=True), {"ps_psi_ang": 0.0}),
            ("ts", rings((0, 0, 4), (0, 1, 0), exact=True), {"ts_psi_ang": 0.0}),
            ("pc", cation((0, 0, 4), exact=True), {}),
        )
    ),
    *(("ps", int(limit == 90), rings((5, 0, 0), exact=True), {"ps_psi_ang": limit}) for limit in (90.0, 89.999)),
    *(("pc", int(limit == 90), cation((5, 0, 0), exact=True), {"pc_cutoff_ang": limit}) for limit in (90.0, 89.999)),
    # atoms so far apart are no contact, whatever the thresholds
    *(("ps", int(z < 10), rings(z * UP), {"ps_cutoff_dist": 15.0}) for z in (9.9, 10.1)),
    *(
        (kind, int(near), atoms, {f"{kind}_cutoff_dist": 15.0})
        for kind, near, atoms in (
            ("ts", True, rings(6.9 * UP, (0, 1, 0), exact=True)),
            ("ts", False, rings(6.93 * UP, (0, 1, 0), exact=True)),
            ("pc", True, cation(9.8 * UP)),
            ("pc", False, cation(9.95 * UP)),
        )
    ),
    # ions, water, and residues without N, CA and C
    *((name, 0, NO_RESIDUE) for name in ("sb", "vdw", "hp", "pc", "ps", "ts")),
]


@pytest.mark.parametrize("row", TRUTH, ids=[f"{k}-{row[0]}-{row[1]}" for k, row in enumerate(TRUTH)])
def test_truth_table(write_pdb, row):
    interaction, number, atoms, *limits = row
    topology, xyz = read_structure(write_pdb(atoms))
    lines = fast_lines(topology, [xyz], *limits or [None], itypes=(interaction,))
    assert len(lines) == number
    assert {line.split("\t")[1][: len(interaction)] for line in lines} <= {interaction}


def owner(height):
    """A bond whose hydrogen is 1 A from its donor, and a nitrogen at a height above the hydrogen."""
    return bond() + residue("LYS", "B", 1, (0, 60, 0), [("NZ", (0.9, height - 60, 0))])


@pytest.mark.parametrize(
    ("interaction", "first", "later"),
    [
        ("vdw", two(CYS, CYS, 2.2), two(CYS, CYS, 2.0)),  # disulfide
        ("hp", greasy(("O", 1.8)), greasy(("O", 1.6))),
        ("hbss", owner(1.1), owner(0.8)),
    ],
)
def test_the_first_frame_decides(write_pdb, interaction, first, later):
    """Contacts of two frames in both orders; searched by itself, the later one has none."""
    (topology, xyz), (_, later_xyz) = (read_structure(write_pdb(atoms)) for atoms in (first, later))

    def lines(*frames):
        return [line for line in fast_lines(topology, frames, itypes=(interaction,)) if "LYS" not in line]

    assert [len(lines(xyz)), len(lines(later_xyz))] == [1, 0]
    assert len(lines(xyz, later_xyz)) == 2
    assert lines(later_xyz, xyz) == []


def test_labels(write_pdb):
    """Insertion codes, empty chain ids, and the atom that stands for a ring."""
    atoms = residue("ASP", " ", 10, (0, 0, 0), [("OD1", (0, 0, 0))], icode="B")
    atoms += residue("LYS", " ", 12, (20, 0, 0), [("NZ", (-17, 0, 0))])
    atoms += ring("TYR", "A", (0, 60, 0)) + ring("HSD", "B", (0, 60, 5))
    topology, xyz = read_structure(write_pdb(atoms))
    expected = {"0\tsb\tX:ASP:10B:OD1\tX:LYS:12:NZ", "0\tps\tA:TYR:1:CE1\tB:HSD:1:CD2"}
    assert fast_lines(topology, [xyz], itypes=("sb", "ps")) == expected


def test_identical_lines_are_written_once(write_pdb):
    """Two molecules with the same chain, number and names give one line, but two contacts."""
    atoms = []
    for shift in (0.0, 50.0):
        atoms += residue("ASP", "A", 1, (shift, 0, 0), [("OD1", (0, 0, 0))])
        atoms += residue("LYS", "A", 9, (shift, 0, 0), [("NZ", (3, 0, 0))])
    topology, xyz = read_structure(write_pdb(atoms))
    contacts = ContactSearch(topology, xyz, ["sb"]).contacts(xyz)
    assert len(contacts.channel) == 2
    assert contact_lines(0, contacts, atom_labels(topology)) == ["0\tsb\tA:ASP:1:OD1\tA:LYS:9:NZ\n"]


def test_unknown_element_warns(write_pdb):
    topology, xyz = read_structure(write_pdb(two(SER, ("SER", "XX"), 9.0, element="XE")))
    with pytest.warns(UserWarning, match="XE"):
        ContactSearch(topology, xyz, ("vdw",))
