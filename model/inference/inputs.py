"""Sequences from user input: text, FASTA, or the chains of a structure file."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from data_prepare.errors import InputError, reading, require
from data_prepare.structure.sequence import CHAIN_LINKER
from model.network.tokenizer import VOCABULARY, split_tokens

if TYPE_CHECKING:
    from data_prepare.structure.topology import Topology

RESIDUE_LETTERS: Final = frozenset(token for token in VOCABULARY if token.isalpha())  # the 20, and X B U Z O
RESIDUE_TOKENS: Final = RESIDUE_LETTERS | {"<mask>", "<unk>"}
REMEDIES: Final = {"-": "remove the gaps", ".": "remove the gaps", "*": "cut the sequence at the stop"}


@dataclass(frozen=True)
class Protein:
    """A name and a sequence; chains of a complex are joined by `<eos><cls>`."""

    name: str
    sequence: str


def file_name(name: str) -> str:
    """Name of a protein for a file or HDF5 group: special characters become underscores."""
    return re.sub(r"^\.|[^\w.,=+@-]", "_", name)


def file_names(names: Sequence[str]) -> list[str]:
    """`file_name` of each name; InputError if two names share a file."""
    name_of: dict[str, str] = {}
    for name in names:
        other = name_of.setdefault(file_name(name), name)
        require(other == name, f"{other} and {name} would both be written as {file_name(name)}; rename one")
    return [file_name(name) for name in names]


def read_fasta(path: str | os.PathLike[str]) -> list[Protein]:
    """Read a FASTA file, gzipped if its name ends in .gz.

    The first word of a header names the protein. Lower case (masked regions) becomes upper case; white space and one
    final `*` are removed. Chains of a complex are joined by `<eos><cls>`. InputError if the file is missing, damaged or
    empty, a name is missing or not unique, or a sequence is invalid.
    """
    path = Path(path)
    with reading(path, "a FASTA file"), gzip.open(path, "rt") if path.suffix.lower() == ".gz" else open(path) as file:
        before, *records = re.split("^>", file.read(), flags=re.MULTILINE)
    require(records and not before.strip(), f"{path}: not a FASTA file; start each protein with a line '>name'")
    proteins: dict[str, Protein] = {}
    for number, record in enumerate(records, start=1):
        header, _, lines = record.partition("\n")
        name = (header.split() or [""])[0]
        require(name, f"{path}: sequence {number} has no name; write one after the '>'")
        require(name not in proteins, f"{path}: duplicate name {name}; rename one")
        chains = "".join(lines.split()).removesuffix("*").upper().split(CHAIN_LINKER.upper())
        proteins[name] = Protein(name, CHAIN_LINKER.join(chains))
        check_sequence(proteins[name].sequence, f"{path}, {name}")
    return list(proteins.values())


def check_sequence(sequence: str, where: str = "--sequence") -> None:
    """Raise InputError naming `where` unless all chains consist of `RESIDUE_LETTERS`, `<mask>` and `<unk>`."""
    position = 0
    for chain in sequence.split(CHAIN_LINKER):
        require(chain, f"{where}: a chain is empty; remove it")
        for token in split_tokens(chain):
            position += 1
            if token not in RESIDUE_TOKENS:
                remedy = REMEDIES.get(token, "use upper-case letters, X for an unknown residue")
                raise InputError(f"{where}, residue {position}: {token!r} is not an amino acid; {remedy}")


def protein_of_structure(path: str | os.PathLike[str], chain: str | None = None) -> Protein:
    """Sequence of the protein chains of a PDB or mmCIF file, gzipped or not.

    It includes the unresolved residues that the file declares (SEQRES, `_entity_poly_seq`). `chain` lists chain ids,
    separated by commas; default: all protein chains, in file order. The name is that of the file without its suffixes,
    followed by the chosen chains. InputError if the file is unreadable or has no protein or no such chain.
    """
    from data_prepare.structure.readers import read_structure  # imports gemmi, which training nodes may lack

    path = Path(path)
    protein = select_protein(read_structure(path).topology, chain)
    name = "_".join([path.name.removesuffix(".gz").rsplit(".", 1)[0], *_chain_ids(chain)])
    return Protein(name, CHAIN_LINKER.join(protein.full_sequences()[0]))


def select_protein(topology: Topology, chain: str | None) -> Topology:
    """Protein residues of the chains in a comma-separated list, or of all; InputError without residues."""
    protein = topology.protein
    require(protein.num_residues, f"{topology.path}: no protein (residues with atoms N, CA and C); use another file")
    return protein if chain is None else protein.select_chains(_chain_ids(chain))


def _chain_ids(chain: str | None) -> list[str]:
    return [] if chain is None else [word.strip() for word in chain.split(",")]


def proteins_of(
    sequence: str | None = None,
    fasta: Path | None = None,
    pdb: Path | None = None,
    cif: Path | None = None,
    chain: str | None = None,
) -> list[Protein]:
    """Proteins of the options --sequence, --fasta, --pdb, --cif (exactly one of them) and --chain of a command."""
    sources = {"--sequence": sequence, "--fasta": fasta, "--pdb": pdb, "--cif": cif}
    given = [option for option, value in sources.items() if value is not None]
    require(len(given) == 1, f"give exactly one of {', '.join(sources)}, not {' and '.join(given) or 'none'}")
    structure = pdb or cif
    require(structure or chain is None, f"--chain {chain} requires --pdb or --cif")
    if structure:
        return [protein_of_structure(structure, chain)]
    if fasta:
        return read_fasta(fasta)
    assert sequence is not None
    check_sequence(sequence)
    return [Protein("sequence", sequence)]
