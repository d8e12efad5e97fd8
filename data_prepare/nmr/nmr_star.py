"""Assignment codes from NMR-STAR files (BMRB, version 3), one entry per protein of a deposition. Rules, in order:

1. Proteins are the entities with the polymer type polypeptide(L) or, without a type, with at least half of their
   residues among the twenty. Other entities (ligands, nucleic acids, D-peptides) are ignored.
2. A deposition is left out if the isotopic labelling of one of its proteins, in any sample, names deuterium, methyl
   groups, or selected residues (an amino acid, "selective", "specific", "unlabeled", "segmental", SAIL). Other
   components of samples (D2O, deuterated buffers) and histidine tags do not count.
3. The sequence of an entity is its list of components or, without a list, its one-letter code. Residues other than the
   twenty become `X`.
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
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import pandas as pd
from tqdm import tqdm

from data_prepare.errors import InputError, reading, require
from data_prepare.nmr.assignments import MIN_COVERAGE, assignment_table, coverage, missing_codes
from data_prepare.structure.sequence import STANDARD, THREE_LETTERS, UNKNOWN

if TYPE_CHECKING:
    from pynmrstar import Entry, Loop, Saveframe

STAR_SUFFIXES: Final = (".str", ".star", ".nmrstar")
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

Residues = dict[str, str]  # number in the deposition -> name of the component, in the order of the numbers
Row = tuple[str, str, str]  # entry_ID, sequence, codes


class LeftOut(NamedTuple):
    """A file, or an entity of it, that gives no codes, and why."""

    file: str
    entity: str  # empty: the whole file
    kind: Literal["failed", "filtered"]  # unusable, or left out by a rule
    reason: str


def read_star(source: str | Path, min_coverage: float = MIN_COVERAGE) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Assignment codes of an NMR-STAR file, or of all *.str, *.star and *.nmrstar files in a folder tree.

    Returns the table of codes (`assignments.COLUMNS`, source mbmrb, possibly empty) and that of what was left out
    (`LeftOut`), including unusable files. InputError if there is no file or pynmrstar is not installed.
    """
    require(find_spec("pynmrstar"), "NMR-STAR files require pynmrstar: pip install pynmrstar")
    source = Path(source)
    files = sorted(path for path in source.rglob("*") if path.suffix in STAR_SUFFIXES) if source.is_dir() else [source]
    require(source.exists(), f"{source}: no such file or folder; give NMR-STAR files of BMRB")
    require(files, f"{source}: no NMR-STAR files (*{', *'.join(STAR_SUFFIXES)}) in this folder")
    rows: dict[str, Row] = {}
    left_out: list[LeftOut] = []
    for path in tqdm(files, desc="NMR-STAR", unit="file"):
        try:
            found, without = codes_of_deposition(path, min_coverage)
        except InputError as error:
            left_out.append(LeftOut(str(path), "", "failed", str(error).removeprefix(f"{path}: ")))
            continue
        left_out += without
        for row in found:
            if rows.setdefault(row[0], row) is not row:
                left_out.append(LeftOut(str(path), row[0], "failed", "duplicate entry and entity of another file"))
    table = assignment_table(list(rows.values()), "mbmrb")
    return table, pd.DataFrame(left_out, columns=list(LeftOut._fields), dtype=str)


def codes_of_deposition(path: str | Path, min_coverage: float = MIN_COVERAGE) -> tuple[list[Row], list[LeftOut]]:
    """Assignment codes of the proteins of one deposition, named `<BMRB id>_<entity>`, and what was left out.

    InputError if the whole file cannot be used.
    """
    with reading(path, "an NMR-STAR file of version 3"):
        star = _parse(Path(path))
        entities = star.get_saveframes_by_category("entity")
        require(entities, f"{path}: no entities; only NMR-STAR version 3 is read")
        rows, left_out = [], []
        residues: dict[str, Residues] = {}
        for entity in entities:
            identifier = _value(entity, "ID")
            try:
                if (protein := _residues_of_protein(entity)) is not None:
                    require(identifier and identifier not in residues, "its ID is missing or that of another entity")
                    residues[identifier] = protein
            except InputError as error:
                left_out.append(LeftOut(str(path), identifier, "failed", str(error)))
        require(residues or left_out, f"{path}: no entity is a protein")
        if reason := _isotopes(star, entities, residues):
            return [], [*left_out, LeftOut(str(path), "", "filtered", reason)]
        ids = [_value(frame, "ID") for frame in star.get_saveframes_by_category("entry_information")]
        deposition = next(filter(None, ids), star.entry_id)
        assigned, wrong = _assigned(star, residues)
        for identifier, names in residues.items():
            sequence = "".join(STANDARD.get(name, UNKNOWN) for name in names.values())
            covered = coverage(sequence, assigned[identifier])
            if identifier in wrong:
                left_out.append(LeftOut(str(path), identifier, "failed", wrong[identifier]))
            elif covered < min_coverage:
                reason = f"{covered:.1%} of the amides assigned, less than {min_coverage:.1%}"
                left_out.append(LeftOut(str(path), identifier, "filtered", reason))
            else:
                rows.append((f"{deposition}_{identifier}", sequence, missing_codes(sequence, assigned[identifier])))
    return rows, left_out


def _parse(path: Path) -> Entry:
    import pynmrstar

    try:
        text = path.read_text(encoding="utf-8-sig")  # skips a byte order mark
    except UnicodeDecodeError:
        text = path.read_text(encoding="latin-1")  # older depositions
    return pynmrstar.Entry.from_string(text)  # from_file would also fetch a URL


def _residues_of_protein(entity: Saveframe) -> Residues | None:
    """Residues of an entity; None unless it is a protein."""
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
    if residues:
        residues = dict(sorted(residues.items(), key=lambda item: int(item[0])))  # rows of a loop are unordered
    else:
        letters = re.sub(r"\([^()]*\)", UNKNOWN, "".join(_value(entity, "Polymer_seq_one_letter_code").split()))
        residues = {str(k): THREE_LETTERS.get(letter.upper(), UNKNOWN) for k, letter in enumerate(letters, start=1)}
    standard = sum(name in STANDARD for name in residues.values())
    if not kind and 2 * standard < max(1, len(residues)):
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


def _assigned(star: Entry, proteins: dict[str, Residues]) -> tuple[dict[str, list[bool]], dict[str, str]]:
    """Entity -> whether each amide is assigned in its fullest list of shifts; entity -> why it fails."""
    only = next(iter(proteins)) if len(proteins) == 1 else ""
    lists: dict[str, dict[int, set[tuple[str, str]]]] = {entity: defaultdict(set) for entity in proteins}
    wrong: dict[str, str] = {}
    tags = ("Entity_ID", "Comp_index_ID", "Seq_ID", "Comp_ID", "Atom_ID", "Val")
    for order, loop in enumerate(star.get_loops_by_category("Atom_chem_shift"), start=1):
        for entity, component, sequence_number, name, atom, value in _rows(loop, *tags):
            if not (entity or only):
                wrong |= dict.fromkeys(
                    proteins, f"shift list {order}: a shift without Entity_ID among several proteins"
                )
            elif (residues := proteins.get(entity or only)) is not None:  # else not a protein
                number = component or sequence_number
                if residues.get(number) not in (name.upper(), UNKNOWN):
                    reason = f"shift list {order}: residue {name} {number} is not in the sequence"
                    wrong.setdefault(entity or only, reason)
                elif atom.upper() in BACKBONE and NUMBER.fullmatch(value):
                    lists[entity or only][order].add((number, BACKBONE[atom.upper()]))
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
