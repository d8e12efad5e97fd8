"""Operations, bytes, FLOPs and peak memory of the forward and backward pass of a micro-step, counted without a GPU.

    python benchmarks/launches.py [--stages 256x16 1024x2] [--compiled]

The 35M network in bfloat16 on tensors without memory. A launch is an operation that is not a view; its bytes are those
of its inputs and outputs. On a GPU most of these operations are one kernel. The peak is that of the tensors, targets
and gradients included, weights and the optimizer not. Tiles of the pair head are those of a GPU; autocast is that of
the CPU, which differs in a few operations. Group by group, and the three groups together.

With --compiled, PyTorch's compiler fuses the operations of an encoder layer and of a tile of the pair head as for this
machine, and its kernels are counted in the place of their operations.
"""

from __future__ import annotations

import math
import weakref
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
from model.network.device import autocast
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
    """Also with compiled parts; minutes."""


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


def targets(group: str, proteins: int, length: int) -> tuple[Tensor, Tensor]:
    """Residue and pair targets."""
    widths = (3, 3) if group in NMA_GROUPS else (47, 10)
    return torch.empty(proteins, length, widths[0]), torch.empty(proteins, length, length, widths[1])


def micro_step(
    length: int, proteins: int, together: bool, config: ModelConfig | None = None, precision: str = "bf16"
) -> tuple[Launches, int]:
    """Launches and FLOPs of all groups."""
    with FakeTensorMode(allow_non_fake_inputs=True), gpu_tiles():
        model = DanceModel(config)
        flops = FlopCounterMode(display=False)
        with Launches() as counted, flops:
            data = {group: targets(group, proteins, length) for group in GROUPS}
            for groups in [GROUPS] if together else [(group,) for group in GROUPS]:
                ids = torch.ones(len(groups) * proteins, length, dtype=torch.int64)
                with autocast(ids.device, precision):
                    outputs = model(ids, torch.ones_like(ids))
                total: Tensor | float = 0.0
                for k, group in enumerate(groups):
                    rows = slice(k * proteins, (k + 1) * proteins)
                    names = properties_of_group(group)
                    part = {name: outputs[name][rows] for name in (*names, *(n for n in PAIR_CHANNELS if n in names))}
                    counts = torch.ones(len(names))
                    total = total + dance_loss(part, *data[group], group, WEIGHTS, counts)["loss"]
                assert isinstance(total, Tensor)
                counted.held = counted.now
                total.backward()
                del outputs, part, total
    return counted, flops.get_total_flops()


def layer_and_tile(proteins: int, length: int, rows: int) -> dict[str, tuple[Callable[..., Any], list[Tensor]]]:
    """An encoder layer, and a tile of `rows` rows of the pair head, with inputs: (L, hidden) of each protein."""
    config = ModelConfig()
    model = DanceModel(config)
    layer, rotary = model.esm2.encoder.layer[0], rotary_angles(length, config.head_dim, torch.device("cpu"))
    keys = torch.ones(proteins, 1, 1, length, dtype=torch.bool)
    x = torch.randn(proteins, length, config.hidden, requires_grad=True)
    q, k = (torch.randn(proteins, n, config.hidden).bfloat16().requires_grad_() for n in (length, rows))
    v_m = model.pair_pred_linear.weight[:, : config.maps]
    values = (model.pair_middle_linear.weight, model.pair_middle_linear.bias, v_m, model.pair_pred_linear.bias)
    parameters = [value.detach().bfloat16().requires_grad_() for value in values]
    return {
        "layer": (lambda x: layer(x, keys, rotary, True), [x]),
        "tile": (partial(pair_head.tile_logits, True), [q, k, *parameters]),
    }


def forward_and_backward(part: Callable[..., Any], inputs: list[Tensor]) -> None:
    """Both passes, with gradients of the dtypes of the results."""
    with torch.autocast("cpu", torch.bfloat16):
        found = part(*inputs)
    results = [tensor for tensor in tree_leaves(found) if isinstance(tensor, Tensor)]
    torch.autograd.backward(results, [torch.empty_like(tensor) for tensor in results])


def compiled_part(part: Callable[..., Any], inputs: list[Tensor]) -> tuple[int, int]:
    """Kernels of the forward and backward pass of a compiled part, and the bytes that they read and write.

    The generated kernels are neither built nor called.
    """
    from torch._inductor.async_compile import AsyncCompile
    from torch._inductor.graph import GraphLowering
    from torch._inductor.scheduler import NopKernelSchedulerNode

    sizes: list[int] = []
    generate = GraphLowering.codegen

    def counted(graph: GraphLowering) -> Any:
        result = generate(graph)
        nodes = [node for node in graph.scheduler.nodes if not isinstance(node, NopKernelSchedulerNode)]
        sizes.extend(node.get_read_write_buffers_sizes() for node in nodes)
        return result

    torch.compiler.reset()
    with (
        patch.object(GraphLowering, "codegen", counted),
        patch.object(AsyncCompile, "cpp_pybinding", lambda *_, **__: lambda *_: None),
        torch._inductor.config.patch(force_disable_caches=True),
    ):
        forward_and_backward(torch.compile(part, dynamic=False), inputs)
    return len(sizes), sum(sizes)


def compiled_pass(name: str, length: int, proteins: int) -> tuple[int, float]:
    """Kernels of a compiled layer or tile, and bytes of a layer or of all tiles of a pass.

    Bytes grow linearly with the proteins of a layer, and with the rows of the pair head: few of both are counted.
    """
    (first, rows), (second, more) = sizes = ((2, 1), (4, 1)) if name == "layer" else ((2, 8), (2, 16))
    (kernels, small), (_, large) = (compiled_part(*layer_and_tile(n, length, k)[name]) for n, k in sizes)
    each = (large - small) / (second * more - first * rows)
    return kernels, small + each * (proteins * (1 if name == "layer" else length) - first * rows)


def compiled_step(length: int, proteins: int) -> tuple[int, float]:
    """Launches and bytes of a pass of all groups whose layers and tiles are compiled; the rest is not."""
    whole, _ = micro_step(length, proteins, True)
    launches, size = whole.number.total(), float(whole.bytes.total())
    proteins, config = len(GROUPS) * proteins, ModelConfig()
    tiles = math.ceil(length / (pair_head.GPU_TILE // (proteins * config.maps * (length + config.hidden))))
    for name, number, parts in (("layer", config.layers, config.layers), ("tile", tiles, 1)):
        with FakeTensorMode(allow_non_fake_inputs=True), Launches() as eager:
            part, inputs = layer_and_tile(proteins, length, length)[name]
            eager.number.clear()
            eager.bytes.clear()
            forward_and_backward(part, inputs)
        kernels, of_kernels = compiled_pass(name, length, proteins)
        launches += number * (kernels - eager.number.total())
        size += parts * (of_kernels - eager.bytes.total())
    return launches, size


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
                f"{stage:8} {how:22} {counted.number.total():6} launches {gigabytes:7.1f} GB {flops / 1e12:6.2f} TFLOP "
                f"{counted.peak / 1e9:5.1f} GB at most"
            )
            largest = ", ".join(f"{name} {size / 1e9:.0f}" for name, size in counted.bytes.most_common(8))
            print(f"{'':9}GB: {largest}", flush=True)
        if arguments.compiled:
            launches, size = compiled_step(length, proteins)
            print(f"{'':9}layers and tiles compiled {launches} launches {size / 1e9:.1f} GB", flush=True)


if __name__ == "__main__":
    main()
