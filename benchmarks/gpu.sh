#!/usr/bin/env bash
# All GPU measurements, on a machine with one NVIDIA card and the project installed:
#     bash benchmarks/gpu.sh [OUTPUT.md] [options of gpu.py]
# Writes Markdown; takes a few minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
python=python
[ -x .venv/bin/python ] && python=.venv/bin/python
output=${1:-gpu.md}
{
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv || echo "no nvidia-smi here"
    echo
    "$python" benchmarks/gpu.py "${@:2}"
    echo
    "$python" benchmarks/zero_shot.py --device cuda --mutants 512 --repeats 3
} | tee "$output"
