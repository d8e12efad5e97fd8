"""Commands on small inputs, their processes, and the content of what they write."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

import h5py
import hdf5plugin  # noqa: F401  # reads stores
import numpy as np
import pandas as pd
import psutil
from readers import MEGASCALE, network
from server import Forked, Server

from model.training.run_log import DATA_WAIT, LOG_NAME, MODEL_FLOPS, PEAK_MEMORY, TOKENS_PER_SECOND

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "data_prepare" / "examples"
MARK = "CHAOS_RUN"  # environment variable of all processes of a run: torchrun puts its own into other sessions
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
LONGEST = 300.0  # seconds that an undisturbed command may take on a loaded machine
NETWORK = "--model {inputs}/model --device cpu"
SIZES = "--model.layers 1 --model.feed-forward 8 --device cpu"
TRAIN = (
    "--preset demo --init None --table {inputs}/a/table.csv --store {inputs}/a/features.h5 --output {output} "
    "--updates 24 --loss-weights {inputs}/a/loss_weights.csv --model.hidden 8 --model.heads 2 --short-updates 18 "
    f"--warmup-updates 2 --log-every 2 --checkpoint-every 5 {SIZES}"
)
COMMANDS = {  # without `python -m`
    "prepare": "seqdance.cli prepare --manifest {inputs}/a.csv --out {output}/features.h5",
    "prepare-2": "seqdance.cli prepare --manifest {inputs}/a.csv --out {output}/features.h5 --workers 2",
    "merge": "seqdance.cli merge {inputs}/a/features.h5 {inputs}/b/features.h5 --out {output}/all.h5 --keep-labels",
    "score": f"seqdance.cli score {NETWORK} --fasta {{inputs}}/few.fasta --output {{output}}/scores.csv",
    "score-map": f"seqdance.cli score {NETWORK} --fasta {{inputs}}/one.fasta --output {{output}}/scores.csv",
    "predict": f"seqdance.cli predict {NETWORK} --fasta {{inputs}}/many.fasta --output {{output}}",
    "predict-plot": f"seqdance.cli predict {NETWORK} --fasta {{inputs}}/few.fasta --output {{output}} --plot",
    "predict-h5": f"seqdance.cli predict {NETWORK} --fasta {{inputs}}/many.fasta --output {{output}}/p.h5",
    "embed": f"seqdance.cli embed {NETWORK} --fasta {{inputs}}/many.fasta --output {{output}}/e.h5 --per-residue",
    "embed-npy": f"seqdance.cli embed {NETWORK} --fasta {{inputs}}/many.fasta --output {{output}}/e.npy",
    "attention": f"seqdance.cli attention {NETWORK} --fasta {{inputs}}/many.fasta --output {{output}}/maps.npz",
    "attention-store": f"seqdance.cli attention {NETWORK} --store {{inputs}}/a/features.h5 --label train "
    "--table {inputs}/a/table.csv --output {output}/attention.csv",
    "benchmark-mutations": "seqdance.cli benchmark-mutations {inputs}/megascale.csv --model {inputs}/model "
    "--device cpu --bootstrap 20 --output {output}",
    "train": f"seqdance.cli train {TRAIN}",
    "train-2": f"torch.distributed.run --standalone --nproc_per_node=2 {ROOT}/model/train_ddp.py {TRAIN}",
    "dyna1": f"seqdance.cli dyna1 train --table {EXAMPLES}/nmr/refdb_labels.csv --output {{output}} {SIZES} "
    "--model.heads 1 --epochs 2 --batch 8 --crop 60 --learning-rate 1e-3 --checkpoint-every 7",
}
TRAININGS = ("train", "train-2", "dyna1")  # exit code 0 means saved or finished


def write_inputs(folder: Path) -> None:
    """Raw data with two manifests, sequences, measured mutations and a network."""
    folder.mkdir(parents=True)
    for name in ("structures", "trajectories"):
        shutil.copytree(EXAMPLES / name, folder / name)
    table = pd.read_csv(EXAMPLES / "examples.csv", keep_default_na=False)
    table[::3].to_csv(folder / "a.csv", index=False)
    table[1::3].to_csv(folder / "b.csv", index=False)
    write_sequences(folder, seed=0)
    (folder / "megascale.csv").write_text(MEGASCALE)
    network(folder / "model")


def write_sequences(folder: Path, seed: int) -> None:
    """FASTA files of the same names for every seed."""
    choose = random.Random(seed)
    for name, lengths in {"one": [25], "few": [10, 15, 20, 25], "many": range(50, 200, 10)}.items():
        proteins = ("".join(choose.choices("ACDEFGHIKLMNPQRSTVWY", k=length)) for length in lengths)
        (folder / f"{name}.fasta").write_text("".join(f">p{k}\n{protein}\n" for k, protein in enumerate(proteins)))


@cache
def _server() -> Server:
    return Server(ENVIRONMENT)


class Run:
    """`python -m WORDS`, by default forked, and all processes that it starts; standard error goes to the file `log`."""

    def __init__(self, words: Sequence[str], log: Path, before: Sequence[str] = ()) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log, self.mark = log, uuid4().hex
        log.touch()
        if not before:
            self.process: Forked | subprocess.Popen = _server().start(words, log, {MARK: self.mark})
            return
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [*before, sys.executable, "-m", *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file,
                env=ENVIRONMENT | {MARK: self.mark},
                start_new_session=True,
            )

    def alive(self) -> list[psutil.Process]:
        """Its processes, the first one included."""
        self.process.poll()
        return [process for process in psutil.process_iter(["cmdline", "name"]) if self._has(process)]

    def _has(self, process: psutil.Process) -> bool:
        """Whether it is in the session of the run or has its mark, and is not a zombie."""
        with suppress(psutil.Error, OSError):
            own = os.getsid(process.pid) == self.process.pid or process.environ().get(MARK) == self.mark
            return own and process.status() != psutil.STATUS_ZOMBIE
        return False

    def wait(self, seconds: float = LONGEST) -> int | None:
        """Exit code; None if it takes longer."""
        try:
            return self.process.wait(max(seconds, 0))
        except subprocess.TimeoutExpired:
            return None

    def gone(self, seconds: float) -> list[str]:
        """Wait until no process is left; the command lines of those that are."""
        stop = time.monotonic() + seconds
        while (left := self.alive()) and time.monotonic() < stop:
            time.sleep(0.1)
        return [" ".join(process.info["cmdline"] or [process.info["name"]])[-100:] for process in left]

    def end(self) -> None:
        """Kill what is left."""
        while left := self.alive():
            for process in left:
                send(process, signal.SIGKILL)
        self.process.wait()

    @property
    def lines(self) -> list[str]:
        """Lines on standard error, also those of a progress bar."""
        return [line for line in re.split(r"[\r\n]+", self.log.read_text(errors="replace")) if line]

    def tracebacks(self) -> list[str]:
        """Line before, innermost place and last line of each traceback.

        But those of torchrun.
        """
        parts = re.split(r"\n?.*Traceback \(most recent call last\):?\n", "\n" + "\n".join(self.lines))
        found = []
        for before, block in pairwise(parts):
            places = re.findall(r'File "(.*?)", line (\d+)', block)
            last = next((line for line in block.splitlines() if line[:1].strip()), "cut off")
            of_torchrun = "torch/distributed/run.py" in block or "elastic.multiprocessing.api.SignalException" in last
            if not of_torchrun:
                found.append(f"{before.splitlines()[-1:]} {places[-1:]} {last}")
        return found

    def errors(self) -> list[str]:
        """Lines in which a command says why it ends, also behind a progress bar."""
        return [found[0] for line in self.lines if (found := re.search(r"(?:^|(?<=\]))error: .*", line))]


def send(process: psutil.Process, number: int) -> None:
    """Send a signal to a process that may have ended."""
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def content(folder: Path) -> dict[str, Any]:
    """Content of each file without what differs between equal runs: times, versions, locks, former weights."""
    newest = max((int(path.name.removeprefix("update_")) for path in folder.glob("checkpoints/update_*")), default=0)
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        passing = path.is_dir() or path.suffix == ".lock" or ".tmp" in path.name
        if passing or name.parts[0] in ("tensorboard", "config.json"):
            continue
        if name.parts[0] != "checkpoints" or name.match(f"update_{newest}/model.safetensors"):
            found[str(name)] = _content(path)
    return found


def _content(path: Path) -> Any:
    if path.name == LOG_NAME:
        lines = map(json.loads, path.read_text().splitlines())
        times = ("Batch time", "Epoch time", TOKENS_PER_SECOND, MODEL_FLOPS, DATA_WAIT, PEAK_MEMORY)
        return [{key: value for key, value in line.items() if key not in times} for line in lines]
    if path.suffix == ".made_of":  # has the times of other files
        return None
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {name: _plain(arrays[name]) for name in arrays}
    if path.suffix != ".h5":
        return path.read_bytes()
    found: dict[str, Any] = {}
    with h5py.File(path) as file:
        found["attributes"] = {key: _plain(value) for key, value in file.attrs.items()}
        file.visititems(lambda name, item: found.update({name: _hdf5(item)}))
    return found


def _hdf5(item: Any) -> Any:
    value = _plain(item[()]) if isinstance(item, h5py.Dataset) else None
    return value, {key: _plain(attribute) for key, attribute in item.attrs.items()}


def _plain(value: Any) -> Any:
    array = np.asarray(value)
    return array.shape, str(array.dtype), array.tolist() if array.dtype.hasobject else array.tobytes()


@dataclass(frozen=True)
class Reference:
    """What an undisturbed run writes: seconds, bytes of all files, content."""

    seconds: float
    size: int
    content: dict[str, Any]

    def differences(self, output: Path, parts: bool = True) -> list[str]:
        """One line if the content of a folder differs; without `parts`, that of hidden folders of parts may."""
        try:
            found = content(output)
        except (OSError, ValueError) as error:
            return [f"damaged: {error}"]
        names = {name for name in {*found, *self.content} if found.get(name, b"") != self.content.get(name, b"")}
        names = {name for name in names if parts or ".parts/" not in name}
        return [f"differs: {', '.join(sorted(names))}"] if names else []


class Lab:
    """A folder with inputs, and references made once; several threads may use it."""

    def __init__(self, folder: Path, inputs: Path | None = None) -> None:
        self.folder, self.inputs = folder, inputs or folder / "inputs"
        self._references: dict[str, Reference] = {}
        self._locks: defaultdict[str, Lock] = defaultdict(Lock)
        if inputs is None:
            write_inputs(self.inputs)

    def start(self, name: str, output: Path, before: Sequence[str] = ()) -> Run:
        """Start a command."""
        return Run(self._words(COMMANDS[name], output), output.parent / "stderr" / uuid4().hex, before)

    def reference(self, name: str) -> Reference:
        """The reference of a command."""
        if "/a/" in COMMANDS[name]:
            self._make_stores()
        with self._locks[name]:
            if name not in self._references:
                for number in (1, 2):  # the first one may compile
                    output, start = self.folder / "reference" / name / str(number), time.monotonic()
                    run = self.start(name, output)
                    assert run.wait() == 0, run.lines[-5:]
                    seconds = time.monotonic() - start
                size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
                self._references[name] = Reference(seconds, size, content(output))
            return self._references[name]

    def _make_stores(self) -> None:
        with self._locks["stores"]:
            for name in "ab":
                line, output = COMMANDS["prepare"].replace("a.csv", f"{name}.csv"), self.inputs / name
                if not output.exists():
                    run = Run(self._words(line, output), self.folder / name)
                    assert run.wait() == 0, run.lines[-5:]

    def _words(self, line: str, output: Path) -> list[str]:
        return line.format(inputs=self.inputs, output=output).split()
