"""Systems without POSIX, whose text encoding is not UTF-8, and Apple's GPU, which has no float64."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import mdtraj
import numpy as np
import pytest
import torch
import torchgen
from torch.utils._python_dispatch import TorchDispatchMode

from data_prepare import files, memory
from data_prepare.files import remove_leftovers, whole_file
from data_prepare.memory import peak_resident_memory
from model.inference.attention import attention_maps
from model.inference.embed import embed
from model.inference.predict import predict_properties
from model.mutations.score import score_mutations
from model.network.device import choose_device, choose_precision

ROOT = Path(__file__).resolve().parents[1]

# a system as Windows for our packages; the interpreter and other libraries keep what they need here
WINDOWS = """
import builtins, os, pkgutil, signal, sys, warnings
import torch, torch.distributed
POSIX = {"fcntl", "resource", "pwd", "grp", "termios"}
OURS = ("seqdance", "model", "data_prepare")
for name in ("SIGUSR1", "SIGUSR2", "SIGKILL", "SIGHUP", "SIGALRM"):
    delattr(signal, name)
for name in ("fork", "sched_getaffinity", "O_DIRECTORY", "pread"):
    delattr(os, name)
original = builtins.__import__

def without_posix(name, globals=None, locals=None, fromlist=(), level=0):
    if name in POSIX and (globals or {}).get("__name__", "").split(".")[0] in OURS:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return original(name, globals, locals, fromlist, level)

builtins.__import__ = without_posix
warnings.filterwarnings("error", category=EncodingWarning, module=r"(seqdance|model|data_prepare)\\b")

def main(*words):
    from seqdance.cli import main
    try:
        main(list(words))
    except SystemExit as left:
        assert not left.code, words

import data_prepare, model, seqdance
for package in (data_prepare, model, seqdance):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__"):
            __import__(module.name)
from seqdance.cli import COMMANDS, DYNA1_COMMANDS
for name in COMMANDS:
    main(name, "--help")
for name in DYNA1_COMMANDS:
    main("dyna1", name, "--help")
from data_prepare.files import HAS_FILE_LOCKS
assert not HAS_FILE_LOCKS
protein = ("--model", MODEL, "--sequence", "MQIFVKTLTG")
main("predict", *protein, "--output", "predictions")
main("predict", *protein, "--output", "predictions.h5")
main("score", *protein, "--mutations", "Q2A,K6R:T7S", "--output", "scores.csv")
from data_prepare.molecular_dynamics.MD_features import main as features
for form in ("xtc", "dcd"):
    features(["-p", f"{TRAJECTORY}.pdb", "-t", f"{TRAJECTORY}.{form}", "-o", form])
"""


@pytest.mark.slow
def test_without_posix(tiny_model_folder, examples, tmp_path):
    """Everything can be imported, every command has its help, and the main ones run."""
    trajectory = Path(shutil.copy(examples / "trajectories" / "helix_aeaaak.pdb", tmp_path)).with_suffix("")
    frames = mdtraj.load(examples / "trajectories" / "helix_aeaaak.xtc", top=f"{trajectory}.pdb")[:3]
    for form in ("xtc", "dcd"):
        frames.save(f"{trajectory}.{form}")
    text = f"MODEL, TRAJECTORY = {str(tiny_model_folder)!r}, {str(trajectory)!r}\n{WINDOWS}"
    words = [sys.executable, "-X", "warn_default_encoding", "-c", text]
    run = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "scores.csv").read_text().startswith("protein,mutant,")


def test_temporary_files_without_locks(monkeypatch, tmp_path):
    """Those of the last day may be in use."""
    monkeypatch.setattr(files, "HAS_FILE_LOCKS", False)
    monkeypatch.delattr(files, "fcntl")
    with whole_file(tmp_path / "a.csv") as temporary:
        temporary.write_text("x", encoding="utf-8")
        remove_leftovers(tmp_path)
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == "x"
    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "b.csv") as temporary:
        raise KeyboardInterrupt
    left = tmp_path / f".c.{'0' * 16}.tmp.csv"
    left.touch()
    monkeypatch.setattr(files, "ABANDONED_SECONDS", -1)
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_peak_memory_without_resource(monkeypatch):
    exact = peak_resident_memory()
    monkeypatch.setattr(memory, "HAS_RESOURCE", False)
    assert exact / 2 < peak_resident_memory() < exact * 2


class AppleGPU(TorchDispatchMode):
    """PyTorch's meta device in the place of Apple's GPU: computes nothing, copies to the CPU as zeros.

    Keeps the operations, and fails on a float64 tensor of the device.
    """

    def __init__(self):
        super().__init__()
        self.operations = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        flat = [leaf for leaf in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        here = any(tensor.is_meta for tensor in flat)
        to_cpu = torch.device("cpu") in torch.utils._pytree.tree_leaves((args, kwargs))
        if here and to_cpu:
            return torch.zeros(flat[0].shape, dtype=kwargs.get("dtype") or flat[0].dtype)
        found = function(*args, **kwargs)
        for tensor in torch.utils._pytree.tree_leaves(found):
            if isinstance(tensor, torch.Tensor) and tensor.is_meta:
                assert tensor.dtype not in (torch.float64, torch.complex128), function
                self.operations.add(function)
        return found


def supported(operation) -> bool:
    """Whether PyTorch's list of native functions has a kernel of the operation for Apple's GPU (MPS), or needs none."""
    import yaml

    listed = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"
    if not hasattr(supported, "functions"):
        functions = yaml.load(listed.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        supported.functions = {function["func"].partition("(")[0]: function for function in functions}
    name = str(operation).removeprefix("aten.").removesuffix(".default")
    function = supported.functions[name]
    function = supported.functions[function.get("structured_delegate", name)]
    keys = {key.strip() for keys in function.get("dispatch", {"CompositeImplicit": ""}) for key in keys.split(",")}
    return any(key == "MPS" or key.startswith("Composite") for key in keys)


def test_uses_fit_apples_gpu(tiny_model, monkeypatch):
    model = type(tiny_model)(tiny_model.config).to("meta").eval()
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which knows no meta device
    sequence = "MQIFVK<eos><cls>TLTG"
    with AppleGPU() as device:
        assert predict_properties(model, [sequence, "MQ"])[1]["corr"].shape == (2, 2)
        assert embed(model, [sequence, "MQ"]).shape == (2, 32)
        assert embed(model, sequence, per_residue=True).shape == (10, 32)
        assert attention_maps(model, sequence, special_tokens=False).shape == (10, 10, 8)
        assert np.isfinite(score_mutations(model, "MQIFVK", ["Q2A", "I3V:K6R"])["score"]).all()
    attention = {op for op in device.operations if "scaled_dot_product" in str(op)}  # has a form of its own there
    assert len(device.operations) > 20
    assert [str(operation) for operation in device.operations - attention if not supported(operation)] == []


def test_auto_takes_apples_gpu_for_uses_only(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto").type == "mps"
    assert choose_device("auto", apple=False).type == "cpu"  # training
    assert choose_precision("auto", torch.device("mps")) == "fp32"
