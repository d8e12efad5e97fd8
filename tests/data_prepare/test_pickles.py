"""Pickles from outside: arrays and containers come back, anything that could run is refused."""

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

from data_prepare.errors import InputError
from data_prepare.pickles import load_restricted

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
ARRAYS = [
    np.arange(24, dtype=np.float32).reshape(2, 4, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(5, dtype=">i4"),
    np.array([True, False]),
    np.array(["H1", "-", "L3"]),
    np.array([b"ab", b"c"]),
    np.array(1.5 + 2j),
    np.empty((0, 3), np.float16),
]


@pytest.fixture
def load(tmp_path):
    """Load what is in these bytes."""

    def load_bytes(content):
        path = tmp_path / "x.pickle"
        path.write_bytes(content)
        return load_restricted(path)

    return load_bytes


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: array.dtype.str)
def test_arrays(load, array, protocol):
    loaded = load(pickle.dumps({"a": array}, protocol))["a"]
    np.testing.assert_array_equal(loaded, array)
    assert loaded.dtype == array.dtype.newbyteorder("=")
    assert loaded.flags.f_contiguous == array.flags.f_contiguous
    assert type(np.asarray(loaded)) is np.ndarray


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_of_objects(load, protocol):
    array = np.array([["a", 1], [None, {"x": 2.5}]], object)
    assert load(pickle.dumps(array, protocol)).tolist() == array.tolist()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_containers(load, protocol):
    whole = {
        "seq": "MKV",
        "more": [1, 2.5, None, True, b"\x00\xff", bytearray(b"\xfe"), 1j, slice(1, 2), (1, (2,))],
        "sets": [{1, 2}, frozenset({3}), collections.OrderedDict(a=1)],
        "scalars": [np.float32(0.5), np.int64(7), np.bool_(True), np.str_("H2")],
    }
    loaded = load(pickle.dumps(whole, protocol))
    assert loaded == whole
    assert [type(value) for value in loaded["scalars"]] == [type(value) for value in whole["scalars"]]


def test_names_of_old_numpy(load):
    new = pickle.dumps(ARRAYS[0], 2)
    old = new.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert old != new
    np.testing.assert_array_equal(load(old), ARRAYS[0])


class Attack:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("attack", "named"),
    [
        (Attack(os.system, "touch attacked"), "posix.system"),
        (Attack(eval, "open('attacked', 'w')"), "eval"),
        (Attack(exec, "open('attacked', 'w')"), "exec"),
        (Attack(open, "attacked", "w"), "open"),
        (Attack(getattr, "x", "upper"), "getattr"),
        (Attack(np.save, "attacked.npy", [1]), "numpy.save"),
        (Attack(np.fromfile, "attacked"), "fromfile"),
        (Attack(np.memmap, "attacked", "u1", "w+", 0, (1,)), "memmap"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_attacks(load, attack, named, protocol, tmp_path, monkeypatch):
    """The message names what was named, also deep inside an array of objects; nothing has run."""
    monkeypatch.chdir(tmp_path)
    inner = np.empty(1, object)
    inner[0] = [attack]
    for whole in (attack, {"A": attack}, inner):
        with pytest.raises(InputError, match=rf"x\.pickle: names .*{named}"):
            load(pickle.dumps(whole, protocol))
    assert os.listdir(tmp_path) == ["x.pickle"]


def array_bytes(
    code: str, shape: tuple, content: object, state: tuple = (3, "<", None, None, None, -1, -1, 0)
) -> bytes:
    """Pickle of an array with a state of one's own."""

    class Name:
        def __init__(self, name):
            self.name = name

        def __reduce__(self):
            return self.name

    class Call:
        def __init__(self, function, arguments, state):
            self.parts = function, arguments, state

        def __reduce__(self):
            return self.parts

    from numpy._core.multiarray import _reconstruct

    dtype = Call(np.dtype, (code, False, True), state)
    return pickle.dumps(Call(_reconstruct, (np.ndarray, (0,), b"b"), (1, shape, dtype, False, content)), 2)


def test_states_that_do_not_fit(load):
    """Memory is never read as what it is not, and never asked for without content."""
    assert load(array_bytes("f4", (2,), bytes(8))).tolist() == [0, 0]
    for code, shape, content in (
        ("f4", (2,), bytes(7)),
        ("f4", (10**15,), bytes(8)),
        ("f4", (-2, -1), bytes(8)),
        ("O8", (1,), bytes(8)),  # eight bytes as the address of an object
        ("O8", (2,), [1]),
        ("f4", (1,), ["text"]),
        ("V8", (1,), bytes(8)),
        ("M8", (1,), bytes(8)),
        ("f4,O", (1,), bytes(12)),
    ):
        with pytest.raises(InputError, match=r"x\.pickle"):
            load(array_bytes(code, shape, content))
    # flags and fields of a state that claims to hold objects are not believed
    state = (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 63)
    assert load(array_bytes("S8", (1,), b"12345678", state)).tolist() == [b"12345678"]


def test_attributes_of_functions_last_for_one_file(load):
    """A pickle that sets attributes of what it names changes nothing for the next one."""
    content = pickle.dumps(ARRAYS[0], 2)
    poison = b"cnumpy._core.multiarray\nscalar\n(N}X\x0c\x00\x00\x00__defaults__(I1\nI2\ntstb."
    load(poison)
    np.testing.assert_array_equal(load(content), ARRAYS[0])
    with pytest.raises(InputError, match="missing 2 required"):
        load(b"cnumpy._core.multiarray\nscalar\n)R.")


def test_memo_is_bounded(load):
    with pytest.raises(InputError, match="memo of 4000000000 places"):
        load(b"\x80\x04Nr" + struct.pack("<I", 4_000_000_000) + b".")


def test_cut_short_and_missing(load, tmp_path):
    content = pickle.dumps({"A": ARRAYS[0]}, 4)
    for length in range(len(content)):
        with pytest.raises(InputError, match="not a readable pickle"):
            load(content[:length])
    with pytest.raises(InputError, match=r"none\.pickle: cannot be read \(No such file"):
        load_restricted(tmp_path / "none.pickle")
    with pytest.raises(InputError, match="cannot be read"):
        load_restricted(tmp_path)


GOOD = pickle.dumps({"A": {"crd": ARRAYS[0], "cdr": ARRAYS[4], "seq": "MK", "sets": {1, 2}}}, 4)


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    )
)
def test_noise(tmp_path_factory, noise):
    """Random bytes, and bytes changed in a good file: an object or an InputError, nothing else."""
    content = bytearray(GOOD)
    if isinstance(noise, bytes):
        content = bytearray(noise + b".")
    else:
        for place, value in noise:
            content[place] = value
    path = tmp_path_factory.getbasetemp() / "noise.pickle"
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        load_restricted(path)
