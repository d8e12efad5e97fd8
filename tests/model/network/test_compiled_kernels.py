"""The Triton kernels compiled for cards that are not here: Triton brings NVIDIA's assembler."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

KB_PER_BLOCK = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}  # shared memory, by compute capability
# hidden, channels of the middle layer, heads: of SeqDance; the first two of ESM2-650M, the last of ESM2-3B
SIZES = [(480, 240, 20), (1280, 660, 40)]
COMPILE = """
import json, sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from model.network.kernels import attention, blocks, pair_head

capability, (hidden, channels, heads) = int(sys.argv[1]), map(int, sys.argv[2:])
half, single, byte, many, whole = "*bf16", "*fp32", "*u8", "*i32", "i32"
sizes = [whole] * 3
maps = {"H": heads, "O": 13, "P": blocks.OUTPUTS, "MASK": True, "DROP": True}
pairs = {"H": hidden, "C": channels, "O": 13, "P": blocks.OUTPUTS, "ROWS": pair_head.ROWS}
cases = {
    "forward": (pair_head.forward_kernel, [half] * 7 + [many, single, half, *sizes], pairs | {"KEEP": True}),
    "middle": (pair_head.middle_kernel, [half, single, half, many, half, single, single, single, *sizes], pairs),
    "q": (pair_head.q_kernel, [half] * 3 + [many, half, *sizes], pairs),
    "k": (pair_head.k_kernel, [half] * 4 + [many, single, single, *sizes], pairs),
    "maps": (
        attention.maps_kernel,
        [half, byte, many, many, half, half, single, single, whole, whole, "fp32"],
        maps,
    ),
    "scores": (
        attention.scores_kernel,
        [half, byte, many, half, half, single, half, single, half, single, whole, whole, "fp32"],
        maps | {"LEARN": True},
    ),
}
found = {}
for name, (kernel, types, options) in cases.items():
    own = blocks.blocks_of(divmod(capability, 10))[name]
    own = blocks.with_heads(own, heads) if name in ("maps", "scores") else own
    names = kernel.arg_names
    constants = {key: value for key, value in (options | own).items() if key in names}
    types = iter(types)
    signature = {key: "constexpr" if key in constants else next(types) for key in names}
    # in training on a GPU lengths are multiples of 16, and so are addresses
    general = [key for key in names if signature[key] in ("constexpr", "fp32") or key in ("first", "layer")]
    numbers = [n for n, key in enumerate(names) if key not in general]
    attributes = {(n,): [["tt.divisibility", 16]] for n in numbers}
    source = ASTSource(kernel, signature, {(names.index(key),): value for key, value in constants.items()}, attributes)
    options = {key: value for key, value in own.items() if key.startswith("num_")}
    found[name] = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options).metadata.shared
print(json.dumps(found))
"""


@pytest.mark.long
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("capability", KB_PER_BLOCK)
def test_kernels_fit_into_the_shared_memory(capability: int, sizes: tuple[int, ...], monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    command = [sys.executable, "-c", COMPILE, *map(str, (capability, *sizes))]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    used = json.loads(run.stdout)
    assert len(used) == 6
    assert max(used.values()) <= KB_PER_BLOCK[capability] * 1024, used
