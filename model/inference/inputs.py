"""Sequences from user input: text, FASTA, or the chains of a structure file."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from data_prepare.errors import InputError, InputWarning, named, require, shown, some_of
from data_prepare.files import read_text, stem
from data_prepare.structure.sequence import CHAIN_LINKER, STANDARD
from model.network.tokenizer import VOCABULARY, split_tokens

if TYPE_CHECKING:
    from data_prepare.structure.topology import Topology

RESIDUE_LETTERS: Final = frozenset(token for token in VOCABULARY if token.isalpha())  # the 20, and X B U Z O
RESIDUE_TOKENS: Final = RESIDUE_LETTERS | {"<mask>", "<unk>"}
LETTERS_OF: Final = STANDARD | {"SEC": "U", "PYL": "O", "ASX": "B", "GLX": "Z", "XAA": "X"}  # of three-letter codes
FASTA_SUFFIXES: Final = (".fasta", ".fa", ".faa", ".fas", ".a3m")
NUCLEOTIDES: Final = frozenset("ACGTUN")
SHORTEST_DNA: Final = 20  # letters; shorter peptides may well have these letters only
LONGEST_NAME: Final = 200  # bytes; file systems allow 255, suffix and temporary names included
GAP: Final = re.compile("[-.]")
_TYPES: Final = "(protein|dna|rna|ligand|smiles|ccd|glycan)"
ENTITY_TYPE: Final = re.compile(rf"[^|]*\|\s*{_TYPES}\s*(?:\||$)|{_TYPES}\s*\|")  # headers of Boltz or Chai
SECONDARY_STRUCTURE: Final = re.compile(r"(ss|sa|aa)_(pred|conf|dssp)")  # rows that HH-suite adds to an a3m
REMEDIES: Final = {
    **dict.fromkeys("-.", "remove the gaps"),
    **dict.fromkeys("0123456789", "remove numbers"),
    "*": "cut the sequence at the stop",
}


Records = Sequence[tuple[str, str]]  # header without '>', sequence without white space


class ResidueId(NamedTuple):
    """Chain and number of a residue, as users know it."""

    chain: str
    number: str  # with the insertion code of the structure (`27A`); "" of an unresolved residue


@dataclass(frozen=True)
class Protein:
    """A name and a sequence; chains of a complex are joined by `<eos><cls>`."""

    name: str
    sequence: str
    structure_ids: tuple[ResidueId, ...] | None = field(default=None, compare=False, repr=False)
    """Of each residue (N,), from a structure."""

    @property
    def residue_ids(self) -> tuple[ResidueId, ...]:
        """Of each residue (N,): from the structure, otherwise chains A, B, ..., numbered from 1 over all chains."""
        return self.structure_ids or numbered_ids(self.sequence)


def numbered_ids(sequence: str, offset: int = 0) -> tuple[ResidueId, ...]:
    """Chains A, B, ..., Z, AA, ..., and numbers from 1 + offset over all chains, of each residue of a sequence (N,)."""
    found: list[ResidueId] = []
    for index, chain in enumerate(sequence.split(CHAIN_LINKER)):
        letters, rest = ascii_uppercase[index % 26], index // 26
        letters = ascii_uppercase[rest - 1] + letters if rest else letters
        first = len(found) + 1 + offset
        found += [ResidueId(letters, str(first + number)) for number in range(len(split_tokens(chain)))]
    return tuple(found)


def file_name(name: str) -> str:
    """Name of a protein for a file or HDF5 group: special characters become underscores."""
    return re.sub(r"^\.|[^\w.,=+@-]", "_", name)


def file_names(names: Sequence[str]) -> list[str]:
    """`file_name` of each name; InputError if two names share a file."""
    name_of: dict[str, str] = {}
    for name in names:
        long = len(name.encode()) > LONGEST_NAME
        require(not long, f"name {shown(name)}: {len(name)} letters are too many for a file; shorten it")
        other = name_of.setdefault(file_name(name), name)
        require(other == name, f"{other} and {name} would both be written as {file_name(name)}; rename one")
    return [file_name(name) for name in names]


def read_fasta(path: str | os.PathLike[str]) -> list[Protein]:
    """Read a FASTA file, gzipped or not.

    The first word of a header names the protein; see `parse_sequence` for the sequences. Lines that start with `;` are
    comments. With a warning that says so:

    - of an alignment in the form a3m (by suffix), the first sequence is read, as one complex if the first line of
      ColabFold gives lengths and copies of its chains;
    - of an aligned FASTA file, all sequences are read without their gaps;
    - headers with an entity type (Boltz: `A|protein|...`, Chai: `protein|name=...`) are the chains of one complex,
      named after the file; other types are left out.

    InputError if the file is missing, damaged or empty, a name is missing or not unique, or a sequence is invalid.
    """
    path = Path(path)
    text = re.sub(r"^;.*\n?", "", read_text(path, "a FASTA file").replace("\r\n", "\n"), flags=re.MULTILINE)
    require(text.strip(), f"{path}: an empty FASTA file; write a line '>name' and the sequence of each protein")
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    stem, a3m = plain.stem, plain.suffix.lower() == ".a3m"
    before, *parts = re.split("^>", text, flags=re.MULTILINE)
    comment = a3m and before.startswith("#")
    require(
        parts and (comment or not before.strip()), f"{path}: not a FASTA file; start each protein with a line '>name'"
    )
    records = [(header, "".join(lines.split())) for header, _, lines in (part.partition("\n") for part in parts)]
    types = [ENTITY_TYPE.match(header.lower()) for header, _ in records]
    if a3m:
        proteins = [_query(records, before, stem, path)]
    elif all(types):
        proteins = [_complex(records, [found[1] or found[2] for found in types if found], stem, path)]
    else:
        proteins = [_protein(header, text, path) for header, text in _without_gaps(records, path)]
    names: set[str] = set()
    for number, protein in enumerate(proteins, start=1):
        require(protein.name, f"{path}: sequence {number} has no name; write one after the '>'")
        require(protein.name not in names, f"{path}: duplicate name {protein.name}; rename one")
        names.add(protein.name)
        check_sequence(protein.sequence, f"{path}, {protein.name}")
    _warn_of_dna([protein.name for protein in proteins if _is_dna(protein.sequence)], f"{path}, ")
    return proteins


def parse_sequence(text: str) -> str:
    """Sequence in upper case (lower case masks regions), without white space and the `*` at the end of a chain.

    `<eos><cls>`, `:` (ColabFold) and `/` (ProteinMPNN) join the chains of a complex and become `<eos><cls>`.
    InputError for three-letter codes such as `MetGlnIle`, which would be read as nine residues.
    """
    words = re.findall("[A-Z][a-z]{2}", letters := re.sub("[^A-Za-z]", "", text))
    if len(words) > 1 and "".join(words) == letters and all(word.upper() in LETTERS_OF for word in words):
        one = shown("".join(LETTERS_OF[word.upper()] for word in words)).strip("'")
        raise InputError(f"{shown(text)}: three-letter code; write {one}")
    text = re.sub("<[A-Z]+>", lambda token: token[0].lower(), "".join(text.split()).upper())
    return CHAIN_LINKER.join(chain.removesuffix("*") for chain in re.split(f"{CHAIN_LINKER}|[:/]", text))


def sequence_list(sequences: Iterable[str] | Mapping[Any, str]) -> list[str]:
    """The sequences of a list, array, Series or mapping as `parse_sequence` reads them; InputError for other values."""
    texts = list(sequences.values() if isinstance(sequences, Mapping) else sequences)
    names = list(sequences) if isinstance(sequences, Mapping) else range(1, len(texts) + 1)
    for number, text in enumerate(texts, start=1):
        require(isinstance(text, str), f"sequence {number} is {shown(text)}, not a text; give the letters of a protein")
    found = []
    for name, text in zip(names, texts, strict=True):
        with named(f"sequence {name}"):
            found.append(parse_sequence(text))
    _warn_of_dna([name for name, text in zip(names, found, strict=True) if _is_dna(text)], "sequence ")
    return found


def _is_dna(sequence: str) -> bool:
    """Whether a chain is long and has only letters of nucleotides, all of which are amino acids, too."""
    return any(len(chain) >= SHORTEST_DNA and NUCLEOTIDES.issuperset(chain) for chain in sequence.split(CHAIN_LINKER))


def _warn_of_dna(names: Sequence[object], where: str) -> None:
    if names:
        what = f"{where}{some_of(names)}: looks like DNA or RNA; translate it first"
        warnings.warn(what, InputWarning, stacklevel=3)


def _name(header: str) -> str:
    """First word of a header; with the number of the sample in those of ProteinMPNN and LigandMPNN."""
    sample = re.match(r"(\S+),\s(?:.*,\s*)?((?:sample|id)=\d+)", header)  # T=0.1, sample=1, score=0.7
    return ",".join(sample.groups()) if sample else (header.split() or [""])[0].removesuffix(",")


def _protein(header: str, text: str, path: Path) -> Protein:
    name = _name(header)
    with named(f"{path}, {name}"):
        return Protein(name, parse_sequence(text))


def _query(records: Records, comment: str, stem: str, path: Path) -> Protein:
    """The first sequence of an alignment in the form a3m."""
    sequences = [record for record in records if not SECONDARY_STRUCTURE.match(record[0])] or records
    header, text = sequences[0]
    name, sequence = _name(header), GAP.sub("", text)
    if numbers := re.match(r"#(\d+(?:,\d+)*)\s+(\d+(?:,\d+)*)\s", comment):  # ColabFold: lengths, copies
        short = all(len(word) < 6 for words in numbers.groups() for word in words.split(","))
        require(short, f"{path}: its first line has {shown(numbers[0])}, which are no chains; remove it")
        lengths, copies = ([int(word) for word in words.split(",")] for words in numbers.groups())
        fits = len(lengths) == len(copies) and sum(lengths) == len(sequence)
        require(fits, f"{path}: its first line does not fit its first sequence; remove one of them")
        ends = list(accumulate(lengths, initial=0))
        chains = [[sequence[a:b]] * n for (a, b), n in zip(pairwise(ends), copies, strict=True)]
        name, sequence = stem, CHAIN_LINKER.join(chain for same in chains for chain in same)
    if len(sequences) > 1:
        warn = f"{path}: an alignment (a3m) of {len(sequences)} sequences; only the first one, {name}, is read"
        warnings.warn(warn, InputWarning, stacklevel=3)
    return _protein(name, sequence, path)


def _complex(records: Records, types: Sequence[str], stem: str, path: Path) -> Protein:
    """The complex of the protein chains among typed entries of Boltz or Chai."""
    chains = [text for (_, text), kind in zip(records, types, strict=True) if kind == "protein"]
    others = [header.split()[0] for (header, _), kind in zip(records, types, strict=True) if kind != "protein"]
    require(chains, f"{path}: no protein among its entries {', '.join(others)}; add one")
    left_out = f"; left out: {', '.join(others)}" if others else ""
    what = f"{path}: typed entries (as of Boltz and Chai): one complex of {len(chains)} protein chain(s){left_out}"
    warnings.warn(what, InputWarning, stacklevel=3)
    return Protein(stem, CHAIN_LINKER.join(_protein(stem, text, path).sequence for text in chains))


def _without_gaps(records: Records, path: Path) -> Records:
    """The records without gaps if all have the same aligned length; unchanged without gaps or for a single one."""
    texts = [text for _, text in records]
    if len(texts) == 1 or not any(GAP.search(text) for text in texts):
        return records
    if len({len(text) for text in texts}) == 1:
        warnings.warn(f"{path}: an alignment; its sequences are read without gaps", InputWarning, stacklevel=3)
        return [(header, GAP.sub("", text)) for header, text in records]
    columns = {len(re.sub("[a-z]", "", text)) for text in texts}  # insertions of a3m are in lower case
    require(len(columns) > 1, f"{path}: an alignment in the form a3m; name it .a3m to read its first sequence")
    return records


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
    name = "_".join([stem(path), *_chain_ids(chain)])
    sequences, index = protein.full_sequences()
    chains = np.repeat(np.array(protein.chain_ids, object), list(map(len, sequences)))
    numbers = np.full(len(chains), "", object)
    numbers[index] = [f"{n}{code}" for n, code in zip(protein.residue_numbers, protein.insertion_codes, strict=True)]
    return Protein(name, CHAIN_LINKER.join(sequences), tuple(map(ResidueId, chains, numbers)))


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
        from data_prepare.structure.readers import suffix_of

        require(suffix_of(structure) not in FASTA_SUFFIXES, f"{structure}: a FASTA file; use --fasta")
        return [protein_of_structure(structure, chain)]
    if fasta:
        return read_fasta(fasta)
    with named("--sequence"):
        protein = Protein("sequence", parse_sequence(str(sequence)))
    require(protein.sequence, "--sequence is empty; give the letters of a protein")
    check_sequence(protein.sequence)
    _warn_of_dna(["--sequence"] if _is_dna(protein.sequence) else [], "")
    return [protein]
