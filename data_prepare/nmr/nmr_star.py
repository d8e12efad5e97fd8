"""Assignment codes from NMR-STAR files (version 3), one entry per protein of a deposition.

Forms: BMRB; translated from NEF, with the sequence in `_Chem_comp_assembly`; chemical shifts of the wwPDB (`*_cs.str`),
without a sequence (`data_prepare.nmr.wwpdb`). All may be gzipped. Rules, in order:

1. Proteins are the entities with the polymer type polypeptide(L) or, without a type, with at least half of their
   residues among the twenty. Other entities (ligands, nucleic acids, D-peptides) are ignored.
2. A deposition is left out if the isotopic labelling of one of its proteins, in any sample, names deuterium, methyl
   groups, or selected residues (an amino acid, "selective", "specific", "unlabeled", "segmental", SAIL). Other
   components of samples (D2O, deuterated buffers) and histidine tags do not count.
3. The sequence of an entity is its list of components or, without a list, its one-letter code or, without both, its
   part of the assembly, where equal chains without an entity count as one. Residues other than the twenty become `X`.
4. An amide is assigned if a list of shifts has values for its H (or HN) and its N. Lists may be of different
   conditions and are not merged: the (first) list with the most assigned amides of the entity counts. Within a list,
   copies of an entity (homodimer) are merged.
5. An entity fails if a residue number or name of a shift is not in its sequence: the numbering differs.
6. An entity is left out if its `assignments.coverage` is below `min_coverage`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import pandas as pd
from tqdm import tqdm

from data_prepare.errors import InputError, reading, require
from data_prepare.files import read_text
from data_prepare.nmr.assignments import assignment_table, coverage, missing_codes
from data_prepare.nmr.choices import MIN_COVERAGE
from data_prepare.nmr.wwpdb import is_wwpdb, stem_of, wwpdb_sequences, wwpdb_shifts
from data_prepare.structure.sequence import STANDARD, THREE_LETTERS, UNKNOWN

if TYPE_CHECKING:
    from pynmrstar import Entry, Loop, Saveframe

STAR_SUFFIXES: Final = tuple(f".{name}{gz}" for name in ("str", "star", "nmrstar") for gz in ("", ".gz"))
FULL_NAMES: Final = (
    "alanine arginine asparagine aspartate cysteine glutamine glutamate glycine histidine isoleucine leucine lysine "
    "methionine phenylalanine proline serine threonine tryptophan tyrosine valine"
).split()
ISOTOPES: Final = {
    # "D-" before a word is a chiral prefix (D-glucose), unless the word is "labelled"
    "deuterated": re.compile(r"(?<!\d)2\s*-?\s*H(?![a-z\d])|deuter|\b2?D\b(?!-(?!label)[a-z]{2})", re.IGNORECASE),
    "methyl labelled": re.compile(r"methyl|CH3|CHD2|CH2D|CD3|\b[AMT]*ILV[AMT]*\b", re.IGNORECASE),
    "selectively labelled": re.compile(
        rf"(?<![a-z])(?:{'|'.join([*STANDARD, *FULL_NAMES])})(?![a-z])|select|specific|unlabel|segment|revers|\bSAIL\b",
        re.IGNORECASE,
    ),
}
# not isotope labels: His6, (His)6, 6xHis, His-tag, hexahistidine
HIS_TAG: Final = re.compile(
    r"(?<![a-z\d])(?:(?:6|8|10)(?:\s*x)?|hexa|octa|deca|poly)[\s-]*\(?His(?:tidine)?(?![a-z])\)?"
    r"|(?<![a-z])\(?His\)?-?(?:6|8|10)(?!\d)|(?<![a-z])His(?:tidine)?[\s-]*tag",
    re.IGNORECASE,
)
BACKBONE: Final = {"H": "H", "HN": "H", "N": "N"}  # atom of a shift -> atom of the amide
WHOLE_NUMBER: Final = re.compile(r"-?\d{1,9}")
NUMBER: Final = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)")
SHIFT_TAGS: Final = ("Entity_ID", "Entity_assembly_ID", "Comp_index_ID", "Seq_ID", "Comp_ID", "Atom_ID", "Val")

Residues = dict[str, str]  # number in the deposition -> name of the component, in the order of the numbers
Table = list[list[str]]
Row = tuple[str, str, str]  # entry_ID, sequence, codes


class LeftOut(NamedTuple):
    """A file, or an entity of it, that gives no codes, and why."""

    file: str
    entity: str  # empty: the whole file
    kind: Literal["failed", "filtered"]  # unusable, or left out by a rule
    reason: str


def read_star(source: str | Path, min_coverage: float = MIN_COVERAGE) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Assignment codes of an NMR-STAR file, or of all *.str, *.star and *.nmrstar files (.gz too) in a folder tree.

    Returns the table of codes (`assignments.COLUMNS`, source mbmrb, possibly empty) and that of what was left out
    (`LeftOut`), including unusable files. InputError if there is no file.
    """
    source = Path(source)
    require(source.exists(), f"{source}: no such file or folder; give NMR-STAR files of BMRB")
    found = (path for path in source.rglob("*") if path.name.lower().endswith(STAR_SUFFIXES))
    files = sorted(found) if source.is_dir() else [source]
    require(files, f"{source}: no NMR-STAR files (*{', *'.join(STAR_SUFFIXES)}) in this folder")
    rows: dict[str, Row] = {}
    left_out: list[LeftOut] = []
    for path in tqdm(files, desc="NMR-STAR", unit="file", disable=len(files) == 1):
        try:
            codes, without = codes_of_deposition(path, min_coverage)
        except InputError as error:
            left_out.append(LeftOut(str(path), "", "failed", str(error).removeprefix(f"{path}: ")))
            continue
        left_out += without
        for row in codes:
            if rows.setdefault(row[0], row) is not row:
                left_out.append(LeftOut(str(path), row[0], "failed", "duplicate entry and entity of another file"))
    table = assignment_table(list(rows.values()), "mbmrb")
    return table, pd.DataFrame(left_out, columns=list(LeftOut._fields), dtype=str)


