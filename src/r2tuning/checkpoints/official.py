"""The authors' ``.pth`` files: their parameter names, and the model shape inferred from them."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from r2tuning.checkpoints.folder import take_tensors
from r2tuning.errors import CheckpointError
from r2tuning.files import guard, require_regular
from r2tuning.model.config import R2Config

_IGNORED = "loss._loss_sal.scale"  # the constant temperature of the saliency loss, [1]

_ATTENTION = {"q": "query", "k": "key", "v": "value", "m": "output"}


def read_official(path: str | Path) -> tuple[R2Config, dict[str, torch.Tensor]]:
    """Reads the shape of a model and its fp32 weights, under our parameter names, from an authors' ``.pth``.

    Family and widths are inferred from names and shapes; heads and dropout are the defaults of `R2Config`. A file that
    would run code is refused.
    """
    path = Path(path)
    found = _load_state_dict(path)
    config = _infer_config(found, path)
    parameters = list(list_parameters(config))
    expected = {official: shape for official, _, shape in parameters}
    if _IGNORED in found:
        expected[_IGNORED] = (1,)
    weights = take_tensors(found, expected, path)
    return config, {ours: weights[official] for official, ours, _ in parameters}


def list_parameters(config: R2Config) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Every parameter of a model: the authors' name, ours, its shape."""
    for official, ours, shape in _layers(config):
        yield f"{official}.weight", f"{ours}.weight", shape
        yield f"{official}.bias", f"{ours}.bias", shape[:1]
    yield "adapter.scale", "block.spatial_pooling.gate", (config.layers,)
    yield "adapter.gate", "block.temporal_refinement.gate", (config.layers - 1,)
    yield "pooling.att.weight", "query_pooling.score.weight", (1, config.hidden)
    yield "coef", "level_scale", (len(config.strides),)


def _layers(config: R2Config) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Layers with weight and bias: the authors' prefix, ours, the weight's shape."""
    width = config.hidden
    video_width = config.video_width + (2 if config.family == "grounding" else 0)  # temporal endpoints
    for feature_map, tokens in (("video_map", video_width), ("query_map", config.query_width)):
        for index, shape in ((0, (tokens,)), (2, (width, tokens)), (4, (width,)), (6, (width, width))):
            yield f"adapter.{feature_map}.{index}", f"block.{feature_map}.{index}", shape
    yield "adapter.q_map", "block.spatial_pooling.query_projection", (width, width)
    yield "adapter.v_map", "block.spatial_pooling.video_projection", (width, width)
    refinement = "block.temporal_refinement"
    for kind in ("cross", "self"):
        for letter, projection in _ATTENTION.items():
            ours = f"{refinement}.{kind}_attention.{projection}"
            yield f"adapter.tem.{kind}_att.{letter}", ours, (width, width)
        yield f"adapter.tem.{kind}_att_norm", f"{refinement}.{kind}_norm", (width,)
    yield "adapter.tem.ffn.mapping.0", f"{refinement}.feed_forward.0", (4 * width, width)
    yield "adapter.tem.ffn.mapping.2", f"{refinement}.feed_forward.2", (width, 4 * width)
    yield "adapter.tem.ffn_norm", f"{refinement}.feed_forward_norm", (width,)
    for level in range(1, len(config.strides)):
        for step in range(level):  # each step: transpose, conv, transpose, norm, activation
            official, ours = f"pyramid.blocks.{level}", f"pyramid.levels.{level - 1}.{step}"
            yield f"{official}.{5 * step + 1}", f"{ours}.conv", (width, width, 2)
            yield f"{official}.{5 * step + 3}", f"{ours}.norm", (width,)
    heads = [("class_head", "class_head", 1), ("coord_head", "offset_head", 2)]
    for official, ours, outputs in heads if config.family == "grounding" else heads[:1]:
        yield f"{official}.module.1", f"{ours}.0", (width, width, 3)
        yield f"{official}.module.3", f"{ours}.2", (outputs, width, 3)


def _infer_config(found: Mapping[str, object], path: Path) -> R2Config:
    """The shape by majority vote of the tensors, so that a damaged tensor is the one that an error names."""

    def size(usual: int, *places: tuple[str, int, int]) -> int:
        """Most frequent ``shape[dimension] + offset`` over (name, dimension, offset); ties go to the usual size."""
        votes: Counter[int] = Counter()
        for name, dimension, offset in places:
            tensor = found.get(name)
            if isinstance(tensor, torch.Tensor) and -tensor.dim() <= dimension < tensor.dim():
                votes[tensor.shape[dimension] + offset] += 1
        if not votes:
            first = next(iter(found), None)
            raise CheckpointError(
                f"{path}: not an R²-Tuning model: no {places[0][0]!r} among {len(found)} keys (first: {first!r})"
            )
        return max(votes, key=lambda value: (votes[value], value == usual))

    grounding = any(name.startswith(("coord_head.", "pyramid.")) for name in found)
    levels = 1
    while grounding and any(name.startswith(f"pyramid.blocks.{levels}.") for name in found):
        levels += 1

    def width(usual: int, feature_map: str) -> int:
        first, second = f"adapter.{feature_map}.0", f"adapter.{feature_map}.2"
        return size(usual, (f"{first}.weight", 0, 0), (f"{first}.bias", 0, 0), (f"{second}.weight", -1, 0))

    usual, endpoints = R2Config(), 2 if grounding else 0
    norms = [f"adapter.tem.{kind}_norm.weight" for kind in ("cross_att", "self_att", "ffn")]
    with guard(path, CheckpointError, "no R²-Tuning model has weights of these shapes", R2Config):
        return R2Config(
            family="grounding" if grounding else "saliency",
            video_width=width(usual.video_width + endpoints, "video_map") - endpoints,
            query_width=width(usual.query_width, "query_map"),
            layers=size(usual.layers, ("adapter.scale", 0, 0), ("adapter.gate", 0, 1)),
            hidden=size(usual.hidden, ("adapter.q_map.bias", 0, 0), *((name, 0, 0) for name in norms)),
            strides=tuple(2**level for level in range(levels)),
        )


def _load_state_dict(path: Path) -> dict[str, object]:
    with guard(path, CheckpointError, "pass a .pth file or a checkpoint folder"):
        require_regular(path)
        with path.open("rb") as file:
            start = file.read(4)
    if start[:2] == b"PK" and not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path}: truncated; download or copy it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle versions; what matters follows as an error
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files fail wherever the unpickler happens to be: no common base
        raise CheckpointError(f"{path}: {_explain(error)}") from error
    if isinstance(content, dict) and "state_dict" in content:
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__} where a state dict belongs")
    for name in content:
        if not isinstance(name, str):
            raise CheckpointError(f"{path}: the state dict has the key {name!r}, which is no parameter name")
    return content


def _explain(error: Exception) -> str:
    refused = re.search(r"GLOBAL (\S+)", str(error))
    if refused:
        return (
            f"refused: it holds {refused[1]}, not only tensors and plain values, and could run code when loaded; "
            "save the state_dict alone"
        )
    if isinstance(error, EOFError) or "unexpected EOF" in str(error):
        return "empty or truncated; download or copy it again"
    return "not a file that torch.save wrote, or damaged; download or copy it again"
