"""The golden cases: seeded inputs, and the numbers that the released implementation gave for them."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

GOLDEN = Path(__file__).parents[1] / "golden"
CASES: dict[str, dict[str, Any]] = json.loads((GOLDEN / "cases.json").read_text())


def names(kind: str, arch: str = "") -> list[str]:
    """Names of the cases of a kind (infer, train), of one architecture or both."""
    return [name for name, case in CASES.items() if case["kind"] == kind and case["arch"].startswith(arch)]


def inputs(case: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Video ``[B, K, T, P+1, Dv]`` and query ``[B, K, L, Dq]`` of a case, fp32."""
    batch, frames, tokens = case["B"], case["T"], case["L"]
    video = np.random.RandomState(case["seed"]).standard_normal((batch, frames, 4, 50, 768))
    query = np.random.RandomState(case["seed"] + 1).standard_normal((batch, tokens, 4, 512))
    return tuple(torch.from_numpy(x.astype(np.float16)).float().transpose(1, 2) for x in (video, query))


@cache
def _file(arch: str) -> dict[str, Tensor]:
    return load_file(GOLDEN / f"{arch}_expected.safetensors")


def expected(name: str) -> dict[str, Tensor]:
    """The released implementation's tensors for a case."""
    return {
        key.removeprefix(f"{name}."): value
        for key, value in _file(CASES[name]["arch"]).items()
        if key.startswith(f"{name}.")
    }
