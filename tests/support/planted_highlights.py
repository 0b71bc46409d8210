"""YouTube Highlights with a planted signal: in highlights the direction that the query's domain names, else noise."""

import json
from pathlib import Path

import numpy as np

from r2tuning.datasets.youtube_highlights import YOUTUBE_HIGHLIGHTS

LAYERS, TOKENS, VIDEO_WIDTH, QUERY_WIDTH = 2, 5, 32, 24
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
