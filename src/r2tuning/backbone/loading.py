"""Loading a CLIP through transformers, strictly: what is missing or damaged is named, nothing is left random."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2tuning.backbone.registry import KNOWN_BACKBONES, hub_name
from r2tuning.errors import BackboneError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

UNUSED = ("visual_projection.", "text_projection.", "logit_scale", "position_ids")
"""Parts of a CLIP that the last layers' outputs do not need."""


@dataclass(frozen=True)
class LoadedClip:
    """What transformers gave us.

    Attributes:
        name: Folder or hub name.
        model: ``CLIPModel``.
        tokenizer: Its tokenizer.
        mean: What to subtract from RGB in [0, 1].
        std: What to divide by after that.
    """

    name: str
    model: Any
    tokenizer: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]


def load_clip(name: str) -> LoadedClip:
    """Loads model, tokenizer and normalization of a CLIP in fp32.

    Args:
        name: Short name, hub name or folder.

    Raises:
        BackboneError: If it cannot be found or fetched, is damaged, or is no CLIP.
    """
    source = hub_name(name)
    if Path(source).exists():
        _check_folder(Path(source))
    elif source.startswith((".", "/", "~")) or source.count("/") != 1:
        known = ", ".join(backbone.name for backbone in KNOWN_BACKBONES)
        raise BackboneError(f"{name}: no such folder, and no backbone of that name; known are {known}")
    import transformers

    with _quiet(transformers):
        try:
            model, report = transformers.CLIPModel.from_pretrained(source, output_loading_info=True)
            tokenizer = transformers.AutoTokenizer.from_pretrained(source)
            mean, std = _normalization(transformers, source)
        except Exception as error:  # transformers raises many kinds; all of them mean that this CLIP is unusable
            raise BackboneError(_explain(source, error)) from error
    missing = sorted(key for key in report["missing_keys"] if not any(part in key for part in UNUSED))
    if missing:
        raise BackboneError(f"{source}: {len(missing)} weights are missing, such as {missing[0]}; fetch it again")
    if tokenizer.vocab_size < 4:
        raise BackboneError(f"{source}: its tokenizer has no vocabulary; add tokenizer.json to the folder")
    if len(tokenizer) > model.config.text_config.vocab_size:
        raise BackboneError(
            f"{source}: its tokenizer knows {len(tokenizer)} tokens but the text tower only "
            f"{model.config.text_config.vocab_size}; use the tokenizer that belongs to it"
        )
    return LoadedClip(source, model, tokenizer, mean, std)


def _check_folder(folder: Path) -> None:
    config = folder / "config.json"
    if not config.is_file():
        raise BackboneError(f"{folder}: not a CLIP folder, it has no config.json; give a folder in Hugging Face layout")
    try:
        kind = json.loads(config.read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise BackboneError(f"{config}: not a readable configuration ({error}); fetch the folder again") from error
    if kind != "clip":
        raise BackboneError(f"{folder}: holds a model of type {kind!r}, not 'clip'; give a CLIP")
    if not any((folder / file).is_file() for file in ("tokenizer.json", "vocab.json")):
        raise BackboneError(f"{folder}: has no tokenizer; add tokenizer.json, or vocab.json and merges.txt")


def _normalization(transformers: Any, source: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that the CLIP was trained with; a folder that says nothing means OpenAI's."""
    if Path(source).exists() and not (Path(source) / "preprocessor_config.json").is_file():
        return CLIP_MEAN, CLIP_STD
    config, _ = transformers.ImageProcessingMixin.get_image_processor_dict(source)
    return tuple(config.get("image_mean", CLIP_MEAN)), tuple(config.get("image_std", CLIP_STD))


def _explain(source: str, error: Exception) -> str:
    if Path(source).exists():
        reason = " ".join(str(error).split())[:200]
        return f"{source}: cannot be loaded as CLIP ({reason}); fetch the folder again"
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    return (
        f"{source}: not in the cache and not reachable at {endpoint}; "
        f"connect to the network once, or give a local CLIP folder with --backbone"
    )


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keeps transformers' load reports and bars off the terminal; what matters is raised as an error."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(log.CRITICAL)
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
