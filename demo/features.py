"""Features of the train split from drawn frames, as `r2tuning extract` would store those of its videos."""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import torch

from demo.frames import SAMPLING, Frames, draw_frames
from r2tuning.backbone import ClipBackbone
from r2tuning.cli.progress import show_progress
from r2tuning.features.batch import extract_queries
from r2tuning.features.encoded import EncodingFacts, FeatureWriter
from r2tuning.features.store import FeatureStore
from r2tuning.features.tasks import QueryTask
from r2tuning.output.files import write_atomically
from r2tuning.synthetic.annotate import describe, to_line
from r2tuning.synthetic.script import Split
from r2tuning.synthetic.staging import make_video
from r2tuning.video.preprocess import PREPROCESS_VERSION

LAYERS = 4


def store_features(frames: Frames, split: Split, backbone: ClipBackbone, folder: Path) -> None:
    """Encodes drawn videos and their queries, and writes their annotations; what is there is kept.

    Args:
        frames: Drawn frames.
        split: Of the videos.
        backbone: The CLIP.
        folder: Of the data; the features go to ``features`` in it.
    """
    store = FeatureStore.create(folder / "features", backbone)
    lines, queries = [], []
    with show_progress("Videos", "videos") as progress:
        for index, vid in enumerate(frames.vids):
            script = make_video(index, split)
            annotations = describe(script)
            lines += [to_line(annotation) for annotation in annotations]
            queries += [QueryTask(str(annotation.qid), annotation.query) for annotation in annotations]
            if not store.has_video(vid):
                writer = FeatureWriter()
                for part in torch.from_numpy(
                    frames.pixels[frames.starts[index] : frames.starts[index + 1]].copy()
                ).split(32):
                    writer.append(backbone.encode_frames(part))
                facts = EncodingFacts(
                    video=f"{vid}.mp4",
                    duration=script.duration,
                    start=0,
                    fps=float(Fraction(SAMPLING)),
                    sampling="exact",
                    truncated=False,
                    backbone=backbone.name,
                    fingerprint=backbone.fingerprint,
                    preprocess_version=PREPROCESS_VERSION,
                )
                store.save_video(vid, writer.finish(facts))
            progress(index + 1, len(frames.vids))
    with show_progress("Queries", "queries") as progress:
        extract_queries(queries, store, backbone, progress=progress)
    write_atomically(folder / f"{split}.jsonl", "".join(lines), force=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("frames", type=Path, help="cache of drawn frames")
    parser.add_argument("folder", type=Path, help="folder of the data")
    parser.add_argument("--videos", type=int, default=1200)
    parser.add_argument("--split", choices=("train", "val", "test"), default="train")
    arguments = parser.parse_args()
    clip = ClipBackbone.load("r2tuning/demo", layers=LAYERS)
    with show_progress("Frames", "videos") as drawing:
        drawn = draw_frames(arguments.frames, arguments.split, arguments.videos, clip.image_size, 2, drawing)
    store_features(drawn, arguments.split, clip, arguments.folder)
