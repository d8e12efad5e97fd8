"""Systems of atoms at random for tests of contacts, written as PDB files: residues, ions, water and ligands."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import contact_oracle
import numpy as np
from contact_oracle import Atom
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

EXAMPLES = Path(__file__).resolve().parents[2] / "data_prepare" / "examples" / "trajectories"
HISTIDINES = ("HIS", "HSD", "HSE", "HSP", "HID", "HIE", "HIP")


@cache
def example(name):
    """Atoms of an example and their coordinates (atoms, 3), Angstrom."""
    return contact_oracle.read_pdb_atoms((EXAMPLES / f"{name}.pdb").read_text())


def fragment(name, *numbers):
    atoms, xyz = example(name)
    keep = [i for i, atom in enumerate(atoms) if atom.resid in numbers]
    return [atoms[i] for i in keep], xyz[keep]


def shaken(xyz, frames=3, by=0.3, seed=0):
    """Frames (frames, atoms, 3): the coordinates and copies with noise, float32."""
    noise = np.random.default_rng(seed).normal(0, by, (frames, *xyz.shape))
    noise[0] = 0
    return (xyz + noise).astype(np.float32)


def pdb_text(atoms, xyz, elements="right"):
    """PDB file: elements in their columns right- or left-aligned."""
    lines, molecule = [], atoms[0].molecule
    for serial, (atom, point) in enumerate(zip(atoms, xyz, strict=True), 1):
        if atom.molecule != molecule:
            lines.append("TER")
            molecule = atom.molecule
        name = f" {atom.name:<3}" if len(atom.name) < 4 else atom.name
        element = f"{atom.element:>2}" if elements == "right" else f"{atom.element:<2}"
        residue = f"{f'{atom.resname:>3}':<4}{atom.chain or ' '}{atom.resid:4d}{atom.icode or ' '}"
        lines.append(
            f"ATOM  {serial:5d} {name} {residue}   "
            f"{point[0]:8.3f}{point[1]:8.3f}{point[2]:8.3f}  1.00  0.00          {element}"
        )
    return "\n".join([*lines, "END", ""])


@cache
def residue_pool():
    """Whole residues of the examples: name -> (atoms, coordinates about the middle of the side chain)."""
    pool = {}
    for name in ("5pti", "1v6p", "p53_tad"):
        for number in dict.fromkeys(atom.resid for atom in example(name)[0] if atom.resid > 1):
            group, points = fragment(name, number)
            side = [i for i, atom in enumerate(group) if atom.name not in ("N", "H", "CA", "HA", "C", "O")]
            pool.setdefault(group[0].resname, (group, points - points[side[-6:]].mean(axis=0)))
    return pool


OTHER_NAMES = {
    "HIS": HISTIDINES,
    "CYS": ("CYS", "CYX", "CYM"),
    "PHE": ("PHE", "PHE", "PTR"),
    "LYS": ("LYS", "LYS", "LYN"),
    "MET": ("MET", "MSE"),
    "ALA": ("ALA", "ALA", "SEP"),
    "SER": ("SER", "SEP"),
}
residues = st.tuples(
    st.sampled_from(
        ["ARG", "LYS", "HIS", "ASP", "GLU", "PHE", "TYR", "TRP", "CYS", "ALA", "LEU", "VAL", "PRO", "GLY", "SER", "MET"]
    ),
    st.integers(0, 6),  # which of its other names
    st.sampled_from([1, 1, 1, 2, 0, -3]),  # step of the residue number
    st.sampled_from(["", "", "", "A", "B"]),
    st.floats(2.5, 7.0),  # from an earlier residue, Angstrom
)
chains = st.lists(
    st.tuples(st.sampled_from(["A", "A", "B", "", "z"]), st.lists(residues, min_size=1, max_size=9)), max_size=4
)


def random_system(drawn, solvent, lose, rng):
    """Residues at random near each other, as drawn; some atoms lost, some renamed; ions and water between them."""
    atoms, points, tips = [], [], []
    for molecule, (chain, members) in enumerate(drawn):
        number, previous = int(rng.integers(-3, 12)), None
        for name, variant, step, code, near in members:
            group, xyz = residue_pool()[name]
            number += step
            if previous == (number, code):
                number += 1
            previous = (number, code)
            other = OTHER_NAMES.get(name, (name,))
            resname = other[variant % len(other)]
            tip = tips[rng.integers(len(tips))] + near * _direction(rng) if tips else np.zeros(3)
            tips.append(tip)
            moved = Rotation.random(rng=rng).apply(xyz) + tip
            keep = rng.random(len(group)) >= lose
            for atom, point, kept in zip(group, moved, keep, strict=True):
                name_, element = atom.name, atom.element
                if resname == "MSE" and name_ == "SD":
                    name_, element = "SE", "SE"
                elif variant == 5:
                    name_ = {"O": "OT1", "H": "HN", "HB2": "1HB", "HB3": "2HB", "OG": "O1P"}.get(name_, name_)
                if kept:
                    atoms.append(Atom(chain, resname, number, code, name_, element, molecule))
                    points.append(point)
    for k in range(solvent):
        at = tips[rng.integers(len(tips))] if tips else np.zeros(3)
        names, element = [(("CA",), "CA"), (("ZN",), "ZN"), (("O", "H1", "H2"), "O")][k % 3]
        resname, number = names[0] if k % 3 < 2 else "HOH", int(rng.integers(1, 9))
        for name in names:
            element = element if name == names[0] else "H"
            atoms.append(Atom("A", resname, number, "", name, element, len(drawn) + k))
            points.append(at + rng.normal(0, 2, 3))
    return atoms, np.array(points).reshape(-1, 3)


def _direction(rng):
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector)
