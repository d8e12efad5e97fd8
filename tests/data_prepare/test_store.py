"""The store: token space, what numbers become on the way in, crops, processes, versions."""

from __future__ import annotations

import multiprocessing
import pickle

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prepare.dataset.store import (
    BLOCK_BYTES,
    FeatureStore,
    StoreWriter,
    _row_blocks,
    check_store,
    md_entry,
    merge_stores,
    nma_entry,
    to_token_space,
    token_rows,
)
from data_prepare.dataset.table import write_table
from data_prepare.errors import InputError


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


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), st.data())
def test_unresolved_residues_are_missing(lengths, data):
    total = sum(lengths)
    places = np.array(sorted(data.draw(st.sets(st.integers(0, total - 1), min_size=1))))
    residue, pair = random_entry(len(places))
    tokens, token_pairs = to_token_space(residue, pair, lengths, places)
    assert tokens.shape == (total + 2 * len(lengths), 47)
    rows = token_rows(lengths)[places]
    np.testing.assert_array_equal(tokens[rows], residue)
    np.testing.assert_array_equal(token_pairs[np.ix_(rows, rows)], pair)
    missing = np.setdiff1d(np.arange(len(tokens)), rows)
    assert (tokens[missing] == -1).all()
    assert (token_pairs[missing] == -1).all()
    assert (token_pairs[:, missing] == -1).all()


def test_unresolved_residues_of_both_kinds():
    residue, pair = md_entry(np.ones((2, 47)), np.ones((2, 2, 10)), [1, 3], np.array([0, 2]))
    assert (residue[:, 0] != -1).tolist() == [False, True, False, False, False, True, False, False]
    residue, pair = nma_entry(np.ones((3, 1)), np.ones((3, 1, 1)), [3], np.array([1]))
    assert np.argwhere(pair[..., 0] != -1).tolist() == [[2, 2]]
    assert (residue[:, 0] != -1).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("places", [[1, 0], [0, 0], [-1, 0], [0, 3]])
def test_bad_places(places):
    with pytest.raises(InputError, match="do not ascend within the 3 residues"):
        to_token_space(*random_entry(2), [3], np.array(places))
    with pytest.raises(InputError, match="do not fit 1 residues"):
        to_token_space(*random_entry(2), [3], np.array([0]))
    with pytest.raises(InputError, match="do not ascend"):
        to_token_space(*random_entry(0), [3], np.array([], int))


def real_entry(residues=70, kind="md", seed=0, chains=None):
    """An entry that obeys all rules."""
    rng = np.random.default_rng(seed)
    chains = chains or [residues]
    shape = (residues, residues)
    correlation = np.corrcoef(rng.normal(size=(residues, 6)))
    if kind == "nma":
        return nma_entry(rng.random((3, residues)), np.stack([correlation] * 3), chains)
    residue = rng.random((residues, 47))
    for first, width in ((3, 8), (11, 12), (23, 12), (35, 12)):
        residue[:, first : first + width] /= residue[:, first : first + width].sum(axis=1, keepdims=True)
    residue[0, 23:35] = np.nan  # the first residue has no phi
    contacts = (rng.random((*shape, 9)) < 0.05) * rng.integers(1, 10, (*shape, 9)) / 10
    return md_entry(residue, np.concatenate([contacts, correlation[..., None]], axis=2), chains)


def write(path, dtype="float32", attributes=None, **entries):
    with StoreWriter(path, dtype, attributes or {}) as writer:
        for name, entry in entries.items():
            writer.add(name, *entry)
    return path


def publish(path, **entries):
    """A file of the published form."""
    with h5py.File(path, "w") as file:
        for name, (residue, pair) in entries.items():
            file[f"{name}_res_feature"], file[f"{name}_pair_feature"] = residue, pair
    return path


