"""Labels of missing assignments from NMR-STAR files (BMRB, version 3), one entry per protein of a deposition.

The rules, in the order in which they are applied:

1. Proteins are the entities of the polymer type polypeptide(L), or, where the type is missing, those of which at least
   half of the residues are among the twenty. Other entities (ligands, nucleic acids, D-peptides) are passed over.
2. A deposition is left out as a whole if the isotopic labelling of one of its proteins, in any sample, names deuterium,
   methyl groups, or a choice of residues (an amino acid, "selective", "specific", "unlabeled", "segmental", SAIL).
   Components of samples that are no protein (D2O, deuterated buffers) and tags of histidines do not count.
3. The sequence of an entity is its list of components; others than the twenty become `X`. Where there is none, the
   one-letter code is taken.
4. An amide is assigned if one list of shifts has a value for both its H (or HN) and its N. Lists are not joined,
   because they may hold different conditions: the one with most assigned amides of the entity counts, the first of
   equals. Copies of one entity in a complex (homodimer) are joined within a list.
5. A shift whose residue number or name is not that of the sequence shows another numbering: the entity fails.
6. An entity is left out if less than `min_coverage` of its amides is assigned (`assignments.coverage`).

What is left out by a rule (`filtered`) and what cannot be used (`failed`) is recorded with the reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import pandas as pd
from tqdm import tqdm

from data_prepare.errors import InputError
from data_prepare.nmr.assignments import MIN_COVERAGE, assignment_table, coverage, missing_codes
from data_prepare.structure.sequence import ONE_LETTER, UNKNOWN

if TYPE_CHECKING:
    from pynmrstar import Entry, Loop, Saveframe

STAR_SUFFIXES: Final = (".str", ".star", ".nmrstar")
NAMES: Final = "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL".split()
STANDARD: Final = {name: ONE_LETTER[name] for name in NAMES}
THREE_LETTERS: Final = {letter: name for name, letter in STANDARD.items()}
FULL_NAMES: Final = (
    "alanine arginine asparagine aspartate cysteine glutamine glutamate glycine histidine isoleucine leucine lysine "
    "methionine phenylalanine proline serine threonine tryptophan tyrosine valine"
).split()
LABELLING: Final = {
    # a D before a hyphen and a word is that of D-glucose, unless the word is "labelled"
    "deuterated": re.compile(r"(?<!\d)2\s*-?\s*H(?![a-z\d])|deuter|\b2?D\b(?!-(?!label)[a-z]{2})", re.IGNORECASE),
    "methyl labelled": re.compile(r"methyl|CH3|CHD2|CH2D|CD3|\b[AMT]*ILV[AMT]*\b", re.IGNORECASE),
    "selectively labelled": re.compile(
        rf"(?<![a-z])(?:{'|'.join([*NAMES, *FULL_NAMES])})(?![a-z])|select|specific|unlabel|segment|revers|\bSAIL\b",
        re.IGNORECASE,
    ),
}
# tags of histidines, no labels: His6, (His)6, 6xHis, His-tag, hexahistidine
HIS_TAG: Final = re.compile(
    r"(?<![a-z\d])(?:(?:6|8|10)(?:\s*x)?|hexa|octa|deca|poly)[\s-]*\(?His(?:tidine)?(?![a-z])\)?"
    r"|(?<![a-z])\(?His\)?-?(?:6|8|10)(?!\d)|(?<![a-z])His(?:tidine)?[\s-]*tag",
    re.IGNORECASE,
)
LEFT_OUT_COLUMNS: Final = ("file", "entity", "kind", "reason")


@dataclass(frozen=True)
class LeftOut:
    """A file, or one entity of it, that gives no label, and why."""

    file: str
    entity: str
    """Empty: the whole file."""
    kind: Literal["failed", "filtered"]
    reason: str


@dataclass(frozen=True)
class _Protein:
    """One entity: residues by their number in the deposition."""

    identifier: str
    names: frozenset[str]  # what a component of a sample may call it
    residues: dict[int, str]  # number -> name of the component
    lists: dict[str, set[tuple[int, str]]] = field(default_factory=dict)  # shift list -> (number, H or N) with a value

    def sequence(self) -> str:
        return "".join(STANDARD.get(name, UNKNOWN) for name in self.residues.values())

    def assigned(self) -> np.ndarray:
        """Amides with H and N in the list that has most of them, (L,) bool."""
        best = np.zeros(len(self.residues), bool)
        for atoms in self.lists.values():
            both = np.array([{(number, "H"), (number, "N")} <= atoms for number in self.residues])
            best = both if both.sum() > best.sum() else best
        return best


def parse_star(path: str | Path) -> Entry:
    """Parse an NMR-STAR file with pynmrstar.

    Raises
    ------
    InputError
        If pynmrstar is not installed, the file cannot be read, or it is not NMR-STAR.
    """
    if find_spec("pynmrstar") is None:
        raise InputError("pynmrstar is not installed: pip install pynmrstar")
    import pynmrstar

    try:
        # not Entry.from_file, which would also fetch an address; -sig takes away the BOM of Windows editors
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            text = Path(path).read_text(encoding="latin-1")  # older depositions: names of authors, degree signs
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if "\0" in text:  # latin-1 decodes everything
        raise InputError(f"{path}: not a text file in UTF-8 or latin-1 (it has null bytes)")
    try:
        return pynmrstar.Entry.from_string(text)
    except Exception as error:  # damaged files make the parser raise whatever it runs into
        raise InputError(f"{path}: not a readable NMR-STAR file ({type(error).__name__}: {_line(error)})") from None


def codes_of_deposition(
    path: str | Path, min_coverage: float = MIN_COVERAGE
) -> tuple[list[tuple[str, str, str]], list[LeftOut]]:
    """Labels of the proteins of one deposition.

    Parameters
    ----------
    path
        NMR-STAR file.
    min_coverage
        Smallest share of assigned amides.

    Returns
    -------
    (entry_ID, sequence, label) of each protein, the name being `<BMRB id>_<entity>`; and what was left out.

    Raises
    ------
    InputError
        If the file as a whole cannot be used.
    """
    star = parse_star(path)
    deposition = next(
        (name for frame in _frames(star, "entry_information") if (name := _tag(frame, "ID"))),
        _text(star.entry_id),
    )
    if not deposition:
        raise InputError(f"{path}: no entry id (_Entry.ID)")
    left_out: list[LeftOut] = []
    proteins: dict[str, _Protein] = {}
    frames = _frames(star, "entity")
    for frame in frames:
        identifier = _tag(frame, "ID") or ""
        try:
            protein = _protein(frame, identifier)
            if protein is not None and proteins.setdefault(identifier, protein) is not protein:
                raise InputError("another entity has the same ID")
        except InputError as error:
            left_out.append(LeftOut(str(path), identifier, "failed", str(error)))
    if not proteins:
        if not left_out:
            reason = "no entity is a protein" if frames else "no entities; only NMR-STAR version 3 is read"
            raise InputError(f"{path}: {reason}")
        return [], left_out
    if reason := _labelling(star, list(proteins.values())):
        return [], [*left_out, LeftOut(str(path), "", "filtered", reason)]
    wrong = _collect_shifts(star, proteins)
    rows = []
    for identifier, protein in proteins.items():
        sequence, assigned = protein.sequence(), protein.assigned()
        share = coverage(sequence, assigned)
        if identifier in wrong:
            left_out.append(LeftOut(str(path), identifier, "failed", wrong[identifier]))
        elif share < min_coverage:
            reason = f"{share:.1%} of the amides assigned, less than {min_coverage:.1%}"
            left_out.append(LeftOut(str(path), identifier, "filtered", reason))
        else:
            rows.append((f"{deposition}_{identifier}", sequence, missing_codes(sequence, assigned)))
    return rows, left_out


def read_star(
    source: str | Path, min_coverage: float = MIN_COVERAGE, progress: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Labels of a folder of NMR-STAR files, or of one.

    Parameters
    ----------
    source
        File, or folder with files *.str, *.star or *.nmrstar, in subfolders too.
    min_coverage
        Smallest share of assigned amides.
    progress
        Show a bar.

    Returns
    -------
    Table of labels (`labels.COLUMNS`) of the source mbmrb, possibly empty; table of what was left out
    (`LEFT_OUT_COLUMNS`). A file that cannot be used does not stop the others.

    Raises
    ------
    InputError
        If there is no file, or pynmrstar is not installed.
    """
    if not 0 < min_coverage <= 1:
        raise InputError(f"coverage {min_coverage}: expected a number above 0, at most 1")
    if find_spec("pynmrstar") is None:
        raise InputError("pynmrstar is not installed: pip install pynmrstar")
    source = Path(source)
    files = sorted(path for path in source.rglob("*") if path.suffix in STAR_SUFFIXES) if source.is_dir() else [source]
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    if not files:
        raise InputError(f"{source}: no NMR-STAR files (*{', *'.join(STAR_SUFFIXES)})")
    rows: dict[str, tuple[str, str, str]] = {}
    left_out: list[LeftOut] = []
    for path in tqdm(files, desc="NMR-STAR", unit="file", disable=not progress):
        try:
            found, without = codes_of_deposition(path, min_coverage)
        except InputError as error:
            left_out.append(LeftOut(str(path), "", "failed", str(error).removeprefix(f"{path}: ")))
            continue
        left_out += without
        for row in found:
            if rows.setdefault(row[0], row) is not row:
                left_out.append(LeftOut(str(path), row[0], "failed", "another file has this entry and entity already"))
    return assignment_table(list(rows.values()), "mbmrb"), pd.DataFrame(
        left_out, columns=list(LEFT_OUT_COLUMNS), dtype=str
    )


