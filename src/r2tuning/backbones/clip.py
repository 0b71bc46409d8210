"""CLIP in Hugging Face layout: that of OpenAI, LAION, DataComp, MetaCLIP, and the demo's."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from r2tuning.backbones.base import Backbone, clean
from r2tuning.backbones.vit import ImageTowerConfig, TextTower, TextTowerConfig, Tower, apply_norm
from r2tuning.types import CLIP_PREPROCESSING

_FRAME_NORM, _FRAME_PROJECTION = "vision_model.post_layernorm", "visual_projection.weight"
_QUERY_NORM, _QUERY_PROJECTION = "text_model.final_layer_norm", "text_projection.weight"


class ClipImageConfig(ImageTowerConfig):
    """Shape of CLIP's image tower."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See `TowerConfig.shapes`."""
        width = self.hidden_size
        return {
            **super().shapes(),
            "embeddings.class_embedding": (width,),
            "embeddings.position_embedding.weight": (self.patches + 1, width),
            "pre_layrnorm.weight": (width,),  # the published spelling
            "pre_layrnorm.bias": (width,),
        }


class ClipImageTower(Tower):
    """CLIP's image tower; arguments as for `Tower`."""

    def __call__(self, pixels: Tensor) -> Tensor:
        """Maps normalized RGB ``[n, 3, size, size]`` to ``[n, K, P+1, Dv]``, oldest layer and [CLS] first."""
        first = self.weights["embeddings.class_embedding"].expand(pixels.shape[0], 1, -1)
        positions = self.weights["embeddings.position_embedding.weight"]
        tokens = torch.cat([first, self._embed_patches(pixels)], dim=1) + positions
        return self._run_blocks(self._normalize("pre_layrnorm", tokens))


class ClipTextTower(TextTower):
    """CLIP's text tower. Attention is causal: padding at the end does not change the tokens before."""

    causal = True


class ClipBackbone(Backbone):
    """A frozen CLIP; see `Backbone`."""

    image_config = ClipImageConfig
    text_config = TextTowerConfig
    image_tower = ClipImageTower
    text_tower = ClipTextTower
    summary = "cls"
    preprocessing_defaults = CLIP_PREPROCESSING

    def split_words(self, query: str) -> list[tuple[str, slice]]:
        """See `Backbone.split_words`; words are those of the tokenizer, so that punctuation counts as one."""
        text = clean(query)
        encoding = self._files.tokenizer.encode(text)
        kept = enumerate(encoding.word_ids[: self.max_query_tokens - 1])
        words = []
        for word, group in groupby(kept, key=lambda token: token[1]):
            positions = [position for position, _ in group]
            characters = None if word is None else encoding.word_to_chars(word)
            if characters is not None:
                words.append((text[slice(*characters)], slice(positions[0], positions[-1] + 1)))
        return words

    def project_frame_tokens(self, tokens: Tensor) -> Tensor:
        """Maps tokens of the last block, fp32 ``[…, Dv]``, to the joint space ``[…, D]``; not normalized."""
        normalized = apply_norm(self._joint, _FRAME_NORM, tokens, self.image.layer_norm_eps)
        return normalized @ self._joint[_FRAME_PROJECTION].T

    def project_query_tokens(self, tokens: Tensor) -> Tensor:
        """Maps tokens of the last block, fp32 ``[…, Dq]``, to the joint space ``[…, D]``; not normalized."""
        normalized = apply_norm(self._joint, _QUERY_NORM, tokens, self.text.layer_norm_eps)
        return normalized @ self._joint[_QUERY_PROJECTION].T

    def _pool_frames(self, tokens: Tensor) -> Tensor:
        return self.project_frame_tokens(tokens[:, 0])

    def _pool_queries(self, tokens: Tensor, lengths: Sequence[int]) -> Tensor:
        # The tokenizer ends a sentence with its end token. What config.json calls that token is wrong in old files.
        ends = torch.tensor(lengths, device=tokens.device) - 1
        return self.project_query_tokens(tokens[torch.arange(len(lengths), device=tokens.device), ends])

    def _pad(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        longest = max(map(len, tokens))
        return torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids in tokens])

    def _joint_shapes(self) -> dict[str, tuple[int, ...]]:
        width = int(self._files.config.get("projection_dim") or 512)
        return {
            f"{_FRAME_NORM}.weight": (self.video_width,),
            f"{_FRAME_NORM}.bias": (self.video_width,),
            _FRAME_PROJECTION: (width, self.video_width),
            f"{_QUERY_NORM}.weight": (self.query_width,),
            f"{_QUERY_NORM}.bias": (self.query_width,),
            _QUERY_PROJECTION: (width, self.query_width),
        }
