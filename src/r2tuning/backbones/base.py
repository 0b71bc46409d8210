"""What every backbone is: frames and sentences in, the outputs of its last K blocks out, and vectors to compare both.

This is the one door to frozen models. What knows about summary tokens, image sizes, normalization, tokenizers or widths
lies behind it, in one file per family.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from r2tuning.backbones.loading import IMAGE, TEXT, BackboneFiles, load_files
from r2tuning.backbones.vit import ImageTowerConfig, TextTower, TextTowerConfig, Tower
from r2tuning.errors import BackboneError, QueryError
from r2tuning.files import guard
from r2tuning.types import Engine, Preprocessing, QueryFeatures, Summary

if TYPE_CHECKING:
    import numpy as np

_MIN_BF16_WIDTH = 512
"""Narrower towers are fast enough in fp32, which gives the same results on every machine."""

_RESAMPLING: dict[int, Literal["bilinear", "bicubic"]] = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, which preprocessor files contain."""


class Backbone(ABC):
    """A frozen model of images and sentences; `load_backbone` makes one. A tower's weights are read on its first use.

    Attributes:
        name: Hub name or folder.
        layers: K, how many of the last blocks are read.
        device: Where the towers run.
        dtype: Their precision.
        engine: What runs the image tower.
        fingerprint: Hash of the weights; folder, precision and engine do not change it.
        summary: What token 0 of a frame is.
        preprocessing: How frames are scaled, cut and normalized.
        video_width: Dv.
        query_width: Dq.
        tokens_per_frame: P + 1.
        multilingual: Whether the text tower was trained on more languages than English.
        max_query_tokens: Most tokens that the text tower takes, including those that the tokenizer adds.
    """

    image_config: ClassVar[type[ImageTowerConfig]]
    text_config: ClassVar[type[TextTowerConfig]]
    image_tower: ClassVar[type[Tower]]
    text_tower: ClassVar[type[TextTower]]
    summary: ClassVar[Summary]
    preprocessing_defaults: ClassVar[Preprocessing]

    def __init__(
        self,
        files: BackboneFiles,
        *,
        layers: int = 4,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        engine: Engine | None = "torch",
    ) -> None:
        self.image = files.parse(self.image_config, "vision_config")
        self.text = files.parse(self.text_config, "text_config")
        weights = files.map_weights()
        shapes = {IMAGE + name: shape for name, shape in self.image.shapes().items()}
        shapes |= {TEXT + name: shape for name, shape in self.text.shapes().items()}
        files.check_weights(weights, shapes)
        for tower, depth in (("image", self.image.num_hidden_layers), ("text", self.text.num_hidden_layers)):
            if not 1 <= layers <= depth:
                raise BackboneError(
                    f"{files.name}: cannot read the last {layers} layers, its {tower} tower has {depth}; "
                    f"choose a backbone of at least that depth"
                )
        self.device = torch.device(device)
        if engine is None:
            engine = choose_engine(self.device, self.image.hidden_size) if dtype is None else "torch"
        self.name = files.name
        self._check_tokens(files.tokenizer.encode("").ids)
        self.layers = layers
        self.dtype = dtype or (torch.float32 if self.device.type == "cpu" else torch.float16)
        self.engine: Engine = engine
        # Of the first and the last weights, in fp16, so that it does not depend on the stored precision.
        last = f"encoder.layers.{self.image.num_hidden_layers - 1}.mlp.fc2"
        digest = hashlib.sha256()
        for name in ("embeddings.patch_embedding.weight", f"{last}.weight", f"{last}.bias"):
            digest.update(weights[IMAGE + name].half().numpy().tobytes())
        self.fingerprint = digest.hexdigest()[:16]
        self.preprocessing = _read_preprocessing(files, self.image.image_size, self.preprocessing_defaults)
        self.video_width: int = self.image.hidden_size
        self.query_width: int = self.text.hidden_size
        self.tokens_per_frame: int = self.image.patches + 1
        self.max_query_tokens: int = self.text.max_position_embeddings
        # English vocabularies have 32,000 to 50,000 tokens, those of many languages 250,000.
        self.multilingual: bool = self.text.vocab_size > 100_000
        self._files = files
        self._mean, self._std = (
            torch.tensor(values, device=self.device).view(3, 1, 1)
            for values in (self.preprocessing.mean, self.preprocessing.std)
        )
        self._check_engine(engine)
        if engine == "onnx-int8":
            _ = self._image_tower  # what is missing is reported now, not after a video has been decoded

    def make_image_tower(self, engine: Engine) -> Callable[[Tensor], Tensor]:
        """Loads the image tower: normalized pixels ``[n, 3, size, size]`` in, ``[n, K, P+1, Dv]`` out.

        Raises:
            BackboneError: If the engine is not installed or does not run on the backbone's device.
        """
        self._check_engine(engine)

        def load(dtype: torch.dtype, linear_dtype: torch.dtype | None = None) -> Tower:
            weights = self._files.read_weights(IMAGE, self.image.shapes(), self.device, dtype, linear_dtype)
            return self.image_tower(weights, self.image, self.layers)

        if engine != "onnx-int8":
            return load(self.dtype, torch.bfloat16 if engine == "torch-bf16" else None)
        from r2tuning.backbones.int8 import load_int8_tower

        return load_int8_tower(self.fingerprint, self.layers, lambda: load(torch.float32))

    def _check_engine(self, engine: Engine) -> None:
        if engine != "torch" and self.device.type != "cpu":
            raise BackboneError(f"{engine}: runs on the CPU only, not on {self.device}; give --device cpu")
        if engine == "onnx-int8" and not all(map(find_spec, ("onnx", "onnxruntime"))):
            raise BackboneError("onnx-int8: ONNX Runtime is not installed; pip install 'r2tuning[onnx]'")

    @cached_property
    def _image_tower(self) -> Callable[[Tensor], Tensor]:
        return self.make_image_tower(self.engine)

    @cached_property
    def _text_tower(self) -> TextTower:
        weights = self._files.read_weights(TEXT, self.text.shapes(), self.device, self.dtype)
        return self.text_tower(weights, self.text, self.layers)

    @cached_property
    def _joint(self) -> dict[str, Tensor]:
        """The weights of the joint projections, fp32. Grounding does not need them, so a backbone may lack them."""
        weights, shapes = self._files.map_weights(), self._joint_shapes()
        missing = sorted(shapes.keys() - weights.keys())
        if missing:
            raise BackboneError(
                f"{self.name}: has no {missing[0]}, needed to compare frames with text; give a whole model"
            )
        self._files.check_weights(weights, shapes)
        return {name: weights[name].to(self.device, torch.float32) for name in shapes}

    def release(self) -> None:
        """Frees the memory of the towers and projections; they are loaded again when needed."""
        for part in ("_image_tower", "_text_tower", "_joint"):
            self.__dict__.pop(part, None)

    @torch.inference_mode()
    def encode_frames(self, pixels: np.ndarray | Tensor) -> Tensor:
        """Runs the image tower.

        Args:
            pixels: uint8 RGB ``[n, 3, size, size]``, made as `preprocessing` says.

        Returns:
            ``[n, K, P+1, Dv]`` in ``dtype``, oldest layer first, the summary token first, without the final norm.

        Raises:
            ValueError: If the frames have another shape or type.
        """
        frames = torch.as_tensor(pixels)
        size = self.preprocessing.size
        if frames.dtype != torch.uint8 or frames.shape[1:] != (3, size, size):
            expected = f"uint8 [n, 3, {size}, {size}]"
            raise ValueError(f"frames are {frames.dtype} {list(frames.shape)}; {self.name} takes {expected}")
        normalized = frames.to(self.device).float().div_(255).sub_(self._mean).div_(self._std)
        return self._image_tower(normalized.to(self.dtype))

    @torch.inference_mode()
    def embed_frames(self, features: Tensor) -> Tensor:
        """Projects encoded frames into the space of `embed_queries`; the tower does not run again.

        Args:
            features: ``[n, K, P+1, Dv]`` from `encode_frames`, or as stored, in any precision and on any device.

        Returns:
            Unit vectors, fp32 ``[n, D]`` on the backbone's device; their product with those of queries is the cosine.

        Raises:
            BackboneError: If the backbone has no such projection.
        """
        return normalize(self._pool_frames(features[:, -1].to(self.device, torch.float32)), dim=-1)

    @torch.inference_mode()
    def encode_queries(self, queries: Sequence[str]) -> list[QueryFeatures]:
        """Runs the text tower on a batch of sentences; the result of one does not depend on the others.

        Args:
            queries: Sentences. One with too many tokens is truncated, and its result says so.

        Returns:
            One result per sentence, fp32 ``[K, L, Dq]`` on the backbone's device.

        Raises:
            QueryError: If a sentence is empty.
        """
        tokens = [self._tokenize(query) for query in queries]
        values = self._read_tokens([ids for ids, _ in tokens]) if tokens else ()
        return _cut_queries(queries, tokens, values)

    @torch.inference_mode()
    def embed_queries(self, queries: Sequence[str]) -> Tensor:
        """Projects sentences, at least one, into the space of `embed_frames`: unit vectors, fp32 ``[n, D]``.

        Raises:
            QueryError: If a sentence is empty.
            BackboneError: If the backbone has no such projection.
        """
        return self.encode_and_embed_queries(queries)[1]

    @torch.inference_mode()
    def encode_and_embed_queries(self, queries: Sequence[str]) -> tuple[list[QueryFeatures], Tensor]:
        """Results, shapes and errors of both `encode_queries` and `embed_queries`, from one run of the text tower."""
        tokens = [self._tokenize(query) for query in queries]
        values = self._read_tokens([ids for ids, _ in tokens])
        embedded = self._pool_queries(values[:, -1], [len(ids) for ids, _ in tokens])
        return _cut_queries(queries, tokens, values), normalize(embedded, dim=-1)

    @abstractmethod
    def split_words(self, query: str) -> list[tuple[str, slice]]:
        """Returns each word of a sentence and the slice of its tokens in `encode_queries`.

        The tokens that the tokenizer adds belong to no word. Words beyond the last token that fits are left out.
        """

    @abstractmethod
    def _joint_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names, as in the files, and shapes of the weights of the joint projections."""

    @abstractmethod
    def _pool_frames(self, tokens: Tensor) -> Tensor:
        """Maps the last block's tokens ``[n, P+1, Dv]`` to the joint space ``[n, D]``."""

    @abstractmethod
    def _pool_queries(self, tokens: Tensor, lengths: Sequence[int]) -> Tensor:
        """Maps the last block's tokens ``[n, L, Dq]``, padded after these lengths, to the joint space ``[n, D]``."""

    @abstractmethod
    def _pad(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """Makes one tensor ``[n, L]`` of sentences of several lengths."""

    def _read_tokens(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        return self._text_tower(self._pad(tokens).to(self.device)).float()

    def _check_tokens(self, ids: list[int]) -> None:
        # The size of the vocabulary does not tell: it may count tokens that no text contains.
        if max(ids) >= self.text.vocab_size:
            raise BackboneError(
                f"{self.name}: the tokenizer has a token {max(ids)}, but the text tower only {self.text.vocab_size} "
                f"tokens; use the tokenizer of this backbone"
            )

    def _tokenize(self, query: str) -> tuple[list[int], bool]:
        """Returns the token ids, and whether some were cut off; the end token stays."""
        if not query.strip():
            raise QueryError("the query is empty; describe what to look for, such as 'the dog catches the frisbee'")
        ids: list[int] = self._files.tokenizer.encode(clean(query)).ids
        self._check_tokens(ids)
        if len(ids) <= self.max_query_tokens:
            return ids, False
        return [*ids[: self.max_query_tokens - 1], ids[-1]], True


def load_backbone(
    name: str | Path,
    *,
    layers: int = 4,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    engine: Engine | None = "torch",
    family: type[Backbone] | None = None,
) -> Backbone:
    """Loads a backbone by short name (``ViT-B/32``), hub name or folder in Hugging Face layout.

    Args:
        name: What to load.
        layers: K, how many of the last blocks to read.
        device: Where to run.
        dtype: Precision; None for fp32 on CPU and fp16 elsewhere.
        engine: What runs the image tower: ``torch``, ``torch-bf16``, or ``onnx-int8``, whose model is made and
            cached on first use. None for the choice of `choose_engine`, or ``torch`` if ``dtype`` is given.
        family: Your class for it; by default the one that its ``config.json`` says.

    Raises:
        BackboneError: If it is not found, is damaged, is of an unknown kind, or has fewer than K layers, or if the
            engine is not installed or does not run on this device.
        DownloadError: If it is not cached and the hub cannot be reached.
    """
    from r2tuning.backbones.clip import ClipBackbone  # built on this module, as the next
    from r2tuning.backbones.siglip import SiglipBackbone

    kinds: dict[str, type[Backbone]] = {"clip": ClipBackbone, "siglip": SiglipBackbone, "siglip2": SiglipBackbone}
    files = load_files(str(name))
    kind = files.config.get("model_type")
    family = family or (kinds.get(kind) if isinstance(kind, str) else None)
    if family is None:
        found = f"a model of type {kind!r}, not one of {', '.join(kinds)}"
        raise BackboneError(f"{files.folder}: holds {found}; give a CLIP or SigLIP")
    with guard(files.folder, BackboneError, "download the folder again"):
        return family(files, layers=layers, device=device, dtype=dtype, engine=engine)


def choose_device(device: str | torch.device | None) -> torch.device:
    """Returns the device to run on.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1`` …, or ``mps`` on a Mac; None for the NVIDIA GPU if there is one.

    Raises:
        BackboneError: If there is no such device.

    Example:
        >>> choose_device("cpu")
        device(type='cpu')
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise BackboneError(f"{device}: not a device; give cpu, cuda, or cuda:1 for the second GPU") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise BackboneError(f"{device}: PyTorch sees {torch.cuda.device_count()} GPUs here; give --device cpu")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise BackboneError(f"{device}: PyTorch sees no Apple GPU here; give --device cpu")
    if chosen.type not in ("cpu", "cuda", "mps"):
        raise BackboneError(f"{device}: r2tuning runs on cpu, cuda and mps only; give --device cpu")
    return chosen


def choose_engine(device: torch.device, width: int) -> Engine:
    """Returns the fastest engine whose features keep a cosine of 0.999 to fp32.

    That is bf16 on processors with AMX units, and the published precision otherwise: without AMX bf16 is slower, and
    int8 is not close enough on every CLIP (docs/performance.md).

    Args:
        device: Where the image tower runs.
        width: Width of the image tower.

    Example:
        >>> choose_engine(torch.device("cuda"), 768), choose_engine(torch.device("cpu"), 160)
        ('torch', 'torch')
    """
    # PyTorch has no public function for this, and old versions have none at all.
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return "torch-bf16" if device.type == "cpu" and width >= _MIN_BF16_WIDTH and has_amx() else "torch"


def clean(query: str) -> str:
    """Strips spaces and replaces lone surrogates, which are no text, by question marks.

    Example:
        >>> clean(" a dog ")
        'a dog'
    """
    return query.strip().encode(errors="replace").decode()


def _cut_queries(
    queries: Sequence[str], tokens: Sequence[tuple[Sequence[int], bool]], values: Iterable[Tensor]
) -> list[QueryFeatures]:
    """Takes the padding from what the text tower says of sentences, ``[K, L, Dq]`` each."""
    return [
        QueryFeatures(query, row[:, : len(ids)], truncated)
        for query, row, (ids, truncated) in zip(queries, values, tokens, strict=True)
    ]


def _read_preprocessing(files: BackboneFiles, size: int, defaults: Preprocessing) -> Preprocessing:
    given = {key: value for key, value in files.preprocessor.items() if value is not None}
    filter_number = given.get("resample", 3)
    if filter_number not in _RESAMPLING:
        raise BackboneError(
            f"{files.name}: its frames are scaled with Pillow's filter {filter_number}; only 2 (bilinear) and 3 "
            f"(bicubic) are supported"
        )
    return Preprocessing(
        size=size,
        fit="crop" if given.get("do_center_crop", defaults.fit == "crop") else "squash",
        resampling=_RESAMPLING[filter_number],
        mean=tuple(given.get("image_mean", defaults.mean)),
        std=tuple(given.get("image_std", defaults.std)),
    )
