"""A head that knows what CLIP knows, to begin its training with: ``python -m demo.warm_start DATA FOLDER --set …``.

A head from random weights has to learn again which words belong to which patches, from a few thousand sentences. CLIP
knows: its own projections bring both into one space. Here the head's two feature maps begin as these projections (onto
half as many dimensions as the head is wide, each with both signs, as there is a ReLU between), and wherever tokens look
at patches or frames at tokens, queries and keys begin alike, so that things look at what they match.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPModel

from r2tuning.backbone.registry import find_folder
from r2tuning.checkpoints.files import save_checkpoint
from r2tuning.features.store import FeatureStore
from r2tuning.model.layers import FeatureMap
from r2tuning.training.build import build_model, describe_model
from r2tuning.training.recipes import load_recipe

_SENTENCES = 2000


@torch.no_grad()
def warm_start(data: Path, folder: Path, settings: list[str]) -> None:
    """Writes a checkpoint to begin with.

    Args:
        data: Folder of the annotations and features of the train split.
        folder: Of the checkpoint.
        settings: Of the recipe, as after ``--set``.
    """
    recipe = load_recipe("moving-shapes", settings)
    store = FeatureStore.open(data / "features")
    model = build_model(recipe, store)
    source = find_folder(recipe.backbone)
    assert source is not None  # it comes with the package
    clip = CLIPModel.from_pretrained(source).float().eval()
    half = recipe.model.hidden // 2
    axes = find_axes(clip, store, data / "train.jsonl", half)
    text, vision = clip.text_model.final_layer_norm, clip.vision_model.post_layernorm
    project_like(model.block.query_map, text, axes @ clip.text_projection.weight)
    project_like(model.block.video_map, vision, axes @ clip.visual_projection.weight)
    pooling, attention = model.block.spatial_pooling, model.block.temporal_refinement.cross_attention
    for layer in (pooling.query_projection, pooling.video_projection, attention.query, attention.key):
        layer.weight.copy_(torch.eye(recipe.model.hidden))
        layer.bias.zero_()
    pooling.gate.fill_(0.5)
    save_checkpoint(folder, model.state_dict(), describe_model(recipe, model))


def find_axes(clip: CLIPModel, store: FeatureStore, annotations: Path, count: int) -> Tensor:
    """The directions of CLIP's space along which sentences differ most, orthonormal rows ``[count, projection]``."""
    lines = annotations.read_text(encoding="utf-8").splitlines()[:_SENTENCES]
    ends = torch.stack([store.query(str(json.loads(line)["qid"]))[-1, -1] for line in lines]).float()
    sentences = nn.functional.normalize(clip.text_projection(clip.text_model.final_layer_norm(ends)), dim=-1)
    return torch.linalg.svd(sentences - sentences.mean(dim=0), full_matrices=False).Vh[:count]


def project_like(feature_map: FeatureMap, norm: nn.LayerNorm, projection: Tensor) -> None:
    """Makes a map give ``projection [C/2, D]`` of normalized tokens in its first half, divided by their own spread."""
    outer, first, inner, second = (layer for layer in feature_map if list(layer.parameters()))
    half, width = projection.shape
    outer.weight[:width], outer.bias[:width] = norm.weight, norm.bias
    first.weight.zero_()
    first.weight[:half, :width], first.weight[half:, :width] = projection, -projection
    first.bias.zero_()
    inner.reset_parameters()
    second.weight.mul_(0.3)
    second.weight[:half] = torch.cat([torch.eye(half), -torch.eye(half)], dim=1)
    second.bias.zero_()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the annotations and features")
    parser.add_argument("folder", type=Path, help="where to write the checkpoint")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    warm_start(arguments.data, arguments.folder, arguments.settings)
