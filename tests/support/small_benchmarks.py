"""Benchmarks of a few queries: annotation files and random features in the authors' layout, and models for them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from support.models import small_model

from r2tuning.checkpoints import save_checkpoint
from r2tuning.checkpoints.folder import CheckpointConfig, Provenance
from r2tuning.datasets import Annotation, find_benchmark
from r2tuning.decoding.calibration import find_evidence
from r2tuning.decoding.decode import DecodingConfig
from r2tuning.evaluation.predict import predict
from r2tuning.features.store import FeatureStore
from r2tuning.grounder import Grounder
from r2tuning.metrics import Prediction
from r2tuning.model import R2Config, R2Tuning

LAYERS, TOKENS, VIDEO_WIDTH, QUERY_WIDTH = 2, 3, 6, 5


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def draw_video(name: str, frames: int, layers: int = LAYERS) -> np.ndarray:
    """Noise ``[T, K, P+1, Dv]``, the same for the same name."""
    shape = frames, layers, TOKENS, VIDEO_WIDTH
    return np.random.default_rng(list(name.encode())).standard_normal(shape).astype(np.float16)


def draw_query(name: str, layers: int = LAYERS) -> np.ndarray:
    """Noise ``[L, K, Dq]`` of a length that depends on the name."""
    shape = 3 + sum(name.encode()) % 5, layers, QUERY_WIDTH
    return np.random.default_rng(list(name.encode())).standard_normal(shape).astype(np.float16)


def save_features(folder: Path, videos: Mapping[str, int], queries: Iterable[str], layers: int = LAYERS) -> Path:
    """Writes features of videos, by their number of frames, and of queries."""
    for kind, arrays in (
        ("vid", {name: draw_video(name, frames, layers) for name, frames in videos.items()}),
        ("txt", {name: draw_query(name, layers) for name in queries}),
    ):
        place = folder / f"clip_b32_{kind}_k{layers}"
        place.mkdir(parents=True, exist_ok=True)
        for name, array in arrays.items():
            np.save(place / f"{name}.npy", array)
    return folder


def make_model(family: str = "grounding", **settings: Any) -> tuple[CheckpointConfig, R2Tuning]:
    """A seeded model that reads these features; ``settings`` are of its configuration."""
    shape = R2Config(family=family, video_width=VIDEO_WIDTH, query_width=QUERY_WIDTH, layers=LAYERS, hidden=8, heads=2)
    config = CheckpointConfig(
        **{
            "name": "small",
            "model": shape,
            "backbone": "openai/clip-vit-base-patch32",
            "fps": 0.5,
            "window": 150,
            "decoding": DecodingConfig(nms="normal" if family == "grounding" else "none"),
            "provenance": Provenance(source="seeded", created_with="tests"),
            **settings,
        }
    )
    return config, small_model(shape, seed=3)


def charades_lines(videos: int = 3, queries: int = 4) -> list[dict[str, Any]]:
    """Queries about videos of 20 s, 26 s …, one moment each; ids from 0, videos taking turns."""
    return [
        {
            "qid": index,
            "vid": f"V{index % videos}",
            "query": f"person number {index} sits down",
            "duration": 20.0 + 6 * (index % videos),
            "relevant_windows": [[2.0 + index, 9.5 + index]],
        }
        for index in range(videos * queries)
    ]


def save_charades(folder: Path) -> Path:
    """A Charades-STA with its test and train split, and features at 1 frame per second."""
    lines = charades_lines()
    for split in ("train", "test"):
        write_lines(folder / f"charades_{split}.jsonl", lines)
    return save_features(folder, {line["vid"]: int(line["duration"]) for line in lines}, [str(x["qid"]) for x in lines])


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
