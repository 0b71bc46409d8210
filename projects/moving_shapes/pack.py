"""Puts what was trained into the package, in fp16: ``pack clip FOLDER`` or ``pack head CHECKPOINT DATA``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from transformers import CLIPModel, CLIPTokenizer

from projects.moving_shapes.tiny_clip import SIDE
from r2tuning.backbones.loading import CLIP_MEAN, CLIP_STD
from r2tuning.checkpoints import DOMAIN_FILE, Domain, read_checkpoint
from r2tuning.checkpoints.folder import save_checkpoint
from r2tuning.checkpoints.published import DEMO_FOLDER, DEMO_WORLD
from r2tuning.features.store import FeatureStore
from r2tuning.files import write_atomically

_FIT_SHARE = 10
"""Every tenth train video tells where the threshold lies, the others where the world is."""


def pack_clip(folder: Path) -> None:
    """Copies a trained CLIP and its tokenizer into the package."""
    target = DEMO_FOLDER.parent / "clip"
    target.mkdir(parents=True, exist_ok=True)
    CLIPModel.from_pretrained(folder).half().save_pretrained(target)  # type: ignore[no-untyped-call]
    CLIPTokenizer.from_pretrained(folder).save_pretrained(target)
    normalization = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": SIDE},
        "crop_size": {"height": SIDE, "width": SIDE},
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
    }
    write_atomically(target / "preprocessor_config.json", json.dumps(normalization, indent=2) + "\n", force=True)


def pack_head(checkpoint: str, data: Path) -> None:
    """Copies a checkpoint into the package, with the bounds of its world."""
    config, model = read_checkpoint(checkpoint)
    state = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    save_checkpoint(DEMO_FOLDER, state, config)
    fit_domain(FeatureStore.open(data / "features"), data).save(DEMO_FOLDER / DOMAIN_FILE)


def fit_domain(store: FeatureStore, data: Path) -> Domain:
    """Where in CLIP's space the frames of the train split lie."""
    lines = (data / "train.jsonl").read_text(encoding="utf-8").splitlines()
    vids = list(dict.fromkeys(json.loads(line)["vid"] for line in lines))
    tokens = [store.video(vid)[:, -1, 0].float() for vid in vids]  # [CLS] of the last layer
    held_out = torch.cat(tokens[::_FIT_SHARE])
    fitted = torch.cat([token for index, token in enumerate(tokens) if index % _FIT_SHARE])
    return Domain.fit(fitted, held_out, DEMO_WORLD)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_subparsers(dest="what", required=True)
    what.add_parser("clip").add_argument("folder", type=Path)
    head = what.add_parser("head")
    head.add_argument("checkpoint")
    head.add_argument("data", type=Path)
    arguments = parser.parse_args()
    if arguments.what == "clip":
        pack_clip(arguments.folder)
    else:
        pack_head(arguments.checkpoint, arguments.data)
