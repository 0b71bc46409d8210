"""Which part is to blame: ``python -m projects.moving_shapes.diagnose``.

For each query, the chance that a frame within its moments scores above a frame outside (AUROC), averaged by kind of
query, for CLIP's own similarity (of the [CLS] token, of the best patch) and for what the head makes of it (saliency,
and the class logits of the finest level). Where CLIP is low, the head has little to start from.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize
from transformers import CLIPModel

from projects.moving_shapes.kinds import find_kind, recall_meanings
from r2tuning.backbones.registry import find_folder
from r2tuning.checkpoints import read_checkpoint
from r2tuning.datasets import find_benchmark, load_annotations
from r2tuning.features.store import FeatureStore
from r2tuning.metrics.reliability import auroc
from r2tuning.model import R2Tuning

CURVES = ("CLIP [CLS]", "CLIP best patch", "head: saliency", "head: class")


@torch.inference_mode()
def draw_curves(clip: CLIPModel, model: R2Tuning, video: Tensor, query: Tensor) -> list[Tensor]:
    """Scores of every frame, ``[T]`` each, in the order of `CURVES`.

    Args:
        clip: The CLIP of the features.
        model: The head.
        video: ``[T, K, P+1, Dv]``.
        query: ``[L, K, Dq]``.
    """
    sentence = normalize(clip.text_projection(clip.text_model.final_layer_norm(query[-1, -1])), dim=-1)
    tokens = normalize(clip.visual_projection(clip.vision_model.post_layernorm(video[:, -1])), dim=-1) @ sentence
    layers = model.config.layers
    output = model(video[:, -layers:].transpose(0, 1)[None], query[:, -layers:].transpose(0, 1)[None])
    saliency = cosine_similarity(output.hidden[0], output.query, dim=-1)
    return [tokens[:, 0], tokens[:, 1:].amax(dim=1), saliency, output.class_logits[0, : len(video)]]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of annotations and features")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--split", default="val")
    arguments = parser.parse_args()
    benchmark = find_benchmark("moving-shapes")
    queries = load_annotations(arguments.folder / f"{arguments.split}.jsonl", benchmark)
    store = FeatureStore.open(arguments.folder / "features")
    embedded = CLIPModel.from_pretrained(find_folder("r2tuning/demo")).float().eval()  # type: ignore[no-untyped-call]
    _, head = read_checkpoint(arguments.checkpoint)
    found: dict[str, list[list[float]]] = defaultdict(list)
    for annotation, meaning in zip(queries, recall_meanings(queries), strict=True):
        features = store.video(annotation.vid).float()
        times = (np.arange(len(features)) + 0.5) * 2
        inside = np.any([(start <= times) & (times < end) for start, end in annotation.moments], axis=0)
        if inside.any() and not inside.all():
            curves = draw_curves(embedded, head, features, store.query(str(annotation.qid)).float())
            scores = [auroc(curve.numpy()[inside], curve.numpy()[~inside]) for curve in curves]
            for group in ("all", find_kind(meaning).value):
                found[group].append(scores)
    print(f"| queries | n | {' | '.join(CURVES)} |\n|---|---:|{'---:|' * len(CURVES)}")
    for group, rows in found.items():
        print(f"| {group} | {len(rows)} | {' | '.join(f'{value:.3f}' for value in np.mean(rows, axis=0))} |")
