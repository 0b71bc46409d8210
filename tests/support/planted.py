"""Features with a planted signal, which a model can learn, and feature stores that end processes."""

from __future__ import annotations

import atexit
import json
import os
import signal
import time
from pathlib import Path

import numpy as np

from r2tuning.datasets.highlight_detection import YOUTUBE_HIGHLIGHTS
from r2tuning.features import EncodedVideo
from r2tuning.features.store import FeatureStore

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


TINY = [
    "model.layers=2",
    "model.hidden=16",
    "model.heads=2",
    "data.workers=0",
    "optimizer.lr=2e-3",
    "optimizer.warmup_steps=3",
    "decoding.unit=null",
    "training.epochs=2",
    "training.batch_size=8",
    "training.log_every=1",
    "training.accelerator=cpu",
]
"""Settings of these features under which a run of 24 queries takes a second."""


VALIDATION = ("fXx44D1sqUw", "wvQ0h5Nwsxc", "zr5LSPMBpiI", "z3cNtOMKK7A", "yUjJq0kvxcw", "xZIN_s-qhbU")
"""Videos that the benchmark has in its validation part."""


def plant_highlights(folder: Path, *, train: int, domain: str = "dog", seed: int = 0) -> Path:
    """Writes annotations and features of a small YouTube Highlights of one domain; returns the folder.

    Every video has 18 to 30 clips: stretches of highlights (1) with the direction, of others (-1) with another
    direction, and between them clips (0) with the direction at half strength.
    """
    random = np.random.default_rng(seed)
    sign, other = random.standard_normal((2, LAYERS, VIDEO_WIDTH))
    word = random.standard_normal((3, LAYERS, QUERY_WIDTH))
    videos, queries = folder / "clip_b32_vid_k2", folder / "clip_b32_txt_k2"
    for place in (videos, queries):
        place.mkdir(parents=True)
    parts = {"train": [f"video-{index}" for index in range(train)], "val": list(VALIDATION)}
    for split, vids in parts.items():
        assert all(YOUTUBE_HIGHLIGHTS.is_in_split(vid, split) for vid in vids)
        lines = []
        for vid in vids:
            clips = int(random.integers(18, 31))
            match = np.resize(np.repeat(random.permutation([1, 0, -1, 1, -1, -1]), 3), clips)
            values = random.standard_normal((clips, LAYERS, TOKENS, VIDEO_WIDTH))
            strength = (match + 1)[:, None, None] / 2
            values[:, :, 0] += 2 * (strength * sign + (match == -1)[:, None, None] * other)
            np.save(videos / f"{vid}.npy", values.astype(np.float16))
            np.save(queries / f"{vid}.npy", word.astype(np.float16))
            line = {"qid": vid, "vid": vid, "query": domain, "duration": clips / 0.59, "domain": domain}
            lines.append(json.dumps({**line, "match": match.tolist()}))
        (folder / f"youtube_highlight_{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


class FatalStore(FeatureStore):
    """Ends the process that puts ``b`` into it, as the system does when memory is short."""

    def save_video(self, name: str, encoded: EncodedVideo) -> None:
        if name == "b":
            os._exit(9)
        super().save_video(name, encoded)


class TerminatedStore(FeatureStore):
    """Has the process that puts anything into it told to end while it is leaving already."""

    def save_video(self, name: str, encoded: EncodedVideo) -> None:
        atexit.register(os.kill, os.getpid(), signal.SIGTERM)
        super().save_video(name, encoded)


class SlowStore(FeatureStore):
    """Takes a second for each video."""

    def save_video(self, name: str, encoded: EncodedVideo) -> None:
        time.sleep(1)
        super().save_video(name, encoded)
