"""Features with a planted signal: in frames inside the moment a direction that the query names, noise elsewhere."""

import json
from pathlib import Path

import numpy as np

LAYERS, TOKENS, VIDEO_WIDTH, QUERY_WIDTH, CONCEPTS = 2, 5, 32, 24, 8


def _directions(width: int) -> np.ndarray:
    """One unit direction for each concept and layer, the same for every dataset: ``[CONCEPTS, LAYERS, width]``."""
    random = np.random.default_rng(7)
    values = random.standard_normal((CONCEPTS, LAYERS, width))
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def plant_charades(folder: Path, *, train: int, test: int, seed: int = 0) -> Path:
    """Writes annotations and features of a small Charades-STA; returns the folder.

    Every video is 20 to 40 seconds at one frame per second, holds its query's concept in one moment, and another one
    at half strength somewhere else. The query is three tokens: a start, the concept with noise, an end.
    """
    random = np.random.default_rng(seed)
    video_side, query_side = _directions(VIDEO_WIDTH), _directions(QUERY_WIDTH)
    videos, queries = folder / "clip_b32_vid_k2", folder / "clip_b32_txt_k2"
    for place in (videos, queries):
        place.mkdir(parents=True)
    for split, count, first in (("train", train, 0), ("test", test, train)):
        lines = []
        for qid in range(first, first + count):
            frames = int(random.integers(20, 41))
            concept, other = random.choice(CONCEPTS, 2, replace=False)
            length = int(random.integers(3, 13))
            start = int(random.integers(0, frames - length + 1))
            values = random.standard_normal((frames, LAYERS, TOKENS, VIDEO_WIDTH))
            patch = int(random.integers(1, TOKENS))
            values[start : start + length, :, [0, patch]] += 8 * video_side[concept][:, None]
            decoy = int(random.integers(0, frames - 4))
            values[decoy : decoy + 4, :, [0, patch]] += 4 * video_side[other][:, None]
            words = random.standard_normal((3, LAYERS, QUERY_WIDTH))
            words[1] += 8 * query_side[concept]
            np.save(videos / f"v{qid}.npy", values.astype(np.float16))
            np.save(queries / f"{qid}.npy", words.astype(np.float16))
            window = [start, start + length]
            line = {"qid": qid, "query": f"concept {concept}", "duration": frames, "vid": f"v{qid}"}
            lines.append(json.dumps({**line, "relevant_windows": [window]}))
        (folder / f"charades_{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


SMALL = [
    "model.layers=2",
    "model.hidden=32",
    "model.heads=4",
    "model.dropout=0.1",
    "data.workers=0",
    "optimizer.lr=2e-3",
    "optimizer.warmup_steps=20",
    "decoding.unit=null",
]
"""Settings under which a model of these features is small and learns in a minute."""
