"""What a user gives: a pasted sequence or a file, checked and read within limits.

Files are bytes here. Readers get them as a temporary file with a name of ours, so that no name or path of a user
reaches the file system.
"""

from __future__ import annotations

import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from string import ascii_uppercase
from tempfile import TemporaryDirectory
from typing import Final

from data_prepare.errors import InputError, InputWarning, require, shown
from data_prepare.structure.readers import STRUCTURE_SUFFIXES, read_topology, suffix_of
from data_prepare.structure.sequence import CHAIN_LINKER
from model.inference.inputs import Protein, protein_of_structure, proteins_of, read_fasta, select_protein
from model.network.tokenizer import split_tokens
from seqdance.app.jobs import noted

FASTA_SUFFIXES: Final = (".fasta", ".fa", ".faa", ".fas", ".a3m", ".txt")
FORMATS: Final = "FASTA (.fasta, .fa, .a3m, .txt), PDB (.pdb, .ent) or mmCIF (.cif, .mmcif), also gzipped"
ALL_CHAINS: Final = "all chains"
MOST_CHOICES: Final = 1000  # proteins of a file that the page lists
GZIP: Final = b"\x1f\x8b"


@dataclass(frozen=True)
class Limits:
    """Largest input."""

    residues: int = 1000
    megabytes: float = 20


@dataclass(frozen=True)
class File:
    """Content of an uploaded file, unpacked, and its name for messages."""

    name: str
    content: bytes

    @property
    def suffix(self) -> str:
        """Suffix that tells the format, without .gz."""
        return suffix_of(self.name)

    @property
    def stem(self) -> str:
        """Name without suffixes."""
        return PurePath(self.name.removesuffix(".gz")).stem or "protein"

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """A temporary file with this content; messages about it name the uploaded file."""
        with TemporaryDirectory(prefix="seqdance-") as folder:
            path = Path(folder) / f"file{self.suffix}"
            path.write_bytes(self.content)
            with noted() as notes:
                try:
                    yield path
                except InputError as error:
                    raise InputError(str(error).replace(str(path), self.name)) from None
            for note in notes:
                warnings.warn(note.replace(str(path), self.name), InputWarning, stacklevel=3)


@dataclass(frozen=True)
class Residue:
    """Letter of a residue, and its chain and number: those of the structure, or its position in the chain."""

    letter: str
    chain: str
    number: str  # with insertion code; "" if the structure does not resolve it

    def __str__(self) -> str:
        return f"{self.letter}{self.number or '?'}"


@dataclass(frozen=True)
class Choice:
    """A protein, what each of its residues is called, and its structure, if one is given."""

    protein: Protein
    residues: tuple[Residue, ...]
    structure: File | None = None
    chain: str | None = None  # of the structure; None for all


@dataclass(frozen=True)
class Given:
    """A readable input: names of its proteins or chains, one of which is chosen."""

    names: tuple[str, ...]
    proteins: tuple[Protein, ...] = ()  # without a structure
    structure: File | None = None

    def choose(self, name: str | None, limits: Limits) -> tuple[str, Choice]:
        """One of the names, by default the first that is short enough; InputError if it is too long."""
        problem = None
        for each in self.names if name is None else (name,):
            try:
                return each, self._choice(each, limits)
            except InputError as error:
                problem = problem or error
        raise problem or InputError("no protein; give another file")

    def _choice(self, name: str, limits: Limits) -> Choice:
        require(name in self.names, f"no protein or chain {shown(name)}; choose one of the list")
        if self.structure is None:
            protein = self.proteins[self.names.index(name)]
            choice = Choice(protein, _named_by_position(protein.sequence))
        else:
            choice = _of_structure(self.structure, None if len(self.names) == 1 or name == ALL_CHAINS else name)
        length, where = len(choice.residues), choice.protein.name
        remedy = "choose a shorter protein or chain, or start seqdance app with a larger --max-length"
        require(length <= limits.residues, f"{where}: {length:,} residues, at most {limits.residues:,}; {remedy}")
        return choice


def unpack(name: str, content: bytes, limits: Limits) -> File:
    """An uploaded file; InputError if it is larger than the limit, before or after unpacking, or damaged."""
    most = int(limits.megabytes * 1e6)
    label = re.sub(r"[^\w.,=+@() -]", "_", PurePath(name.replace("\\", "/")).name)[-80:] or "file"
    if content.startswith(GZIP):
        try:
            content = zlib.decompressobj(wbits=31).decompress(content, most + 1)
        except zlib.error:
            raise InputError(f"{label}: a damaged gzip file; copy it again") from None
    remedy = "give a smaller one, or start seqdance app with a larger --max-upload"
    require(len(content) <= most, f"{label}: more than {limits.megabytes:g} MB; {remedy}")
    require(content, f"{label}: an empty file; give {FORMATS}")
    return File(label, content)


def read_text(text: str) -> Given:
    """A pasted sequence, or FASTA text; InputError if there is none or it is invalid."""
    require(text.strip(), "no sequence; paste one, drop a file or choose the example")
    if text.lstrip().startswith((">", ";", "#")):
        return read_file(File("pasted text.fasta", text.encode()))
    try:
        proteins = proteins_of(sequence=text)
    except InputError as error:
        raise InputError(str(error).replace("--sequence", "sequence")) from None
    return Given(("sequence",), tuple(proteins))


def read_file(file: File) -> Given:
    """The proteins of a FASTA file or the chains of a structure; InputError if it is neither or cannot be read."""
    require(file.suffix in (*FASTA_SUFFIXES, *STRUCTURE_SUFFIXES), f"{file.name}: unknown format; give {FORMATS}")
    with file.on_disk() as path:
        if file.suffix in STRUCTURE_SUFFIXES:
            topology = select_protein(read_topology(path), None)
            chains = list(dict.fromkeys(topology.chain_ids))
            return Given((ALL_CHAINS, *chains) if len(chains) > 1 else (chains[0],), structure=file)
        proteins = [
            replace(protein, name=file.stem) if protein.name == path.stem else protein for protein in read_fasta(path)
        ]
    most = f"{file.name}: {len(proteins)} proteins, at most {MOST_CHOICES}; use seqdance predict for so many"
    require(len(proteins) <= MOST_CHOICES, most)
    return Given(tuple(protein.name for protein in proteins), tuple(proteins))


def _named_by_position(sequence: str) -> tuple[Residue, ...]:
    """Residues numbered from 1 in each chain A, B, ..."""
    return tuple(
        Residue(token if len(token) == 1 else "X", ascii_uppercase[chain % len(ascii_uppercase)], str(number))
        for chain, text in enumerate(sequence.split(CHAIN_LINKER))
        for number, token in enumerate(split_tokens(text), 1)
    )


def _of_structure(file: File, chain: str | None) -> Choice:
    """The protein of a structure with the chain ids and numbers of the file."""
    with file.on_disk() as path:
        protein = protein_of_structure(path, chain)
        topology = select_protein(read_topology(path), chain)
        sequences, index = topology.full_sequences()
    ids = [topology.chain_ids[k] for k, sequence in enumerate(sequences) for _ in sequence]
    numbers = [""] * len(ids)
    for place, number, code in zip(index, topology.residue_numbers, topology.insertion_codes, strict=True):
        numbers[place] = f"{number}{code}"
    named = replace(protein, name=f"{file.stem}{protein.name.removeprefix(path.stem)}")
    return Choice(named, tuple(map(Residue, "".join(sequences), ids, numbers)), file, chain)