def stored_bytes(path, name):
    """The dataset as it lies in the file: dtype, chunks, filters, compressed chunks."""
    with h5py.File(path) as file:
        found = []
        for suffix in ("res", "pair"):
            dataset = file[f"{name}_{suffix}_feature"]
            plist = dataset.id.get_create_plist()
            places = [dataset.id.get_chunk_info(k).chunk_offset for k in range(dataset.id.get_num_chunks())]
            chunks = [dataset.id.read_direct_chunk(place) for place in places]
            found.append((dataset.dtype, dataset.chunks, plist.get_filter(0), places, chunks))
        return found


def test_a_crop_reads_its_chunks_only(tmp_path):
    """Chunks outside of the crop are overwritten with rubbish: reading them would fail."""
    path = write(tmp_path / "s.h5", a=random_entry(600))
    with h5py.File(path, "a") as file:
        pair = file["a_pair_feature"]
        assert pair.chunks == (64, 64, 10)
        spoiled = [
            (i, j, 0) for i in range(0, 600, 64) for j in range(0, 600, 64) if not (128 <= i < 448 and 128 <= j < 448)
        ]
        for place in spoiled:
            pair.id.write_direct_chunk(place, b"rubbish")
    found = FeatureStore(path).read("a", 150, 406)
    np.testing.assert_array_equal(found[1], random_entry(600)[1][150:406, 150:406])
    with pytest.raises(OSError):
        FeatureStore(path).read("a", 100, 356)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_correlation_of_minus_one_does_not_read_as_missing(tmp_path, dtype):
    residue, pair = nma_entry(np.ones((3, 2)), np.full((3, 2, 2), -0.99999), [2])
    pair[1, 2] = [-1, 0.5, -1]
    path = write(tmp_path / "s.h5", dtype, a=(residue, pair))
    found = FeatureStore(path).read("a")[1]
    assert (found[1:3, 1:3, 0] > -1).all()
    np.testing.assert_allclose(found, pair, atol=5e-4)
    assert (found[0] == -1).all()
    assert not any("read as missing" in line for line in check_store(path))


def test_too_large_for_float16(tmp_path):
    residue, pair = random_entry(4)
    residue[1, 2] = 1e5
    with pytest.raises(InputError, match=r"entry a: .*too large ones for float16"):
        write(tmp_path / "s.h5", "float16", a=(residue, pair))
    write(tmp_path / "s.h5", a=(residue, pair))


def test_attributes(tmp_path):
    path = write(tmp_path / "s.h5", attributes={"modify_seq": "G" * 100_000, "version": 3, "x": 0.5}, a=real_entry())
    attributes = FeatureStore(path).attributes
    assert attributes == {"modify_seq": "G" * 100_000, "version": 3, "x": 0.5}
    assert [type(value) for value in attributes.values()] == [str, int, float]
    assert FeatureStore(write(tmp_path / "t.h5", a=real_entry())).attributes == {}


def test_copies_are_the_same_bytes_in_any_order(tmp_path):
    one = write(tmp_path / "1.h5", b=real_entry(150), d=real_entry(30, "nma"))
    two = write(tmp_path / "2.h5", c=real_entry(40, seed=1), a=real_entry(50, seed=2))
    assert merge_stores([one, two], tmp_path / "m.h5") == 4
    assert merge_stores([two, one], tmp_path / "n.h5") == 4
    assert (tmp_path / "m.h5").read_bytes() == (tmp_path / "n.h5").read_bytes()
    direct = write(tmp_path / "d.h5", d=real_entry(30, "nma"), a=real_entry(50, seed=2), b=real_entry(150))
    for name in "abd":
        assert stored_bytes(tmp_path / "m.h5", name) == stored_bytes(direct, name)
    assert FeatureStore(tmp_path / "m.h5").names() == list("abcd")


def test_copy_of_chosen_entries(tmp_path):
    path = write(tmp_path / "s.h5", a=real_entry(), b=real_entry(5), c=real_entry(6))
    with StoreWriter(tmp_path / "t.h5") as writer:
        writer.copy_from(path, ["c", "a"])
        with pytest.raises(InputError, match=r"s\.h5: entry a is there twice: .*t\.h5 has it already"):
            writer.copy_from(path, ["a"])
        with pytest.raises(InputError, match=r"s\.h5: no entry z"):
            writer.copy_from(path, ["z"])
    assert FeatureStore(tmp_path / "t.h5").names() == ["a", "c"]


