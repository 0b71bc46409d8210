"""Stores the features of drawn frames, as `r2tuning extract` stores those of videos."""

from __future__ import annotations

import argparse
import multiprocessing
from fractions import Fraction
from pathlib import Path

import torch

from projects.moving_shapes.frames import SAMPLING, Frames, draw_frames
from r2tuning.backbones import Backbone, load_backbone
from r2tuning.cli.options import show_progress
from r2tuning.features.encoded import EncodingFacts, FeatureWriter
from r2tuning.features.extraction import QueryTask, extract_queries
from r2tuning.features.store import FeatureStore
from r2tuning.files import write_atomically
from r2tuning.synthetic.generate import list_seeds
from r2tuning.synthetic.queries import describe, describe_absent, to_line
from r2tuning.synthetic.scenes import Split
from r2tuning.synthetic.staging import make_video
from r2tuning.video.preprocess import PREPROCESS_VERSION

BACKBONE, LAYERS = "r2tuning/demo", 4


def store_features(frames: Path, split: Split, videos: int, folder: Path, jobs: int, seed: int) -> None:
    """Encodes the first drawn videos of a split and seed, and annotates them; also with absent queries."""
    backbone = load_backbone(BACKBONE, layers=LAYERS)
    with show_progress("Frames", "videos") as progress:
        drawn = draw_frames(frames, split, videos, backbone.preprocessing.size, jobs, progress, seed)
    store = FeatureStore.create(folder / "features", backbone)
    missing = [place for place, vid in enumerate(drawn.vids) if not store.has_video(vid)]
    with (
        show_progress("Videos", "videos") as progress,
        multiprocessing.get_context("spawn").Pool(jobs, _start, (frames, split, videos, store.folder, seed)) as pool,
    ):
        for done, _ in enumerate(pool.imap_unordered(_encode, missing, chunksize=4), start=1):
            progress(done, len(missing))
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        scripts = pool.starmap(make_video, [(one, split) for one in list_seeds(seed, videos)], chunksize=8)
        described = {
            f"{split}.jsonl": pool.map(describe, scripts, chunksize=8),
            f"{split}_absent.jsonl": pool.map(describe_absent, scripts, chunksize=8),
        }
    for file, found in described.items():
        annotations = [annotation for one in found for annotation in one]
        queries = [QueryTask(str(annotation.qid), annotation.query) for annotation in annotations]
        with show_progress("Queries", "queries") as progress:
            extract_queries(queries, store, backbone, progress=progress)
        write_atomically(folder / file, "".join(map(to_line, annotations)), force=True)


class _Worker:
    """What a process needs, loaded once."""

    backbone: Backbone
    store: FeatureStore
    frames: Frames
    split: Split
    seeds: range


def _start(frames: Path, split: Split, videos: int, store: Path, seed: int) -> None:
    torch.set_num_threads(1)
    _Worker.backbone = load_backbone(BACKBONE, layers=LAYERS)
    _Worker.store = FeatureStore.create(store, _Worker.backbone)
    _Worker.split, _Worker.seeds = split, list_seeds(seed, videos)
    side = _Worker.backbone.preprocessing.size
    _Worker.frames = draw_frames(frames, split, videos, side, 1, lambda _done, _of: None, seed)


def _encode(place: int) -> None:
    frames, backbone = _Worker.frames, _Worker.backbone
    writer = FeatureWriter()
    pixels = torch.from_numpy(frames.pixels[frames.starts[place] : frames.starts[place + 1]].copy())
    for part in torch.split(pixels, 16):
        writer.append(backbone.encode_frames(part))
    facts = EncodingFacts(
        video=f"{frames.vids[place]}.mp4",
        duration=make_video(_Worker.seeds[place], _Worker.split).duration,
        start=0,
        fps=float(Fraction(SAMPLING)),
        sampling="exact",
        truncated=False,
        backbone=backbone.name,
        fingerprint=backbone.fingerprint,
        summary=backbone.summary,
        preprocess_version=PREPROCESS_VERSION,
    )
    _Worker.store.save_video(frames.vids[place], writer.finish(facts))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("frames", type=Path, help="cache of drawn frames")
    parser.add_argument("folder", type=Path, help="folder of the data")
    parser.add_argument("--videos", type=int, default=1200)
    parser.add_argument("--split", choices=("train", "val", "test"), default="train")
    parser.add_argument("--seed", type=int, default=0, help="as for r2tuning synthesize")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    store_features(
        arguments.frames, arguments.split, arguments.videos, arguments.folder, arguments.jobs, arguments.seed
    )
