"""Check of a store: shapes, ranges, sums of shares, symmetry, missing tokens; and agreement with its table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import h5py
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.store_layout import (
    LIST_SUFFIX,
    SUFFIXES,
    Array,
    ListedPairs,
    missing_of,
    row_blocks,
    shape_problem,
)
from data_prepare.dataset.table import read_table
from data_prepare.errors import InputError, require
from data_prepare.properties import (
    INTERACTIONS,
    MD_PAIR_WIDTH,
    MD_PROPERTIES,
    MD_RESIDUE_WIDTH,
    MISSING,
    NMA_GROUPS,
    NMA_PROPERTIES,
    PAIR_PROPERTIES,
    PROPERTIES,
    RESIDUE_COLUMNS,
    RESIDUE_PROPERTIES,
    entry_residue_columns,
)

SHARE_TOLERANCE: Final = {np.dtype(np.float32): 1e-3, np.dtype(np.float16): 2e-3}  # of sums of shares
CORRELATION_TOLERANCE: Final = 1e-3
SPECIAL_TOKEN: Final = re.compile(r"<[a-z]+>")


def check_store(path: str | Path, table: str | Path | None = None) -> list[str]:
    """Check every entry of a store or published file, in bounded memory.

    With a training table, with or without labels, entries, features of the group, lengths and special tokens must agree
    too. Returns one line per problem, which begins with the name of the entry. InputError if it has no features at all.
    """
    rows: dict[str, tuple[str, str]] = {}  # name -> modify_seq, group
    if table is not None:
        frame = read_table(table, labelled=False)
        rows = dict(zip(frame["name"], zip(frame["modify_seq"], frame["group"], strict=True), strict=True))
    problems = []
    with FeatureStore(path) as store:
        keys = store.keys()
        own = any(key.endswith(SUFFIXES) for key in keys)
        require(own, f"{path}: not a feature store; its entries have names that end in {' and '.join(SUFFIXES)}")
        whole = {name for name in store.names() if name in store}
        for key in keys:
            name = next((key.removesuffix(suffix) for suffix in SUFFIXES if key.endswith(suffix)), None)
            if name is None and key.removesuffix(LIST_SUFFIX) in whole:
                continue
            if name is None:
                problems.append(f"{key}: not the name of residue or pair features")
            elif name not in whole:
                problems.append(f"{name}: has only one of its two datasets, {key}")
        if table is not None:
            problems += [f"{name}: is in the table, not in the store" for name in sorted(set(rows) - whole)]
            problems += [f"{name}: is in the store, not in the table" for name in sorted(whole - set(rows))]
        for name in tqdm(sorted(whole), desc="check", unit="entry"):
            try:
                with store.reading(name):
                    problems += [f"{name}: {line}" for line in _entry_problems(*store.datasets(name), rows.get(name))]
            except InputError as error:
                problems.append(f"{name}: {error}")
    return problems


def unlabelled(table: Path) -> list[str]:
    """A line if entries of a table have no label, so that no network can be trained on it."""
    labels = read_table(table, labelled=False)["label"]
    without = int((labels == "").sum())
    remedy = "install MMseqs2 or give --clusters FILE, and run seqdance prepare or merge again"
    return [f"{table}: {without} of {len(labels)} entries are neither train nor test; {remedy}"] if without else []


def missing_lines(store: FeatureStore) -> list[str]:
    """Which properties how many entries lack: a line per number of entries."""
    counts: Counter[str] = Counter()
    entries = store.names()
    for name in entries:
        with suppress(InputError):  # a problem that `check_store` tells
            counts.update(store.missing(name))
    names = {number: [name for name in PROPERTIES if counts[name] == number] for number in sorted(set(counts.values()))}
    return [f"{number} of {len(entries)} entries lack {', '.join(several)}" for number, several in names.items()]


class _Findings:
    """Problems, each with its number of positions and the first of them."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}

    def add(self, problem: str, bad: NDArray[np.bool_], first_row: int = 0) -> None:
        """Record where `bad` is true; its rows are tokens, or pairs of tokens, from `first_row` on."""
        if bad.any():
            first = np.argwhere(bad)[0]
            first[0] += first_row
            count, where = self._found.get(problem, (0, ", ".join(map(str, first))))
            self._found[problem] = (count + int(bad.sum()), where)

    def lines(self) -> list[str]:
        """One line per problem."""
        return [f"{problem} ({count} times, first at {where})" for problem, (count, where) in self._found.items()]


