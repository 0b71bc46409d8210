"""The zero-shot baseline: ``python -m projects.moving_shapes.zero_shot DIR``.

CLIP's similarity of each frame to the sentence is smoothed, and moments are the runs of frames above a threshold. Width
and threshold are chosen on the validation split.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from projects.moving_shapes.frames import SAMPLING
from projects.moving_shapes.shared import BENCHMARK, open_features, read_split, write_json
from r2tuning.backbones import load_backbone
from r2tuning.backbones.clip import ClipBackbone
from r2tuning.datasets import Annotation, to_ground_truth
from r2tuning.errors import BackboneError, FeatureError
from r2tuning.evaluation.predict import open_query, open_video
from r2tuning.features.store import FeatureStore
from r2tuning.intervals import FloatArray
from r2tuning.metrics import BRIEF, Prediction, evaluate_grounding

Curve = NDArray[np.float64]
"""``[T]``, similarity of each frame to a sentence."""

Scale = Literal["cosine", "range", "rank"]
"""What a threshold is compared with: the similarity, its place between the curve's lowest and highest, or its rank."""

THRESHOLDS: dict[Scale, tuple[float, ...]] = {
    "cosine": tuple(np.linspace(0, 0.9, 10).round(2).tolist()),
    "range": tuple(np.linspace(0.3, 0.9, 7).round(2).tolist()),
    "rank": tuple(np.linspace(0.4, 0.9, 6).round(2).tolist()),
}

FPS = float(SAMPLING)
WIDTHS = (0.0, 0.5, 1.0, 2.0)
"""Widths of the smoothing Gaussian, in frames."""


@dataclass(frozen=True)
class Rule:
    """How moments are cut out of a curve: frames at or above the threshold, after smoothing (0: none)."""

    scale: Scale
    threshold: float
    width: float


def smooth(curve: Curve, width: float) -> Curve:
    """A curve smoothed by a Gaussian, whose weights are normalized at the ends."""
    if width == 0:
        return curve
    apart = np.arange(len(curve))[:, None] - np.arange(len(curve))
    weights = np.exp(-0.5 * (apart / width) ** 2)
    return np.asarray(weights @ curve / weights.sum(axis=1))


def measure(curve: Curve, scale: Scale) -> Curve:
    """A curve on the scale of the threshold.

    Example:
        >>> curve = np.array([0.1, 0.5, 0.3, 0.1])
        >>> measure(curve, "range").round(2).tolist(), measure(curve, "rank").round(2).tolist()
        ([0.0, 1.0, 0.5, 0.0], [0.0, 1.0, 0.67, 0.0])
    """
    if scale == "cosine":
        return curve
    if scale == "range":
        return np.asarray((curve - curve.min()) / max(np.ptp(curve), 1e-9))
    return np.asarray(np.searchsorted(np.sort(curve), curve) / max(len(curve) - 1, 1))


def cut_moments(curve: Curve, rule: Rule, fps: float) -> FloatArray:
    """The longest runs of frames above the threshold, with their mean similarity, ``[n, 3]``, best first.

    Example:
        >>> cut_moments(np.array([0.1, 0.6, 0.8, 0.1, 0.9]), Rule("cosine", 0.5, 0), fps=0.5).tolist()
        [[8.0, 10.0, 0.9], [2.0, 6.0, 0.7]]
    """
    smoothed = smooth(curve, rule.width)
    above = measure(smoothed, rule.scale) >= rule.threshold
    edges = np.flatnonzero(np.diff(np.concatenate([[False], above, [False]]).astype(np.int8))).reshape(-1, 2)
    runs = [[start / fps, end / fps, float(smoothed[start:end].mean())] for start, end in edges.tolist()]
    return np.array(sorted(runs, key=lambda run: -run[2]), dtype=np.float64).reshape(-1, 3)


