"""Whether frames have the covalent geometry of their topology; without it they belong to another one or are damaged.

The bonds N-CA and CA-C of a residue are never much longer than 1.5 Angstrom, however hot or coarse a model is. Peptide
bonds may be: residue numbers do not show every gap. Models of C-alpha atoms alone are judged by the distance of
neighbours. Where a frame has a box, the nearest image counts, so that broken chains are sound.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import require
from data_prepare.structure.topology import Topology, label_of_residue

LARGEST: Final = 1e5  # Angstrom; no simulated system is that large, and float32 has 0.01 A there
AT_ONE_POINT: Final = 0.3  # Angstrom; bonded atoms of any model are farther apart
SHORTEST: Final = 0.9  # Angstrom, of a bond between heavy atoms: lengths in nm or Bohr are shorter
LONGEST: Final = 2.2  # Angstrom, of a bond: sulfur and selenium reach 2.1, atoms two bonds apart begin at 2.4
LONGEST_TO_HYDROGEN: Final = 1.6  # Angstrom: bonds to carbon and nitrogen have 1.1; two bonds apart begin at 1.9
C_ALPHA_STEP: Final = (2.0, 5.5)  # Angstrom: 2.9 of cis and 3.8 of trans peptide bonds, and coarse-grained models
# bonds beside the backbone that show the order of the atoms within a residue
SAMPLE: Final = [
    bond.split("-")
    for bond in (
        "C-O CA-CB CB-CG CB-CG1 CB-OG CB-OG1 CB-SG CG-CD CG-CD1 CG1-CD1 CG-OD1 CG-SD CD-CE CD-NE CD-OE1 CE-NZ SD-CE "
        "N-H N-HN CA-HA CA-HA2 CB-HB CB-HB2"
    ).split()
]
MAY_BE_BROKEN: Final = 0.02  # of the bonds N-CA and CA-C: a badly built residue among fifty
MAY_BE_ODD: Final = 0.1  # of the sample: side chains without density
JUMP: Final = 10.0  # Angstrom: a bond of the first frame that is longer in another one crosses the periodic box
MAY_BE_GAPS: Final = 0.2  # of the peptide bonds: gaps that the residue numbers do not show
UNIT: Final = (5.0, 20.0)  # ratio of a typical bond to its length that means a factor of ten


def require_covalent_geometry(topology: Topology, xyz: NDArray) -> None:
    """InputError unless a structure with positions (atoms, 3) in Angstrom has the covalent geometry of a protein."""
    (problem,) = CovalentGeometry(topology).problems(xyz[None], 1.0, None)
    require(problem is None, f"{topology.path}: the structure {problem}")


class CovalentGeometry:
    """The bonds of a topology that its frames must have."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        atoms, chain, number = topology.atoms_by_name, topology.chain_of_residue, topology.residue_numbers
        protein, amino_acid = topology.is_protein, topology.is_amino_acid
        within, peptide, steps = [], [], []  # pairs of atoms
        for i, own in enumerate(atoms):
            if protein[i]:
                within += [(own["N"], own["CA"]), (own["CA"], own["C"])]
            if i == 0 or chain[i - 1] != chain[i] or number[i] - number[i - 1] not in (0, 1):
                continue
            if protein[i] and protein[i - 1]:
                peptide.append((atoms[i - 1]["C"], own["N"]))
            elif amino_acid[i] and amino_acid[i - 1] and "CA" in own and "CA" in atoms[i - 1]:
                steps.append((atoms[i - 1]["CA"], own["CA"]))
        sample = [
            (own[first], own[second])
            for own, residue in zip(atoms, protein, strict=True)
            for first, second in (SAMPLE if residue else ())
            if first in own and second in own
        ]
        self._sample = np.array(sample, np.intp).reshape(-1, 2)
        hydrogen = np.array(topology.elements)[self._sample[:, 1]] == "H"
        self._longest_of_sample = np.where(hydrogen, LONGEST_TO_HYDROGEN, LONGEST)
        self._bonds = np.array([*within, *peptide, *steps], np.intp).reshape(-1, 2)
        self._within = len(within)
        bonds = [len(within) + len(peptide), len(steps)]
        self._shortest = np.repeat([SHORTEST, C_ALPHA_STEP[0]], bonds)
        self._typical = np.repeat([1.4, 3.8], bonds)
        self._longest = np.repeat([LONGEST, C_ALPHA_STEP[1]], bonds)
        self._bonded: NDArray[np.bool_] | None = None  # (bonds,) those of the first sound frame: others may be gaps

    def problems(self, xyz: NDArray, scale: float, box: NDArray | None) -> list[str | None]:
        """What is wrong with each frame (frames, atoms, 3), None if nothing is; `scale` times a length is Angstrom."""
        first = np.take(xyz, self._bonds[:, 0], axis=1)  # (frames, bonds, 3)
        step = np.take(xyz, self._bonds[:, 1], axis=1) - first
        lengths = scale * np.sqrt(np.einsum("fbi,fbi->fb", step, step))  # (frames, bonds)
        wrong = (lengths < self._shortest) | (lengths > self._longest)
        if box is not None and wrong.any():
            lengths = scale * np.linalg.norm(_nearest_image(step, box), axis=-1)
            wrong = (lengths < self._shortest) | (lengths > self._longest)
        broken = _share(wrong[:, : self._within]) > MAY_BE_BROKEN
        broken |= _share(wrong[:, self._within :]) > MAY_BE_GAPS
        broken |= (lengths < AT_ONE_POINT).any(axis=1) | (np.abs(first).max(axis=(1, 2), initial=0) > LARGEST / scale)
        if self._bonded is None and not broken.all():
            self._bonded = ~wrong[broken.argmin()]
        jumps = (lengths > JUMP) & (False if self._bonded is None else self._bonded)
        problems: list[str | None] = [None] * len(xyz)
        for k in np.flatnonzero(jumps.any(axis=1)):
            residue = self._topology.residue_of_atom[self._bonds[jumps[k].argmax(), 0]]
            where = label_of_residue(self._topology)[residue]
            problems[k] = f"has a chain that jumps across the periodic box at {where}: write whole molecules"
        for k in np.flatnonzero(broken):
            problems[k] = self._describe(scale * first[k], lengths[k], wrong[k])
        for k in np.flatnonzero(~np.isfinite(xyz).all(axis=(1, 2))):
            problems[k] = "has coordinates that are not finite"
        return problems

    def problem_of_sample(self, xyz: NDArray, scale: float, box: NDArray | None) -> str | None:
        """What is wrong with a single frame (1, atoms, 3) by other bonds, which show another order within residues."""
        lengths = scale * np.linalg.norm(
            _nearest_image(xyz[:, self._sample[:, 1]] - xyz[:, self._sample[:, 0]], box), axis=-1
        )
        (share,) = _share(lengths > self._longest_of_sample)
        return f"has {share:.0%} of its bonds broken: {self._other_order}" if share > MAY_BE_ODD else None

    @property
    def _other_order(self) -> str:
        return f"its atoms stand in another order, or it belongs to another system than {self._topology.path}"

    def _describe(self, first: NDArray, lengths: NDArray, wrong: NDArray) -> str:
        """Problem of a broken frame with the first atoms (bonds, 3) of its bonds."""
        largest = np.abs(first).max()
        ratio = np.median(lengths / self._typical)
        at_one_point = np.flatnonzero(lengths < AT_ONE_POINT)
        if largest > LARGEST:
            return f"has a coordinate of {largest:.0f} Angstrom: it is damaged"
        if UNIT[0] < ratio < UNIT[1]:
            return "is about ten times too large: its lengths are in another unit than the format has"
        if 1 / UNIT[1] < ratio < 1 / UNIT[0]:
            return "is about ten times too small: its lengths are in another unit than the format has"
        if len(at_one_point) == len(lengths):
            return "has all atoms at one point: it is damaged or empty"
        if len(at_one_point):
            residue = self._topology.residue_of_atom[self._bonds[at_one_point[0], 0]]
            return f"has atoms of {label_of_residue(self._topology)[residue]} at one point: it is damaged"
        return f"has {wrong.mean():.0%} of its bonds broken: {self._other_order}"


def _share(wrong: NDArray) -> NDArray[np.float64]:
    """Share (frames,) of the pairs (frames, pairs) that are wrong."""
    return wrong.sum(axis=1) / max(1, wrong.shape[1])


def _nearest_image(step: NDArray, box: NDArray | None) -> NDArray[np.float64]:
    """Shortest images of steps (frames, n, 3) in the boxes (frames, 3, 3) of the same unit."""
    if box is None:
        return step
    box = np.asarray(box, np.float64)
    boxed = np.linalg.det(box) > 0
    step = step.copy()
    step[boxed] -= np.round(step[boxed] @ np.linalg.inv(box[boxed])) @ box[boxed]
    return step
