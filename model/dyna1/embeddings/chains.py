"""Chains as users give them: text, FASTA, tables and structure files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from data_prepare.errors import require
from data_prepare.files import read_text_table
from model.dyna1.embeddings.source import ChainInput
from model.inference.inputs import check_sequence, proteins_of
from model.network.tokenizer import CHAIN_LINKER

BACKBONE_ATOMS: Final = ("N", "CA", "C")


def chain_inputs(
    sequence: str | None = None,
    fasta: Path | None = None,
    pdb: Path | None = None,
    cif: Path | None = None,
    chain: str | None = None,
    use_pdb_seq: bool = False,
    name: str | None = None,
) -> list[ChainInput]:
    """Chains of the options --sequence, --fasta, --pdb, --cif, --chain, --use-pdb-seq and --name of a command.

    A structure alone hides its sequence; with --use-pdb-seq its sequence is seen too, with --sequence another one on
    the same backbone.

    Raises
    ------
    InputError
        The options exclude each other, or the input cannot be used.
    """
    structure = pdb or cif
    unused = use_pdb_seq and (structure is None or sequence is not None)
    require(not unused, "--use-pdb-seq requires --pdb or --cif, and no --sequence")
    if structure and not fasta and not (pdb and cif):
        found = read_structure_chain(structure, chain)
        if sequence is not None:
            found = put_sequence(found, sequence, str(structure))
        elif not use_pdb_seq:
            found = replace(found, sequence_seen=False)
        chains = [found]
    else:  # refuses several sources
        proteins = proteins_of(sequence, fasta, pdb, cif, chain)
        chains = [ChainInput(protein.name, protein.sequence) for protein in proteins]
    for given in chains:
        _check_residues(given.sequence, given.name)
    if name is not None:
        require(len(chains) == 1, f"--name {name}: the {len(chains)} sequences have names of their own; leave it out")
        chains = [replace(chains[0], name=name)]
    return chains


def read_table(path: Path) -> list[ChainInput]:
    """Chains of a table with columns entry_ID and sequence, without structures.

    Raises
    ------
    InputError
        The table cannot be read, a name is missing, or a sequence is not one chain of residues.
    """
    table = read_text_table(path, ["entry_ID", "sequence"])
    chains = [ChainInput(*row) for row in zip(table["entry_ID"], table["sequence"], strict=True)]
    for number, chain in enumerate(chains, start=1):
        require(chain.name.strip(), f"{path}: row {number} has no entry_ID; name it")
        _check_residues(chain.sequence, f"{path}: entry {chain.name}")
    return chains


def read_structure_chain(path: str | Path, chain: str | None = None) -> ChainInput:
    """One chain of a PDB or mmCIF file, gzipped or not; both its sequence and its structure are seen.

    Parameters
    ----------
    path
        The file. Its name without suffixes, followed by a chosen chain, becomes the name of the protein.
    chain
        Chain id. Default: the only chain of the protein. Pieces of a chain (TER inside it) are joined.

    Raises
    ------
    InputError
        The file cannot be read, has no protein or no such chain, or several chains and none is chosen.
    """
    from data_prepare.structure.readers import read_structure  # imports gemmi, which training nodes may lack
    from data_prepare.structure.topology import label_of_residue

    path = Path(path)
    structure = read_structure(path)
    structure = structure.subset(structure.topology.protein_atoms)
    chain_ids = list(dict.fromkeys(structure.topology.chain_ids))
    require(chain_ids, f"{path}: no protein (residues with atoms N, CA and C); use another file")
    name = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    if chain is None:
        require(len(chain_ids) == 1, f"{path}: chains {', '.join(chain_ids)}; choose one with --chain")
    else:
        structure = structure.select_chains([chain])
        name = f"{name}_{chain}"
    topology, xyz = structure
    sequences, index = topology.full_sequences()
    sequence = "".join(sequences)
    backbone = np.full((len(sequence), len(BACKBONE_ATOMS), 3), np.nan, np.float32)
    residues = np.full(len(sequence), "", object)
    backbone[index] = [xyz[[atoms[name] for name in BACKBONE_ATOMS]] for atoms in topology.atoms_by_name]
    residues[index] = label_of_residue(topology)
    return ChainInput(name, sequence, backbone, structure_residues=tuple(residues))


def add_structure(chain: ChainInput, folder: Path) -> ChainInput:
    """The chain with the backbone of its file NAME.pdb or NAME.cif (.gz too) in a folder.

    Raises
    ------
    InputError
        There is no such file, or its chain has another length.
    """
    from data_prepare.structure.readers import STRUCTURE_SUFFIXES  # imports gemmi

    paths = [folder / f"{chain.name}{suffix}{gz}" for suffix in STRUCTURE_SUFFIXES for gz in ("", ".gz")]
    path = next((path for path in paths if path.is_file()), None)
    require(path, f"{folder}: no structure of {chain.name} ({chain.name}.pdb, .cif, ...); add it")
    assert path is not None
    return put_sequence(replace(read_structure_chain(path), name=chain.name), chain.sequence, str(path))


def put_sequence(chain: ChainInput, sequence: str, where: str) -> ChainInput:
    """Another sequence on the backbone of a chain; InputError unless it is as long, unresolved residues included."""
    n, unresolved = len(chain.sequence), (chain.structure_residues or ()).count("")
    require(
        len(sequence) == n,
        f"{where}: the chain has {n} residues ({unresolved} of them without coordinates), the sequence for "
        f"{chain.name} has {len(sequence)}; they must be equally long",
    )
    return replace(chain, sequence=sequence, sequence_seen=True)


def _check_residues(sequence: str, where: str) -> None:
    """Raise InputError unless a sequence is one chain of residue letters."""
    check_sequence(sequence, where)
    require(CHAIN_LINKER not in sequence, f"{where}: a complex; Dyna-1 reads one chain at a time")
    require(sequence.isalpha(), f"{where}: <mask> and <unk> are no residues; write unknown residues as X")
