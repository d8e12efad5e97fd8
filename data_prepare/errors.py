"""Wrong input ends in one clear line and exit code 2; `--debug` shows the traceback instead."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TypeVar

T = TypeVar("T")


class InputError(Exception):
    """Input that cannot be used. The message is one line: the file, the entry, what is wrong and the remedy."""


def first_line(error: BaseException) -> str:
    """First line of the text of an error, or its kind if it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class InputWarning(UserWarning):
    """Input that is used, but not quite as it stands: what was set aside and why."""


def require(holds: object, message: str) -> None:
    """Raise InputError with this message unless a condition on the input holds."""
    if not holds:
        raise InputError(message)


@contextmanager
def reading(path: str | Path, what: str, remedy: str = "copy or download it again") -> Iterator[None]:
    """Turn whatever a parser raises on a missing or damaged file into one line that names the file and a remedy.

    Parameters
    ----------
    path
        The file that is read inside the block.
    what
        What it should be, with its article: "a PDB file".
    remedy
        What the user can do.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected {what}") from None
    except Exception as error:  # every library raises its own kinds
        raise InputError(f"{path}: not {what} ({type(error).__name__}: {first_line(error)}); {remedy}") from None


@contextmanager
def named(where: object) -> Iterator[None]:
    """Put a file or entry in front of the message of an InputError that does not name it."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error) if str(where) in str(error) else f"{where}: {error}") from None


def exit_with(message: object) -> NoReturn:
    """Print one line to standard error and leave with exit code 2."""
    line = " ".join(str(message).split())
    print(f"error: {line}", file=sys.stderr)
    raise SystemExit(2)


def run_command(command: Callable[[], T], debug: bool = False) -> T:
    """Run `command`, turning `InputError` and missing files into one line and exit code 2.

    Parameters
    ----------
    command
        What to run, without arguments.
    debug
        Let the exception through, so that Python shows its traceback.
    """
    try:
        return command()
    except BrokenPipeError:  # the reader of our output has left (`| head`): that is no error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except (InputError, OSError) as error:
        if debug:
            raise
        exit_with(error)
