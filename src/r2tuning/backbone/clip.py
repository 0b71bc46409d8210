"""Frozen CLIP towers that hand out the outputs of their last K transformer blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from r2tuning.backbone.loading import load_clip
from r2tuning.errors import BackboneError, QueryError
from r2tuning.types import QueryFeatures

if TYPE_CHECKING:
    import numpy as np


class ClipBackbone:
    """A frozen CLIP; use `load` to make one.

    Args:
        model: A transformers ``CLIPModel``.
        tokenizer: Its tokenizer.
        name: Hub name or folder it came from.
        layers: K, how many of the last blocks to read.
        mean: What to subtract from RGB in [0, 1].
        std: What to divide by after that.

    Attributes:
        name: Hub name or folder.
        layers: K.
        image_size: Side of the square image that the image tower takes, pixels.
        video_width: Dv.
        query_width: Dq.
        tokens_per_frame: P + 1.
        max_query_tokens: Most tokens the text tower takes, start and end included.
        fingerprint: Tells whether features come from the same weights (not from the same folder).
        device: Where the towers are.
        dtype: Their precision.

    Raises:
        BackboneError: If K exceeds the depth of a tower.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str,
        layers: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        video, query = model.config.vision_config, model.config.text_config
        for tower, depth in (("image", video.num_hidden_layers), ("text", query.num_hidden_layers)):
            if not 1 <= layers <= depth:
                raise BackboneError(
                    f"{name}: cannot read the last {layers} layers, its {tower} tower has {depth}; "
                    f"choose a CLIP of at least that depth"
                )
        self.name = name
        self.layers = layers
        self.image_size: int = video.image_size
        self.video_width: int = video.hidden_size
        self.query_width: int = query.hidden_size
        self.tokens_per_frame: int = (video.image_size // video.patch_size) ** 2 + 1
        self.max_query_tokens: int = query.max_position_embeddings
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self._model = model.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._mean = torch.tensor(mean, device=self.device).view(3, 1, 1)
        self._std = torch.tensor(std, device=self.device).view(3, 1, 1)
        self.fingerprint = _fingerprint(model)

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        layers: int = 4,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
    ) -> ClipBackbone:
        """Loads a CLIP by short name (``ViT-B/32``), hub name or folder in Hugging Face layout.

        Args:
            name: What to load.
            layers: K, how many of the last blocks to read.
            device: Where to put it.
            dtype: Precision; None for fp32 on CPU and fp16 elsewhere.

        Raises:
            BackboneError: If it cannot be found, is damaged, is no CLIP, or is shallower than K.
        """
        device = torch.device(device)
        if dtype is None:
            dtype = torch.float32 if device.type == "cpu" else torch.float16
        loaded = load_clip(str(name))
        model = loaded.model.to(device=device, dtype=dtype)
        return cls(model, loaded.tokenizer, loaded.name, layers, loaded.mean, loaded.std)

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
        normalized = (frames.to(self.device).float() / 255 - self._mean) / self._std
        tower = self._model.vision_model
        with _LastBlocks(tower.encoder.layers, self.layers) as blocks:
            tower(pixel_values=normalized.to(self.dtype))
        return torch.stack(blocks.outputs, dim=1)

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
        tower = self._model.text_model
        with _LastBlocks(tower.encoder.layers, self.layers) as blocks:
            tower(input_ids=batch.to(self.device))
        values = torch.stack(blocks.outputs, dim=1).float()
        return [
            QueryFeatures(query, values[i, :, : len(ids)], truncated)
            for i, (query, (ids, truncated)) in enumerate(zip(queries, tokens, strict=True))
        ]

    def _tokenize(self, query: str) -> tuple[list[int], bool]:
        if not query.strip():
            raise QueryError("the query is empty; describe what to look for, such as 'the dog catches the frisbee'")
        # Told not to truncate here, the tokenizer would warn of what is handled below.
        ids: list[int] = self._tokenizer(query.strip(), verbose=False)["input_ids"]
        if len(ids) <= self.max_query_tokens:
            return ids, False
        return [*ids[: self.max_query_tokens - 1], ids[-1]], True


class _LastBlocks:
    """Collects the outputs of the last K blocks of a tower while it runs, and of no others."""

    def __init__(self, blocks: nn.ModuleList, count: int) -> None:
        self._blocks = blocks[-count:]
        self._handles: list[Any] = []
        self.outputs: list[Tensor] = []

    def __enter__(self) -> _LastBlocks:
        self._handles = [
            block.register_forward_hook(lambda _module, _inputs, output: self.outputs.append(output))
            for block in self._blocks
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()


def _fingerprint(model: Any) -> str:
    """A hash of the image tower's first and last weights, the same in every precision down to fp16."""
    tower = model.vision_model
    digest = hashlib.sha256()
    for weight in (tower.embeddings.patch_embedding.weight, *tower.encoder.layers[-1].mlp.fc2.parameters()):
        digest.update(weight.detach().half().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
