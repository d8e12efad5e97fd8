"""Checks of a store: sound ones have no findings, each kind of damage has one."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pandas as pd
import pytest
from stores import publish, random_entry, real_entry, without_properties, write_store

from data_prepare.dataset.check import check_store, missing_lines
from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.table import write_table
from data_prepare.properties import (
    INTERACTIONS,
    PAIR_PROPERTIES,
    PROPERTIES,
    RESIDUE_PROPERTIES,
    entry_pair_channel,
    entry_residue_columns,
)
from seqdance.commands.check import main as check


def table_of(path, **rows):
    columns = ["name", "modify_seq", "source", "label"]
    write_table(path, pd.DataFrame([(name, *row) for name, row in rows.items()], columns=columns))
    return path


@pytest.mark.parametrize("form", ["float32", "float16", "published"])
def test_check_of_sound_stores(tmp_path, monkeypatch, form):
    monkeypatch.setattr("data_prepare.dataset.store_layout.BLOCK_BYTES", 1)  # several blocks
    linked = real_entry(70, chains=[30, 40])
    entries = {"a": linked, "b": real_entry(90, "nma")}
    path = tmp_path / "s.h5"
    publish(path, **entries) if form == "published" else write_store(path, form, **entries)
    table = table_of(
        tmp_path / "t.csv",
        a=("G" * 30 + "<eos><cls>" + "G" * 40, "IDRome", "train"),
        b=("G" * 90, "proteinflow_pdb", "test"),
    )
    assert check_store(path) == []
    assert check_store(path, table) == []


def put(residue=None, pair=None, value=0.0):
    def spoil(entry):
        if residue is not None:
            entry[0][residue] = value
        if pair is not None:
            entry[1][pair] = value

    return spoil


def all_missing(entry):
    entry[0][:], entry[1][:] = -1, -1


@pytest.mark.parametrize(
    ("kind", "spoil", "problem"),
    [
        ("md", put(residue=(5, 0), value=np.nan), "residue features are NaN or infinite (1 times, first at 5, 0)"),
        ("md", put(pair=(65, 66, 0), value=np.inf), "pair features are NaN or infinite (1 times, first at 65, 66, 0)"),
        ("md", put(residue=(5, 0), value=-0.1), "sasa_mean is negative (1 times, first at 5, 0)"),
        ("md", put(residue=(5, 3), value=1.2), "ss is greater than 1"),
        ("md", put(residue=(5, slice(3, 11))), "shares of ss do not sum to 1 (1 times, first at 5)"),
        ("md", put(residue=(5, slice(3, 11)), value=0.1254), "shares of ss do not sum to 1"),
        ("md", put(residue=(5, 12), value=0.5), "shares of chi do not sum to 1"),
        ("md", put(residue=(5, 24), value=-0.01), "phi is negative"),
        ("md", put(pair=(65, 66, 3), value=-0.1), "hbss is negative (1 times, first at 65, 66)"),
        ("md", put(pair=(65, 66, 9), value=1.01), "corr is outside -1 to 1 (1 times, first at 65, 66)"),
        ("md", put(pair=(65, 3, 9), value=-0.99), "corr is not symmetric (2 times, first at 3, 65)"),
        ("md", put(pair=(65, 3, 0), value=-1), "pairs of two residues read as missing (1 times, first at 65, 3)"),
        ("md", put(residue=5, value=-1), "pairs with a missing token are not -1"),
        ("md", put(pair=5, value=-1), "pairs of two residues read as missing"),
        ("md", put(residue=0), "residue features of a special token are not -1 (1 times, first at 0)"),
        ("md", put(pair=(0, 5, 2)), "pairs with a missing token are not -1 (1 times, first at 0, 5)"),
        ("md", all_missing, "all tokens are missing"),
        ("nma", put(residue=(5, 2), value=-0.1), "nma_res3 is negative"),
        ("nma", put(pair=(65, 66, 0), value=-1.01), "nma_pair1 is outside -1 to 1"),
        ("nma", put(pair=(66, 65, 2), value=0.99), "nma_pair3 is not symmetric (2 times, first at 65, 66)"),
    ],
)
def test_check_finds(tmp_path, monkeypatch, kind, spoil, problem):
    monkeypatch.setattr("data_prepare.dataset.store_layout.BLOCK_BYTES", 1)
    entry = real_entry(70, kind)
    spoil(entry)
    found = check_store(publish(tmp_path / "s.h5", a=entry, b=real_entry(10)))
    assert any(line.startswith(f"a: {problem}") for line in found), found
    assert all(line.startswith("a: ") for line in found)


def test_check_of_shapes_and_names(tmp_path):
    residue, pair = real_entry(10)
    path = publish(
        tmp_path / "s.h5",
        columns=(residue[:, :46], pair),
        length=(residue, pair[:, :5]),
        double=(residue.astype(float), pair),
        flat=(residue[:, 0], pair),
    )
    with h5py.File(path, "a") as file:
        file["half_res_feature"], file["other_pair_feature"], file["else"] = residue, pair, residue
    expected = [
        "else: not the name of residue or pair features",
        "half: has only one of its two datasets, half_res_feature",
        "other: has only one of its two datasets, other_pair_feature",
        "columns: residue features (12, 46) and pair features (12, 12, 10); expected 47 and 10 columns, or 3 and 3",
        "double: numbers are float64 and float32; expected both float32 or both float16",
        "flat: residue features (12,) and pair features (12, 12, 10); expected 47 and 10 columns, or 3 and 3",
        "length: residue features (12, 47) and pair features (12, 5, 10) differ in length",
    ]
    assert check_store(path) == expected


def test_check_against_the_table(tmp_path):
    path = write_store(tmp_path / "s.h5", **{name: real_entry(10) for name in "abcde"})
    table = table_of(
        tmp_path / "t.csv",
        a=("G" * 10, "IDRome", "train"),
        b=("GG<eos><cls>GGGGGG", "IDRome", "train"),  # as long, but with a linker
        c=("G" * 11, "IDRome", "train"),
        d=("G" * 10, "Proteinflow", "train"),
        f=("G" * 10, "IDRome", "train"),
    )
    assert check_store(path, table) == [
        "f: is in the table, not in the store",
        "e: is in the store, not in the table",
        "b: residue features of a special token are not -1 (2 times, first at 3)",
        "c: 12 tokens, its sequence in the table has 13",
        "d: 47 residue columns do not belong to the group Proteinflow",
    ]


def test_entries_without_a_label_are_not_sound(tmp_path, capsys):
    path = write_store(tmp_path / "s.h5", a=real_entry(10), b=real_entry(10))
    table = table_of(tmp_path / "table.csv", a=("G" * 10, "IDRome", "train"), b=("G" * 10, "IDRome", ""))
    with pytest.raises(SystemExit) as left:
        check([str(path)])
    assert left.value.code == 1
    shown = capsys.readouterr().out
    assert f"{table}: 1 of 2 entries are neither train nor test" in shown
    table_of(table, a=("G" * 10, "IDRome", "train"), b=("G" * 10, "IDRome", "test"))
    check([str(path)])
    assert "entries: 2, problems: none" in capsys.readouterr().out


def test_check_of_a_damaged_chunk(tmp_path):
    path = write_store(tmp_path / "s.h5", a=random_entry(10), b=real_entry(10))
    with h5py.File(path, "a") as file:
        file["a_pair_feature"].id.write_direct_chunk((0, 0, 0), b"rubbish")
    (line,) = check_store(path)
    assert line.startswith(f"a: {path}: entry a: not readable features (OSError")


@pytest.mark.parametrize(
    "missing", [["hbbb"], ["sasa_mean", "sasa_std", "chi", *INTERACTIONS], RESIDUE_PROPERTIES[:7], PAIR_PROPERTIES[:10]]
)
def test_entries_that_lack_properties(tmp_path, monkeypatch, missing):
    """They are sound unless a missing property has values, or the list cannot be read; lines tell their number."""
    monkeypatch.setattr("data_prepare.dataset.store_layout.BLOCK_BYTES", 1)
    path = write_store(tmp_path / "s.h5", a=real_entry(70), b=real_entry(70, chains=[30, 40]), c=real_entry(9))
    lists = {"a": missing, "b": [*missing, "rmsf_nor"] if "rmsf_nor" not in missing else missing}
    path = without_properties(path, tmp_path / "m.h5", **lists)
    assert check_store(path) == []
    (*_, line) = missing_lines(FeatureStore(path))
    assert line == f"2 of 3 entries lack {', '.join(name for name in PROPERTIES if name in missing)}"
    suffix, columns = ("pair", entry_pair_channel) if missing[0] in PAIR_PROPERTIES else ("res", entry_residue_columns)
    with h5py.File(path, "a") as file:
        if missing[0] in INTERACTIONS and "corr" not in missing:
            file["a_interactions"][2, 0] = columns(missing[0])
        elif missing[0] in INTERACTIONS:
            file["a_pair_feature"][5] = 0.5
        else:
            file[f"a_{suffix}_feature"][..., 5, columns(missing[0])] = 0.5
    spoiled = "corr" if "corr" in missing else missing[0]
    assert any(problem.startswith(f"a: {spoiled} is missing, but not -1") for problem in check_store(path))
    for text in ("[", '["mass"]', json.dumps([*RESIDUE_PROPERTIES[:7], *PAIR_PROPERTIES[:10]]), '["nma_res1"]'):
        with h5py.File(path, "a") as file:
            file["b_res_feature"].attrs["missing_properties"] = text
        assert any(problem.startswith("b: ") and "missing" in problem for problem in check_store(path))
