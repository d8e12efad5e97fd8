#!/usr/bin/env bash
# All GPU measurements, on a machine with one NVIDIA card and the project installed:
#     bash benchmarks/gpu.sh [OUTPUT.md] [options of gpu.py]
# Writes Markdown; takes a few minutes. To try it without a card:
#     DEVICE=cpu ZERO_SHOT="--preset demo --mutants 4 --repeats 1" bash benchmarks/gpu.sh try.md \
#         --preset demo --forms eager --updates 1 --warm-up 0 --entries 2 --residues 20 40
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(command -v python || command -v python3 || true)
[ -x .venv/bin/python ] && python=.venv/bin/python
output=${1:-gpu.md}
device=${DEVICE:-cuda}
{
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv || echo "no nvidia-smi here"
    echo
    "$python" benchmarks/gpu.py --device "$device" "${@:2}"
    echo
    # shellcheck disable=SC2086  # several words
    "$python" benchmarks/zero_shot.py --device "$device" ${ZERO_SHOT:---mutants 512 --repeats 3}
} | tee "$output"
