"""The store: token space, what numbers become on the way in, crops, processes, versions."""

from __future__ import annotations

import multiprocessing
import pickle

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prepare.errors import InputError
from data_prepare.store import FeatureStore, StoreWriter, md_entry, nma_entry, to_token_space, token_rows


def random_entry(tokens, widths=(47, 10), seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.random((tokens, widths[0]), dtype=np.float32),
        rng.random((tokens, tokens, widths[1]), dtype=np.float32),
    )


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "s.h5"
    with StoreWriter(path) as writer:
        writer.add("a", *random_entry(300))
        writer.add("b-1.x", *random_entry(20, (3, 3), 1))
    return path


def test_token_rows_of_one_and_two_chains():
    assert token_rows([3]).tolist() == [1, 2, 3]
    assert token_rows([2, 3]).tolist() == [1, 2, 5, 6, 7]  # <cls> r r <eos> <cls> r r r <eos>
    for lengths in ([], [2, 0]):
        with pytest.raises(InputError, match="at least one residue"):
            token_rows(lengths)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_token_space_keeps_every_value(lengths):
    n = sum(lengths)
    residue, pair = random_entry(n)
    tokens, token_pairs = to_token_space(residue, pair, lengths)
    assert tokens.shape == (n + 2 * len(lengths), 47)
    rows = token_rows(lengths)
    np.testing.assert_array_equal(tokens[rows], residue)
    np.testing.assert_array_equal(token_pairs[np.ix_(rows, rows)], pair)
    special = np.setdiff1d(np.arange(len(tokens)), rows)
    assert (tokens[special] == -1).all()
    assert (token_pairs[special] == -1).all()
    assert (token_pairs[:, special] == -1).all()


def test_63_residues_have_65_tokens():
    residue, pair = md_entry(np.ones((63, 47)), np.ones((63, 63, 10)), [63])
    assert residue.shape == (65, 47)
    assert pair.shape == (65, 65, 10)


def test_md_entry_changes_frequencies_and_missing_angles_only():
    residue, pair = (array.astype(float) for array in random_entry(4))
    residue[0, 11:23] = np.nan  # chi1 of a glycine
    residue[0, 23:35] = np.nan  # phi of the first residue
    residue[3, 35:47] = np.nan  # psi of the last one
    pair[1, 2, 0] = 8.0
    pair[..., 9] = -0.5
    tokens, token_pairs = md_entry(residue, pair, [4])
    assert (tokens[1, 11:35] == 0).all()
    assert (tokens[4, 35:] == 0).all()
    np.testing.assert_allclose(tokens[2, :47], residue[1], rtol=1e-7)
    assert token_pairs[2, 3, 0] == 2.0  # cube root, one-sided
    np.testing.assert_allclose(token_pairs[3, 2, 0], np.cbrt(pair[2, 1, 0]), rtol=1e-6)
    assert token_pairs[3, 2, 9] == -0.5


def test_nma_entry():
    residue, pair = nma_entry(np.arange(6).reshape(3, 2), np.arange(12).reshape(3, 2, 2), [2])
    assert residue.shape == (4, 3)
    assert residue[1].tolist() == [0, 2, 4]
    assert pair[1, 2].tolist() == [1, 5, 9]


@pytest.mark.parametrize("column", [0, 1, 2, 5])
def test_other_nan_is_an_error(tmp_path, column):
    residue = np.ones((4, 47))
    residue[2, column] = np.nan
    with pytest.raises(InputError, match="entry x: features have NaN"), StoreWriter(tmp_path / "s.h5") as writer:
        writer.add("x", *md_entry(residue, np.ones((4, 4, 10)), [4]))
    assert list(tmp_path.iterdir()) == []  # nothing half-written


def test_round_trip_and_crops(store):
    residue, pair = random_entry(300)
    reader = FeatureStore(store)
    assert reader.names() == ["a", "b-1.x"]
    assert "a" in reader
    assert "c" not in reader
    assert reader.length("a") == 300
    for start, stop in ((0, None), (0, 256), (37, 293), (299, 300)):
        found = reader.read("a", start, stop)
        np.testing.assert_array_equal(found[0], residue[start:stop])
        np.testing.assert_array_equal(found[1], pair[start:stop, start:stop])
    assert reader.read("b-1.x")[1].shape == (20, 20, 3)
    with pytest.raises(InputError, match=r"s\.h5: no entry c"):
        reader.read("c")


def test_float16(tmp_path):
    residue, pair = random_entry(30)
    with StoreWriter(tmp_path / "s.h5", "float16") as writer:
        writer.add("a", residue, pair)
    found = FeatureStore(tmp_path / "s.h5").read("a")
    assert found[0].dtype == np.float32
    np.testing.assert_allclose(found[1], pair, rtol=1e-3)


def test_published_form_is_read_as_it_is(tmp_path):
    """Contiguous, uncompressed, without a format attribute."""
    residue, pair = random_entry(30)
    with h5py.File(tmp_path / "p.h5", "w") as file:
        file["a_res_feature"], file["a_pair_feature"] = residue, pair
    found = FeatureStore(tmp_path / "p.h5").read("a", 5, 9)
    np.testing.assert_array_equal(found[1], pair[5:9, 5:9])


def test_other_format_version(store):
    with h5py.File(store, "a") as file:
        file.attrs["seqdance_format"] = 99
    with pytest.raises(InputError, match=r"s\.h5: store format 99, this version reads 1"):
        FeatureStore(store).names()


def test_unreadable_and_missing(tmp_path):
    with pytest.raises(InputError, match="no such feature store"):
        FeatureStore(tmp_path / "none.h5").names()
    (tmp_path / "bad.h5").write_text("nothing")
    with pytest.raises(InputError, match=r"bad\.h5: not a readable HDF5 file"):
        FeatureStore(tmp_path / "bad.h5").names()


@pytest.mark.parametrize("name", ["", "x/y"])
def test_names(tmp_path, name):
    with pytest.raises(InputError, match="a name is not empty"), StoreWriter(tmp_path / "s.h5") as writer:
        writer.add(name, *random_entry(4))


def test_shapes_and_repeats_are_refused(tmp_path):
    residue, pair = random_entry(5)
    for bad in ((residue[:, :46], pair), (residue, pair[:4]), (residue[:4], pair)):
        with pytest.raises(InputError, match="entry x"), StoreWriter(tmp_path / "s.h5") as writer:
            writer.add("x", *bad)
    with StoreWriter(tmp_path / "s.h5") as writer:
        writer.add("x", residue, pair)
        with pytest.raises(InputError, match="there twice"):
            writer.add("x", residue, pair)


def _read_in_child(store, queue):
    queue.put(float(store.read("a")[0].sum()))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_open_it_themselves(store, method):
    reader = FeatureStore(store)
    expected = float(reader.read("a")[0].sum())  # open in the parent
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    children = [context.Process(target=_read_in_child, args=(reader, queue)) for _ in range(2)]
    for child in children:
        child.start()
    assert [queue.get(timeout=60) for _ in children] == [expected, expected]
    for child in children:
        child.join(60)
    assert float(reader.read("a")[0].sum()) == expected


def test_pickle_carries_the_path_only(store):
    reader = FeatureStore(store)
    reader.names()
    assert pickle.loads(pickle.dumps(reader)).length("a") == 300
