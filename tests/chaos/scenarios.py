"""What happens to outputs, inputs and Dask during a run. A scenario returns a line for each fault."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
from commands import COMMANDS, LONGEST, Lab, Reference, Run, content, send, write_sequences
from readers import SIZES

from model.network.dance import DanceModel

Scenario = Callable[[Lab, Path, random.Random, int], list[str]]  # the number is that of entries with Dask
WRITTEN = ("prepare", "merge", "score", "predict", "predict-h5", "embed", "attention", "train", "dyna1")
SMALL = ("1ubi_A", "1pdo_A", "2cvi_A", "1i8n_A", "1dx5_I", "2xdg_A")  # structures
KILLS = 10  # of a worker


def until(holds: Callable[[], object], run: Run) -> None:
    """Wait for a condition or the end of a run."""
    while not holds() and run.process.poll() is None:
        time.sleep(0.01)


def has_files(folder: Path) -> bool:
    """Whether anything is written."""
    return folder.exists() and any(path.is_file() for path in folder.rglob("*"))


def refused(run: Run, code: int | None) -> list[str]:
    """A fault unless a run ended with one line and exit code 2, or 1 if entries of `prepare` failed."""
    faults = [f"traceback: {line}" for line in run.tracebacks()[:1]]
    if code not in (1, 2) or len(run.errors()) != 1:
        faults.append(f"exit code {code}, {len(run.errors())} errors, last line: {(run.lines or [''])[-1][-300:]}")
    return faults


def ended(run: Run, reference: Reference | None, output: Path) -> list[str]:
    """A fault unless a run was refused or its results are right."""
    code = run.wait()
    run.end()
    if code == 0 and reference:
        return [f"exit code 0, but {line}" for line in reference.differences(output, parts=False)]
    return refused(run, code)


def rerun(lab: Lab, name: str, output: Path) -> list[str]:
    """A fault unless the same command now gives the results of the reference and leaves nothing."""
    run = lab.start(name, output)
    code = run.wait()
    run.end()
    if code:
        return [f"rerun: exit code {code}: {(run.lines or [''])[-1][-300:]}"]
    left = [f"left over: {path.name}" for path in output.rglob(".*.tmp*")]
    return [f"rerun: {line}" for line in lab.reference(name).differences(output)] + left


def vanishing_output(name: str, lab: Lab, folder: Path, choose: random.Random, entries: int) -> list[str]:
    """The output folder is removed while the command writes."""
    reference, output = lab.reference(name), folder / "output"
    run = lab.start(name, output)
    until(lambda: has_files(output), run)
    time.sleep(choose.random() * reference.seconds / 4)
    shutil.rmtree(output, ignore_errors=True)
    code = run.wait()
    run.end()
    return (refused(run, code) if code else []) + rerun(lab, name, output)  # 0: files written before are not missed


def mounted(size: str, output: Path, kept: Path) -> list[str]:
    """Start of a command line whose output folder is a small disk; its content is copied to `kept` at the end."""
    output.mkdir(parents=True, exist_ok=True)
    script = f'mount -t tmpfs -o {size} none {output}; "$@"; code=$?; cp -a {output}/. {kept}; exit $code'
    return ["unshare", "-m", "sh", "-c", script, "sh"]


def can_mount() -> bool:
    """Whether this process may mount."""
    return (
        subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0
    )


def read_only_output(name: str, lab: Lab, folder: Path, choose: random.Random, entries: int) -> list[str]:
    """The output folder is on a read-only disk, or without the right to mount below a file."""
    output, before = folder / "output", []
    if can_mount():
        before = mounted("ro", output, folder / "kept")
    else:
        folder.mkdir()
        (folder / "file").touch()
        output = folder / "file" / "output"
    return ended(lab.start(name, output, before), None, output)


def full_disk(name: str, lab: Lab, folder: Path, choose: random.Random, entries: int) -> list[str]:
    """The disk is too small for the output; without the right to mount, each file is limited."""
    reference, output, kept = lab.reference(name), folder / "output", folder / "kept"
    kilobytes = max(int(choose.uniform(0.1, 0.9) * reference.size / 1024), 4)
    if can_mount():
        before = mounted(f"size={kilobytes}k", output, kept)
        kept.mkdir()
    else:
        before, kept = ["sh", "-c", f'ulimit -f {kilobytes // 4}; exec "$@"', "sh"], output
    faults = ended(lab.start(name, output, before), reference, kept)
    return [f"{kilobytes} kB: {line}" for line in faults + rerun(lab, name, kept)]


def two_at_once(name: str, lab: Lab, folder: Path, choose: random.Random, entries: int) -> list[str]:
    """The same command twice, the second a little later: each is refused in one line or right; then all is right."""
    reference, output, runs = lab.reference(name), folder / "output", []
    for wait in (choose.choice((0.0, 0.3 * reference.seconds)), 0.0):
        runs.append(lab.start(name, output))
        time.sleep(wait)
    codes = [run.wait() for run in runs]
    faults = [line for run, code in zip(runs, codes, strict=True) if code for line in refused(run, code)]
    faults += [] if 0 in codes else [f"exit codes {codes}"]
    faults += [f"exit codes {codes}, but {line}" for line in reference.differences(output, parts=False) if 0 in codes]
    return faults + rerun(lab, name, output)


def replace_raw_file(inputs: Path) -> None:
    """Another structure under the name of an entry."""
    shutil.copy(inputs / "structures/1pdo_A.pdb.gz", inputs / "structures/1ahs_A.pdb.gz")


def replace_model(inputs: Path) -> None:
    """A network of the same sizes with other weights."""
    DanceModel(SIZES).save_pretrained(inputs / "model")


def replace_table(inputs: Path) -> None:
    """A training table without its first entry."""
    path = inputs / "a" / "table.csv"
    pd.read_csv(path, keep_default_na=False)[1:].to_csv(path, index=False)


REPLACED: dict[str, tuple[str, Callable[[Path], object]]] = {
    "raw-file": ("prepare", replace_raw_file),
    "sequences": ("predict", partial(write_sequences, seed=1)),
    "sequences-h5": ("predict-h5", partial(write_sequences, seed=1)),
    "sequences-scores": ("score", partial(write_sequences, seed=1)),
    "model": ("predict-h5", replace_model),
    "model-scores": ("score", replace_model),
    "model-embeddings": ("embed", replace_model),
    "training-table": ("train", replace_table),
}


def replaced_input(what: str, lab: Lab, folder: Path, choose: random.Random, entries: int) -> list[str]:
    """An input is replaced between a kill and the next run, which is refused or gives the results of the new input."""
    name, replace = REPLACED[what]
    if name == "train":
        lab.reference(name)  # makes the inputs
    shutil.copytree(lab.inputs, folder / "inputs")
    other, output = Lab(folder, folder / "inputs"), folder / "output"
    run = other.start(name, output)
    until(lambda: len(list(output.rglob("*.*"))) > 4, run)
    run.end()
    replace(other.inputs)
    run = other.start(name, output)
    return ended(run, other.reference(name), output)


class Dask:
    """A Dask scheduler with a worker, in processes of their own, and `prepare` of many small entries on it."""

    def __init__(self, lab: Lab, folder: Path, entries: int) -> None:
        folder.mkdir()
        self.lab, self.folder, self.output = lab, folder, folder / "output"
        rows = [
            (f"e{k}", "Proteinflow", "train", f"structures/{SMALL[k % len(SMALL)]}.pdb.gz", "") for k in range(entries)
        ]
        table = pd.DataFrame(rows, columns=["name", "source", "label", "topology", "trajectory"])
        self.manifest = lab.inputs / f"{folder.name}.csv"
        table.to_csv(self.manifest, index=False)
        undisturbed = self.prepare(folder / "undisturbed")
        assert undisturbed.wait() == 0, undisturbed.lines[-3:]
        self.reference = Reference(0, 0, content(folder / "undisturbed"))

    def prepare(self, output: Path, *more: str) -> Run:
        """Start the command."""
        words = [
            "seqdance.cli",
            "prepare",
            "--manifest",
            str(self.manifest),
            "--out",
            str(output / "features.h5"),
            *more,
        ]
        return Run(words, self.folder / f"{output.name}.stderr")

    def cluster(self, number: int) -> tuple[Run, Run, str]:
        """A scheduler, a worker that is started again when it is killed, and the address."""
        file = self.folder / f"scheduler{number}.json"
        words = ("dask", "scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
        scheduler = Run(words, self.folder / f"scheduler{number}")
        until(lambda: file.exists() and file.read_text(), scheduler)
        words = ("dask", "worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-dashboard")
        worker = Run((*words, "--local-directory", str(self.folder)), self.folder / f"worker{number}")
        return scheduler, worker, pd.read_json(file, typ="series")["address"]

    def made(self) -> int:
        """Number of finished entries."""
        return len(list(self.output.glob("features.entries/[!.]*.h5")))

    def finished(self, run: Run) -> list[str]:
        """A fault unless a run ends by itself with the store of the undisturbed one."""
        if code := run.wait(2 * LONGEST):
            return [f"exit code {code}: {(run.lines or [''])[-1][-300:]}"]
        left = [f"left over: {path.name}" for path in self.output.rglob(".*.tmp*")]
        return (self.reference.differences(self.output) if code == 0 else ["hangs"]) + left


def scheduler_dies(percent: int, lab: Lab, folder: Path, choose: random.Random, entries: int) -> list[str]:
    """The command ends with one line, and finishes with another scheduler."""
    dask = Dask(lab, folder, entries)
    scheduler, worker, address = dask.cluster(0)
    run = dask.prepare(dask.output, "--scheduler", address)
    until(lambda: dask.made() >= percent * entries / 100 and run.log.stat().st_size, run)
    scheduler.end()
    code, made = run.wait(), dask.made()
    faults = [f"{made} of {entries} made: {line}" for line in (refused(run, code) if code != 0 else [])]
    run.end()
    worker.end()
    scheduler, worker, address = dask.cluster(1)
    try:
        return faults + dask.finished(dask.prepare(dask.output, "--scheduler", address))
    finally:
        worker.end()
        scheduler.end()


def worker_dies(lab: Lab, folder: Path, choose: random.Random, entries: int) -> list[str]:
    """A worker that is killed again and again costs no entry."""
    dask = Dask(lab, folder, entries)
    scheduler, nanny, address = dask.cluster(0)
    run = dask.prepare(dask.output, "--scheduler", address)
    try:
        for kill in range(KILLS):
            until(lambda goal=(kill + 0.5) * entries / (KILLS + 1): dask.made() >= goal, run)  # type: ignore[misc]
            for process in nanny.alive():
                if any("spawn_main" in word for word in process.cmdline()):
                    send(process, signal.SIGKILL)
        return dask.finished(run)
    finally:
        for part in (run, nanny, scheduler):
            part.end()


SCENARIOS: dict[str, Scenario] = {
    **{f"vanishing-output:{name}": partial(vanishing_output, name) for name in WRITTEN},
    **{f"read-only-output:{name}": partial(read_only_output, name) for name in WRITTEN},
    **{f"full-disk:{name}": partial(full_disk, name) for name in WRITTEN},
    **{f"two-at-once:{name}": partial(two_at_once, name) for name in WRITTEN},
    **{f"replaced:{what}": partial(replaced_input, what) for what in REPLACED},
    **{f"scheduler-dies:{percent}": partial(scheduler_dies, percent) for percent in (0, 50, 99)},
    "worker-dies": worker_dies,
}
assert not {*SCENARIOS} & {*COMMANDS}
