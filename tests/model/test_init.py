"""Random weights are distributed as the released recipe says, and by default as PyTorch's layers are."""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from r2tuning.model import R2Config, R2Tuning

SEEDS = 4
"""Draws of small tensors are few, so several models are drawn."""


class Start(NamedTuple):
    """A distribution: ``constant`` of that value, ``uniform`` within ±size, or ``normal`` of that deviation."""

    kind: str
    size: float


def want(name: str, tensor: Tensor, fan_in: int, init: str) -> Start:
    """The distribution of a tensor, from the released recipe's description and PyTorch's documentation."""
    if name.endswith(".gate"):
        return Start("constant", 0)
    if name == "level_scale":
        return Start("constant", 1)
    if "norm" in name or any(name.startswith(f"block.{m}_map.{i}.") for m in ("video", "query") for i in (0, 4)):
        return Start("constant", 1 if name.endswith("weight") else 0)
    if init == "released" and "attention." in name:
        # Xavier: √(6 / (C + C)); 0.0625 is its deviation at C = 256.
        return Start("constant", 0) if name.endswith("bias") else Start("uniform", math.sqrt(3) * 0.0625)
    if init == "released" and "feed_forward." in name:
        deviation = {1024: 0.0442, 256: 0.0884}[len(tensor)]
        return Start("constant", 0) if name.endswith("bias") else Start("normal", deviation)
    return Start("uniform", 1 / math.sqrt(fan_in))


def distance(values: Tensor, start: Start) -> float:
    """The largest difference of the two distribution functions (Kolmogorov and Smirnov)."""
    ordered = values.double().flatten().sort().values
    if start.kind == "normal":
        expected = torch.special.ndtr(ordered / start.size)
    else:
        expected = ((ordered / start.size + 1) / 2).clamp(0, 1)
    rank = torch.arange(len(ordered) + 1, dtype=torch.float64) / len(ordered)
    return max((rank[1:] - expected).max().item(), (expected - rank[:-1]).max().item())


def draw(config: R2Config) -> dict[str, Tensor]:
    """Every tensor of several models, stacked."""
    models = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        models.append(R2Tuning(config).state_dict())
    return {name: torch.stack([state[name] for state in models]) for name in models[0]}


@pytest.mark.parametrize("init", ["released", "default"])
@pytest.mark.parametrize(("family", "count"), [("grounding", 82), ("saliency", 54)])
def test_every_tensor_starts_from_its_distribution(family: str, count: int, init: str) -> None:
    config = R2Config(family=family, init=init)
    drawn = draw(config)
    assert len(drawn) == count
    kinds = []
    for name, values in drawn.items():
        of_layer = values[0] if name.endswith("weight") else drawn.get(name.removesuffix("bias") + "weight", values)[0]
        start = want(name, values[0], math.prod(of_layer.shape[1:]), init)
        kinds.append(start.kind)
        if start.kind == "constant":
            assert (values == start.size).all(), name
            continue
        assert not torch.equal(values[0], values[1]), name
        # The 0.1 % level for this many draws. Weights have enough to tell uniform from normal, which are 0.05 apart.
        assert distance(values, start) < 1.95 / math.sqrt(values.numel()) + 5e-4, (name, start)
        if start.kind == "uniform":
            assert values.abs().max() <= start.size * 1.0001, name
    assert kinds.count("normal") == (2 if init == "released" else 0)


def test_the_distance_tells_uniform_from_normal() -> None:
    """Of the same deviation, with as many draws as the smallest of the tensors in question has."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(SEEDS * 256 * 256, generator=generator)
    uniform = math.sqrt(3) * (2 * torch.rand(SEEDS * 256 * 256, generator=generator) - 1)
    assert distance(normal, Start("normal", 1)) < 0.005
    assert distance(uniform, Start("uniform", math.sqrt(3))) < 0.005
    assert distance(uniform, Start("normal", 1)) > 0.05
    assert distance(normal, Start("uniform", math.sqrt(3))) > 0.05


def test_both_differ_in_twenty_tensors_and_in_nothing_that_is_loaded() -> None:
    small = {"video_width": 8, "query_width": 6, "layers": 2, "hidden": 16, "heads": 2}
    models = {}
    for init in ("released", "default"):
        torch.manual_seed(0)
        models[init] = R2Tuning(R2Config(**small, init=init))
    of_both = {init: dict(model.block.named_parameters()) for init, model in models.items()}
    differ = [n for n, p in of_both["released"].items() if not torch.equal(p, of_both["default"][n])]
    assert len(differ) == 20
    assert all("temporal_refinement" in name and "norm" not in name for name in differ)
    models["released"].load_state_dict(models["default"].state_dict())
    for name, parameter in models["released"].named_parameters():
        assert torch.equal(parameter, models["default"].state_dict()[name])
