"""Untrusted pickles: arrays and containers are read, anything that could run code is refused."""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy._core.multiarray import _reconstruct
from refusals import refused

from data_prepare.errors import InputError
from data_prepare.pickles import load_restricted

ARRAYS = [
    np.arange(24, dtype=np.float32).reshape(2, 4, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(5, dtype=">i4"),
    np.array([True, False]),
    np.array(["H1", "-", "L3"]),
    np.array([b"ab", b"c"]),
    np.array(1.5 + 2j),
    np.empty((0, 3), np.float16),
    np.array([["H1", 1], [None, {"x": 2.5}]], object),
    np.empty((2, 0), object),
]
OTHERS = {
    "more": [1, 2.5, None, True, b"\x00\xff", bytearray(b"\xfe"), 1j, slice(1, 2), (1, (2,)), "MKV"],
    "sets": [{1, 2}, frozenset({3}), collections.OrderedDict(a=1)],
    "scalars": [np.float32(0.5), np.int64(7), np.bool_(True), np.str_("H2")],
}


@pytest.fixture
def load(tmp_path):

    def load_bytes(content):
        (tmp_path / "x.pickle").write_bytes(content)
        return load_restricted(tmp_path / "x.pickle")

    return load_bytes


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_objects(load, protocol):
    found = load(pickle.dumps(OTHERS, protocol))
    assert found == OTHERS
    assert [type(value) for value in found["scalars"]] == [type(value) for value in OTHERS["scalars"]]
    for array in ARRAYS:
        content = pickle.dumps({"a": array}, protocol)
        # NumPy 1 has another name; later protocols write the length of a name
        old = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray") if protocol < 4 else content
        for loaded in (load(content)["a"], load(old)["a"]):
            np.testing.assert_array_equal(loaded, array)
            assert loaded.dtype == array.dtype.newbyteorder("=")
            assert loaded.flags.f_contiguous == array.flags.f_contiguous


class Call:
    """Pickled as a call of a function, with a state if one is given."""

    def __init__(self, function, *arguments, state=None):
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.parts


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("attack", "named"),
    [
        (Call(os.system, "touch attacked"), "posix.system"),
        (Call(eval, "open('attacked', 'w')"), "eval"),
        (Call(getattr, "x", "upper"), "getattr"),
        (Call(np.save, "attacked.npy", [1]), "numpy.save"),
        (Call(np.memmap, "attacked", "u1", "w+", 0, (1,)), "memmap"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_attacks(load, attack, named, protocol, tmp_path, monkeypatch):
    """The message names the function, also deep inside containers; nothing runs."""
    monkeypatch.chdir(tmp_path)
    for whole in (attack, {"A": [attack]}):
        refused(lambda whole=whole: load(pickle.dumps(whole, protocol)), "x.pickle", named)
    assert os.listdir(tmp_path) == ["x.pickle"]


def array_bytes(code, shape, content, state=(3, "<", None, None, None, -1, -1, 0)):
    """Pickle of an array with an arbitrary state."""
    dtype = Call(np.dtype, code, False, True, state=state)
    return pickle.dumps(Call(_reconstruct, np.ndarray, (0,), b"b", state=(1, shape, dtype, False, content)), 2)


GOOD = pickle.dumps({"A": {"crd": ARRAYS[0], "cdr": ARRAYS[4], "seq": "MK", "sets": {1, 2}}}, 4)
SCALAR = b"cnumpy._core.multiarray\nscalar\n"


@pytest.mark.parametrize(
    "content",
    [
        array_bytes("f4", (2,), bytes(7)),
        array_bytes("f4", (10**15,), bytes(8)),
        array_bytes("f4", (-2, -1), bytes(8)),
        array_bytes("f4", (1,), ["text"]),
        array_bytes("O8", (1,), bytes(8)),  # eight bytes as the address of an object
        array_bytes("O8", (8,), bytes(8)),
        array_bytes("O8", (2,), [1]),
        array_bytes("O8", (-1, -1), [1]),
        array_bytes("V8", (1,), bytes(8)),
        array_bytes("M8", (1,), bytes(8)),
        array_bytes("f4,O", (1,), bytes(12)),
        SCALAR + b"(N}X\x0c\x00\x00\x00__defaults__(I1\nI2\ntstb.",  # sets an attribute of what it names
        pickle.dumps(Call(bytearray, 10**15)),
        *(GOOD[:length] for length in range(0, len(GOOD), 7)),
    ],
)
def test_damaged(load, content):
    """Memory is never read as what it is not."""
    refused(lambda: load(content), "x.pickle")


def test_the_memo_is_bounded(load):
    """Five bytes could demand 64 GB."""
    refused(lambda: load(b"\x80\x04Nr" + struct.pack("<I", 4_000_000_000) + b"."), "x.pickle", "memo of 4000000000")


def test_states_that_lie(load):
    """Fields and flags of a dtype are ignored."""
    assert load(array_bytes("f4", (2,), bytes(8))).tolist() == [0, 0]
    state = (3, "|", None, ("a",), {"a": ("O8", 0)}, 8, 1, 63)  # declares an object
    assert load(array_bytes("S8", (1,), b"12345678", state)).tolist() == [b"12345678"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=60))
def test_noise(tmp_path_factory, noise):
    """A good file with changed bytes: an object or an InputError."""
    content = bytearray(GOOD)
    for index, value in noise:
        content[index] = value
    path = tmp_path_factory.getbasetemp() / "noise.pickle"
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        load_restricted(path)
