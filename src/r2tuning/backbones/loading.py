"""Finds, downloads and loads the files of a CLIP. Loading is strict: no weight is missing or left random."""

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
from r2tuning.backbones.vit import ImageTowerConfig, TextTowerConfig, TowerConfig, is_linear
from r2tuning.errors import BackboneError
from r2tuning.files import first_problem
from r2tuning.hub import fetch_cached, fetch_optional

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

IMAGE, TEXT = "vision_model.", "text_model."
"""Prefixes of the towers' weights."""

_CONFIG, _PREPROCESSOR, _TOKENIZER = "config.json", "preprocessor_config.json", "tokenizer.json"
_VOCABULARY = ("vocab.json", "merges.txt")
"""The older form of the tokenizer."""
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Where the weights are, in order of preference; an index lists the files of split weights."""
_START, _END = "<|startoftext|>", "<|endoftext|>"
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""How CLIP splits a sentence into words."""

_Config = TypeVar("_Config", bound=TowerConfig)


@dataclass(frozen=True)
class LoadedClip:
    """The content of a CLIP's files.

    Attributes:
        name: Folder or hub name.
        folder: Where the files are.
        image: Shape of the image tower.
        text: Shape of the text tower.
        weights: Memory-mapped: a weight is read from disk when it is first used.
        tokenizer: Adds the start and end tokens; neither truncates nor pads.
        mean: Mean of RGB in [0, 1], subtracted from images.
        std: Standard deviation, by which images are divided.
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
        self, prefix: str, device: torch.device | str, dtype: torch.dtype, linear_dtype: torch.dtype | None = None
    ) -> dict[str, Tensor]:
        """Loads the weights of a tower, named as in `TowerConfig.shapes`.

        The files are mapped again, so that their memory is freed with the tower.

        Args:
            prefix: `IMAGE` or `TEXT`.
            device: Where to put the weights.
            dtype: Their precision, independent of that in the file.
            linear_dtype: Precision of the blocks' linear layers, if different.
        """
        weights = _map_weights(self.folder)
        return {
            name: weights[prefix + name].to(device, linear_dtype if linear_dtype and is_linear(name) else dtype)
            for name in (self.image if prefix == IMAGE else self.text).shapes()
        }


def load_clip(name: str) -> LoadedClip:
    """Loads shape, weights, tokenizer and normalization of a CLIP.

    A CLIP on this machine is loaded without any request. Otherwise it is downloaded from the hub, with a bar on stderr.

    Args:
        name: Short name, hub name or folder.

    Raises:
        BackboneError: If it is not found, is damaged, or is no CLIP.
        DownloadError: If it is not cached and the hub cannot be reached.
    """
    folder = _locate(name)
    config = _read_config(folder)
    try:
        weights = _map_weights(folder)
        tokenizer = load_tokenizer(folder)
        preprocessor = _read_json(folder / _PREPROCESSOR) if (folder / _PREPROCESSOR).is_file() else {}
    except Exception as error:  # of many kinds; each means that this CLIP is unusable
        raise BackboneError(
            f"{folder}: cannot be loaded as CLIP ({_explain(error)}); download the folder again"
        ) from error
    clip = LoadedClip(
        name=hub_name(name),
        folder=folder,
        image=_parse(ImageTowerConfig, config, "vision_config", folder),
        text=_parse(TextTowerConfig, config, "text_config", folder),
        weights=weights,
        tokenizer=tokenizer,
        # OpenAI's normalization is the default.
        mean=tuple(preprocessor.get("image_mean") or CLIP_MEAN),
        std=tuple(preprocessor.get("image_std") or CLIP_STD),
    )
    _check_weights(clip)
    if tokenizer.get_vocab_size() > clip.text.vocab_size:
        raise BackboneError(
            f"{clip.name}: the tokenizer has {tokenizer.get_vocab_size()} tokens but the text tower only "
            f"{clip.text.vocab_size}; use the tokenizer of this CLIP"
        )
    return clip


def load_tokenizer(folder: Path) -> Tokenizer:
    """Loads ``tokenizer.json`` of a folder, or else ``vocab.json`` and ``merges.txt``."""
    file = folder / _TOKENIZER
    tokenizer = Tokenizer.from_file(str(file)) if file.is_file() else _build_tokenizer(folder)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _build_tokenizer(folder: Path) -> Tokenizer:
    vocabulary_file, merges_file = (folder / name for name in _VOCABULARY)
    vocabulary: dict[str, int] = json.loads(vocabulary_file.read_text(encoding="utf-8"))
    lines = merges_file.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(" ") for line in lines if line and not line.startswith("#version"))
    merges = [(first, second) for first, _, second in pairs]
    tokenizer = Tokenizer(
        BPE(vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token=_END)
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
    tokenizer.add_special_tokens([_START, _END])
    tokenizer.post_processor = processors.RobertaProcessing(
        (_END, vocabulary[_END]), (_START, vocabulary[_START]), trim_offsets=False, add_prefix_space=False
    )
    return tokenizer


def _locate(name: str) -> Path:
    """Returns the folder with the files of a CLIP; downloads them if they are not on this machine."""
    source, folder = hub_name(name), find_folder(name)
    if folder is None:
        if source.startswith((".", "/", "~")) or source.count("/") != 1:
            known = ", ".join(backbone.name for backbone in KNOWN_BACKBONES)
            raise BackboneError(f"{name}: no such folder, and no backbone of that name; known are {known}")
        folder = _find_cached(source) or _download(source)
    if not (folder / _CONFIG).is_file():
        raise BackboneError(f"{folder}: not a CLIP folder, it has no {_CONFIG}; give a folder in Hugging Face layout")
    if not _has_tokenizer(folder):
        raise BackboneError(f"{folder}: has no tokenizer; add tokenizer.json, or vocab.json and merges.txt")
    if not _weight_files(folder):
        raise BackboneError(f"{folder}: has no complete weights; add model.safetensors or pytorch_model.bin")
    return folder


def _find_cached(repository: str) -> Path | None:
    """Returns the folder in the hub's cache if it is complete; makes no request."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(repository, _CONFIG)
    # Text-only programs skip the preprocessor's file. None means not cached; a file that the hub lacks is not None.
    if not isinstance(config, str) or try_to_load_from_cache(repository, _PREPROCESSOR) is None:
        return None
    folder = Path(config).parent
    return folder if _has_tokenizer(folder) and _weight_files(folder) else None