class Deposition(NamedTuple):
    """What a file says about its proteins."""

    name: str
    proteins: dict[str, Residues]  # by entity
    shifts: list[Table]  # rows of `SHIFT_TAGS`
    entity_of: dict[str, str]  # of a chain of the assembly, for shifts that name only the chain
    left_out: list[LeftOut]
    isotopes: str = ""  # labelling that excludes the deposition


def codes_of_deposition(path: str | Path, min_coverage: float = MIN_COVERAGE) -> tuple[list[Row], list[LeftOut]]:
    """Assignment codes of the proteins of one deposition, named `<BMRB id>_<entity>`, and what was left out.

    A file without a BMRB id gives its own name. InputError if the whole file cannot be used.
    """
    path = Path(path)
    with reading(path, "an NMR-STAR file of version 3"):
        found = _read_deposition(path)
        require(found.proteins or found.left_out, f"{path}: no entity is a protein")
        if found.isotopes:
            return [], [*found.left_out, LeftOut(str(path), "", "filtered", found.isotopes)]
        rows, left_out = [], found.left_out
        assigned, wrong = _assigned(found)
        for identifier, names in found.proteins.items():
            sequence = "".join(STANDARD.get(name, UNKNOWN) for name in names.values())
            covered = coverage(sequence, assigned[identifier])
            if identifier in wrong:
                left_out.append(LeftOut(str(path), identifier, "failed", wrong[identifier]))
            elif covered < min_coverage:
                reason = f"{covered:.1%} of the amides assigned, less than {min_coverage:.1%}"
                left_out.append(LeftOut(str(path), identifier, "filtered", reason))
            else:
                rows.append((f"{found.name}_{identifier}", sequence, missing_codes(sequence, assigned[identifier])))
    return rows, left_out


