"""What all commands share: validated options, errors in one line, resuming by parts."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest
from pydantic import Field
from pydantic.dataclasses import dataclass
from refusals import command_refused, refused

from data_prepare import resume
from data_prepare.command_line import Settings, run
from data_prepare.errors import InputError, InputWarning, named, reading, require
from data_prepare.resume import Results, digest, sample_digest, sole_run


@dataclass(frozen=True, kw_only=True)
class Options(Settings):
    path: Path
    """A file."""
    number: Annotated[int, Field(ge=1)] = 2
    """A number."""
    dtype: Literal["float32", "float16"] = "float32"
    """A choice."""
    source: Literal["c", "a", "b"] | None = None
    """Another choice."""
    numbers: Annotated[tuple[int, ...], Field(min_length=1)] | None = None
    """Numbers."""
    fraction: Annotated[float, Field(gt=0)] | None = None
    """Another number."""
    debug: bool = False
    """Show the traceback of an error."""

    def __post_init__(self) -> None:
        require(self.number < 9, f"--number {self.number}: expected less than 9")


def read(options):
    with reading(options.path, "a text"):
        return [options.path.read_text(), options.number]


def main(args):
    run(Options, read, args)


def test_a_command_prints_what_it_returns(tmp_path, capsys):
    (tmp_path / "a").write_text("text")
    main(["--path", str(tmp_path / "a"), "--number", "3"])
    assert capsys.readouterr().out == "text\n3\n"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], ": --path PATH; "),  # without help texts
        (["--path", "a", "--number", "0"], "--number 0"),
        (["--path", "a", "--number", "9"], "--number 9"),
        (
            ["--path", "a", "--dtype", "int"],
            "error: invalid choice 'int' for argument '--dtype'. Expected one of float16,",
        ),
        (["--path", "a", "--source", "x"], "Expected one of a, b, c."),
        (["--path"], "error: Missing value for argument '--path'"),
        (["--path", "a", "--other", "1"], "--other"),
        (["--path", "a,", "b"], "b; put a list with spaces in quotes"),
        (["--path", "a,", "--other"], "error: Unrecognized options: --other; For full"),
        (["--path", "a", "b"], "error: Unrecognized options: b; For full"),
        (
            ["--path", "a", "--numbers", "1", "x"],
            "error: Error parsing --numbers: expected INT, not '1', 'x'; For full",
        ),
        (["--path", "a", "--fraction", "x"], "error: Error parsing --fraction: expected FLOAT, not 'x'; For full"),
        (["--path", "a", "--number", "x"], "base 10: 'x'; For full"),
        (["--path", "a", f"{'b ' * 60}-----c"], f"{'b ' * 60}-----c; For full"),
        (["--path", "none.txt"], "none.txt: no such file"),
        (["--path", "."], "not a text"),
    ],
)
def test_wrong_options_and_files_are_one_line(words, named, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    command_refused(main, words, capsys, named)
    assert os.environ["COLUMNS"] == "40"


def test_help_fits_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    with pytest.raises(SystemExit):
        main(["--help"])
    _, *options = capsys.readouterr().out.split("options")
    assert max(map(len, options[-1].splitlines()[1:])) == 50


def test_a_warning_about_input_is_one_line(tmp_path):
    (tmp_path / "a").write_text("text")
    main(["--path", str(tmp_path / "a")])
    assert warnings.formatwarning("a is short", InputWarning, __file__, 1) == "warning: a is short\n"
    assert "UserWarning" in warnings.formatwarning("of a library", UserWarning, __file__, 1)


def test_errors_in_python_and_with_debug(capsys):
    refused(lambda: Options(path=Path("a"), number=0), "--number 0")
    with pytest.raises(InputError, match="no such file"):
        main(["--path", "none.txt", "--debug"])
    with pytest.raises(ZeroDivisionError):  # an error of the program is no wrong input
        run(Options, lambda options: 1 / 0, ["--path", "a"])


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (ImportError("requires PyTables"), "PyTables"),
        (OSError("file signature not found"), "x: not a text (OSError: file signature not found); copy"),
        (KeyError("missing"), "x: not a text (KeyError: 'missing'); copy"),
    ],
)
def test_only_content_makes_a_damaged_file(error, named):
    """A full disk, permissions and missing packages are told apart; the traceback shows the cause."""

    def fail():
        with reading("x", "a text"):
            raise error

    line = refused(fail, "x: ", named)
    assert ("not a text" in line) == ("not a text" in named)
    with pytest.raises(InputError) as caught:
        fail()
    assert caught.value.__cause__ is error


def _raise(error):
    raise error


@pytest.mark.parametrize(
    ("error", "code", "named"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 2, "error: not enough memory"),
        (UnicodeEncodeError("ascii", "é.npz", 0, 1, "ordinal"), 2, "PYTHONUTF8"),
        (OSError(errno.EINVAL, "Invalid argument"), 2, "error: Invalid argument; check"),
        (InputError("x" * 10**6 + ": y"), 2, "x ... x"),
    ],
)
def test_ends_without_a_traceback(error, code, named, capsys):
    with pytest.raises(SystemExit) as caught:
        run(Options, lambda options: _raise(error), ["--path", "a"])
    assert caught.value.code == code
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert named in line
    assert len(line) < 1100
    with pytest.raises(type(error)):
        run(Options, lambda options: _raise(error), ["--path", "a", "--debug"])


def test_letters_that_the_terminal_lacks():
    code = "from data_prepare.errors import run_command; run_command(lambda: print('\\u03c6.h5'))"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment) == b"\\u03c6.h5\n"


def test_an_error_names_its_entry_once():
    def fail(message):
        with named("entry x"):
            raise InputError(message)

    assert refused(lambda: fail("no atoms")) == "entry x: no atoms"
    assert refused(lambda: fail("entry x: no atoms")) == "entry x: no atoms"


def test_a_path_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "a").write_text("text")
    write = lambda options: (options.path / "folder").mkdir()  # noqa: E731
    command_refused(lambda args: run(Options, write, args), ["--path", tmp_path / "a"], capsys, tmp_path / "a", "check")


def test_output_that_nobody_reads_is_no_error():
    code = "from data_prepare.errors import run_command; run_command(lambda: [print('x' * 9999) for _ in range(99)])"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0


def test_digest_tells_what_differs():
    parts = [("a", 1), (1, "a"), ("a", "1"), ("a1",), ({"a": 1},), (["a", 1],), ("a", None)]
    assert len({digest(*part) for part in parts}) == len(parts)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(Path("x")) == digest("x")
    assert digest(np.arange(5000)) != digest(np.where(np.arange(5000) == 2500, 0, np.arange(5000)))
    assert len(digest()) == 32


def test_one_run_at_a_time_writes_an_output(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "LOCK_SECONDS", 0.1)
    output = tmp_path / "new" / "out.csv"
    with sole_run(output):
        refused(lambda: sole_run(output).__enter__(), output)
        refused(lambda: sole_run(output.parent / ".." / "new" / "out.csv").__enter__(), "out.csv")
        with sole_run(output.with_name("other.csv")):
            pass
    with pytest.raises(ZeroDivisionError), sole_run(output):
        raise ZeroDivisionError
    with sole_run(output):
        assert [path.name for path in output.parent.iterdir()] == [".out.csv.lock"]
    assert not output.parent.exists()
    with sole_run(Path("/dev/null/x")):  # no lock can be held there
        pass


def test_the_lock_of_an_output_ends_with_its_process(tmp_path):
    code = (
        f"from data_prepare.resume import *; sole_run(Path({str(tmp_path / 'x')!r})).__enter__(); print(1, flush=True)"
    )
    code += "; import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.kill()
    (tmp_path / "x").mkdir()
    left = [folder / f".x.{'0' * 16}.tmp.npz" for folder in (tmp_path, tmp_path / "x")]  # it was writing these
    for path in left:
        path.touch()
    with sole_run(tmp_path / "x"):
        assert not any(path.exists() for path in left)


def test_samples_of_a_file_tell_other_contents(tmp_path):
    path = tmp_path / "x"
    contents = [b"", b"a", b"b", bytes(10_000_000), bytes(10_000_001), b"a" + bytes(9_999_999), bytes(9_999_999) + b"a"]
    digests = set()
    for content in contents:
        path.write_bytes(content)
        digests.add(sample_digest(path))
    assert len(digests) == len(contents)


def test_an_output_of_another_key_is_replaced_with_a_note(tmp_path, capsys):
    output = tmp_path / "out.csv"
    output.write_text("1")
    results = Results(output)

    def noted(key):
        assert results.is_finished(key, [output]) == (key == "a")
        return capsys.readouterr().err

    assert noted("b") == ""  # made by hand
    results.finish("a", [output])
    assert noted("a") == f"note: {output} is up to date\n"
    assert noted("b") == f"note: {output} was made with other options or inputs and is replaced\n"
    output.unlink()
    assert noted("b") == ""


@pytest.mark.parametrize("damage", [None, b"", b"no", -9])
def test_results_are_whole_or_absent(tmp_path, damage):
    results = Results(tmp_path / "out.csv")
    key = digest("model", "sequence")
    assert results.read(key) is None
    results.write(key, scores=np.arange(3), names=np.array(["a"]))
    assert [path.name for path in tmp_path.iterdir()] == [".out.csv.parts"]
    if damage is None:
        found = results.read(key)
        assert found["scores"].tolist() == [0, 1, 2]
        assert found["names"].tolist() == ["a"]
    else:
        path = results.path(key)
        path.write_bytes(path.read_bytes()[:damage] if isinstance(damage, int) else damage)
        assert results.read(key) is None
    assert results.read(digest("another model", "sequence")) is None
    results.remove()
    assert os.listdir(tmp_path) == []
    results.remove()  # nothing to remove is fine
