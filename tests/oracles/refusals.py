"""Checks of errors: one line that names file, entry or option; exit code 2 from a command."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from data_prepare.errors import InputError


def _check(line: str, named: tuple[object, ...]) -> None:
    assert "\n" not in line.strip(), f"more than one line: {line!r}"
    for name in named:
        assert str(name) in line, f"{name} is not named in {line!r}"


def refused(action: Callable[[], object], *named: object) -> str:
    """Run `action`, which must raise InputError with one line that contains each of `named`; returns the line."""
    with pytest.raises(InputError) as caught:
        action()
    line = str(caught.value)
    _check(line, named)
    return line


def command_refused(main: Callable[[list[str]], object], args: list, capsys: pytest.CaptureFixture, *named) -> str:
    """Run a command in this process; it must exit with code 2 and one line on standard error that starts with `error:`.

    Lines of the program's notes before it are allowed.
    """
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in args])
    assert caught.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert errors == lines[-1:], f"not one error line at the end: {lines}"
    _check(errors[0], named)
    return errors[0]
