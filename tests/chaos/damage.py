"""Damaged copies of a file: bytes, blocks, numbers of a text, members of a zip archive, the content of a gzip file."""

from __future__ import annotations

import gzip
import io
import random
import re
import zipfile
from collections.abc import Callable

NUMBER = re.compile(rb"\d+(?:\.\d+)?")
ODD = (b"9" * 400, b"1e400", b"-1", b"1000000000", b"1000000000000", b"nan", b"", b"0", b'"x"', b"null", b"[[]]", b"{}")
HEADS = (b"\x80\x02", b"\x93NUMPY\x01\x00", b"PK\x03\x04", b"\x1f\x8b\x08\x00", b"\x89HDF\r\n\x1a\n", b"\xff\xfe", b"")


def damaged(content: bytes, choose: random.Random) -> bytes:
    """A damaged copy of the content of a file."""
    if content[:4] == b"PK\x03\x04" and choose.random() < 0.5:
        return _inside_zip(content, choose)
    if content[:2] == b"\x1f\x8b" and choose.random() < 0.5:
        return gzip.compress(damaged(gzip.decompress(content), choose), mtime=0)
    for _ in range(choose.choice((1, 1, 1, 2, 5))):
        content = choose.choice(DAMAGES)(content, choose)
    return content


def _inside_zip(content: bytes, choose: random.Random) -> bytes:
    """The archive with one damaged member, and a valid checksum of it."""
    copy = io.BytesIO()
    old = zipfile.ZipFile(io.BytesIO(content))
    with zipfile.ZipFile(copy, "w", old.infolist()[0].compress_type) as new:
        chosen = choose.choice(old.namelist())
        for name in old.namelist():
            inside = old.read(name)
            new.writestr(name, damaged(inside, choose) if name == chosen else inside)
    return copy.getvalue()


def _block(content: bytes, choose: random.Random) -> tuple[int, int]:
    start, end = sorted(choose.randrange(len(content) + 1) for _ in range(2))
    return start, min(end, start + choose.choice((1, 8, 64, 4096)))


def _flip_bits(content: bytes, choose: random.Random) -> bytes:
    changed = bytearray(content)
    reach = choose.choice((64, 512, len(content)))  # headers are the interesting part
    for _ in range(choose.choice((1, 4, 32)) if content else 0):
        changed[choose.randrange(min(reach, len(content)))] ^= 1 << choose.randrange(8)
    return bytes(changed)


def _cut(content: bytes, choose: random.Random) -> bytes:
    return content[: choose.randrange(len(content) + 1)]


def _swap(content: bytes, choose: random.Random) -> bytes:
    a, b, c = sorted(choose.randrange(len(content) + 1) for _ in range(3))
    return content[:a] + content[b:c] + content[a:b] + content[c:]


def _overwrite(content: bytes, choose: random.Random) -> bytes:
    start, end = _block(content, choose)
    return content[:start] + choose.choice((b"\x00", b"\xff", b"0", b"\n", b" ")) * (end - start) + content[end:]


def _noise(content: bytes, choose: random.Random) -> bytes:
    start, end = _block(content, choose)
    return content[:start] + choose.randbytes(end - start) + content[end:]


def _repeat(content: bytes, choose: random.Random) -> bytes:
    start, end = _block(content, choose)
    return content[:start] + content[start:end] * choose.choice((2, 100)) + content[end:]


def _foreign(content: bytes, choose: random.Random) -> bytes:
    return choose.choice(HEADS) + choose.randbytes(choose.choice((0, 16, 2000)))


def _number(content: bytes, choose: random.Random) -> bytes:
    """Another number in a text, or an odd value in its place."""
    numbers = list(NUMBER.finditer(content[:100_000]))
    if not numbers:
        return _flip_bits(content, choose)
    found = choose.choice(numbers)
    return content[: found.start()] + choose.choice(ODD) + content[found.end() :]


DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip_bits,
    _flip_bits,
    _cut,
    _swap,
    _overwrite,
    _noise,
    _repeat,
    _foreign,
    _number,
    _number,
)