def _protein(frame: Saveframe, identifier: str) -> _Protein | None:
    """Protein of an entity, or None if it is something else."""
    kind = (_tag(frame, "Polymer_type") or "").lower()
    if kind not in ("", "polypeptide(l)"):
        return None
    residues = _residues(frame)
    standard = sum(name in STANDARD for name in residues.values())
    if not kind and 2 * standard < max(1, len(residues)):
        return None
    if not identifier:
        raise InputError("an entity without ID")
    if not residues:
        raise InputError("no sequence")
    names = {str(name).casefold() for name in (frame.name, _tag(frame, "Name")) if name}
    return _Protein(identifier, frozenset(names), residues)


def _residues(frame: Saveframe) -> dict[int, str]:
    """Number -> name of the component, from the first source of the entity that has any."""
    sources = (("_Entity_comp_index", "ID", "Comp_ID"), ("_Entity_poly_seq", "Num", "Mon_ID"))
    for category, number_tag, name_tag in sources:
        rows = [row for loop in _loops([frame], category) for row in _rows(loop, number_tag, name_tag)]
        residues: dict[int, str] = {}
        for number, name in rows:
            place = _number(number)
            if place is None or place in residues:
                raise InputError(f"{category}: number {number} is missing, no number, or there twice")
            residues[place] = (name or "").upper()
        if residues:
            return dict(sorted(residues.items()))  # the rows of a loop have no order of their own
    letters = re.sub(r"\([^()]*\)", UNKNOWN, "".join((_tag(frame, "Polymer_seq_one_letter_code") or "").split()))
    return {place: THREE_LETTERS.get(letter.upper(), UNKNOWN) for place, letter in enumerate(letters, start=1)}


