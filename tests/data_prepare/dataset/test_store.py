"""The store: what is written is read, by crops and in several processes; copies and merges keep the bytes."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from stores import publish, random_entry, real_entry, stored_bytes, write_store

from data_prepare.dataset.check import check_store
from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.store_layout import BLOCK_BYTES, row_blocks
from data_prepare.dataset.store_writer import StoreWriter, merge_stores
from data_prepare.dataset.token_space import nma_entry
from data_prepare.properties import MD_PROPERTIES, NMA_PROPERTIES, RESIDUE_PROPERTIES, UNITS, entry_columns


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path / "s.h5", **{"a": random_entry(300), "b-1.x": random_entry(20, (3, 3), 1)})


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
    refused(lambda: reader.read("c"), store, "no entry c")


@pytest.mark.parametrize("problem", ["absent", "text", "version"])
def test_unreadable_stores(tmp_path, store, problem):
    path = {"absent": tmp_path / "none.h5", "text": tmp_path / "bad.h5", "version": store}[problem]
    if problem == "text":
        path.write_text("nothing")
    if problem == "version":
        with h5py.File(store, "a") as file:
            file.attrs["seqdance_format"] = 99
    reader = FeatureStore(path)
    for _ in range(2):  # again: a refused file is not taken as open
        refused(reader.names, path, *([99] if problem == "version" else []))


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        *[(name, lambda residue, pair: (residue, pair)) for name in ("x/y", "")],
        ("x", lambda residue, pair: (residue[:, :46], pair)),
        ("x", lambda residue, pair: (residue, pair[:4])),
        ("x", lambda residue, pair: (residue[:4], pair)),
        *[("x", lambda residue, pair, c=c: (np.where(np.arange(47) == c, np.nan, residue), pair)) for c in (0, 2, 5)],
        ("x", lambda residue, pair: (residue, np.where(np.arange(10) == 9, np.inf, pair))),
    ],
)
def test_entries_that_cannot_be_stored(tmp_path, name, spoil):
    refused(lambda: write_store(tmp_path / "s.h5", **{name: spoil(*random_entry(5))}), "entry", name)
    assert list(tmp_path.iterdir()) == []  # nothing half-written


def test_numbers_too_large_for_float16(tmp_path):
    entry = random_entry(5)
    entry[0][1, 2] = 1e5
    refused(lambda: write_store(tmp_path / "h.h5", "float16", a=entry), "entry a", "float16")
    write_store(tmp_path / "h.h5", a=entry)


def _read_in_child(store, queue):
    queue.put(float(store.read("a")[0].sum()))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_open_it_themselves(store, method):
    reader = FeatureStore(store)
    expected = float(reader.read("a")[0].sum())  # open in the parent
    assert pickle.loads(pickle.dumps(reader)).length("a") == 300
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_read_in_child, args=(reader, queue))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join(60)
    assert float(reader.read("a")[0].sum()) == expected


def test_a_crop_reads_its_chunks_only(tmp_path):
    """Chunks outside of the crop are overwritten with rubbish: reading them would fail."""
    path = write_store(tmp_path / "s.h5", a=random_entry(600))
    with h5py.File(path, "a") as file:
        pair = file["a_pair_feature"]
        assert pair.chunks == (64, 64, 10)
        starts = range(0, 600, 64)
        for place in [(i, j, 0) for i in starts for j in starts if not (128 <= i < 448 and 128 <= j < 448)]:
            pair.id.write_direct_chunk(place, b"rubbish")
    found = FeatureStore(path).read("a", 150, 406)
    np.testing.assert_array_equal(found[1], random_entry(600)[1][150:406, 150:406])
    refused(lambda: FeatureStore(path).read("a", 100, 356), path, "entry a")


def _spoil(path, target, spoil):
    """A copy of a store with another dataset `a_pair_feature`."""
    target.write_bytes(path.read_bytes())
    with h5py.File(target, "a") as file:
        del file["a_pair_feature"]
        spoil(file)
    return target


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.__setitem__("a_pair_feature", h5py.ExternalLink("s.h5", "a_pair_feature")),
        lambda file: file.__setitem__("a_pair_feature", h5py.ExternalLink("foreign.entries/b.h5", "a_pair_feature")),
        lambda file: file.__setitem__("a_pair_feature", h5py.ExternalLink("foreign.entries/a.h5", "b_pair_feature")),
        lambda file: file.__setitem__("a_pair_feature", h5py.SoftLink("/b_pair_feature")),
        lambda file: file.create_group("a_pair_feature"),
        lambda file: file.create_dataset("a_pair_feature", (9, 9, 10), "f4", external=[("raw", 0, 4000)]),
        lambda file: file.create_virtual_dataset("a_pair_feature", h5py.VirtualLayout((9, 9, 10), "f4")),
        lambda file: file.create_dataset("a_pair_feature", (10**5, 10**5, 10), "f4", chunks=(64, 64, 10)),
        lambda file: file.__setitem__("a_pair_feature", [["text"]]),
        lambda file: file.__setitem__("a_pair_feature", np.ones((8, 8, 10), np.float32)),
        lambda file: file.__setitem__("a_pair_feature", np.float32(1)),
    ],
    ids=[
        "external link",
        "of another entry",
        "of another array",
        "soft link",
        "group",
        "external",
        "virtual",
        "absurd size",
        "text",
        "shape",
        "number",
    ],
)
def test_foreign_arrays_are_refused(tmp_path, spoil):
    path = write_store(tmp_path / "s.h5", a=real_entry(7), b=real_entry(7))
    foreign = _spoil(path, tmp_path / "foreign.h5", spoil)
    store = FeatureStore(foreign)
    refused(lambda: store.read("a"), foreign, "entry a")
    refused(lambda: store.as_properties("a"), foreign, "entry a")
    refused(lambda: merge_stores([foreign], tmp_path / "merged.h5"), foreign, "entry a")
    store.read("b")
    (line,) = check_store(foreign)
    assert line.startswith("a: ")


@pytest.mark.parametrize("tokens", [3, 64, 200])
def test_entries_of_zeros_alone_are_read(tmp_path, tokens):
    """They are the smallest in the file for their size."""
    path = write_store(tmp_path / "s.h5", a=(np.zeros((tokens, 47)), np.zeros((tokens, tokens, 10))))
    assert not FeatureStore(path).read("a")[1].any()


def test_a_damaged_chunk_ends_a_merge_in_one_line(tmp_path):
    path = write_store(tmp_path / "s.h5", a=random_entry(20))
    with h5py.File(path, "a") as file:
        file["a_pair_feature"].id.write_direct_chunk((0, 0, 0), b"rubbish")
    refused(lambda: merge_stores([path], tmp_path / "half.h5", "float16"), path, "entry a")
    assert not (tmp_path / "half.h5").exists()


def test_an_entry_that_cannot_be_copied_is_named(tmp_path, monkeypatch):
    path = write_store(tmp_path / "s.h5", a=random_entry(20))

    def copy(*_, **__):
        raise RuntimeError("unable to copy object")

    monkeypatch.setattr(h5py.File, "copy", copy)
    refused(lambda: merge_stores([path], tmp_path / "merged.h5"), path, "entry a")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_correlation_of_minus_one_does_not_read_as_missing(tmp_path, dtype):
    residue, pair = nma_entry(np.ones((3, 2)), np.full((3, 2, 2), -0.99999), [2])
    pair[1, 2] = [-1, 0.5, -1]
    path = write_store(tmp_path / "s.h5", dtype, a=(residue, pair))
    found = FeatureStore(path).read("a")[1]
    assert (found[1:3, 1:3, 0] > -1).all()
    np.testing.assert_allclose(found, pair, atol=5e-4)
    assert (found[0] == -1).all()
    assert not any("read as missing" in line for line in check_store(path))


def test_attributes(tmp_path):
    given = {"modify_seq": "G" * 100_000, "version": 3, "x": 0.5}
    found = FeatureStore(write_store(tmp_path / "s.h5", attributes=given, a=real_entry())).attributes
    assert found == given
    assert [type(value) for value in found.values()] == [str, int, float]
    assert FeatureStore(write_store(tmp_path / "t.h5", a=real_entry())).attributes == {}


def test_merges_have_the_same_bytes_in_any_order(tmp_path):
    one = write_store(tmp_path / "1.h5", b=real_entry(150), d=real_entry(30, "nma"))
    two = write_store(tmp_path / "2.h5", c=real_entry(40, seed=1), a=real_entry(50, seed=2))
    merge_stores([one, two], tmp_path / "m.h5")
    merge_stores([two, one], tmp_path / "n.h5")
    assert (tmp_path / "m.h5").read_bytes() == (tmp_path / "n.h5").read_bytes()
    assert stored_bytes(tmp_path / "m.h5") == stored_bytes(one) | stored_bytes(two)
    assert FeatureStore(tmp_path / "m.h5").names() == list("abcd")


def test_copy_of_chosen_entries(tmp_path):
    path = write_store(tmp_path / "s.h5", a=real_entry(), b=real_entry(5), c=real_entry(6))
    with StoreWriter(tmp_path / "t.h5") as writer:
        writer.copy_from(path, ["c", "a"])
        refused(lambda: writer.copy_from(path, ["a"]), path, "entry a", tmp_path / "t.h5")
        refused(lambda: writer.copy_from(path, ["z"]), path, "entry z")
    assert FeatureStore(tmp_path / "t.h5").names() == ["a", "c"]


@pytest.mark.parametrize(("tokens", "number"), [(5, 1), (64, 1), (200, 1), (3000, 24)])
def test_blocks_of_rows_are_bounded(tokens, number):
    blocks = list(row_blocks((tokens, tokens, 10)))
    assert [row for block in blocks for row in range(block.start, block.stop)] == list(range(tokens))
    assert all(block.start % 64 == 0 for block in blocks)
    assert all((block.stop - block.start) * tokens * 40 <= BLOCK_BYTES for block in blocks)
    assert len(blocks) == number


@pytest.mark.parametrize("block_bytes", [1, 2**24])
def test_published_files_are_rewritten_as_ours(tmp_path, monkeypatch, block_bytes):
    monkeypatch.setattr("data_prepare.dataset.store_layout.BLOCK_BYTES", block_bytes)
    entries = {"a": real_entry(200), "b": real_entry(150, "nma")}
    merge_stores([publish(tmp_path / "p.h5", **entries)], tmp_path / "m.h5")
    assert stored_bytes(tmp_path / "m.h5") == stored_bytes(write_store(tmp_path / "s.h5", **entries))
    assert FeatureStore(tmp_path / "m.h5").version == 2
    np.testing.assert_array_equal(FeatureStore(tmp_path / "m.h5").read("a")[1], entries["a"][1])


@pytest.mark.parametrize(
    ("dtypes", "asked", "expected"),
    [
        (("float16", "float16"), None, "float16"),
        (("float16", "float32"), None, "float32"),
        (("float32", "float32"), "float16", "float16"),
        (("float16", "float16"), "float32", "float32"),
    ],
)
def test_dtype_of_a_merge(tmp_path, dtypes, asked, expected):
    paths = [write_store(tmp_path / f"{k}.h5", d, **{k: real_entry(20)}) for k, d in zip("ab", dtypes, strict=True)]
    merge_stores(paths, tmp_path / "m.h5", asked)
    with h5py.File(tmp_path / "m.h5") as file:
        found = {key: dataset.dtype for key, dataset in file.items() if not key.endswith("_interactions")}
        assert set(found.values()) == {np.dtype(expected)}
    found = FeatureStore(tmp_path / "m.h5").read("a")[1]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, real_entry(20)[1], rtol=1e-3, atol=1e-6)


def test_merges_that_are_refused(tmp_path):
    one, two = (write_store(tmp_path / f"{k}.h5", a=real_entry(5)) for k in "12")
    residue, pair = real_entry(5)
    spoiled = pair.copy()
    spoiled[2, 3, 1] = np.nan
    half = publish(tmp_path / "half.h5", a=(residue, pair))
    with h5py.File(half, "a") as file:
        del file["a_pair_feature"]
    for paths, named in (
        ([one, two], (one, two, "entry a")),
        ([publish(tmp_path / "p.h5", x=(residue, spoiled))], ("p.h5", "entry x")),
        ([publish(tmp_path / "q.h5", x=(residue, pair[:4]))], ("q.h5", "entry x")),
        ([half], (half, "entry a")),
        ([write_store(tmp_path / "e.h5")], ("e.h5", "no entries")),
    ):
        refused(lambda paths=paths: merge_stores(paths, tmp_path / "m.h5"), *named)
    assert not (tmp_path / "m.h5").exists()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    "missing", [["hbbb"], ["sasa_mean", "sasa_std", "chi", "vdw", "sb"], list(RESIDUE_PROPERTIES[:7]), ["corr"]]
)
def test_missing_properties(tmp_path, dtype, missing):
    """-1 in the file, NaN in what is read of tokens with features; crops, merges and other dtypes keep the list."""
    residue, pair = real_entry(90, chains=[40, 50])
    columns, channels = entry_columns(missing)
    expected_residue, expected_pair = residue.copy(), pair.copy()
    expected_residue[:, columns] = expected_pair[..., channels] = np.nan
    expected_residue[(residue == -1).all(axis=1)] = -1
    expected_pair[(pair == -1).all(axis=2)] = -1
    path = tmp_path / "s.h5"
    with StoreWriter(path, dtype) as writer:
        writer.add("a", expected_residue, expected_pair, {"missing_properties": json.dumps(missing)})
        writer.add("b", residue, pair)
    with h5py.File(path) as file:
        assert (file["a_res_feature"][:, columns] == -1).all()
        assert not np.isin(file["a_interactions"][2], channels).any()
        if "corr" in missing:
            assert set(np.unique(file["a_pair_feature"])) <= {-1, 0}
        assert json.loads(file["a_res_feature"].attrs["missing_properties"]) == list(missing)
    if len(columns) == 47:
        expected_residue[:] = -1
    merge_stores([path], tmp_path / "m.h5", "float32")
    for store in map(FeatureStore, (path, tmp_path / "m.h5")):
        assert (store.datasets("a")[1][:][..., channels] == -1).all()
        assert store.missing("a") == tuple(missing)
        assert store.missing("b") == ()
        assert store.as_properties("a")["token"].tolist() == store.as_properties("b")["token"].tolist()
        assert not store.as_properties("a").keys() & set(missing)
        np.testing.assert_allclose(store.read("b")[1], pair, rtol=1e-3, atol=1e-6)
        for start, stop in ((0, 92), (35, 60)):
            for found in (store.read("a", start, stop)[0], store.read_residue("a", start, stop)):
                np.testing.assert_allclose(found, expected_residue[start:stop], rtol=1e-3, atol=1e-6)
            found = store.read("a", start, stop)[1]
            np.testing.assert_allclose(found, expected_pair[start:stop, start:stop], rtol=1e-3, atol=1e-6)


def test_gzip_needs_no_plugin_and_says_so(tmp_path):
    entries = {"a": random_entry(90), "b": real_entry(20, "nma"), "c": real_entry(90)}
    usual = write_store(tmp_path / "s.h5", **entries)
    merge_stores([usual], tmp_path / "g.h5", compression="gzip")
    merge_stores([tmp_path / "g.h5"], tmp_path / "back.h5")
    assert stored_bytes(tmp_path / "back.h5") == stored_bytes(usual)
    code = "import h5py, sys; f = h5py.File(sys.argv[1]); print(f.attrs['read_with'].decode())"
    code += "; print(f['a_pair_feature'][:].sum())"
    for path, readable in ((usual, False), (tmp_path / "g.h5", True)):
        found = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
        assert (found.returncode == 0) == readable, found.stderr
        assert ("import hdf5plugin" in found.stdout) != readable
    for name in entries:
        for one, other in zip(FeatureStore(usual).read(name), FeatureStore(tmp_path / "g.h5").read(name), strict=True):
            np.testing.assert_array_equal(one, other)


def test_properties_by_name(tmp_path):
    residue, pair = real_entry(12, chains=[5, 7])
    residue[3], pair[3], pair[:, 3] = -1, -1, -1  # unresolved
    path = write_store(tmp_path / "s.h5", a=(residue, pair), b=real_entry(9, "nma"))
    found = FeatureStore(path).as_properties("a")
    token = [1, 2, 4, 5, *range(8, 15)]
    np.testing.assert_array_equal(found["token"], token)
    np.testing.assert_array_equal(found["rmsf"], residue[token, 2])
    np.testing.assert_allclose(found["rmsf_nor"], residue[token, 2] / residue[token, 2].max())
    np.testing.assert_allclose(found["sb"], pair[np.ix_(token, token)][..., 5].astype(float) ** 3, rtol=1e-5)
    assert np.isnan(found["phi"][0]).all()  # does not exist
    np.testing.assert_array_equal(found["ss"], residue[token, 3:11])
    assert set(found) == {"token", "rmsf", *MD_PROPERTIES}
    assert set(found) - {"token"} <= set(UNITS)
    assert set(FeatureStore(path).as_properties("b")) == {"token", *NMA_PROPERTIES}
    residue[:, 0] = np.where(residue[:, 3] == -1, -1, np.nan)
    with StoreWriter(path) as writer:
        writer.add("a", residue, pair, {"missing_properties": '["sasa_mean"]'})
    assert set(FeatureStore(path).as_properties("a")) == {"token", "rmsf", *MD_PROPERTIES} - {"sasa_mean"}


@st.composite
def md_entries(draw):
    """Sparse interactions, holes, a correlation of -1, missing properties; features (L, 47), (L, L, 10), names."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    tokens = draw(st.integers(1, 40))
    held = rng.random(tokens) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    pair = rng.uniform(-1, 1, (tokens, tokens, 10)).astype(np.float32)
    pair[..., :9] = np.where(
        rng.random((tokens, tokens, 9)) < draw(st.sampled_from([0.0, 0.03, 0.3])), pair[..., :9], 0
    )
    pair[..., :9] = np.abs(pair[..., :9])  # contacts are counted
    pair[rng.random((tokens, tokens)) < 0.05, 9] = draw(st.sampled_from([-1.0, -0.9999, 0.0]))
    residue = rng.random((tokens, 47), dtype=np.float32)
    missing = draw(st.lists(st.sampled_from(MD_PROPERTIES), unique=True, max_size=16))
    columns, channels = entry_columns(missing)
    residue[:, columns], pair[..., channels] = np.nan, np.nan
    residue[~held], pair[~held], pair[:, ~held] = -1, -1, -1
    return residue, pair, missing


