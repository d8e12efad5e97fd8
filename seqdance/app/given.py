"""What a user gives: a pasted sequence or a file, checked and read within limits.

Files are bytes here. Readers get them as a temporary file with a name of ours, so that no name or path of a user
reaches the file system.
"""

from __future__ import annotations

import gzip
import io
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import InputError, InputWarning, require, shown
from data_prepare.files import stem
from data_prepare.structure.readers import STRUCTURE_SUFFIXES, read_topology, suffix_of
from model.inference.b_factors import write_b_factors
from model.inference.inputs import (
    FASTA_SUFFIXES,
    Protein,
    protein_of_structure,
    proteins_of,
    read_fasta,
    select_protein,
)
from model.inference.structure_scripts import WITHOUT_VALUE
from model.mutations.substitution import WildType
from seqdance.app.jobs import noted

SEQUENCE_SUFFIXES: Final = (*FASTA_SUFFIXES, ".txt")
FORMATS: Final = "FASTA (.fasta, .fa, .a3m, .txt), PDB (.pdb, .ent) or mmCIF (.cif, .mmcif), also gzipped"
ALL_CHAINS: Final = "all chains"
MOST_CHOICES: Final = 1000  # proteins of a file that the page lists
GZIP: Final = b"\x1f\x8b"


@dataclass(frozen=True)
class Limits:
    """Largest input."""

    residues: int = 1000
    megabytes: float = 20

    def require(self, residues: int, where: str) -> None:
        """InputError if a protein is too long."""
        remedy = "choose a shorter protein or chain, or start seqdance app with a larger --max-length"
        require(residues <= self.residues, f"{where}: {residues:,} residues, at most {self.residues:,}; {remedy}")


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
        return stem(PurePath(self.name)) or "protein"

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
class Choice:
    """A protein, and the structure from which it was read, if one is given."""

    protein: Protein
    structure: File | None = None
    chain: str | None = None  # of the structure; None for all

    @cached_property
    def wild_type(self) -> WildType:
        """The sequence with the numbers of the structure, otherwise positions."""
        return WildType(self.protein.sequence, ids=self.protein.structure_ids)

    @cached_property
    def letters(self) -> str:
        """Of each residue (N,), X if it has none."""
        tokens = [self.wild_type.tokens[index] for index in self.wild_type.residues]
        return "".join(token if len(token) == 1 else "X" for token in tokens)

    @cached_property
    def residues(self) -> tuple[str, ...]:
        """Letter and number of each residue (N,), as in labels of mutants."""
        sites = self.wild_type.names.values()
        return tuple(f"{letter}{site}" for letter, site in zip(self.letters, sites, strict=True))

    def with_b_factors(self, values: NDArray[Any]) -> File:
        """The structure with the values (N,) as B-factors; NaN becomes -1, as in the commands."""
        assert self.structure is not None
        with self.structure.on_disk() as path:
            copy = path.with_name(f"coloured{path.suffix}")
            write_b_factors(path, np.nan_to_num(values, nan=WITHOUT_VALUE), copy, self.chain)
            return File(f"{self.structure.stem}{path.suffix}", copy.read_bytes())


@dataclass(frozen=True)
class Given:
    """A readable input: names of its proteins or chains, one of which is chosen."""

    names: tuple[str, ...]
    proteins: tuple[Protein, ...] = ()  # without a structure
    structure: File | None = None

    @property
    def nbytes(self) -> int:
        """Approximate memory."""
        text = sum(len(protein.sequence) for protein in self.proteins)
        return text + (len(self.structure.content) if self.structure else 0)

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
            choice = Choice(self.proteins[self.names.index(name)])
        else:
            choice = _of_structure(self.structure, None if len(self.names) == 1 or name == ALL_CHAINS else name)
        limits.require(len(choice.residues), choice.protein.name)
        return choice


def unpack(name: str, content: bytes, limits: Limits) -> File:
    """An uploaded file; InputError if it is larger than the limit, before or after unpacking, or damaged."""
    most = int(limits.megabytes * 1e6)
    label = re.sub(r"[^\w.,=+@() -]", "_", PurePath(name.replace("\\", "/")).name)[-80:] or "file"
    if content.startswith(GZIP):
        try:
            with gzip.open(io.BytesIO(content)) as file:
                content = file.read(most + 1)
        except (OSError, EOFError, zlib.error):
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
    require(file.suffix in (*SEQUENCE_SUFFIXES, *STRUCTURE_SUFFIXES), f"{file.name}: unknown format; give {FORMATS}")
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


def _of_structure(file: File, chain: str | None) -> Choice:
    """The protein of a structure, named after the uploaded file."""
    with file.on_disk() as path:
        protein = protein_of_structure(path, chain)
    return Choice(replace(protein, name=f"{file.stem}{protein.name.removeprefix(path.stem)}"), file, chain)