def _labelling(star: Entry, proteins: Sequence[_Protein]) -> str:
    """Why the labelling of a protein in one of the samples tells against the deposition; empty if nothing does."""
    identifiers = {protein.identifier for protein in proteins}
    names = frozenset().union(*(protein.names for protein in proteins))
    for loop in _loops(star.frame_list, "_Sample_component"):
        for entity, label, common, isotopes in _rows(
            loop, "Entity_ID", "Entity_label", "Mol_common_name", "Isotopic_labeling"
        ):
            called = {(label or "").removeprefix("$").casefold(), (common or "").casefold()}
            protein = entity in identifiers or (entity is None and called & names)
            if protein and (kind := labelling_kind(isotopes or "")):
                return f"{kind}: {_line(isotopes)}"
    return ""


def labelling_kind(isotopes: str) -> str | None:
    """Kind of labelling (`LABELLING`) that tells against a deposition; None if there is none."""
    text = HIS_TAG.sub(" ", isotopes)
    return next((kind for kind, pattern in LABELLING.items() if pattern.search(text)), None)


def _collect_shifts(star: Entry, proteins: dict[str, _Protein]) -> dict[str, str]:
    """Fill the shift lists of the proteins; returns entity -> why its shifts cannot be used."""
    wrong: dict[str, str] = {}
    only = next(iter(proteins)) if len(proteins) == 1 else None
    for order, loop in enumerate(_loops(star.frame_list, "_Atom_chem_shift")):
        tags = ("Entity_ID", "Comp_index_ID", "Seq_ID", "Comp_ID", "Atom_ID", "Val")
        for entity, component, sequence_number, name, atom, value in _rows(loop, *tags):
            if entity is None and only is None:
                return dict.fromkeys(
                    proteins, f"shift list {order + 1}: a shift without Entity_ID among several proteins"
                )
            protein = proteins.get(entity or only or "")
            if protein is None:
                continue  # a ligand, nucleic acid or peptide of another kind
            number = _number(component or sequence_number)
            residue = protein.residues.get(number) if number is not None else None
            if residue is None or (residue != UNKNOWN and (name or "").upper() != residue):
                reason = f"shift list {order + 1}: residue {name} {component or sequence_number} is not in the sequence"
                wrong.setdefault(protein.identifier, reason)
                continue
            backbone = {"H": "H", "HN": "H", "N": "N"}.get((atom or "").upper())
            if backbone and number is not None and _is_number(value):
                protein.lists.setdefault(str(order), set()).add((number, backbone))
    return wrong