def _read_deposition(path: Path) -> Deposition:
    import pynmrstar

    text = read_text(path, "an NMR-STAR file", encodings=("utf-8-sig", "latin-1"))  # latin-1 in older depositions
    no_shifts = f"{path}: no chemical shifts (_Atom_chem_shift); give the file that lists them"
    if is_wwpdb(text):
        shifts = wwpdb_shifts(text, SHIFT_TAGS)
        require(any(shifts), no_shifts)
        proteins = {name: chain for name, chain in wwpdb_sequences(path, shifts).items() if _is_protein(chain)}
        return Deposition(stem_of(path), proteins, shifts, {}, [])
    star = pynmrstar.Entry.from_string(text)  # from_file would also fetch a URL
    entities = star.get_saveframes_by_category("entity")
    loops = star.get_loops_by_category("Entity_assembly")
    entity_of = {copy: entity for loop in loops for copy, entity in _rows(loop, "ID", "Entity_ID") if copy and entity}
    chains = _chains_of_assembly(star, entity_of, bool(entities))
    require(entities or chains, f"{path}: no entities; only NMR-STAR version 3 is read")
    shifts = [list(_rows(loop, *SHIFT_TAGS)) for loop in star.get_loops_by_category("Atom_chem_shift")]
    require(any(shifts), no_shifts)
    left_out: list[LeftOut] = []
    proteins = {} if entities else {name: chain for name, chain in chains.items() if _is_protein(chain)}
    for entity in entities:
        identifier = _value(entity, "ID")
        try:
            if (protein := _residues_of_protein(entity, chains.get(identifier, {}))) is not None:
                require(identifier and identifier not in proteins, "its ID is missing or that of another entity")
                proteins[identifier] = protein
        except InputError as error:
            left_out.append(LeftOut(str(path), identifier, "failed", str(error)))
    ids = [_value(frame, "ID") for frame in star.get_saveframes_by_category("entry_information")]
    isotopes = _isotopes(star, entities, proteins)
    return Deposition(next(filter(None, ids), stem_of(path)), proteins, shifts, entity_of, left_out, isotopes)


def _chains_of_assembly(star: Entry, entity_of: dict[str, str], named: bool) -> dict[str, Residues]:
    """Entity -> residues from `_Chem_comp_assembly`; extends `entity_of` (chain of the assembly -> entity).

    Without entities (`named` is False), as translated from NEF, a chain is an entity, and equal chains are one.
    """
    chains: dict[str, Residues] = {}
    for loop in star.get_loops_by_category("Chem_comp_assembly"):
        for entity, copy, number, name in _rows(loop, "Entity_ID", "Entity_assembly_ID", "Comp_index_ID", "Comp_ID"):
            require(WHOLE_NUMBER.fullmatch(number), f"_Chem_comp_assembly: number {number or 'missing'} is no integer")
            chain = chains.setdefault(entity or entity_of.get(copy, copy) if named else copy, {})
            same = chain.setdefault(number, name.upper()) == name.upper()
            require(same, f"_Chem_comp_assembly: residue {number} of chain {copy} is {chain[number]} and {name}")
    chains = {name: _in_order(chain) for name, chain in chains.items()}
    if named:
        return chains
    first: dict[tuple[tuple[str, str], ...], str] = {}  # residues -> the first chain that has them
    entity_of |= {name: first.setdefault(tuple(chain.items()), name) for name, chain in chains.items()}
    return {name: chains[name] for name in first.values()}


def _in_order(residues: Residues) -> Residues:
    return dict(sorted(residues.items(), key=lambda item: int(item[0])))  # rows of a loop are unordered


def _is_protein(residues: Residues) -> bool:
    """Whether at least half of the residues are among the twenty."""
    return bool(residues) and 2 * sum(name in STANDARD for name in residues.values()) >= len(residues)