def choose_rule(curves: Sequence[Curve], annotations: Sequence[Annotation], fps: float) -> tuple[Rule, float]:
    """The first rule with the best MR mAP, and that mAP in percent."""
    # Without ratings, only moments are scored.
    unrated = [replace(annotation, saliency=None) for annotation in annotations]
    rules = [Rule(scale, t, width) for scale, ts in THRESHOLDS.items() for t, width in product(ts, WIDTHS)]
    scores = [score_rule(rule, curves, unrated, fps)["MR-full-mAP"] for rule in rules]
    best = int(np.argmax(scores))
    return rules[best], scores[best]


def score_rule(rule: Rule, curves: Sequence[Curve], annotations: Sequence[Annotation], fps: float) -> dict[str, float]:
    """All metrics of a rule, in percent; highlights are scored on the raw curves."""
    predictions = [
        Prediction(annotation.qid, cut_moments(curve, rule, fps), curve)
        for curve, annotation in zip(curves, annotations, strict=True)
    ]
    return evaluate_grounding(predictions, [to_ground_truth(annotation) for annotation in annotations])


class Similarity:
    """CLIP's similarities, from features that are stored before its final norms and projections.

    Raises:
        BackboneError: If the CLIP cannot be loaded.
        FeatureError: If the features are of another CLIP.
    """

    def __init__(self, name: str, store: FeatureStore) -> None:
        clip = load_backbone(name, layers=store.layers)
        if not isinstance(clip, ClipBackbone):
            raise BackboneError(f"{name}: not a CLIP; give the one of the features with --clip")
        if store.facts is None or store.facts.fingerprint != clip.fingerprint:
            raise FeatureError(f"{store.folder}: was not made with {name}; name its CLIP with --clip")
        self._clip = clip

    @torch.inference_mode()
    def frames(self, tokens: Tensor) -> Tensor:
        """Unit vectors ``[…, D]`` of frames or patches, from tokens ``[…, Dv]`` of the last block."""
        return normalize(self._clip.project_frame_tokens(tokens), dim=-1)

    @torch.inference_mode()
    def sentence(self, token: Tensor) -> Tensor:
        """Unit vector ``[D]`` of a sentence, from the end token ``[Dq]`` of the last block."""
        return normalize(self._clip.project_query_tokens(token), dim=-1)


def draw_curves(similarity: Similarity, annotations: Sequence[Annotation], store: FeatureStore) -> list[Curve]:
    """Similarities of frames to the sentence, a curve for each annotation."""
    frames: dict[str, Tensor] = {}
    curves = []
    for annotation in annotations:
        if annotation.vid not in frames:
            encoded = open_video(annotation, BENCHMARK, store, layers=1)
            frames[annotation.vid] = similarity.frames(encoded.read(0, encoded.frames)[0, :, 0].float())
        end = open_query(annotation, BENCHMARK, store, layers=1).values[0, -1]
        curves.append((frames[annotation.vid] @ similarity.sentence(end)).double().numpy())
    return curves


def main(arguments: Sequence[str] | None = None) -> None:
    """Chooses on ``val``, and reports ``test``."""
    parser = argparse.ArgumentParser(description="The zero-shot baseline on Moving Shapes.")
    parser.add_argument("folder", type=Path, help="of val.jsonl, test.jsonl and features/")
    parser.add_argument("--clip", default="r2tuning/demo", help="the CLIP of the features")
    parser.add_argument("--json", type=Path, help="write the scores to this file")
    options = parser.parse_args(arguments)
    store = open_features(options.folder)
    similarity = Similarity(options.clip, store)

    def read(split: str) -> tuple[list[Curve], list[Annotation]]:
        annotations = read_split(options.folder, split)
        return draw_curves(similarity, annotations, store), annotations

    rule, chosen_with = choose_rule(*read("val"), FPS)
    curves, annotations = read("test")
    metrics = score_rule(rule, curves, annotations, FPS)
    content = {"split": "test", "queries": len(curves), "rule": asdict(rule), "val_mAP": chosen_with}
    write_json(options.json, content | {"metrics": metrics})
    print(f"{rule}, chosen with mAP {chosen_with:.2f} on val")
    for name in BRIEF:
        if name in metrics:
            print(f"{name:24}{metrics[name]:6.2f}")


if __name__ == "__main__":
    main()