def _download(repository: str) -> Path:
    advice = "connect to the network once, or give a local CLIP folder with --backbone"
    fetch = partial(fetch_optional, repository, name=repository, advice=advice)
    folder = fetch_cached(repository, _CONFIG, name=repository, advice=advice).parent
    for name in (_PREPROCESSOR, _TOKENIZER, *_VOCABULARY):
        fetch(name)
    for name in _WEIGHTS:
        if (weights := fetch(name)) is not None:
            for file in _split_files(weights):
                fetch(file.name)
            break
    return folder


def _has_tokenizer(folder: Path) -> bool:
    return (folder / _TOKENIZER).is_file() or all((folder / name).is_file() for name in _VOCABULARY)


def _weight_files(folder: Path) -> list[Path]:
    """Returns the files with the weights, or none if one is missing."""
    for name in _WEIGHTS:
        if (folder / name).is_file():
            files = _split_files(folder / name)
            return files if all(file.is_file() for file in files) else []
    return []


def _split_files(weights: Path) -> list[Path]:
    if not weights.name.endswith(".index.json"):
        return [weights]
    try:
        names = _read_json(weights)["weight_map"].values()
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise BackboneError(
            f"{weights}: not a readable index ({_explain(error)}); download the folder again"
        ) from error
    return [weights.with_name(name) for name in sorted(set(names))]


def _map_weights(folder: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for file in _weight_files(folder):
        if file.suffix == ".safetensors":
            weights |= load_file(file)
        else:
            weights |= torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    return weights


def _check_weights(clip: LoadedClip) -> None:
    shapes = {IMAGE + name: shape for name, shape in clip.image.shapes().items()}
    shapes |= {TEXT + name: shape for name, shape in clip.text.shapes().items()}
    missing = sorted(shapes.keys() - clip.weights.keys())
    if missing:
        raise BackboneError(f"{clip.name}: {len(missing)} weights are missing, such as {missing[0]}; download it again")
    for name, shape in shapes.items():
        found = tuple(clip.weights[name].shape)
        if found != shape:
            raise BackboneError(
                f"{clip.name}: {name} has shape {list(found)}, not {list(shape)} as {_CONFIG} says; download it again"
            )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / _CONFIG
    try:
        config = _read_json(path)
    except (OSError, ValueError) as error:
        raise BackboneError(f"{path}: not a readable configuration ({error}); download the folder again") from error
    if config.get("model_type") != "clip":
        raise BackboneError(f"{folder}: holds a model of type {config.get('model_type')!r}, not 'clip'; give a CLIP")
    return config


def _read_json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError("not an object")
    return content


def _parse(kind: type[_Config], config: dict[str, Any], key: str, folder: Path) -> _Config:
    # Old files have a second entry, which overrides the first.
    merged = {**(config.get(key) or {}), **(config.get(f"{key}_dict") or {})}
    try:
        return kind.model_validate(merged)
    except ValidationError as error:
        raise BackboneError(
            f"{folder / _CONFIG}: {key}: {first_problem(error)}; give a CLIP in Hugging Face layout"
        ) from error


def _explain(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
