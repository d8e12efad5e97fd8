"""Operations, bytes and FLOPs of the forward and backward pass of a micro-step, counted without a GPU.

    python benchmarks/launches.py [--stages 256x16 1024x2] [--compiled]

The 35M network in bfloat16 on tensors without memory. A launch is an operation that is not a view; its bytes are those
of its inputs and outputs. On a GPU most of these operations are one kernel. Tiles of the pair head are those of a GPU;
autocast is that of the CPU, which differs in a few operations. Group by group, and the three groups together.

With --compiled an encoder layer and a tile of the pair head are compiled for this machine (minutes, a C++ compiler),
and the calls of their generated code are counted, in the place of their operations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
import tyro
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from data_prepare.properties import GROUPS, NMA_GROUPS, PAIR_CHANNELS, PROPERTIES, properties_of_group
from model.config import ModelConfig
from model.network import pair_head
from model.network.dance import DanceModel
from model.network.encoder import rotary_angles
from model.training.loss import dance_loss

WEIGHTS = dict.fromkeys(PROPERTIES, 1.0)
NO_KERNEL = (
    "device",
    "_unsafe_view",
    "empty",
    "empty_like",
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
    compiled: bool = False
    """Also the calls of compiled parts."""


class Launches(TorchDispatchMode):
    """Counts operations that are not views, and the bytes that they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.number, self.bytes = Counter[str](), Counter[str]()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run and count an operation."""
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if not function.is_view and name not in NO_KERNEL:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
            self.number[name] += 1
            self.bytes[name] += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


@contextmanager
def gpu_tiles() -> Iterator[None]:
    """Tiles of the size for a GPU."""
    with patch.multiple(pair_head, CPU_TILE=pair_head.GPU_TILE, CPU_KEPT=pair_head.GPU_KEPT):
        yield


def targets(group: str, proteins: int, length: int) -> tuple[Tensor, Tensor]:
    """Residue and pair targets."""
    widths = (3, 3) if group in NMA_GROUPS else (47, 10)
    return torch.zeros(proteins, length, widths[0]), torch.zeros(proteins, length, length, widths[1])


def micro_step(length: int, proteins: int, together: bool) -> tuple[Launches, int]:
    """Launches and FLOPs of all groups."""
    with FakeTensorMode(allow_non_fake_inputs=True), gpu_tiles():
        model = DanceModel(ModelConfig())
        data = {group: targets(group, proteins, length) for group in GROUPS}
        flops = FlopCounterMode(display=False)
        with Launches() as counted, flops:
            for groups in [GROUPS] if together else [(group,) for group in GROUPS]:
                ids = torch.ones(len(groups) * proteins, length, dtype=torch.int64)
                with torch.autocast("cpu", torch.bfloat16):
                    outputs = model(ids, torch.ones_like(ids))
                total: Tensor | float = 0.0
                for k, group in enumerate(groups):
                    rows = slice(k * proteins, (k + 1) * proteins)
                    names = properties_of_group(group)
                    part = {name: outputs[name][rows] for name in (*names, *(n for n in PAIR_CHANNELS if n in names))}
                    total = total + dance_loss(part, *data[group], group, WEIGHTS)["loss"]
                assert isinstance(total, Tensor)
                total.backward()
    return counted, flops.get_total_flops()


def calls_of(part: Callable[..., Any], *inputs: Tensor) -> int:
    """Calls in the code that is generated for the forward and backward pass of a part."""
    from torch._inductor.utils import run_fw_bw_and_get_code

    torch.compiler.reset()
    compiled = torch.compile(part, dynamic=False)

    def run() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            result = compiled(*inputs)
        result = result[0].float().sum() + result[1].float().sum() if isinstance(result, tuple) else result.sum()
        return result

    _, codes = run_fw_bw_and_get_code(run)
    lines = [line.strip() for code in codes for line in code.partition("def call(")[2].splitlines()]
    return sum("extern_kernels." in line or "torch.ops." in line or line.startswith("cpp_fused") for line in lines)


def compiled_parts() -> tuple[int, int]:
    """Calls of a compiled encoder layer, and of a tile of the pair head."""
    model = DanceModel(ModelConfig())
    x = torch.randn(2, 64, 480, requires_grad=True)
    layer, rotary = model.esm2.encoder.layer[0], rotary_angles(64, 24, x.device)
    keys = torch.ones(2, 1, 1, 64, dtype=torch.bool)
    of_layer = calls_of(lambda x: layer(x, keys, rotary, True), x)
    q, k = (part.bfloat16().requires_grad_() for part in torch.randn(2, 2, 64, 480).unbind(0))
    v_m = model.pair_pred_linear.weight[:, :240]
    values = (model.pair_middle_linear.weight, model.pair_middle_linear.bias, v_m, model.pair_pred_linear.bias)
    parameters = [value.detach().bfloat16().requires_grad_() for value in values]
    return of_layer, calls_of(partial(pair_head.tile_logits, True), q, k, *parameters)


def main() -> None:
    """Count and print."""
    arguments = tyro.cli(Arguments, description=__doc__)
    for stage in arguments.stages:
        length, proteins = map(int, stage.split("x"))
        for together in (False, True):
            counted, flops = micro_step(length, proteins, together)
            how = "three groups together" if together else "group by group"
            gigabytes = counted.bytes.total() / 1e9
            print(
                f"{stage:8} {how:22} {counted.number.total():6} launches {gigabytes:7.1f} GB {flops / 1e12:6.2f} TFLOP"
            )
            largest = ", ".join(f"{name} {size / 1e9:.0f}" for name, size in counted.bytes.most_common(8))
            print(f"{'':9}GB: {largest}", flush=True)
    if arguments.compiled:
        of_layer, of_tile = compiled_parts()
        print(f"compiled: {of_layer} calls of a layer, {of_tile} of a tile of the pair head, forward and backward")


if __name__ == "__main__":
    main()
