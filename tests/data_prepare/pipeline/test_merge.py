"""Merging of stores: labels that stay, entries of the same name, what a rerun leaves as it is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from refusals import refused
from stores import real_entry, write_store

from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.table import read_table, write_table
from data_prepare.pipeline.merge import merge
from data_prepare.pipeline.split import Split
from data_prepare.structure.sequence import CHAIN_LINKER


@pytest.fixture
def store(tmp_path):
    """Write a store of entries (name -> label) and its table; the features of a name differ between folders."""

    def write(folder, **labels):
        entries = {name: real_entry(10, seed=sum(map(ord, folder + name))) for name in labels}
        (tmp_path / folder).mkdir(exist_ok=True)
        rows = [(name, f"G{name}".upper(), "IDRome", "", label) for name, label in labels.items()]
        table = pd.DataFrame(rows, columns=["name", "modify_seq", "source", "group", "label"])
        write_table(tmp_path / folder / "table.csv", table)
        return write_store(tmp_path / folder / "s.h5", **entries)

    return write


@pytest.fixture
def split(tmp_path):
    """A split by these clusters, written as words: "ab c" are two."""

    def make(clusters, **options):
        path = tmp_path / "clusters.tsv"
        path.write_text("".join(f"{words[0]}\t{name}\n" for words in clusters.split() for name in words))
        return Split(clusters=path, **options)

    return make


def labels_in(folder):
    table = read_table(folder / "table.csv")
    return dict(zip(table["name"], table["label"], strict=True))


def test_labels_stay_when_a_source_is_added(store, split, tmp_path, capsys):
    """New entries join the cluster; a test entry that gets a relative in train is train, and it is written down."""
    out = tmp_path / "out" / "all.h5"
    first, changes = store("one", a="train", b="test", c="test", d="train"), out.with_name("label_changes.csv")
    merge([first], out, split("a b c d"), keep_labels=True)
    assert labels_in(out.parent) == {"a": "train", "b": "test", "c": "test", "d": "train"}
    assert not changes.exists()
    capsys.readouterr()

    second = store("two", x="", y="", z="")
    merge([first, second], out, split("axc by d z", seed=7, test_share=0.001))
    expected = {"a": "train", "x": "train", "c": "train", "b": "test", "y": "test", "d": "train", "z": "train"}
    assert labels_in(out.parent) == expected
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: 1 test entries")]
    assert warning.endswith(f": c; see {changes}")
    assert changes.read_text() == "name,old_label,new_label,training_entry\nc,test,train,a\n"

    merge([second, first], out, split("axc bdy z"))
    assert labels_in(out.parent) == expected | {"b": "train", "y": "train"}
    assert changes.read_text().splitlines()[2:] == ["b,test,train,d", "y,test,train,d"]
    merge([second, first], out, split("a b c d x y z", new_split=True, test_share=0.999))
    assert set(labels_in(out.parent).values()) == {"test"}
    assert not changes.exists()


def test_tables_whose_labels_differ_from_those_there_are(store, split, tmp_path, capsys):
    out = tmp_path / "out" / "all.h5"
    first = store("one", a="train", b="test")
    merge([first], out, split("a b", test_share=0.999))
    assert labels_in(out.parent) == {"a": "test", "b": "test"}
    merge([first], out, split("a b"), keep_labels=True)
    assert labels_in(out.parent) == {"a": "test", "b": "test"}
    assert "1 labels of the merged tables differ" in capsys.readouterr().err
    merge([first], out, split("a b", new_split=True), keep_labels=True)
    assert labels_in(out.parent) == {"a": "train", "b": "test"}


@pytest.mark.parametrize(("choice", "taken"), [("keep-first", "one"), ("keep-last", "two")])
def test_entries_of_the_same_name(store, split, tmp_path, capsys, choice, taken):
    out = tmp_path / "out" / "all.h5"
    paths = [store("one", a="train", b="train"), store("two", b="test", c="test")]
    refused(lambda: merge(paths, out, split("a b c")), paths[1], paths[0], "duplicate entry b", "--on-duplicate")
    assert not out.parent.exists()
    merge(paths, out, split("a b c"), keep_labels=True, on_duplicate=choice)
    assert "note: entries in several stores" in capsys.readouterr().err
    assert labels_in(out.parent) == {"a": "train", "b": "train" if taken == "one" else "test", "c": "test"}
    for name, folder in (("a", "one"), ("b", taken), ("c", "two")):
        expected = FeatureStore(tmp_path / folder / "s.h5").read(name)
        for array, other in zip(FeatureStore(out).read(name), expected, strict=True):
            np.testing.assert_array_equal(array, other)


def test_a_rerun_leaves_the_store_unless_its_entries_change(store, split, tmp_path):
    out = tmp_path / "out" / "all.h5"
    paths = [store("one", a="train", b="train"), store("two", b="test", c="test")]

    def rewritten(clusters, choice="keep-first", **options):
        before = {path: path.stat().st_mtime_ns for path in out.parent.glob("*")}
        merge(paths, out, split(clusters, **options), on_duplicate=choice)
        return {path.name for path in out.parent.glob("*") if before.get(path) != path.stat().st_mtime_ns}

    assert rewritten("a b c") >= {"all.h5", "table.csv"}
    assert rewritten("a b c") == set()
    for clusters, options in (("ab c", {}), ("ab c", {"seed": 1}), ("ab c", {"test_share": 0.5, "new_split": True})):
        found = rewritten(clusters, **options)
        assert "table.csv" in found
        assert "all.h5" not in found
        assert rewritten(clusters, **options) == set()
    assert "all.h5" in rewritten("ab c", "keep-last")


def test_entries_outside_of_all_clusters_are_named(tmp_path, capsys):
    table = pd.DataFrame({"name": ["one", "two", "pair"], "modify_seq": ["ACD", "CDE", f"DEF{CHAIN_LINKER}EFG"]})
    table["group"] = "IDRome"
    path = tmp_path / "clusters.tsv"
    path.write_text("one\tone\none\tpair:1\n")
    Split(clusters=path).label(table, {})
    shown = capsys.readouterr().err
    assert f"1 of 3 entries are in no cluster of {path} (two)" in shown
    path.write_text("one\tone\none\tpair:1\ntwo\ttwo\n")
    Split(clusters=path).label(table, {})
    assert str(path) not in capsys.readouterr().err
