"""The record of a run: config.json, log.jsonl, TensorBoard and a progress bar."""

from __future__ import annotations

import json
import logging
import platform
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from tqdm import tqdm

from data_prepare.errors import InputWarning, reading, require, writing
from data_prepare.files import read_text, write_text
from data_prepare.memory import peak_resident_memory
from data_prepare.properties import ALL_GROUPS, properties_of_group
from model.config import MOST, TrainingOptions
from model.training.processes import Process
from model.training.throughput import peak_flops

if TYPE_CHECKING:
    import pandas as pd

LOGGER: Final = logging.getLogger("seqdance")
ROOT: Final = Path(__file__).resolve().parents[2]
LOG_NAME: Final = "log.jsonl"
PUBLISHED_LOG: Final = "training_log.json"
LARGEST: Final = 1e300  # number in a log; Python's integers have no limit, those of pandas do
GRADIENT_NORM: Final = "Gradient norm"  # before clipping
TOKENS_PER_SECOND: Final = "Tokens per second"  # of all processes, without padding
MODEL_FLOPS: Final = "Model FLOPs per second"  # of all processes, see `throughput.training_flops`
SHARE_OF_PEAK: Final = "Share of peak FLOPs"  # of the dense bf16 peak of all cards; None if one is unknown
DATA_WAIT: Final = "Data wait"  # seconds per update, of the process that waits longest
MONTH: Final = 30 * 24 * 3600  # seconds
TIMED: Final = 3  # updates until the length of the training is estimated; the first one is slow
PEAK_MEMORY: Final = "Peak memory (GiB)"  # so far, of the process that needs most: on its GPU, or resident without one