def _residues_of_protein(entity: Saveframe, chain: Residues) -> Residues | None:
    """Residues of an entity, in the assembly `chain` if it lists none itself; None unless it is a protein."""
    kind = _value(entity, "Polymer_type").lower()
    if kind not in ("", "polypeptide(l)"):
        return None
    residues: Residues = {}
    for loop in entity.loops:
        if loop.category == "_Entity_comp_index":
            for number, name in _rows(loop, "ID", "Comp_ID"):
                valid = WHOLE_NUMBER.fullmatch(number) and number not in residues
                require(valid, f"_Entity_comp_index: number {number or 'missing'} is a duplicate or no whole number")
                residues[number] = name.upper()
    letters = re.sub(r"\([^()]*\)", UNKNOWN, "".join(_value(entity, "Polymer_seq_one_letter_code").split()))
    by_letter = {str(k): THREE_LETTERS.get(letter.upper(), UNKNOWN) for k, letter in enumerate(letters, start=1)}
    residues = _in_order(residues) or by_letter or chain
    if not kind and not _is_protein(residues):
        return None
    require(residues, "no sequence")
    return residues


def _isotopes(star: Entry, entities: list[Saveframe], proteins: dict[str, Residues]) -> str:
    """Isotope labels of a protein in a sample that exclude the deposition; empty if none do."""
    frames = [frame for frame in entities if _value(frame, "ID") in proteins]
    names = {name.casefold() for frame in frames for name in (frame.name, _value(frame, "Name")) if name}
    for loop in star.get_loops_by_category("Sample_component"):
        tags = ("Entity_ID", "Entity_label", "Mol_common_name", "Isotopic_labeling")
        for entity, reference, common, isotopes in _rows(loop, *tags):
            called = {reference.removeprefix("$").casefold(), common.casefold()}
            if entity in proteins or (not entity and called & names):
                text = HIS_TAG.sub(" ", isotopes)
                if kind := next((kind for kind, pattern in ISOTOPES.items() if pattern.search(text)), None):
                    return f"{kind}: {' '.join(isotopes.split())}"
    return ""


def _assigned(deposition: Deposition) -> tuple[dict[str, list[bool]], dict[str, str]]:
    """Entity -> whether each amide is assigned in its fullest list of shifts; entity -> why it fails."""
    proteins = deposition.proteins
    only = next(iter(proteins)) if len(proteins) == 1 else ""
    lists: dict[str, dict[int, set[tuple[str, str]]]] = {entity: defaultdict(set) for entity in proteins}
    wrong: dict[str, str] = {}
    for order, table in enumerate(deposition.shifts, start=1):
        for label, copy, component, sequence_number, name, atom, value in table:
            entity = label or deposition.entity_of.get(copy, only)
            if not entity:
                reason = f"shift list {order}: a shift without Entity_ID among several proteins"
                wrong |= dict.fromkeys(proteins, reason)
            elif (residues := proteins.get(entity)) is not None:  # else not a protein
                number = component or sequence_number
                if residues.get(number) not in (name.upper(), UNKNOWN):
                    wrong.setdefault(entity, f"shift list {order}: residue {name} {number} is not in the sequence")
                elif atom.upper() in BACKBONE and NUMBER.fullmatch(value):
                    lists[entity][order].add((number, BACKBONE[atom.upper()]))
    best = {}
    for entity, residues in proteins.items():
        amides = [[{(k, "H"), (k, "N")} <= shifts for k in residues] for shifts in lists[entity].values()]
        best[entity] = max(amides, key=sum, default=[False] * len(residues))  # the first if equal
    return best, wrong


def _rows(loop: Loop, *tags: str) -> Iterator[list[str]]:
    """Values of these tags, row by row; empty if missing."""
    columns = [loop.tag_index(tag) for tag in tags]
    for row in loop.data:
        yield ["" if column is None else _text(row[column]) for column in columns]


def _value(frame: Saveframe, tag: str) -> str:
    """First value of a tag; empty if missing."""
    return _text(next(iter(frame.get_tag(tag)), ""))


def _text(value: object) -> str:
    text = str(value).strip()
    return "" if text in (".", "?") else text
