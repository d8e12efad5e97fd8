"""A trace of some updates by PyTorch's profiler, which https://ui.perfetto.dev and chrome://tracing show."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any, Final

import torch

from data_prepare.errors import writing
from model.config import TrainingOptions
from model.training.processes import Process

FOLDER: Final = "profile"  # inside that of a run
UNTRACED: Final = 3  # updates before the trace: kernels are chosen and memory is allocated in the first ones
WARM_UP: Final = 2  # of them, with the profiler on: its own start is slow


def profiler(config: TrainingOptions, process: Process) -> AbstractContextManager[Any]:
    """Context whose `step` is called after each update; rank 0 traces `config.profile` of them, if any.

    Writes `profile/updates_A_to_B.json.gz` to the run folder, counted from the start of the call, also if the training
    stops in between.
    """
    if not config.profile or process.rank:
        return nullcontext(SimpleNamespace(step=lambda: None))
    folder = config.output / FOLDER

    def write(profile: Any) -> None:
        path = folder / f"updates_{UNTRACED + 1}_to_{UNTRACED + config.profile}.json.gz"
        with writing(path):
            folder.mkdir(parents=True, exist_ok=True)
            profile.export_chrome_trace(str(path))

    schedule = torch.profiler.schedule(wait=UNTRACED - WARM_UP, warmup=WARM_UP, active=config.profile, repeat=1)
    return torch.profiler.profile(schedule=schedule, on_trace_ready=write)