class RunLog:
    """The record of a run, written by rank 0.

    Removes log lines of updates after `update`, which a killed run wrote after its last checkpoint.
    """

    def __init__(
        self, config: TrainingOptions, process: Process, chosen: Mapping[str, Any], update: int, updates: int
    ) -> None:
        self.config, self.process, self.chosen = config, process, chosen
        self.update, self.updates = update, updates
        self.path = config.output / LOG_NAME
        self._done: list[float] = []  # times after the first updates of this call

    def __enter__(self) -> RunLog:
        self._time, self._logged = time.perf_counter(), self.update
        gpu = self.process.device.type == "cuda"
        devices = self.process.gather(torch.cuda.get_device_name(self.process.device) if gpu else "cpu")
        self.peak_flops = peak_flops(devices)
        if self.process.rank == 0:
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            self.config.output.mkdir(parents=True, exist_ok=True)
            write_config(self.config, self.chosen, devices)
            kept = [line for line in read_log(self.path) if line["n_update"] <= self.update]
            write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
            self._hook, threading.excepthook = threading.excepthook, self._show
            self._board = SummaryWriter(str(self.config.output / "tensorboard"), purge_step=self.update + 1)
            interval = 0.1 if sys.stderr.isatty() else 30.0  # seconds; each refresh adds a line to a batch job's output
            self._bar = tqdm(
                total=self.updates, initial=self.update, unit="update", dynamic_ncols=True, mininterval=interval
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.rank == 0:
            self._bar.close()
            try:
                self._board.close()
            finally:
                threading.excepthook = self._hook

    def _show(self, args: threading.ExceptHookArgs) -> None:
        """Show an error of a thread, unless it is TensorBoard's: that raises it again where it is used next."""
        if type(args.thread).__name__ != "_AsyncWriterThread":
            self._hook(args)

    def lap(self, update: int) -> tuple[float, int]:
        """Seconds and updates since the last lap, or since the start."""
        now, before, last = time.perf_counter(), self._time, self._logged
        self._time, self._logged = now, update
        return now - before, update - last

    def append(
        self, line: Mapping[str, float | None], shown: Mapping[str, str], tags: Mapping[str, str] | None = None
    ) -> None:
        """Add a line, with its `n_update`, to the log and to TensorBoard; the progress bar displays `shown`.

        `tags` are the tags of TensorBoard by name, GROUP/NAME; other numbers are in the group "training".
        """
        if self.process.rank == 0:
            with writing(self.path), self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            for name, value in line.items():
                if value is not None:
                    self._board.add_scalar((tags or {}).get(name, f"training/{name}"), value, line["n_update"])
            self._bar.set_postfix(dict(shown), refresh=False)

    def advance(self) -> None:
        """Advance the progress bar by one update; after the first ones, warn of a training longer than a month."""
        if self.process.rank == 0:
            self._bar.update()
            if len(self._done) < TIMED:
                self._done.append(time.perf_counter())
                if len(self._done) == TIMED:
                    self._warn_of_months((self._done[-1] - self._done[0]) / (TIMED - 1))

    def _warn_of_months(self, seconds: float) -> None:
        left = self.updates - self.update - TIMED
        if seconds * left > MONTH:
            months = seconds * left / MONTH
            how_long = f"{months / 12:.1f} years" if months > 24 else f"{months:.1f} months"
            remedy = "use GPUs, a smaller network or a shorter training"
            with tqdm.external_write_mode(file=sys.stderr):
                LOGGER.warning(
                    "warning: at %.3g seconds per update, the other %s updates take at least %s on this machine; %s",
                    seconds,
                    f"{left:,}",
                    how_long,
                    remedy,
                )


def read_log(path: Path) -> list[dict[str, Any]]:
    """Lines of a log.jsonl, none if there is no file; a warning counts damaged lines, as of a killed run."""
    if not path.is_file():
        return []
    texts = [text for text in read_text(path, "a training log", errors="replace").split("\n") if text.strip()]
    lines = log_lines(map(_parsed, texts))
    if damaged := len(texts) - len(lines):
        what = f"{path}: {damaged} of {len(texts)} lines are damaged (as when a run is killed) and left out"
        warnings.warn(what, InputWarning, stacklevel=2)
    return lines


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not abs(value) > LARGEST


def log_lines(found: Iterable[Any]) -> list[dict[str, Any]]:
    """Those that are lines of a log: objects with n_update, a whole number, and numbers, texts or nothing."""
    return [
        line
        for line in found
        if isinstance(line, dict)
        and isinstance(update := line.get("n_update"), int)
        and 0 <= update <= MOST
        and all(value is None or isinstance(value, str) or _is_number(value) for value in line.values())
    ]


def read_run_log(run: Path) -> pd.DataFrame:
    """One row per logged update of a run: log.jsonl, or training_log.json of the published script.

    The published log may be JSON lines or one JSON list; of several processes, the lines of the first are taken.
    """
    import pandas as pd

    path = run / LOG_NAME
    if not path.is_file() and (run / PUBLISHED_LOG).is_file():
        path = run / PUBLISHED_LOG
    lines = _whole_json(path) or read_log(path)
    require(lines, f"{path}: no log with logged updates; give the folder of a run (its --output) that has some")
    log = pd.DataFrame(lines)
    log = log.apply(pd.to_numeric, errors="coerce")  # a text in place of a number is no value
    if "rank" in log:
        log = log[log["rank"] == log["rank"].min()]
    return log.drop_duplicates("n_update", keep="last").reset_index(drop=True)  # an update again after a resume


def _whole_json(path: Path) -> list[dict[str, Any]]:
    """Lines of a published log that is one JSON; none of any other file."""
    if path.name != PUBLISHED_LOG:
        return []
    with suppress(ValueError, RecursionError):
        whole = json.loads(read_text(path, "a training log (JSON)", errors="replace"))
        return log_lines(whole if isinstance(whole, list) else [whole])
    return []


def read_metrics(folder: Path) -> dict[int, Mapping[str, Any]]:
    """Update -> metrics of each group, from the files update_N.json of `seqdance evaluate`."""
    metrics = {}
    for path in folder.glob("update_*.json"):
        with reading(path, "the metrics of a checkpoint", "remove it or evaluate the checkpoint again"):
            update = int(path.stem.removeprefix("update_"))
            groups = json.loads(path.read_text(encoding="utf-8"), parse_int=float)["groups"]
            for group in groups.keys() & set(ALL_GROUPS):
                model = groups[group]["model"]
                values = [model["loss"], *(model["properties"][name] for name in properties_of_group(group))]
                if not all(value is None or isinstance(value, float | int) for value in values):
                    raise TypeError(f"losses of {group} are not numbers")
            metrics[update] = groups
    return dict(sorted(metrics.items()))


def peak_memory(device: torch.device) -> float:
    """Peak memory of this process in GiB: allocated on its GPU, or resident without one."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return peak_resident_memory() / 2**30


def write_config(config: TrainingOptions, chosen: Mapping[str, Any], devices: Sequence[str]) -> None:
    """Write config.json of the run: configuration, what it left open, versions, device of each process."""
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}  # includes the build, as +cpu
    versions |= {name: version(name) for name in ("seqdance", "numpy", "h5py", "safetensors")}
    content = {
        "config": asdict(config),
        **chosen,
        "versions": versions | {"cuda": torch.version.cuda, "git": git_commit()},
        "processes": len(devices),
        "devices": devices,
    }
    write_text(config.output / "config.json", json.dumps(content, indent=2, default=str) + "\n")


def git_commit(folder: Path = ROOT) -> str | None:
    """Commit of the source, with "-dirty" after uncommitted changes; None outside a git checkout."""
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # git is missing, or does not trust a folder of another user
        return None
    return found.stdout.strip()
