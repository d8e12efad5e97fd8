"""What all commands share: validated options, and errors in one line.

A command is a pydantic dataclass that inherits from `Settings`, and a function that takes it:

    @dataclass(frozen=True, kw_only=True)
    class CheckOptions(Settings):
        store: Path
        debug: bool = False

    def main(args=None):
        run(CheckOptions, check, args)
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stderr
from typing import Any, Self, TypeVar

from pydantic import ModelWrapValidatorHandler, ValidationError, model_validator

from data_prepare.errors import InputError, exit_with, run_command

C = TypeVar("C")
BOX = re.compile(r"[\s\u2500-\u257f]+")  # white space and the frames that tyro draws


class Settings:
    """Base of validated configurations: a value that does not fit its field raises `InputError` with one line."""

    @model_validator(mode="wrap")
    @classmethod
    def _in_one_line(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(values)
        except ValidationError as error:
            problem = error.errors()[0]
            option = ".".join(str(part) for part in problem["loc"]).replace("_", "-")
            raise InputError(f"--{option} {problem['input']}: {problem['msg'].lower()}") from None


def parse(config: type[C], args: Sequence[str] | None = None, **options: Any) -> C:
    """Configuration from a command line; an unknown, missing or wrong option is one line and exit code 2.

    Parameters
    ----------
    config
        A dataclass, usually of pydantic with `Settings` as its base.
    args
        Default: those of this process.
    options
        For `tyro.cli`.
    """
    import tyro

    shown = io.StringIO()
    try:
        with redirect_stderr(shown):
            return tyro.cli(config, args=args, **options)
    except InputError as error:
        exit_with(error)
    except SystemExit as leaving:
        if leaving.code:
            exit_with(BOX.sub(" ", shown.getvalue()))
        raise


def run(
    config: type[C], action: Callable[[C], Iterable[object] | None], args: Sequence[str] | None = None, **options: Any
) -> None:
    """Parse the options of a command, run it, and print what it returns, such as the paths it has written, in lines."""
    chosen = parse(config, args, **options)

    def work() -> None:
        for line in action(chosen) or ():  # a generator works inside this loop
            print(line)

    run_command(work, getattr(chosen, "debug", False))
