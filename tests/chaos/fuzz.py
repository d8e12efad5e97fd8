"""Damage sound files of each kind and tell how their readers end.

    python tests/chaos/fuzz.py [READER ...] --rounds 200 --seed 0

Each damaged file is read in a process of its own with a limit of time and memory. Good ends: `read`, and `refused` with
one short line that names the file. Bad ends are printed with the seed of the round: `traceback`, `hang`, `killed`,
`memory` (asked for more than the limit), `line` (refused, but the line is long or does not name the file). A new reader
is one function in tests/chaos/readers.py.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

from damage import damaged
from readers import READERS, Reader

from data_prepare.errors import InputError

GOOD = ("read", "refused")
LONGEST_LINE = 700  # characters
SECONDS = 20.0


def outcome(reader: Reader, path: Path, memory: float, seconds: float = SECONDS) -> tuple[str, str]:
    """How reading a file ends in a process that may use `memory` more GB, and the last line of its message."""
    result = path.parent / "outcome"
    process = os.fork()
    if process == 0:
        _read_and_exit(reader, path, memory, result)
    stop = time.monotonic() + seconds
    while not (status := os.waitpid(process, os.WNOHANG))[0]:
        if time.monotonic() > stop:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return "hang", f"more than {seconds:.0f} s"
        time.sleep(0.002)
    if os.WIFSIGNALED(status[1]) or not result.is_file():
        return "killed", f"status {status[1]}"
    kind, _, line = result.read_text().partition("\n")
    result.unlink()
    return kind, line


def _read_and_exit(reader: Reader, path: Path, memory: float, result: Path) -> None:
    warnings.simplefilter("ignore")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + int(memory * 1e9),) * 2)
    try:
        reader.read(path)
        kind, line = "read", ""
    except InputError as error:
        line = str(error)
        short = "\n" not in line.strip() and len(line) <= LONGEST_LINE and path.name in line
        kind = "refused" if short else "line"
    except MemoryError as error:
        kind, line = "memory", str(error)
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        kind, line = "traceback", f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"
    result.write_text(f"{kind}\n{line[:2000]}")
    os._exit(0)


def fuzz(name: str, folder: Path, rounds: range, memory: float = 2.0) -> list[tuple[int, str, str]]:
    """Seed, kind of end and message of each round of a reader."""
    reader, ends = READERS[name], []
    sound = reader.make(folder / "sound")
    content = sound.read_bytes()
    for seed in rounds:
        with tempfile.TemporaryDirectory(dir=folder) as inside:
            reader.prepare(sound.parent, Path(inside))
            path = Path(inside) / sound.name
            path.write_bytes(damaged(content, random.Random(f"{name} {seed}")))
            ends.append((seed, *outcome(reader, path, memory)))
    return ends


def main() -> None:
    """Print the ends of all rounds of some readers, by default of all; exit code 1 if there are bad ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("readers", nargs="*", default=list(READERS), help=", ".join(READERS))
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first round")
    parser.add_argument("--memory", type=float, default=2.0, help="limit (GB) beyond what the process already uses")
    options = parser.parse_args()
    bad = 0
    for name in options.readers:
        with tempfile.TemporaryDirectory() as folder:
            ends = fuzz(name, Path(folder), range(options.seed, options.seed + options.rounds), options.memory)
        print(f"{name}: {dict(Counter(kind for _, kind, _ in ends))}", flush=True)
        shown: set[str] = set()
        for seed, kind, line in ends:
            if kind not in GOOD:
                bad += 1
                if (key := kind + line[:60]) not in shown:
                    shown.add(key)
                    print(f"    seed {seed}: {kind}: {line[:300]}", flush=True)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
