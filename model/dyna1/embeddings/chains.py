"""Chains from user input: text, FASTA, tables, structure files and PDB codes."""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.request
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from data_prepare.errors import InputError, InputWarning, require
from data_prepare.files import read_text_table, stem, whole_file
from data_prepare.structure.sequence import CHAIN_LINKER
from model.dyna1.embeddings.source import ChainInput
from model.inference.inputs import check_sequence, parse_sequence, proteins_of

PDB_CODE: Final = re.compile(r"[1-9][A-Za-z0-9]{3}")
PDB_URL: Final = "https://files.rcsb.org/download/{}.cif.gz"
TIMEOUT: Final = 60  # seconds without an answer


def fetch_structure(structure: Path, folder: Path) -> Path:
    """The structure file or, for the code of a PDB entry that is no file here, its mmCIF file, downloaded to `folder`.

    A file that an earlier call has downloaded is used again. InputError if there is no such entry or no network.
    """
    code = structure.name.upper()
    if str(structure) != structure.name or not PDB_CODE.fullmatch(code) or structure.exists():
        return structure
    path = folder / f"{code}.cif.gz"
    if path.is_file():
        return path
    url = PDB_URL.format(code)
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError) and error.code == 404:
            raise InputError(
                f"{structure}: no such file, and the PDB has no entry {code}; give a file or code"
            ) from None
        raise InputError(
            f"{structure}: no such file, and the PDB entry cannot be downloaded from {url} ({error}); download it on a "
            "machine with network access and give the path of the file"
        ) from None
    with whole_file(path) as temporary:
        temporary.write_bytes(content)
    return path


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

    The model sees the structure without its sequence; with --use-pdb-seq it also sees the sequence, with --sequence
    another sequence on the same backbone. InputError if the options exclude each other or the input is invalid.
    """
    structure = pdb or cif
    unused = use_pdb_seq and (structure is None or sequence is not None)
    require(not unused, "--use-pdb-seq requires --pdb or --cif, and no --sequence")
    if structure and not fasta and not (pdb and cif):
        found = read_structure_chain(structure, chain)
        if sequence is not None:
            found = put_sequence(found, parse_sequence(sequence), str(structure))
        elif not use_pdb_seq:
            found = replace(found, sequence_seen=False)
        chains = [found]
    else:  # `proteins_of` refuses several sources
        proteins = proteins_of(sequence, fasta, pdb, cif, chain)
        chains = [ChainInput(protein.name, protein.sequence) for protein in proteins]
    for given in chains:
        _check_residues(given.sequence, given.name)
    if name is not None:
        require(len(chains) == 1, f"--name {name}: requires a single protein, not {len(chains)}; remove --name")
        chains = [replace(chains[0], name=name)]
    return chains


def read_table(path: Path) -> list[ChainInput]:
    """Chains of a table with columns entry_ID and sequence; InputError if one lacks its name or is not one chain."""
    table = read_text_table(path, ["entry_ID", "sequence"])
    chains = [ChainInput(*row) for row in zip(table["entry_ID"], table["sequence"], strict=True)]
    for number, chain in enumerate(chains, start=1):
        require(chain.name.strip(), f"{path}: row {number} has no entry_ID; add it")
        _check_residues(chain.sequence, f"{path}: entry {chain.name}")
    return chains


def read_structure_chain(path: str | Path, chain: str | None = None, only: bool = False) -> ChainInput:
    """One chain of a PDB or mmCIF file, gzipped or not; the model sees both its sequence and its structure.

    `chain` defaults to the first protein chain, with a warning if there are others; pieces of a chain (TER inside it)
    are joined. The protein is named after the file and, if the file has several, the chain. InputError if the file has
    no such chain, or with `only` several and `chain` is None.
    """
    from data_prepare.structure.readers import read_structure  # imports gemmi, which training nodes may lack
    from data_prepare.structure.topology import label_of_residue

    path = Path(path)
    require(path.is_file(), f"{path}: no such file; give a PDB or mmCIF file, or the code of a PDB entry such as 1UBQ")
    structure = read_structure(path)
    structure = structure.subset(structure.topology.protein_atoms)
    chain_ids = list(dict.fromkeys(structure.topology.chain_ids))
    require(chain_ids, f"{path}: no protein (residues with atoms N, CA and C); use another file")
    name = stem(path)
    if chain is None and len(chain_ids) > 1:
        listed = f"{path}: has chains {', '.join(chain_ids)}"
        require(not only, f"{listed}; keep only the one of the entry")
        chain = chain_ids[0]
        warnings.warn(f"{listed}; {chain} is used, choose another with --chain", InputWarning, stacklevel=2)
    if chain is not None:
        structure = structure.select_chains([chain])
        name = f"{name}_{chain}"
    topology, xyz = structure
    sequences, index = topology.full_sequences()
    sequence = "".join(sequences)
    backbone = np.full((len(sequence), 3, 3), np.nan, np.float32)
    residues = np.full(len(sequence), "", object)
    backbone[index] = [xyz[[atoms["N"], atoms["CA"], atoms["C"]]] for atoms in topology.atoms_by_name]
    residues[index] = label_of_residue(topology)
    return ChainInput(name, sequence, backbone, structure_residues=tuple(residues), chain=chain)


def add_structure(chain: ChainInput, folder: Path) -> ChainInput:
    """The chain with the backbone of its file NAME.pdb or NAME.cif (.gz too) in a folder."""
    from data_prepare.structure.readers import find_structure  # imports gemmi

    path = find_structure(folder, chain.name)
    structure = read_structure_chain(path, only=True)
    return put_sequence(replace(structure, name=chain.name), chain.sequence, str(path))


def put_sequence(chain: ChainInput, sequence: str, where: str) -> ChainInput:
    """Put an equally long sequence, which includes unresolved residues, on the backbone of a chain."""
    n, unresolved = len(chain.sequence), (chain.structure_residues or ()).count("")
    require(
        len(sequence) == n,
        f"{where}: the chain has {n} residues ({unresolved} of them without coordinates), the sequence for "
        f"{chain.name} has {len(sequence)}; give one of the same length",
    )
    return replace(chain, sequence=sequence, sequence_seen=True)


def _check_residues(sequence: str, where: str) -> None:
    """Raise InputError unless a sequence is one chain of residue letters."""
    check_sequence(sequence, where)
    require(CHAIN_LINKER not in sequence, f"{where}: a complex; Dyna-1 reads one chain at a time")
    require(sequence.isalpha(), f"{where}: <mask> and <unk> are not residues; write unknown residues as X")
