"""Damage sound files of each kind and tell how their readers end.

    python tests/chaos/fuzz.py [READER ...] --rounds 200 --seed 0

Files are read in processes with a limit of time and memory; a process reads many files, up to the first bad end. Good
ends: `read`, and `refused` with one short line that names the file. Bad ends are printed with the seed of the round:
`traceback`, `hang`, `killed`, `memory` (asked for more than the limit), `line` (refused, but the line is long or does
not name the file). A new reader is one function in tests/chaos/readers.py.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

from damage import damaged
from readers import READERS, Reader

from data_prepare.errors import InputError

GOOD = ("read", "refused")
BAD = ("line", "traceback", "memory", "hang", "killed")
LONGEST_LINE = 700  # characters
SECONDS = 20.0
MOST_READ = 50  # files in one process
FORK = multiprocessing.get_context("fork")
End = tuple[int, str, str]  # seed of a round, kind of end, message


def fuzz(name: str, folder: Path, rounds: Sequence[int], memory: float = 2.0) -> list[End]:
    """How each round of a reader ends; a process may use `memory` (GB) more than at its start."""
    reader, ends = READERS[name], list[End]()
    reader.read(reader.make(folder / "before"))  # imports and compiles before the processes start
    sound = reader.make(folder / "sound")
    while left := rounds[len(ends) :]:
        ends += _in_process(name, sound, left[:MOST_READ], memory)
    return ends


def _in_process(name: str, sound: Path, seeds: Sequence[int], memory: float) -> list[End]:
    """How rounds end in a process of their own, up to the first bad end."""
    ends = list[End]()
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_read_damaged, args=(name, sound, seeds, memory, sender))
    process.start()
    sender.close()
    try:
        while len(ends) < len(seeds) and receiver.poll(SECONDS):
            ends.append(receiver.recv())
            if ends[-1][1] not in GOOD:
                return ends
        if len(ends) < len(seeds):
            ends.append((seeds[len(ends)], "hang", f"more than {SECONDS:.0f} s"))
    except EOFError:
        process.join()
        ends.append((seeds[len(ends)], "killed", f"exit code {process.exitcode}"))
    finally:
        process.kill()
        process.join()
    return ends


def _read_damaged(name: str, sound: Path, seeds: Sequence[int], memory: float, sender: Connection) -> None:
    """Send how each round ends, up to the first bad end."""
    warnings.simplefilter("ignore")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # C libraries and progress bars print
    os.dup2(nowhere, 2)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + int(memory * 1e9),) * 2)
    content = sound.read_bytes()
    for seed in seeds:
        with tempfile.TemporaryDirectory(dir=sound.parents[1]) as folder:
            READERS[name].prepare(sound.parent, Path(folder))
            path = Path(folder) / sound.name
            path.write_bytes(damaged(content, random.Random(f"{name} {seed}")))
            kind, line = _end(READERS[name], path)
        sender.send((seed, kind, line[:2000]))
        if kind not in GOOD:
            return


def _end(reader: Reader, path: Path) -> tuple[str, str]:
    """How reading a file ends, and the last line of its message."""
    try:
        reader.read(path)
    except InputError as error:
        line = str(error)
        short = "\n" not in line.strip() and len(line) <= LONGEST_LINE and path.name in line
        return "refused" if short else "line", line
    except MemoryError as error:
        return "memory", str(error)
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return "traceback", f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"
    return "read", ""


def _fuzz_and_time(name: str, rounds: Sequence[int], memory: float) -> tuple[list[End], float]:
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        return fuzz(name, Path(folder), rounds, memory), time.monotonic() - start


def main() -> None:
    """Print the ends of all rounds of some readers, by default of all; exit code 1 if there are bad ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("readers", nargs="*", metavar="READER", default=list(READERS), help=", ".join(READERS))
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first round")
    parser.add_argument("--memory", type=float, default=2.0, help="limit (GB) beyond what the process already uses")
    parser.add_argument("--jobs", type=int, default=1, help="readers at the same time")
    options = parser.parse_args()
    rounds, total = range(options.seed, options.seed + options.rounds), Counter[str]()
    print(f"{'':<20}" + "".join(f"{kind:>11}" for kind in (*GOOD, *BAD, "seconds")), flush=True)
    with ProcessPoolExecutor(options.jobs, FORK) as pool:
        running = [pool.submit(_fuzz_and_time, name, rounds, options.memory) for name in options.readers]
        for name, future in zip(options.readers, running, strict=True):
            ends, seconds = future.result()
            count = Counter(kind for _, kind, _ in ends)
            total += count
            print(_row(name, count) + f"{seconds:>11.1f}", flush=True)
            bad = {f"{kind}: {line[:60]}": (seed, kind, line) for seed, kind, line in ends if kind not in GOOD}
            for seed, kind, line in bad.values():
                print(f"    seed {seed}: {kind}: {line[:300]}", flush=True)
    print(_row("all", total))
    sys.exit(any(total[kind] for kind in BAD))


def _row(name: str, count: Counter[str]) -> str:
    return f"{name:<20}" + "".join(f"{count[kind]:>11}" for kind in (*GOOD, *BAD))


if __name__ == "__main__":
    main()
