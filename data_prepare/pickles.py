"""Pickles from outside, read without running what they name.

A pickle is a program: it calls what it names. Here it can name containers, and stand-ins for the few functions of NumPy
that build arrays. The stand-ins check what they are given, because NumPy's own believe a dtype that claims to hold
other things than its bytes. A file can still waste time and memory, as any compressed one can.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

import numpy as np

from data_prepare.errors import InputError

CONTAINERS: Final = (bool, complex, dict, float, frozenset, int, list, set, slice, tuple)
PLAIN_DTYPE: Final = re.compile(r"b1|[iufcOSU]\d{1,9}")  # no structures, no dates
MEMO_OPCODES: Final = ("PUT", "BINPUT", "LONG_BINPUT")


class _Dtype:
    """Stand-in for `numpy.dtype`: takes the code and the byte order, nothing else."""

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        if not PLAIN_DTYPE.fullmatch(code):
            raise InputError(f"has an array of dtype {code}; only numbers, strings and objects are read")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class PickledArray(np.ndarray):
    """Array of a pickle; `numpy.asarray` makes a plain one of it."""

    def __setstate__(self, state: Any) -> None:
        """Take shape and content, if they fit together."""
        _, shape, standin, fortran, content = state
        dtype = _checked(standin)
        length = math.prod(shape) * (1 if dtype.hasobject else dtype.itemsize)
        if min(shape, default=0) < 0 or type(content) is not (list if dtype.hasobject else bytes):
            raise ValueError("an array whose content is not of its dtype")
        if length != len(content):
            raise ValueError(f"an array of shape {shape} with {len(content)} bytes or items")
        whole: Any = (1, shape, dtype, bool(fortran), content)
        super().__setstate__(whole)


def _checked(standin: object) -> np.dtype:
    if not isinstance(standin, _Dtype):
        raise TypeError("an array without a dtype")
    return standin.dtype


def _admitted() -> dict[tuple[str, str], object]:
    """What a pickle may name, by module and name; made anew for each file, which can set attributes of functions."""

    def encode(text: str, encoding: str) -> bytes:  # how old protocols write bytes
        if encoding not in ("latin1", "latin-1"):
            raise ValueError(f"bytes in the encoding {encoding}")
        return text.encode("latin-1")

    def empty_bytes() -> bytes:
        return b""

    def byte_array(content: bytes | str = b"", encoding: str = "latin-1") -> bytearray:
        return bytearray(encode(content, encoding) if isinstance(content, str) else memoryview(content))

    def reconstruct(*_: object) -> PickledArray:  # the state that follows has the shape
        return PickledArray((0,))

    def from_buffer(buffer: bytes | bytearray, standin: _Dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
        array = PickledArray((0,))
        array.__setstate__((1, shape, standin, order == "F", bytes(buffer)))
        return array

    def scalar(standin: _Dtype, content: bytes) -> object:
        array = PickledArray((0,))
        array.__setstate__((1, (), standin, False, content))
        return array[()]

    admitted: dict[tuple[str, str], object] = {
        (module, kind.__name__): kind for module in ("builtins", "__builtin__") for kind in CONTAINERS
    }
    admitted |= {(module, "bytearray"): byte_array for module in ("builtins", "__builtin__")}
    admitted |= {("__builtin__", "bytes"): empty_bytes}
    admitted |= {("collections", "OrderedDict"): OrderedDict, ("_codecs", "encode"): encode}
    admitted |= {("numpy", "dtype"): _Dtype, ("numpy", "ndarray"): "numpy.ndarray"}  # the latter only as an argument
    for core in ("numpy.core", "numpy._core"):  # before and since NumPy 2
        admitted |= {
            (f"{core}.multiarray", "_reconstruct"): reconstruct,
            (f"{core}.multiarray", "scalar"): scalar,
            (f"{core}.numeric", "_frombuffer"): from_buffer,
        }
    return admitted


class _RestrictedUnpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._admitted = _admitted()

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._admitted[module, name]
        except KeyError:
            raise InputError(
                f"names {module}.{name}; only containers and NumPy arrays are read, "
                "because a pickle can run any code: convert it to another form where you trust it"
            ) from None


def load_restricted(path: str | Path) -> object:
    """Object of a pickle that holds containers, texts, numbers and NumPy arrays.

    Parameters
    ----------
    path
        Pickle of any protocol.

    Returns
    -------
    The object; its arrays are `PickledArray`.

    Raises
    ------
    InputError
        If the file is missing, cut short or no pickle, or names any other class or function.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        # a place in the memo is an index of a table that is made as long: no file needs more places than it has bytes
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name in MEMO_OPCODES and int(argument or 0) > len(content):
                raise ValueError(f"memo of {argument} places")
        return _RestrictedUnpickler(io.BytesIO(content)).load()
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:  # opcodes out of place raise whatever they run into
        raise InputError(f"{path}: not a readable pickle ({type(error).__name__}: {error}); copy it again") from None
