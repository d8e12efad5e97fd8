"""Contacts by loops over all pairs of atoms, written apart from the fast code and from its PDB reader.

Slow on purpose: every line can be checked against the definitions by eye.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

RADIUS = {"H": 1.2, "C": 1.7, "N": 1.55, "O": 1.52, "S": 1.8, "SE": 1.9, "P": 1.8}
HIS = {"HIS", "HSD", "HSE", "HSP", "HID", "HIE", "HIP"}


@dataclass
class Atom:
    name: str
    resname: str
    chain: str
    resid: int
    icode: str
    element: str

    @property
    def residue(self):
        return (self.chain, self.resid, self.icode, self.resname)

    @property
    def label(self):
        return f"{self.chain or 'X'}:{self.resname}:{self.resid}{self.icode}:{self.name}"


def read_pdb_atoms(text):
    """Atoms of the first model, and their coordinates (atoms, 3)."""
    atoms, xyz = [], []
    for line in text.splitlines():
        if line.startswith("ENDMDL"):
            break
        if line.startswith(("ATOM", "HETATM")):
            name = line[12:16].strip()
            element = line[76:78].strip().upper() or name.lstrip("0123456789")[0]
            atoms.append(Atom(name, line[17:20].strip(), line[21].strip(), int(line[22:26]), line[26].strip(), element))
            xyz.append([float(line[30:38]), float(line[38:46]), float(line[46:54])])
    return atoms, np.array(xyz)


def _angle(u, v):
    return math.degrees(math.acos(max(-1.0, min(1.0, float(np.dot(u, v) / np.linalg.norm(u) / np.linalg.norm(v))))))


def _fold(a):
    return min(a, 180 - a)


def contact_lines(atoms, frames):
    """Set of contact lines `frame type atom1 atom2` (tab-separated) of frames (frames, atoms, 3) in Angstrom."""
    frames = np.asarray(frames, np.float64)
    names_of = {}
    for atom in atoms:
        names_of.setdefault(atom.residue, set()).add(atom.name)
    protein = [i for i, a in enumerate(atoms) if {"N", "CA", "C"} <= names_of[a.residue]]
    heavy = [i for i in protein if atoms[i].element != "H"]
    first = frames[0]

    owner = {i: [] for i in heavy}
    for h in protein:
        if atoms[h].element == "H":
            nearest = min(heavy, key=lambda i: float(np.linalg.norm(first[i] - first[h])))
            owner[nearest].append(h)

    disulfide = set()
    sulfurs = [i for i in protein if atoms[i].name == "SG" and atoms[i].resname in ("CYS", "CYX", "CYM")]
    for i in sulfurs:
        for j in sulfurs:
            if i != j and np.linalg.norm(first[i] - first[j]) < 2.1:
                disulfide.add((atoms[i].residue, atoms[j].residue))

    greasy = set()
    for i in protein:
        a = atoms[i]
        if a.element == "C" and a.resname in ("ALA", "PHE", "GLY", "ILE", "LEU", "PRO", "VAL", "TRP"):
            near = [
                atoms[j].element for j in range(len(atoms)) if j != i and np.linalg.norm(first[i] - first[j]) <= 1.7
            ]
            if all(element in ("C", "H") for element in near):
                greasy.add(i)

    def charge(a):
        if (a.resname, a.name) in (("ASP", "OD1"), ("ASP", "OD2"), ("GLU", "OE1"), ("GLU", "OE2")):
            return -1
        if (a.resname, a.name) in (("LYS", "NZ"), ("ARG", "NH1"), ("ARG", "NH2")):
            return 1
        return 1 if a.resname in HIS and a.name in ("ND1", "NE2") else 0

    ring_names = {"PHE": ("CG", "CE1", "CE2"), "TYR": ("CG", "CE1", "CE2"), "TRP": ("CD2", "CZ2", "CZ3")}
    ring_names |= dict.fromkeys(HIS, ("CG", "CE1", "CD2"))
    ring_list = []
    for residue in dict.fromkeys(atoms[i].residue for i in protein):
        if residue[3] in ring_names:
            of_residue = {atoms[i].name: i for i in protein if atoms[i].residue == residue}
            if all(name in of_residue for name in ring_names[residue[3]]):
                ring_list.append(
                    ([of_residue[n] for n in ring_names[residue[3]]], of_residue[min(ring_names[residue[3]])])
                )

    lines = set()
    for f, xyz in enumerate(frames):

        def write(kind, i, j, f=f):
            lines.add("\t".join([str(f), kind, *sorted((atoms[i].label, atoms[j].label))]))

        for x, i in enumerate(heavy):
            for j in heavy[x + 1 :]:
                a, b = atoms[i], atoms[j]
                d = float(np.linalg.norm(xyz[i] - xyz[j]))
                if d > 6:
                    continue
                same = a.chain == b.chain
                if (
                    d < RADIUS[a.element] + RADIUS[b.element] + 0.5
                    and not (same and abs(a.resid - b.resid) < 2)
                    and (a.residue, b.residue) not in disulfide
                ):
                    write("vdw", i, j)
                    if i in greasy and j in greasy:
                        write("hp", i, j)
                if charge(a) * charge(b) == -1 and d <= 4.0:
                    write("sb", i, j)
                if (
                    a.element not in ("C", "S")
                    and b.element not in ("C", "S")
                    and d <= 3.5
                    and not (same and abs(a.resid - b.resid) < 1)
                ):
                    pairs = [(i, h, j) for h in owner[i]] + [(j, h, i) for h in owner[j]]
                    if any(_angle(xyz[h] - xyz[don], xyz[acc] - xyz[h]) < 70 for don, h, acc in pairs):
                        backbone = (a.name in ("N", "O")) + (b.name in ("N", "O"))
                        write(("hbss", "hbsb", "hbbb")[backbone], i, j)

        planes = []
        for members, name in ring_list:
            p, q, r = xyz[members]
            planes.append(((p + q + r) / 3, np.cross(q - p, r - p), name))
        for x, (centre, normal, name) in enumerate(planes):
            for i in protein:
                if charge(atoms[i]) == 1:
                    line = xyz[i] - centre
                    if np.linalg.norm(line) <= 6 and _fold(_angle(normal, line)) <= 60:
                        write("pc", name, i)
            for centre2, normal2, name2 in planes[x + 1 :]:
                line = centre2 - centre
                d = float(np.linalg.norm(line))
                normals = _fold(_angle(normal, normal2))
                psi = min(_fold(_angle(normal, line)), _fold(_angle(normal2, line)))
                if d <= 7 and normals <= 30 and psi <= 45:
                    write("ps", name, name2)
                if d <= 5 and normals >= 60 and psi <= 45:
                    write("ts", name, name2)
    return lines
