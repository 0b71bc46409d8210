"""Loading a CLIP, strictly: what is missing or damaged is named, nothing is left random."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from torch import Tensor

from r2tuning.backbones.registry import KNOWN_BACKBONES, find_folder, hub_name
from r2tuning.backbones.vit import ImageTowerConfig, TextTowerConfig, TowerConfig, is_linear, is_merged
from r2tuning.errors import BackboneError
from r2tuning.files import first_problem
from r2tuning.hub import fetch_cached, fetch_optional

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"

_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""In which of these the weights are; an index names the files that they are spread over."""

START, END = "<|startoftext|>", "<|endoftext|>"

_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""CLIP's own pattern of what is a word."""

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
        raise BackboneError(
            f"{folder / CONFIG}: {key}: {first_problem(error)}; give a CLIP in Hugging Face layout"
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
    advice = "connect to the network once, or give a local CLIP folder with --backbone"
    fetch = partial(fetch_optional, repository, name=repository, advice=advice)
    folder = fetch_cached(repository, CONFIG, name=repository, advice=advice).parent
    for name in (PREPROCESSOR, "tokenizer.json", "vocab.json", "merges.txt"):
        fetch(name)
    for name in _WEIGHTS:
        if (weights := fetch(name)) is not None:
            for file in _spread(weights):
                fetch(file.name)
            break
    return folder


def load_tokenizer(folder: Path) -> Tokenizer:
    """Reads ``tokenizer.json`` of a folder, or else ``vocab.json`` and ``merges.txt``.

    Returns:
        One that puts the start and end token around a sentence, and neither cuts nor pads it.
    """
    file = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file)) if file.is_file() else _build(folder)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _build(folder: Path) -> Tokenizer:
    vocabulary: dict[str, int] = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(" ") for line in lines if line and not line.startswith("#version"))
    merges = [(first, second) for first, _, second in pairs]
    tokenizer = Tokenizer(
        BPE(vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token=END)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.add_special_tokens([START, END])
    tokenizer.post_processor = processors.RobertaProcessing(
        (END, vocabulary[END]), (START, vocabulary[START]), trim_offsets=False, add_prefix_space=False
    )
    return tokenizer
