"""A small Moving Shapes whose truth is, mostly, what a seeded model says of it: scores that are worth a calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from support.small_benchmarks import make_model, save_features, write_lines

from r2tuning.checkpoints import save_checkpoint
from r2tuning.datasets import Annotation, find_benchmark
from r2tuning.decoding.calibration import find_evidence
from r2tuning.evaluation.predict import predict
from r2tuning.features.store import FeatureStore
from r2tuning.grounder import Grounder
from r2tuning.metrics import Prediction

VIDEOS, QUERIES = 6, 8


def save_answered(folder: Path, *, splits: tuple[str, ...] = ("val",), absent: bool = True) -> Path:
    """Writes annotations and features to ``folder`` and the model to ``folder/model``; returns the latter.

    Of each split's 48 queries, the third of lowest saliency has no moment. Three in four of the others have the most
    salient of the model's best moments, and one has another.
    """
    config, model = make_model()
    save_checkpoint(folder / "model", model.state_dict(), config)
    videos = {f"{split}-{i}": 16 + 5 * i for split in splits for i in range(VIDEOS)}
    asked = [
        Annotation(f"{vid}-{i}", vid, f"query {i} of {vid}", 2.0 * frames)
        for vid, frames in videos.items()
        for i in range(QUERIES)
    ]
    features = save_features(folder / "features", videos, [str(a.qid) for a in asked])
    answers = predict(
        Grounder(model, config, None), asked, find_benchmark("moving-shapes"), FeatureStore.open(features)
    )
    random = np.random.default_rng(0)
    for split in splits:
        mine = [(a, p) for a, p in zip(asked, answers, strict=True) if a.vid.startswith(split)]
        mine.sort(key=lambda pair: find_evidence(pair[1].windows[:, 2], pair[1].saliency)[1])
        lines: dict[str, list[dict[str, object]]] = {"": [], "_absent": []}
        for rank, (annotation, answer) in enumerate(mine):
            line = {"qid": annotation.qid, "vid": annotation.vid, "query": annotation.query}
            line["duration"] = annotation.duration
            if rank < len(mine) // 3:
                lines["_absent"].append(line)
                continue
            best = find_salient(answer) if rank % 4 else np.sort(random.uniform(0, annotation.duration, 2))
            lines[""].append(line | {"relevant_windows": [best.tolist()]})
        write_lines(folder / f"{split}.jsonl", lines[""])
        if absent:
            write_lines(folder / f"{split}_absent.jsonl", lines["_absent"])
    return folder / "model"


def find_salient(answer: Prediction) -> np.ndarray:
    """Start and end of the moment, of the best five, in which saliency is highest."""
    assert answer.saliency is not None
    frames = np.arange(len(answer.saliency)) * 2 + 1
    inside = [answer.saliency[(start <= frames) & (frames < end)] for start, end in answer.windows[:5, :2]]
    return answer.windows[int(np.argmax([curve.mean() if len(curve) else -1 for curve in inside])), :2]
