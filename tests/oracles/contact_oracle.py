"""Contacts by loops over all pairs of atoms, from the definitions alone and independent of the fast code.

`slack` (Angstrom, degrees) widens (negative: narrows) every limit, including those of the first frame, so that

    contact_lines(..., slack=(-a, -b))  <=  contact_lines(...)  <=  contact_lines(..., slack=(a, b))

holds for every computation whose distances err by less than a Angstrom and whose angles err by less than b degrees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

RADIUS = {
    "H": 1.2,
    "C": 1.7,
    "N": 1.55,
    "O": 1.52,
    "S": 1.8,
    "SE": 1.9,
    "P": 1.8,
    "F": 1.47,
    "CL": 1.75,
    "ZN": 1.39,
    "CA": 2.31,
}
UNKNOWN_RADIUS = 1.7
HIS = {"HIS", "HSD", "HSE", "HSP", "HID", "HIE", "HIP"}
BACKBONE = {"N", "O", "OP1", "OP2", "O1P", "O2P", "O2'", "O3'", "O4'", "O5'"}
GREASY = {"ALA", "PHE", "GLY", "ILE", "LEU", "PRO", "VAL", "TRP"}
RING = {"PHE": ("CG", "CE1", "CE2"), "TYR": ("CG", "CE1", "CE2"), "TRP": ("CD2", "CZ2", "CZ3")}
RING |= dict.fromkeys(HIS, ("CG", "CE1", "CD2"))
ACID = {("ASP", "OD1"), ("ASP", "OD2"), ("GLU", "OE1"), ("GLU", "OE2")}
BASE = {("LYS", "NZ"), ("ARG", "NH1"), ("ARG", "NH2")} | {(his, n) for his in HIS for n in ("ND1", "NE2")}
LIMITS = {"sb_cutoff_dist": 4.0, "pc_cutoff_dist": 6.0, "pc_cutoff_ang": 60.0}
LIMITS |= {"ps_cutoff_dist": 7.0, "ps_cutoff_ang": 30.0, "ps_psi_ang": 45.0}
LIMITS |= {"ts_cutoff_dist": 5.0, "ts_cutoff_ang": 30.0, "ts_psi_ang": 45.0}
LIMITS |= {"hbond_cutoff_dist": 3.5, "hbond_cutoff_ang": 70.0, "hbond_res_diff": 1}
LIMITS |= {"vdw_epsilon": 0.5, "vdw_res_diff": 2}
METALS = {"MG", "MN", "RH", "ZN", "FE", "BI", "AS", "AG"}
SOFT = {"pc": 10.0, "ps": 10.0, "ts": 6.0}  # Angstrom, from atom to atom, whatever the limits
KINDS = ("vdw", "hbbb", "hbsb", "hbss", "hp", "sb", "pc", "ps", "ts")


@dataclass(frozen=True)
class Chosen:
    """Sets of atoms: contacts are between the first two; ligands and solvent have rules of their own."""

    sele: frozenset
    sele2: frozenset | None = None
    ligand: frozenset = frozenset()
    solvent: frozenset = frozenset()

    def between(self, i, j):
        other = self.sele if self.sele2 is None else self.sele2
        return (i in self.sele and j in other) or (j in self.sele and i in other)


@dataclass(frozen=True)
class Atom:
    """An atom as in its file; `molecule` counts the TER records before it."""

    chain: str
    resname: str
    resid: int
    icode: str
    name: str
    element: str
    molecule: int = 0

    @property
    def label(self):
        return f"{self.chain or 'X'}:{self.resname}:{self.resid}{self.icode}:{self.name}"


def read_pdb_atoms(text):
    """Atoms of the first model, of alternate locations the first, and their coordinates (atoms, 3) in Angstrom."""
    atoms, xyz, seen, molecule = [], [], set(), 0
    for line in text.splitlines():
        if line.startswith("END"):
            break
        if line.startswith("TER"):
            molecule += 1
        if line.startswith(("ATOM", "HETATM")):
            name = line[12:16].strip()
            letter = "SE" if name == "SE" else name.lstrip("0123456789")[0]
            element = line[76:78].strip().upper() or letter
            element = "H" if element == "D" else element
            residue = (line[21].strip(), line[17:21].strip(), int(line[22:26]), line[26].strip())
            if line[16] != " " and (*residue, name, molecule) in seen:
                continue
            seen.add((*residue, name, molecule))
            atoms.append(Atom(*residue, name, element, molecule))
            xyz.append([float(line[30:38]), float(line[38:46]), float(line[46:54])])
    return atoms, np.array(xyz)


def residues_of(atoms):
    """Residues as lists of atom indices: a run of atoms that share chain, name, number and code, no name twice."""
    residues, key, names = [], None, set()
    for i, a in enumerate(atoms):
        this = (a.molecule, a.chain, a.resname, a.resid, a.icode)
        if this != key or a.name in names:
            residues.append([])
            key, names = this, set()
        residues[-1].append(i)
        names.add(a.name)
    return residues


def _minus(a, b):
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2])


def _dot(u, v):
    return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]


def _cross(u, v):
    return (u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0])


def _angle(u, v):
    return math.degrees(math.atan2(math.hypot(*_cross(u, v)), _dot(u, v)))


def _fold(a):
    return min(a, 180 - a)


def _disulfides(atoms, first, longest):
    """Pairs of residue numbers, as frozensets: the sulfurs within reach of those of a CYS have just these two."""
    sulfurs = [i for i, atom in enumerate(atoms) if atom.name == "SG"]
    found = set()
    for number in {atom.resid for atom in atoms if atom.resname == "CYS"}:
        own = [i for i in sulfurs if atoms[i].resid == number]
        near = {atoms[j].resid for i in own for j in sulfurs if math.dist(first[i], first[j]) < longest}
        if len(near) == 2:
            found.add(frozenset(near))
    return found


def _carboxylates(atoms, first, ligand):
    """Oxygens of the carboxylates of ligands."""
    found = set()
    for i in ligand:
        near = [j for j in range(len(atoms)) if j != i and math.dist(first[i], first[j]) <= 1.95]
        if atoms[i].element != "C" or sorted(atoms[j].element for j in near) != ["C", "O", "O"]:
            continue
        if abs(_angle(_minus(first[near[0]], first[i]), _minus(first[near[1]], first[i])) - 120) < 5:
            found |= {j for j in near if atoms[j].element == "O" and j in ligand}
    return found


def _with_ligands(kind, i, j, atoms, anions, ligand):
    """Types of a contact, of which one or both atoms may be of ligands."""
    both, one = i in ligand and j in ligand, (i in ligand) != (j in ligand)
    if kind[:2] == "hb" and one:
        return ["hblb" if atoms[j if i in ligand else i].name in BACKBONE else "hbls"]
    if kind == "hp" and one:
        return ["hplp"]
    if kind == "sb" and one:
        return ["sb", "sblp" if (i if i in anions else j) in ligand else "sbpl"]
    return [{"hb": "hbll", "hp": "hpll", "sb": "sbll"}.get(kind[:2], kind)] if both else [kind]


def contacts(atoms, frames, limits=None, slack=(0.0, 0.0), chains=None, chosen=None):
    """Set of contacts (frame, kind, i, j) of all kinds, with atoms i and j in the order of their labels.

    `atoms` are those of the whole system; `frames` (frames, atoms, 3) Angstrom begin with the first of the trajectory;
    `limits` replace some `LIMITS`. `chains` holds the chain of each atom, by default its letter. `chosen` replaces the
    atoms of the protein.
    """
    chains = [atom.chain for atom in atoms] if chains is None else chains
    limit = LIMITS | (limits or {})
    more, turn = slack
    frames = [[tuple(point) for point in np.asarray(frame, np.float64).tolist()] for frame in frames]
    first = frames[0]

    residues = [group for group in residues_of(atoms) if {"N", "CA", "C"} <= {atoms[i].name for i in group}]
    protein = sorted(i for group in residues for i in group)
    chosen = chosen or Chosen(frozenset(protein))
    heavy = sorted(i for i in chosen.sele | (chosen.sele2 or set()) if atoms[i].element != "H")
    inside = set(protein)
    of_protein = [i for i in protein if atoms[i].element != "H"]
    groups = {i: group for group in residues_of(atoms) for i in group}

    # the first frame: owners of hydrogens, disulfides, carbons that touch only carbon and hydrogen
    hydrogens_of = {i: [] for i in range(len(atoms))}
    for h in range(len(atoms)):
        owners = of_protein if h in inside else [i for i in groups[h] if atoms[i].element != "H"]
        if atoms[h].element == "H" and owners:
            away = {i: math.dist(first[i], first[h]) for i in owners}
            nearest = min(away, key=away.get)
            close = [i for i in owners if away[i] <= away[nearest] + abs(more)]
            if more == 0:
                hydrogens_of[nearest].append(h)
            elif more > 0 or len(close) == 1:  # outwards any of those that tie, inwards none of them
                for i in close:
                    hydrogens_of[i].append(h)
    shorter, longer = (_disulfides(atoms, first, 2.1 + by) for by in (-abs(more), abs(more)))
    disulfides = shorter | longer if more < 0 else shorter & longer
    greasy, bonded_to_h = set(), set()
    for i in heavy:
        if atoms[i].element == "C" and (atoms[i].resname in GREASY or i in chosen.ligand):
            near = [j for j in range(len(atoms)) if j != i and math.dist(first[i], first[j]) <= 1.7 - more]
            if all(atoms[j].element in ("C", "H") for j in near):
                greasy.add(i)
            if any(atoms[j].element == "H" and math.dist(first[i], first[j]) <= 1.7 + more for j in range(len(atoms))):
                bonded_to_h.add(i)

    def touch(i, j):
        """Whether two carbons may be a hydrophobic contact; with a second selection it is not alike on both sides."""
        if not {i, j} <= greasy or chosen.sele2 is None:
            return {i, j} <= greasy
        return any(a in chosen.sele and b in chosen.sele2 & bonded_to_h for a, b in ((i, j), (j, i)))

    charge = {i: -1 for i in heavy if (atoms[i].resname, atoms[i].name) in ACID}
    bases = [i for i in heavy if (atoms[i].resname, atoms[i].name) in BASE]
    charge |= dict.fromkeys(bases, 1)
    charge |= dict.fromkeys(_carboxylates(atoms, first, chosen.ligand), -1)
    charge |= {i: 1 for i in chosen.ligand if atoms[i].element in METALS}
    rings = []
    for group in residues_of(atoms):
        index = {atoms[i].name: i for i in group}
        ring = RING.get(atoms[group[0]].resname, ())
        if ring and all(name in index for name in ring):
            whole = {index[name] for name in ring}
            sides = [side for side in (chosen.sele, chosen.sele2 or chosen.sele) if whole <= side]
            if sides:
                rings.append(([index[name] for name in ring], index[min(ring)]))

    anions = {i for i, q in charge.items() if q == -1}
    radius = {i: RADIUS.get(atoms[i].element, UNKNOWN_RADIUS) for i in heavy}
    # no pair of atoms farther apart is a contact
    furthest = max(2 * max(radius.values()) + limit["vdw_epsilon"], limit["sb_cutoff_dist"], limit["hbond_cutoff_dist"])
    order = [(atom.label, i) for i, atom in enumerate(atoms)]
    found = set()
    for f, xyz in enumerate(frames):

        def add(kind, i, j, f=f):
            if chosen.between(i, j):
                for name in _with_ligands(kind, i, j, atoms, anions, chosen.ligand):
                    found.add((f, name, *sorted((i, j), key=order.__getitem__)))

        for x, i in enumerate(heavy):
            for j in heavy[x + 1 :]:
                d = math.dist(xyz[i], xyz[j])
                if d > furthest + more:
                    continue
                a, b = atoms[i], atoms[j]
                apart = abs(a.resid - b.resid) if chains[i] == chains[j] else math.inf
                bonded = a.resname == b.resname == "CYS" and frozenset((a.resid, b.resid)) in disulfides
                if (
                    d < radius[i] + radius[j] + limit["vdw_epsilon"] + more
                    and apart >= limit["vdw_res_diff"]
                    and not bonded
                ):
                    add("vdw", i, j)
                    if touch(i, j):
                        add("hp", i, j)
                if charge.get(i, 0) * charge.get(j, 0) == -1 and d <= limit["sb_cutoff_dist"] + more:
                    add("sb", i, j)
                if (
                    not {a.element, b.element} & {"C", "S"}
                    and not {i, j} & chosen.solvent
                    and d <= limit["hbond_cutoff_dist"] + more
                    and apart >= limit["hbond_res_diff"]
                ):
                    bonds = [(i, h, j) for h in hydrogens_of[i]] + [(j, h, i) for h in hydrogens_of[j]]
                    for donor, h, acceptor in bonds:
                        bend = _angle(_minus(xyz[h], xyz[donor]), _minus(xyz[acceptor], xyz[h]))
                        if bend < limit["hbond_cutoff_ang"] + turn:
                            add(("hbss", "hbsb", "hbbb")[(a.name in BACKBONE) + (b.name in BACKBONE)], i, j)

        def reach(ring, others, xyz=xyz):
            return [math.dist(xyz[i], xyz[j]) for i in ring for j in others]

        planes = []
        for (p, q, r), name in rings:
            centre = tuple((xyz[p][k] + xyz[q][k] + xyz[r][k]) / 3 for k in range(3))
            planes.append((centre, _cross(_minus(xyz[q], xyz[p]), _minus(xyz[r], xyz[p])), name, (p, q, r)))
        for x, (centre, normal, name, ring) in enumerate(planes):
            for i in bases:
                if (
                    math.dist(centre, xyz[i]) <= limit["pc_cutoff_dist"] + more
                    and _fold(_angle(normal, _minus(xyz[i], centre))) <= limit["pc_cutoff_ang"] + turn
                    and max(reach(ring, [i])) <= SOFT["pc"] + more
                ):
                    add("pc", name, i)
            for centre2, normal2, name2, ring2 in planes[x + 1 :]:
                d = math.dist(centre, centre2)
                line = _minus(centre2, centre)
                tilt = _fold(_angle(normal, normal2))
                psi = min(_fold(_angle(normal, line)), _fold(_angle(normal2, line)))
                for kind, off in (("ps", tilt), ("ts", 90 - tilt)):
                    if (
                        d <= limit[f"{kind}_cutoff_dist"] + more
                        and off <= limit[f"{kind}_cutoff_ang"] + turn
                        and psi <= limit[f"{kind}_psi_ang"] + turn
                        and min(reach(ring, ring2)) <= SOFT[kind] + more
                    ):
                        add(kind, name, name2)
    return found


def water_bridges(atoms, frames, chosen, limits=None, chains=None):
    """Set of contacts (frame, kind, atoms) by one or two waters; the two ends are not ordered, nor are the waters."""
    limit = LIMITS | (limits or {})
    chains = [atom.chain for atom in atoms] if chains is None else chains
    union = chosen.sele | (chosen.sele2 or set())
    everything = Chosen(frozenset(union | chosen.solvent))
    found = set()
    for f, kind, i, j in contacts(atoms, frames, limit | {"hbond_res_diff": 1}, chains=chains, chosen=everything):
        if kind[:2] == "hb":
            found |= {(f, i, j), (f, j, i)}
    water, ends = chosen.solvent, union - chosen.solvent
    result = set()
    for f, a, w in found:
        for g, x, b in found if a in ends and w in water else ():
            same_chain = chains[a] == chains[b]
            near = same_chain and abs(atoms[a].resid - atoms[b].resid) < limit["hbond_res_diff"]
            if f != g or b not in ends or a == b or near or not chosen.between(a, b):
                continue
            kind = "l" * bool({a, b} & chosen.ligand)
            if x == w:
                result.add((f, f"{kind}wb", frozenset((a, b)), frozenset((w,))))
            elif x in water and (f, w, x) in found:
                result.add((f, f"{kind}wb2", frozenset((a, b)), frozenset((w, x))))
    return result


def contact_lines(atoms, frames, limits=None, slack=(0.0, 0.0), kinds=KINDS, chains=None, chosen=None):
    """Set of contact lines `frame type atom1 atom2` (tab-separated); parameters as those of `contacts`."""
    return {
        f"{frame}\t{kind}\t{atoms[i].label}\t{atoms[j].label}"
        for frame, kind, i, j in contacts(atoms, frames, limits, slack, chains, chosen)
        if kinds is None or kind in kinds
    }


def contact_counts(atoms, frames, slack=(0.0, 0.0), chains=None):
    """Contacts (N, N, 9) of the protein residues over all frames: row = residue of atom 1, column = of atom 2."""
    residues = [group for group in residues_of(atoms) if {"N", "CA", "C"} <= {atoms[i].name for i in group}]
    residue_of = {i: r for r, group in enumerate(residues) for i in group}
    counts = np.zeros((len(residues), len(residues), len(KINDS)), int)
    for _, kind, i, j in contacts(atoms, frames, slack=slack, chains=chains):
        counts[residue_of[i], residue_of[j], KINDS.index(kind)] += 1
    return counts