@pytest.mark.parametrize("tokens", [5, 64, 200, 3000])
def test_blocks_of_rows_are_bounded(tokens):
    blocks = list(_row_blocks((tokens, tokens, 10)))
    assert [row for block in blocks for row in range(block.start, block.stop)] == list(range(tokens))
    assert all(block.start % 64 == 0 for block in blocks)
    assert all((block.stop - block.start) * tokens * 40 <= BLOCK_BYTES for block in blocks)
    assert len(blocks) == {5: 1, 64: 1, 200: 1, 3000: 24}[tokens]


@pytest.mark.parametrize("block_bytes", [1, 2**24])
def test_published_files_are_rewritten_as_ours(tmp_path, monkeypatch, block_bytes):
    monkeypatch.setattr("data_prepare.dataset.store.BLOCK_BYTES", block_bytes)
    entry, other = real_entry(200), real_entry(150, "nma")
    merge_stores([publish(tmp_path / "p.h5", a=entry, b=other)], tmp_path / "m.h5")
    ours = write(tmp_path / "s.h5", a=entry, b=other)
    for name in "ab":
        assert stored_bytes(tmp_path / "m.h5", name) == stored_bytes(ours, name)
    assert FeatureStore(tmp_path / "m.h5").version == 1


@pytest.mark.parametrize(
    ("dtypes", "asked", "expected"),
    [
        (("float16", "float16"), None, "float16"),
        (("float16", "float32"), None, "float32"),
        (("float32", "float16"), None, "float32"),
        (("float32", "float32"), "float16", "float16"),
        (("float16", "float16"), "float32", "float32"),
    ],
)
def test_dtype_of_a_merge(tmp_path, dtypes, asked, expected):
    paths = [
        write(tmp_path / f"{name}.h5", dtype, **{name: real_entry(20)})
        for name, dtype in zip("ab", dtypes, strict=True)
    ]
    merge_stores(paths, tmp_path / "m.h5", asked)
    with h5py.File(tmp_path / "m.h5") as file:
        assert {dataset.dtype for dataset in file.values()} == {np.dtype(expected)}
    np.testing.assert_allclose(FeatureStore(tmp_path / "m.h5").read("a")[1], real_entry(20)[1], rtol=1e-3, atol=1e-6)


def test_merges_that_are_refused(tmp_path):
    one, two = (write(tmp_path / f"{k}.h5", a=real_entry(5)) for k in "12")
    with pytest.raises(InputError, match=r"entry a is in .*1\.h5 and in .*2\.h5"):
        merge_stores([one, two], tmp_path / "m.h5")
    bad = real_entry(5)
    bad[1][2, 3, 1] = np.nan
    with pytest.raises(InputError, match=r"p\.h5: entry x: features have NaN"):
        merge_stores([publish(tmp_path / "p.h5", x=bad)], tmp_path / "m.h5")
    with pytest.raises(InputError, match=r"p\.h5: entry x: .* do not fit"):
        merge_stores([publish(tmp_path / "p.h5", x=(bad[0], bad[1][:4]))], tmp_path / "m.h5")
    with h5py.File(one, "a") as file:
        del file["a_pair_feature"]
    with pytest.raises(InputError, match=r"1\.h5: no entry a"):
        merge_stores([one], tmp_path / "m.h5", "float32")
    with pytest.raises(InputError, match="no entries to merge"):
        merge_stores([write(tmp_path / "e.h5")], tmp_path / "m.h5")
    assert not (tmp_path / "m.h5").exists()


def table_of(path, **rows):
    write_table(
        path, pd.DataFrame([(n, *row) for n, row in rows.items()], columns=["name", "modify_seq", "source", "label"])
    )
    return path


