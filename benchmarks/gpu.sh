#!/usr/bin/env bash
# Everything about this package that needs a GPU, in one call: tests of training and resuming there, then the tables.
# Run it in a clone with PyTorch for CUDA in .venv, and send what it prints.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python}
"$python" -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else "PyTorch sees no GPU here")'
"$python" -m pytest -q tests/training/test_loop.py tests/model/test_kernels.py
"$python" benchmarks/bench_gpu.py "$@"
