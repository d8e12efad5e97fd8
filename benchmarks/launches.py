"""Operations, bytes, FLOPs and peak memory of the forward and backward pass of a micro-step, counted without a GPU.

    python benchmarks/launches.py [--stages 256x16 1024x2]

The 35M network in bfloat16 on tensors without memory. A launch is an operation that is not a view; its bytes are those
of its inputs and outputs. On a GPU most of these operations are one kernel. The peak is that of the tensors, targets
and gradients included, weights and the optimizer not. Tiles of the pair head are those of a GPU; autocast is that of
the CPU, which differs in a few operations. Group by group, the three groups together, and these with
the Triton kernels, each of which reads its inputs and writes its outputs once.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

import torch
import tyro
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from data_prepare.properties import GROUPS, NMA_GROUPS, PROPERTIES, properties_of_group
from model.config import ModelConfig
from model.network import pair_head
from model.network.dance import DanceModel
from model.network.device import autocast
from model.training.loss import dance_loss

WEIGHTS = dict.fromkeys(PROPERTIES, 1.0)
NO_KERNEL = (
    "device",
    "_unsafe_view",
    "empty",
    "empty_like",
    "new_empty",
    "empty_strided",
    "detach",
    "alias",
    "lift_fresh",
    "_local_scalar_dense",
)


@dataclass(frozen=True)
class Arguments:
    """What to count."""

    stages: tuple[str, ...] = ("256x16", "1024x2")
    """Tokens x proteins of each group."""


class Launches(TorchDispatchMode):
    """Counts operations that are not views, the bytes that they read and write, and those of the tensors in being."""

    def __init__(self) -> None:
        super().__init__()
        self.number, self.bytes = Counter[str](), Counter[str]()
        self.now = self.peak = self.held = 0  # bytes; `held` when the backward pass begins
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run and count an operation."""
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._hold(tensor.untyped_storage())
        name = function.overloadpacket.__name__
        if not function.is_view and name not in NO_KERNEL:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
            self.number[name] += 1
            self.bytes[name] += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result

    def _hold(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


@contextmanager
def gpu_tiles() -> Iterator[None]:
    """Tiles of the size for a GPU."""
    with patch.multiple(pair_head, CPU_TILE=pair_head.GPU_TILE, CPU_KEPT=pair_head.GPU_KEPT):
        yield


class Kernel:
    """In the place of a Triton kernel: counts it, its inputs and outputs (pair logits as both), and runs nothing."""

    def __init__(self, name: str, counted: Launches) -> None:
        self.name, self.counted = name, counted

    def __getitem__(self, _: object) -> Callable[..., None]:
        def launch(*args: Any, **_: Any) -> None:
            both = args[7:8] if self.name == "maps_kernel" else ()
            self.counted.number[self.name] += 1
            self.counted.bytes[self.name] += sum(x.nbytes for x in (*args, *both) if isinstance(x, Tensor))

        return launch


@contextmanager
def triton_kernels(counted: Launches) -> Iterator[None]:
    """The network with its kernels, counted."""
    from model.network import dance, kernels

    with ExitStack() as stack:
        stack.enter_context(patch.object(dance, "kernels_for", lambda _: kernels))
        for module in (kernels.attention, kernels.pair_head):
            stubs: Any = {name: Kernel(name, counted) for name in vars(module) if name.endswith("_kernel")}
            stack.enter_context(patch.multiple(module, **stubs))
        yield


def targets(group: str, proteins: int, length: int) -> tuple[Tensor, Tensor]:
    """Residue and pair targets."""
    widths = (3, 3) if group in NMA_GROUPS else (47, 10)
    return torch.empty(proteins, length, widths[0]), torch.empty(proteins, length, length, widths[1])


def micro_step(
    length: int,
    proteins: int,
    together: bool,
    config: ModelConfig | None = None,
    precision: str = "bf16",
    kernels: bool = False,
) -> tuple[Launches, int]:
    """Launches of all groups, and the FLOPs of their operations without those of kernels."""
    with FakeTensorMode(allow_non_fake_inputs=True), gpu_tiles():
        model = DanceModel(config)
        flops, counted = FlopCounterMode(display=False), Launches()
        with triton_kernels(counted) if kernels else nullcontext(), counted, flops:
            data = {group: targets(group, proteins, length) for group in GROUPS}
            for groups in [GROUPS] if together else [(group,) for group in GROUPS]:
                ids = torch.ones(len(groups) * proteins, length, dtype=torch.int64)
                with autocast(ids.device, precision):
                    outputs = model(ids, torch.ones_like(ids))
                total: Tensor | float = 0.0
                parts = {name: values.split(proteins) for name, values in outputs.items()}
                for k, group in enumerate(groups):
                    names = properties_of_group(group)
                    part = {name: parts[name][k] for name in names}
                    counts = torch.ones(len(names))
                    total = total + dance_loss(part, *data[group], group, WEIGHTS, counts)["loss"]
                assert isinstance(total, Tensor)
                counted.held = counted.now
                total.backward()
                del outputs, parts, part, total
    return counted, flops.get_total_flops()


def main() -> None:
    """Count and print."""
    arguments = tyro.cli(Arguments, description=__doc__)
    for stage in arguments.stages:
        length, proteins = map(int, stage.split("x"))
        for together, kernels in ((False, False), (True, False), (True, True)):
            if kernels and not find_spec("triton"):
                continue
            counted, flops = micro_step(length, proteins, together, kernels=kernels)
            how = "together, kernels" if kernels else "three groups together" if together else "group by group"
            gigabytes = counted.bytes.total() / 1e9
            print(
                f"{stage:8} {how:22} {counted.number.total():6} launches {gigabytes:7.1f} GB {flops / 1e12:6.2f} TFLOP "
                f"{counted.peak / 1e9:5.1f} GB at most"
            )
            largest = ", ".join(f"{name} {size / 1e9:.0f}" for name, size in counted.bytes.most_common(8))
            print(f"{'':9}GB: {largest}", flush=True)


if __name__ == "__main__":
    main()