def _entry_problems(residue: h5py.Dataset, pair: h5py.Dataset | ListedPairs, row: tuple[str, str] | None) -> list[str]:
    if problem := shape_problem(residue.shape, pair.shape):
        return [problem]
    if residue.dtype != pair.dtype or residue.dtype not in SHARE_TOLERANCE:
        return [f"numbers are {residue.dtype} and {pair.dtype}; expected both float32 or both float16"]
    md = residue.shape[1] == MD_RESIDUE_WIDTH
    tokens = len(residue)
    special = np.zeros(tokens, bool)
    special[[0, -1]] = True
    if row is not None:
        modify_seq, group = row
        if md == (group in NMA_GROUPS):
            return [f"{residue.shape[1]} residue columns do not belong to the group {group}"]
        letters = SPECIAL_TOKEN.sub("<", modify_seq)  # one letter per token
        if tokens != len(letters) + 2:
            return [f"{tokens} tokens, its sequence in the table has {len(letters) + 2}"]
        special[1:-1] = np.array(list(letters)) == "<"
    lacking = missing_of(residue.attrs)
    names = MD_PROPERTIES if md else NMA_PROPERTIES
    if set(lacking) >= set(names) or not set(lacking) <= set(names):
        return [f"the missing properties are {', '.join(lacking)}; expected some of {', '.join(names)}"]
    findings = _Findings()
    values = residue[:].astype(np.float32)
    missing = (values == MISSING).all(axis=1)
    if set(lacking) >= set(RESIDUE_PROPERTIES).intersection(names):  # the pairs tell which tokens have features
        missing = np.array([(pair[token : token + 1, token : token + 1] == MISSING).all() for token in range(tokens)])
    _check_residue(values, md, SHARE_TOLERANCE[residue.dtype], special, missing, lacking, findings)
    for rows in row_blocks(pair.shape):
        _check_pairs(pair, rows, missing, lacking, findings)
    return findings.lines()


def _check_residue(
    residue: Array,
    md: bool,
    tolerance: float,
    special: NDArray[np.bool_],
    missing: NDArray[np.bool_],
    lacking: Sequence[str],
    findings: _Findings,
) -> None:
    """Check (L, 47 or 3) features of an entry that lacks some properties; `missing` (L,): tokens without any."""
    present = ~missing[:, None]
    findings.add("residue features of a special token are not -1", special & ~(residue == MISSING).all(axis=1))
    findings.add("all tokens are missing", np.atleast_1d(missing.all()))
    findings.add("residue features are NaN or infinite", ~np.isfinite(residue))
    for name in MD_PROPERTIES if md else NMA_PROPERTIES:
        if name not in RESIDUE_COLUMNS:
            continue
        values = residue[:, entry_residue_columns(name)]
        if name in lacking:
            findings.add(f"{name} is missing, but not -1", values != MISSING)
            continue
        findings.add(f"{name} is negative", present & (values < 0))
        if values.shape[1] == 1:
            continue
        wrong = np.abs(values.sum(axis=1) - 1) > tolerance
        if name != "ss":
            wrong &= (values != 0).any(axis=1)  # an angle that the residue does not have
        findings.add(f"{name} is greater than 1", present & (values > 1 + tolerance))
        findings.add(f"shares of {name} do not sum to 1", present[:, 0] & wrong)


def _check_pairs(
    pair: h5py.Dataset | ListedPairs,
    rows: slice,
    missing: NDArray[np.bool_],
    lacking: Sequence[str],
    findings: _Findings,
) -> None:
    """Check a block of rows of (L, L, 10 or 3) features; for `missing` and `lacking` see `_check_residue`."""
    block = pair[rows].astype(np.float32, copy=False)  # (B, L, K)
    first = rows.start
    md = pair.shape[2] == MD_PAIR_WIDTH
    names = PAIR_PROPERTIES[:MD_PAIR_WIDTH] if md else PAIR_PROPERTIES[MD_PAIR_WIDTH:]
    interactions = len(INTERACTIONS) if md else 0
    expected = missing[rows, None] | missing[None]  # (B, L)
    findings.add("pair features are NaN or infinite", ~np.isfinite(block), first)
    findings.add("pairs with a missing token are not -1", expected & (block != MISSING).any(axis=2), first)
    if names[0] not in lacking:
        findings.add("pairs of two residues read as missing", ~expected & (block[..., 0] == MISSING), first)
    # the columns that mirror the rows; another read unless the block is the whole array
    mirror = block if len(block) == len(pair) else pair[:, rows].astype(np.float32, copy=False)  # (L, B, K)
    for channel, name in enumerate(names):
        values = block[..., channel]
        if name in lacking:
            findings.add(f"{name} is missing, but not -1", values != MISSING, first)
            continue
        if channel < interactions:
            findings.add(f"{name} is negative", ~expected & (values < 0), first)
            continue
        findings.add(f"{name} is outside -1 to 1", ~expected & (np.abs(values) > 1 + CORRELATION_TOLERANCE), first)
        unequal = np.abs(values - mirror[..., channel].T) > CORRELATION_TOLERANCE
        findings.add(f"{name} is not symmetric", unequal, first)