@settings(max_examples=25, deadline=None)
@given(entry=md_entries(), dtype=st.sampled_from(["float32", "float16"]), start=st.integers(0, 20))
def test_any_entry_is_read_as_written(tmp_path_factory, entry, dtype, start):
    """Whole, by crops, and from a copy; the list of interactions is that of a loop over the array."""
    residue, pair, missing = entry
    path = tmp_path_factory.mktemp("store") / "s.h5"
    with StoreWriter(path, dtype) as writer:
        writer.add("a", residue, pair, {"missing_properties": json.dumps(missing)})
    merge_stores([path], path.with_name("copy.h5"))
    merge_stores([path], path.with_name("gzip.h5"), compression="gzip")
    exact = pair.astype(dtype)
    lowest = np.nextafter(exact.dtype.type(-1), exact.dtype.type(0))  # of a correlation that would read as missing
    exact[..., 9] = np.where((exact[..., 9] == -1) & (pair != -1).any(axis=-1), lowest, exact[..., 9])
    if set(missing) >= set(MD_PROPERTIES[7:]):
        exact[:] = -1
    own = slice(start, start + 15)
    for store in map(FeatureStore, (path, path.with_name("copy.h5"), path.with_name("gzip.h5"))):
        np.testing.assert_array_equal(store.read("a")[1], exact.astype(np.float32))
        np.testing.assert_array_equal(store.read("a", own.start, own.stop)[1], exact[own, own].astype(np.float32))
    with h5py.File(path) as file:
        if file["a_pair_feature"].shape[2] == 10:
            return
        held = ~(exact == -1).all(axis=-1)
        channels = [channel for channel in range(9) if channel not in entry_columns(missing)[1]]
        places = [place for place in np.ndindex(*exact.shape) if held[place[:2]] and place[2] in channels]
        expected = [(*place, exact[place]) for place in places if exact[place] != 0]
        assert file["a_interactions"][:].T.tolist() == [list(map(float, row)) for row in expected]


