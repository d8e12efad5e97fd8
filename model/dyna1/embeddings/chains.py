"""What Dyna-1 is asked about: single chains, by sequence, by structure, or both."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from torch import Tensor

from data_prepare.errors import InputError
from model.dyna1.embeddings.source import HIDDEN_RESIDUE, Backbone, Embedder
from model.inference.inputs import RESIDUE_LETTERS, proteins_of
from model.network.tokenizer import CHAIN_LINKER, split_tokens

BACKBONE: Final = ("N", "CA", "C")


@dataclass(frozen=True, eq=False)
class ChainInput:
    """A chain.

    Attributes
    ----------
    name
        Of the entry.
    sequence
        One-letter codes of all its residues, unresolved ones included.
    backbone
        (L, 3, 3) float32, see `source.Backbone`; None without a structure.
    sequence_seen
        Whether the language model sees the sequence; False for predictions from the structure alone.
    structure_residues
        For each residue what the structure has there, chain:name:number[code]; "" where it has no coordinates. None
        without a structure.
    """

    name: str
    sequence: str
    backbone: Backbone | None = None
    sequence_seen: bool = True
    structure_residues: tuple[str, ...] | None = None

    @property
    def visible_sequence(self) -> str:
        """The sequence as the language model sees it."""
        return self.sequence if self.sequence_seen else HIDDEN_RESIDUE * len(self.sequence)

    @property
    def inputs(self) -> str:
        """sequence, structure, or sequence+structure."""
        seen = {"sequence": self.sequence_seen, "structure": self.backbone is not None}
        return "+".join(name for name, there in seen.items() if there)

    @property
    def structure_digest(self) -> str:
        """Sixteen hexadecimal digits that tell backbones apart; empty without a structure."""
        if self.backbone is None:
            return ""
        return hashlib.blake2b(np.ascontiguousarray(self.backbone, "<f4").tobytes(), digest_size=8).hexdigest()

    def sequence_alone(self) -> ChainInput:
        """The same without its backbone, for embedders that read none."""
        return replace(self, backbone=None, sequence_seen=True)


def read_chain(path: str | Path, chain: str | None = None) -> ChainInput:
    """One chain of a PDB or mmCIF file, gzipped or not; both its sequence and its structure are seen.

    Parameters
    ----------
    path
        The file; its name without suffixes, with the chain if it is chosen, names the entry.
    chain
        Chain id. Default: the only one of the protein. Pieces of a chain (TER inside it) are joined.

    Raises
    ------
    InputError
        The file cannot be read, has no protein or no such chain, or several chains and none is chosen.
    """
    from data_prepare.structure.readers import read_structure  # brings gemmi, which machines that only train do without
    from data_prepare.structure.topology import label_of_residue

    path = Path(path)
    topology, xyz = read_structure(path)
    atoms = np.flatnonzero(topology.is_protein[topology.residue_of_atom])
    if not len(atoms):
        raise InputError(f"{path}: no protein in it (residues with atoms N, CA and C)")
    protein = topology.subset(atoms)
    chain_ids = list(dict.fromkeys(protein.chain_ids))
    name = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    if chain is not None:
        protein.select_chains([chain])  # names the chains there are
        of_chain = np.array([chain_id == chain for chain_id in protein.chain_ids])[protein.chain_of_residue]
        atoms = atoms[of_chain[protein.residue_of_atom]]
        protein = topology.subset(atoms)
        name = f"{name}_{chain}"
    elif len(chain_ids) > 1:
        raise InputError(f"{path}: chains {', '.join(chain_ids)}; choose one with --chain")
    sequences, places = protein.full_sequences()
    sequence = "".join(sequences)
    backbone = np.full((len(sequence), len(BACKBONE), 3), np.nan, np.float32)
    labels = [""] * len(sequence)
    for place, by_name, label in zip(places, protein.atoms_by_name, label_of_residue(protein), strict=True):
        backbone[place] = xyz[atoms[[by_name[atom] for atom in BACKBONE]]]
        labels[place] = label
    return ChainInput(name, sequence, backbone, structure_residues=tuple(labels))


def chain_inputs(
    sequence: str | None = None,
    fasta: Path | None = None,
    pdb: Path | None = None,
    cif: Path | None = None,
    chain: str | None = None,
    use_pdb_seq: bool = False,
    name: str | None = None,
) -> list[ChainInput]:
    """Entries of the options --sequence, --fasta, --pdb, --cif, --chain, --use-pdb-seq and --name of a command.

    A structure alone hides its sequence; with --use-pdb-seq its sequence is seen too, with --sequence another one on
    the same backbone.

    Raises
    ------
    InputError
        The options do not go together, or the input cannot be used.
    """
    if pdb and cif:
        raise InputError("--pdb and --cif are given; give one of them")
    structure = pdb or cif
    if structure is None:
        if use_pdb_seq:
            raise InputError("--use-pdb-seq goes with --pdb or --cif")
        entries = [ChainInput(protein.name, protein.sequence) for protein in proteins_of(sequence, fasta, chain=chain)]
    elif fasta:
        raise InputError(f"--fasta and a structure are given; put one sequence on {structure} with --sequence")
    else:
        entry = read_chain(structure, chain)
        if sequence is not None:
            if use_pdb_seq:
                raise InputError("--use-pdb-seq and --sequence are given; give one of them")
            entry = put_sequence(entry, proteins_of(sequence)[0].sequence, str(structure))
        elif not use_pdb_seq:
            entry = replace(entry, sequence_seen=False)
        entries = [entry]
    if complexes := [entry.name for entry in entries if CHAIN_LINKER in entry.sequence]:
        raise InputError(f"{', '.join(complexes)}: Dyna-1 reads one chain at a time; give the chains one by one")
    for entry in entries:
        if unknown := sorted(set(split_tokens(entry.sequence)) - RESIDUE_LETTERS):
            raise InputError(f"{entry.name}: {' '.join(unknown)} is no residue; write unknown residues as X")
    if name is not None:
        if len(entries) > 1:
            raise InputError(f"--name {name}: there are {len(entries)} sequences, which have names of their own")
        entries = [replace(entries[0], name=name)]
    return entries


def put_sequence(entry: ChainInput, sequence: str, where: str) -> ChainInput:
    """Another sequence on the backbone of an entry.

    Raises
    ------
    InputError
        It is not as long as the chain (unresolved residues that the file declares included).
    """
    if len(sequence) != len(entry.sequence):
        unresolved = (entry.structure_residues or ()).count("")
        raise InputError(
            f"{where}: the chain has {len(entry.sequence)} residues ({unresolved} of them without coordinates), the "
            f"sequence for {entry.name} has {len(sequence)}; they must be equally long"
        )
    return replace(entry, sequence=sequence, sequence_seen=True)


def embed_chains(embedder: Embedder, entries: Sequence[ChainInput]) -> list[Tensor]:
    """(L, width) float32 of each entry; all go through the embedder together."""
    return embedder.embed([entry.visible_sequence for entry in entries], [entry.backbone for entry in entries])
