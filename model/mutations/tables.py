"""Mutants from tables, lists and measured data sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from data_prepare.errors import InputError, named, require, shown
from data_prepare.files import csv_pieces
from model.choices import MeasuredForm
from model.inference.inputs import Protein
from model.mutations.measured import read_measured
from model.mutations.substitution import BY_POSITION, Mutants, fitting_offset

MUTANT_COLUMNS: Final = ("mutant", "mut_type", "mutated_sequence", "aa_seq")  # the first one in the table counts
ROWS_PER_PIECE: Final = 5_000  # of a table read at once


def read_mutants(path: Path, proteins: Sequence[Protein], offset: int = 0, of_structure: bool = False) -> list[Mutants]:
    """Mutants, possibly none, of each protein from a CSV, gzipped if its name ends in .gz.

    The first of `MUTANT_COLUMNS` in the table holds labels or sequences, see `WildType.read`. With several proteins,
    the column `protein` names them; with one, that column may have any name, the same in all rows. InputError names the
    line that does not fit.
    """
    mutants = {protein.name: Mutants(protein, (), offset, of_structure) for protein in proteins}
    several, only = len(proteins) > 1, proteins[0].name
    alone: str | None = None  # name of the only protein in the table
    for piece in csv_pieces(path, chunksize=ROWS_PER_PIECE):
        column = next((name for name in MUTANT_COLUMNS if name in piece), None)
        require(column, f"{path}: no column with mutants; add one of {', '.join(MUTANT_COLUMNS)}")
        require(
            "protein" in piece or not several,
            f"{path}: no column protein; add it to name one of the {len(proteins)} proteins in each row",
        )
        names = piece["protein"] if "protein" in piece else [only] * len(piece)
        for line, name, mutant in zip(piece.index + 2, names, piece[column], strict=True):
            where = f", protein {shown(name)}" if "protein" in piece else ""
            with named(f"{path}, line {line}{where}"):
                alone = name if alone is None else alone
                require(several or name == alone, "the table has several proteins, one is given; keep its rows")
                require(not several or name in mutants, f"unknown; use one of the {len(proteins)} proteins given")
                mutants[name if several else only].add(mutant)
    return list(mutants.values())


def mutants_to_score(
    proteins: Sequence[Protein],
    mutations: str | None = None,
    table: Path | None = None,
    offset: int = 0,
    of_structure: bool = False,
) -> Iterable[Mutants]:
    """Mutants of each protein that has some.

    The mutants are `mutations` of the only protein, such as `A12G,K5R:L7V`, those of a table (`read_mutants`), or all
    single mutants, which are made when their protein is scored; numbered as `Mutants` says. InputError for a mutant
    that does not fit, a duplicate, or no mutant at all.
    """
    if table is not None:
        with named(table):
            return checked(read_mutants(table, proteins, offset, of_structure))
    if mutations is not None:
        require(len(proteins) == 1, f"mutations belong to one protein, not {len(proteins)}; give a table of mutants")
        labels = mutations.split(",")
        try:
            return checked([Mutants(proteins[0], labels, offset, of_structure)])
        except InputError as error:  # a paper often numbers residues in another way than the structure
            found = fitting_offset(proteins[0].sequence, labels)
            if found is None or (found == offset and not of_structure):
                raise
            how = f"--offset {found}"
            if of_structure:
                how = f"--numbering sequence {how}" if found else "--numbering sequence"
            raise InputError(f"{str(error).removesuffix(BY_POSITION)}; all of them fit with {how}") from None
    made = (Mutants(protein, None, offset, of_structure) for protein in proteins)
    singles = (mutants for mutants in made if mutants.labels)
    first = checked(islice(singles, 1))
    return first if len(proteins) == 1 else chain(first, singles)


def measured_mutants(path: Path, form: MeasuredForm, wild_types: Sequence[Protein] = ()) -> list[Mutants]:
    """Mutants of each protein of a measured data set, see `read_measured`; ProteinGym's need no values.

    InputError if the data set cannot be read, or its wild types are not those of `wild_types`, if any.
    """
    proteins = list(read_measured(path, form, values=False))
    require(
        not wild_types or {protein.sequence for protein in wild_types} == {protein.wild_type for protein in proteins},
        f"{path}: its mutants have another wild type than the one given; omit that",
    )
    return checked(Mutants(Protein(protein.name, protein.wild_type), protein.mutants) for protein in proteins)


def checked(chosen: Iterable[Mutants]) -> list[Mutants]:
    """Those with mutants; InputError if none has any, or for a duplicate, which would count twice in the scores."""
    found = [mutants for mutants in chosen if mutants.labels]
    require(found, "no mutants to score; give at least one")
    for mutants in found:
        # hashes of 64 bits: a million strings take 250 MB
        hashes = (hash(":".join(sorted(label.split(":")))) for label in mutants.labels)
        keys = pd.Series(np.fromiter(hashes, np.int64, len(mutants.labels)))
        for again in keys.index[keys.duplicated()][:1]:
            numbers = keys.index[keys == keys[again]][:2] + 1
            label = mutants.labels[again]
            raise InputError(
                f"{mutants.name}: duplicate mutant {label} (numbers {' and '.join(map(str, numbers))}); keep one"
            )
    return found
