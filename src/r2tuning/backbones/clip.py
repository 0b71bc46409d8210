"""Frozen CLIP towers that hand out the outputs of their last K transformer blocks."""

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

_WORTH = 512
"""Width from which a CLIP is slow enough to matter; the results of smaller ones are the same on every machine."""


class ClipBackbone:
    """A frozen CLIP; use `load` to make one. A tower is read when it is first used.

    Args:
        clip: What to run.
        layers: K, how many of the last blocks to read.
        device: Where to run.
        dtype: Precision of the towers.
        engine: What runs the image tower.

    Attributes:
        name: Hub name or folder.
        layers: K.
        image_size: Side of the square image that the image tower takes, pixels.
        video_width: Dv.
        query_width: Dq.
        tokens_per_frame: P + 1.
        max_query_tokens: Most tokens the text tower takes, start and end included.
        fingerprint: Tells whether features come from the same weights (not from the same folder or engine).
        device: Where the towers are.
        dtype: Their precision.
        engine: What runs the image tower.

    Raises:
        BackboneError: If K exceeds the depth of a tower, or the engine cannot run here.
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
        self.image_size: int = clip.image.image_size
        self.video_width: int = clip.image.hidden_size
        self.query_width: int = clip.text.hidden_size
        self.tokens_per_frame: int = clip.image.tokens
        self.max_query_tokens: int = clip.text.max_position_embeddings
        self.device = torch.device(device)
        self.dtype = dtype
        self.engine: Engine = engine
        self.fingerprint = _fingerprint(clip)
        self._clip = clip
        self._mean = torch.tensor(clip.mean, device=self.device).view(3, 1, 1)
        self._std = torch.tensor(clip.std, device=self.device).view(3, 1, 1)
        if engine != "torch":
            _ = self._image_tower  # what it lacks is said now, not after a video has been decoded

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
            device: Where to put it.
            dtype: Precision; None for fp32 on CPU and fp16 elsewhere.
            engine: What runs the image tower: ``torch``, ``torch-bf16``, or ``onnx-int8``, which is made and cached on
                first use; None for what `choose_engine` chooses, or ``torch`` where a ``dtype`` is given.

        Raises:
            BackboneError: If it cannot be found, is damaged, is no CLIP, or is shallower than K, or if the engine is
                not installed or not for this device.
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
            products = torch.bfloat16 if self.engine == "torch-bf16" else self.dtype
            weights = self._clip.tower(IMAGE, self.device, self.dtype, products)
            return ImageTower(weights, self._clip.image, self.layers)
        if not all(map(find_spec, ("onnx", "onnxruntime"))):
            raise BackboneError("onnx-int8: ONNX Runtime is not installed; pip install 'r2tuning[onnx]'")
        from r2tuning.backbones.int8 import load_onnx_tower

        return load_onnx_tower(self._clip, self.layers, self.fingerprint)

    @cached_property
    def _text_tower(self) -> TextTower:
        return TextTower(self._clip.tower(TEXT, self.device, self.dtype), self._clip.text, self.layers)

    def release(self) -> None:
        """Gives back the memory of the towers; frames or sentences that come later read them again."""
        for tower in ("_image_tower", "_text_tower"):
            self.__dict__.pop(tower, None)

    @torch.inference_mode()
    def encode_frames(self, pixels: np.ndarray | Tensor) -> Tensor:
        """Runs the image tower.

        Args:
            pixels: uint8 RGB ``[n, 3, image_size, image_size]``.

        Returns:
            ``[n, K, P+1, Dv]`` in the backbone's precision, oldest layer first, [CLS] token first; no final norm.

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
        """Runs the text tower on a batch of sentences; a sentence's result does not depend on the others.

        Args:
            queries: Sentences; one with more tokens than the tower takes is cut, and its result says so.

        Returns:
            One result for each sentence, fp32 ``[K, L, Dq]`` on the backbone's device.

        Raises:
            QueryError: If a sentence is empty.
        """
        if not queries:
            return []
        tokens = [self._tokenize(query) for query in queries]
        longest = max(len(ids) for ids, _ in tokens)
        # The mask is causal, so what fills the end of a shorter sentence cannot reach its tokens.
        batch = torch.zeros(len(tokens), longest, dtype=torch.long)
        for row, (ids, _) in zip(batch, tokens, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        values = self._text_tower(batch.to(self.device)).float()
        return [
            QueryFeatures(query, values[i, :, : len(ids)], truncated)
            for i, (query, (ids, truncated)) in enumerate(zip(queries, tokens, strict=True))
        ]

    def split_words(self, query: str) -> list[tuple[str, slice]]:
        """Splits a sentence as the tokenizer does.

        Args:
            query: A sentence.

        Returns:
            Each word as it is written, and which tokens of `encode_queries` are its. The first and the last token,
            start and end, belong to no word; words that are cut off are left out.
        """
        text = _clean(query)
        encoding = self._clip.tokenizer.encode(text)
        kept = enumerate(encoding.word_ids[: self.max_query_tokens - 1])
        words = []
        for word, group in groupby(kept, key=lambda token: token[1]):
            places = [place for place, _ in group]
            written = None if word is None else encoding.word_to_chars(word)
            if written is not None:
                words.append((text[written[0] : written[1]], slice(places[0], places[-1] + 1)))
        return words

    def _tokenize(self, query: str) -> tuple[list[int], bool]:
        if not query.strip():
            raise QueryError("the query is empty; describe what to look for, such as 'the dog catches the frisbee'")
        ids: list[int] = self._clip.tokenizer.encode(_clean(query)).ids
        if len(ids) <= self.max_query_tokens:
            return ids, False
        return [*ids[: self.max_query_tokens - 1], ids[-1]], True


def _clean(query: str) -> str:
    """What the tokenizer is given: half of a surrogate pair, which is no text, becomes a question mark."""
    return query.strip().encode(errors="replace").decode()


def _fingerprint(clip: LoadedClip) -> str:
    """A hash of the image tower's first and last weights, the same in every precision down to fp16."""
    last = f"encoder.layers.{clip.image.num_hidden_layers - 1}.mlp.fc2"
    digest = hashlib.sha256()
    for name in ("embeddings.patch_embedding.weight", f"{last}.weight", f"{last}.bias"):
        digest.update(clip.weights[IMAGE + name].half().numpy().tobytes())
    return digest.hexdigest()[:16]


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device to run on.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1`` …; None for the GPU where there is one.

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
    """What runs CLIP's image tower fastest, of what keeps its features within a cosine of 0.999 of fp32.

    That is bf16 on processors that have units for it (AMX), and else what was published: without them bf16 is slower,
    and 8 bits are not near enough on every CLIP (docs/benchmarks.md).

    Args:
        device: Where it runs.
        width: Of the tower.

    Example:
        >>> choose_engine(torch.device("cuda"), 768), choose_engine(torch.device("cpu"), 160)
        ('torch', 'torch')
    """
    # PyTorch has no public name for this question, and old versions have none at all.
    find_units = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return "torch-bf16" if device.type == "cpu" and width >= _WORTH and find_units() else "torch"
