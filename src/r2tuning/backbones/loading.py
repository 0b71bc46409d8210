"""Finds, downloads and reads the files of a backbone, its tokenizer too. No weight is missing or left random."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from torch import Tensor

from r2tuning.backbones.registry import KNOWN_BACKBONES, find_folder, hub_name
from r2tuning.backbones.vit import TowerConfig, is_linear
from r2tuning.errors import BackboneError
from r2tuning.files import guard, parse_json, read_file, require_regular
from r2tuning.hub import fetch_cached, fetch_optional

IMAGE, TEXT = "vision_model.", "text_model."
"""Prefixes of the towers' weights."""

_CONFIG, _PREPROCESSOR = "config.json", "preprocessor_config.json"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Where the weights are, in order of preference; an index lists the files of split weights."""

TOKENIZER_FILE = "tokenizer.json"
VOCABULARY_FILES = ("vocab.json", "merges.txt")
"""CLIP's older form of the tokenizer."""
SENTENCEPIECE_FILE = "spiece.model"
"""SigLIP's older form, which is not read."""
_START, _END = "<|startoftext|>", "<|endoftext|>"
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""How CLIP splits a sentence into words."""

_AGAIN = "download the folder again"

_Config = TypeVar("_Config", bound=TowerConfig)


@dataclass(frozen=True)
class BackboneFiles:
    """The files of a backbone.

    Attributes:
        name: Folder or hub name.
        folder: Where they are.
        config: Content of ``config.json``.
        preprocessor: Content of ``preprocessor_config.json``; empty without one.
        tokenizer: Adds the end token; neither truncates nor pads.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    preprocessor: dict[str, Any]
    tokenizer: Tokenizer

    def parse(self, kind: type[_Config], key: str) -> _Config:
        """Returns the shape of a tower.

        Raises:
            BackboneError: If the configuration is not that of such a tower.
        """
        # Old files have a second entry, which overrides the first.
        with guard(f"{self.folder / _CONFIG}: {key}", BackboneError, "give a backbone in Hugging Face layout", kind):
            return kind.model_validate(
                {**(self.config.get(key) or {}), **(self.config.get(f"{key}_dict") or {})},
            )

    def map_weights(self) -> dict[str, Tensor]:
        """Returns all weights. They are memory-mapped, except those in PyTorch's format of before 2020.

        Raises:
            BackboneError: If a file is damaged, or holds more than weights.
        """
        weights: dict[str, Tensor] = {}
        with _guard(self.folder):
            for file in _weight_files(self.folder):
                require_regular(file)
                if file.suffix == ".safetensors":
                    weights |= load_file(file)
                else:  # PyTorch maps only archives; the older format is read whole
                    archive = zipfile.is_zipfile(file)
                    weights |= torch.load(file, map_location="cpu", weights_only=True, mmap=archive)
            for name, tensor in weights.items():
                # With stride 0, a few bytes claim any size.
                if not isinstance(tensor, Tensor) or tensor.untyped_storage().nbytes() < tensor.nbytes:
                    raise ValueError(f"{name} is no plain tensor")
        return weights

    def read_weights(
        self,
        prefix: str,
        names: Iterable[str],
        device: torch.device | str,
        dtype: torch.dtype,
        linear_dtype: torch.dtype | None = None,
    ) -> dict[str, Tensor]:
        """Reads some weights. The files are mapped again, so that their memory is freed with what is returned.

        Args:
            prefix: Of the names in the files, such as `IMAGE`; what is returned has names without it.
            names: Which weights.
            device: Where to put them.
            dtype: Their precision, independent of that in the file.
            linear_dtype: Precision of the blocks' linear layers, if different.
        """
        weights = self.map_weights()
        return {
            name: weights[prefix + name].to(device, linear_dtype if linear_dtype and is_linear(name) else dtype)
            for name in names
        }

    def check_weights(self, weights: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Checks that weights are there and have these shapes.

        Raises:
            BackboneError: If they do not.
        """
        missing = sorted(shapes.keys() - weights.keys())
        if missing:
            raise BackboneError(
                f"{self.name}: {len(missing)} weights are missing, such as {missing[0]}; download it again"
            )
        for name, shape in shapes.items():
            found = tuple(weights[name].shape)
            if found != shape:
                raise BackboneError(
                    f"{self.name}: {name} has shape {list(found)}, not {list(shape)} as {_CONFIG} says; "
                    f"download it again"
                )


def load_files(name: str) -> BackboneFiles:
    """Finds a backbone and reads its small files.

    One on this machine is read without any request. Otherwise it is downloaded from the hub, with a bar on stderr.

    Args:
        name: Short name, hub name or folder.

    Raises:
        BackboneError: If it is not found or damaged.
        DownloadError: If it is not cached and the hub cannot be reached.
    """
    folder = _locate(name)
    config = _read_config(folder)
    with _guard(folder):
        tokenizer = load_tokenizer(folder)
        preprocessor = _read_json(folder / _PREPROCESSOR) if (folder / _PREPROCESSOR).is_file() else {}
    return BackboneFiles(hub_name(name), folder, config, preprocessor, tokenizer)


def find_download(name: str) -> tuple[str, int | None] | None:
    """Repository and megabytes (None if unknown) of what `load_files` would download; None if it is here or nowhere."""
    source = hub_name(name)
    if find_folder(name) is not None or not _is_repository(source) or _find_cached(source) is not None:
        return None
    return source, next((known.megabytes for known in KNOWN_BACKBONES if known.repository == source), None)


def _is_repository(source: str) -> bool:
    return not source.startswith((".", "/", "~")) and source.count("/") == 1


def _locate(name: str) -> Path:
    """Returns the folder with the files of a backbone; downloads them if they are not on this machine."""
    source, folder = hub_name(name), find_folder(name)
    if folder is None:
        if not _is_repository(source):
            known = ", ".join(backbone.name for backbone in KNOWN_BACKBONES)
            raise BackboneError(f"{name}: no such folder, and no backbone of that name; known are {known}")
        folder = _find_cached(source) or _download(source)
    if not (folder / _CONFIG).is_file():
        raise BackboneError(
            f"{folder}: not a backbone's folder, it has no {_CONFIG}; give a folder in Hugging Face layout"
        )
    if not has_tokenizer(folder):
        if (folder / SENTENCEPIECE_FILE).is_file():
            raise BackboneError(
                f"{folder}: has its tokenizer only as {SENTENCEPIECE_FILE}; add the {TOKENIZER_FILE} of the model that "
                f"it was trained from, such as google/siglip-base-patch16-224"
            )
        raise BackboneError(f"{folder}: has no tokenizer; add {TOKENIZER_FILE}, or vocab.json and merges.txt")
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
    return folder if has_tokenizer(folder) and _weight_files(folder) else None


def _download(repository: str) -> Path:
    advice = "connect to the network once, or give a local folder with --backbone"
    fetch = partial(fetch_optional, repository, name=repository, advice=advice)
    folder = fetch_cached(repository, _CONFIG, name=repository, advice=advice).parent
    fetch(_PREPROCESSOR)
    for names in ((TOKENIZER_FILE,), VOCABULARY_FILES, (SENTENCEPIECE_FILE,)):
        if None not in [fetch(name) for name in names]:
            break
    for name in _WEIGHTS:
        if (weights := fetch(name)) is not None:
            for file in _split_files(weights):
                fetch(file.name)
            break
    return folder


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
    with _guard(weights):
        names = _read_json(weights)["weight_map"].values()
        for name in names:
            if Path(name).name != name:  # a file elsewhere is none of this folder's
                raise ValueError(f"names {name!r}, which is not in this folder")
        return [weights.with_name(name) for name in sorted(set(names))]


def _read_config(folder: Path) -> dict[str, Any]:
    with _guard(folder / _CONFIG):
        return _read_json(folder / _CONFIG)


def _read_json(path: Path) -> dict[str, Any]:
    content = parse_json(read_file(path, BackboneError, _AGAIN))
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds a {type(content).__name__}, not an object")
    return content


def _guard(path: Path) -> AbstractContextManager[None]:
    return guard(f"{path}: cannot be loaded as a backbone", BackboneError, _AGAIN)


def has_tokenizer(folder: Path) -> bool:
    """Returns whether a folder has one of the forms that `load_tokenizer` reads."""
    return (folder / TOKENIZER_FILE).is_file() or all((folder / name).is_file() for name in VOCABULARY_FILES)


def load_tokenizer(folder: Path) -> Tokenizer:
    """Loads ``tokenizer.json`` of a folder, or else ``vocab.json`` and ``merges.txt``; neither truncates nor pads.

    Raises:
        ValueError: If it ends no sentence with a token: towers pool there.
    """
    file = folder / TOKENIZER_FILE
    tokenizer = Tokenizer.from_buffer(_read(file)) if file.is_file() else _build_tokenizer(folder)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if not tokenizer.encode("").ids:
        raise ValueError("the tokenizer adds no end token")
    return tokenizer


def _read(path: Path) -> bytes:
    return read_file(path, BackboneError, _AGAIN)


def _build_tokenizer(folder: Path) -> Tokenizer:
    vocabulary_file, merges_file = (folder / name for name in VOCABULARY_FILES)
    vocabulary: dict[str, int] = parse_json(_read(vocabulary_file))
    lines = _read(merges_file).decode().splitlines()
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
