"""Contacts against the published file, a brute-force oracle, and a truth table of tiny systems."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import contact_oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prepare.errors import InputError
from data_prepare.molecular_dynamics.contacts import (
    TYPES,
    ContactHeader,
    ContactSearch,
    Criteria,
    atom_labels,
    contact_lines,
    iter_contacts,
    kernels,
    read_contacts,
    read_header,
    types_asked,
)
from data_prepare.molecular_dynamics.frames.cell_list import neighbour_lists
from data_prepare.molecular_dynamics.frames.frame_range import FrameRange
from data_prepare.molecular_dynamics.frames.trajectory import read_chunks
from data_prepare.structure.readers import read_structure, read_topology


def lines_of(topology, frames, **options):
    labels = atom_labels(topology)
    return {
        line
        for number, contacts in enumerate(iter_contacts(topology, frames, **options))
        for line in contact_lines(number, contacts, labels)
    }


def test_published_contact_file(shared):
    folder = shared / "golden" / "molecular_dynamics"
    topology = read_topology(folder / "3tvj_I.pdb")
    frames = np.concatenate([c.angstrom for c in read_chunks(topology, folder / "3tvj_I_10frames.dcd")])
    published = (folder / "3tvj_I_10frames_contact.tsv").read_text().splitlines()[2:]
    assert len(published) == 1366
    assert lines_of(topology, frames) == set(published)


@pytest.mark.parametrize("name", ["bpti", "ubq"])
def test_oracle_on_trajectories(shared, name):
    """Systems with histidine or disulfides, and other hydrogen names than the published one."""
    folder = shared / "data" / "trajectories"
    topology = read_topology(folder / ("ubq.pdb" if name == "ubq" else "bpti.gro"))
    chunk = next(
        read_chunks(topology, folder / ("ubq_1ns.xtc" if name == "ubq" else "bpti.xtc"), FrameRange(stride=40), 50)
    )
    frames = chunk.angstrom[:2]
    atoms = [
        contact_oracle.Atom(
            topology.chain_ids[topology.chain_of_residue[r]],
            topology.residue_names[r],
            int(topology.residue_numbers[r]),
            topology.insertion_codes[r],
            atom,
            element,
        )
        for atom, r, element in zip(topology.atom_names, topology.residue_of_atom, topology.elements, strict=True)
    ]
    assert lines_of(topology, frames) == contact_oracle.contact_lines(atoms, frames)


def test_oracle_on_an_example(examples):
    """Topology read by two different readers."""
    path = examples / "trajectories" / "5pti.pdb"
    topology = read_topology(path)
    atoms, _ = contact_oracle.read_pdb_atoms(path.read_text())
    frames = next(read_chunks(topology, path.with_suffix(".xtc"), size=2)).angstrom
    found = lines_of(topology, frames)
    assert found == contact_oracle.contact_lines(atoms, frames)
    assert {line.split("\t")[1] for line in found} >= {"vdw", "hbbb", "hbsb", "hbss", "hp", "sb"}


# ---- tiny systems -------------------------------------------------------------------------------------------------


def residue(name, chain, number, origin, extra=(), **options):
    """Backbone N, CA, C, far below `origin` so that it takes part in nothing, and extra atoms relative to origin."""
    origin = np.asarray(origin, float)
    away = origin - (0, 0, 40)
    step = np.array([1.5, 0, 0])
    atoms = [
        ("N", name, chain, number, away, dict(options)),
        ("CA", name, chain, number, away + step, dict(options)),
        ("C", name, chain, number, away + 2 * step, dict(options)),
    ]
    for atom, position, *more in extra:
        atoms.append((atom, name, chain, number, origin + position, {**options, **(more[0] if more else {})}))
    return atoms


def found_in(write_pdb, atoms, itypes=("all",), **options):
    topology, xyz = read_structure(write_pdb(atoms))
    return {tuple(line.split("\t")[1:]) for line in lines_of(topology, [xyz], itypes=itypes, **options)}


FAR = (100.0, 0.0, 0.0)
NO_HB = ("hp", "sb", "pc", "ps", "ts", "vdw")


@pytest.mark.parametrize(("distance", "expected"), [(4.0, True), (4.001, False)])
def test_salt_bridge_limit_is_inclusive(write_pdb, distance, expected):
    atoms = residue("ASP", "A", 1, (0, 0, 0), [("OD1", (0, 0, 0))])
    atoms += residue("HSP", "A", 9, (20, 0, 0), [("NE2", (distance - 20, 0, 0))])
    found = found_in(write_pdb, atoms, ["sb"])
    assert found == ({("sb", "A:ASP:1:OD1", "A:HSP:9:NE2")} if expected else set())


@pytest.mark.parametrize(("distance", "expected"), [(3.899, True), (3.9, False)])
def test_van_der_waals_limit_is_exclusive(write_pdb, distance, expected):
    atoms = residue("SER", "A", 1, (0, 0, 0), [("CB", (0, 0, 0))])
    atoms += residue("SER", "A", 3, (20, 0, 0), [("CB", (distance - 20, 0, 0))])
    assert bool(found_in(write_pdb, atoms, ["vdw"])) == expected


@pytest.mark.parametrize(
    ("number", "chain", "expected"), [(2, "A", False), (3, "A", True), (2, "B", True), (1, "B", True)]
)
def test_neighbours_in_sequence_are_skipped_within_a_chain(write_pdb, number, chain, expected):
    atoms = residue("SER", "A", 1, (0, 0, 0), [("CB", (0, 0, 0))])
    atoms += residue("SER", chain, number, (20, 0, 0), [("CB", (3.5 - 20, 0, 0))])
    assert bool(found_in(write_pdb, atoms, ["vdw"])) == expected


@pytest.mark.parametrize(("separation", "bonded"), [(2.099, True), (2.1, False)])
def test_disulfide_hides_all_contacts_of_the_two_residues(write_pdb, separation, bonded):
    atoms = residue("CYS", "A", 1, (0, 0, 0), [("SG", (0, 0, 0)), ("CB", (-1.8, 0, 0))])
    atoms += residue("CYX", "A", 9, (20, 0, 0), [("SG", (separation - 20, 0, 0)), ("CB", (separation - 18.2, 0, 0))])
    found = found_in(write_pdb, atoms, ["vdw"])
    assert len(found) == (0 if bonded else 3)


@pytest.mark.parametrize("name", ["ALA", "PHE", "GLY", "ILE", "LEU", "PRO", "VAL", "TRP"])
def test_hydrophobic_residues(write_pdb, name):
    atoms = residue(name, "A", 1, (0, 0, 0), [("CX", (0, 0, 0), {"element": "C"})])
    atoms += residue("ALA", "A", 9, (20, 0, 0), [("CB", (3.5 - 20, 0, 0))])
    assert found_in(write_pdb, atoms, ["hp"]) == {("hp", *sorted(("A:ALA:9:CB", f"A:{name}:1:CX")))}


def test_methionine_is_not_in_the_hydrophobic_list(write_pdb):
    atoms = residue("MET", "A", 1, (0, 0, 0), [("CB", (0, 0, 0))])
    atoms += residue("ALA", "A", 9, (20, 0, 0), [("CB", (3.5 - 20, 0, 0))])
    assert found_in(write_pdb, atoms, ["hp"]) == set()


@pytest.mark.parametrize(
    ("neighbour", "distance", "expected"),
    [("O", 1.7, False), ("O", 1.701, True), ("N", 1.5, False), ("C", 1.5, True), ("H", 1.1, True)],
)
def test_hydrophobic_carbon_touches_only_carbon_and_hydrogen(write_pdb, neighbour, distance, expected):
    atoms = residue("ALA", "A", 1, (0, 0, 0), [("CB", (0, 0, 0))])
    atoms += residue("ALA", "A", 9, (20, 0, 0), [("CB", (3.5 - 20, 0, 0))])
    # not of the protein: all atoms of the system count
    atoms.append((neighbour, "LIG", "Z", 99, (0, distance, 0), {"record": "HETATM", "element": neighbour}))
    assert bool(found_in(write_pdb, atoms, ["hp"])) == expected


def hydrogen_bond(angle, distance=3.0, donor=("NE", "ARG"), acceptor=("OD1", "ASN"), number=9, **options):
    """Donor at the origin, hydrogen 1 A from it at `angle` to the acceptor as seen from the hydrogen."""
    # angle of donor->H to H->acceptor; acceptor on the x axis
    theta = np.radians(angle)
    beta = theta - np.arcsin(np.sin(theta) / distance)  # angle at the donor
    atoms = residue(
        donor[1], "A", 1, (0, 0, 0), [(donor[0], (0, 0, 0)), ("HE", (np.cos(beta), np.sin(beta), 0), {"element": "H"})]
    )
    return atoms + residue(acceptor[1], "A", number, (20, 0, 0), [(acceptor[0], (distance - 20, 0, 0))], **options)


@pytest.mark.parametrize(("angle", "expected"), [(0.0, True), (69.5, True), (70.5, False), (90.0, False)])
def test_hydrogen_bond_angle(write_pdb, angle, expected):
    assert bool(found_in(write_pdb, hydrogen_bond(angle), ["hb"])) == expected


@pytest.mark.parametrize(("distance", "expected"), [(3.5, True), (3.501, False)])
def test_hydrogen_bond_distance_is_inclusive(write_pdb, distance, expected):
    assert bool(found_in(write_pdb, hydrogen_bond(0.0, distance), ["hb"])) == expected


@pytest.mark.parametrize(
    ("donor", "acceptor", "kind"),
    [
        (("N1", "LYS"), ("OD1", "ASN"), "hbss"),
        (("NZ", "LYS"), ("O", "ASN"), "hbsb"),
        (("NZ", "LYS"), ("OT1", "ASN"), "hbss"),
        (("NZ", "LYS"), ("OT2", "ASN"), "hbss"),
        (("NZ", "LYS"), ("OXT", "ASN"), "hbss"),
        (("O", "SER"), ("O", "ASN"), "hbbb"),
    ],
)
def test_backbone_is_n_and_o_only(write_pdb, donor, acceptor, kind):
    found = found_in(write_pdb, hydrogen_bond(0.0, donor=donor, acceptor=acceptor), ["hb"])
    assert {line[0] for line in found} == {kind}


def test_carbon_and_sulfur_neither_donate_nor_accept(write_pdb):
    assert found_in(write_pdb, hydrogen_bond(0.0, donor=("SG", "CYS")), ["hb"]) == set()
    assert found_in(write_pdb, hydrogen_bond(0.0, acceptor=("SD", "MET")), ["hb"]) == set()


def test_hydrogen_bond_within_a_residue_number(write_pdb):
    """Insertion codes do not separate residues of the same number; another chain does."""
    assert found_in(write_pdb, hydrogen_bond(0.0, number=1, icode="A"), ["hb"]) == set()
    assert found_in(write_pdb, hydrogen_bond(0.0, number=2), ["hb"]) == {("hbss", "A:ARG:1:NE", "A:ASN:2:OD1")}


def test_hydrogen_belongs_to_its_nearest_heavy_atom_of_the_first_frame(write_pdb):
    topology, xyz = read_structure(write_pdb(hydrogen_bond(0.0)))
    moved = xyz.copy()
    moved[topology.atom_names.index("HE")] += [0, 30, 0]  # it has left: the bond is gone in this frame alone
    lines = lines_of(topology, [xyz, moved, xyz], itypes=["hb"])
    assert sorted(line[0] for line in lines) == ["0", "2"]


HISTIDINES = ("HIS", "HSD", "HSE", "HSP", "HID", "HIE", "HIP")


def test_water_does_not_own_a_hydrogen(write_pdb):
    """Nearest heavy atom of the protein: a water oxygen that is nearer takes nothing away."""
    atoms = hydrogen_bond(0.0)
    atoms.append(("O", "HOH", "W", 500, (1.0, 0.3, 0), {"record": "HETATM"}))
    assert found_in(write_pdb, atoms, ["hb"]) == {("hbss", "A:ARG:1:NE", "A:ASN:9:OD1")}


def test_residue_difference_options(write_pdb):
    atoms = hydrogen_bond(0.0, number=3)
    assert len(found_in(write_pdb, atoms, ["hb"], criteria=Criteria(hbond_res_diff=2))) == 1
    assert found_in(write_pdb, atoms, ["hb"], criteria=Criteria(hbond_res_diff=3)) == set()
    assert len(found_in(write_pdb, atoms, ["vdw"], criteria=Criteria(vdw_res_diff=2))) == 1
    assert found_in(write_pdb, atoms, ["vdw"], criteria=Criteria(vdw_res_diff=3)) == set()


def test_hydrogen_bond_of_equal_numbers_in_two_chains(write_pdb):
    atoms = residue("ARG", "A", 1, (0, 0, 0), [("NE", (0, 0, 0)), ("HE", (1, 0, 0))])
    atoms += residue("ASN", "B", 1, (20, 0, 0), [("OD1", (3 - 20, 0, 0))])
    assert found_in(write_pdb, atoms, ["hb"]) == {("hbss", "A:ARG:1:NE", "B:ASN:1:OD1")}


def test_hydrogen_bond_angle_is_exclusive(write_pdb):
    """A right angle, exactly: 90 is not below 90."""
    atoms = residue("ARG", "A", 1, (0, 0, 0), [("NE", (0, 0, 0)), ("HE", (0, 1, 0))])
    atoms += residue("ASN", "A", 9, (20, 0, 0), [("OD1", (3 - 20, 1, 0))])
    assert found_in(write_pdb, atoms, ["hb"], criteria=Criteria(hbond_cutoff_ang=90.0)) == set()
    assert len(found_in(write_pdb, atoms, ["hb"], criteria=Criteria(hbond_cutoff_ang=90.001))) == 1


@pytest.mark.parametrize("name", ["CYS", "CYX", "CYM"])
def test_disulfide_names(write_pdb, name):
    atoms = residue(name, "A", 1, (0, 0, 0), [("SG", (0, 0, 0))])
    atoms += residue(name, "A", 9, (20, 0, 0), [("SG", (2.05 - 20, 0, 0))])
    assert found_in(write_pdb, atoms, ["vdw"]) == set()


@pytest.mark.parametrize(("element", "reach"), [("SE", 4.3), ("P", 4.1), ("S", 4.1), ("N", 3.6), ("O", 3.54)])
def test_radii(write_pdb, element, reach):
    """Two atoms of an element touch below twice its radius and 0.5."""
    for distance, expected in ((reach - 0.001, 1), (reach + 0.001, 0)):
        atoms = residue("SER", "A", 1, (0, 0, 0), [("X", (0, 0, 0), {"element": element})])
        atoms += residue("SER", "A", 9, (20, 0, 0), [("X", (distance - 20, 0, 0), {"element": element})])
        assert len(found_in(write_pdb, atoms, ["vdw"])) == expected


@pytest.mark.parametrize("name", HISTIDINES)
def test_every_histidine_is_base_and_ring(write_pdb, name):
    atoms = residue("GLU", "A", 1, (0, 0, 0), [("OE2", (0, 0, 0))])
    atoms += residue(name, "A", 9, (20, 0, 0), [("ND1", (3 - 20, 0, 0))])
    assert found_in(write_pdb, atoms, ["sb"]) == {("sb", "A:GLU:1:OE2", f"A:{name}:9:ND1")}
    atoms = ring("PHE", "A", 1, (0, 0, 0), (0, 0, 1)) + ring(name, "B", 1, (0, 0, 5), (0, 0, 1))
    assert found_in(write_pdb, atoms, ["ps"]) == {("ps", "A:PHE:1:CE1", f"B:{name}:1:CD2")}


def ring(name, chain, number, centre, normal, spin=0.0):
    """Three ring atoms around a centroid in the plane of a normal."""
    table = {"PHE": ("CG", "CE1", "CE2"), "TYR": ("CG", "CE1", "CE2"), "TRP": ("CD2", "CZ2", "CZ3")}
    atoms = (table | dict.fromkeys(HISTIDINES, ("CG", "CE1", "CD2")))[name]
    normal = np.asarray(normal, float) / np.linalg.norm(normal)
    u = np.cross(normal, [0.3, 0.5, 0.8])
    u /= np.linalg.norm(u)
    v = np.cross(normal, u)
    points = [1.4 * (np.cos(spin + a) * u + np.sin(spin + a) * v) for a in (0, 2 * np.pi / 3, 4 * np.pi / 3)]
    return residue(name, chain, number, centre, list(zip(atoms, points, strict=True)))


@pytest.mark.parametrize(
    ("distance", "tilt", "kinds"),
    [
        (6.99, 0, {"ps"}),
        (7.01, 0, set()),
        (6.0, 29.5, {"ps"}),
        (6.0, 30.5, set()),
        (4.99, 60.5, {"ts"}),
        (4.99, 59.5, set()),
        (4.99, 90, {"ts"}),
        (5.01, 90, set()),
    ],
)
def test_stacking(write_pdb, distance, tilt, kinds):
    """First ring in the xy plane, second above it; psi is 0."""
    tilted = (np.sin(np.radians(tilt)), 0, np.cos(np.radians(tilt)))
    atoms = ring("PHE", "A", 1, (0, 0, 0), (0, 0, 1)) + ring("HSD", "B", 1, (0, 0, distance), tilted)
    found = found_in(write_pdb, atoms, ["ps", "ts"])
    assert {line[0] for line in found} == kinds
    if found:
        assert next(iter(found))[1:] == ("A:PHE:1:CE1", "B:HSD:1:CD2")


@pytest.mark.parametrize(("psi", "expected"), [(44, True), (46, False)])
def test_stacking_psi(write_pdb, psi, expected):
    centre = 5.5 * np.array([np.sin(np.radians(psi)), 0, np.cos(np.radians(psi))])
    atoms = ring("TYR", "A", 1, (0, 0, 0), (0, 0, 1)) + ring("TRP", "B", 1, centre, (0, 0, 1))
    found = found_in(write_pdb, atoms, ["ps"])
    assert found == ({("ps", "A:TYR:1:CE1", "B:TRP:1:CD2")} if expected else set())


@pytest.mark.parametrize(("psi", "expected"), [(44, True), (46, False)])
@pytest.mark.parametrize("swapped", [False, True])
def test_t_stacking_psi_is_the_smaller_angle(write_pdb, psi, expected, swapped):
    """One normal at psi to the line of centroids, the other along y and so at 90 degrees to it."""
    centre = 4.9 * np.array([np.sin(np.radians(psi)), 0, np.cos(np.radians(psi))])
    normals = [(0, 0, 1), (0, 1, 0)]
    if swapped:
        normals.reverse()
    atoms = ring("PHE", "A", 1, (0, 0, 0), normals[0]) + ring("PHE", "B", 1, centre, normals[1])
    assert bool(found_in(write_pdb, atoms, ["ts"])) == expected


def test_stacking_thresholds_are_those_of_their_type(write_pdb):
    """Every limit of one type alone is moved: the other type does not change."""
    flat = ring("PHE", "A", 1, (0, 0, 0), (0, 0, 1)) + ring("PHE", "B", 1, (0, 0, 4.5), (0, 0, 1))
    upright = ring("PHE", "A", 1, (0, 0, 0), (0, 0, 1)) + ring("PHE", "B", 1, (0, 0, 4.5), (1, 0, 0))
    tight_ps = {"ps_cutoff_dist": 4.0}, {"ps_cutoff_ang": 0.0, "ps_psi_ang": 0.0, "ps_cutoff_dist": 1.0}
    tight_ts = {"ts_cutoff_dist": 4.0}, {"ts_cutoff_ang": 0.0, "ts_psi_ang": 0.0, "ts_cutoff_dist": 1.0}
    for limits in tight_ps:
        assert found_in(write_pdb, flat, ["ps", "ts"], criteria=Criteria(**limits)) == set()
        assert len(found_in(write_pdb, upright, ["ps", "ts"], criteria=Criteria(**limits))) == 1
    for limits in tight_ts:
        assert len(found_in(write_pdb, flat, ["ps", "ts"], criteria=Criteria(**limits))) == 1
        assert found_in(write_pdb, upright, ["ps", "ts"], criteria=Criteria(**limits)) == set()
    tilted = ring("PHE", "A", 1, (0, 0, 0), (0, 0, 1)) + ring("PHE", "B", 1, (0, 0, 4.5), (0.3, 0, 1))  # 16.7 degrees
    for limits, expected in (({"ps_cutoff_ang": 16.0}, 0), ({"ps_cutoff_ang": 17.5, "ts_cutoff_ang": 1.0}, 1)):
        assert len(found_in(write_pdb, tilted, ["ps", "ts"], criteria=Criteria(**limits))) == expected


@pytest.mark.parametrize(
    ("distance", "angle", "expected"),
    [(5.99, 0, True), (6.01, 0, False), (5, 59.5, True), (5, 60.5, False), (5, 179, True)],
)
def test_pi_cation(write_pdb, distance, angle, expected):
    cation = distance * np.array([np.sin(np.radians(angle)), 0, np.cos(np.radians(angle))])
    atoms = ring("TRP", "A", 1, (0, 0, 0), (0, 0, 1)) + residue(
        "LYS", "A", 9, (20, 0, 0), [("NZ", cation - [20, 0, 0])]
    )
    found = found_in(write_pdb, atoms, ["pc"])
    assert found == ({("pc", "A:LYS:9:NZ", "A:TRP:1:CD2")} if expected else set())


def flat_ring(chain, number, corner):
    """A ring in a plane of constant z, its centroid in the corner: both are exact in floating point."""
    points = [(2, -1, 0), (-1, 2, 0), (-1, -1, 0)]
    atoms = [(name, np.array(p, float)) for name, p in zip(("CG", "CE1", "CE2"), points, strict=True)]
    return residue("PHE", chain, number, corner, atoms)


def upright(atoms):
    """The same with y and z swapped about the corner: the normal is along y."""
    corner = np.mean([atom[4] for atom in atoms[3:]], axis=0)
    turned = [(*atom[:4], corner + (atom[4] - corner)[[0, 2, 1]], atom[5]) for atom in atoms[3:]]
    return atoms[:3] + turned


@pytest.mark.parametrize("distance", [4.0, 5.0])
def test_limits_of_rings_are_inclusive(write_pdb, distance):
    """Distances and angles that are equal to their limits, without rounding."""
    below = np.nextafter(distance, 0)
    parallel = flat_ring("A", 1, (0, 0, 0)) + flat_ring("B", 1, (0, 0, distance))
    right_angle = flat_ring("A", 1, (0, 0, 0)) + upright(flat_ring("B", 1, (0, 0, distance)))
    cation = flat_ring("A", 1, (0, 0, 0)) + residue("LYS", "A", 9, (20, 0, 0), [("NZ", (-20, 0, distance))])
    for kind, atoms in (("ps", parallel), ("ts", right_angle), ("pc", cation)):
        for limit, expected in ((distance, 1), (below, 0)):
            exact = {f"{kind}_cutoff_dist": limit, f"{kind}_cutoff_ang": 0.0}
            if kind != "pc":
                exact[f"{kind}_psi_ang"] = 0.0
            assert len(found_in(write_pdb, atoms, [kind], criteria=Criteria(**exact))) == expected


@pytest.mark.parametrize(("kind", "limit"), [("ps", "ps_psi_ang"), ("pc", "pc_cutoff_ang")])
def test_right_angle_at_its_limit(write_pdb, kind, limit):
    """A ring or cation in the plane of the ring: 90 degrees are within 90, not within a little less."""
    atoms = flat_ring("A", 1, (0, 0, 0)) + flat_ring("B", 1, (5, 0, 0))
    atoms += residue("LYS", "C", 9, (20, 0, 0), [("NZ", (-15, 0, 0))])
    assert len(found_in(write_pdb, atoms, [kind], criteria=Criteria(**{limit: 90.0}))) >= 1
    assert found_in(write_pdb, atoms, [kind], criteria=Criteria(**{limit: 89.999})) == set()


def test_ring_with_a_missing_atom_is_skipped(write_pdb):
    atoms = ring("PHE", "A", 1, (0, 0, 0), (0, 0, 1))[:-1] + ring("PHE", "B", 1, (0, 0, 5), (0, 0, 1))
    assert found_in(write_pdb, atoms, ["ps", "ts"]) == set()


def test_ions_water_and_ligands_are_out(write_pdb):
    atoms = residue("ASP", "A", 1, (0, 0, 0), [("OD1", (0, 0, 0))])
    atoms += residue("SER", "A", 9, (20, 0, 0), [("CB", (-20, 0, 30))])
    atoms.append(("CA", "CA", "A", 300, (2.4, 0, 0), {"element": "CA", "record": "HETATM"}))
    atoms.append(("O", "HOH", "A", 301, (0, 2.7, 0), {"record": "HETATM"}))
    atoms.append(("NZ", "LYS", "A", 302, (0, 0, 3), {"record": "HETATM"}))  # no N, CA, C: no protein residue
    assert found_in(write_pdb, atoms, NO_HB) == set()


def test_insertion_codes_and_empty_chain_in_labels(write_pdb):
    atoms = residue("ASP", " ", 10, (0, 0, 0), [("OD1", (0, 0, 0))], icode="B")
    atoms += residue("LYS", " ", 12, (20, 0, 0), [("NZ", (-17, 0, 0))])
    assert found_in(write_pdb, atoms, ["sb"]) == {("sb", "X:ASP:10B:OD1", "X:LYS:12:NZ")}


def test_blank_elements_of_protein_atoms(write_pdb):
    """CA, CD and the like are carbon and HG is hydrogen, whatever the alignment of the name suggests."""
    atoms = residue("VAL", "A", 1, (0, 0, 0), [("CB", (0, 0, 0)), ("HG", (1, 0, 0))])
    atoms += residue("GLU", "A", 9, (20, 0, 0), [("CD", (3.5 - 20, 0, 0))])
    atoms.append(("D", "GLU", "A", 9, (0, 60, 0), {}))  # deuterium is hydrogen
    path = write_pdb([(*atom[:-1], {**atom[-1], "element": ""}) for atom in atoms])
    # the names moved one column to the left
    path.write_text(
        "".join(
            f"{line[:12]}{line[13:16]} {line[16:]}" if line.startswith("ATOM") else line
            for line in path.read_text().splitlines(keepends=True)
        )
    )
    topology, xyz = read_structure(path)
    assert topology.elements == ("N", "C", "C", "C", "H", "N", "C", "C", "C", "H")
    assert lines_of(topology, [xyz], itypes=["vdw"]) == {"0\tvdw\tA:GLU:9:CD\tA:VAL:1:CB"}


def test_hb_without_hydrogens_is_an_error(write_pdb):
    path = write_pdb(residue("ASP", "A", 1, (0, 0, 0), [("OD1", (0, 0, 0))]))
    topology, xyz = read_structure(path)
    with pytest.raises(InputError, match=r"system\.pdb: no hydrogens"):
        ContactSearch(topology, xyz)
    ContactSearch(topology, xyz, NO_HB)


def test_unknown_element_warns(write_pdb):
    path = write_pdb(residue("ASP", "A", 1, (0, 0, 0), [("XX", (0, 0, 0), {"element": "XE"})]))
    topology, xyz = read_structure(path)
    with pytest.warns(UserWarning, match="no van der Waals radius of element XE"):
        ContactSearch(topology, xyz, NO_HB)


def test_identical_lines_are_written_once(write_pdb):
    """Two molecules with the same chain, number and names give one line, but two contacts."""
    atoms = []
    for shift in (0.0, 50.0):
        atoms += residue("ASP", "A", 1, (shift, 0, 0), [("OD1", (0, 0, 0))])
        atoms += residue("LYS", "A", 9, (shift, 0, 0), [("NZ", (3, 0, 0))])
    topology, xyz = read_structure(write_pdb(atoms))
    contacts = next(iter_contacts(topology, [xyz], itypes=["sb"]))
    assert len(contacts.kind) == 2
    assert contact_lines(0, contacts, atom_labels(topology)) == ["0\tsb\tA:ASP:1:OD1\tA:LYS:9:NZ"]


def test_types_asked():
    assert types_asked(["all"]) == ("hp", "sb", "pc", "ps", "ts", "vdw", "hb")
    assert types_asked(["hb", "sb", "hb"]) == ("hb", "sb")
    with pytest.raises(InputError, match="wb"):
        types_asked(["wb"])


def test_thresholds_are_used(write_pdb):
    atoms = residue("ASP", "A", 1, (0, 0, 0), [("OD1", (0, 0, 0))])
    atoms += residue("LYS", "A", 9, (20, 0, 0), [("NZ", (-14, 0, 0))])
    assert found_in(write_pdb, atoms, ["sb"]) == set()
    assert len(found_in(write_pdb, atoms, ["sb"], criteria=Criteria(sb_cutoff_dist=6.0))) == 1
    with pytest.raises(InputError, match="sb_cutoff_dist"):
        Criteria(sb_cutoff_dist=float("nan"))


def test_more_contacts_than_expected_are_all_found(write_pdb):
    """A dense box of atoms outruns the room that the search sets aside."""
    rng = np.random.default_rng(0)
    atoms = [a for i in range(40) for a in residue("SER", "A", 3 * i, (0, 0, 0), [("CB", rng.uniform(0, 4, 3))])]
    topology, xyz = read_structure(write_pdb(atoms))
    xyz = np.where(np.array(topology.atom_names)[:, None] == "CB", xyz, rng.uniform(0, 4, xyz.shape))
    found = next(iter_contacts(topology, [xyz], itypes=["vdw"]))
    heavy_pairs = {
        tuple(sorted((i, j)))
        for i in range(len(xyz))
        for j in range(len(xyz))
        if topology.residue_of_atom[i] != topology.residue_of_atom[j]
        and np.linalg.norm(xyz[i] - xyz[j])
        < {"C": 1.7, "N": 1.55}[topology.elements[i]] + {"C": 1.7, "N": 1.55}[topology.elements[j]] + 0.5
    }
    assert {
        tuple(sorted(pair)) for pair in zip(found.atom_1.tolist(), found.atom_2.tolist(), strict=True)
    } == heavy_pairs
    assert len(found.kind) == len(heavy_pairs) > 8 * topology.num_atoms


def near_pairs(points, reach):
    """Pairs of `neighbour_lists`, both ways, and the pairs that have to be and may be among them."""
    found = neighbour_lists(points, reach)
    pairs = [(i, int(j)) for i in range(len(points)) for j in found.points[found.start[i] : found.stop[i]]]
    excess = np.linalg.norm(points[:, None] - points[None], axis=-1) - reach[:, None] - reach[None]
    np.fill_diagonal(excess, np.inf)
    rounding = 1e-5 * np.ptp(points, axis=0).max(initial=0.0) if len(points) else 0.0
    needed, allowed = (set(map(tuple, np.argwhere(excess <= slack).tolist())) for slack in (0.0, rounding))
    return pairs, needed, allowed


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 120),
    st.floats(0.5, 6.0),
    st.floats(0.1, 300.0),
    st.integers(0, 2**32 - 1),
)
def test_neighbour_lists_hold_all_near_pairs(number, widest, box, seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-box, box, (number, 3))
    pairs, needed, allowed = near_pairs(points, rng.uniform(0.2, widest / 2, number))
    assert len(pairs) == len(set(pairs))
    assert needed <= set(pairs) <= allowed


@pytest.mark.parametrize("shift", [0.0, 1e5])
def test_neighbour_lists_of_a_crowd(shift):
    """More neighbours than there is room for at first, and coordinates far from the origin."""
    points = np.random.default_rng(0).uniform(0, 2, (200, 3)) + shift
    pairs, needed, _ = near_pairs(points, np.full(200, 2.0))
    assert len(pairs) == len(needed) == 200 * 199


def test_neighbour_lists_with_an_atom_very_far_away():
    points = np.array([[0.0, 0, 0], [1.0, 0, 0], [1e7, 1e7, 1e7]])
    assert near_pairs(points, np.full(3, 2.0))[0] == [(0, 1), (1, 0)]


# ---- the text form --------------------------------------------------------------------------------------------------


def test_header_round_trip(tmp_path):
    header = ContactHeader(10, 0, 9, 1, ("hb", "sb", "pc", "ps", "ts", "hp", "vdw"))
    assert str(header) == "# total_frames:10 beg:0 end:9 stride:1 interaction_types:hb,sb,pc,ps,ts,hp,vdw"
    path = tmp_path / "c.tsv"
    water = "3\twb\tA:GLY:1:N\tA:SER:5:O\tW:HOH:9:O\n"  # not a type of ours
    path.write_text(f"{header}\n# Columns\n3\thbbb\tA:GLY:1:N\tA:SER:5:O\n{water}")
    assert read_header(path) == header
    assert list(read_contacts(path)) == [(3, "hbbb", "A:GLY:1:N", "A:SER:5:O")]


@pytest.mark.parametrize("text", ["", "0\tsb\ta\tb\n", "# total_frames:x beg:0 end:9 stride:1 interaction_types:hb\n"])
def test_files_that_are_no_contact_files(tmp_path, text):
    path = tmp_path / "c.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"c\.tsv: not a contact file"):
        read_header(path)


@pytest.mark.parametrize("line", ["0\tsb\ta", "x\tsb\ta\tb", "0\twater\ta\tb", "\u00b2\tsb\ta\tb", "0 sb a b"])
def test_damaged_lines_are_named(tmp_path, line):
    path = tmp_path / "c.tsv"
    path.write_text(f"# header\n{line}\n")
    with pytest.raises(InputError, match="line 2"):
        list(read_contacts(path))


def test_types_are_in_the_order_of_the_pair_channels():
    assert TYPES == ("vdw", "hbbb", "hbsb", "hbss", "hp", "sb", "pc", "ps", "ts")
    assert [TYPES[getattr(kernels, name.upper())] for name in TYPES] == list(TYPES)


def test_threads_search_frames_at_the_same_time(examples):
    """The search has no state that two frames could share."""
    path = examples / "trajectories" / "5pti.pdb"
    topology = read_topology(path)
    frames = np.concatenate([chunk.angstrom for chunk in read_chunks(topology, path.with_suffix(".xtc"))])
    search = ContactSearch(topology, frames[0])
    alone = [search.contacts(frame) for frame in frames]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(search.contacts, np.tile(frames, (3, 1, 1))))
    for number, found in enumerate(together):
        for one, other in zip(found, alone[number % len(frames)], strict=True):
            np.testing.assert_array_equal(one, other)
