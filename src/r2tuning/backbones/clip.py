"""The frozen CLIP: frames and sentences in, the outputs of its last K transformer blocks out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from r2tuning.backbones.loading import IMAGE, TEXT, LoadedClip, load_clip
from r2tuning.backbones.vit import ImageTower, TextTower
from r2tuning.errors import BackboneError, QueryError
from r2tuning.types import Engine, QueryFeatures

if TYPE_CHECKING:
    import numpy as np

_MIN_BF16_WIDTH = 512
"""Narrower towers are fast enough in fp32, which gives the same results on every machine."""


class ClipBackbone:
    """A frozen CLIP, made by `load`. The weights of a tower are read when it is first used.

    Attributes:
        name: Hub name or folder.
        layers: K, how many of the last blocks are read.
        device: Where the towers run.
        dtype: Their precision.
        engine: What runs the image tower.
        fingerprint: Hash of the weights; folder, precision and engine do not change it.
        image_size: Side of the square image that the image tower takes, pixels.
        video_width: Dv.
        query_width: Dq.
        tokens_per_frame: P + 1.
        max_query_tokens: Most tokens that the text tower takes, including the start and end tokens.
    """

    def __init__(
        self,
        clip: LoadedClip,
        layers: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        engine: Engine = "torch",
    ) -> None:
        for tower, depth in (("image", clip.image.num_hidden_layers), ("text", clip.text.num_hidden_layers)):
            if not 1 <= layers <= depth:
                raise BackboneError(
                    f"{clip.name}: cannot read the last {layers} layers, its {tower} tower has {depth}; "
                    f"choose a CLIP of at least that depth"
                )
        self.name = clip.name
        self.layers = layers
        self.device = torch.device(device)
        self.dtype = dtype
        self.engine: Engine = engine
        self.fingerprint = _fingerprint(clip)
        self.image_size: int = clip.image.image_size
        self.video_width: int = clip.image.hidden_size
        self.query_width: int = clip.text.hidden_size
        self.tokens_per_frame: int = clip.image.tokens
        self.max_query_tokens: int = clip.text.max_position_embeddings
        self._clip = clip
        self._mean = torch.tensor(clip.mean, device=self.device).view(3, 1, 1)
        self._std = torch.tensor(clip.std, device=self.device).view(3, 1, 1)
        if engine != "torch":
            _ = self._image_tower  # a missing package is reported now, not after a video has been decoded

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        layers: int = 4,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        engine: Engine | None = "torch",
    ) -> ClipBackbone:
        """Loads a CLIP by short name (``ViT-B/32``), hub name or folder in Hugging Face layout.

        Args:
            name: What to load.
            layers: K, how many of the last blocks to read.
            device: Where to run.
            dtype: Precision; None for fp32 on CPU and fp16 elsewhere.
            engine: What runs the image tower: ``torch``, ``torch-bf16``, or ``onnx-int8``, whose model is made and
                cached on first use. None for the choice of `choose_engine`, or ``torch`` if ``dtype`` is given.

        Raises:
            BackboneError: If the CLIP is not found, is damaged, is no CLIP, or has fewer than K layers, or if the
                engine is not installed or does not run on this device.
            DownloadError: If the CLIP is not cached and the hub cannot be reached.
        """
        device = torch.device(device)
        clip = load_clip(str(name))
        if engine is None:
            engine = choose_engine(device, clip.image.hidden_size) if dtype is None else "torch"
        if dtype is None:
            dtype = torch.float32 if device.type == "cpu" else torch.float16
        return cls(clip, layers, device, dtype, engine)

    @cached_property
    def _image_tower(self) -> Callable[[Tensor], Tensor]:
        if self.engine != "torch" and self.device.type != "cpu":
            raise BackboneError(f"{self.engine}: runs on the CPU only, not on {self.device}; give --device cpu")
        if self.engine != "onnx-int8":
            linear_dtype = torch.bfloat16 if self.engine == "torch-bf16" else None
            weights = self._clip.tower(IMAGE, self.device, self.dtype, linear_dtype)
            return ImageTower(weights, self._clip.image, self.layers)
        if not all(map(find_spec, ("onnx", "onnxruntime"))):
            raise BackboneError("onnx-int8: ONNX Runtime is not installed; pip install 'r2tuning[onnx]'")
        from r2tuning.backbones.int8 import load_int8_tower

        return load_int8_tower(self._clip, self.layers, self.fingerprint)

    @cached_property
    def _text_tower(self) -> TextTower:
        return TextTower(self._clip.tower(TEXT, self.device, self.dtype), self._clip.text, self.layers)

    def release(self) -> None:
        """Frees the memory of the towers; they are loaded again when needed."""
        for tower in ("_image_tower", "_text_tower"):
            self.__dict__.pop(tower, None)

    @torch.inference_mode()
    def encode_frames(self, pixels: np.ndarray | Tensor) -> Tensor:
        """Runs the image tower.

        Args:
            pixels: uint8 RGB ``[n, 3, image_size, image_size]``.

        Returns:
            ``[n, K, P+1, Dv]`` in ``dtype``, oldest layer first, [CLS] token first, without the final norm.

        Raises:
            ValueError: If the frames have another shape or type.
        """
        frames = torch.as_tensor(pixels)
        if frames.dtype != torch.uint8 or frames.shape[1:] != (3, self.image_size, self.image_size):
            expected = f"uint8 [n, 3, {self.image_size}, {self.image_size}]"
            raise ValueError(f"frames are {frames.dtype} {list(frames.shape)}; {self.name} takes {expected}")
        normalized = frames.to(self.device).float().div_(255).sub_(self._mean).div_(self._std)
        return self._image_tower(normalized.to(self.dtype))

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
        if not queries:
            return []
        tokens = [self._tokenize(query) for query in queries]
        longest = max(len(ids) for ids, _ in tokens)
        batch = torch.zeros(len(tokens), longest, dtype=torch.long)
        for row, (ids, _) in zip(batch, tokens, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        values = self._text_tower(batch.to(self.device)).float()
        return [
            QueryFeatures(query, values[i, :, : len(ids)], truncated)
            for i, (query, (ids, truncated)) in enumerate(zip(queries, tokens, strict=True))
        ]

    def split_words(self, query: str) -> list[tuple[str, slice]]:
        """Returns each word of a sentence and the slice of its tokens in `encode_queries`.

        The start and end tokens belong to no word. Words beyond the last token that fits are left out.
        """
        text = _clean(query)
        encoding = self._clip.tokenizer.encode(text)
        kept = enumerate(encoding.word_ids[: self.max_query_tokens - 1])
        words = []
        for word, group in groupby(kept, key=lambda token: token[1]):
            positions = [position for position, _ in group]
            characters = None if word is None else encoding.word_to_chars(word)
            if characters is not None:
                words.append((text[slice(*characters)], slice(positions[0], positions[-1] + 1)))
        return words

    def _tokenize(self, query: str) -> tuple[list[int], bool]:
        """Returns the token ids, and whether some were cut off."""
        if not query.strip():
            raise QueryError("the query is empty; describe what to look for, such as 'the dog catches the frisbee'")
        ids: list[int] = self._clip.tokenizer.encode(_clean(query)).ids
        if len(ids) <= self.max_query_tokens:
            return ids, False
        return [*ids[: self.max_query_tokens - 1], ids[-1]], True


def choose_device(device: str | torch.device | None) -> torch.device:
    """Returns the device to run on.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1`` …; None for the GPU if there is one.

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
    return chosen


def choose_engine(device: torch.device, width: int) -> Engine:
    """Returns the fastest engine whose features keep a cosine of 0.999 to fp32.

    That is bf16 on processors with AMX units, and the published precision otherwise: without AMX bf16 is slower, and
    int8 is not close enough on every CLIP (docs/benchmarks.md).

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


def _clean(query: str) -> str:
    """Strips spaces and replaces lone surrogates, which are no text, by question marks."""
    return query.strip().encode(errors="replace").decode()


def _fingerprint(clip: LoadedClip) -> str:
    """Hashes the image tower's first and last weights in fp16, so that it does not depend on the stored precision."""
    last = f"encoder.layers.{clip.image.num_hidden_layers - 1}.mlp.fc2"
    digest = hashlib.sha256()
    for name in ("embeddings.patch_embedding.weight", f"{last}.weight", f"{last}.bias"):
        digest.update(clip.weights[IMAGE + name].half().numpy().tobytes())
    return digest.hexdigest()[:16]
