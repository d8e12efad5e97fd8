"""Invalid input ends in one line and exit code 2; `--debug` shows the traceback instead."""

from __future__ import annotations

import errno
import io
import os
import reprlib
import sys
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn, TypeVar

from data_prepare.extras import missing_extra
from data_prepare.signals import never_lost

T = TypeVar("T")
_FORMAT: Final = warnings.formatwarning
# numbers of an OSError that can be due to the content of a file: libraries give none
OF_CONTENT: Final = (None, errno.EINVAL, errno.EISDIR, errno.ENOTDIR)
OF_DISK: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # full, or broken
LONGEST_LINE: Final = 700  # characters of a message
LONGEST: Final = 200  # of one of a library
_VALUES: Final = reprlib.Repr()
_VALUES.maxlevel, _VALUES.maxstring, _VALUES.maxother, _VALUES.maxlong = 2, 60, 60, 60
INTERRUPTED: Final = 130  # exit code of a command that was interrupted with Ctrl-C, as shells give it


class InputError(Exception):
    """Input that cannot be used. The message is one line: the file, the entry, the problem and the remedy.

    A message that quotes very long names or values loses its middle.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_shortened(message, LONGEST_LINE))


def _shortened(text: str, longest: int) -> str:
    kept = (longest - 5) // 2  # at each end
    return text if len(text) <= longest else f"{text[:kept]} ... {text[-kept:]}"


def first_line(error: BaseException) -> str:
    """First line of the message of an error, shortened, or its type if the message is empty."""
    return _shortened((str(error).strip().splitlines() or [type(error).__name__])[0], LONGEST)


def shown(value: object) -> str:
    """A foreign value for a message: its `repr` without the middle of long strings, numbers and containers."""
    return _VALUES.repr(value)


def some_of(names: Collection[object], most: int = 5) -> str:
    """The first names for a message, with dots if there are more."""
    return ", ".join(map(str, list(names)[:most])) + (", ..." if len(names) > most else "")


class InputWarning(UserWarning):
    """Input that is used only in part: what was ignored and why."""


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning about input without the line of our source that gave it."""
    if issubclass(category, InputWarning):
        return f"warning: {message}\n"
    return _FORMAT(message, category, filename, lineno, line)


def require(holds: object, message: str) -> None:
    """Raise InputError unless a condition on the input holds."""
    if not holds:
        raise InputError(message)


@contextmanager
def reading(path: str | Path, what: str, remedy: str = "copy or download it again") -> Iterator[None]:
    """Turn any exception of a parser inside the block into an InputError that names the file and a remedy.

    `what` is the expected content with its article, such as "a PDB file". A broken package, or an error of the system
    such as a full disk, is named as such; a missing optional package is left to the border of the command.
    """
    try:
        yield
    except InputError:
        raise
    except ImportError as error:
        if missing_extra(error):
            raise
        raise InputError(f"{path}: cannot be read here ({first_line(error)}); fix that first") from error
    except MemoryError:
        raise InputError(f"{path}: asks for more memory than there is; if it is not that large, {remedy}") from None
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected {what}") from None
    except Exception as error:  # libraries raise many types
        problem = f"not {what}"
        if isinstance(error, OSError) and error.errno not in OF_CONTENT:
            problem, remedy = "cannot be read here", "fix that first, the file may be intact"
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"{path}: {problem} ({reason}); {remedy}") from error  # the traceback of --debug shows both


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn an error of a full or broken disk inside the block into an InputError that names the file."""
    try:
        yield
    except OSError as error:
        if error.errno not in OF_DISK:
            raise
        remedy = "free space, then run the same command again; finished files stay"
        raise InputError(f"{path}: cannot be written ({os.strerror(error.errno)}); {remedy}") from error


@contextmanager
def named(where: object) -> Iterator[None]:
    """Prefix an InputError with a file or entry that it does not name yet."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error) if str(where) in str(error) else f"{where}: {error}") from None


def exit_with(message: object) -> NoReturn:
    """Print one line to standard error and exit with code 2."""
    line = " ".join(str(message).split())
    print(f"error: {line}", file=sys.stderr)
    raise SystemExit(2)


def run_command(command: Callable[[], T], debug: bool = False) -> T:
    """Run `command`; wrong input or an error of the system is one line and exit code 2, with `debug` in a traceback.

    A missing optional package is one line that names its extra.
    An InputWarning is shown in one line, too. Ctrl-C ends without a traceback.
    """
    warnings.formatwarning = _format_warning
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names and paths on a terminal that lacks their letters
    try:
        with never_lost():
            return command()
    except BrokenPipeError:
        exit_unread()
    except KeyboardInterrupt:
        if debug:
            raise
        exit_interrupted()
    except ImportError as error:
        if debug or not (line := missing_extra(error)):
            raise
        exit_with(line)
    except MemoryError:
        if debug:
            raise
        exit_with("not enough memory; provide more, or give fewer or smaller inputs (--debug shows where)")
    except UnicodeEncodeError as error:  # a name or a path in a locale that lacks its letters
        if debug:
            raise
        exit_with(f"{shown(error.object)}: this locale ({error.encoding}) has no such letters; set PYTHONUTF8=1")
    except (InputError, OSError) as error:
        if debug:
            raise
        if isinstance(error, OSError):
            where = f"{error.filename}: " if error.filename is not None else ""
            line = f"{where}{error.strerror or first_line(error)}; check "
            exit_with(line + ("this path, its" if where else "paths, their") + " permissions and the free space")
        exit_with(error)


def exit_unread() -> NoReturn:
    """End quietly because the reader of our output has closed it (`| head`)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(0)


def exit_interrupted() -> NoReturn:
    """Exit as after Ctrl-C, without a traceback."""
    print("interrupted; run the same command again to resume", file=sys.stderr)
    raise SystemExit(INTERRUPTED) from None
