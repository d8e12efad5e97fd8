"""Kill commands at random moments, run them again, and compare what they write with undisturbed runs.

    python tests/chaos/kills.py [COMMAND or SCENARIO ...] --rounds 20 --seed 0

A round starts a command on a fresh output and sends SIGKILL, SIGTERM or SIGINT, between its start and the end of an
undisturbed run, to its first process, to its process group, to all its processes (as a batch system does) or to a
child. The same command then runs undisturbed; its output must be that of the reference. Each fault is printed with the
seed that repeats it. Scenarios (tests/chaos/scenarios.py) run once each.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from commands import COMMANDS, LONGEST, TRAININGS, Lab, Run, send
from scenarios import SCENARIOS, has_files

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
TARGETS = ("process", "group", "all", "child")
CRASHES = (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS)
GRACE = 10.0  # seconds, at least, until all processes of a killed run must have ended
RERUNS = 3
COLUMNS = ("rounds", "before", "during", "after", "equal", "leftovers", "tracebacks", "orphans", "other")


@dataclass
class Round:
    """Where a kill hit a command, whether its results are those of the reference, and faults of each kind."""

    name: str
    seed: int
    kill: str
    hit: str = "after"  # before the first file, during the run, after its end
    equal: bool = False
    faults: list[tuple[str, str]] = field(default_factory=list)  # kind, a column of the table, and what happened


def kill_round(lab: Lab, name: str, seed: int) -> Round:
    """Kill a command and run it again."""
    reference, choose = lab.reference(name), random.Random(f"{name} {seed}")
    number, target = choose.choice(SIGNALS), choose.choice(TARGETS)
    moment = choose.triangular(0, reference.seconds, reference.seconds)  # more often late: it starts with imports
    found = Round(name, seed, f"{number.name} to {target} at {moment:.1f} of {reference.seconds:.1f} s")
    with tempfile.TemporaryDirectory(dir=lab.folder) as folder:
        output = Path(folder) / "output"
        run = lab.start(name, output)
        goes_on = False
        if run.wait(moment) is None:
            found.hit = "during" if has_files(output) else "before"
            goes_on = strike(run, number, target, choose)
            if goes_on and run.wait(LONGEST) is None:
                found.faults.append(("other", "hangs"))
        grace = max(GRACE, reference.seconds)  # longer on a loaded machine
        if left := run.gone(grace):
            found.faults.append(("orphans", f"alive after {grace:.0f} s: {', '.join(left)}"))
        run.end()
        if run.process.returncode == 0 and name not in TRAININGS:
            found.faults += (("other", f"exit code 0, but {line}") for line in reference.differences(output))
        if run.process.returncode in CRASHES:
            found.faults.append(("other", f"crashed with {signal.Signals(-run.process.returncode).name}"))
        if number != signal.SIGKILL and not goes_on:  # a child that is interrupted alone may say so
            found.faults += (("tracebacks", f"traceback: {line}") for line in run.tracebacks()[:1])
        for count in range(1, RERUNS + 1):
            run = lab.start(name, output)
            code = run.wait()
            run.end()
            if code == 0:
                break
            found.faults.append(("other", f"rerun {count}: exit code {code}: {(run.lines or [''])[-1][-200:]}"))
        found.faults += (("leftovers", path.name) for path in output.rglob(".*.tmp*"))
        unequal = reference.differences(output)
        found.equal = not unequal
        found.faults += (("other", line) for line in unequal)
    return found


def strike(run: Run, number: int, target: str, choose: random.Random) -> bool:
    """Send a signal; whether the first process was spared."""
    processes = {process.pid: process for process in run.alive()}
    first = processes.pop(run.process.pid, None)
    if first is None:  # it ended in between
        return False
    if target == "group":
        os.killpg(first.pid, number)
    elif target == "child" and processes:
        send(processes[choose.choice(sorted(processes))], number)
        return True
    else:
        for process in (first, *processes.values()) if target == "all" else (first,):
            send(process, number)
    return False


def scenario_round(lab: Lab, name: str, seed: int, entries: int) -> Round:
    """Run a scenario."""
    folder = lab.folder / f"{name}_{seed}"
    faults = SCENARIOS[name](lab, folder, random.Random(f"{name} {seed}"), entries)
    shutil.rmtree(folder, ignore_errors=True)
    return Round(name, seed, "scenario", "during", not faults, [("other", line) for line in faults])


def main() -> None:
    """Print faults as they are found and a table of all rounds; exit code 1 if there are faults."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join([*COMMANDS, *SCENARIOS]))
    parser.add_argument("--rounds", type=int, default=20, help="kills of each command")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first round")
    parser.add_argument("--minutes", type=float, default=1e9, help="no new round after this time")
    parser.add_argument("--jobs", type=int, default=1, help="rounds at the same time")
    parser.add_argument("--entries", type=int, default=60, help="of the scenarios with Dask")
    options = parser.parse_args()
    known = [*SCENARIOS, *COMMANDS]
    names = [name for name in known if not options.names or {name, name.partition(":")[0]} & {*options.names}]
    if not names:
        parser.error(f"unknown names; known: {', '.join(known)}")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs, and by what they start
    stop = time.monotonic() + 60 * options.minutes
    seeds = range(options.seed, options.seed + options.rounds)
    wanted = [(name, options.seed) for name in names if name in SCENARIOS]
    wanted += [(name, seed) for seed in seeds for name in names if name in COMMANDS]
    done: list[Round] = []
    with tempfile.TemporaryDirectory(prefix="kills_") as folder, ThreadPoolExecutor(options.jobs) as pool:
        lab = Lab(Path(folder) / "lab")

        def work(name: str, seed: int) -> Round | None:
            if time.monotonic() > stop:
                return None
            try:
                if name in SCENARIOS:
                    return scenario_round(lab, name, seed, options.entries)
                return kill_round(lab, name, seed)
            except AssertionError as error:  # an undisturbed run fails; the others go on
                return Round(name, seed, "undisturbed", "before", False, [("other", str(error))])

        try:
            for finished in as_completed([pool.submit(work, *one) for one in wanted]):
                if (found := finished.result()) is None:
                    continue
                done.append(found)
                for what in [what for _, what in found.faults] or ["ok"]:
                    print(f"{found.name} --seed {found.seed}: {found.kill} ({found.hit}): {what}", flush=True)
        finally:
            pool.shutdown(cancel_futures=True)  # after Ctrl-C
    print(table(done))
    sys.exit(any(found.faults for found in done))


def table(done: list[Round]) -> str:
    """A line per command: rounds, where the kills hit, equal results, and rounds with faults of each kind."""
    lines = [f"{'':<28}" + "".join(f"{column:>11}" for column in COLUMNS)]
    for name in dict.fromkeys(found.name for found in done):
        own = [found for found in done if found.name == name]
        count = Counter(found.hit for found in own)
        count.update(kind for found in own for kind in {kind for kind, _ in found.faults})
        count.update(rounds=len(own), equal=sum(found.equal for found in own))
        lines.append(f"{name:<28}" + "".join(f"{count[column]:>11}" for column in COLUMNS))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
