"""Device and precision of a network, evaluation mode, memory errors."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from shutil import which
from types import ModuleType
from typing import Final

import torch
from torch import Tensor, nn

from data_prepare.errors import InputError, InputWarning, first_line, require, shown
from data_prepare.memory import available_memory
from model.config import Precision

DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(device: str | torch.device = "auto", apple: bool = True) -> torch.device:
    """The device of this name; "auto" uses a GPU if one is available, with `apple` also that of a Mac.

    Raises InputError for an unusable device.
    """
    if device == "auto":
        mac = apple and torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mac else "cpu")
    try:
        found = torch.device(device)
        if found.type == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("PyTorch sees no GPU here")
        if found.type == "mps" and not torch.backends.mps.is_available():
            raise RuntimeError("PyTorch sees no Apple GPU here")
        if found != torch.device("cuda"):  # each process would allocate memory on the first GPU
            torch.zeros(1, device=found).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"--device {device}: {first_line(error)}; use auto, cpu, cuda or mps") from None
    return found


def device_of(module: nn.Module) -> torch.device:
    """The device of the weights of a network; InputError for anything else, such as a path."""
    remedy = "give a network, such as that of load_model(path)"
    require(isinstance(module, nn.Module), f"{module!r} is a {type(module).__name__}, not a network; {remedy}")
    return next(module.parameters()).device


def choose_precision(precision: Precision, device: torch.device) -> Precision:
    """fp32, bf16 or fp16; "auto" is fp32 on a CPU or a Mac, bf16 on another GPU that supports it, else fp16.

    Raises InputError for another word.
    """
    known = ("auto", *DTYPES)
    require(precision in known, f"precision {shown(precision)}: unknown; use {', '.join(known)}")
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def kernels_for(device: torch.device) -> ModuleType | None:
    """The Triton kernels, in half precision on an NVIDIA GPU that Triton supports; otherwise None."""
    half = device.type == "cuda" and torch.is_autocast_enabled("cuda")
    if not half or torch.version.hip or torch.cuda.get_device_capability(device) < (8, 0) or not find_spec("triton"):
        return None
    return import_module("model.network.kernels") if _has_compiler() else None


@cache
def _has_compiler() -> bool:
    """Whether there is a C compiler, which Triton needs on Linux; warns once if not."""
    found = sys.platform != "linux" or "CC" in os.environ or which("gcc") or which("clang")
    if not found:
        line = "no C compiler, which Triton needs: training and pair properties are slower; install gcc"
        warnings.warn(line, InputWarning, stacklevel=2)
    return bool(found)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context of a forward pass in fp32, bf16 or fp16; weights and losses stay fp32."""
    return torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32")


def memory_of(device: torch.device) -> int:
    """Free memory (bytes) of a device, on a GPU with what PyTorch holds for its next tensors."""
    if device.type != "cuda":
        return available_memory()
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + held


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Switch a module to evaluation mode inside the block."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


@contextmanager
def inference(network: nn.Module, precision: str) -> Iterator[None]:
    """Run a network inside the block in evaluation mode, without gradients, in fp32, bf16 or fp16.

    Applies to the current thread.
    """
    with evaluating(network), torch.inference_mode(), autocast(device_of(network), precision):
        yield


def require_finite(outputs: Mapping[str, Tensor], what: str) -> None:
    """InputError if a network predicts NaN or an infinite number, as one whose training has diverged."""
    broken = torch.stack([(~value.isfinite()).any() for value in outputs.values()]).any()
    remedy = "its training has diverged or its weights are damaged; use another checkpoint, or --precision fp32"
    require(not broken.cpu(), f"{what}: the network predicts numbers that are not finite: {remedy}")


@contextmanager
def enough_memory(what: str, device: torch.device, remedy: str) -> Iterator[None]:
    """Turn an out-of-memory error inside the block into an InputError with `what` did not fit and the remedy."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(error):
            raise
        raise InputError(f"{what}: not enough memory ({device}); {remedy}") from None
