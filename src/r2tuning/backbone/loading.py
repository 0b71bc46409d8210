"""Loading a CLIP, strictly: what is missing or damaged is named, nothing is left random."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from r2tuning.backbone.files import CONFIG, PREPROCESSOR, explain, locate_clip, weight_files
from r2tuning.backbone.registry import hub_name
from r2tuning.backbone.tokenizer import load_tokenizer
from r2tuning.backbone.tower import ImageTowerConfig, TextTowerConfig, TowerConfig, is_linear, is_merged
from r2tuning.errors import BackboneError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

IMAGE, TEXT = "vision_model.", "text_model."
"""What the names of the towers' weights begin with."""

Config = TypeVar("Config", bound=TowerConfig)


@dataclass(frozen=True)
class LoadedClip:
    """A CLIP as its files have it.

    Attributes:
        name: Folder or hub name.
        folder: Where its files are.
        image: Shape of the image tower.
        text: Shape of the text tower.
        weights: Mapped into memory: a weight is read from its file when it is first used.
        tokenizer: Its tokenizer.
        mean: What to subtract from RGB in [0, 1].
        std: What to divide by after that.
    """

    name: str
    folder: Path
    image: ImageTowerConfig
    text: TextTowerConfig
    weights: Mapping[str, Tensor]
    tokenizer: Tokenizer
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def tower(
        self, prefix: str, device: torch.device | str, dtype: torch.dtype, products: torch.dtype | None = None
    ) -> dict[str, Tensor]:
        """The weights of a tower, named as in `TowerConfig.shapes`; the tower merges some, and then owns no others.

        Those that are merged are mapped apart from the rest, as a file stays in memory as long as one of its weights.

        Args:
            prefix: `IMAGE` or `TEXT`.
            device: Where to put them.
            dtype: Their precision, whatever it is in the file.
            products: That of the blocks' linear layers, where it is another.
        """
        config = self.image if prefix == IMAGE else self.text
        kept, merged = _map_weights(self.folder), _map_weights(self.folder)
        return {
            name: (merged if is_merged(name) else kept)[prefix + name].to(
                device=device, dtype=products if products is not None and is_linear(name) else dtype
            )
            for name in config.shapes()
        }


def load_clip(name: str) -> LoadedClip:
    """Loads shape, weights, tokenizer and normalization of a CLIP.

    What is on this machine is used without any request; the rest is fetched from the hub, with a bar on stderr.

    Args:
        name: Short name, hub name or folder.

    Raises:
        BackboneError: If it cannot be found, is damaged, or is no CLIP.
        DownloadError: If it is not in the cache and cannot be fetched.
    """
    source, folder = hub_name(name), locate_clip(name)
    config = _read_config(folder)
    try:
        weights = _map_weights(folder)
        tokenizer = load_tokenizer(folder)
        preprocessor = _read_json(folder / PREPROCESSOR) if (folder / PREPROCESSOR).is_file() else {}
    except Exception as error:  # of many kinds; all of them mean that this CLIP is unusable
        raise BackboneError(f"{folder}: cannot be loaded as CLIP ({explain(error)}); fetch the folder again") from error
    clip = LoadedClip(
        source,
        folder,
        _parse(ImageTowerConfig, config, "vision_config", folder),
        _parse(TextTowerConfig, config, "text_config", folder),
        weights,
        tokenizer,
        # A CLIP that says nothing of its normalization means OpenAI's.
        tuple(preprocessor.get("image_mean") or CLIP_MEAN),
        tuple(preprocessor.get("image_std") or CLIP_STD),
    )
    _check_weights(clip)
    if tokenizer.get_vocab_size() > clip.text.vocab_size:
        raise BackboneError(
            f"{source}: its tokenizer knows {tokenizer.get_vocab_size()} tokens but the text tower only "
            f"{clip.text.vocab_size}; use the tokenizer that belongs to it"
        )
    return clip


def _read_json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError("not an object")
    return content


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config = _read_json(path)
    except (OSError, ValueError) as error:
        raise BackboneError(f"{path}: not a readable configuration ({error}); fetch the folder again") from error
    if config.get("model_type") != "clip":
        raise BackboneError(f"{folder}: holds a model of type {config.get('model_type')!r}, not 'clip'; give a CLIP")
    return config


def _parse(kind: type[Config], config: dict[str, Any], key: str, folder: Path) -> Config:
    # Old files have a second entry, which goes before the first.
    merged = {**(config.get(key) or {}), **(config.get(f"{key}_dict") or {})}
    try:
        return kind.model_validate(merged)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, (key, *problem["loc"])))
        raise BackboneError(
            f"{folder / CONFIG}: {field}: {problem['msg']}; give a CLIP in Hugging Face layout"
        ) from error


def _map_weights(folder: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for file in weight_files(folder):
        if file.suffix == ".safetensors":
            weights |= load_file(file)
        else:
            weights |= torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    return weights


def _check_weights(clip: LoadedClip) -> None:
    wanted = {IMAGE + name: shape for name, shape in clip.image.shapes().items()}
    wanted |= {TEXT + name: shape for name, shape in clip.text.shapes().items()}
    missing = sorted(wanted.keys() - clip.weights.keys())
    if missing:
        raise BackboneError(f"{clip.name}: {len(missing)} weights are missing, such as {missing[0]}; fetch it again")
    for name, shape in wanted.items():
        if tuple(clip.weights[name].shape) != shape:
            raise BackboneError(
                f"{clip.name}: {name} has shape {list(clip.weights[name].shape)}, not {list(shape)} as {CONFIG} says; "
                f"fetch it again"
            )
