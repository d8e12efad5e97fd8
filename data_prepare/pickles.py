"""Untrusted pickles, read without running code.

A pickle is a program that calls what it names: here only containers and the builders of plain NumPy arrays below. A
dtype is rebuilt from its code and byte order, because NumPy trusts a pickled dtype that declares bytes to be addresses
of objects. A pickle can still waste time and memory, as any compressed file can.
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

from data_prepare.errors import reading, require, shown

TYPES: Final = (bool, bytearray, bytes, complex, dict, float, frozenset, int, list, set, slice, tuple)
CONTAINERS: Final[dict[str, Any]] = {
    **{f"{module}.{kind.__name__}": kind for module in ("builtins", "__builtin__") for kind in TYPES},
    "collections.OrderedDict": OrderedDict,
}
PLAIN_DTYPE: Final = re.compile(r"b1|[iufcOSU]\d{1,9}")  # numbers, strings and objects, which the pickle has as a list
MEMO_OPCODES: Final = ("PUT", "BINPUT", "LONG_BINPUT")


class _Dtype:
    """A pickled `numpy.dtype`."""

    def __init__(self, code: str) -> None:
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(state[1] if state[1] in "<>" else "=")


class _Array(np.ndarray):
    """A pickled array, created empty and filled by its state."""

    def __setstate__(self, state: Any) -> None:
        version, shape, standin, fortran, content = state
        if standin.dtype.hasobject and math.prod(shape) != len(content):
            raise ValueError(f"array of shape {shape} with {len(content)} objects")
        super().__setstate__((version, shape, standin.dtype, fortran, content))  # refuses bytes of another size


class _RestrictedUnpickler(pickle.Unpickler):
    def __init__(self, path: str | Path, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        named = f"{module}.{name}".replace("numpy._core.", "numpy.core.")  # since NumPy 2
        builders: dict[str, Any] = {  # bound methods, whose attributes a pickle cannot set
            "_codecs.encode": self.encode,
            "numpy.core.multiarray._reconstruct": self.reconstruct,
            "numpy.core.multiarray.scalar": self.scalar,
            "numpy.core.numeric._frombuffer": self.from_buffer,
            "numpy.dtype": self.dtype,
            "numpy.ndarray": "numpy.ndarray",  # an argument of `reconstruct`
        }
        allowed = CONTAINERS | builders
        require(
            named in allowed, f"{self.path}: names {shown(named)}, which could run code; convert it where you trust it"
        )
        return allowed[named]

    def encode(self, text: str, _: str) -> bytes:
        return text.encode("latin-1")  # bytes, as old protocols write them

    def dtype(self, code: str, *_: object) -> _Dtype:
        plain = PLAIN_DTYPE.fullmatch(code)
        require(
            plain,
            f"{self.path}: has an array of dtype {shown(code)}; convert it to arrays of numbers, strings or objects",
        )
        return _Dtype(code)

    def reconstruct(self, *_: object) -> _Array:
        return _Array(0)

    def from_buffer(self, content: bytes, standin: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
        array = _Array(0)
        array.__setstate__((1, shape, standin, order == "F", bytes(content)))
        return array

    def scalar(self, standin: _Dtype, content: bytes) -> object:
        return np.frombuffer(content, standin.dtype)[0]


def load_restricted(path: str | Path, content: bytes | None = None) -> object:
    """Object in a pickle of containers, strings, numbers and NumPy arrays; `content` is that of a file in an archive.

    InputError if the file is missing, damaged, or names any other class or function.
    """
    with reading(path, "a readable pickle"):
        content = Path(path).read_bytes() if content is None else content
        # the memo is a table as long as its largest index, which no pickle needs to exceed its length
        for opcode, index, _ in pickletools.genops(content):
            if opcode.name in MEMO_OPCODES and int(index or 0) > len(content):
                raise ValueError(f"memo of {index} entries")
        return _RestrictedUnpickler(path, content).load()
