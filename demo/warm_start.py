"""A head that knows what CLIP knows: ``python -m demo.warm_start CLIP DATA FOLDER --set …``.

A head from random weights has to learn again which words belong to which patches, from a few thousand sentences. CLIP
knows: its own projections bring both into one space. Here the head's two feature maps begin as these projections (onto
the directions in which sentences differ most, each with both signs, as there is a ReLU between), and wherever tokens
look at patches or frames at tokens, queries and keys begin alike, so that things look at what they match. Some channels
of the patches begin with where a patch is, and with what the CLIP's tokens were taught to tell of the actor's place,
radius and rotation: what moves shows in them from frame to frame.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPModel

from demo.tiny_clip import GRID
from demo.train_clip import GEOMETRY_FILE
from r2tuning.checkpoints.files import save_checkpoint
from r2tuning.features.store import FeatureStore
from r2tuning.model.layers import FeatureMap
from r2tuning.training.build import build_model, describe_model
from r2tuning.training.recipes import load_recipe

_SENTENCES, _VIDEOS = 2000, 150


@torch.no_grad()
def warm_start(trained: Path, data: Path, folder: Path, settings: list[str]) -> None:
    """Writes a checkpoint to begin with.

    Args:
        trained: Folder of the CLIP as `demo.train_clip` left it.
        data: Folder of the annotations and features of the train split.
        folder: Of the checkpoint.
        settings: Of the recipe, as after ``--set``.
    """
    recipe = load_recipe("moving-shapes", settings)
    store = FeatureStore.open(data / "features")
    model = build_model(recipe, store)
    clip = CLIPModel.from_pretrained(trained).float().eval()
    half = recipe.model.hidden // 2
    text, vision = clip.text_model.final_layer_norm, clip.vision_model.post_layernorm
    seen = vision(sample_tokens(store, data / "train.jsonl"))
    where = find_places(seen, vision, load_file(trained / GEOMETRY_FILE))
    axes = find_axes(clip, store, data / "train.jsonl", half - len(where))
    meant = axes @ clip.visual_projection.weight
    where *= ((seen @ meant.T).std(dim=(0, 1)).mean() / (seen @ where.T).std(dim=(0, 1)))[:, None]  # as loud
    project_like(model.block.query_map, text, axes @ clip.text_projection.weight, silent=len(where))
    project_like(model.block.video_map, vision, torch.cat([meant, where]))
    pooling, attention = model.block.spatial_pooling, model.block.temporal_refinement.cross_attention
    for layer in (pooling.query_projection, pooling.video_projection, attention.query, attention.key):
        # Looking is by meaning; places only say where that is.
        layer.weight.mul_(0.1)
        layer.weight[: len(axes)] = torch.eye(recipe.model.hidden)[: len(axes)]
        layer.bias.zero_()
    pooling.gate.fill_(0.5)
    save_checkpoint(folder, model.state_dict(), describe_model(recipe, model))


def find_axes(clip: CLIPModel, store: FeatureStore, annotations: Path, count: int) -> Tensor:
    """The directions of CLIP's space along which sentences differ most, orthonormal rows ``[count, projection]``."""
    lines = annotations.read_text(encoding="utf-8").splitlines()[:_SENTENCES]
    ends = torch.stack([store.query(str(json.loads(line)["qid"]))[-1, -1] for line in lines]).float()
    sentences = nn.functional.normalize(clip.text_projection(clip.text_model.final_layer_norm(ends)), dim=-1)
    return torch.linalg.svd(sentences - sentences.mean(dim=0), full_matrices=False).Vh[:count]


def sample_tokens(store: FeatureStore, annotations: Path) -> Tensor:
    """Some patch tokens of the last layer, ``[n, P, Dv]``."""
    vids = dict.fromkeys(json.loads(line)["vid"] for line in annotations.read_text(encoding="utf-8").splitlines())
    return torch.cat([store.video(vid)[::9, -1, 1:].float() for vid in list(vids)[:_VIDEOS]])


def find_places(seen: Tensor, norm: nn.LayerNorm, geometry: dict[str, Tensor]) -> Tensor:
    """Rows ``[n, Dv]`` that tell of a token where its patch is, and the geometry of the actor in it.

    Args:
        seen: Normalized tokens, ``[m, P, Dv]``.
        norm: What normalized them.
        geometry: The head that `demo.train_clip` left, which has a normalization of its own.
    """
    x, y = torch.meshgrid(*[torch.linspace(-1, 1, GRID)] * 2, indexing="xy")
    waves = [wave(torch.pi / 2 * side) for side in (x, y) for wave in (torch.sin, torch.cos)]
    target = torch.stack([x, y, *waves], dim=-1).flatten(0, 1)
    target = (target - target.mean(dim=0)).expand(len(seen), -1, -1).flatten(0, 1)
    flat = seen.flatten(0, 1)
    place = torch.linalg.lstsq(flat - flat.mean(dim=0), target).solution.T
    return torch.cat([place, geometry["1.weight"] * geometry["0.weight"] / norm.weight])


def project_like(feature_map: FeatureMap, norm: nn.LayerNorm, projection: Tensor, silent: int = 0) -> None:
    """Makes a map give ``projection [n, D]`` of normalized tokens in its first channels, divided by their own spread.

    Args:
        feature_map: The map.
        norm: How tokens are normalized first.
        projection: What is given.
        silent: Channels after them that give next to nothing.
    """
    outer, first, inner, second = (layer for layer in feature_map if list(layer.parameters()))
    count, width = projection.shape
    half = count + silent
    outer.weight[:width], outer.bias[:width] = norm.weight, norm.bias
    first.weight.mul_(0.1)
    first.weight[:count, :width], first.weight[half : half + count, :width] = projection, -projection
    first.bias.zero_()
    inner.reset_parameters()
    second.weight.mul_(0.3)
    second.weight[:half] = torch.cat([torch.eye(half), -torch.eye(half)], dim=1)
    second.bias.zero_()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path, help="folder of the CLIP as demo.train_clip left it")
    parser.add_argument("data", type=Path, help="folder of the annotations and features")
    parser.add_argument("folder", type=Path, help="where to write the checkpoint")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    warm_start(arguments.clip, arguments.data, arguments.folder, arguments.settings)