def test_a_store_without_many_interactions_is_read_by_plain_h5py(tmp_path):
    """Without hdf5plugin: the features are those of the documented form."""
    residue, pair = real_entry(90, chains=[40, 50])
    path = write_store(tmp_path / "s.h5", a=(residue, pair))
    code = """
import h5py, numpy, sys
file = h5py.File(sys.argv[1])
correlation = file["a_pair_feature"][..., 0]
pair = numpy.where(correlation[..., None] == -1, -1, numpy.zeros(10, "f4"))
pair[..., 9] = correlation
for first, second, channel, value in file["a_interactions"][:].T:
    pair[int(first), int(second), int(channel)] = value
numpy.savez(sys.argv[2], residue=file["a_res_feature"][:], pair=pair)
assert "hdf5plugin" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, path, tmp_path / "found.npz"], check=True)
    with np.load(tmp_path / "found.npz") as found:
        np.testing.assert_array_equal(found["residue"], residue)
        np.testing.assert_array_equal(found["pair"], pair)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("version", [None, 1])
def test_files_of_format_1_and_published_ones(tmp_path, dtype, version):
    """Written with plain h5py; a merge stores interactions as a list."""
    entries = {"a": real_entry(90, chains=[40, 50]), "b": real_entry(20, "nma")}
    path = tmp_path / "s.h5"
    with h5py.File(path, "w") as file:
        if version:
            file.attrs["seqdance_format"] = version
        for name, arrays in entries.items():
            for suffix, values in zip(("res", "pair"), arrays, strict=True):
                options = {"chunks": (*[16] * (values.ndim - 1), values.shape[-1]), "compression": "gzip"}
                file.create_dataset(
                    f"{name}_{suffix}_feature", data=values.astype(dtype), **(options if version else {})
                )
        file["b_res_feature"].attrs["missing_properties"] = '["nma_res1"]'
        file["b_res_feature"][:, 0] = -1
    merge_stores([path], tmp_path / "m.h5")
    assert (FeatureStore(path).version, FeatureStore(tmp_path / "m.h5").version) == (version, 2)
    for store in map(FeatureStore, (path, tmp_path / "m.h5")):
        assert check_store(store.path) == []
        for name, (residue, pair) in entries.items():
            expected = residue.astype(dtype).astype(np.float32)
            if name == "b":
                expected[(expected != -1).any(axis=1), 0] = np.nan
            np.testing.assert_array_equal(store.read(name)[0], expected)
            np.testing.assert_array_equal(store.read(name)[1], pair.astype(dtype).astype(np.float32))
            np.testing.assert_array_equal(store.read(name, 5, 17)[1], store.read(name)[1][5:17, 5:17])
    with h5py.File(tmp_path / "m.h5") as file:
        assert file["a_interactions"].shape == (4, np.count_nonzero(entries["a"][1][..., :9] > 0))


@pytest.mark.parametrize("spoil", [(0, -1), (0, 92), (1, -1), (1, 92), (2, 9), (2, np.nan), (0, 91)])
def test_a_damaged_list_of_interactions_is_refused(tmp_path, spoil):
    path = write_store(tmp_path / "s.h5", a=real_entry(90))
    with h5py.File(path, "a") as file:
        file["a_interactions"][spoil[0], 3] = spoil[1]
    refused(lambda: FeatureStore(path).read("a"), path, "entry a", "list of interactions")
    (line,) = check_store(path)
    assert line.startswith("a: ")


def test_a_linked_entry_has_its_interactions(tmp_path):
    entries = {"a": real_entry(90), "b": random_entry(9), "c": real_entry(20, "nma")}
    for name, entry in entries.items():
        (tmp_path / "s.entries").mkdir(exist_ok=True)
        write_store(tmp_path / "s.entries" / f"{name}.h5", **{name: entry})
    with StoreWriter(tmp_path / "s.h5") as writer:
        for name in entries:
            writer.link(name)
    merge_stores([tmp_path / "s.h5"], tmp_path / "m.h5")
    assert stored_bytes(tmp_path / "m.h5") == stored_bytes(write_store(tmp_path / "all.h5", **entries))
    for name, (_, pair) in entries.items():
        np.testing.assert_array_equal(FeatureStore(tmp_path / "s.h5").read(name)[1], pair)


def test_a_name_that_is_no_text_is_refused(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file[b"\xff\xfe_res_feature"] = np.zeros(3)
    refused(FeatureStore(tmp_path / "s.h5").names, tmp_path / "s.h5", "UTF-8")