# pynmrstar's own searches stumble over frames and loops of damaged files that have no category, or that of another
def _frames(star: Entry, category: str) -> list[Saveframe]:
    return [frame for frame in star.frame_list if _tag(frame, "Sf_category") == category]


def _loops(frames: Iterable[Saveframe], category: str) -> list[Loop]:
    return [loop for frame in frames for loop in frame.loops if (loop.category or "").lower() == category.lower()]


def _rows(loop: Loop, *tags: str) -> Iterator[tuple[str | None, ...]]:
    """Values of some tags, row by row; None where the tag or the value is missing."""
    held = [tag.lower() for tag in loop.tags]
    places = [held.index(tag.lower()) if tag.lower() in held else None for tag in tags]
    for row in loop.data:
        yield tuple(_text(row[place]) if place is not None and place < len(row) else None for place in places)


def _tag(frame: Saveframe, name: str) -> str | None:
    """First value of a tag of a frame, not of its loops."""
    return next((_text(value) for tag, value, *_ in frame.tags if str(tag).lower() == name.lower()), None)


def _text(value: object) -> str | None:
    text = "" if value is None else str(value).strip()
    return None if text in ("", ".", "?") else text


def _number(value: str | None) -> int | None:
    return int(value) if value is not None and re.fullmatch(r"-?[0-9]{1,9}", value) else None


def _is_number(value: str | None) -> bool:
    try:
        return value is not None and math.isfinite(float(value))
    except ValueError:
        return False


def _line(message: object) -> str:
    """Text of a foreign message on one line, at most 200 characters."""
    return " ".join(str(message).split())[:200]
