"""Sequences that a command is given: as text, FASTA, or the chains of a structure file."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from data_prepare.errors import InputError
from data_prepare.structure.sequence import CHAIN_LINKER, modify_seq
from model.network.tokenizer import VOCABULARY, split_tokens, tokenize

RESIDUE_LETTERS: Final = frozenset(token for token in VOCABULARY if token.isalpha())  # the 20, and X B U Z O
NAME_OF_TEXT: Final = "sequence"  # name of a protein that is given as text


@dataclass(frozen=True)
class Protein:
    """A name and a sequence; chains of a complex are joined by `<eos><cls>`."""

    name: str
    sequence: str


def key(name: str) -> str:
    """Name of a protein as that of a file or group: signs with another meaning there become underscores."""
    return re.sub(r"^\.|[^\w.,=+@-]", "_", name)


def read_fasta(path: str | os.PathLike[str]) -> list[Protein]:
    """Read a FASTA file, gzipped if its name ends in .gz.

    A protein is named by the first word of its header. Lower case (masked regions) becomes upper case, white space and
    one `*` at the end are taken off; chains of a complex are joined by `<eos><cls>`.

    Raises
    ------
    InputError
        The file is missing, damaged or empty, a header or sequence is empty, a name occurs twice, or a letter is not
        one of `RESIDUE_LETTERS`.
    """
    path = Path(path)
    if not path.exists() or path.is_dir():  # a pipe will do
        raise InputError(f"{path}: no such file; give a FASTA file")
    try:
        with gzip.open(path, "rt") if path.suffix.lower() == ".gz" else open(path) as file:
            records = list(_records(path, file))
    except (EOFError, UnicodeDecodeError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as FASTA ({error}); get the file again") from None
    if not records:
        raise InputError(f"{path}: holds no sequence; give a FASTA file with '>name' lines")
    lines_of: dict[str, int] = {}
    proteins = []
    for number, header, text in records:
        name = (header.split() or [""])[0]
        if not name:
            raise InputError(f"{path}, line {number}: a header without a name; write one behind the '>'")
        if name in lines_of:
            raise InputError(f"{path}, line {number}: {name} is also the name of line {lines_of[name]}; rename one")
        lines_of[name] = number
        proteins.append(Protein(name, _sequence(f"{path}, {name}", text)))
    return proteins


def _records(path: Path, lines: Iterator[str]) -> Iterator[tuple[int, str, str]]:
    """(line number, header, text of the sequence without white space) of one record after the other."""
    start, header = 0, ""
    parts: list[str] = []
    for number, line in enumerate(lines, start=1):
        if line.startswith(">"):
            if start:
                yield start, header, "".join(parts)
            start, header, parts = number, line[1:], []
        elif line.strip():
            if not start:
                raise InputError(f"{path}, line {number}: a sequence without a '>name' line; give a FASTA file")
            parts.append("".join(line.split()))
    if start:
        yield start, header, "".join(parts)


def _sequence(name: str, text: str) -> str:
    """Sequence of a FASTA record."""
    chains = text.removesuffix("*").upper().split(CHAIN_LINKER.upper())
    if not all(chains):
        raise InputError(f"{name}: the sequence {'of a chain ' if len(chains) > 1 else ''}is empty; remove it")
    for position, letter in enumerate("".join(chains), start=1):
        if letter not in RESIDUE_LETTERS:
            remedy = {"-": "remove the gaps", ".": "remove the gaps", "*": "cut the sequence at the stop"}
            raise InputError(
                f"{name}, residue {position}: {letter!r} is not an amino acid; "
                f"{remedy.get(letter, 'use X for an unknown residue')}"
            )
    return modify_seq(chains)


def protein_of_structure(path: str | os.PathLike[str], chain: str | None = None) -> Protein:
    """Sequence of the protein chains of a PDB or mmCIF file, gzipped or not.

    Parameters
    ----------
    path
        The file; its name without suffixes, with the chains if they are chosen, names the protein.
    chain
        Chain id, or several joined by commas. Default: all protein chains.

    Returns
    -------
    Protein
        With the unresolved residues that the file declares (SEQRES, `_entity_poly_seq`); chains in the order of the
        file, joined by `<eos><cls>`.

    Raises
    ------
    InputError
        The file cannot be read, or has no protein or no such chain.
    """
    from data_prepare.structure.readers import read_structure  # brings gemmi, which machines that only train do without

    path = Path(path)
    topology = read_structure(path)[0].protein
    if not topology.num_residues:
        raise InputError(f"{path}: no protein in it (residues with atoms N, CA and C)")
    name = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    if chain is not None:
        chosen = [word.strip() for word in chain.split(",")]
        topology = topology.select_chains(chosen)
        name = "_".join([name, *chosen])
    return Protein(name, modify_seq(topology.full_sequences()[0]))


def proteins_of(
    sequence: str | None = None,
    fasta: Path | None = None,
    pdb: Path | None = None,
    cif: Path | None = None,
    chain: str | None = None,
) -> list[Protein]:
    """Proteins of the options --sequence, --fasta, --pdb, --cif and --chain of a command.

    Raises
    ------
    InputError
        Not exactly one of the four is given, `chain` comes without a structure, or the input cannot be used.
    """
    given = {"--sequence": sequence, "--fasta": fasta, "--pdb": pdb, "--cif": cif}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise InputError(f"{' and '.join(names)} are given; give one of them")
    structure = pdb or cif
    if structure is not None:
        return [protein_of_structure(structure, chain)]
    if chain is not None:
        raise InputError(f"--chain {chain} goes with --pdb or --cif")
    if fasta is not None:
        return read_fasta(fasta)
    if sequence is None:
        raise InputError(f"no protein is given; give one of {', '.join(given)}")
    check_text(sequence)
    return [Protein(NAME_OF_TEXT, sequence)]


def check_text(sequence: str, where: str = "--sequence") -> None:
    """Raise InputError naming `where` unless a text is a sequence: upper case, no gaps; `<mask>`, `<unk>` allowed."""
    try:
        tokenize([sequence])
    except InputError as error:
        raise InputError(str(error).replace("sequence 1 of 1", where, 1)) from None
    chains = [split_tokens(chain) for chain in sequence.split(CHAIN_LINKER)]
    if not all(chains):
        raise InputError(f"{where}: a chain is empty; <eos><cls> stands only between chains")
    tokens = [token for chain in chains for token in chain]
    for position, token in enumerate(tokens, start=1):
        if token in "-.":
            raise InputError(f"{where}, residue {position}: {token!r} is not an amino acid; remove the gaps")
        if token in ("<cls>", "<eos>"):
            raise InputError(f"{where}, residue {position}: {token} alone; join chains by <eos><cls>")
