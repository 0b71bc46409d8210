"""The golden cases: seeded weights and inputs, and the numbers that the released implementation gave for them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from r2tuning.checkpoints.official import list_parameters
from r2tuning.model import R2Config

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


_PARAMETERS = Path(__file__).parents[1] / "golden" / "parameters.json"
_SEED = 1000


def official_shapes(arch: str) -> dict[str, tuple[int, ...]]:
    """Parameter names of the authors' files and their shapes, sorted by name; ``arch``: grounding or saliency."""
    shapes = json.loads(_PARAMETERS.read_text())[arch]
    return {name: tuple(shapes[name]) for name in sorted(shapes) if name != "loss._loss_sal.scale"}


def official_state_dict(arch: str) -> dict[str, torch.Tensor]:
    """Seeded fp32 weights under the authors' names; every call returns tensors of its own.

    ``grounding`` is the QVHighlights model, ``saliency`` the TVSum model.
    """
    return {name: torch.from_numpy(values.copy()) for name, values in _values(arch).items()}


def export_official(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of a model under the authors' names: the inverse of `read_official`."""
    config = R2Config(family="grounding" if "offset_head.0.weight" in state else "saliency")
    if config.family == "grounding":
        levels = max((int(name.split(".")[2]) + 2 for name in state if name.startswith("pyramid.levels.")), default=1)
        config = R2Config(strides=tuple(2**level for level in range(levels)))
    # The paper's form has no bias in w_q and w_v.
    return {official: state[ours] for official, ours, _ in list_parameters(config) if ours in state}


@cache
def _values(arch: str) -> dict[str, np.ndarray]:
    values = {}
    for j, (name, shape) in enumerate(official_shapes(arch).items()):
        z = np.random.RandomState(_SEED + j).standard_normal(shape)
        if name in ("adapter.gate", "adapter.scale"):
            z = 0.5 * z
        elif name == "coef":
            z = 1 + 0.2 * z
        elif z.ndim == 1:
            z = 1 + 0.1 * z if name.endswith(".weight") else 0.05 * z
        else:
            z = z / math.sqrt(math.prod(shape[1:]))
        values[name] = z.astype(np.float16).astype(np.float32)
    return values
