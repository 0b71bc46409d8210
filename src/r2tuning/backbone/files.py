"""Where the files of a CLIP are: in a folder, in the hub's cache, or to be fetched from the hub."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from r2tuning.backbone.registry import KNOWN_BACKBONES, find_folder, hub_name
from r2tuning.errors import BackboneError, DownloadError

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"

_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""In which of these the weights are; an index names the files that they are spread over."""


def locate_clip(name: str) -> Path:
    """The folder with the files of a CLIP; what is not on this machine is fetched, with a bar on stderr.

    Args:
        name: Short name, hub name or folder.

    Raises:
        BackboneError: If it cannot be found, or lacks a file.
        DownloadError: If it is not in the cache and cannot be fetched.
    """
    source, folder = hub_name(name), find_folder(name)
    if folder is None:
        if source.startswith((".", "/", "~")) or source.count("/") != 1:
            known = ", ".join(backbone.name for backbone in KNOWN_BACKBONES)
            raise BackboneError(f"{name}: no such folder, and no backbone of that name; known are {known}")
        folder = _find_cached(source) or _fetch(source)
    if not (folder / CONFIG).is_file():
        raise BackboneError(f"{folder}: not a CLIP folder, it has no {CONFIG}; give a folder in Hugging Face layout")
    if not _has_tokenizer(folder):
        raise BackboneError(f"{folder}: has no tokenizer; add tokenizer.json, or vocab.json and merges.txt")
    if not weight_files(folder):
        raise BackboneError(f"{folder}: has no whole weights; add model.safetensors or pytorch_model.bin")
    return folder


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights; none unless all of them are there."""
    for name in _WEIGHTS:
        if (folder / name).is_file():
            files = _spread(folder / name)
            return files if all(file.is_file() for file in files) else []
    return []


def explain(error: Exception) -> str:
    """What went wrong, in one line."""
    return " ".join(str(error).split())[:200]


def _spread(weights: Path) -> list[Path]:
    if not weights.name.endswith(".index.json"):
        return [weights]
    try:
        names = json.loads(weights.read_text(encoding="utf-8"))["weight_map"].values()
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise BackboneError(f"{weights}: not a readable index ({explain(error)}); fetch the folder again") from error
    return [weights.with_name(name) for name in sorted(set(names))]


def _has_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer.json").is_file() or all(
        (folder / name).is_file() for name in ("vocab.json", "merges.txt")
    )


def _find_cached(repository: str) -> Path | None:
    """The folder in the hub's cache, if all of it is there; asks nobody."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(repository, CONFIG)
    # Programs that need no images leave the preprocessor's file out; that a hub has none is remembered by the cache.
    if not isinstance(config, str) or try_to_load_from_cache(repository, PREPROCESSOR) is None:
        return None
    folder = Path(config).parent
    return folder if _has_tokenizer(folder) and weight_files(folder) else None


def _fetch(repository: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    _ask_hub(repository)
    try:
        folder = Path(hf_hub_download(repository, CONFIG)).parent
        for name in (PREPROCESSOR, "tokenizer.json", "vocab.json", "merges.txt"):
            with suppress(EntryNotFoundError):
                hf_hub_download(repository, name)
        for name in _WEIGHTS:
            with suppress(EntryNotFoundError):
                for file in _spread(Path(hf_hub_download(repository, name))):
                    hf_hub_download(repository, file.name)
                break
    except Exception as error:  # of the HTTP library or of the system: they have no common base
        raise BackboneError(
            f"{repository}: cannot be fetched and loaded as CLIP ({explain(error)}); "
            f"try again, or give a local CLIP folder with --backbone"
        ) from error
    return folder


def _ask_hub(repository: str) -> None:
    """Asks whether the hub has this CLIP, since its client retries an unreachable one for long."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(repository, CONFIG))
    except Exception as error:  # again of many kinds
        raise DownloadError(
            f"{repository}: not in the cache, and not to be had at {constants.ENDPOINT} ({explain(error)}); "
            f"connect to the network once, or give a local CLIP folder with --backbone"
        ) from error
