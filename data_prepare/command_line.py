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
BOX = re.compile(r"(?:[\s\u2500-\u257f]|-{5,})+")  # white space and the frames of tyro, also in ASCII
HELP = re.compile(r"^[\u2502 ] {9,}\S.*\n", re.MULTILINE)  # what options are for, below each
ENDS = re.compile(r"(?<=[A-Z\]}]) (?=--?\w)|(?<!\.) (?=For full|Unrecognized|Perhaps)")  # of options and parts
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

    told = io.StringIO()
    try:
        with redirect_stderr(told):
            return tyro.cli(config, args=args, **options)
    except InputError as error:
        option, _, problem = str(error).partition(": ")  # of a nested configuration: --length 0, not --short.length 0
        given = " ".join(sys.argv[1:] if args is None else args).replace("=", " ")
        whole = re.search(rf"(?<!\S)--\S+\.{re.escape(option.removeprefix('--'))}(?!\S)", given)
        exit_with(f"{whole[0]}: {problem}" if whole else error)
    except SystemExit as leaving:
        if leaving.code:
            exit_with(_one_line(told.getvalue()))
        raise


def _one_line(told: str) -> str:
    """Message of tyro without its frame, the help texts, and its first line, which the next one repeats."""
    text = BOX.sub(" ", HELP.sub("", told.strip().partition("\n")[2] or told)).strip()
    # a list such as `--mutations K27A, H102A` is two words for a shell
    text = re.sub(r"^\s*(Unrecognized options: [^-\s]\S*)", r"\1; put a list with spaces in quotes.", text)
    text = ENDS.sub("; ", text)
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