@pytest.mark.parametrize("form", ["float32", "float16", "published"])
def test_check_of_sound_stores(tmp_path, monkeypatch, form):
    monkeypatch.setattr("data_prepare.dataset.store.BLOCK_BYTES", 1)  # several blocks
    linked = real_entry(70, chains=[30, 40])
    entries = {"a": linked, "b": real_entry(90, "nma")}
    path = publish(tmp_path / "s.h5", **entries) if form == "published" else write(tmp_path / "s.h5", form, **entries)
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
        ("md", put(residue=(5, 1), value=-1), "sasa_std is negative"),
        ("md", put(residue=(5, 2), value=-0.1), "rmsf_nor is negative"),
        ("md", put(residue=(5, 3), value=1.2), "ss is greater than 1"),
        ("md", put(residue=(5, slice(3, 11))), "shares of ss do not sum to 1 (1 times, first at 5)"),
        ("md", put(residue=(5, slice(3, 11)), value=0.1254), "shares of ss do not sum to 1"),
        ("md", put(residue=(5, 3), value=-0.1), "ss is negative"),
        ("md", put(residue=(5, 12), value=0.5), "shares of chi do not sum to 1"),
        ("md", put(residue=(5, 24), value=-0.01), "phi is negative"),
        ("md", put(residue=(5, slice(35, 47)), value=0.1), "shares of psi do not sum to 1"),
        ("md", put(pair=(65, 66, 3), value=-0.1), "hbss is negative (1 times, first at 65, 66)"),
        ("md", put(pair=(65, 66, 9), value=1.01), "corr is outside -1 to 1 (1 times, first at 65, 66)"),
        ("md", put(pair=(65, 3, 9), value=-0.99), "corr is not symmetric (2 times, first at 3, 65)"),
        ("md", put(pair=(65, 3, 0), value=-1), "pairs of two residues read as missing (1 times, first at 65, 3)"),
        ("md", put(residue=5, value=-1), "pairs with a missing token are not -1"),
        ("md", put(pair=5, value=-1), "pairs of two residues read as missing"),
        ("md", put(residue=0), "residue features of a special token are not -1 (1 times, first at 0)"),
        ("md", put(residue=-1), "residue features of a special token are not -1 (1 times, first at 71)"),
        ("md", put(pair=(0, 5, 2)), "pairs with a missing token are not -1 (1 times, first at 0, 5)"),
        ("md", all_missing, "all tokens are missing"),
        ("nma", put(residue=(5, 2), value=-0.1), "nma_res3 is negative"),
        ("nma", put(pair=(65, 66, 0), value=-1.01), "nma_pair1 is outside -1 to 1"),
        ("nma", put(pair=(66, 65, 2), value=0.99), "nma_pair3 is not symmetric (2 times, first at 65, 66)"),
    ],
)
def test_check_finds(tmp_path, monkeypatch, kind, spoil, problem):
    monkeypatch.setattr("data_prepare.dataset.store.BLOCK_BYTES", 1)
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
        "length: residue features (12, 47) and pair features (12, 5, 10) do not fit",
    ]
    assert check_store(path) == expected


def test_check_against_the_table(tmp_path):
    path = write(
        tmp_path / "s.h5", a=real_entry(10), b=real_entry(10), c=real_entry(10), d=real_entry(10), e=real_entry(10)
    )
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
        "d: 47 residue columns do not belong to the source Proteinflow",
    ]


def test_check_of_a_damaged_chunk(tmp_path):
    path = write(tmp_path / "s.h5", a=real_entry(10), b=real_entry(10))
    with h5py.File(path, "a") as file:
        file["a_pair_feature"].id.write_direct_chunk((0, 0, 0), b"rubbish")
    (line,) = check_store(path)
    assert line.startswith("a: cannot be read (")


def test_check_of_golden_features(tmp_path, shared):
    """Features of another program pass all checks."""
    folder = shared / "golden" / "normal_mode_analysis"
    nma = np.load(folder / "nma_residue_pair_features_2g3r.npz")
    n = nma["gnm_msf"].shape[1]
    path = write(tmp_path / "s.h5", a=nma_entry(nma["gnm_msf"], nma["anm_cor"], [n]))
    assert check_store(path) == []
