"""Puts what was trained into the package, in fp16: ``pack clip FOLDER`` or ``pack head DATA CHECKPOINT…``.

Of several checkpoints, the head is the mean of their weights. Trainings that continue from the same weights end in
different places around the same optimum, and their mean is closer to it than most of them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import CLIPModel, CLIPTokenizer

from projects.moving_shapes.shared import open_features, read_split
from projects.moving_shapes.tiny_clip import SIDE
from r2tuning.checkpoints import DOMAIN_FILE, Domain, read_checkpoint
from r2tuning.checkpoints.folder import save_checkpoint
from r2tuning.checkpoints.published import DEMO_FOLDER, DEMO_WORLD
from r2tuning.errors import CheckpointError
from r2tuning.files import write_atomically
from r2tuning.types import CLIP_PREPROCESSING

_FIT_SHARE = 10  # every tenth train video fits the threshold of the domain, the others its center


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
        "image_mean": CLIP_PREPROCESSING.mean,
        "image_std": CLIP_PREPROCESSING.std,
    }
    write_atomically(target / "preprocessor_config.json", json.dumps(normalization, indent=2) + "\n", force=True)


def average_checkpoints(checkpoints: Sequence[str], folder: Path) -> None:
    """Writes the mean of checkpoints in fp16, with the configuration of the first.

    A presence head is the mean of those that have one; the first must.

    Raises:
        CheckpointError: If their models differ in shape otherwise.
    """
    (config, model), *others = (read_checkpoint(name) for name in checkpoints)
    for name, (_, other) in zip(checkpoints[1:], others, strict=True):
        if other.config not in (model.config, model.config.model_copy(update={"presence": False})):
            raise CheckpointError(f"{name}: differs in shape from {checkpoints[0]}; average checkpoints of one model")
    states = [model.state_dict(), *(other.state_dict() for _, other in others)]
    means = {
        name: torch.stack([state[name].double() for state in states if name in state]).mean(dim=0).half()
        for name in states[0]
    }
    save_checkpoint(folder, means, config)


def fit_domain(data: Path) -> Domain:
    """Where in CLIP's space the frames of the train split lie."""
    store, vids = open_features(data), dict.fromkeys(annotation.vid for annotation in read_split(data, "train"))
    tokens = [store.video(vid)[:, -1, 0].float() for vid in vids]  # [CLS] of the last layer
    held_out = torch.cat(tokens[::_FIT_SHARE])
    fitted = torch.cat([token for index, token in enumerate(tokens) if index % _FIT_SHARE])
    return Domain.fit(fitted, held_out, DEMO_WORLD)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_subparsers(dest="what", required=True)
    what.add_parser("clip").add_argument("folder", type=Path)
    head = what.add_parser("head")
    head.add_argument("data", type=Path)
    head.add_argument("checkpoints", nargs="+")
    head.add_argument("--folder", type=Path, help="where to write; by default into the package")
    arguments = parser.parse_args()
    if arguments.what == "clip":
        pack_clip(arguments.folder)
    else:
        folder = arguments.folder or DEMO_FOLDER
        average_checkpoints(arguments.checkpoints, folder)
        if folder == DEMO_FOLDER:
            fit_domain(arguments.data).save(folder / DOMAIN_FILE)
