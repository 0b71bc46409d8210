"""Loading a CLIP through transformers, strictly: what is missing or damaged is named, nothing is left random."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2tuning.backbone.registry import KNOWN_BACKBONES, find_folder, hub_name
from r2tuning.errors import BackboneError, DownloadError

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
        missing: Names of its weights that the file lacks.
        tokenizer: Its tokenizer.
        mean: What to subtract from RGB in [0, 1].
        std: What to divide by after that.
    """

    name: str
    model: Any
    missing: frozenset[str]
    tokenizer: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]


def load_clip(name: str) -> LoadedClip:
    """Loads model, tokenizer and normalization of a CLIP in fp32, whatever precision its file has.

    What is on this machine is used without any request; the rest is fetched from the hub, with a bar on stderr.

    Args:
        name: Short name, hub name or folder.

    Raises:
        BackboneError: If it cannot be found, is damaged, or is no CLIP.
        DownloadError: If it is not in the cache and cannot be fetched.
    """
    source, folder = hub_name(name), find_folder(name)
    if folder is not None:
        _check_folder(folder)
    elif source.startswith((".", "/", "~")) or source.count("/") != 1:
        known = ", ".join(backbone.name for backbone in KNOWN_BACKBONES)
        raise BackboneError(f"{name}: no such folder, and no backbone of that name; known are {known}")
    import transformers

    with _quiet(transformers):
        clip = _fetch(transformers, source) if folder is None else _read(transformers, source, folder)
    missing = sorted(key for key in clip.missing if not any(part in key for part in UNUSED))
    if missing:
        raise BackboneError(f"{source}: {len(missing)} weights are missing, such as {missing[0]}; fetch it again")
    if clip.tokenizer.vocab_size < 4:
        raise BackboneError(f"{source}: its tokenizer has no vocabulary; add tokenizer.json to the folder")
    if len(clip.tokenizer) > clip.model.config.text_config.vocab_size:
        raise BackboneError(
            f"{source}: its tokenizer knows {len(clip.tokenizer)} tokens but the text tower only "
            f"{clip.model.config.text_config.vocab_size}; use the tokenizer that belongs to it"
        )
    return clip


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


def _read(transformers: Any, name: str, folder: Path) -> LoadedClip:
    try:
        return _load(transformers, name, str(folder), local=True)
    except Exception as error:  # transformers raises many kinds; all of them mean that this CLIP is unusable
        raise BackboneError(f"{folder}: cannot be loaded as CLIP ({_reason(error)}); fetch the folder again") from error


def _fetch(transformers: Any, repository: str) -> LoadedClip:
    """From the cache where all of it is there, or else from the hub."""
    try:
        return _load(transformers, repository, repository, local=True)
    except Exception:  # again of many kinds
        _ask_hub(repository)
    try:
        return _load(transformers, repository, repository, local=False)
    except Exception as error:
        raise BackboneError(
            f"{repository}: cannot be fetched and loaded as CLIP ({_reason(error)}); "
            f"try again, or give a local CLIP folder with --backbone"
        ) from error


def _ask_hub(repository: str) -> None:
    """Asks whether the hub has this CLIP, since transformers retries an unreachable one for half a minute."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(repository, "config.json"))
    except Exception as error:  # of the HTTP library or of the system: they have no common base
        raise DownloadError(
            f"{repository}: not in the cache, and not to be had at {constants.ENDPOINT} ({_reason(error)}); "
            f"connect to the network once, or give a local CLIP folder with --backbone"
        ) from error


def _load(transformers: Any, name: str, source: str, *, local: bool) -> LoadedClip:
    model, report = transformers.CLIPModel.from_pretrained(
        source, output_loading_info=True, dtype="float32", local_files_only=local
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, local_files_only=local)
    mean = std = None
    if not Path(source).exists() or (Path(source) / "preprocessor_config.json").is_file():
        config, _ = transformers.ImageProcessingMixin.get_image_processor_dict(source, local_files_only=local)
        mean, std = config.get("image_mean"), config.get("image_std")
    # A CLIP that says nothing of its normalization means OpenAI's.
    return LoadedClip(
        name, model, frozenset(report["missing_keys"]), tokenizer, tuple(mean or CLIP_MEAN), tuple(std or CLIP_STD)
    )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keeps transformers' load reports and bars off the terminal; what matters is raised as an error.

    The bars of a download stay: it may be 600 MB.
    """
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, enable_progress_bars

    log = transformers.utils.logging
    level, bars, hub_bars = log.get_verbosity(), log.is_progress_bar_enabled(), not are_progress_bars_disabled()
    log.set_verbosity(log.CRITICAL)
    log.disable_progress_bar()  # the hub's too
    if hub_bars:
        enable_progress_bars()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
