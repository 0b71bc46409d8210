"""Ranks the moments of a corpus by several scores: ``python -m projects.moving_shapes.ranking DATA CHECKPOINT``.

DATA is a folder of `features` with the ``truth.jsonl`` of `corpus`. Every query is asked of every video. The weights of
combined scores are fitted to another corpus, by logistic regression of the best moment of a pair being right.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from projects.moving_shapes.shared import BENCHMARK, open_features, read_split, to_markdown, write_json
from r2tuning.backbones import load_backbone
from r2tuning.checkpoints import read_checkpoint
from r2tuning.cli.options import show_progress
from r2tuning.datasets import Annotation
from r2tuning.decoding.calibration import log_odds, top_saliency
from r2tuning.decoding.decode import keep_distinct
from r2tuning.evaluation.calibrate import fit_logistic
from r2tuning.evaluation.corpus import rank_predictions, read_corpus_truth
from r2tuning.evaluation.evidence import RIGHT_IOU
from r2tuning.evaluation.predict import open_video, predict_everywhere, see_whole
from r2tuning.grounder import Grounder
from r2tuning.intervals import FloatArray, temporal_iou
from r2tuning.metrics import CorpusTruth, Prediction, evaluate_corpus

SHOWN = ("VCMR-R1@0.5", "VCMR-R5@0.5", "VCMR-R10@0.5", "VCMR-R1@0.7", "VCMR-R10@0.7", "VR-R1", "NDCG10@0.5")

EVIDENCE = ("score", "saliency", "presence", "cosine")
"""Log-odds of a moment's score, and of the pair: top saliency, log-odds of the presence head, highest cosine."""

WAYS: dict[str, tuple[str, ...]] = {
    "score": ("score",),
    "score and presence": ("score", "presence"),
    "score, saliency and presence": ("score", "saliency", "presence"),
    "cosine": ("cosine",),
    "score, saliency and cosine": ("score", "saliency", "cosine"),
    "all": EVIDENCE,
}


@dataclass(frozen=True)
class Asked:
    """All queries asked of all videos of a corpus.

    Attributes:
        videos: V names.
        found: For each video, the distinct moments of every query.
        pairs: ``[V, Q, 3]``: top saliency, log-odds of presence (0 without a head) and highest cosine.
        truths: Of the Q queries.
    """

    videos: list[str]
    found: list[list[Prediction]]
    pairs: FloatArray
    truths: list[CorpusTruth]


def ask_corpus(data: Path, split: str, checkpoint: str) -> Asked:
    """Asks every query of the truth of every video."""
    config, model = read_checkpoint(checkpoint)
    grounder, backbone, store = (
        Grounder(model, see_whole(config), None),
        load_backbone(config.backbone),
        open_features(data),
    )
    truths = read_corpus_truth(data / "truth.jsonl", BENCHMARK)
    annotations = {str(annotation.qid): annotation for annotation in read_split(data, split)}
    queries = [annotations[str(truth.qid)] for truth in truths]
    videos: list[Annotation] = list({a.vid: a for a in annotations.values()}.values())
    sentences = backbone.embed_queries([query.query for query in queries])
    found, pairs = [], []
    with show_progress("Videos", "videos") as progress:
        everywhere = predict_everywhere(grounder, queries, videos, BENCHMARK, store, progress)
        for video, predictions in zip(videos, everywhere, strict=True):
            encoded = open_video(video, BENCHMARK, store, 1)
            frames = backbone.embed_frames(encoded.read(0, encoded.frames).transpose(0, 1))
            cosine = (frames @ sentences.T).amax(dim=0).double().numpy()
            found.append([Prediction(p.qid, keep_distinct(p.windows[p.windows[:, 2] > 0])) for p in predictions])
            pairs.append(
                [
                    (
                        top_saliency(_curve(p)),
                        0.0 if p.presence is None else float(log_odds(np.array(p.presence))),
                        near,
                    )
                    for p, near in zip(predictions, cosine, strict=True)
                ]
            )
    return Asked([video.vid for video in videos], found, np.array(pairs), truths)


def _curve(prediction: Prediction) -> FloatArray:
    assert prediction.saliency is not None  # our models always give it
    return prediction.saliency


def fit_weights(asked: Asked, names: tuple[str, ...]) -> FloatArray:
    """Weights of `EVIDENCE`, 0 for those not named, that best tell whether the best moment of a pair is right."""
    rows, right = [], []
    for place, video in enumerate(asked.videos):
        for number, truth in enumerate(asked.truths):
            moments = asked.found[place][number].windows
            if video in truth.ignored or not len(moments):
                continue
            true = truth.windows[[name == video for name in truth.videos]]
            rows.append([float(log_odds(moments[0, 2])), *asked.pairs[place, number]])
            right.append(temporal_iou(moments[:1, :2], true).max(initial=0) >= RIGHT_IOU)
    chosen = [EVIDENCE.index(name) for name in names]
    weights = np.zeros(len(EVIDENCE))
    weights[chosen] = fit_logistic(np.array(rows)[:, chosen], np.array(right))[0]
    return weights


def rank_corpus(asked: Asked, weights: FloatArray) -> dict[str, float]:
    """The metrics across videos of ranking by weighted evidence."""
    extra = {
        id(prediction): float(asked.pairs[place, number] @ weights[1:])
        for place, predictions in enumerate(asked.found)
        for number, prediction in enumerate(predictions)
    }
    ranked = rank_predictions(
        asked.videos, asked.found, lambda p: weights[0] * log_odds(p.windows[:, 2]) + extra[id(p)]
    )
    return evaluate_corpus(ranked, asked.truths)


def main() -> None:
    """Prints a table, and writes it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the corpus to rank")
    parser.add_argument("checkpoint", help="name or folder")
    parser.add_argument("--fit", type=Path, required=True, help="folder of the corpus to fit weights to")
    parser.add_argument("--split", default="val", help="of both corpora")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args()
    fitted, asked = (ask_corpus(folder, options.split, options.checkpoint) for folder in (options.fit, options.data))
    results = {}
    for way, names in WAYS.items():
        if "presence" in names and not fitted.pairs[:, :, 1].any():
            continue
        weights = fit_weights(fitted, names)
        results[way] = {"weights": weights.tolist(), **rank_corpus(asked, weights)}
    rows = [[way, *(f"{scores[name]:.1f}" for name in SHOWN)] for way, scores in results.items()]
    print(to_markdown(["ranked by", *SHOWN], rows))
    write_json(options.json, results)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
