"""Command lines: validated options, and errors in one line.

A command is a pydantic dataclass that inherits from `Settings`, and a function of it:

    @dataclass(frozen=True, kw_only=True)
    class CheckOptions(Settings):
        store: Path
        debug: bool = False

    main = partial(run, CheckOptions, check)
"""

from __future__ import annotations

import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any, Self, TypeVar

from pydantic import ModelWrapValidatorHandler, ValidationError, model_validator

from data_prepare.errors import LONGEST, InputError, exit_with, run_command, shown

C = TypeVar("C")
FRAME = " \u2500\u2502\u256d\u256e\u2570\u256f"  # of a box of tyro
HELP = re.compile(r"^[\u2502 ] {9,}\S.*\n", re.MULTILINE)  # what options are for, below each
REASONS = re.compile(r"[;.] (?:Got errors|Argument helptext): .*(?=; For full)")  # types of Python; a help text
TYPES = re.compile(r"no type matching (?:\{None\}\|)?\W*(\w+).* from \[(.*)\]")
CHOICES = re.compile(r"(?<=Expected one of )\(([^)]*)\)")


class Settings:
    """Base of validated configurations: an invalid value raises `InputError` with one line."""

    @model_validator(mode="wrap")
    @classmethod
    def _in_one_line(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(values)
        except ValidationError as error:
            problem = error.errors()[0]
            name, message = ".".join(str(part) for part in problem["loc"]), problem["msg"].lower()
            if problem["type"] in ("missing", "unexpected_keyword_argument"):  # of a file; tyro checks the options
                raise InputError(f"{name}: {message} by {cls.__name__}; give a configuration of this kind") from None
            raise InputError(f"--{name.replace('_', '-')} {_value(problem['input'])}: {message}") from None


def _value(value: object) -> str:
    """A value of an option: words as they were typed, unless they are long."""
    return str(value) if isinstance(value, str | Path) and len(str(value)) < LONGEST else shown(value)


def parse(config: type[C], args: Sequence[str] | None = None, **options: Any) -> C:
    """Configuration (a dataclass) from a command line, by default that of this process; `options` are for `tyro.cli`.

    An unknown, missing or invalid option ends in one line and exit code 2.
    """
    import tyro

    told, given = io.StringIO(), list(sys.argv[1:] if args is None else args)
    try:
        with redirect_stderr(told), _unwrapped(given):
            return tyro.cli(config, args=args, **options)
    except InputError as error:
        option, _, problem = str(error).partition(": ")  # of a nested configuration: --length 0, not --short.length 0
        words = " ".join(given).replace("=", " ")
        whole = re.search(rf"(?<!\S)--\S+\.{re.escape(option.removeprefix('--'))}(?!\S)", words)
        exit_with(f"{whole[0]}: {problem}" if whole else error)
    except SystemExit as leaving:
        if leaving.code:
            exit_with(_one_line(told.getvalue(), given))
        raise


@contextmanager
def _unwrapped(args: Sequence[str]) -> Iterator[None]:
    """A terminal so wide that tyro breaks no line of an error, which it does inside paths; for help the real one."""
    before = os.environ.get("COLUMNS")
    if not {"-h", "--help"} & set(args):
        os.environ["COLUMNS"] = "1000000"
    try:
        yield
    finally:
        os.environ.pop("COLUMNS", None)
        os.environ.update({} if before is None else {"COLUMNS": before})


def _one_line(told: str, args: Sequence[str]) -> str:
    """Message of tyro without its frame, the help texts, and its first line, which the next one repeats."""
    lines = [line.strip(FRAME) for line in HELP.sub("", told.strip().partition("\n")[2] or told).splitlines()]
    text = re.sub(r"(?<=[:.]); ", " ", "; ".join(line for line in lines if line.strip("-")))  # rules in ASCII are of -
    if any(word.endswith(",") or word.startswith(",") for word in args):  # `--mutations K27A, H102A` is three words
        text = re.sub(r"(Unrecognized options: [^-].*?)(?=; )", r"\1; put a list with spaces in quotes", text)
    text = TYPES.sub(r"expected \1, not \2", REASONS.sub("", text))
    return CHOICES.sub(lambda found: ", ".join(sorted({*re.findall(r"'(.*?)'", found[1])} - {"None"})), text)


def run(
    config: type[C], action: Callable[[C], Iterable[object] | None], args: Sequence[str] | None = None, **options: Any
) -> None:
    """Parse the options of a command, run it, and print each item that it returns, such as a path, on a line.

    No other run may write the same `output` (or `out`) meanwhile.
    """
    chosen = parse(config, args, **options)
    output = getattr(chosen, "output", None) or getattr(chosen, "out", None)
    run_alone(lambda: action(chosen), output, getattr(chosen, "debug", False))


def run_alone(action: Callable[[], Iterable[object] | None], output: Path | None, debug: bool) -> None:
    """Run an action and print what it returns, as the only run that writes `output`; after SIGTERM it tidies up."""

    def work() -> None:
        from data_prepare.resume import sole_run  # slow to import

        with nullcontext() if output is None else sole_run(output):
            for line in action() or ():  # a generator works inside this loop
                print(line)

    with _terminable():
        run_command(work, debug)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM raises SystemExit, so that temporary files are removed."""
    ours = current_thread() is main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
